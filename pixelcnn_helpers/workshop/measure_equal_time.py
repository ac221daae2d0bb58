"""`measure equal-time`: three networks trained in turns, for the same seconds each."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator

import torch

from ..data import quantize
from ..likelihood import nats
from ..models import GatedPixelCNN
from ..studies.datasets import load_dataset
from ..studies.shortcut import ShortcutPixelCNN
from ..training import Trainer, check_compiler, get_accelerator, same_randomness_after, schedule
from .bench import as_masked_squares
from .data import label_rows
from .recipes import RECIPES, two_stacks

BATCH_SIZE, LEARNING_RATE = 64, 2e-3


def measure_equal_time(minutes: float = 25.0) -> dict:
    """Nats per pixel over seconds of training: our two stacks, the blog's network, and our stacks as masked squares.

    All begin with one seed and get the same batches and the learning rate of our recipes. They take turns, so that
    other load on the machine slows all of them alike. minutes: for each.
    """
    data, device = load_dataset("mnist"), get_accelerator().device
    check_compiler(device)
    with same_randomness_after(device):  # dropout draws random numbers
        torch.manual_seed(0)
        return {
            "minutes": minutes, "batch_size": BATCH_SIZE, "learning_rate": LEARNING_RATE,
            "curves": curves_of_races(data, minutes * 60),
        }


def curves_of_races(data, seconds: float) -> list[dict]:
    """The figures that `race` yields for each network, as JSON: a dictionary each, with a list for every figure."""
    ours = GatedPixelCNN(**two_stacks(classes=10))
    blogs = ShortcutPixelCNN(**RECIPES["shortcut-mnist"].config)
    runners = [
        ("two stacks, half kernels", ours, True),
        ("the blog's network", blogs, True),
        ("two stacks, masked squares", as_masked_squares(copy.deepcopy(ours)), False),
    ]
    precision = get_accelerator().mixed_precision.replace("no", "float32")
    curves = [
        {
            "name": name, "weights": sum(weight.numel() for weight in (blogs if model is blogs else ours).parameters()),
            "how": f"{precision}, channels-last, compiled" if fast else "float32, contiguous, not compiled",
            "seconds": [], "steps": [], "nats_per_pixel": [],
        }
        for name, model, fast in runners
    ]
    races = [race(model, data, seconds, fast) for _, model, fast in runners]
    for turn in zip(*races, strict=True):
        for curve, found in zip(curves, turn, strict=True):
            for key, value in found.items():
                curve[key].append(value)
            print(f"{curve['name']}, {curve['how']}: {found}")
    return curves


def race(model, data, seconds: float, fast: bool, turns: int = 8) -> Iterator[dict]:
    """Train for so many seconds in so many turns; after each turn yield seconds, steps and nats per pixel.

    fast: as our recipes train, channels-last, in the precision that the processor is fast in, compiled; else contiguous
    in float32. The learning rate falls over the seconds as in `fit` over the steps. Compilation counts as training
    time; the measurement on 1,000 images that are not trained on does not.
    """
    trainer = Trainer(model, LEARNING_RATE, compile=fast, fast=fast)
    trained, held_out = slice(None, -2000), slice(-1000, None)
    device, pixels = trainer.device, quantize(data.train, model.levels)
    rows = label_rows(model, data.train_classes)
    images, held, labels, held_labels = (
        part[where].to(device) for part in (pixels, rows) for where in (trained, held_out)
    )
    draws = torch.Generator().manual_seed(0)
    spent, steps = 0.0, 0
    for turn in range(1, turns + 1):
        began = time.perf_counter() - spent
        model.train()
        while spent < seconds * turn / turns:
            batch = torch.randint(len(images), (BATCH_SIZE,), generator=draws).to(device)
            x = images[batch].long()
            loss = trainer.step(schedule(min(spent, seconds), seconds), x, x, labels[batch])
            loss.item()  # waits for a GPU, so that the clock is right
            spent, steps = time.perf_counter() - began, steps + 1
        found = nats(model, held, held_labels).mean().item() / held[0].numel()
        yield {"seconds": round(spent, 1), "steps": steps, "nats_per_pixel": found}
