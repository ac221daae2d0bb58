"""Images and labels: the digits that need no download, MNIST and its sisters, and fewer grey levels."""

from __future__ import annotations

import math
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from .checks import check_images, check_int, check_number

MNIST_VARIANTS = {"mnist": "MNIST", "fashion": "FashionMNIST", "emnist-letters": "EMNIST"}  # -> torchvision's class
DIGITS_TRAIN = 1497  # of 1,797; the other 300 are held out


@dataclass
class Dataset:
    """Images split into training and test: integers `(N, 1, H, W)` in `0 … levels-1`, integer classes `(N,)`."""

    name: str
    levels: int
    train: torch.Tensor
    train_classes: torch.Tensor
    test: torch.Tensor
    test_classes: torch.Tensor

    def __str__(self) -> str:
        height, width = self.train.shape[-2:]
        return (
            f"{self.name}: {len(self.train):,} training and {len(self.test):,} test images "
            f"of {height}×{width} pixels, {self.levels} grey levels"
        )


def load_digits() -> tuple[torch.Tensor, torch.Tensor]:
    """The 1,797 handwritten digits that scikit-learn carries: no download, no network.

    Returns uint8 images `(1797, 1, 8, 8)` with 17 levels, `0 … 16`, and integer classes `(1797,)`.
    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI.
    """
    from sklearn.datasets import load_digits as bundled  # takes a second to import: only where it is needed

    digits = bundled()
    return torch.tensor(digits.images, dtype=torch.uint8)[:, None], torch.tensor(digits.target)


def load_mnist(train: bool = True, variant: str = "mnist") -> tuple[torch.Tensor, torch.Tensor]:
    """MNIST, Fashion-MNIST or the letters of EMNIST, in full resolution, through torchvision.

    The files are looked for in the folder that `PIXELCNN_DATA` names (else a cache folder) and downloaded there if
    missing (EMNIST is an archive of 560 MB).

    variant: "mnist", "fashion" (ten classes each) or "emnist-letters" (26 classes, A is 0; turned upright).
    Returns uint8 images `(N, 1, 28, 28)` with 256 levels and integer classes `(N,)`.
    Raises ValueError for an unknown variant or damaged files, FileNotFoundError where there are neither files nor
    network.
    """
    from torchvision import datasets

    if not isinstance(train, bool):
        raise TypeError(f'train must be True or False, got {train!r}; variant="fashion" chooses the data set')
    if not isinstance(variant, str) or variant not in MNIST_VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(map(repr, MNIST_VARIANTS))}, got {variant!r}")
    kind, folder = getattr(datasets, MNIST_VARIANTS[variant]), data_folder()
    options = {"train": train, "split": "letters"} if variant == "emnist-letters" else {"train": train}
    try:
        found = _open(kind, folder, options)
        images, classes = found.data[:, None].clone(), found.targets.long().clone()
        if len(images) != len(classes):
            raise ValueError(f"{len(images)} images with {len(classes)} labels")
    except FileNotFoundError:
        raise
    except Exception as error:  # torchvision stumbles over a damaged file in many ways
        raise ValueError(
            f"the files in {folder / kind.__name__ / 'raw'} cannot be read ({type(error).__name__}), perhaps after a "
            "download that was cut off: delete that folder and load again"
        ) from error
    if variant == "emnist-letters":
        images, classes = images.transpose(2, 3).contiguous(), classes - 1  # stored on their side, and counted from 1
    return images, classes


def _open(kind, folder: Path, options: dict):
    """torchvision's data set, downloaded if it is not there."""
    try:
        return kind(folder, **options)
    except RuntimeError as error:
        if "not found" not in str(error):  # torchvision's word for "not there"
            raise
    return _download(kind, folder, options)


def _download(kind, folder: Path, options: dict):
    """torchvision's download, which would otherwise wait for ever on a network that swallows packets."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)
    try:
        return kind(folder, download=True, **options)
    except Exception as error:  # no network, half an answer, a wrong checksum, a folder that cannot be written
        raise FileNotFoundError(
            f"{kind.__name__} is not in {folder} and could not be downloaded ({type(error).__name__}): "
            f"set PIXELCNN_DATA to a folder that holds {kind.__name__}/raw, go online once, or use load_digits(), "
            "which needs no download"
        ) from None
    finally:
        socket.setdefaulttimeout(before)


def data_folder() -> Path:
    """The folder of the data sets: `PIXELCNN_DATA`, or a cache folder in the user's home."""
    return Path(os.environ.get("PIXELCNN_DATA") or "~/.cache/pixelcnn").expanduser()


def quantize(images: torch.Tensor, levels: int, source_levels: int = 256) -> torch.Tensor:
    """Integer images of `source_levels` rounded to `levels` even steps: 0 stays 0, the brightest stays the brightest.

    Any shape `(N, C, H, W)`, values in `0 … source_levels-1`; returns the same shape with values in `0 … levels-1`,
    uint8 where they fit. Raises ValueError for values out of range or fewer than 2 levels.
    """
    levels, source_levels = check_int("levels", levels, 2), check_int("source_levels", source_levels, 2)
    check_images(images, source_levels)
    top = source_levels - 1
    table = (2 * torch.arange(source_levels) * (levels - 1) + top) // (2 * top)  # in integers, so halves round up
    return table.to(images.device, torch.uint8 if levels <= 256 else torch.int64)[images.int()]


def rotated(images: torch.Tensor, degrees: float, generator: torch.Generator | None = None) -> torch.Tensor:
    """Each image turned about its centre by its own random angle, evenly spread over `-degrees … degrees`.

    images: integers `(N, C, H, W)`; returns the same type and shape. Levels in between are rounded, and what comes in
    from outside is 0, so turn images of many levels and quantize them afterwards.
    """
    check_images(images, 256, values=False)
    degrees, device = check_number("degrees", degrees), images.device
    if images.shape[-2] != images.shape[-1]:
        raise ValueError(f"images must be square to be turned, got {images.shape[-2]}×{images.shape[-1]} pixels")
    angle = (torch.rand(len(images), device=device, generator=generator) * 2 - 1) * degrees * math.pi / 180
    zero = torch.zeros_like(angle)
    return moved(images.float(), angle, zero + 1, zero, zero).round().to(images.dtype)


def moved(images: torch.Tensor, angle, scale, across, down) -> torch.Tensor:
    """Float images `(N, C, H, W)`, each turned, scaled and shifted by its own amount; from outside comes 0.

    Four tensors `(N,)`: angles in radians, the part of the image that fills the frame, shifts in halves of an image.
    """
    cos, sin = scale * angle.cos(), scale * angle.sin()
    turns = torch.stack([cos, -sin, across, sin, cos, down], 1).view(-1, 2, 3)
    grid = F.affine_grid(turns, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def bernoulli(images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Black and white drawn afresh: 1 with probability x/255. Integers `(N, C, H, W)` of 256 levels -> uint8 0 or 1."""
    check_images(images, 256)
    return torch.bernoulli(images.float() / 255, generator=generator).to(torch.uint8)


def soft_label(weights: dict[int, float], classes: int) -> torch.Tensor:
    """One label row, float `(1, classes)`, from weights of classes: `soft_label({1: 0.3, 7: 0.7}, classes=10)`.

    Raises ValueError for an unknown class, a negative or non-finite weight, and weights that do not sum to 1: nothing
    is normalised silently. TypeError for what is no dictionary of numbers.
    """
    classes = check_int("classes", classes, 1)
    if not isinstance(weights, dict):
        raise TypeError(f"weights must be a dictionary {{class: weight}}, got {type(weights).__name__}")
    row = torch.zeros(1, classes)
    for index, weight in weights.items():
        if check_int("a class in weights", index, 0) >= classes:
            raise ValueError(f"weights must name classes 0 … {classes - 1}, got {index}")
        row[0, index] = check_number(f"weights[{index}]", weight)
    total = sum(map(float, weights.values()))
    if abs(total - 1) > 1e-6:
        raise ValueError(f"weights must sum to 1, got {total:g} from {weights}")
    return row


def profile() -> str:
    """`"quick"` or `"full"`: `PIXELCNN_PROFILE`, else full where there is a GPU. ValueError for another word."""
    chosen = os.environ.get("PIXELCNN_PROFILE") or ("full" if torch.cuda.is_available() else "quick")
    if chosen not in ("quick", "full"):
        raise ValueError(f'PIXELCNN_PROFILE must be "quick" or "full", got {chosen!r}')
    return chosen


def load_profile_data(levels: int | None = None) -> Dataset:
    """What the notebooks train on: the bundled digits in the quick profile, MNIST in the full one.

    levels: None keeps the data's own, 17 or 256. Without MNIST and without network the full profile says so in one line
    and goes on with the bundled digits.
    """
    if profile() == "full":
        try:
            return _with_levels(load_dataset("mnist"), levels)
        except FileNotFoundError as error:
            print(f"Going on with the bundled digits. {error}")
    return _with_levels(load_dataset("digits"), levels)


def load_dataset(name: str) -> Dataset:
    """Training and test images in full resolution: "digits", the bundled ones, or a variant of `load_mnist`."""
    if name in MNIST_VARIANTS:
        (train, train_classes), (test, test_classes) = (load_mnist(part, name) for part in (True, False))
        return Dataset(MNIST_VARIANTS[name], 256, train, train_classes, test, test_classes)
    if name != "digits":
        known = ", ".join(map(repr, ["digits", *MNIST_VARIANTS]))
        raise ValueError(f"name must be one of {known}, got {name!r}")
    images, classes = load_digits()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, classes = images[order], classes[order]
    held = slice(DIGITS_TRAIN, None)
    return Dataset(
        "bundled digits", 17, images[:DIGITS_TRAIN], classes[:DIGITS_TRAIN], images[held], classes[held]
    )


def _with_levels(data: Dataset, levels: int | None) -> Dataset:
    if levels is not None and levels != data.levels:
        data.train, data.test = (quantize(images, levels, data.levels) for images in (data.train, data.test))
        data.levels = levels
    return data
