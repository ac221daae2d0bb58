"""Data sets as the networks are trained on them, and random changes of their images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ..checks import check_images, check_number
from ..data import load_digits, load_mnist_sample
from .mnist import MNIST_VARIANTS, load_mnist

DIGITS_TRAIN = 1497  # of 1,797; the other 300 are held out


@dataclass
class Dataset:
    """Images split into training and test: integers `(N, C, H, W)` in `0 … levels-1`, integer classes `(N,)`."""

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


def load_dataset(name: str) -> Dataset:
    """Training and test images in full resolution: "digits", the bundled ones, "mnist-sample", or an MNIST variant."""
    if name == "digits":
        images, classes = load_digits()
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        train, test = order[:DIGITS_TRAIN], order[DIGITS_TRAIN:]
        return Dataset("bundled digits", 17, images[train], classes[train], images[test], classes[test])
    if name == "mnist-sample":
        return Dataset("sample of MNIST", 256, *load_mnist_sample(True), *load_mnist_sample(False))
    if isinstance(name, str) and name in MNIST_VARIANTS:
        return Dataset(MNIST_VARIANTS[name], 256, *load_mnist(True, name), *load_mnist(False, name))
    known = ", ".join(map(repr, ["digits", "mnist-sample", *MNIST_VARIANTS]))
    raise ValueError(f"name must be one of {known}, got {name!r}")


def rotated(images: torch.Tensor, degrees: float, generator: torch.Generator | None = None) -> torch.Tensor:
    """Each image rotated about its centre by its own random angle, uniform in `-degrees … degrees`.

    images: integers `(N, C, H, W)`; returns the same type and shape. Pixels from outside the image are 0. Interpolated
    levels are rounded, so rotate images of many levels and quantize them afterwards.
    """
    check_images(images, 256, values=False)
    _check_generator(generator)
    degrees, device = check_number("degrees", degrees), images.device
    if degrees > 360:
        raise ValueError(f"degrees must be at most 360, got {degrees:g}")
    if images.shape[-2] != images.shape[-1]:
        raise ValueError(f"images must be square to be turned, got {images.shape[-2]}×{images.shape[-1]} pixels")
    angle = (torch.rand(len(images), device=device, generator=generator) * 2 - 1) * degrees * math.pi / 180
    zero = torch.zeros_like(angle)
    return moved(images.float(), angle, zero + 1, zero, zero).round().to(images.dtype)


def moved(images: torch.Tensor, angle, scale, across, down) -> torch.Tensor:
    """Float images `(N, C, H, W)`, each rotated, scaled and shifted by its own amount; pixels from outside are 0.

    Four tensors `(N,)`: angles in radians, the part of the image that fills the frame, shifts in halves of an image.
    """
    if not isinstance(images, torch.Tensor) or not images.is_floating_point() or images.ndim != 4:
        got = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, torch.Tensor) else type(images).__name__
        raise TypeError(f"images must be floats (N, C, H, W), got {got}")
    for name, values in (("angle", angle), ("scale", scale), ("across", across), ("down", down)):
        if not isinstance(values, torch.Tensor) or tuple(values.shape) != (len(images),):
            got = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
            raise TypeError(f"{name} must be a tensor ({len(images)},), one number for each image, got {got}")
    cos, sin = scale * angle.cos(), scale * angle.sin()
    turns = torch.stack([cos, -sin, across, sin, cos, down], 1).view(-1, 2, 3)
    grid = F.affine_grid(turns, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def bernoulli(images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Black and white drawn afresh: 1 with probability x/255. Integers `(N, C, H, W)` of 256 levels -> uint8 0 or 1."""
    check_images(images, 256)
    _check_generator(generator)
    return torch.bernoulli(images.float() / 255, generator=generator).to(torch.uint8)


def _check_generator(generator) -> None:
    if not isinstance(generator, torch.Generator | None):
        raise TypeError(f"generator must be a torch.Generator or None, got {type(generator).__name__}")
