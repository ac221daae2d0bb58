"""Learned mixup: do digits drawn between two classes train a better classifier, where labels are few?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..checks import check_int, check_number, check_positive, require
from ..data import quantize
from ..models import GatedPixelCNN, evaluating
from ..sampling import sample
from ..training import fit
from .attacks import image_gradient
from .datasets import moved
from .relatives import descend
from .uncertainty import calibration

AT_ONCE = 500  # images drawn or scored together, to spare memory
NOISE, PATCH, STRENGTH = 0.3, 10, 0.1  # of 0 … 1; pixels of 28; of 0 … 1: how `disturbed` changes test images

Step = Callable[[torch.Tensor, torch.Tensor, np.random.Generator], tuple[torch.Tensor, torch.Tensor]]


@dataclass
class Labelled:
    """The labelled images of one draw: integers `(N, 1, H, W)`, integer classes `(N,)`, and a few more to choose by."""

    train: torch.Tensor
    classes: torch.Tensor
    validation: torch.Tensor
    validation_classes: torch.Tensor


def draw_labelled(images: torch.Tensor, classes: torch.Tensor, per_class: int, draw: int = 0) -> Labelled:
    """So many labelled images of each class, a fifth of them for validation; the others count as unlabelled.

    Two draws share no image as long as the class has enough: draw k takes the k-th `per_class` of each class, in an
    order that is always the same. After the last full group it begins again, in a new order.
    Raises ValueError for fewer than 5 per class, or a class that has fewer.
    """
    per_class, draw = check_int("per_class", per_class, 5), check_int("draw", draw, 0)
    fewest = int(classes.bincount().min())
    require(per_class <= fewest, "per_class", f"be at most {fewest}, the images of the rarest class", per_class)
    held, train, validation = per_class // 5, [], []
    for one in classes.unique():
        places = (classes == one).nonzero()[:, 0]
        turn, group = divmod(draw, len(places) // per_class)
        order = torch.randperm(len(places), generator=torch.Generator().manual_seed(turn))
        chosen = places[order[group * per_class : (group + 1) * per_class]]
        train.append(chosen[held:])
        validation.append(chosen[:held])
    train, validation = torch.cat(train), torch.cat(validation)
    return Labelled(images[train], classes[train], images[validation], classes[validation])


# The steps that change a batch: floats (B, 1, H, W) in 0 … 1 and label rows (B, classes) -> the same.


def shifts_and_rotations(strength: float = 1.0) -> Step:
    """Each image is rotated by up to 15°, scaled by up to a tenth and moved by up to 7 %, all times `strength`."""
    check_number("strength", strength)

    def step(x, rows, draws):
        angle, scale, across, down = torch.from_numpy(draws.uniform(-strength, strength, (4, len(x)))).to(x)
        return moved(x, angle * math.radians(15), 1 + scale * 0.1, across * 0.14, down * 0.14), rows  # halves of one

    return step


def pixel_mixup(alpha: float = 1.0) -> Step:
    """Each image and its label are mixed with those of another one of the batch, by a weight from Beta(alpha, alpha).

    Source: Zhang et al. 2018, mixup: Beyond Empirical Risk Minimization, arXiv 1710.09412, equation 2.
    """
    check_positive("alpha", alpha)

    def step(x, rows, draws):
        weight = torch.from_numpy(draws.beta(alpha, alpha, len(x))).to(x)
        other = torch.from_numpy(draws.permutation(len(x)))
        return torch.lerp(x[other], x, weight.view(-1, 1, 1, 1)), torch.lerp(rows[other], rows, weight[:, None])

    return step


def drawn_from(images: torch.Tensor, rows: torch.Tensor, share: float = 0.5) -> Step:
    """A share of each batch is replaced by random ones of other images, floats in 0 … 1, with their label rows."""
    require(0 <= check_number("share", share) <= 1, "share", "be in 0 … 1", share)
    require(len(images) == len(rows), "rows", f"be one for each of {len(images)} images", len(rows))

    def step(x, labels, draws):
        count = round(share * len(x))
        chosen = torch.from_numpy(draws.integers(len(images), size=count))
        return torch.cat([images[chosen], x[count:]]), torch.cat([rows[chosen], labels[count:]])

    return step


def small_classifier(size: tuple[int, int], classes: int = 10, width: int = 16, seed: int = 0) -> nn.Sequential:
    """Three convolutions, two of stride 2: floats `(N, 1, H, W)` in 0 … 1 -> logits. H and W are multiples of 4.

    It has group norm, since batch norm would learn the statistics of mixed or drawn images and use them on real ones.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, width, 5, 2, 2), nn.GroupNorm(4, width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1), nn.GroupNorm(4, 2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3, 1, 1), nn.GroupNorm(4, 4 * width), nn.ReLU(),
            nn.Flatten(), nn.Linear(4 * width * (size[0] // 4) * (size[1] // 4), classes),
        )  # fmt: skip


def fit_few(
    net: nn.Module, images: torch.Tensor, rows: torch.Tensor, steps: Sequence[Step] = (), updates: int = 400,
    learning_rate: float = 2e-3, seed: int = 0,
) -> nn.Module:  # fmt: skip
    """Train a classifier in place on the cross entropy with label rows, soft ones included; return it.

    images: floats `(N, 1, H, W)` in 0 … 1; rows `(N, classes)`. steps change each batch of 64, one after the other.
    """
    draws = np.random.default_rng(check_int("seed", seed, 0))

    def loss(batch):
        x, labels = images[batch], rows[batch]
        for step in steps:
            x, labels = step(x, labels, draws)
        return F.cross_entropy(net(x), labels)

    descend(net.train().parameters(), loss, len(images), steps=updates, learning_rate=learning_rate, seed=seed)
    return net.eval()


def scores(net: nn.Module, images: torch.Tensor, classes: torch.Tensor) -> dict[str, float]:
    """What a classifier reaches on floats `(N, 1, H, W)` in 0 … 1, integer classes `(N,)`.

    accuracy, nll (nats) and ece (expected calibration error, 15 bins).
    """
    found = answers(net, images)
    confidence, read = found.exp().max(1)
    right = read == classes
    return {
        "accuracy": right.double().mean().item(), "nll": F.nll_loss(found, classes).item(),
        "ece": calibration(confidence, right).error,
    }  # fmt: skip


def disturbed(net: nn.Module, images: torch.Tensor, classes: torch.Tensor, seed: int = 0) -> dict[str, float]:
    """A classifier's accuracy on disturbed images, floats `(N, 1, H, W)` in 0 … 1; integer classes `(N,)`.

    "noise": a Gaussian of 0.3; "occluded": a black square of 10 pixels of 28 at a random place; "attacked": FGSM by
    0.1. Noise and places depend on the seed, and are the same for every classifier.
    """
    draw = torch.Generator().manual_seed(seed)
    noisy = (images + NOISE * torch.randn(images.shape, generator=draw)).clamp(0, 1)
    changed = {"noise": noisy, "occluded": occluded(images, draw), "attacked": attacked(net, images, classes)}
    return {name: (answers(net, x).argmax(1) == classes).double().mean().item() for name, x in changed.items()}


@torch.no_grad()
def answers(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Log probabilities of the classes, `(N, classes)`."""
    with evaluating(net):
        return torch.cat([net(part) for part in images.split(AT_ONCE)]).log_softmax(1)


def occluded(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A black square in each image, 10/28 of its width, at a random place."""
    height, width = images.shape[2:]
    side = round(PATCH * width / 28)
    top = torch.randint(height - side + 1, (len(images), 1, 1, 1), generator=generator)
    left = torch.randint(width - side + 1, (len(images), 1, 1, 1), generator=generator)
    row, column = torch.arange(height).view(-1, 1), torch.arange(width)
    covered = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)  # (N, 1, H, W)
    return images.masked_fill(covered, 0)


def attacked(net: nn.Module, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """FGSM, as `fgsm` does it, on a classifier for any size."""
    found = []
    with evaluating(net):
        for x, asked in zip(images.split(AT_ONCE), classes.split(AT_ONCE), strict=True):
            _, gradient = image_gradient(lambda x, asked=asked: F.cross_entropy(net(x), asked, reduction="none"), x)
            found.append((x + STRENGTH * gradient.sign()).clamp(0, 1))
    return torch.cat(found)


# The generators, and what they draw.


def fit_generator(
    images: torch.Tensor, rows: torch.Tensor, levels: int, source_levels: int = 256, *, steps: int, config=None,
    pretrained=None, augment: bool = True, batch_size: int = 16, learning_rate: float = 2e-3, seed: int = 0,
    progress: bool = False,
) -> GatedPixelCNN:  # fmt: skip
    """A conditional PixelCNN from few images.

    images: integers `(N, 1, H, W)` of `source_levels`; rows: their labels `(N, classes)`, soft ones included.
    config: arguments of `GatedPixelCNN`, for a network with random weights. pretrained: or a network without classes,
    of the same levels, whose weights it begins with; the layers that read labels begin with random ones.
    augment: shift and rotate the images anew in every step. It spares very few images from being learned by heart, and
    blurs what is drawn.
    Raises ValueError for a pretrained network that does not fit, and what `fit` raises.
    """
    if pretrained is not None:
        got = f"{pretrained.levels} levels and {pretrained.classes} classes"
        fits = pretrained.levels == levels and not pretrained.classes
        require(fits, "pretrained", f"have {levels} levels and no classes", got)
        config = pretrained.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GatedPixelCNN(**((config or {}) | {"levels": levels, "classes": rows.shape[1]}))
    if pretrained is not None:
        model.load_state_dict(pretrained.state_dict(), strict=False)  # it lacks the layers that read labels
    change = shifts_and_rotations()

    def moved_anew(images, generator):
        draws = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        x, _ = change(images.float() / (source_levels - 1), None, draws)
        return (x * (levels - 1)).round().to(torch.uint8)

    if not augment:
        images = quantize(images, levels, source_levels)
    fit(
        model, images, rows, steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed,
        augment=moved_anew if augment else None, progress=progress,
    )  # fmt: skip
    return model.cpu()


def single_rows(count: int, classes: int = 10) -> torch.Tensor:
    """One-hot label rows `(count, classes)`, each class as often as the others."""
    return F.one_hot(torch.arange(count) % classes, classes).float()


def mixed_rows(count: int, classes: int = 10, alpha: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Label rows `(count, classes)` of two different random classes, mixed by a weight from Beta(alpha, alpha)."""
    check_positive("alpha", alpha)
    draws = np.random.default_rng(check_int("seed", seed, 0))
    first = draws.integers(classes, size=count)
    second = (first + draws.integers(1, classes, size=count)) % classes
    weight = torch.from_numpy(draws.beta(alpha, alpha, count)).float()[:, None]
    return torch.lerp(*(F.one_hot(torch.from_numpy(one), classes).float() for one in (first, second)), weight)


def draw(model, rows: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """An image for each label row, by 500: integers `(N, 1, H, W)`; image i has the seed `seed + i`."""
    parts = enumerate(rows.split(AT_ONCE))
    return torch.cat([sample(model, labels=part, seed=seed + AT_ONCE * place) for place, part in parts])


def draw_nearest(model, rows: torch.Tensor, net: nn.Module, tries: int = 4, seed: int = 0) -> torch.Tensor:
    """The same, the best of several candidates: the one that a classifier reads nearest to its label row."""
    tries, away = check_int("tries", tries, 1), torch.full((len(rows),), torch.inf)
    best = None
    for attempt in range(tries):
        drawn = draw(model, rows, seed + attempt * len(rows))
        found = (answers(net, drawn.float() / (model.levels - 1)).exp() - rows).abs().sum(1)
        best = drawn if best is None else torch.where((found < away).view(-1, 1, 1, 1), drawn, best)
        away = torch.minimum(away, found)
    return best
