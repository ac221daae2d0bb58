"""`measure ablation`: what gates, two stacks and a longer sight buy, each alone, at equal live weights and steps."""

from __future__ import annotations

from functools import partial

import torch

from ..data import quantize
from ..likelihood import nats
from ..pretrained import load_pretrained
from ..studies.ablation import AblatedPixelCNN
from ..studies.datasets import Dataset, load_dataset
from ..studies.judges import class_probabilities
from ..studies.mixup import draw
from ..studies.records import live_weights
from ..training import fit
from .data import label_rows
from .measure_likelihood import share
from .measure_relatives import seeds_of
from .recipes import NEAR_AND_FAR
from .resumable import Runs

SEEDS = (0, 1)
STEPS, BATCH = 1812, 16  # half an epoch of MNIST
LEVELS, HELD_OUT, TESTED, DRAWN = 8, 2000, 2000, 1000
SHORT = (1,) * len(NEAR_AND_FAR)
WEIGHTS = 410_000  # live ones, of every arm
ARMS = {  # one change at a time, from the first to the last
    "one stack, ReLU": {"two_stacks": False, "gates": False, "dilations": SHORT},
    "one stack, gates": {"two_stacks": False, "gates": True, "dilations": SHORT},
    "two stacks, ReLU": {"two_stacks": True, "gates": False, "dilations": SHORT},
    "two stacks, gates": {"two_stacks": True, "gates": True, "dilations": SHORT},
    "two stacks, gates, long sight": {"two_stacks": True, "gates": True, "dilations": NEAR_AND_FAR},
}


def measure_ablation() -> dict:
    """Each training is kept once it is finished. Nothing is chosen by the test images."""
    data, runs = load_dataset("mnist"), Runs("ablation")
    found = {arm: seeds_of(runs, arm, SEEDS, partial(one_training, arm, data)) for arm in ARMS}
    runs.remove()
    return {
        "seeds": list(SEEDS), "steps": STEPS, "batch_size": BATCH, "tested": TESTED, "drawn": DRAWN, "arms": found
    }


def network(arm: str) -> AblatedPixelCNN:
    """An arm's network, as wide as `WEIGHTS` allows."""
    features = 4
    while live_weights(AblatedPixelCNN(LEVELS, features + 2, **ARMS[arm])) <= WEIGHTS:
        features += 2
    return AblatedPixelCNN(LEVELS, features, **ARMS[arm])


def one_training(arm: str, data: Dataset, seed: int) -> dict:
    """Nats of test digits, and how many samples the judge reads as asked."""
    torch.manual_seed(seed)
    model = network(arm)
    found = learned(model, data, STEPS, seed)
    asked = torch.arange(10).repeat(DRAWN // 10)
    drawn = draw(model, label_rows(model, asked), seed * DRAWN).cpu()
    judge, _ = load_pretrained("judge-mnist")
    read = share(class_probabilities(judge, drawn, LEVELS).argmax(1) == asked)
    return {"features": model.config["features"], **found, "read_as_asked": read, "samples": drawn[:20]}


def learned(model, data: Dataset, steps: int, seed: int = 0) -> dict:
    """What so many steps of training give a model with classes: its nats of test digits."""
    images, rows = quantize(data.train[:-HELD_OUT], LEVELS), label_rows(model, data.train_classes[:-HELD_OUT])
    history = fit(model, images, rows, steps=steps, batch_size=BATCH, seed=seed)
    test, test_rows = quantize(data.test[:TESTED], LEVELS), label_rows(model, data.test_classes[:TESTED])
    found = nats(model, test, test_rows)
    return {
        "live_weights": live_weights(model), "nats": found.mean().item(),
        "by_image": [round(one, 2) for one in found.tolist()], "seconds": history.seconds[-1],
    }  # fmt: skip
