"""The full MNIST and its variants, through torchvision: found or downloaded, and checked."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
from pathlib import Path

import torch

from ..data import check_train

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

    check_train(train, '; variant="fashion" chooses the data set')
    if not isinstance(variant, str) or variant not in MNIST_VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(map(repr, MNIST_VARIANTS))}, got {variant!r}")
    kind, folder = getattr(datasets, MNIST_VARIANTS[variant]), data_folder()
    raw, again = folder / kind.__name__ / "raw", "put the right files there, or delete that folder and load again"
    options = {"train": train, "split": "letters"} if variant == "emnist-letters" else {"train": train}
    try:
        found = open_dataset(kind, folder, options, f"{kind.__name__}/raw", "load_digits()")
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


def open_dataset(kind, folder: Path, options: dict, inside: str, instead: str):
    """torchvision's data set, downloaded if it is not there.

    inside: where its files lie in the folder. instead: what needs no download. FileNotFoundError tells of both.
    """
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
            f"set PIXELCNN_DATA to a folder that holds {inside}, go online once, or use {instead}, which needs no "
            "download"
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
