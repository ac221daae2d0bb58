"""Attacks on a classifier, and on a classifier and a likelihood that guards it, together."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ..checks import check_int, check_model, check_number, check_positive, require
from ..data import quantize
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
        _, gradient = _loss_gradient(classifier, x, classes)
    return (x + strength * gradient.sign()).clamp(0, 1).to(images)


def pgd(
    classifier: Classifier, images: torch.Tensor, classes: torch.Tensor, strength: float, steps: int = 20,
    seed: int = 0, levels: int | None = None,
) -> torch.Tensor:  # fmt: skip
    """Many small steps of FGSM from a random place, never further than `strength` from the image; the best is returned.

    images, classes, strength: as for `fgsm`. Each step moves a pixel by 2.5 · strength / steps.
    levels: None, or how many levels images are rounded to before the classifier sees them. Losses and gradients are
    then those of the rounded image, as if rounding changed nothing (Athalye et al. 2018, arXiv 1802.00420, BPDA).
    Returns floats in 0 … 1.
    Source: Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks, arXiv 1706.06083.
    """
    strength, steps = check_positive("strength", strength), check_int("steps", steps, 1)
    original, classes = _checked(classifier, images, classes)
    generator = torch.Generator().manual_seed(check_int("seed", seed, 0))
    start = torch.rand(original.shape, generator=generator).to(original) * 2 - 1
    low, high = (original - strength).clamp(min=0), (original + strength).clamp(max=1)
    x = (original + strength * start).clamp(low, high)
    best, most = x, torch.full((len(x),), -torch.inf).to(x)
    with evaluating(classifier):
        for _ in range(steps + 1):
            seen = x if levels is None else _seen(x, levels)
            losses, gradient = _loss_gradient(classifier, seen, classes)
            better = losses > most
            best, most = torch.where(better.view(-1, 1, 1, 1), x, best), torch.where(better, losses, most)
            x = (x + 2.5 * strength / steps * gradient.sign()).clamp(low, high)
    return best.to(images)


def evade(
    classifier: Classifier, guard: AutoregressiveModel, images: torch.Tensor, classes: torch.Tensor, strength: float,
    steps: int = 100,
) -> torch.Tensor:  # fmt: skip
    """An attack on a classifier and on a guard, together: fooled at as few nats as possible.

    guard: a one-channel network without classes. Both see images rounded to its levels. images, classes, strength: as
    for `fgsm`. While the classifier is right, a step raises its loss; once it is wrong, a step lowers the guard's nats.
    A step moves the pixel with the largest gradient by strength / 4, and the others in proportion: a sign, as in `pgd`,
    would move every pixel of the background as well, which costs thousands of nats. Gradients go through the rounding
    as in `pgd`; those of the nats are `relaxed_nats`'.
    Returns floats in 0 … 1: of the places where the classifier was wrong, the one with the fewest nats, or the image as
    it was.
    Source: Bryniarski et al. 2022, Evading Adversarial Example Detection Defenses with Orthogonal Projected Gradient
    Descent, arXiv 2106.15023, selective gradients.
    """
    strength, steps = check_positive("strength", strength), check_int("steps", steps, 1)
    check_model(guard, wanted="guard a classifier")
    x, classes = _checked(classifier, images, classes)
    low, high = (x - strength).clamp(min=0), (x + strength).clamp(max=1)
    best, fewest = x, torch.full((len(x),), torch.inf).to(x)
    with evaluating(classifier), evaluating(guard):
        for _ in range(steps + 1):
            seen = _seen(x, guard.levels)
            _, up = _loss_gradient(classifier, seen, classes)
            costs, down = image_gradient(lambda x: relaxed_nats(guard, x), seen)
            with torch.no_grad():
                fooled = classifier(seen).argmax(1) != classes
            better = fooled & (costs < fewest)
            best, fewest = torch.where(better.view(-1, 1, 1, 1), x, best), torch.where(better, costs, fewest)
            step = torch.where(fooled.view(-1, 1, 1, 1), -down, up)
            step = step * torch.where(step > 0, x < high, x > low)  # what cannot move further does not count
            step = step / step.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-20)
            x = (x + strength / 4 * step).clamp(low, high)
    return best.to(images)


def _seen(x: torch.Tensor, levels: int) -> torch.Tensor:
    """Floats in 0 … 1, rounded to so many levels."""
    return rounded(x, levels).to(x) / (levels - 1)


def rounded(images: torch.Tensor, levels: int) -> torch.Tensor:
    """Floats in 0 … 1 as integers in `0 … levels-1`, by way of the 256 levels of a file."""
    return quantize((images * 255).round().to(torch.uint8), levels)


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


def _loss_gradient(classifier, x: torch.Tensor, classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The classifier's loss for each image, `(N,)`, and its gradient."""
    return image_gradient(lambda x: F.cross_entropy(classifier(x), classes, reduction="none"), x)


def image_gradient(loss, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What `loss(x)` is for each image, `(N,)`, and its gradient towards its own image; weights receive none."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        losses = loss(x)
        (gradient,) = torch.autograd.grad(losses.sum(), x)
    return losses.detach(), gradient
