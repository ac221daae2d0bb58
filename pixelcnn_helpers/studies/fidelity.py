"""How good samples are, apart from their likelihood: in a classifier's features, and beside the training images."""

from __future__ import annotations

import torch
from torch import nn

from ..checks import check_int, require
from .relatives import conv_down, descend

ENOUGH = 0.02  # a class counts as drawn from this share of the samples on, a fifth of its fair share among ten


def fit_reader(images: torch.Tensor, classes: torch.Tensor, levels: int, steps: int = 600, seed: int = 0):
    """A small classifier for images of any size: `(features, head)`, two modules.

    images: integers `(N, 1, H, W)`, H and W multiples of 4; classes: integers `(N,)`. `features` maps floats in 0 … 1
    to `(N, 64)`, `head` these to logits.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features = nn.Sequential(*conv_down(1, 32, tuple(images.shape[2:]), 64), nn.ReLU())
        head = nn.Linear(64, int(classes.max()) + 1)
    x = images.float() / (levels - 1)
    weights = [*features.parameters(), *head.parameters()]
    descend(
        weights, lambda batch: nn.functional.cross_entropy(head(features(x[batch])), classes[batch]), len(x),
        steps=steps, seed=seed,
    )  # fmt: skip
    return features, head


def precision_and_coverage(real: torch.Tensor, drawn: torch.Tensor, k: int = 5) -> tuple[float, float]:
    """Two shares, from features `(N, F)` of real images and of samples.

    Around each real image lies a ball that reaches to its k-th nearest real neighbour. Precision is the share of
    samples inside some ball: are they like real ones? Coverage is the share of balls with a sample inside: is every
    kind of real image drawn? The latter rises with the number of samples, so compare equal numbers.
    Sources: Kynkäänniemi et al. 2019, arXiv 1904.06991 (precision); Naeem et al. 2020, arXiv 2002.09797 (coverage).
    """
    require(0 < check_int("k", k, 1) < len(real), "k", f"be below the number of real images, {len(real)}", k)
    radius = torch.cdist(real, real).kthvalue(k + 1, dim=1).values  # the nearest is the image itself
    inside = torch.cdist(drawn, real) <= radius  # (drawn, real)
    return inside.any(1).double().mean().item(), inside.any(0).double().mean().item()


def nearest_distances(images: torch.Tensor, others: torch.Tensor, levels: int, batch_size: int = 500) -> torch.Tensor:
    """How far each image is from the nearest of the others, `(N,)`: root mean square over pixels, black to white is 1.

    Integers `(N, C, H, W)` in `0 … levels-1`. 0 is an exact copy.
    """
    flat, onto = (x.flatten(1).float() / (levels - 1) for x in (images, others))
    nearest = torch.cat([torch.cdist(part, onto).amin(1) for part in flat.split(batch_size)])
    return nearest / flat.shape[1] ** 0.5


def classes_drawn(read: torch.Tensor, classes: int = 10) -> int:
    """How many classes have at least 2 % of the samples. read: the class of each sample, integers `(N,)`."""
    return int((read.bincount(minlength=classes) >= ENOUGH * len(read)).sum())
