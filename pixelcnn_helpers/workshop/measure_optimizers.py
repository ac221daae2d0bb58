"""`measure optimizers`: Muon against AdamW, each at its own best learning rate."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace

from ..likelihood import bits_per_dim
from ..studies.datasets import load_dataset
from ..studies.intervals import half_width
from ..training import OPTIMIZERS, fit
from .data import as_seen, label_rows
from .recipes import Recipe, two_stacks
from .resumable import Runs
from .train import network_of

BATCH = 16
RATES = {"muon": (1e-3, 2e-3, 4e-3), "adamw": (2e-3, 4e-3, 8e-3)}  # of Muon, what AdamW takes for the other weights
SEEDS = (0, 1, 2)
SMALL = {"levels": 17, "features": 32, "blocks": 4, "first_kernel_size": 5, "classes": 10}
NETWORKS = {  # recipe, images seen
    "conditional-mnist": (Recipe("GatedPixelCNN", two_stacks(classes=10)), 6_400),
    "gated-mnist": (Recipe("GatedPixelCNN", two_stacks(features=64, levels=256, embedding=16)), 3_200),
    "pixelcnn-mnist": (Recipe("PixelCNN", {"levels": 256}), 3_200),
    "8×8 digits": (Recipe("GatedPixelCNN", SMALL, data="digits", held_out=300, compile=False), 16_000),
}


def measure_optimizers() -> dict:
    """Train each of `NETWORKS` by each optimiser for the same number of steps, and compare them on held-out images.

    The held-out images are training images, the recipe's own. The first seed tries three learning rates for each
    optimiser; the best one is used with the other seeds, too. A run that is done is kept in checkpoints/.
    """
    runs, tables = Runs("optimizers"), {}
    for name in NETWORKS:
        tables[name] = {}
        for optimizer in OPTIMIZERS:
            tried = {rate: run(runs, name, optimizer, rate, SEEDS[0]) for rate in RATES[optimizer]}
            best = min(tried, key=tried.get)
            found = [run(runs, name, optimizer, best, seed) for seed in SEEDS]
            tables[name][optimizer] = {"tried": tried, "learning_rate": best, "bits_per_dim": found}
        gained = [a - b for a, b in zip(*(tables[name][one]["bits_per_dim"] for one in ("adamw", "muon")), strict=True)]
        tables[name] |= {"images": NETWORKS[name][1], "gained": statistics.mean(gained), "interval": half_width(gained)}
        print(json.dumps({name: tables[name]}), flush=True)
    runs.remove()
    return {"batch_size": BATCH, "seeds": list(SEEDS), "networks": tables}


def run(runs: Runs, name: str, optimizer: str, rate: float, seed: int) -> float:
    """The bits/dim on held-out images after one training; one that `runs` has is not done again."""
    key = f"{name}, {optimizer}, {rate:g}, {seed}"
    bits = runs.result(key, lambda: trained_bits(name, optimizer, rate, seed))
    print(f"{key}: {bits:.4f} bits/dim", flush=True)
    return bits


def trained_bits(name: str, optimizer: str, rate: float, seed: int) -> float:
    """Train one network, and return its bits/dim on the held-out images."""
    recipe, images = NETWORKS[name]
    data = load_dataset(recipe.data)
    split = len(data.train) - recipe.held_out
    model = network_of(replace(recipe, seed=seed))
    seen, labels = as_seen(recipe, data.train, data.levels), label_rows(model, data.train_classes)
    train, held = (None, None) if labels is None else (labels[:split], labels[split:])
    fit(
        model, seen[:split], train, steps=images // BATCH, batch_size=BATCH, learning_rate=rate, seed=seed,
        optimizer=optimizer, compile=recipe.compile, progress=False,
    )
    return bits_per_dim(model.cpu(), seen[split:], held)
