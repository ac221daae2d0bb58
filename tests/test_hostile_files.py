"""Hostile calls around files: wrong arguments, damaged files, folders that are not there.

Each row of a table is one call. It must end in the error that the row names, in one line, raised by the package itself.
"""

import hashlib
import io
import json
import os
import pathlib
import shutil

import numpy as np
import pytest
import torch
from conftest import ConditionalToy, assert_clear, integers, one_hot
from PIL import Image, PngImagePlugin
from safetensors import safe_open
from safetensors.torch import save_file
from test_data import NAMES, REAL, write_files, write_idx
from torch import nn

import pixelcnn_helpers as pch
from pixelcnn_helpers import (
    data,
    load_measurement,
    load_mnist,
    load_mnist_sample,
    load_model,
    load_pretrained,
    pretrained,
    pretrained_names,
    quantize,
    save_model,
    soft_label,
)
from pixelcnn_helpers.page import start as start_module
from pixelcnn_helpers.studies import mnist
from pixelcnn_helpers.studies.datasets import bernoulli, load_dataset, moved, rotated
from pixelcnn_helpers.studies.judges import ConvClassifier
from pixelcnn_helpers.workshop.publish import publish

IMAGES, TWO = integers((2, 1, 4, 4), 256), torch.zeros(2)
DEEP = "[" * 100_000 + "]" * 100_000
LONG = "x" * 300  # no file system allows such a name


def rows(table: dict) -> list:
    """A table {name: (call, error, words, …)} as pytest's parameters."""
    return [pytest.param(call, error, words, id=name) for name, (call, error, *words) in table.items()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder in which the data sets are looked for."""
    monkeypatch.setenv("PIXELCNN_DATA", str(tmp_path))
    return tmp_path


# functions that load and change data

ARGUMENTS = {
    "digits": (lambda: load_mnist("digits"), TypeError, "train must be True or False", "'digits'"),
    "train=1": (lambda: load_mnist(1), TypeError, "train must be True or False", "got 1"),
    "train=None": (lambda: load_mnist(None), TypeError, "train must be True or False", "None"),
    "train='fashion'": (lambda: load_mnist("fashion"), TypeError, "train", 'variant="fashion"'),
    "variant=None": (lambda: load_mnist(variant=None), ValueError, "variant must be one of", "None"),
    "variant=[…]": (lambda: load_mnist(variant=["mnist"]), ValueError, "variant must be one of", "['mnist']"),
    "variant='MNIST'": (lambda: load_mnist(variant="MNIST"), ValueError, "variant must be one of", "'MNIST'"),
    "variant=False": (lambda: load_mnist(True, False), ValueError, "variant must be one of", "False"),
    "sample, 'test'": (lambda: load_mnist_sample("test"), TypeError, "train must be True or False", "'test'"),
    "sample, 0": (lambda: load_mnist_sample(0), TypeError, "train must be True or False", "got 0"),
    "sample, None": (lambda: load_mnist_sample(None), TypeError, "train must be True or False", "None"),
    "data set None": (lambda: load_dataset(None), ValueError, "name must be one of", "None"),
    "data set […]": (lambda: load_dataset(["mnist"]), ValueError, "name must be one of", "['mnist']"),
    "data set {…}": (lambda: load_dataset({}), ValueError, "name must be one of", "{}"),
    "data set kmnist": (lambda: load_dataset("kmnist"), ValueError, "name must be one of", "'mnist-sample'"),
    "data set and a space": (lambda: load_dataset("digits "), ValueError, "name must be one of", "'digits '"),
    "quantize None": (lambda: quantize(None, 4), TypeError, "images must be a torch tensor", "NoneType"),
    "quantize a list": (lambda: quantize([[0]], 4), TypeError, "images must be a torch tensor", "list"),
    "quantize booleans": (lambda: quantize(IMAGES > 3, 4), TypeError, "images", "integers 0 … 255", "bool"),
    "quantize floats": (lambda: quantize(IMAGES / 255, 4), TypeError, "images", "integers 0 … 255", "float32"),
    "quantize no images": (lambda: quantize(IMAGES[:0], 4), ValueError, "images must not be empty"),
    "quantize negative": (lambda: quantize(IMAGES - 300, 4), ValueError, "images must hold values 0 … 255"),
    "quantize one image": (lambda: quantize(IMAGES[0], 4), ValueError, "images", "(N, C, H, W)", "(1, 4, 4)"),
    "quantize to 2.5": (lambda: quantize(IMAGES, 2.5), TypeError, "levels must be an integer", "float 2.5"),
    "quantize to None": (lambda: quantize(IMAGES, None), TypeError, "levels must be an integer", "NoneType"),
    "quantize to 10**18": (lambda: quantize(IMAGES, 10**18), ValueError, "levels", "at most 65,536"),
    "quantize to 10**30": (lambda: quantize(IMAGES, 10**30), ValueError, "levels", "at most 65,536"),
    "quantize from 10**13": (lambda: quantize(IMAGES, 4, 10**13), ValueError, "source_levels", "at most 65,536"),
    "quantize from '256'": (lambda: quantize(IMAGES, 4, "256"), TypeError, "source_levels", "str '256'"),
    "soft label of a set": (lambda: soft_label({1, 2}, 3), TypeError, "weights must be a dictionary", "set"),
    "soft label of None": (lambda: soft_label({None: 1.0}, 3), TypeError, "a class in weights must be an integer"),
    "soft label, a tensor": (lambda: soft_label({1: TWO[0]}, 3), TypeError, "weights[1] must be a number", "Tensor"),
    "soft label, complex": (lambda: soft_label({1: 1j}, 3), TypeError, "weights[1] must be a number", "complex"),
    "soft label, no classes": (lambda: soft_label({1: 1.0}, None), TypeError, "classes must be an integer"),
    "rotated None": (lambda: rotated(None, 10), TypeError, "images must be a torch tensor", "NoneType"),
    "rotated by None": (lambda: rotated(IMAGES, None), TypeError, "degrees must be a number", "NoneType"),
    "rotated by NaN": (lambda: rotated(IMAGES, float("nan")), ValueError, "degrees must be finite"),
    "rotated by True": (lambda: rotated(IMAGES, True), TypeError, "degrees must be a number"),
    "rotated by 1e39": (lambda: rotated(IMAGES, 1e39), ValueError, "degrees must be at most 360", "1e+39"),
    "rotated no images": (lambda: rotated(IMAGES[:0], 10), ValueError, "images must not be empty"),
    "rotated, a seed": (lambda: rotated(IMAGES, 10, 0), TypeError, "generator must be a torch.Generator", "int"),
    "moved integers": (lambda: moved(IMAGES, TWO, TWO, TWO, TWO), TypeError, "images must be floats (N, C, H, W)"),
    "moved one image": (lambda: moved(IMAGES[0] / 255, TWO, TWO, TWO, TWO), TypeError, "images", "(1, 4, 4)"),
    "moved None": (lambda: moved(None, TWO, TWO, TWO, TWO), TypeError, "images must be floats", "NoneType"),
    "moved, numbers": (lambda: moved(IMAGES / 255, 0.1, 1.0, 0.0, 0.0), TypeError, "angle must be a tensor", "float"),
    "moved, one scale": (lambda: moved(IMAGES / 255, TWO, TWO[:1], TWO, TWO), TypeError, "scale", "(2,)", "(1,)"),
    "bernoulli None": (lambda: bernoulli(None), TypeError, "images must be a torch tensor", "NoneType"),
    "bernoulli above 255": (lambda: bernoulli(IMAGES + 256), ValueError, "images must hold values 0 … 255"),
    "bernoulli, a seed": (lambda: bernoulli(IMAGES, 0), TypeError, "generator must be a torch.Generator", "int"),
}


@pytest.mark.parametrize(("call", "error", "words"), rows(ARGUMENTS))
def test_arguments_of_the_loaders(folder, offline, call, error, words):
    assert_clear(call, error, *words)
    assert not offline  # nothing is downloaded for a wrong call


# damaged MNIST


def stored(folder, variant, name):
    """The file of the training images or labels of a variant."""
    (file,) = (folder / NAMES[variant] / "raw").glob(f"*train-{name}-ubyte")
    return file


def labels(*values):
    return lambda folder, variant: write_idx(stored(folder, variant, "labels-idx1"), np.array(values, np.uint8))


def pixels(*shape):
    return lambda folder, variant: write_idx(stored(folder, variant, "images-idx3"), np.zeros(shape, np.uint8))


def nothing(folder, variant):
    pixels(0, 28, 28)(folder, variant)
    labels()(folder, variant)


def exchanged(folder, variant):
    """The images where the labels should be, and the other way round."""
    files = stored(folder, variant, "images-idx3"), stored(folder, variant, "labels-idx1")
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, contents[::-1], strict=True):
        file.write_bytes(content)


def of_type(number):
    """Another type of values in the header: 13 is float32, 99 is none."""

    def damage(folder, variant):
        file = stored(folder, variant, "images-idx3")
        content = bytearray(file.read_bytes())
        content[2] = number
        file.write_bytes(content)

    return damage


def processed(*values):
    """The files of an old version of torchvision, which it reads first."""

    def damage(folder, variant):
        place = folder / NAMES[variant] / "processed"
        place.mkdir(parents=True)
        for name in ("training.pt", "test.pt", "training_letters.pt", "test_letters.pt"):
            torch.save(values, place / name)

    return damage


SHAPE = (ValueError, "are not the training files", "since the images are", "not 28×28 bytes")
RANGE = (ValueError, "are not the training files", "since the labels are")
DAMAGES = {
    "a label of 255": ("mnist", labels(0, 1, 2, 3, 4, 255), *RANGE, "0 … 255, not 0 … 9"),
    "a label of 10": ("mnist", labels(0, 1, 2, 3, 4, 10), *RANGE, "0 … 10, not 0 … 9"),
    "clothes of class 11": ("fashion", labels(0, 1, 2, 3, 4, 11), *RANGE, "0 … 11, not 0 … 9"),
    "a letter 0": ("emnist-letters", labels(0, 1, 2, 3, 4, 5), *RANGE, "0 … 5, not 1 … 26"),
    "a letter 27": ("emnist-letters", labels(1, 2, 3, 4, 5, 27), *RANGE, "1 … 27, not 1 … 26"),
    "14×56": ("mnist", pixels(6, 14, 56), *SHAPE, "14×56"),
    "56×14": ("fashion", pixels(6, 56, 14), *SHAPE, "56×14"),
    "1×784": ("emnist-letters", pixels(6, 1, 784), *SHAPE, "1×784"),
    "8×8": ("mnist", pixels(6, 8, 8), *SHAPE, "8×8"),
    "no images": ("mnist", nothing, ValueError, "MNIST/raw"),
    "more images": ("mnist", pixels(7, 28, 28), ValueError, "they hold 7 images and 6 labels"),
    "more labels": ("fashion", labels(*range(8)), ValueError, "they hold 6 images and 8 labels"),
    "one dimension": ("mnist", pixels(6 * 784), ValueError, "cannot be read"),
    "two dimensions": ("mnist", pixels(6, 784), ValueError, "cannot be read"),
    "four dimensions": ("mnist", pixels(6, 1, 28, 28), ValueError, "cannot be read"),
    "exchanged": ("mnist", exchanged, ValueError, "cannot be read"),
    "float32": ("mnist", of_type(13), ValueError, "cannot be read"),
    "no type": ("mnist", of_type(99), ValueError, "cannot be read"),
    "old files of floats": ("mnist", processed(torch.rand(6, 28, 28), torch.arange(6)), *SHAPE, "float32"),
    "old files of pairs": (
        "mnist", processed(torch.zeros(6, 28, 28).byte(), torch.zeros(6, 2)), ValueError, "6 images and 6 labels",
    ),
    "old files of text": ("fashion", processed("images", "labels"), ValueError, "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "damage", "error", "words"),
    [pytest.param(variant, how, error, words, id=name) for name, (variant, how, error, *words) in DAMAGES.items()],
)
def test_damaged_mnist(folder, offline, variant, damage, error, words):
    write_files(folder, variant)
    load_mnist(True, variant)
    damage(folder, variant)
    where = str(folder / NAMES[variant] / "raw")
    assert_clear(lambda: load_mnist(True, variant), error, where, "put the right files there, or delete", *words)
    assert not offline


def file_digest(folder, part, kind):
    return hashlib.sha256((folder / "MNIST" / "raw" / f"{part}-{kind}-ubyte").read_bytes()).hexdigest()


@pytest.fixture
def published(folder, monkeypatch):
    """A tiny MNIST of 6 and 4 images, whose digests are the known ones."""
    write_files(folder, "mnist")
    known = {
        count: (part, *(file_digest(folder, prefix, kind) for kind in ("images-idx3", "labels-idx1")))
        for count, part, prefix in ((6, "training", "train"), (4, "test", "t10k"))
    }
    monkeypatch.setattr(mnist, "MNIST_FILES", known)
    return folder / "MNIST" / "raw"


def move(raw, here, there):
    for kind in ("images-idx3", "labels-idx1"):
        shutil.copy(raw / f"{here}-{kind}-ubyte", raw / f"{there}-{kind}-ubyte")


def noise(raw, here, there):
    """Random pixels, as many as before."""
    write_idx(raw / f"{here}-images-idx3-ubyte", np.random.default_rng(1).integers(0, 256, (6, 28, 28), np.uint8))


def one_bit(raw, here, there):
    file = raw / f"{here}-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1]))


def turned_labels(raw, here, there):
    file = raw / f"{here}-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes()[:8] + file.read_bytes()[:7:-1])


@pytest.mark.parametrize(
    ("damage", "train", "words"),
    [
        (lambda raw, here, there: move(raw, there, here), True, ["these are MNIST's test files"]),
        (lambda raw, here, there: move(raw, there, here), False, ["these are MNIST's training files"]),
        (noise, True, ["SHA-256 of their 6 images", "MNIST's training images"]),
        (one_bit, True, ["SHA-256 of their 6 images", "MNIST's training images"]),
        (one_bit, False, ["SHA-256 of their 4 images", "MNIST's test images"]),
        (turned_labels, True, ["SHA-256 of their 6 labels", "MNIST's training labels"]),
        (turned_labels, False, ["SHA-256 of their 4 labels", "MNIST's test labels"]),
    ],
)
def test_files_that_are_not_those_of_mnist(published, damage, train, words):
    load_mnist(train)
    damage(published, *(("train", "t10k") if train else ("t10k", "train")))
    part = "training" if train else "test"
    assert_clear(lambda: load_mnist(train), ValueError, str(published), f"are not the {part} files of MNIST", *words)


def test_files_of_ones_own_pass(published):
    """They have another number of images than MNIST has; a variant has no known digests."""
    write_files(published.parents[1], "mnist", train=7, test=5)
    assert (len(load_mnist(True)[0]), len(load_mnist(False)[0])) == (7, 5)
    write_files(published.parents[1], "fashion")
    assert len(load_mnist(True, "fashion")[0]) == 6


@pytest.mark.parametrize(("count", "train"), [(60_000, True), (10_000, False), (10_000, True)])
def test_as_many_images_as_mnist_has_must_be_its_own(folder, count, train):
    for prefix in ("train", "t10k"):
        write_idx(folder / f"MNIST/raw/{prefix}-images-idx3-ubyte", np.zeros((count, 28, 28), np.uint8))
        write_idx(folder / f"MNIST/raw/{prefix}-labels-idx1-ubyte", np.zeros(count, np.uint8))
    assert_clear(lambda: load_mnist(train), ValueError, "MNIST/raw", f"SHA-256 of their {count:,} images", "delete")


@pytest.mark.skipif(not (REAL / "MNIST" / "raw").is_dir(), reason="no MNIST beside the repository")
def test_the_known_digests_are_those_of_the_files_of_mnist(folder):
    for count, prefix in ((60_000, "train"), (10_000, "t10k")):
        found = [file_digest(REAL, prefix, kind) for kind in ("images-idx3", "labels-idx1")]
        assert list(mnist.MNIST_FILES[count][1:]) == found
    (folder / "MNIST").mkdir()
    shutil.copytree(REAL / "MNIST" / "raw", folder / "MNIST" / "raw")
    move(folder / "MNIST" / "raw", "t10k", "train")
    assert_clear(load_mnist, ValueError, "MNIST/raw", "these are MNIST's test files", "delete")


# the sample that ships, the folder of the data, the opening pictures


def torn(path):
    path.write_bytes(path.read_bytes()[:-2000])


def without_text(path):
    Image.new("L", (1120, 700)).save(path)


def too_small(path):
    text = PngImagePlugin.PngInfo()
    text.add_text("classes", "0123456789" * 100)
    Image.new("L", (1120, 672)).save(path, pnginfo=text)


PICTURES = {
    "empty": lambda path: path.write_bytes(b""),
    "torn": torn,
    "half": lambda path: path.write_bytes(path.read_bytes()[:3000]),
    "garbage": lambda path: path.write_bytes(b"<!DOCTYPE html><title>404</title>" * 20),
    "without text": without_text,
}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("damage", [*PICTURES.values(), too_small, pathlib.Path.unlink], ids=lambda how: how.__name__)
def test_a_damaged_sample(tmp_path, monkeypatch, damage, train):
    shutil.copytree(data.SAMPLE, tmp_path / "sample")
    monkeypatch.setattr(data, "SAMPLE", tmp_path / "sample")
    path = tmp_path / "sample" / f"{'train' if train else 'test'}.png"
    damage(path)
    assert_clear(lambda: load_mnist_sample(train), ValueError, f"{path} is damaged", "install the package again")


@pytest.mark.parametrize("damage", PICTURES.values(), ids=PICTURES)
def test_a_damaged_opening_picture(tmp_path, monkeypatch, capsys, damage):
    source = pathlib.Path(start_module.__file__).parent / "pictures"
    shutil.copytree(source, tmp_path / "pictures")
    monkeypatch.setattr(start_module, "files", lambda package: tmp_path)
    path = tmp_path / "pictures" / "01_masks.png"
    damage(path)
    assert_clear(lambda: pch.start("01_masks"), ValueError, f"{path} is damaged", "install the package again")
    assert capsys.readouterr().out == ""


STARTS = {
    "99": (lambda: pch.start("99"), ValueError, "name must be one of 01_masks", "'99'"),
    "None": (lambda: pch.start(None), ValueError, "name must be one of 01_masks", "None"),
    "a number": (lambda: pch.start(1), ValueError, "name must be one of 01_masks", "got 1"),
    "nothing": (lambda: pch.start(""), ValueError, "name must be one of 01_masks", "''"),
    "with its ending": (lambda: pch.start("01_masks.png"), ValueError, "name must be one of", "'01_masks.png'"),
    "a path": (lambda: pch.start("../pictures"), ValueError, "name must be one of", "'../pictures'"),
    "NUL": (lambda: pch.start("01\0"), ValueError, "name must be one of", "'01\\x00'"),
    "too long": (lambda: pch.start(LONG), ValueError, "name must be one of 01_masks"),
    "levels 1": (lambda: pch.load_profile_data(1), ValueError, "levels must be at least 2", "got 1"),
    "levels 2.5": (lambda: pch.load_profile_data(2.5), TypeError, "levels must be an integer", "2.5"),
    "levels '8'": (lambda: pch.load_profile_data("8"), TypeError, "levels must be an integer", "'8'"),
    "levels True": (lambda: pch.load_profile_data(True), TypeError, "levels must be an integer", "boolean"),
    "levels 10**18": (lambda: pch.load_profile_data(10**18), ValueError, "levels", "at most 65,536"),
}


@pytest.mark.parametrize(("call", "error", "words"), rows(STARTS))
def test_arguments_of_a_notebooks_beginning(monkeypatch, call, error, words):
    monkeypatch.setenv("PIXELCNN_PROFILE", "quick")
    assert_clear(call, error, *words)


@pytest.mark.parametrize("word", ["Full", "quick ", "1", "full,quick"])
def test_profiles_that_do_not_exist(monkeypatch, word):
    monkeypatch.setenv("PIXELCNN_PROFILE", word)
    for call in (pch.profile, pch.load_profile_data, lambda: pch.start("01_masks")):
        assert_clear(call, ValueError, 'PIXELCNN_PROFILE must be "quick" or "full"', repr(word))


LOADERS = [load_mnist, lambda: load_dataset("mnist"), lambda: pch.load_profile_data(), lambda: pch.start("03_pixelcnn")]


@pytest.fixture
def full(monkeypatch):
    monkeypatch.setenv("PIXELCNN_PROFILE", "full")


@pytest.mark.parametrize("load", LOADERS)
def test_a_data_folder_that_is_a_file(tmp_path, monkeypatch, full, offline, load):
    (tmp_path / "mnist.zip").touch()
    monkeypatch.setenv("PIXELCNN_DATA", str(tmp_path / "mnist.zip"))
    assert_clear(load, ValueError, "PIXELCNN_DATA must name a folder", f"got the file {tmp_path / 'mnist.zip'}")
    assert not offline


@pytest.mark.skipif(os.name != "posix", reason="homes as on Unix")
@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("value", ["~nosuchuser/data", "~/data", ""])
def test_no_home(monkeypatch, full, offline, load, value):
    import pwd

    def unknown(user):
        raise KeyError(user)

    monkeypatch.setenv("PIXELCNN_DATA", value)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert_clear(load, ValueError, "PIXELCNN_DATA must name a folder: there is no home for", value or "~/.cache")
    assert not offline


@pytest.mark.parametrize("value", ["/dev/null/data", f"/{LONG}", "file/data"])
def test_a_data_folder_that_cannot_be_made(tmp_path, monkeypatch, offline, value):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("PIXELCNN_DATA", value)
    with pytest.raises(FileNotFoundError, match=r"MNIST is not in .* and could not be downloaded"):
        load_mnist()


def test_missing_files_end_in_one_clear_line(folder, offline):
    assert_clear(load_mnist, FileNotFoundError, "MNIST is not in", str(folder), "load_digits()")
    assert_clear(lambda: load_dataset("fashion"), FileNotFoundError, "FashionMNIST is not in", str(folder))


# saving


def tiny(**options):
    return pch.PixelCNN(**{"levels": 3, "features": 4, "layers": 1, "kernel_size": 3} | options)


def nested(depth=100_000):
    card = {}
    for _ in range(depth):
        card = {"card": card}
    return card


def circle():
    card = {}
    card["self"] = card
    return card


def sized(size):
    model = tiny()
    model.size = size
    return model


class Extra(nn.Linear):
    """A layer whose state is more than tensors."""

    def get_extra_state(self):
        return {"more": 1}


SAVES = {
    "no model": (lambda path: save_model(None, path), TypeError, "model must be a torch.nn.Module", "NoneType"),
    "a class": (lambda path: save_model(pch.PixelCNN, path), TypeError, "model must be a torch.nn.Module", "type"),
    "weights": (lambda path: save_model(tiny().state_dict(), path), TypeError, "torch.nn.Module", "OrderedDict"),
    "path None": (lambda path: save_model(tiny(), None), TypeError, "path must be a string or a Path", "NoneType"),
    "path 5": (lambda path: save_model(tiny(), 5), TypeError, "path must be a string or a Path", "int"),
    "path in bytes": (lambda path: save_model(tiny(), bytes(path)), TypeError, "path must be a string", "bytes"),
    "path and card": (lambda path: save_model(tiny(), {}, path), TypeError, "path must be a string", "dict"),
    "another ending": (lambda path: save_model(tiny(), path.with_suffix(".pt")), ValueError, "path", ".safetensors"),
    "NUL": (lambda path: save_model(tiny(), f"{path}\0.safetensors"), ValueError, "path", "NUL", "\\x00"),
    "too long": (lambda path: save_model(tiny(), f"{LONG}.safetensors"), OSError, "cannot be written", "too long"),
    "a folder": (lambda path: save_model(tiny(), path.parent / "f.safetensors"), OSError, "cannot be written", "f.s"),
    "in a file": (lambda path: save_model(tiny(), path / path.name), OSError, "tiny.safetensors", "cannot be written"),
    "card 5": (lambda path: save_model(tiny(), path, 5), TypeError, "card must be a dictionary", "int"),
    "card []": (lambda path: save_model(tiny(), path, []), TypeError, "card must be a dictionary", "list"),
    "card ''": (lambda path: save_model(tiny(), path, ""), TypeError, "card must be a dictionary", "str"),
    "card of a tensor": (lambda path: save_model(tiny(), path, {"loss": TWO}), TypeError, "card", "JSON", "Tensor"),
    "card of bytes": (lambda path: save_model(tiny(), path, {"loss": b"1"}), TypeError, "card", "JSON", "bytes"),
    "card of NaN": (lambda path: save_model(tiny(), path, {"loss": float("nan")}), TypeError, "card", "JSON"),
    "a deep card": (lambda path: save_model(tiny(), path, nested()), TypeError, "card", "JSON", "recursion"),
    "a card in a circle": (lambda path: save_model(tiny(), path, circle()), TypeError, "card", "JSON", "Circular"),
    "size 28": (lambda path: save_model(sized(28), path), ValueError, "size must be a pair", "28"),
    "size of three": (lambda path: save_model(sized((1, 2, 3)), path), ValueError, "size must be a pair", "(1, 2, 3)"),
    "size of text": (lambda path: save_model(sized(("a", "b")), path), TypeError, "size[0] must be an integer", "'a'"),
    "size 0": (lambda path: save_model(sized((0, 4)), path), ValueError, "size[0] must be at least 1"),
    "no weights": (lambda path: save_model(tiny().to("meta"), path), ValueError, "weights that a file cannot hold"),
    "more than tensors": (lambda path: save_model(Extra(2, 2), path), ValueError, "weights that a file cannot hold"),
    "lazy weights": (lambda path: save_model(nn.LazyLinear(3), path), ValueError, "weights that a file cannot hold"),
}


@pytest.mark.parametrize(("call", "error", "words"), rows(SAVES))
def test_saves_that_cannot_be(tmp_path, call, error, words):
    path = tmp_path / "tiny.safetensors"
    before = save_model(tiny(), path).read_bytes()
    (tmp_path / "f.safetensors").mkdir()
    assert_clear(lambda: call(path), error, *words)
    assert path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["f.safetensors", "tiny.safetensors"]


# loading


def rewritten(path, about=None, metadata=None, state=None, kind=None):
    """A file as `save_model` writes it, of which something was changed."""
    with safe_open(path, "pt") as file:
        found = file.metadata() | {"format": "pt"}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
    said = json.loads(found["model"])
    said["config"] |= (about or {}).pop("config+", {})
    found |= {"model": json.dumps(said | (about or {}))} | (metadata or {})
    save_file(state(tensors) if state else tensors, path, found)


def about(**changes):
    return lambda path: rewritten(path, about=dict(changes))


def config(**changes):
    return lambda path: rewritten(path, about={"config+": changes})


def said(model):
    return lambda path: rewritten(path, metadata={"model": model})


def card(text):
    return lambda path: rewritten(path, metadata={"card": text})


def tensors(change):
    return lambda path: rewritten(path, state=change)


def first(tensors):
    return next(name for name in tensors if name.endswith("weight"))


def folder_of(path):
    path.unlink()
    path.mkdir()


DAMAGED = (ValueError, "tiny.safetensors", "damaged", "again")
OTHER = (ValueError, "tiny.safetensors", "was not written by save_model")
VERSION = (ValueError, "tiny.safetensors", "cannot be read by this version of the package, or is damaged")
MISFIT = (ValueError, "the weights in", "tiny.safetensors", "do not fit this GatedPixelCNN")
MODEL_FILES = {
    "size 5": (about(size=5), *DAMAGED, "its size is 5"),
    "size text": (about(size="28"), *DAMAGED, "its size is '28'"),
    "size {}": (about(size={}), *DAMAGED, "its size is {}"),
    "size true": (about(size=True), *DAMAGED, "its size is True"),
    "size [28]": (about(size=[28]), *VERSION, "size must be a pair"),
    "size []": (about(size=[]), *VERSION, "size must be a pair"),
    "size of three": (about(size=[1, 28, 28]), *VERSION, "size must be a pair"),
    "size [0, 28]": (about(size=[0, 28]), *VERSION, "size[0] must be at least 1"),
    "size of floats": (about(size=[28, 28.5]), *VERSION, "size[1] must be an integer"),
    "size of lists": (about(size=[[28], [28]]), *VERSION, "size[0] must be an integer"),
    "class []": (about(**{"class": []}), *DAMAGED, "its class is []"),
    "class {}": (about(**{"class": {}}), *DAMAGED, "its class is {}"),
    "class null": (about(**{"class": None}), *DAMAGED, "its class is None"),
    "class 5": (about(**{"class": 5}), *DAMAGED, "its class is 5"),
    "class unknown": (about(**{"class": "Net"}), ValueError, "tiny.safetensors", "a Net that is not of this package"),
    "class another": (about(**{"class": "PixelCNN"}), *VERSION),
    "class of lines": (about(**{"class": "a\nb"}), *DAMAGED, "its class is 'a\\nb'"),
    "config []": (about(config=[]), *DAMAGED, "its config is []"),
    "config 5": (about(config=5), *DAMAGED, "its config is 5"),
    "config text": (about(config="levels"), *DAMAGED, "its config is 'levels'"),
    "config null": (about(config=None), ValueError, "tiny.safetensors", "that is not of this package"),
    "config {}": (about(config={}), *MISFIT),
    "an unknown argument": (config(colour=3), *VERSION, "colour"),
    "self": (config(self=3), *VERSION, "self"),
    "levels in terabytes": (config(levels=10**12), *VERSION, "levels is 1000000000000"),
    "levels of 40 digits": (config(levels=10**40), *VERSION, "levels is 1"),
    "levels that fit no weights": (config(levels=5), *MISFIT, "size mismatch"),
    "levels of text": (config(levels="3"), *VERSION, "levels must be an integer"),
    "levels true": (config(levels=True), *VERSION, "levels must be an integer"),
    "levels null": (config(levels=None), *VERSION, "levels must be an integer"),
    "levels of a list": (config(levels=[3]), *VERSION, "levels must be an integer"),
    "levels 1": (config(levels=1), *VERSION, "levels must be at least 2"),
    "blocks for ever": (config(blocks=10**9, dilations=None), *VERSION, "blocks is 1000000000"),
    "blocks one more": (config(blocks=3, dilations=None), *MISFIT, "Missing key"),
    "blocks one less": (config(blocks=1, dilations=None), *MISFIT),
    "features in terabytes": (config(features=10**7), *VERSION, "features is 10000000"),
    "a kernel in terabytes": (config(kernel_size=10**7 + 1), *VERSION, "kernel_size is 10000001"),
    "an even kernel": (config(kernel_size=2), *VERSION, "kernel_size"),
    "channels in terabytes": (config(channels=10**7), *VERSION, "channels is 10000000"),
    "classes in terabytes": (config(classes=10**13), *VERSION, "classes is 10000000000000"),
    "dilations of text": (config(dilations="ab"), *VERSION, "dilation"),
    "dilations too few": (config(dilations=[1]), *VERSION, "dilations must be"),
    "says nothing": (said("null"), *OTHER),
    "says a number": (said("5"), *OTHER),
    "says a word": (said('"PixelCNN"'), *OTHER),
    "says a list": (said("[]"), *OTHER),
    "says too little": (said("{}"), *OTHER, "class"),
    "says no JSON": (said("class: PixelCNN"), *DAMAGED),
    "says half": (said('{"class": "Pix'), *DAMAGED),
    "says nothing at all": (said(""), *DAMAGED),
    "says deep things": (said(DEEP), *DAMAGED, "recursion"),
    "says a long number": (said("1" * 5000), *DAMAGED, "digits"),
    "card 5": (card("5"), *DAMAGED, "its card is 5"),
    "card []": (card("[1, 2]"), *DAMAGED, "its card is [1, 2]"),
    "card null": (card("null"), *DAMAGED, "its card is None"),
    "card half": (card('{"epochs": '), *DAMAGED),
    "card deep": (card(DEEP), *DAMAGED, "recursion"),
    "a tensor less": (tensors(lambda t: {n: v for n, v in t.items() if n != first(t)}), *MISFIT, "Missing key"),
    "a tensor more": (tensors(lambda t: t | {"more": TWO}), *MISFIT, "Unexpected key", "more"),
    "a tensor of another name": (tensors(lambda t: {n + "s": v for n, v in t.items()}), *MISFIT, "Missing key"),
    "a tensor of another shape": (tensors(lambda t: t | {first(t): TWO}), *MISFIT, "size mismatch"),
    "a tensor of no shape": (tensors(lambda t: t | {first(t): torch.tensor(1.0)}), *MISFIT, "size mismatch"),
    "no tensors": (tensors(lambda t: {}), *VERSION, "more than the weights have room for"),
    "empty": (lambda path: path.write_bytes(b""), *DAMAGED),
    "zeros": (lambda path: path.write_bytes(bytes(1000)), *DAMAGED),
    "half": (lambda path: path.write_bytes(path.read_bytes()[:1500]), *DAMAGED),
    "an endless header": (lambda path: path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:]), *DAMAGED),
    "gone": (pathlib.Path.unlink, FileNotFoundError, "there is no file", "tiny.safetensors"),
    "a folder": (folder_of, FileNotFoundError, "there is no file", "tiny.safetensors, but a folder"),
}


@pytest.fixture
def path(tmp_path):
    """A file of a network with classes, dilations and a size."""
    model = pch.GatedPixelCNN(levels=3, features=4, blocks=2, dilations=(1, 2), classes=3)
    model.size = (5, 4)
    return save_model(model, tmp_path / "tiny.safetensors", {"epochs": 3})


@pytest.mark.parametrize(("change", "error", "words"), rows(MODEL_FILES))
def test_model_files(path, change, error, words):
    load_model(path)
    change(path)
    assert_clear(lambda: load_model(path), error, *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"width": 10**8}, "width is 100000000"), ({"classes": 10**12}, "classes is 10000"), ({"width": 3}, "not fit")],
)
def test_files_of_classifiers(tmp_path, change, words):
    path = save_model(ConvClassifier(classes=3, width=2), tmp_path / "judge.safetensors")
    config(**change)(path)
    assert_clear(lambda: load_model(path), ValueError, str(path), words)


LOADS = {
    "None": (lambda path: load_model(None), TypeError, "path must be a string or a Path", "NoneType"),
    "5": (lambda path: load_model(5), TypeError, "path must be a string or a Path", "int"),
    "bytes": (lambda path: load_model(bytes(path)), TypeError, "path must be a string or a Path", "bytes"),
    "an open file": (lambda path: load_model(io.BytesIO()), TypeError, "path must be a string", "BytesIO"),
    "NUL": (lambda path: load_model(f"{path}\0.safetensors"), ValueError, "path", "NUL", "\\x00"),
    "too long": (lambda path: load_model(f"{LONG}.safetensors"), FileNotFoundError, "there is no file"),
    "another ending": (lambda path: load_model(path.with_suffix(".pt")), ValueError, "must end in .safetensors"),
    "in a file": (lambda path: load_model(path / path.name), FileNotFoundError, "there is no file", "tiny"),
    "a class": (lambda path: load_model(path, pch.PixelCNN), TypeError, "model must be a torch.nn.Module or None"),
    "a name": (lambda path: load_model(path, "PixelCNN"), TypeError, "model must be a torch.nn.Module or None"),
    "another model": (lambda path: load_model(path, tiny()), ValueError, "tiny.safetensors do not fit this PixelCNN"),
    "a linear layer": (lambda path: load_model(path, nn.Linear(2, 2)), ValueError, "do not fit this Linear"),
    "a toy": (lambda path: load_model(path, ConditionalToy()), ValueError, "do not fit this ConditionalToy"),
}


@pytest.mark.parametrize(("call", "error", "words"), rows(LOADS))
def test_loads_that_cannot_be(path, call, error, words):
    assert_clear(lambda: call(path), error, *words)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(path):
    path.chmod(0)
    assert_clear(lambda: load_model(path), ValueError, str(path), "damaged")


# what ships


@pytest.fixture
def shelf(path, monkeypatch):
    """A folder of weights with one network in it, and a folder of measurements with one in it."""
    monkeypatch.setattr(pretrained, "WEIGHTS", path.parent)
    monkeypatch.setattr(pretrained, "MEASUREMENTS", path.parent)
    publish(path)
    (path.parent / "reach.json").write_text('{"seen": {"shape": [1, 1, 2, 2], "pixels": "0f3a"}}')
    return path.parent


NAMES_THAT_SHIP = {
    "no such name": "digits", "None": None, "a number": 5, "a list": ["tiny"], "a dictionary": {}, "a set": {1},
    "a tensor": torch.zeros(9, 9), "a path": "../tiny", "its file": "tiny.safetensors", "nothing": "", "bytes": b"tiny",
    "too long": LONG, "NUL": "tiny\0", "True": True,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES_THAT_SHIP.values(), ids=NAMES_THAT_SHIP)
def test_names_of_what_ships(shelf, name):
    assert_clear(lambda: load_pretrained(name), ValueError, "name must be one of 'tiny', got")
    assert_clear(lambda: load_measurement(name), ValueError, "name must be one of 'reach', got")


SUMS = {
    "garbage": "<!DOCTYPE html>\n<title>404</title>\n",
    "half a line": "6ce479abf7d561680664b439e68b579aab8c",
    "no name": "0" * 64,
    "three words": "0" * 64 + "  tiny.safetensors  again",
    "a short sum": "0" * 63 + "  tiny.safetensors",
    "another ending": "0" * 64 + "  tiny.pt",
    "NULs": "\0" * 200,
    "bytes that are no text": "\udcff\udcfe" * 40,
}


@pytest.mark.parametrize("text", SUMS.values(), ids=SUMS)
def test_a_damaged_list_of_sums(shelf, text):
    (shelf / "SHA256SUMS").write_bytes(text.encode("utf-8", "surrogateescape"))
    words = f"{shelf / 'SHA256SUMS'} is damaged", "install the package again"
    assert_clear(pretrained_names, ValueError, *words)
    assert_clear(lambda: load_pretrained("tiny"), ValueError, *words)


def test_blank_lines_in_the_list_of_sums(shelf):
    text = (shelf / "SHA256SUMS").read_text()
    (shelf / "SHA256SUMS").write_text(f"\n{text}\n   \n")
    assert pretrained_names() == ["tiny"]
    assert load_pretrained("tiny")[1] == {"epochs": 3}


WEIGHT_FILES = {
    "gone": (pathlib.Path.unlink, "is not there"),
    "a folder": (folder_of, "is not there"),
    "empty": (lambda path: path.write_bytes(b""), "is not the file that was published"),
    "altered": (config(levels=4), "is not the file that was published"),
}


@pytest.mark.parametrize(("change", "words"), WEIGHT_FILES.values(), ids=WEIGHT_FILES)
def test_weights_that_ship_and_were_changed(shelf, change, words):
    change(shelf / "tiny.safetensors")
    assert_clear(lambda: load_pretrained("tiny"), ValueError, str(shelf / "tiny.safetensors"), words, "again")


MEASUREMENTS = {
    "empty": b"",
    "half": b'{"seen": {"shape": [1, 1',
    "a page": b"<!DOCTYPE html>",
    "a list": b"[]",
    "a number": b"5",
    "no text": b'{"\xff\xfe": 1}',
    "deep": DEEP.encode(),
    "a pixel that is none": b'{"seen": {"shape": [1, 1, 2, 2], "pixels": "0g3a"}}',
    "too few pixels": b'{"seen": {"shape": [1, 1, 2, 2], "pixels": "0f3"}}',
    "pixels that are no text": b'{"seen": {"shape": [1, 1, 2, 2], "pixels": 5}}',
    "a shape that is none": b'{"seen": {"shape": "four", "pixels": "0f3a"}}',
    "a huge shape": b'{"seen": {"shape": [1000000000000, 1], "pixels": "0f3a"}}',
    "images only": b'{"shape": [1, 1, 2, 2], "pixels": "0f3a"}',
}


@pytest.mark.parametrize("content", MEASUREMENTS.values(), ids=MEASUREMENTS)
def test_damaged_measurements(shelf, content):
    assert load_measurement("reach")["seen"].tolist() == [[[[0, 15], [3, 10]]]]
    (shelf / "reach.json").write_bytes(content)
    words = f"{shelf / 'reach.json'} is damaged", "install the package again"
    assert_clear(lambda: load_measurement("reach"), ValueError, *words)


# what a load must leave alone, and what a save must see through


@pytest.mark.parametrize("name", ["conditional-mnist", "judge-mnist"])
def test_loading_draws_no_random_numbers(name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    load_pretrained(name)
    assert torch.equal(torch.get_rng_state(), before)


def test_loading_in_another_precision(path):
    wanted, _ = load_model(path)
    torch.set_default_dtype(torch.float64)
    try:
        found, _ = load_model(path)
        shipped, _ = load_pretrained("judge-mnist")
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    for model in (found, shipped):
        assert {value.dtype for value in model.state_dict().values()} <= {torch.float32, torch.int64}
    for name, value in wanted.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)


@pytest.mark.parametrize("name", pretrained_names())
def test_every_tensor_of_a_loaded_network_is_there(name):
    model, _ = load_pretrained(name)
    kept = [*model.parameters(), *model.buffers()]
    assert all(value.device.type == "cpu" and value.isfinite().all() for value in kept)
    assert all(weight.requires_grad and weight.dtype is torch.float32 for weight in model.parameters())


def test_a_loaded_network_does_not_share_memory_with_its_file(path):
    model, _ = load_model(path)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path.write_bytes(bytes(path.stat().st_size))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_another_default_device_changes_nothing(path):
    wanted, _ = load_model(path)
    with torch.device("meta"):
        found, _ = load_model(path)
    for name, value in wanted.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)


def test_a_compiled_model_is_saved_as_the_model_itself(tmp_path):
    model = pch.GatedPixelCNN(levels=3, features=4, blocks=1, classes=3).eval()
    model.size = (5, 4)
    images, labels = integers((2, 1, 5, 4), 3), one_hot([0, 2])
    wanted = model(images, labels)
    whole = save_model(torch.compile(model), tmp_path / "whole.safetensors")
    model.blocks[0] = torch.compile(model.blocks[0])
    parts = save_model(model, tmp_path / "parts.safetensors")
    for path in (whole, parts):
        loaded, _ = load_model(path)
        assert type(loaded) is pch.GatedPixelCNN and loaded.size == (5, 4)
        assert torch.equal(loaded(images, labels), wanted)


def test_weights_into_a_compiled_model_of_ones_own(tmp_path):
    model = ConditionalToy()
    path = save_model(torch.compile(model), tmp_path / "toy.safetensors", {"epochs": 3})
    torch.manual_seed(1)
    own = torch.compile(ConditionalToy())
    loaded, card = load_model(path, own)
    assert loaded is own and card == {"epochs": 3}
    assert torch.equal(own._orig_mod.first.masked_weight(), model.first.masked_weight())
