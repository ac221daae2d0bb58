"""The sample of MNIST that ships, made from the full data set: `python -m pixelcnn_helpers mnist-sample`."""

from __future__ import annotations

import io

import torch
from PIL import Image, PngImagePlugin

from ..checkpoint import write_atomically
from ..data import SAMPLE
from ..studies.mnist import load_mnist

PER_CLASS, COLUMNS = 100, 40


def make_sample() -> None:
    """Write the sample's two sheets: the first 100 digits of each class, in MNIST's own order.

    A sheet is a grey PNG with 40 digits to a row. Its text entry "classes" names the class of each, one letter a digit.
    Raises FileNotFoundError without MNIST.
    """
    for name, train in (("train", True), ("test", False)):
        images, classes = load_mnist(train)
        chosen = first_of_each_class(classes)
        tiles = images[chosen, 0].unflatten(0, (-1, COLUMNS))  # (rows, cols, 28, 28)
        sheet = Image.fromarray(tiles.transpose(1, 2).flatten(2, 3).flatten(0, 1).numpy())
        text, file = PngImagePlugin.PngInfo(), io.BytesIO()
        text.add_text("classes", "".join(str(digit) for digit in classes[chosen].tolist()))
        text.add_text("Source", "MNIST, Yann LeCun, Corinna Cortes, Christopher Burges; CC BY-SA 3.0")
        sheet.save(file, "PNG", optimize=True, pnginfo=text)
        write_atomically(SAMPLE / f"{name}.png", file.getvalue())
        print(f"{name}.png: {len(chosen):,} digits, {len(file.getvalue()) / 1000:.0f} kB")


def first_of_each_class(classes: torch.Tensor) -> torch.Tensor:
    """The positions of the first `PER_CLASS` images of each class, ascending."""
    found = [(classes == digit).nonzero()[:PER_CLASS, 0] for digit in range(10)]
    return torch.cat(found).sort().values
