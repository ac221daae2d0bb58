"""Self-training: a network draws between classes, a teacher reads, and what it cannot decide is trained on."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch.nn import functional as F

from .between import PAIRS, leanings, steady_reading
from .classifiers import class_probabilities
from .files import write_whole
from .sampling import sample
from .training import History, fit

OFTEN = 16  # so many times as many candidates for each of `PAIRS` as for another pair
SHIFT = 2  # pixels by which copies of what was kept are moved
AT_ONCE = 256


def self_taught(
    model, teacher, images, labels, *, rounds: int, candidates: int, checkpoint: Path, validation, **options
) -> History | None:
    """Train a conditional network in place to draw what a teacher cannot decide, in rounds.

    In each round it draws between the classes (`undecided`, so many candidates for each pair and 16 times as many for
    those of the series). What is kept from all rounds, moved a little and read again, makes up half of what it is then
    trained on, under the teacher's readings as labels; the other half are the real images, under their own.

    images: integers of the model's levels `(N, C, H, W)`; labels: rows `(N, classes)`. options: as for `fit`.
    checkpoint: what each round drew and trained is kept beside it (`files_of_rounds`), and not done again after a stop.
    Returns the history of all rounds, None if interrupted.
    """
    whole, kept, seed = History(), [], options.pop("seed", 0)
    for number in range(1, rounds + 1):
        drawn = checkpoint.with_name(f"{checkpoint.stem}.drawn-{number}.safetensors")
        learned = checkpoint.with_name(f"{checkpoint.stem}.round-{number}.pt")
        if not drawn.exists():
            found = undecided_of_all(model, teacher, candidates, seed + number)
            write_whole(drawn, save(dict(zip(("images", "labels"), found, strict=True))))
        kept.append(load_file(drawn))
        draws = torch.Generator().manual_seed(seed + number)
        real = torch.randperm(len(images), generator=draws)[: len(images) // 2]
        copies = moved_copies(
            *(torch.cat([part[name] for part in kept]) for name in ("images", "labels")),
            teacher, model.levels, len(real), draws,
        )
        history = fit(
            model, torch.cat([images[real], copies[0]]), torch.cat([labels[real], copies[1]]), validation=validation,
            checkpoint=learned, seed=seed + number, **options,
        )
        append(whole, history)
        if history.interrupted:
            return None
        print(f"round {number}: {len(kept[-1]['images']):,} images that the teacher cannot decide")
    return whole


def files_of_rounds(checkpoint: Path) -> list[Path]:
    """What `self_taught` has kept beside a checkpoint so far."""
    return [file for kind in ("drawn", "round") for file in checkpoint.parent.glob(f"{checkpoint.stem}.{kind}-*")]


def undecided_of_all(model, teacher, candidates: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`undecided` of every pair of classes, one after another."""
    found = []
    for index, (a, b) in enumerate(combinations(range(model.classes), 2)):
        count = candidates * (OFTEN if (a, b) in PAIRS else 1)
        found.append(undecided(model, teacher, a, b, count, (seed * 100 + index) * 100_000 % 2**32))
    images, readings = zip(*found, strict=True)
    return torch.cat(images), torch.cat(readings)


@torch.no_grad()
def undecided(model, teacher, a: int, b: int, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw so many images under labels from three quarters `a` to three quarters `b`; keep what no one can decide.

    Kept is what a teacher's `steady_reading` finds on the pair by more than 0.9, and leaning by 0.1 … 0.9.
    Returns images, uint8 `(K, C, H, W)`, and their readings `(K, classes)`.
    """
    images, readings = [], []
    weights = 0.25 + 0.5 * torch.rand(count, generator=torch.Generator().manual_seed(seed))
    labels = torch.zeros(count, model.classes)
    labels[:, a], labels[:, b] = 1 - weights, weights
    for start in range(0, count, AT_ONCE):
        drawn = sample(model, labels=labels[start : start + AT_ONCE], seed=seed + start).to("cpu", torch.uint8)
        read = steady_reading(teacher, drawn, model.levels)
        leaning, on_pair, _ = leanings(read, a, b)
        keep = (on_pair > 0.9) & ((leaning - 0.5).abs() < 0.4)
        images.append(drawn[keep])
        readings.append(read[keep])
    return torch.cat(images), torch.cat(readings)


def moved_copies(images, readings, teacher, levels: int, count: int, generator) -> tuple[torch.Tensor, torch.Tensor]:
    """So many copies, each moved by up to two pixels, with readings of their own; those now decided are left out.

    Raises ValueError if nothing is left to copy.
    """
    if not len(images):
        raise ValueError("the network drew nothing that the teacher cannot decide: more candidates may help")
    copies, labels, (height, width) = [images], [readings], images.shape[-2:]
    while sum(map(len, copies)) < count:
        down, right = torch.randint(2 * SHIFT + 1, (2,), generator=generator).tolist()
        wide = F.pad(images, (SHIFT, SHIFT, SHIFT, SHIFT))[..., down : down + height, right : right + width]
        read = steady_reading(teacher, wide, levels)
        open_ = read.amax(1) < 0.9
        copies.append(wide[open_])
        labels.append(read[open_])
    chosen = torch.randperm(sum(map(len, copies)), generator=generator)[:count]
    return torch.cat(copies)[chosen], torch.cat(labels)[chosen]


def softened(teacher, images: torch.Tensor, levels: int, temperature: float) -> torch.Tensor:
    """A teacher's readings as labels `(N, classes)`, its logits divided by a temperature: doubts become visible."""
    return (class_probabilities(teacher, images, levels).clamp_min(1e-30).log() / temperature).softmax(1)


def append(whole: History, part: History) -> None:
    """Put the history of a further training behind that of those before."""
    steps, seconds = (whole.steps[-1], whole.seconds[-1]) if whole.steps else (0, 0.0)
    whole.steps += [steps + step for step in part.steps]
    whole.seconds += [seconds + second for second in part.seconds]
    whole.train += part.train
    whole.validation += part.validation
