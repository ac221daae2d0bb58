"""Baselines to compare a model's bits per dimension with."""

from __future__ import annotations

import math

import torch

from ..checks import check_images, check_int


def uniform_bits_per_dim(levels: int) -> float:
    """Bits per dimension of a uniform model, for which all levels are equally likely everywhere: log2(levels)."""
    return math.log2(check_int("levels", levels, 2))


def marginal_bits_per_dim(train: torch.Tensor, images: torch.Tensor, levels: int) -> float:
    """Bits per dimension of independent pixels: each has the histogram of its levels over the training images.

    train, images: integers `(N, C, H, W)` of one size. One is added to every count, so that a level which training
    images lack stays possible. Raises ValueError for values out of range or images of another shape.
    """
    check_images(train, check_int("levels", levels, 2), name="train")
    check_images(images, levels, train.shape[1])
    if train.shape[1:] != images.shape[1:]:
        wanted, got = tuple(train.shape[1:]), tuple(images.shape[1:])
        raise ValueError(f"images must have the shape of train, {wanted}, got {got}")
    pixels = train.flatten(1).long().T  # (pixels, N)
    counts = torch.ones(len(pixels), levels, dtype=torch.float64)
    counts.scatter_add_(1, pixels, torch.ones_like(pixels, dtype=torch.float64))
    log_p = (counts / counts.sum(1, keepdim=True)).log2()  # (pixels, levels)
    return -log_p.gather(1, images.flatten(1).long().T).mean().item()
