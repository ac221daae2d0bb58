"""Data sets as the networks are trained on them, and random changes of their images."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from ..checks import check_images, check_int, check_number, require
from ..data import load_digits, load_mnist_sample, quantize
from ..pretrained import load_pretrained
from .cifar import load_cifar10
from .mnist import MNIST_VARIANTS, load_mnist

DIGITS_TRAIN = 1497  # of 1,797; the other 300 are held out
PHOTOS = ("china.jpg", "flower.jpg")
COLUMNS = {"train": ((0, 120), (200, 264)), "validation": ((272, 320),), "test": ((128, 192),)}  # of 320
TRAIN, VALIDATION = 7500, 500  # patches


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
        channels, height, width = self.train.shape[1:]
        return (
            f"{self.name}: {len(self.train):,} training and {len(self.test):,} test images "
            f"of {height}×{width} pixels, {self.levels} {'grey levels' if channels == 1 else 'levels of each colour'}"
        )


def load_dataset(name: str) -> Dataset:
    """Training and test images in full resolution.

    name: "digits", the bundled ones; "mnist-sample"; an MNIST variant; "photos", patches of photographs; "cifar10"; or
    "mnist-codes", MNIST as `vqvae-mnist` encodes it.
    """
    if name == "digits":
        images, classes = load_digits()
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        train, test = order[:DIGITS_TRAIN], order[DIGITS_TRAIN:]
        return Dataset("bundled digits", 17, images[train], classes[train], images[test], classes[test])
    if name == "mnist-sample":
        return Dataset("sample of MNIST", 256, *load_mnist_sample(True), *load_mnist_sample(False))
    if isinstance(name, str) and name in MNIST_VARIANTS:
        return Dataset(MNIST_VARIANTS[name], 256, *load_mnist(True, name), *load_mnist(False, name))
    if name == "photos":
        return load_photo_patches(levels=256)
    if name == "cifar10":
        return Dataset("CIFAR-10", 256, *load_cifar10(True), *load_cifar10(False))
    if name == "mnist-codes":
        return encoded(load_dataset("mnist"))
    known = ", ".join(map(repr, ["digits", "mnist-sample", *MNIST_VARIANTS, "photos", "cifar10", "mnist-codes"]))
    raise ValueError(f"name must be one of {known}, got {name!r}")


def encoded(data: Dataset) -> Dataset:
    """The codes of MNIST's images by `vqvae-mnist`, 7×7 of 32 "levels", which have no order."""
    model, _ = load_pretrained("vqvae-mnist")
    train, test = (model.encode(quantize(x, model.levels)).to(torch.uint8) for x in (data.train, data.test))
    return Dataset(f"codes of {data.name}", model.codes, train, data.train_classes, test, data.test_classes)


def load_photo_patches(size: int = 16, levels: int = 8, seed: int = 0) -> Dataset:
    """Patches of the two photographs that scikit-learn carries, a palace and a flower: no download, no network.

    Each photograph is halved to 213×320 pixels, so that a patch shows more than texture, and cut into parts by column,
    with strips of eight columns between them that nobody sees:

        0 … 119 training | 128 … 191 test | 200 … 263 training | 272 … 319 validation

    The test patches tile their part, row by row. The 8,000 training patches lie at random places; the last 500 of them
    come from the validation part, so that they can be held out. Classes: the photograph, 0 or 1.
    size: of a patch, up to 48. levels: of each channel. seed: of the random places.
    Returns uint8 images `(N, 3, size, size)` with values `0 … levels-1`. Raises ValueError for sizes out of range.
    Source: china.jpg by danielbuechele, flower.jpg by vultilion, both under CC BY 2.0, from scikit-learn.
    """
    size, seed = check_int("size", size, 1), check_int("seed", seed, 0)
    require(size <= 48, "size", "be at most 48, the width of the narrowest part", size)
    generator = torch.Generator().manual_seed(seed)
    photos = [quantize(photo[None], levels)[0] for photo in photographs()]  # (3, H, W)
    train = []
    for part, count in (("train", TRAIN), ("validation", VALIDATION)):
        places = [patches(photo, COLUMNS[part], size, step=1) for photo in photos]  # one patch for each place
        chosen = [one[torch.randint(len(one), (count // len(photos),), generator=generator)] for one in places]
        train.append(torch.stack(chosen, 1).flatten(0, 1))  # the photographs take turns
    test = torch.cat([patches(photo, COLUMNS["test"], size, step=size) for photo in photos])
    train, photo = torch.cat(train), torch.arange(len(photos))
    classes = photo.repeat(len(train) // len(photos)), photo.repeat_interleave(len(test) // len(photos))
    return Dataset("patches of two photographs", levels, train, classes[0], test, classes[1])


def photographs() -> list[torch.Tensor]:
    """The two photographs, halved: uint8 `(3, 213, 320)`."""
    from sklearn.datasets import load_sample_image  # takes a second to import

    halved = [Image.fromarray(load_sample_image(name)).reduce(2) for name in PHOTOS]
    return [torch.from_numpy(np.array(photo)[:213]).permute(2, 0, 1).contiguous() for photo in halved]


def patches(photo: torch.Tensor, columns, size: int, step: int) -> torch.Tensor:
    """All patches `(N, C, size, size)` of some columns of a photograph `(C, H, W)`, row by row, `step` pixels apart."""
    parts = [photo[:, :, first:end].unfold(1, size, step).unfold(2, size, step) for first, end in columns]
    return torch.cat([part.flatten(1, 2).transpose(0, 1) for part in parts])


def colour_digits(images, classes, levels: int = 8, seed: int = 0, source_levels: int = 256) -> torch.Tensor:
    """Grey digits in coloured ink on coloured paper, so that a wrong colour is visible.

    The class decides the hue of the paper, up to a small random shift: the ten hues lie evenly on the colour circle.
    The paper is pale. The ink has the opposite hue and is dark. A grey level mixes the two, in all channels alike.
    images: integers `(N, 1, H, W)` in `0 … source_levels-1`, 17 of the bundled digits, 256 of MNIST; classes: integers
    `(N,)` in 0 … 9. levels: of each channel. seed: of the shifts, one for each image.
    Returns uint8 `(N, 3, H, W)` with values `0 … levels-1`. Raises ValueError for values or classes out of range.
    """
    check_images(images, check_int("source_levels", source_levels, 2), 1)
    require(isinstance(classes, torch.Tensor), "classes", "be a tensor", type(classes).__name__, TypeError)
    require(classes.shape == images.shape[:1], "classes", f"have the shape ({len(images)},)", tuple(classes.shape))
    in_range = not classes.is_floating_point() and bool(((classes >= 0) & (classes < 10)).all())
    require(in_range, "classes", "be integers in 0 … 9", classes.unique().tolist())
    generator = torch.Generator().manual_seed(check_int("seed", seed, 0))
    shift = (torch.rand(len(images), generator=generator) - 0.5) * 0.06
    hues = (classes.cpu() / 10 + shift).tolist()
    paper, ink = (  # (N, 3, 1, 1)
        torch.tensor([colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value) for hue in hues]).view(-1, 3, 1, 1)
        for turn, saturation, value in ((0, 0.4, 1), (0.5, 1, 0.55))
    )
    share = images.cpu() / (source_levels - 1)  # of ink, (N, 1, H, W)
    colours = torch.lerp(paper, ink, share)  # (N, 3, H, W)
    return quantize((colours * 255).round().to(torch.uint8), levels).to(images.device)


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


def mutated(images: torch.Tensor, share: float, levels: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Each value drawn anew with probability `share`, uniformly from all levels (so that some stay as they were).

    images: integers `(N, C, H, W)` in `0 … levels-1`; returns the same type and shape.
    Source: Ren et al. 2019, arXiv 1906.02845, whose code tries shares of 0.1, 0.2 and 0.3.
    """
    check_images(images, levels)
    _check_generator(generator)
    share, where = check_number("share", share), {"device": images.device, "generator": generator}
    require(0 <= share <= 1, "share", "be in 0 … 1", share)
    anew = torch.randint(levels, images.shape, **where).to(images.dtype)
    return torch.where(torch.rand(images.shape, **where) < share, anew, images)


def relit(images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Each photograph's patch mirrored or not, brighter or darker by a quarter, and tinted by a twentieth, at random.

    images: integers `(N, C, H, W)` of 256 levels; returns the same type and shape.
    """
    check_images(images, 256)
    _check_generator(generator)
    count, where = len(images), {"device": images.device, "generator": generator}
    mirrored = torch.rand(count, 1, 1, 1, **where) < 0.5
    gain = 0.75 + 0.5 * torch.rand(count, 1, 1, 1, **where)
    tint = 0.95 + 0.1 * torch.rand(count, images.shape[1], 1, 1, **where)
    shift = 40 * torch.rand(count, 1, 1, 1, **where) - 20
    images = torch.where(mirrored, images.flip(3), images)
    return (images * gain * tint + shift).round().clamp(0, 255).to(images.dtype)


def _check_generator(generator) -> None:
    if not isinstance(generator, torch.Generator | None):
        raise TypeError(f"generator must be a torch.Generator or None, got {type(generator).__name__}")
