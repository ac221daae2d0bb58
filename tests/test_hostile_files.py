"""Hostile calls around files: wrong arguments, damaged files, folders that are not there.

Each row of a table is one call. It must end in the error that the row names, in one line, raised by the package itself.
"""

import itertools
import json
import pathlib
import shutil
import struct

import numpy as np
import pytest
import torch
from conftest import ConditionalToy, assert_clear, integers
from safetensors import safe_open
from safetensors.torch import save_file
from test_data import NAMES, write_files, write_idx
from torch import nn

import pixelcnn_helpers as pch
from pixelcnn_helpers import data, load_mnist, load_mnist_sample, load_model, load_pretrained, pretrained, save_model
from pixelcnn_helpers.page import start as start_module
from pixelcnn_helpers.studies.datasets import bernoulli, load_dataset, moved, rotated
from pixelcnn_helpers.studies.judges import ConvClassifier, ResidualClassifier
from pixelcnn_helpers.workshop.publish import publish

IMAGES = integers((2, 1, 4, 4), 256)
TWO = torch.zeros(2)
COUNTER = itertools.count()


def rows(table: dict):
    """A table of calls as pytest's parameters, named by its keys."""
    return [pytest.param(*row, id=name) for name, row in table.items()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder in which the data sets are looked for, without a network."""
    monkeypatch.setenv("PIXELCNN_DATA", str(tmp_path))
    return tmp_path


def raw(folder, variant="mnist"):
    return folder / NAMES[variant] / "raw"


def tiny(**options):
    return pch.PixelCNN(**{"levels": 3, "features": 4, "layers": 1, "kernel_size": 3} | options)


# arguments of the functions that load and change data


ARGUMENTS = {
    "digits take no argument": (lambda: load_mnist("digits"), TypeError, "train must be True or False", "'digits'"),
    "train=1": (lambda: load_mnist(1), TypeError, "train must be True or False", "got 1"),
    "train=None": (lambda: load_mnist(None), TypeError, "train must be True or False", "None"),
    "train='fashion'": (lambda: load_mnist("fashion"), TypeError, "train", 'variant="fashion"'),
    "variant=None": (lambda: load_mnist(variant=None), ValueError, "variant must be one of", "None"),
    "variant a list": (lambda: load_mnist(variant=["mnist"]), ValueError, "variant must be one of", "['mnist']"),
    "variant in capitals": (lambda: load_mnist(variant="MNIST"), ValueError, "variant must be one of", "'MNIST'"),
    "variant=False": (lambda: load_mnist(True, False), ValueError, "variant must be one of", "False"),
    "sample train='test'": (lambda: load_mnist_sample("test"), TypeError, "train must be True or False", "'test'"),
    "sample train=0": (lambda: load_mnist_sample(0), TypeError, "train must be True or False", "got 0"),
    "sample train=None": (lambda: load_mnist_sample(None), TypeError, "train must be True or False", "None"),
    "data set None": (lambda: load_dataset(None), ValueError, "name must be one of", "None"),
    "data set a list": (lambda: load_dataset(["mnist"]), ValueError, "name must be one of", "['mnist']"),
    "data set kmnist": (lambda: load_dataset("kmnist"), ValueError, "name must be one of", "'mnist-sample'"),
    "data set with a space": (lambda: load_dataset("digits "), ValueError, "name must be one of", "'digits '"),
    "quantize None": (lambda: pch.quantize(None, 4), TypeError, "images must be a torch tensor", "NoneType"),
    "quantize a list": (lambda: pch.quantize([[0]], 4), TypeError, "images must be a torch tensor", "list"),
    "quantize booleans": (lambda: pch.quantize(IMAGES > 3, 4), TypeError, "images", "integers 0 … 255", "bool"),
    "quantize floats": (lambda: pch.quantize(IMAGES / 255, 4), TypeError, "images", "integers", "float32"),
    "quantize no images": (lambda: pch.quantize(IMAGES[:0], 4), ValueError, "images must not be empty"),
    "quantize negative": (lambda: pch.quantize(IMAGES - 300, 4), ValueError, "images must hold values 0 … 255"),
    "quantize one image": (lambda: pch.quantize(IMAGES[0], 4), ValueError, "images", "(N, C, H, W)", "(1, 4, 4)"),
    "quantize to 2.5": (lambda: pch.quantize(IMAGES, 2.5), TypeError, "levels must be an integer", "float 2.5"),
    "quantize to None": (lambda: pch.quantize(IMAGES, None), TypeError, "levels must be an integer", "NoneType"),
    "quantize to 10**18": (lambda: pch.quantize(IMAGES, 10**18), ValueError, "levels", "at most 65,536"),
    "quantize to 10**30": (lambda: pch.quantize(IMAGES, 10**30), ValueError, "levels", "at most 65,536"),
    "quantize from 10**13": (lambda: pch.quantize(IMAGES, 4, 10**13), ValueError, "source_levels", "at most 65,536"),
    "quantize from '256'": (lambda: pch.quantize(IMAGES, 4, "256"), TypeError, "source_levels", "str '256'"),
    "soft label of a set": (lambda: pch.soft_label({1, 2}, 3), TypeError, "weights must be a dictionary", "set"),
    "soft label None": (lambda: pch.soft_label({None: 1.0}, 3), TypeError, "a class in weights must be an integer"),
    "soft label of a tensor": (
        lambda: pch.soft_label({1: torch.tensor(1.0)}, 3), TypeError, "weights[1] must be a number", "Tensor",
    ),
    "soft label classes=None": (lambda: pch.soft_label({1: 1.0}, None), TypeError, "classes must be an integer"),
    "soft label complex": (lambda: pch.soft_label({1: 1j}, 3), TypeError, "weights[1] must be a number", "complex"),
    "rotated None": (lambda: rotated(None, 10), TypeError, "images must be a torch tensor", "NoneType"),
    "rotated by None": (lambda: rotated(IMAGES, None), TypeError, "degrees must be a number", "NoneType"),
    "rotated by NaN": (lambda: rotated(IMAGES, float("nan")), ValueError, "degrees must be finite"),
    "rotated by True": (lambda: rotated(IMAGES, True), TypeError, "degrees must be a number"),
    "rotated by 1e39": (lambda: rotated(IMAGES, 1e39), ValueError, "degrees must be at most 360", "1e+39"),
    "rotated no images": (lambda: rotated(IMAGES[:0], 10), ValueError, "images must not be empty"),
    "rotated generator=0": (lambda: rotated(IMAGES, 10, 0), TypeError, "generator must be a torch.Generator", "int"),
    "moved integers": (lambda: moved(IMAGES, TWO, TWO, TWO, TWO), TypeError, "images must be floats (N, C, H, W)"),
    "moved one image": (lambda: moved(IMAGES[0] / 255, TWO, TWO, TWO, TWO), TypeError, "images must be floats"),
    "moved three angles": (
        lambda: moved(IMAGES / 255, torch.zeros(3), TWO, TWO, TWO), ValueError, "angle", "one number for each", "(3,)",
    ),
    "moved numbers": (lambda: moved(IMAGES / 255, 0.1, 1.0, 0.0, 0.0), TypeError, "angle must be a torch tensor"),
    "bernoulli None": (lambda: bernoulli(None), TypeError, "images must be a torch tensor", "NoneType"),
    "bernoulli above 255": (lambda: bernoulli(IMAGES + 1), ValueError, "images must hold values 0 … 255"),
    "bernoulli generator=0": (lambda: bernoulli(IMAGES, 0), TypeError, "generator must be a torch.Generator", "int"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), [pytest.param(c, e, w, id=n) for n, (c, e, *w) in ARGUMENTS.items()])
def test_arguments_of_the_loaders(folder, offline, call, error, words):
    assert_clear(call, error, *words)
    assert not offline  # nothing was downloaded for a wrong call
