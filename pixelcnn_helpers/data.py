"""Images and labels: the digits that need no download, fewer grey levels, soft labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .checks import check_images, check_int, check_number, check_type, require

SAMPLE = Path(__file__).parent / "sample"


def load_digits() -> tuple[torch.Tensor, torch.Tensor]:
    """The 1,797 handwritten digits that scikit-learn carries: no download, no network.

    Returns uint8 images `(1797, 1, 8, 8)` with 17 levels, `0 … 16`, and integer classes `(1797,)`.
    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI.
    """
    from sklearn.datasets import load_digits as bundled  # takes a second to import: only where it is needed

    digits = bundled()
    return torch.tensor(digits.images, dtype=torch.uint8)[:, None], torch.tensor(digits.target)


def load_mnist_sample(train: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """The part of MNIST that ships with the package, 1,000 training or 1,000 test digits: no download, no network.

    Returns uint8 images `(1000, 1, 28, 28)` with 256 levels and integer classes `(1000,)`, as `load_mnist` does: the
    first 100 of each class, in MNIST's own order. Raises ValueError for a damaged file.
    Source: Y. LeCun, C. Cortes and C. Burges, under CC BY-SA 3.0.
    """
    check_train(train)
    path = SAMPLE / f"{'train' if train else 'test'}.png"
    try:
        with Image.open(path) as sheet:
            classes = torch.tensor([int(digit) for digit in sheet.text["classes"]]).view(1000)
            tiles = torch.from_numpy(np.array(sheet)).view(25, 28, 40, 28)  # (rows, H, cols, W)
    except Exception as error:  # Pillow stumbles over a damaged file in many ways
        raise ValueError(f"{path} is damaged ({type(error).__name__}): install the package again") from None
    return tiles.transpose(1, 2).flatten(0, 1)[:, None].contiguous(), classes


def check_train(train, hint: str = "") -> None:
    require(isinstance(train, bool), "train", "be True or False", f"{train!r}{hint}", TypeError)


def quantize(images: torch.Tensor, levels: int, source_levels: int = 256) -> torch.Tensor:
    """Integer images of `source_levels` rounded to `levels` even steps: 0 stays 0, the brightest stays the brightest.

    Any shape `(N, C, H, W)`, values in `0 … source_levels-1`; returns the same shape with values in `0 … levels-1`,
    uint8 where they fit. Raises ValueError for values out of range, fewer than 2 levels or more than 65,536.
    """
    levels, source_levels = check_int("levels", levels, 2), check_int("source_levels", source_levels, 2)
    most = max(levels, source_levels)
    require(most <= 65_536, "levels and source_levels", "be at most 65,536", most)
    check_images(images, source_levels)
    top = source_levels - 1
    table = (2 * torch.arange(source_levels) * (levels - 1) + top) // (2 * top)  # in integers, so halves round up
    return table.to(images.device, torch.uint8 if levels <= 256 else torch.int64)[images.int()]


def soft_label(weights: dict[int, float], classes: int) -> torch.Tensor:
    """One label row, float32 `(1, classes)`, from weights of classes: `soft_label({1: 0.3, 7: 0.7}, classes=10)`.

    Raises ValueError for an unknown class, a negative or non-finite weight, and weights that do not sum to 1 (they are
    not normalised), TypeError for what is no dictionary of numbers.
    """
    classes = check_int("classes", classes, 1)
    check_type("weights", weights, dict, "a dictionary {class: weight}")
    row = torch.zeros(1, classes, dtype=torch.float32)
    for index, weight in weights.items():
        index = check_int("a class in weights", index, 0)
        require(index < classes, "weights", f"name classes 0 … {classes - 1}", index)
        row[0, index] = check_number(f"weights[{index}]", weight)
    total = sum(map(float, weights.values()))
    require(abs(total - 1) <= 1e-6, "weights", "sum to 1", f"{total:g} from {weights}")
    return row
