"""Self-training: a network draws between two classes, and is trained on what a teacher finds undecided."""

from __future__ import annotations

import copy
from itertools import combinations
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from ..checkpoint import write_atomically
from ..likelihood import nats
from ..sampling import SEEDS, sample
from ..studies.between import PAIRS, leanings, shifted, steady_reading
from ..studies.judges import class_probabilities
from ..training import History, fit, get_accelerator

MOST = 10  # drawings for each image that is wanted, before a pair is given up
SHIFT = 2  # pixels by which copies of what was kept are moved
AT_ONCE = 128


def self_taught(
    model, teacher, images, labels, *, rounds: int, wanted: int, checkpoint: Path, validation, **options
) -> History | None:
    """Train a conditional network in place, in rounds, to draw digits between two classes.

    Each round has two parts. First the network draws until it has `wanted` undecided images for each of `PAIRS`, and a
    tenth as many for every other pair (`Sieve.undecided`). Then it is trained. Half of the training images are shifted
    copies of the images of all rounds, with the teacher's probabilities as labels; the other half are real images with
    their own labels.

    images: integers of the model's levels `(N, C, H, W)`; labels: rows `(N, classes)`, one-hot. validation: a pair of
    them. options: as for `fit`.
    checkpoint: beside it lie the images and the weights of each round (`files_of_rounds`). After a stop, a finished
    round is not repeated.
    Returns the history of all rounds, None if interrupted.
    Raises ValueError where validation lacks a class, or where no undecided image was drawn.
    Source: pseudo-labels, D.-H. Lee 2013.
    """
    whole, kept, seed = History(), [], options.pop("seed", 0)
    model.to(get_accelerator().device)  # where `fit` will take it anyway: drawing is faster there
    try:
        sieve = Sieve(copy.deepcopy(model), teacher, *validation)
        for number in range(1, rounds + 1):
            drawn = checkpoint.with_name(f"{checkpoint.stem}.drawn-{number}.safetensors")
            learned = checkpoint.with_name(f"{checkpoint.stem}.round-{number}.pt")
            kept.append(sieve.all_pairs(model, wanted, seed + number, drawn))
            print(f"round {number}: {len(kept[-1][0]):,} images that the teacher cannot decide")
            if not len(kept[-1][0]):
                drawn.unlink()  # it holds no images
            draws = torch.Generator().manual_seed(seed + number)
            real = torch.randperm(len(images), generator=draws)[: len(images) // 2]
            copies = moved_copies(*map(torch.cat, zip(*kept, strict=True)), teacher, model.levels, len(real), draws)
            history = fit(
                model, torch.cat([images[real], copies[0]]), torch.cat([labels[real], copies[1]]),
                validation=validation, checkpoint=learned, seed=seed + number, **options,
            )
            append(whole, history)
            if history.interrupted:
                return None
    except KeyboardInterrupt:
        return None
    return whole


def files_of_rounds(checkpoint: Path) -> list[Path]:
    """The files of images and weights that `self_taught` has written beside a checkpoint."""
    found = (file for kind in ("drawn", "round") for file in checkpoint.parent.glob(f"{checkpoint.stem}.{kind}-*"))
    return [file for file in found if file.suffix != ".lock"]


class Sieve:
    """Selects drawings that a teacher cannot decide and that are as likely as real images.

    model: the network before self-training, which computes the likelihood. images, labels: real ones of every class;
    a drawing is likely enough if its nats are below the 95th percentile of the real images of its pair.
    """

    def __init__(self, model, teacher, images, labels):
        missing = (labels.sum(0) == 0).nonzero()[:, 0].tolist()
        if missing:
            raise ValueError(f"held_out must leave images of every class to compare with, got none of {missing}")
        self.model, self.teacher = model, teacher
        self.classes, self.nats = labels.argmax(1), nats(model, images, labels)

    def all_pairs(self, model, wanted: int, seed: int, path: Path) -> tuple[torch.Tensor, torch.Tensor]:
        """The `undecided` drawings of every pair of classes; a tenth as many for a pair outside `PAIRS`.

        path: a file to which each pair is added when it is finished, and from which a stopped call goes on.
        """
        kept = load_file(path) if path.exists() else {}
        pairs = list(combinations(range(model.classes), 2))
        for index, (a, b) in enumerate(pairs):
            if f"images {a} {b}" not in kept:
                count = wanted if (a, b) in PAIRS else -(-wanted // 10)
                found = self.undecided(model, a, b, count, (seed * 100 + index) * 100_000 % SEEDS)
                kept |= dict(zip((f"images {a} {b}", f"readings {a} {b}"), found, strict=True))
                write_atomically(path, save(kept))
        images, readings = (torch.cat([kept[f"{name} {a} {b}"] for a, b in pairs]) for name in ("images", "readings"))
        return images, readings

    @torch.no_grad()
    def undecided(self, model, a: int, b: int, wanted: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw with labels from three quarters of `a` to three quarters of `b`, and select undecided drawings.

        A drawing is selected if the teacher's `steady_reading` gives the pair more than 0.9 and leans by 0.1 … 0.9, and
        if it is likely enough under the more probable of the two classes. The search ends with `wanted` drawings, or
        after `MOST` times as many attempts. Returns images, uint8 `(K, C, H, W)`, and their readings `(K, classes)`, K
        at most `wanted`.
        """
        limit = self.nats[(self.classes == a) | (self.classes == b)].quantile(0.95)
        images, readings, draws = [], [], torch.Generator().manual_seed(seed)
        for start in range(0, MOST * wanted, AT_ONCE):
            weights = 0.25 + 0.5 * torch.rand(AT_ONCE, generator=draws)
            labels = torch.zeros(AT_ONCE, model.classes)
            labels[:, a], labels[:, b] = 1 - weights, weights
            drawn = sample(model, labels=labels, seed=(seed + start) % SEEDS).to("cpu", torch.uint8)
            read = steady_reading(self.teacher, drawn, model.levels)
            leaning, on_pair, _ = leanings(read, a, b)
            keep = (on_pair > 0.9) & ((leaning - 0.5).abs() < 0.4)
            drawn, read = drawn[keep], read[keep]
            if len(drawn):
                one_hot = torch.eye(model.classes)[[a, b]]
                of_a, of_b = (nats(self.model, drawn, row.expand(len(drawn), -1)) for row in one_hot)
                likely = torch.minimum(of_a, of_b) <= limit
                images.append(drawn[likely])
                readings.append(read[likely])
            if sum(map(len, images)) >= wanted:
                break
        if not images:
            return drawn, read  # none
        return torch.cat(images)[:wanted], torch.cat(readings)[:wanted]


def moved_copies(images, readings, teacher, levels: int, count: int, generator) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` copies, each shifted by up to two pixels and read again; copies that are decided now are left out.

    Raises ValueError without images.
    """
    if not len(images):
        raise ValueError("the network drew nothing that the teacher cannot decide: a larger wanted may help")
    copies, labels = [images], [readings]
    while sum(map(len, copies)) < count:
        moved = shifted(images, *torch.randint(-SHIFT, SHIFT + 1, (2,), generator=generator).tolist())
        read = steady_reading(teacher, moved, levels)
        undecided = read.amax(1) < 0.9
        copies.append(moved[undecided])
        labels.append(read[undecided])
    chosen = torch.randperm(sum(map(len, copies)), generator=generator)[:count]
    return torch.cat(copies)[chosen], torch.cat(labels)[chosen]


def softened(teacher, images: torch.Tensor, levels: int, temperature: float) -> torch.Tensor:
    """A teacher's probabilities as labels `(N, classes)`, its logits divided by a temperature above 1.

    Source: Hinton, Vinyals, Dean 2015, arXiv 1503.02531, equation 1.
    """
    return (class_probabilities(teacher, images, levels).clamp_min(1e-30).log() / temperature).softmax(1)


def append(whole: History, part: History) -> None:
    """Append the history of one round to that of the rounds before."""
    steps, seconds = (whole.steps[-1], whole.seconds[-1]) if whole.steps else (0, 0.0)
    whole.steps += [steps + step for step in part.steps]
    whole.seconds += [seconds + second for second in part.seconds]
    whole.train += part.train
    whole.validation += part.validation
