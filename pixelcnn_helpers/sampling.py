"""Drawing images from a model, one value at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from tqdm.auto import tqdm

from .checks import (
    check_images,
    check_int,
    check_labels,
    check_logits,
    check_model,
    check_number,
    check_size,
    check_walk,
)
from .models import device_of, evaluating

SEEDS = 2**32  # of torch's generator on a processor: of a larger number it takes the lower bits only
METHODS = ("cached", "guess", "naive")


@torch.no_grad()
def sample(
    model, n=None, labels=None, size=None, *, seed=0, temperature=1.0, known=None, method="cached", start=None,
    progress=False,
) -> torch.Tensor:
    """Draw images, the same as `naive_sample` would for the same seeds, hundreds of times faster.

    method: "cached" keeps the features of earlier pixels, so that each is computed once; for models that offer `walk`.
    "guess" draws all pixels at once from the current guess with the same noise, until nothing changes, beginning with
    `start` `(n, C, H, W)` (None: zeros); for any model. "naive" is `naive_sample`. All are exact: in float64 the images
    are equal, in float32 another order of summation may flip a level where two are almost equally good.

    All else is as in `naive_sample`, arguments, result and errors; also TypeError for a model that offers no cached
    way, ValueError for an unknown method or a `start` without "guess".
    Source: Ramachandran et al. 2017, arXiv 1704.06001 (cached); Song et al. 2021, arXiv 2002.03629 (guess).
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}, got {method!r}")
    if start is not None and method != "guess":
        raise ValueError(f'start must be None, except with method="guess", got one with method={method!r}')
    if method == "naive":
        return naive_sample(
            model, n, labels, size, seed=seed, temperature=temperature, known=known, progress=progress
        )
    if method == "guess":
        passes = guesses(
            model, n, labels, size, seed=seed, temperature=temperature, known=known, start=start, progress=progress
        )
        return deque(passes, maxlen=1).pop()  # the last; those before are let go at once
    task = _Task(model, n, labels, size, seed, temperature, known)
    check_walk(model)

    images, (height, width) = task.images, task.size
    some_known = bool(task.mask.any())
    noise = task.noise_by_pixel()  # (H, W, C, n, levels)
    scale = model.scale(torch.arange(task.levels))  # each level as the network sees it
    with evaluating(model):
        labels = None if task.labels is None else task.labels.to(noise)
        walk = model.walk(labels, len(images), task.size)
        for row in tqdm(range(height), desc="sampling", unit="row", disable=not progress):
            walk.row(row)
            for col in range(width):
                for channel in range(task.channels):
                    drawn = (walk.pixel(col, channel) + noise[row, col, channel]).argmax(1)  # (n, levels) -> (n,)
                    if some_known:
                        here = images[:, channel, row, col]
                        drawn = torch.where(task.mask[:, channel, row, col], here, drawn)
                    images[:, channel, row, col] = drawn
                    walk.put(col, channel, scale[drawn])
    return images


@torch.no_grad()
def guesses(
    model, n=None, labels=None, size=None, *, seed=0, temperature=1.0, known=None, start=None, progress=False
) -> Iterator[torch.Tensor]:
    """The guesses of `method="guess"`, one for each pass of the network; the last repeats the one before: the sample.

    Each draws all pixels in parallel from the guess before, with the noise of the seeds: a fixed-point iteration. After
    pass k at least the first k values are right, so that at most one pass more than there are values is needed, and in
    practice far fewer. ValueError for a model that does not settle by then: its logits see what comes later.
    """
    task = _Task(model, n, labels, size, seed, temperature, known)
    images = task.images
    if start is not None:
        check_images(start, task.levels, task.channels, name="start")
        if start.shape != images.shape:
            raise ValueError(f"start must have the shape {tuple(images.shape)}, got {tuple(start.shape)}")
        images = torch.where(task.mask, images, start.to(images))
    rows = () if task.labels is None else (task.labels,)
    bar = tqdm(desc="guessing", unit="pass", disable=not progress)
    with evaluating(model), bar:
        most = images[0].numel() + 1
        for _ in range(most):
            logits = check_logits(model(images, *rows), images, task.levels)
            drawn = torch.where(task.mask, images, (logits + task.temperature * task.noise).argmax(1))
            bar.update()
            yield drawn
            if torch.equal(drawn, images):
                return
            images = drawn
    raise ValueError(f"model did not settle after {most} passes, so it cannot be causal: assert_causal shows where")


@torch.no_grad()
def naive_sample(
    model, n=None, labels=None, size=None, *, seed=0, temperature=1.0, known=None, progress=False
) -> torch.Tensor:
    """Draw images the textbook way: one pass of the whole network for every value, in raster order, channels innermost.

    n: how many images; None takes the count of label rows, seeds or known images, else 1.
    labels: float rows `(n, classes)` for a model with classes. size: `(H, W)`, None takes the model's own.
    seed: image i has its own seed, `seed + i`, or `seed[i]` of a sequence, so it does not depend on the batch it is in.
    temperature: 1 draws from the model, less prefers likely levels, 0 always takes the likeliest.
    known: `(images, mask)`, integers `(n or 1, C, H, W)` and booleans that broadcast to them; values where the mask is
    true are kept. (An unknown value sees only the known ones before it in raster order.)

    Returns int64 images `(n, C, H, W)` on the model's device. The choice is Gumbel-max with noise drawn beforehand:
    `argmax(logits + temperature · noise)`.
    Raises ValueError or TypeError for arguments that do not fit the model or one another.
    """
    task = _Task(model, n, labels, size, seed, temperature, known)
    images, mask, noise, (height, width) = task.images, task.mask, task.noise, task.size
    rows = () if task.labels is None else (task.labels,)

    with evaluating(model):
        for row in tqdm(range(height), desc="sampling", unit="row", disable=not progress):
            for col in range(width):
                for channel in range(task.channels):
                    known_here, here = mask[:, channel, row, col], images[:, channel, row, col]
                    if known_here.all():
                        continue
                    logits = check_logits(model(images, *rows), images, task.levels)[:, :, channel, row, col]
                    drawn = (logits + task.temperature * noise[:, :, channel, row, col]).argmax(1)
                    images[:, channel, row, col] = torch.where(known_here, here, drawn)
    return images


class _Task:
    """What every way of drawing begins with, checked: the canvas, the mask of known values, the noise."""

    def __init__(self, model, n, labels, size, seed, temperature, known):
        self.channels, self.levels, classes = check_model(model)
        given, mask = _known(known, self.channels, self.levels)
        self.seeds = _seeds(seed, n, labels, given)
        check_labels(labels, len(self.seeds), classes)
        self.size = _size(model, size, given)
        self.temperature = check_number("temperature", temperature)
        self.device = device_of(model)
        if not all(weight.isfinite().all() for weight in model.parameters()):
            raise ValueError("model has weights that are not finite: its training diverged")
        self.weights = next(model.parameters(), torch.zeros((), device=self.device))
        canvas = _canvas(given, mask, (len(self.seeds), self.channels, *self.size))
        self.images, self.mask = (part.to(self.device) for part in canvas)
        self.labels = None if labels is None else labels.to(self.device)

    @cached_property
    def noise(self) -> torch.Tensor:
        """Gumbel noise `(n, levels, C, H, W)`."""
        return gumbel_noise(self.seeds, self.levels, self.channels, self.size).to(self.device)

    def noise_by_pixel(self) -> torch.Tensor:
        """The same noise times the temperature, `(H, W, C, n, levels)`, in the precision of the weights."""
        noise = self.weights.new_empty(*self.size, self.channels, len(self.seeds), self.levels)
        for i, seed in enumerate(self.seeds):  # one at a time: twice all of it would be large
            noise[..., i, :] = gumbel_noise([seed], self.levels, self.channels, self.size)[0].permute(2, 3, 1, 0)
        return noise.mul_(self.temperature)


def gumbel_noise(seeds: Sequence[int], levels: int, channels: int, size: tuple[int, int]) -> torch.Tensor:
    """The noise behind each image, from its own seed: float32 `(N, levels, C, H, W)`, standard Gumbel, on the CPU.

    The level that maximises logit + noise is distributed as the softmax of the logits (Gumbel-max).
    """
    uniform = torch.stack([
        torch.rand(levels, channels, *size, generator=torch.Generator().manual_seed(seed))
        for seed in seeds
    ])
    # in place, since with 256 levels the noise is larger than the images by far
    return uniform.clamp_min_(1e-37).log_().neg_().log_().neg_()


def _seeds(seed, n, labels, given) -> list[int]:
    """One seed per image, and with it the number of images."""
    many = hasattr(seed, "__len__") and not isinstance(seed, str) and getattr(seed, "ndim", 1) > 0
    rows = len(labels) if isinstance(labels, torch.Tensor) and labels.ndim > 0 else 0
    if n is None:
        n = rows or (len(seed) if many else 0) or (0 if given is None else len(given)) or 1
    n = check_int("n", n, 1)
    if rows not in (0, n):
        raise ValueError(f"n must match the rows of labels, got n={n} and {rows} rows")
    if many and len(seed) != n:
        raise ValueError(f"seed must hold one seed per image, got {len(seed)} seeds for {n} images")
    if many:
        seeds = [check_int(f"seed[{i}]", value, 0) for i, value in enumerate(seed)]
    else:
        first = check_int("seed", seed, 0)
        seeds = [first + i for i in range(n)]
    if max(seeds) >= SEEDS:
        raise ValueError(f"seed must be below 2**32, for torch tells no more apart, got {max(seeds)}")
    return seeds


def _size(model, size, given) -> tuple[int, int]:
    if size is None:
        size = getattr(model, "size", None) if given is None else given.shape[-2:]
    if size is None:
        raise ValueError("size must be a pair (height, width), got None, and this model was not trained on any size")
    return check_size(size)


def _known(known, channels: int, levels: int):
    """The images and the mask of `known`, checked as far as they can be alone; None and None without it."""
    if known is None:
        return None, None
    try:
        given, mask = known
    except (TypeError, ValueError):
        raise ValueError(f"known must be a pair (images, mask), got {type(known).__name__}") from None
    check_images(given, levels, channels, name="known[0]")
    mask = torch.as_tensor(mask) if isinstance(mask, np.ndarray) else mask
    if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
        raise TypeError(f"known[1] must be a boolean mask, got {getattr(mask, 'dtype', type(mask).__name__)}")
    return given, mask


def _canvas(given, mask, shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Images to draw on and the boolean mask of values to keep, both `(n, C, H, W)`."""
    if given is None:
        return torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    try:
        kept = mask.cpu().expand(shape)
        return torch.where(kept, given.long().cpu().expand(shape), 0), kept
    except RuntimeError:
        got = f"images {tuple(given.shape)} and a mask {tuple(mask.shape)}"
        raise ValueError(f"known must fit the images to draw, {shape}, got {got}") from None
