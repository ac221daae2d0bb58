"""Strange images in the format of MNIST, and how well a score tells them from digits."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch.nn import functional as F

from ..checks import check_images, check_int, require
from ..data import load_digits
from .datasets import VALIDATION, load_dataset, load_photo_patches

FONTS = (  # of those that matplotlib brings
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Italic",
    "STIXGeneral", "STIXGeneralBol", "cmr10", "cmss10", "cmti10", "cmtt10",
)  # fmt: skip
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def letters(count: int = 1000, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Capital letters in the format of MNIST, drawn in twelve fonts that matplotlib brings: no download.

    As in MNIST each letter fills a box of 20×20 pixels in an image of 28×28, with its centre of mass in the middle.
    Font, slant (up to 0.2) and rotation (up to 10°) are drawn at random; the classes, A is 0, take turns.
    Returns uint8 images `(count, 1, 28, 28)` with 256 levels and integer classes `(count,)`.
    """
    count, draw = check_int("count", count, 1), np.random.default_rng(check_int("seed", seed, 0))
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [ImageFont.truetype(str(folder / f"{name}.ttf"), 80) for name in FONTS]
    images = np.empty((count, 1, 28, 28), dtype=np.uint8)
    for index, image in enumerate(images):
        font, slant, angle = fonts[draw.integers(len(fonts))], draw.uniform(-0.2, 0.2), draw.uniform(-10, 10)
        sheet = Image.new("L", (160, 160))
        ImageDraw.Draw(sheet).text((80, 80), LETTERS[index % 26], fill=255, font=font, anchor="mm")
        slanted = (1, slant, -80 * slant, 0, 1, 0)  # each row shifted by its distance from the middle one
        sheet = sheet.transform(sheet.size, Image.Transform.AFFINE, slanted, Image.Resampling.BICUBIC)
        image[0] = centred(sheet.rotate(angle, Image.Resampling.BICUBIC))
    return torch.from_numpy(images), torch.arange(count) % 26


def centred(sheet: Image.Image) -> np.ndarray:
    """What is drawn on a black sheet, scaled into 20×20 pixels, its centre of mass in the middle of 28×28: uint8."""
    drawn = sheet.crop(sheet.getbbox())
    scale = 20 / max(drawn.size)
    size = [max(1, round(side * scale)) for side in drawn.size]
    small = np.asarray(drawn.resize(size, Image.Resampling.LANCZOS), dtype=np.float64)
    place = []  # of the upper left corner
    for axis, length in enumerate(small.shape):
        weights = small.sum(1 - axis)
        middle = (weights * (np.arange(length) + 0.5)).sum() / weights.sum()
        place.append(int(np.clip(round(14 - middle), 0, 28 - length)))
    found = np.zeros((28, 28), dtype=np.uint8)
    found[place[0] : place[0] + small.shape[0], place[1] : place[1] + small.shape[1]] = small
    return found


def strange_images(digits: torch.Tensor, seed: int = 0) -> dict[str, torch.Tensor]:
    """Images that are no digits of MNIST, or no longer, by their kind: uint8 `(N, 1, 28, 28)` with 256 levels each.

    digits: real ones, uint8 `(N, 1, 28, 28)`; each kind has as many images. seed: of letters, noise and scrambling.
    """
    check_images(digits, 256, 1)
    require(digits.shape[2:] == (28, 28), "digits", "be images of 28×28 pixels", tuple(digits.shape))
    count, generator = len(digits), torch.Generator().manual_seed(check_int("seed", seed, 0))
    order = torch.rand(count, 784, generator=generator).argsort(1)
    occluded = digits.clone()
    occluded[:, :, 7:21, 7:21] = 0
    small = (load_digits()[0].float() * (255 / 16))[torch.arange(count) % 1797]
    enlarged = F.pad(F.interpolate(small, (20, 20), mode="bilinear").round().to(torch.uint8), (4, 4, 4, 4))
    photos = load_photo_patches(28, 256, seed).train[:-VALIDATION].float()
    patches = photos.mean(1, keepdim=True).round().to(torch.uint8)
    return {
        "small digits, enlarged": enlarged,
        "letters": letters(count, seed)[0],
        "turned by 90°": digits.rot90(dims=(2, 3)),
        "upside down": digits.flip(2),
        "inverted": 255 - digits,
        "centre erased": occluded,
        "scrambled": digits.flatten(1).gather(1, order).view_as(digits),
        "noise": torch.randint(256, digits.shape, generator=generator).to(torch.uint8),
        "blank": torch.zeros_like(digits),
        "grey photographs": patches[torch.arange(count) % len(patches)],
    }


def more_strange_images(count: int) -> dict[str, torch.Tensor]:
    """Test images of Fashion-MNIST and EMNIST letters, as many of each: uint8 `(count, 1, 28, 28)` with 256 levels.

    What is not on this machine is downloaded. Where that fails, one line says so, and the kind is left out.
    """
    count, found = check_int("count", count, 1), {}
    for name, kind in (("fashion", "Fashion-MNIST"), ("emnist-letters", "EMNIST letters")):
        try:
            found[kind] = load_dataset(name).test[:count]
        except FileNotFoundError as error:
            print(f"Going on without {kind}. {error}")
    return found


def auroc(strange: torch.Tensor, real: torch.Tensor) -> tuple[float, float]:
    """The chance that a strange image has a higher score than a real one, and half its 95 % interval.

    strange, real: scores `(M,)` and `(N,)`, at least two each; a tie counts a half. 0.5 is chance, and below it the
    score is wrong more often than right.
    Source of the interval: DeLong et al. 1988, Biometrics 44(3), for a single curve.
    """
    for name, scores in (("strange", strange), ("real", real)):
        require(scores.ndim == 1 and len(scores) >= 2, name, "be at least two scores", tuple(scores.shape))
    difference = strange.double()[:, None] - real.double()  # (M, N)
    wins = (difference > 0).double() + (difference == 0).double() / 2
    variance = wins.mean(1).var() / len(strange) + wins.mean(0).var() / len(real)
    return wins.mean().item(), 1.96 * math.sqrt(variance)
