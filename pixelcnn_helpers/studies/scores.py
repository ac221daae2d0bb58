"""Scores that might tell strange images from digits, and where a classifier looks: a higher score is stranger."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping

import torch
from PIL import Image
from torch import nn

from ..checks import check_images, check_int, require
from ..likelihood import class_nats, pixel_nats
from ..models import device_of, evaluating
from .judges import Classifier, check_classifier, check_floats, class_probabilities

NETWORKS = ("neutral-mnist", "background-mnist", "conditional-mnist", "judge-mnist")


def scores(networks: Mapping[str, nn.Module], images: torch.Tensor, usual: float) -> dict[str, torch.Tensor]:
    """Every score that the networks at hand allow, by its name, each float64 `(N,)`.

    networks: by the name that they ship under, some of `NETWORKS`, "neutral-mnist" at least. images: integers
    `(N, 1, 28, 28)` in 0 … 7. usual: the mean nats of real digits under "neutral-mnist".

        nats                     under "neutral-mnist"
        typicality               how far they are from `usual` (Nalisnick et al. 2019, arXiv 1906.02994, one image)
        nats less complexity     the image's PNG subtracted, in nats (Serrà et al. 2020, arXiv 1909.11480)
        PNG alone                its length, in nats
        nats less background     those of "background-mnist" subtracted (Ren et al. 2019, arXiv 1906.02845)
        nats of the best class   the least over the classes of "conditional-mnist"
        nats where judge looks   each pixel's nats weighted by the `saliency` of "judge-mnist"
        judge's doubt            1 minus its highest probability: a score without any likelihood
    """
    neutral = networks["neutral-mnist"]
    surprise = pixel_nats(neutral, images).double()  # (N, 1, 28, 28)
    nats, png = surprise.flatten(1).sum(1), png_bits(images, neutral.levels) * math.log(2)
    found = {
        "nats": nats, "typicality": (nats - usual).abs(), "nats less complexity": nats - png, "PNG alone": png
    }  # fmt: skip
    if "background-mnist" in networks:
        background = pixel_nats(networks["background-mnist"], images).double()
        found["nats less background"] = nats - background.flatten(1).sum(1)
    if "conditional-mnist" in networks:
        found["nats of the best class"] = class_nats(networks["conditional-mnist"], images).amin(1)
    if "judge-mnist" in networks:
        judge = networks["judge-mnist"]
        looks = saliency(judge, images.float() / (neutral.levels - 1))
        found["nats where judge looks"] = (surprise * looks).flatten(1).sum(1)
        found["judge's doubt"] = 1 - class_probabilities(judge, images, neutral.levels).double().amax(1)
    return found


def png_bits(images: torch.Tensor, levels: int) -> torch.Tensor:
    """The length of each image as an optimised PNG, in bits: float64 `(N,)`.

    images: integers `(N, 1, H, W)` in `0 … levels-1`. At most 16 levels are a palette, which takes 1, 2 or 4 bits to a
    pixel before compression.
    """
    return torch.tensor([8.0 * len(png(image, levels)) for image in images], dtype=torch.float64)


def png(image: torch.Tensor, levels: int) -> bytes:
    """One image, integers `(1, H, W)` in `0 … levels-1`, as an optimised PNG."""
    levels = check_int("levels", levels, 2)
    check_images(image[None], levels, 1)
    require(levels <= 256, "levels", "be at most 256", levels)
    values, buffer = image[0].cpu().to(torch.uint8).numpy(), io.BytesIO()
    picture = Image.fromarray(values)
    if levels <= 16:
        greys = [round(level * 255 / (levels - 1)) for level in range(levels)]
        picture = Image.fromarray(values, "P")
        picture.putpalette([grey for grey in greys for _ in range(3)])
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def saliency(classifier: Classifier, images: torch.Tensor, batch_size: int = 500) -> torch.Tensor:
    """Where a classifier looks: the size of the gradient of its highest log-probability at each pixel.

    images: floats `(N, 1, 28, 28)` in 0 … 1. Returns float64 of that shape, on the CPU, scaled to a mean of 1 in each
    image, so that it can weight the pixels' nats.
    Source: Simonyan et al. 2014, Deep Inside Convolutional Networks, arXiv 1312.6034, section 3.
    """
    check_classifier(classifier, "classifier")
    check_floats(images)
    found = []
    with evaluating(classifier):
        for part in images.split(batch_size):
            x = part.to(device_of(classifier)).detach().requires_grad_()
            best = classifier(x).log_softmax(1).amax(1).sum()
            (gradient,) = torch.autograd.grad(best, x)
            found.append(gradient.abs().double().cpu())
    looks = torch.cat(found)
    mean = looks.mean((1, 2, 3), keepdim=True)
    return torch.where(mean > 0, looks / mean, 1.0)
