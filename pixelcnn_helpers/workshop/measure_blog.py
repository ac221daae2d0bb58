"""`measure blog`: where the norm goes in the blog's block, its dropout and its width, one change at a time."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from ..studies.datasets import Dataset, load_dataset
from ..studies.shortcut import GatedResidual, ShortcutPixelCNN
from .measure_ablation import BATCH, LEVELS, TESTED, learned
from .resumable import Runs

STEPS = 3625  # of 16 images: one epoch of MNIST
CHANGES = {  # of the network of notebook 05: 64 features, dropout 0.5, the norm before the sum
    "as told": {},
    "norm after the sum": {"norm": "after"},
    "no norm in the blocks": {"norm": "none"},
    "no dropout": {"dropout": 0.0},
    "dropout 0.9, as in the code": {"dropout": 0.9},
    "half as wide": {"features": 32},
}


class NormAfterSum(GatedResidual):
    """The block with its norm around the whole: `norm(x + gated)`."""

    def forward(self, x, labels=None, earlier=None):
        return self.norm(x + self.gated(x, labels, earlier))


def measure_blog() -> dict:
    """One training of one seed for each change, kept once it is finished. Nothing is chosen by the test images."""
    data, runs = load_dataset("mnist"), Runs("blog")
    found = {name: runs.result(name, partial(one_training, name, data)) for name in CHANGES}
    runs.remove()
    return {"steps": STEPS, "batch_size": BATCH, "tested": TESTED, "networks": found}


def network(features: int = 64, dropout: float = 0.5, norm: str = "before") -> ShortcutPixelCNN:
    """The blog's network with one thing changed; norm: "before" the sum, "after" it, or "none"."""
    model = ShortcutPixelCNN(levels=LEVELS, features=features, dropout=dropout)
    for i, block in enumerate(model.blocks):
        if norm == "after":
            model.blocks[i] = NormAfterSum(features, model.classes, shortcut=block.shortcut is not None)
        elif norm == "none":
            block.norm = nn.Identity()
    return model


def one_training(name: str, data: Dataset) -> dict:
    torch.manual_seed(0)
    found = learned(network(**CHANGES[name]), data, STEPS)
    print(f"{name}: {found['nats']:.2f} nats", flush=True)
    return found
