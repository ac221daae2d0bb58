"""`measure between`: every way to draw digits between two classes, measured by a judge that took no part."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, replace
from functools import partial

import torch

from ..checkpoint import write_atomically
from ..checks import check_int, check_positive
from ..data import quantize
from ..likelihood import nats, pixel_nats
from ..pretrained import digests, load_pretrained
from ..sampling import SEEDS, image_size, sample
from ..studies.between import (
    APART,
    PAIRS,
    Contrasted,
    MixedClasses,
    leanings,
    pair_label,
    reader_for,
    sample_between,
    steady_reading,
)
from ..studies.datasets import load_dataset
from ..studies.judges import class_probabilities
from . import places
from .recipes import RECIPES
from .train import network_of, trained

BETWEEN = "shortcut-mnist", "conditional-mnist", "between-mnist", "teacher-mnist", "judge-mnist", "neutral-mnist"


def measure_between(count: int = 256) -> dict:
    """Measure every way to draw digits between two classes at weight 0.5, and some of them at eleven weights.

    A point is a way, a pair and a weight, with the `figures_between` of `count` images. For comparison there are real
    digits, half of each class, and pixel averages of two real digits. After a stop, finished points are not repeated.
    """
    judge, neutral = (load_pretrained(name)[0] for name in ("judge-mnist", "neutral-mnist"))
    data = load_dataset("mnist")
    train, test = (quantize(images, neutral.levels) for images in (data.train, data.test))
    of_class = {index: test[data.test_classes == index][:count] for pair in PAIRS for index in pair}
    limits = {pair: nats(neutral, torch.cat([of_class[c] for c in pair])).quantile(0.95).item() for pair in PAIRS}

    def real(a, b, weight, count):
        return torch.cat([of_class[a][: count // 2], of_class[b][: count - count // 2]])

    def mixup(a, b, weight, count):
        return ((1 - weight) * of_class[a] + weight * of_class[b] + 0.5).floor()  # rounds halves up, as `quantize`

    kept, softened = places.CHECKPOINTS / "between.json", places.CHECKPOINTS / "softened.pt"
    what = [count, *(digests().get(name) for name in BETWEEN)]
    try:
        before = json.loads(kept.read_text(encoding="utf-8"))
        goes_on = before["what"] == what
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or it is damaged
        goes_on = False
    if not goes_on:  # points of other weights do not count
        softened.unlink(missing_ok=True)
        before = {"what": what, "points": {}}
        write_atomically(kept, json.dumps(before))
    found, points = before["points"], []
    for name, (draw, everywhere) in {"real digits": (real, False), "pixels averaged": (mixup, True), **ways()}.items():
        for a, b in PAIRS:
            for weight in [k / 10 for k in range(11)] if everywhere else [0.5]:
                key = f"{name}, {a} and {b}, {weight:g}, {count} images"
                if key not in found:
                    began = time.perf_counter()
                    images = draw(a, b, weight, count).to("cpu", torch.uint8)
                    took = time.perf_counter() - began
                    found[key] = {
                        "way": name, "pair": [a, b], "weight": weight, "seconds": round(took, 2),
                        **figures_between(images, a, b, judge, neutral, train, limits[a, b]),
                    }
                    write_atomically(kept, json.dumps(before))
                    print(key, found[key])
                points.append(found[key])
    places.remove(kept, softened)
    likely = {f"{a} {b}": limit for (a, b), limit in limits.items()}
    return {"count": count, "likely": likely, "softened": asdict(softened_recipe()), "points": points}


def figures_between(images, a, b, judge, neutral, train, limit) -> dict[str, list[float]]:
    """Means over images, each with its standard error.

    leaning, on_pair, truly: `leanings` of the judge's votes. nats: under a network that did not make them. likely: the
    share with at most `limit` nats. distance: to the nearest training image, where black against white counts 1.
    """
    leaning, on_pair, truly = leanings(class_probabilities(judge, images, neutral.levels), a, b)
    weighed = nats(neutral, images)
    points, others = (part.flatten(1).float() / (neutral.levels - 1) for part in (images, train))
    told = {
        "leaning": leaning, "on_pair": on_pair, "truly": truly, "nats": weighed, "likely": weighed <= limit,
        "distance": torch.cdist(points, others).min(1).values,
    }
    return {name: [round(value, 4) for value in mean_and_error(values)] for name, values in told.items()}


def mean_and_error(values: torch.Tensor) -> tuple[float, float]:
    """The mean and its standard error; for a share with one success and one failure added, so that it is never 0."""
    n = len(values)
    if values.dtype == torch.bool:
        share = (int(values.sum()) + 1) / (n + 2)
        return values.double().mean().item(), (share * (1 - share) / n) ** 0.5
    return values.double().mean().item(), values.double().std().item() / n**0.5


def softened_recipe():
    return replace(RECIPES["between-mnist"], labels="softened", rounds=0, wanted=0)


def trained_on_softened_labels():
    """`conditional-mnist` after one more epoch, under the teacher's softened readings; once, by its checkpoint."""
    recipe = softened_recipe()
    model = network_of(recipe)
    if trained(model, recipe, load_dataset(recipe.data), places.CHECKPOINTS / "softened.pt") is None:
        raise KeyboardInterrupt
    return model.cpu()


def ways() -> dict[str, tuple]:
    """Ways to draw between two classes: name -> `draw(a, b, weight, count)`, and whether to measure all weights."""
    blogs, ours, between = (load_pretrained(name)[0] for name in BETWEEN[:3])

    def labelled(model):
        return lambda a, b, weight, count: sample_between(model, a, b, weight, count, tries=1)

    return {
        "the blog's network, label mixed": (labelled(blogs), True),
        "two stacks, label mixed": (labelled(ours), True),
        "softened labels, one epoch": (labelled(trained_on_softened_labels()), False),
        "logits mixed": (labelled(MixedClasses(ours, geometric=True)), False),
        "probabilities mixed": (labelled(MixedClasses(ours)), False),
        "steered": (labelled(MixedClasses(ours, restore=0.5)), False),
        "resampled": (partial(resampled, ours), False),
        "against either-or": (labelled(Contrasted(ours, 2.0)), False),
        "turning points": (partial(turning_points, ours), False),
        "candidates": (partial(sample_between, ours), False),
        "self-taught, label mixed": (labelled(between), True),
        "self-taught, candidates": (partial(sample_between, between), True),
    }


@torch.no_grad()
def turning_points(model, a, b, weight=0.5, n=16, seed=0, *, steps=6, reader=None) -> torch.Tensor:
    """Find, by bisection, the label weight at which a reader's verdict changes from class `a` to class `b`.

    Image i keeps the noise of seed `seed + i` in all steps. Returned is the drawing whose reading was nearest to the
    wanted weight. Arguments, result and errors as for `sample_between`.
    """
    label, reader = pair_label(model, a, b, weight), reader_for(model, reader)
    n, steps = check_int("n", n, 1), check_int("steps", steps, 1)
    ends = torch.cat([pair_label(model, a, b, share) for share in (0.0, 1.0)])  # (2, classes)
    low, high, away = torch.zeros(n), torch.ones(n), torch.full((n,), float("inf"))
    best = None
    for _ in range(steps):
        middle = (low + high) / 2
        drawn = sample(model, labels=torch.stack([1 - middle, middle], 1) @ ends, seed=seed)
        read = steady_reading(reader, drawn, model.levels)
        found = (read - label).abs().sum(1) / 2
        closer = (found < away).to(drawn.device)[:, None, None, None]
        best, away = drawn if best is None else torch.where(closer, drawn, best), torch.minimum(away, found)
        turned = (1 - weight) * read[:, b] > weight * read[:, a]
        low, high = torch.where(turned, low, middle), torch.where(turned, middle, high)
    return best


@torch.no_grad()
def resampled(model, a, b, weight=0.5, n=16, seed=0, *, particles=8, blocks=4, width=2.0) -> torch.Tensor:
    """Sequential Monte Carlo: draw some rows, resample the partial images that the network finds undecided, go on.

    Each image has so many particles, drawn under the mixed label. After each block of rows a particle's potential is
    `exp(-(d / width)² / 2)`, d being `log p(x | b) - log p(x | a)` over the rows so far, less the log odds of `weight`;
    the particles are drawn anew in proportion to how much it grew since the last block, at the end one of them.
    Arguments, result and errors as for `sample_between`; width in nats.
    Source: Doucet and Johansen 2009, A Tutorial on Particle Filtering and Smoothing.
    """
    label, n, seed = pair_label(model, a, b, weight), check_int("n", n, 1), check_int("seed", seed, 0)
    particles, blocks = check_int("particles", particles, 1), check_int("blocks", blocks, 1)
    check_positive("width", width)
    height, _ = size = image_size(model)
    if blocks > height:
        raise ValueError(f"blocks must be at most {height}, the rows of an image, got {blocks}")
    odds = math.log(max(weight, 1e-9) / max(1 - weight, 1e-9))
    draws = [torch.Generator().manual_seed((seed + i) % SEEDS) for i in range(n)]
    sides = [pair_label(model, a, b, share).expand(n * particles, -1) for share in (0.0, 1.0)]
    known, before = None, torch.zeros(n, particles, dtype=torch.float64)
    for block in range(blocks):
        end = round(height * (block + 1) / blocks)
        seeds = [(seed + i + APART * (block * particles + k)) % SEEDS for i in range(n) for k in range(particles)]
        images = sample(model, labels=label.expand(n * particles, -1), seed=seeds, known=known)
        of_a, of_b = (pixel_nats(model, images, side)[:, :, :end].flatten(1).double().sum(1) for side in sides)
        potential = (-(((of_a - of_b - odds) / width) ** 2) / 2).view(n, particles)  # its logarithm
        weights = (potential - before).softmax(1)
        chosen = torch.stack([
            torch.multinomial(row, particles if end < height else 1, replacement=True, generator=one)
            for row, one in zip(weights, draws, strict=True)
        ])  # (n, particles), in the end (n, 1)
        images = images.view(n, particles, *images.shape[1:])[torch.arange(n)[:, None], chosen].flatten(0, 1)
        before = potential.gather(1, chosen)
        known = images, (torch.arange(height) < end)[:, None].expand(size)
    return images
