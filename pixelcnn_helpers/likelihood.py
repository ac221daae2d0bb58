"""How probable a model finds images, in nats and bits per dimension, and Bayes' rule over its classes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch.nn import functional as F

from .checks import check_classes, check_finite, check_images, check_int, check_labels, check_model
from .models import at_least_float32, device_of, evaluating, logits_of

VALUES_AT_ONCE = 16 * 28 * 28  # on a CPU; larger batches take three times as long, since each layer needs new memory


def nats(model, images, labels=None, batch_size=None) -> torch.Tensor:
    """Negative log likelihood of each image, -log p(x), the sum over its pixels and channels (arXiv 1601.06759, eq. 1).

    images: integers `(N, C, H, W)`; labels: float rows `(N, classes)` for a model with classes. batch_size: None takes
    256 on a GPU, and on a CPU as few as fit in its caches, 16 of MNIST's size.
    Returns nats, float64 `(N,)`, on the CPU. The model runs in evaluation mode, in its own precision.
    A level whose logit is -inf is impossible, and an image that holds it has infinite nats.
    Raises ValueError or TypeError for images or labels that do not fit the model, ValueError for logits that are NaN
    or infinite otherwise.
    """
    return torch.cat([losses.flatten(1).double().sum(1) for losses in _losses(model, images, labels, batch_size)])


def pixel_nats(model, images, labels=None, batch_size=None) -> torch.Tensor:
    """Negative log likelihood of each value given the values before it, -log p(x_i | x_<i); their sum is `nats`.

    Arguments and errors as for `nats`. Returns `(N, C, H, W)` on the CPU, in the model's precision, at least float32.
    """
    return torch.cat(list(_losses(model, images, labels, batch_size)))


@torch.no_grad()
def _losses(model, images, labels, batch_size) -> Iterator[torch.Tensor]:
    """The nats of each value, `(B, C, H, W)` on the CPU, batch by batch."""
    channels, levels, classes = check_model(model, wanted="weigh images")
    check_images(images, levels, channels)
    check_labels(labels, len(images), classes)
    device = device_of(model)
    if batch_size is None:
        batch_size = max(1, VALUES_AT_ONCE // images[0].numel()) if device.type == "cpu" else 256
    batch_size = check_int("batch_size", batch_size, 1)
    with evaluating(model):
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].to(device).long()
            rows = None if labels is None else labels[start : start + batch_size].to(device)
            logits = at_least_float32(logits_of(model, batch, rows))
            check_finite(logits.amax(1))
            yield F.cross_entropy(logits, batch, reduction="none").cpu()


def bits_per_dim(model, images, labels=None, batch_size=None) -> float:
    """Mean negative log likelihood over all images in bits per dimension (pixel and channel): `nats / (C·H·W·log 2)`.

    Arguments and errors as for `nats`.
    """
    return nats(model, images, labels, batch_size).mean().item() / (images[0].numel() * math.log(2))


def class_nats(model, images, batch_size=None) -> torch.Tensor:
    """Nats of each image under every class, -log p(x|c): float64 `(N, classes)`, on the CPU.

    images: integers `(N, C, H, W)`. It takes one pass over the images for each class. Raises ValueError for a model
    without classes, and otherwise what `nats` raises.
    """
    rows = torch.eye(check_classes(model, wanted="choose among"), dtype=torch.float32)
    check_images(images, model.levels, model.channels)
    return torch.stack([nats(model, images, row.expand(len(images), -1), batch_size) for row in rows], 1)


def class_posterior(model, images, batch_size=None) -> torch.Tensor:
    """The model as a Bayes classifier: log p(x|c) for every class c, and from them p(c|x) with equal priors.

    images: integers `(N, C, H, W)`. Returns probabilities `(N, classes)`, float64, on the CPU: the softmax of the log
    likelihoods that `class_nats` finds.
    Raises ValueError for a model without classes, and for an image that is impossible under every class.
    """
    found = class_nats(model, images, batch_size)
    if found.isinf().all(1).any():
        raise ValueError("images must be possible under some class, got one of probability 0 under every class")
    return (-found).softmax(1)
