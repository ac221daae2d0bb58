"""Colour: networks that order the channels of a pixel wrongly or not at all, and another head for many levels."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from ..likelihood import pixel_nats
from ..models import AutoregressiveModel, GatedPixelCNN, stores_config


class SeparateChannels(AutoregressiveModel):
    """Three networks, one for each channel, blind to the other two. It draws and scores; the colours do not agree.

    features, blocks and further options: of each `GatedPixelCNN`. The vectors of the levels are the same for all.
    """

    @stores_config
    def __init__(self, channels=3, levels=8, embedding=8, **options):
        super().__init__(channels, levels, embedding=embedding)
        self.networks = nn.ModuleList(headless(levels, embedding, **options) for _ in range(channels))

    def logits(self, x, labels=None):
        parts = x.chunk(self.channels, 1)  # C of (N, embedding, H, W)
        return torch.cat([network.logits(part) for network, part in zip(self.networks, parts, strict=True)], 2)


class BlindToOwnPixel(AutoregressiveModel):
    """One network that sees all channels of the earlier pixels, and none of its own: no order within a pixel.

    Options as for `GatedPixelCNN`, which is built for one channel: without groups, each logit sees all that any sees.
    """

    @stores_config
    def __init__(self, channels=3, levels=8, embedding=8, **options):
        super().__init__(channels, levels, embedding=embedding)
        self.network = headless(channels * levels, channels * embedding, **options)

    def logits(self, x, labels=None):
        return self.split_levels(self.network.logits(x)[:, :, 0])  # (N, C·levels, H, W) -> (N, levels, C, H, W)


def headless(levels: int, inputs: int, **options) -> GatedPixelCNN:
    """A one-channel network that is given vectors of `inputs` numbers at each pixel, in place of its own."""
    network = GatedPixelCNN(levels=levels, embedding=inputs, **options)
    network.embedding = nn.Identity()
    return network


def channel_bits(model, images: torch.Tensor, labels=None) -> torch.Tensor:
    """Bits of each channel, the mean over the pixels of an image: float32 `(N, C)`."""
    return pixel_nats(model, images, labels).mean((2, 3)) / math.log(2)


class LogisticMixture(nn.Module):
    """A head for many levels: the parameters of a few logistic distributions, and the probability of each level.

    Three numbers for each of `mixtures`: its weight, its mean and the logarithm of its scale, both on the scale
    -1 … 1 of the levels. A level has the probability that falls between the halfway marks to its neighbours; the lowest
    and the highest level also get what lies beyond them.
    `forward` maps features `(N, features, H, W)` to log-probabilities `(N, levels, H, W)`, which serve as logits.
    Source: Salimans et al. 2017, PixelCNN++, arXiv 1701.05517, section 2.1.
    """

    def __init__(self, features: int, levels: int, mixtures: int):
        super().__init__()
        self.levels = levels
        self.parameters_of = nn.Linear(features, 3 * mixtures)
        self.parameters_of.bias.data[mixtures : 2 * mixtures] = torch.linspace(-1, 1, mixtures + 2)[1:-1]
        self.parameters_of.bias.data[2 * mixtures :] = -1.5  # narrow at the start, with means spread out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.parameters_of(x.movedim(1, -1)).float()  # (N, H, W, 3·K)
        weight, mean, log_s = x.unflatten(-1, (3, -1)).unbind(-2)  # each (N, H, W, K); s is the width
        marks = (torch.arange(1, self.levels, device=x.device) - 0.5) * 2 / (self.levels - 1) - 1
        z = (marks[:, None] - mean[..., None, :]) * (-log_s.clamp(min=-7))[..., None, :].exp()  # (N, H, W, levels-1, K)
        below = F.pad(z.sigmoid(), (0, 0, 1, 0))
        below = F.pad(below, (0, 0, 0, 1), value=1)  # of all that lies below each mark, 0 … 1
        shares = (below.diff(dim=-2) * weight.softmax(-1)[..., None, :]).sum(-1)  # (N, H, W, levels)
        return (shares + 1e-7).log().movedim(-1, 1)


def with_logistic_head(model: GatedPixelCNN, mixtures: int) -> GatedPixelCNN:
    """A one-channel network, in place, whose softmax head is replaced by a `LogisticMixture`."""
    model.head = LogisticMixture(model.features, model.levels, mixtures)
    return model
