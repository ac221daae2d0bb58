"""Attacks on a classifier, and on a classifier and a likelihood that guards it, together."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ..checks import check_int, check_number, check_positive, require
from ..models import AutoregressiveModel, device_of, evaluating
from .judges import Classifier, check_floats


def fgsm(classifier: Classifier, images: torch.Tensor, classes: torch.Tensor, strength: float) -> torch.Tensor:
    """Each pixel moved by `strength` in the direction in which the classifier's loss grows.

    images: floats `(N, 1, 28, 28)` in 0 … 1; classes: the right ones, integers `(N,)`. Returns floats in 0 … 1.
    Source: Goodfellow et al. 2015, Explaining and Harnessing Adversarial Examples, arXiv 1412.6572, section 4.
    """
    check_number("strength", strength)
    x, classes = _checked(classifier, images, classes)
    with evaluating(classifier):
        gradient = _gradient(lambda x: F.cross_entropy(classifier(x), classes, reduction="sum"), x)
    return (x + strength * gradient.sign()).clamp(0, 1).to(images)


def pgd(
    classifier: Classifier, images: torch.Tensor, classes: torch.Tensor, strength: float, steps: int = 20,
    seed: int = 0, guard: AutoregressiveModel | None = None, allowed: float = 0.0, weight: float = 1.0,
) -> torch.Tensor:  # fmt: skip
    """Many small steps of FGSM from a random place, never further than `strength` from the image.

    images, classes, strength: as for `fgsm`. Each step moves a pixel by 2.5 · strength / steps.
    guard: a one-channel network without classes whose nats the attack also lowers, as far as they are above `allowed`;
    weight: what one of these nats is worth in nats of the classifier's loss. The nats are those of `relaxed_nats`, so
    count every attack again on quantized images.
    Returns floats in 0 … 1.
    Source: Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks, arXiv 1706.06083.
    """
    strength, steps = check_positive("strength", strength), check_int("steps", steps, 1)
    original, classes = _checked(classifier, images, classes)
    generator = torch.Generator().manual_seed(check_int("seed", seed, 0))
    start = torch.rand(original.shape, generator=generator).to(original) * 2 - 1
    low, high = (original - strength).clamp(min=0), (original + strength).clamp(max=1)
    x = (original + strength * start).clamp(low, high)

    def gained(x):
        loss = F.cross_entropy(classifier(x), classes, reduction="sum")
        if guard is not None:
            loss = loss - weight * (relaxed_nats(guard, x) - allowed).clamp(min=0).sum()
        return loss

    with evaluating(classifier), evaluating(classifier if guard is None else guard):
        for _ in range(steps):
            x = (x + 2.5 * strength / steps * _gradient(gained, x).sign()).clamp(low, high)
    return x.to(images)


def relaxed_nats(model: AutoregressiveModel, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
    """Nats of images between the levels, with a gradient: a pixel between two levels is a mixture of both.

    Its input is the mixture of the two levels' inputs, its cost the mixture of their costs. On the levels themselves
    these are the `nats`.
    images: floats `(N, C, H, W)` in 0 … 1. Returns `(N,)`.
    """
    position = images * (model.levels - 1)
    below = position.detach().floor().clamp(0, model.levels - 2).long()
    share = position - below  # of the level above, 0 … 1
    lower, upper = model.scale(below), model.scale(below + 1)  # (N, C or C·embedding, H, W)
    x = torch.lerp(lower, upper, share.repeat_interleave(lower.shape[1] // share.shape[1], 1))
    logits = model.logits(x, None if labels is None else labels.to(x))
    cost = -logits.log_softmax(1)  # (N, levels, C, H, W)
    costs = (cost.gather(1, level[:, None])[:, 0] for level in (below, below + 1))
    return torch.lerp(*costs, share).flatten(1).sum(1)


def _checked(classifier, images, classes) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and classes on the classifier's device."""
    check_floats(images)
    require(isinstance(classifier, Classifier), "classifier", "be a Classifier", type(classifier).__name__, TypeError)
    require(tuple(classes.shape) == (len(images),), "classes", f"have the shape ({len(images)},)", tuple(classes.shape))
    return images.detach().to(device_of(classifier)), classes.to(device_of(classifier))


def _gradient(loss, x: torch.Tensor) -> torch.Tensor:
    """The gradient of a loss towards its input; weights receive none."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (found,) = torch.autograd.grad(loss(x), x)
    return found
