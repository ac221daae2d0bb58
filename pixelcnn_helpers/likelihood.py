"""How probable a model finds images, in nats per image and bits per dimension, and baselines to set it against."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch.nn import functional as F

from .checks import check_classes, check_images, check_int, check_labels, check_logits, check_model
from .models import device_of, evaluating

VALUES_AT_ONCE = 16 * 28 * 28  # larger batches make a processor fetch new memory for every layer: three times slower


def nats(
    model, images: torch.Tensor, labels: torch.Tensor | None = None, batch_size: int | None = None
) -> torch.Tensor:
    """Negative log likelihood of each image, -log p(x), the sum over its pixels and channels (arXiv 1601.06759, eq. 1).

    images: integers `(N, C, H, W)`; labels: float rows `(N, classes)` for a model with classes. batch_size: None takes
    256 on a GPU; on a processor so few that their features stay in its caches, 16 of MNIST's size.
    Returns nats, float64 `(N,)`, on the CPU. The model is asked in evaluation mode, in its own precision.
    Raises ValueError or TypeError for images or labels that do not fit the model.
    """
    return torch.cat([losses.flatten(1).double().sum(1) for losses in _losses(model, images, labels, batch_size)])


def pixel_nats(
    model, images: torch.Tensor, labels: torch.Tensor | None = None, batch_size: int | None = None
) -> torch.Tensor:
    """How much each value of an image surprises: -log p(x_i | x_<i), `(N, C, H, W)`, whose sum is `nats`.

    Arguments and errors as for `nats`. Returned on the CPU, in the model's precision, float32 at least.
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
            rows = () if labels is None else (labels[start : start + batch_size].to(device),)
            logits = check_logits(model(batch, *rows), batch, levels)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # half precision cannot sum a softmax
            yield F.cross_entropy(logits, batch, reduction="none").cpu()


def bits_per_dim(
    model, images: torch.Tensor, labels: torch.Tensor | None = None, batch_size: int | None = None
) -> float:
    """Mean negative log likelihood in bits per dimension (pixel and channel): `nats / (C·H·W·log 2)`, over all images.

    Arguments and errors as for `nats`.
    """
    return nats(model, images, labels, batch_size).mean().item() / (images[0].numel() * math.log(2))


def class_posterior(model, images: torch.Tensor, batch_size: int | None = None) -> torch.Tensor:
    """The model as a Bayes classifier: log p(x|c) for every class c, and from them p(c|x) with equal priors.

    images: integers `(N, C, H, W)`. Returns probabilities `(N, classes)`, float64, on the CPU: the softmax of the log
    likelihoods, one pass over the images for each class. Raises ValueError for a model without classes.
    """
    rows = torch.eye(check_classes(model, wanted="choose among"))
    found = [nats(model, images, row.expand(len(images), -1), batch_size) for row in rows]
    return (-torch.stack(found, 1)).softmax(1)


def uniform_bits_per_dim(levels: int) -> float:
    """Bits per dimension of a model that knows nothing: every level equally likely everywhere, log2(levels)."""
    return math.log2(check_int("levels", levels, 2))


def marginal_bits_per_dim(train: torch.Tensor, images: torch.Tensor, levels: int) -> float:
    """Bits per dimension of a model that knows each pixel alone: its histogram of levels over the training images.

    train, images: integers `(N, C, H, W)` of one size. One is added to every count, so that a level never seen in
    training stays possible. Raises ValueError for values out of range or images of another shape.
    """
    check_images(train, check_int("levels", levels, 2), name="train")
    check_images(images, levels, train.shape[1])
    if train.shape[1:] != images.shape[1:]:
        wanted, got = tuple(train.shape[1:]), tuple(images.shape[1:])
        raise ValueError(f"images must have the shape of train, {wanted}, got {got}")
    pixels = train.flatten(1).long().T  # (pixels, N)
    counts = torch.ones(len(pixels), levels, dtype=torch.float64)
    counts.scatter_add_(1, pixels, torch.ones_like(pixels, dtype=torch.float64))
    log_p = (counts / counts.sum(1, keepdim=True)).log2()  # (pixels, levels)
    return -log_p.gather(1, images.flatten(1).long().T).mean().item()
