"""Drawing images from a model, one value at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import torch
from tqdm.auto import tqdm

from .caching import incremental
from .checks import check_finite, check_images, check_int, check_labels, check_model, check_number, check_two
from .models import device_of, evaluating, image_size, logits_of

SEEDS = 2**32  # torch's CPU generator uses the lower 32 bits of a seed only
METHODS = ("cached", "guess", "naive")


@torch.no_grad()
def sample(
    model, n=None, labels=None, size=None, *, seed=0, temperature=1.0, known=None, method="cached", start=None,
    progress=False,
) -> torch.Tensor:
    """Draw images, one value after the other, in raster order, channels innermost.

    n: how many images; None takes the number of label rows, seeds or known images, else 1.
    labels: float rows `(n, classes)` for a model with classes. size: `(H, W)`; None takes the model's own.
    seed: image i has its own seed, `seed + i`, or `seed[i]` of a sequence, and so does not depend on its batch.
    temperature: 1 draws from the model, less prefers likely levels, 0 always takes the likeliest.
    known: `(images, mask)`, integers `(n or 1, C, H, W)` and booleans that broadcast to them. Values where the mask is
    true are kept. (An unknown value depends on the known ones before it in raster order only.)

    method: "cached" computes each feature once; for the models of this package and those registered with `incremental`.
    "guess" draws all values in parallel from the current guess, with the same noise, until nothing changes; for any
    model; it begins with `start` `(n, C, H, W)` (None: zeros). "naive" runs the whole network once for every value.
    All three give the same images in float64; in float32 another order of summation may flip a near tie.

    Returns int64 images `(n, C, H, W)` on the model's device. The choice is `argmax(logits + temperature · noise)` with
    the Gumbel noise of the seeds, see `row_noise`.
    Raises ValueError or TypeError for arguments that do not fit the model or one another, TypeError for a model without
    a cached way. A logit of -inf forbids a level; ValueError for logits that are NaN or infinite otherwise.
    Source: Ramachandran et al. 2017, arXiv 1704.06001 (cached); Song et al. 2021, arXiv 2002.03629 (guess).
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}, got {method!r}")
    if method == "guess":
        options = {"seed": seed, "temperature": temperature, "known": known, "start": start, "progress": progress}
        return deque(guesses(model, n, labels, size, **options), maxlen=1).pop()  # keeps the last one only
    if start is not None:
        raise ValueError(f'start must be None, except with method="guess", got one with method={method!r}')

    task = _Task(model, n, labels, size, seed, temperature, known)
    images, mask, some_known = task.images, task.mask, bool(task.mask.any())
    with evaluating(model):
        way = task if method == "naive" else incremental(model, task.labels, len(images), task.size)
        for row, noise in task.noise_by_row(progress):  # noise: (W, C, n, levels)
            way.row(row)
            scores, values = [], []  # of the row: logits with noise, (n, levels) each, and the levels drawn, (n,) each
            places = product(range(task.size[1]), range(task.channels))
            for (col, channel), noise_here in zip(places, noise.flatten(0, 1), strict=True):
                scores.append(way.pixel(col, channel) + noise_here)
                drawn = scores[-1].argmax(1)
                if some_known:
                    drawn = torch.where(mask[:, channel, row, col], images[:, channel, row, col], drawn)
                values.append(drawn)
                way.put(col, channel, drawn)
            images[:, :, row] = torch.stack(values, 1).unflatten(1, (-1, task.channels)).mT  # (n, C, W)
            check_finite(torch.stack(scores).amax(2))
    return images


def naive_sample(
    model, n=None, labels=None, size=None, *, seed=0, temperature=1.0, known=None, progress=False
) -> torch.Tensor:
    """Draw images the textbook way, one pass of the whole network for every value: `sample` with `method="naive"`."""
    options = {"seed": seed, "temperature": temperature, "known": known, "progress": progress}
    return sample(model, n, labels, size, method="naive", **options)


@torch.no_grad()
def guesses(
    model, n=None, labels=None, size=None, *, seed=0, temperature=1.0, known=None, start=None, progress=False
) -> Iterator[torch.Tensor]:
    """The guesses of `method="guess"`, one for each pass of the network; the last one repeats the one before.

    Each pass draws all values in parallel from the guess before, with the noise of the seeds: a fixed-point iteration.
    After pass k at least the first k values are right. So it takes at most one pass more than there are values, and in
    practice far fewer. The noise of all values is in memory at once, as large as the logits of a pass.
    Arguments as for `sample`. Raises ValueError for a model that does not settle: its logits see what comes later.
    """
    task = _Task(model, n, labels, size, seed, temperature, known)
    images = task.images
    if start is not None:
        check_images(start, task.levels, task.channels, name="start")
        if start.shape != images.shape:
            raise ValueError(f"start must have the shape {tuple(images.shape)}, got {tuple(start.shape)}")
        images = torch.where(task.mask, images, start.to(images))
    noise = torch.stack([noise for _, noise in task.noise_by_row()]).permute(3, 4, 2, 0, 1)  # (n, levels, C, H, W)
    most = images[0].numel() + 1
    with evaluating(model), tqdm(desc="guessing", unit="pass", disable=not progress) as bar:
        for _ in range(most):
            score, drawn = (logits_of(model, images, task.labels) + noise).max(1)  # (n, C, H, W)
            check_finite(score)
            drawn = torch.where(task.mask, images, drawn)
            bar.update()
            yield drawn
            if torch.equal(drawn, images):
                return
            images = drawn
    raise ValueError(f"model did not settle after {most} passes, so it cannot be causal: assert_causal shows where")


class _Task:
    """What every way of drawing begins with: checked arguments, the images, the mask of known values, the noise.

    `row`, `pixel` and `put` are the naive way, as those of `incremental`: every `pixel` is a pass of the whole network.
    """

    def __init__(self, model, n, labels, size, seed, temperature, known):
        self.model = model
        self.channels, self.levels, classes = check_model(model)
        given, mask = (None, None) if known is None else check_two("known", known, "(images, mask)")
        if known is not None:
            check_images(given, self.levels, self.channels, name="known[0]")
        self.seeds = _seeds(seed, n, labels, given)
        check_labels(labels, len(self.seeds), classes)
        self.size = image_size(model, size, given)
        self.temperature = min(check_number("temperature", temperature), 1e30)  # more would overflow
        images, mask = _canvas(given, mask, (len(self.seeds), self.channels, *self.size))
        self.known_everywhere = mask.all(0)
        self.device = device_of(model)
        self.images, self.mask = images.to(self.device), mask.to(self.device)
        self.labels = None if labels is None else labels.to(next(model.parameters(), labels))

    def noise_by_row(self, progress: bool = False) -> Iterator[tuple[int, torch.Tensor]]:
        """Each row's number, and its noise times the temperature, `(W, C, n, levels)`."""
        generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        for row in tqdm(range(self.size[0]), desc="sampling", unit="row", disable=not progress):
            noise = row_noise(generators, self.size[1], self.channels, self.levels)
            yield row, noise.to(self.device).mul_(self.temperature)  # float32, also for a model in half precision

    def row(self, row: int) -> None:
        self.now = row

    def pixel(self, col: int, channel: int) -> torch.Tensor:
        if self.known_everywhere[channel, self.now, col]:
            return torch.zeros(())  # whatever is drawn here is not used
        return logits_of(self.model, self.images, self.labels)[:, :, channel, self.now, col]

    def put(self, col: int, channel: int, levels: torch.Tensor) -> None:
        self.images[:, channel, self.now, col] = levels  # the next pass reads them


def row_noise(generators: Sequence[torch.Generator], width: int, channels: int, levels: int) -> torch.Tensor:
    """The Gumbel noise of the next row of each image, from the image's own generator: float32 `(W, C, n, levels)`.

    Call it once for each row, from the top: it draws `torch.rand(width, channels, levels)` from each generator. The
    level that maximises logit + noise is distributed as the softmax of the logits (the Gumbel-max trick).
    """
    uniform = torch.empty(len(generators), width, channels, levels, dtype=torch.float32)
    for one, generator in zip(uniform, generators, strict=True):
        torch.rand(one.shape, generator=generator, out=one)
    return uniform.clamp_min_(1e-37).log_().neg_().log_().neg_().permute(1, 2, 0, 3)


def _seeds(seed, n, labels, given) -> Sequence[int]:
    """One seed per image, and with it the number of images."""
    many = isinstance(seed, list | tuple | range | np.ndarray | torch.Tensor) and getattr(seed, "ndim", 1) > 0
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
        highest = max(seeds)
    else:
        first = check_int("seed", seed, 0)
        seeds = range(first, first + n)
        highest = seeds[-1]
    if highest >= SEEDS:
        raise ValueError(f"seed must be below 2**32 for every image, for torch tells no more apart, got {highest}")
    return seeds


def _canvas(given, mask, shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Images to draw on and the boolean mask of values to keep, both `(n, C, H, W)`."""
    if given is None:
        return torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    mask = torch.as_tensor(mask) if isinstance(mask, np.ndarray) else mask
    if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
        raise TypeError(f"known[1] must be a boolean mask, got {getattr(mask, 'dtype', type(mask).__name__)}")
    try:
        kept = mask.cpu().expand(shape)
        return torch.where(kept, given.long().cpu().expand(shape), 0), kept
    except RuntimeError:
        got = f"images {tuple(given.shape)} and a mask {tuple(mask.shape)}"
        raise ValueError(f"known must fit the images to draw, {shape}, got {got}") from None
