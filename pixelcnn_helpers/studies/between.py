"""Digits between two classes: ways to draw them, and what a judge who had no part in it says of them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..caching import incremental
from ..checks import check_classes, check_int, check_labels, check_number, check_size, check_two
from ..data import soft_label
from ..models import at_least_float32, device_of, on_cpu
from ..pretrained import load_pretrained
from ..sampling import SEEDS, sample
from .judges import check_classifier, class_probabilities

PAIRS = ((1, 7), (3, 8), (4, 9), (5, 6))  # the blog's
NEAR = 0.1  # how far a reading may be from the label for a candidate to be taken
BATCH = 64  # candidates at once; more are hardly cheaper
APART = 1_000_003  # between the seeds of an image's candidates


class MixedClasses(nn.Module):
    """A network with classes whose predictions under single classes are mixed at every pixel, by the label's weights.

    geometric: False mixes probabilities, `log Σ_c w_c p(x_i | x_<i, c)`; True mixes logits, `Σ_c w_c log p(…)`: experts
    multiplied.
    restore: k; the weights at a pixel are `w_c p(x_<i | c)^-k`, normalised. 0 leaves them alone. Above 0 they lean
    towards the class that the pixels so far have spoken against. -1 is Bayes' rule: with probabilities, the mixture of
    whole images `Σ_c w_c p(x | c)`, in which every image is of one class.

    As any model of the series: `sample` draws from it, `nats` weighs with it, rows of labels `(N, classes)` that sum to
    1. It costs one pass of the network for each class with a weight in any row.
    Raises ValueError for a model without classes.
    """

    def __init__(self, model, geometric: bool = False, restore: float = 0.0):
        super().__init__()
        self.classes, self.channels, self.levels = check_classes(model), model.channels, model.levels
        self.model, self.geometric = model, geometric
        self.restore = check_number("restore", restore, -1.0)
        self.size = getattr(model, "size", None)

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Integer images `(N, C, H, W)`, label rows `(N, classes)` -> logits `(N, levels, C, H, W)`."""
        check_labels(labels, len(images), self.classes, values=on_cpu(labels))
        rows, shares = self.spread(labels)
        log_p = at_least_float32(self.model(images.repeat_interleave(shares.shape[1], 0), rows)).log_softmax(1)
        log_p = log_p.unflatten(0, shares.shape)  # (N, K, levels, C, H, W)
        drawn = images.long().to(log_p.device)[:, None, None].expand(-1, shares.shape[1], 1, -1, -1, -1)
        own = log_p.gather(2, drawn)[:, :, 0].movedim(2, 4)  # (N, K, H, W, C), in the order of drawing
        before = own.flatten(2).cumsum(2).view_as(own) - own
        return self.mix(log_p, shares[:, :, None, None, None, None], before.movedim(4, 2)[:, :, None])

    def spread(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Labels `(N, classes)` -> a one-hot row for each of K classes, `(N·K, classes)`; their weights, `(N, K)`."""
        used = labels.sum(0).nonzero()[:, 0]
        rows = torch.eye(self.classes, dtype=labels.dtype, device=labels.device)[used]
        return rows.repeat(len(labels), 1), at_least_float32(labels[:, used].to(device_of(self)))

    def mix(self, log_p: torch.Tensor, shares: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """log p of each level `(N, K, levels, …)`, the weights, and log p of what was drawn before, by class."""
        weights = (shares.log() - self.restore * before).log_softmax(1)
        return (weights.exp() * log_p).sum(1) if self.geometric else (weights + log_p).logsumexp(1)


@incremental.register(MixedClasses)
class IncrementalMixedClasses:
    """The network's incremental way, once for each image under every class of its label."""

    def __init__(self, mixed: MixedClasses, labels, n, size):
        self.mixed, (rows, self.shares) = mixed, mixed.spread(labels)
        self.way = incremental(mixed.model, rows, len(rows), size)
        self.before = torch.zeros_like(self.shares)

    def row(self, row: int) -> None:
        self.way.row(row)

    def pixel(self, col: int, channel: int) -> torch.Tensor:
        log_p = at_least_float32(self.way.pixel(col, channel)).log_softmax(1)
        self.log_p = log_p.unflatten(0, self.shares.shape)  # (N, K, levels)
        return self.mixed.mix(self.log_p, self.shares[:, :, None], self.before[:, :, None])

    def put(self, col: int, channel: int, levels: torch.Tensor) -> None:
        drawn = levels[:, None, None].expand(-1, self.shares.shape[1], 1)
        self.before += self.log_p.gather(2, drawn)[:, :, 0]
        self.way.put(col, channel, levels.repeat_interleave(self.shares.shape[1]))


class Contrasted(MixedClasses):
    """Predictions under the mixed label, leaning away from those of "either the one class or the other".

    `(1 + s) log p(x_i | x_<i, label) - s log p(x_i | x_<i, either)`, where "either" is the mixture of whole images
    `Σ_c w_c p(x | c)` and s the strength: over an image `p(x | label)^(1+s) / p(x | either)^s`, as far as
    pixel by pixel can go. Otherwise as `MixedClasses`; one pass more.
    After classifier-free guidance, Ho and Salimans 2022, arXiv 2207.12598.
    """

    def __init__(self, model, strength: float = 1.0):
        super().__init__(model)
        self.strength = check_number("strength", strength)

    def spread(self, labels):
        rows, shares = super().spread(labels)
        rows = torch.cat([labels[:, None], rows.unflatten(0, shares.shape)], 1)  # (N, 1 + K, classes)
        return rows.flatten(0, 1), F.pad(shares, (1, 0), value=1.0)

    def mix(self, log_p, shares, before):
        weights = (shares[:, 1:].log() + before[:, 1:]).log_softmax(1)  # Bayes' rule: which class it is so far
        either = (weights + log_p[:, 1:]).logsumexp(1)
        return log_p[:, 0] + self.strength * (log_p[:, 0] - either)


@torch.no_grad()
def sample_between(
    model, a: int, b: int, weight: float = 0.5, n: int = 16, seed: int = 0, *, tries: int = 16, reader=None,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Draw digits that a reader finds to be a class `a` by `1 - weight` and a class `b` by `weight`.

    Under a mixed label alone most digits are of one class or of the other. So each image has up to `tries` candidates:
    the first is taken whose reading is within 0.1 of the label (half the sum of the absolute differences), or else the
    nearest of them all (rejection sampling, with the best of n at its end). tries=1 is `sample` with the mixed label,
    and needs no reader.

    reader: a classifier, `teacher-mnist` if None; its `steady_reading` counts. Whoever judges the result should be
    another one. seed: image i and its candidates depend on `seed + i` alone. temperature: as for `sample`.
    Returns int64 images `(n, C, H, W)` on the model's device.
    Raises ValueError or TypeError for classes, weights or a reader that do not fit the model, a diverged reader, or a
    model without size.
    """
    label = pair_label(model, a, b, weight)
    n, seed, tries = check_int("n", n, 1), check_int("seed", seed, 0), check_int("tries", tries, 1)
    options = {"temperature": temperature}
    if tries > 1:
        reader = reader_for(model, reader)
    check_drawn_size(model)
    if tries == 1:
        return sample(model, labels=label.expand(n, -1), seed=seed, **options)

    images, away, tried = None, torch.full((n,), float("inf")), 0
    waiting = torch.arange(n)  # the images that have no candidate near enough yet
    while len(waiting) and tried < tries:
        count = min(tries - tried, max(1, BATCH // len(waiting)))
        seeds = [(seed + i + APART * k) % SEEDS for i in waiting.tolist() for k in range(tried, tried + count)]
        drawn = sample(model, labels=label.expand(len(seeds), -1), seed=seeds, **options)
        images = drawn.new_empty(n, *drawn.shape[1:]) if images is None else images
        read = steady_reading(reader, drawn, model.levels)  # (waiting * count, classes)
        found = ((read - label).abs().sum(1) / 2).view(-1, count)
        near = found <= NEAR
        chosen = torch.where(near.any(1), near.int().argmax(1), found.argmin(1))  # the first near, or the nearest
        rows = torch.arange(len(waiting))
        better = found[rows, chosen] < away[waiting]
        images[waiting[better]] = drawn.view(-1, count, *drawn.shape[1:])[rows, chosen][better]
        away[waiting] = torch.minimum(away[waiting], found[rows, chosen])
        waiting, tried = waiting[away[waiting] > NEAR], tried + count
    return images


def reader_for(model, reader=None, name: str = "reader"):
    """The classifier that reads what a model draws, `teacher-mnist` if None; of as many classes, for such images.

    Raises TypeError for what is no classifier, ValueError for one that does not fit the model.
    """
    if reader is None:
        reader, _ = load_pretrained("teacher-mnist")
    check_classifier(reader, name)
    if reader.classes != model.classes:
        got = f"got one of {reader.classes} classes"
        raise ValueError(f"{name} must know the {model.classes} classes of the model, {got}")
    size = reader.size if getattr(model, "size", None) is None else check_drawn_size(model)
    drawn, wanted = (model.channels, *size), (1, *reader.size)
    if drawn != wanted:
        raise ValueError(f"the model must draw images {wanted}, which the {name} reads, got one that draws {drawn}")
    return reader


def check_drawn_size(model) -> tuple[int, int]:
    """The `(height, width)` of the images that a model draws."""
    size = getattr(model, "size", None)
    if size is None:
        raise ValueError(f"model must have a size, (height, width): set model.size, got {type(model).__name__} without")
    return check_size(size)


def leanings(votes: torch.Tensor, a: int, b: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What votes `(N, classes)` say of images between two classes, three tensors `(N,)`.

    How far they lean, `p_b / (p_a + p_b)`; how much they are on the pair, `p_a + p_b`; and whether they are truly
    between: leaning by 0.2 … 0.8, with more than 0.8 on the pair.
    """
    on_pair = votes[:, a] + votes[:, b]
    leaning = votes[:, b] / on_pair.clamp(min=torch.finfo(votes.dtype).tiny)
    return leaning, on_pair, (leaning >= 0.2) & (leaning <= 0.8) & (on_pair > 0.8)


def steady_reading(reader, images: torch.Tensor, levels: int) -> torch.Tensor:
    """`class_probabilities`, the mean over an image where it is and moved by a pixel in each direction.

    Near the border of two classes a single reading owes much to the reader's whims; the mean, a test-time augmentation,
    owes less.
    """
    places = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
    moved = torch.cat([shifted(images, down, right) for down, right in places])
    return class_probabilities(reader, moved, levels).unflatten(0, (len(places), -1)).mean(0)


def shifted(images: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Images `(N, C, H, W)` moved by whole pixels; from outside comes 0."""
    return F.pad(images, (right, -right, down, -down))


def pair_label(model, a: int, b: int, weight: float) -> torch.Tensor:
    """The label row `(1, classes)` of `1 - weight` of class `a` and `weight` of class `b`, checked."""
    classes = check_classes(model)
    a, b = check_pair((a, b), classes)
    weight = check_number("weight", weight)
    if weight > 1:
        raise ValueError(f"weight must be within 0 … 1, got {weight:g}")
    return soft_label({a: 1 - weight, b: weight}, classes)


def check_pair(pair, classes: int) -> tuple[int, int]:
    """Two different classes of a model that has as many."""
    a, b = check_two("each of pairs", pair, "of classes, (1, 7) say")
    a, b = check_int("a class", a, 0), check_int("a class", b, 0)
    if a == b or max(a, b) >= classes:
        raise ValueError(f"a pair must be two different classes of 0 … {classes - 1}, got {(a, b)}")
    return a, b
