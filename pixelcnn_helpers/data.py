"""Images and labels: the bundled digits, MNIST and its variants, fewer grey levels, soft labels."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .checks import check_images, check_int, check_number

MNIST_VARIANTS = {"mnist": "MNIST", "fashion": "FashionMNIST", "emnist-letters": "EMNIST"}  # -> torchvision's class
# How many images MNIST itself has -> its part, and the SHA-256 of the files of its images and of its labels, unpacked
MNIST_FILES = {
    60_000: (
        "training", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    10_000: (
        "test", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
MOST_LEVELS = 2**16
SAMPLE = Path(__file__).parent / "sample"


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
    missing (EMNIST is an archive of 560 MB). Files of your own in MNIST's format may stand there instead, of any other
    number of images than MNIST has: as many as those are compared with MNIST's own files, by SHA-256.

    variant: "mnist", "fashion" (ten classes each) or "emnist-letters" (26 classes, A is 0; turned upright).
    Returns uint8 images `(N, 1, 28, 28)` with 256 levels and integer classes `(N,)`.
    Raises ValueError for an unknown variant, damaged files, and the test files in the place of the training files,
    FileNotFoundError where there are neither files nor network.
    """
    from torchvision import datasets

    _check_train(train, '; variant="fashion" chooses the data set')
    if not isinstance(variant, str) or variant not in MNIST_VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(map(repr, MNIST_VARIANTS))}, got {variant!r}")
    kind, folder = getattr(datasets, MNIST_VARIANTS[variant]), data_folder()
    raw, again = folder / kind.__name__ / "raw", "put the right files there, or delete that folder and load again"
    options = {"train": train, "split": "letters"} if variant == "emnist-letters" else {"train": train}
    try:
        found = _open(kind, folder, options)
        images, classes = found.data[:, None].clone(), found.targets.long().clone()
    except FileNotFoundError:
        raise
    except Exception as error:  # torchvision stumbles over a damaged file in many ways
        reason = f"({type(error).__name__}), perhaps after a download that was cut off"
        raise ValueError(f"the files in {raw} cannot be read {reason}: {again}") from None
    if wrong := _mismatch(images, classes, train, variant):
        part = "training" if train else "test"
        raise ValueError(f"the files in {raw} are not the {part} files of {kind.__name__}, since {wrong}: {again}")
    if variant == "emnist-letters":
        images, classes = images.transpose(2, 3).contiguous(), classes - 1  # stored on their side, and counted from 1
    return images, classes


def load_mnist_sample(train: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """The part of MNIST that ships with the package: no download, no network.

    1,000 training or 1,000 test digits: the first 100 of each class, in MNIST's own order.
    Returns uint8 images `(1000, 1, 28, 28)` with 256 levels and integer classes `(1000,)`, as `load_mnist` does.
    Source: Y. LeCun, C. Cortes and C. Burges, under CC BY-SA 3.0.
    """
    _check_train(train)
    path = SAMPLE / f"{'train' if train else 'test'}.png"
    try:
        with Image.open(path) as sheet:
            classes = torch.tensor([int(digit) for digit in sheet.text["classes"]]).view(1000)
            tiles = torch.from_numpy(np.array(sheet)).view(25, 28, 40, 28)  # (rows, H, cols, W)
    except Exception as error:  # Pillow stumbles over a damaged file in many ways
        raise ValueError(f"{path} is damaged ({type(error).__name__}): install the package again") from None
    return tiles.transpose(1, 2).flatten(0, 1)[:, None].contiguous(), classes


def _check_train(train, hint: str = "") -> None:
    if not isinstance(train, bool):
        raise TypeError(f"train must be True or False, got {train!r}{hint}")


def _mismatch(images: torch.Tensor, classes: torch.Tensor, train: bool, variant: str) -> str:
    """Why these cannot be the images `(N, 1, 28, 28)` and labels `(N,)` asked for; nothing if they can."""
    if not len(images) or classes.shape != images.shape[:1]:
        return f"they hold {len(images)} images and {len(classes)} labels"
    if images.dtype != torch.uint8 or images.shape[1:] != (1, 28, 28):
        return f"the images are {'×'.join(map(str, images.shape[2:]))} of {images.dtype}, not 28×28 bytes"
    first, last = (1, 26) if variant == "emnist-letters" else (0, 9)
    low, high = (int(value) for value in classes.aminmax())
    if low < first or high > last:
        return f"the labels are {low} … {high}, not {first} … {last}"
    if variant != "mnist" or len(images) not in MNIST_FILES:
        return ""
    part, *known = MNIST_FILES[len(images)]
    for name, values, digest in zip(("images", "labels"), (images[:, 0], classes.byte()), known, strict=True):
        if _digest(values) != digest:
            return f"the SHA-256 of their {len(images):,} {name} is not that of MNIST's {part} {name}"
    return "" if train == (part == "training") else f"these are MNIST's {part} files"


def _digest(values: torch.Tensor) -> str:
    """The SHA-256 of the file that holds these bytes in MNIST's format: a magic number, the shape, the values."""
    found = hashlib.sha256(struct.pack(f">{1 + values.ndim}I", 0x800 + values.ndim, *values.shape))
    found.update(values.contiguous().numpy())
    return found.hexdigest()


def _open(kind, folder: Path, options: dict):
    """torchvision's data set, downloaded if it is not there."""
    try:
        return kind(folder, **options)
    except RuntimeError as error:
        if "not found" not in str(error):  # torchvision's words for a missing file
            raise
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # torchvision sets none, and would wait for ever on a network that drops packets
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
    """The folder of the data sets: `PIXELCNN_DATA`, or a cache folder in the user's home.

    Raises ValueError where `PIXELCNN_DATA` names a file, and where there is no home.
    """
    named = os.environ.get("PIXELCNN_DATA") or "~/.cache/pixelcnn"
    try:
        folder = Path(named).expanduser()
    except RuntimeError:
        raise ValueError(f"PIXELCNN_DATA must name a folder: there is no home for {named!r} here") from None
    if os.path.isfile(folder):
        raise ValueError(f"PIXELCNN_DATA must name a folder, got the file {folder}")
    return folder


def quantize(images: torch.Tensor, levels: int, source_levels: int = 256) -> torch.Tensor:
    """Integer images of `source_levels` rounded to `levels` even steps: 0 stays 0, the brightest stays the brightest.

    Any shape `(N, C, H, W)`, values in `0 … source_levels-1`; returns the same shape with values in `0 … levels-1`,
    uint8 where they fit. Raises ValueError for values out of range, fewer than 2 levels or more than 65,536.
    """
    levels, source_levels = check_int("levels", levels, 2), check_int("source_levels", source_levels, 2)
    if max(levels, source_levels) > MOST_LEVELS:
        raise ValueError(f"levels and source_levels must be at most {MOST_LEVELS:,}, got {max(levels, source_levels)}")
    check_images(images, source_levels)
    top = source_levels - 1
    table = (2 * torch.arange(source_levels) * (levels - 1) + top) // (2 * top)  # in integers, so halves round up
    return table.to(images.device, torch.uint8 if levels <= 256 else torch.int64)[images.int()]


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
