"""A data set as a recipe's network sees it: levels, drawn or mutated pixels, rotation, label rows."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ..data import quantize
from ..studies.datasets import bernoulli, mutated, relit, rotated
from .recipes import Recipe


def as_seen(recipe: Recipe, images: torch.Tensor, levels: int, generator: torch.Generator | None = None):
    """Images as the recipe's network sees them: fewer levels, perhaps mutated, or drawn in black and white.

    generator: None draws by a fixed seed.
    """
    generator = generator or torch.Generator().manual_seed(0)
    if recipe.drawn:
        return bernoulli(quantize(images, 256, levels), generator)
    images = quantize(images, recipe.config["levels"], levels)
    return mutated(images, recipe.mutated, recipe.config["levels"], generator) if recipe.mutated else images


def augmentation(recipe: Recipe, levels: int):
    """What redraws a batch for `fit`, or None: turned or relit in full resolution, then as the network sees it."""
    if not (recipe.rotation or recipe.drawn or recipe.relit or recipe.mutated):
        return None

    def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if recipe.rotation:
            images = rotated(images, recipe.rotation, generator)
        if recipe.relit:
            images = relit(images, generator)
        return as_seen(recipe, images, levels, generator)

    return augment


def label_rows(model, classes: torch.Tensor) -> torch.Tensor | None:
    if model.classes and classes.max() >= model.classes:
        raise ValueError(f"classes must be at least {int(classes.max()) + 1} for these images, got {model.classes}")
    return F.one_hot(classes, model.classes).float() if model.classes else None
