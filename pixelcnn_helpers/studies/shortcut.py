"""The blog's network of notebooks 05 and 06, mended, with its incremental way."""

from __future__ import annotations

import torch
from torch import nn

from ..caching import Pointwise, fold, incremental, inputs_of_levels, scale_and_shift
from ..checks import check_int, check_number
from ..layers import MaskedConv2d, gate
from ..models import AutoregressiveModel, check_features, stores_config, with_ones


class GatedResidual(nn.Module):
    """The blog's block: masked 3×3 to twice the features, the label added, tanh ⊙ σ, batch norm, residual.

    shortcut: the block also receives features of the network's first half. They pass a 1×1 with batch norm to twice the
    features and are averaged with the block's own.
    `forward(x, labels=None, earlier=None)` keeps the shape `(N, features, H, W)`.
    Source: J. Taylor, conditional-pixelcnn (2018), where `squeeze(x)` for `squeeze(aux)` left the shortcut empty.
    """

    def __init__(self, features, classes=0, groups=1, shortcut=False):
        super().__init__()
        self.groups = groups
        self.conv = MaskedConv2d("B", features, 2 * features, 3, groups=groups)
        self.condition = nn.Linear(classes, 2 * features) if classes else None
        self.shortcut = MaskedConv2d("B", features, 2 * features, 1, groups=groups, bias=False) if shortcut else None
        self.shortcut_norm = nn.BatchNorm2d(2 * features) if shortcut else None
        self.norm = nn.BatchNorm2d(features)

    def forward(self, x, labels=None, earlier=None):
        return x + self.norm(self.gated(x, labels, earlier))

    def gated(self, x, labels, earlier):
        """What the gate lets pass, `(N, features, H, W)`."""
        z = self.conv(x)  # (N, 2F, H, W)
        if earlier is not None:
            z = (z + self.shortcut_norm(self.shortcut(earlier))) / 2
        if labels is not None:
            z = z + self.condition(labels)[:, :, None, None]
        return gate(z, self.groups)


class ShortcutPixelCNN(AutoregressiveModel):
    """The blog's network, mended: one masked stack of gated residual blocks with shortcuts between its two halves.

    Input with a channel of ones; a masked 7×7 of type A with batch norm and ReLU; `blocks - 1` blocks in the first
    half and `blocks` in the second, where block i from the start hands its features to block i from the end; one block
    more; dropout of whole channels; a 1×1 to the logits.
    The field reaches 2 · blocks + 3 rows up, 15 with six, and it has a blind spot.
    classes: 0 is unconditional. features split evenly among the channels. dropout: from 0 to below 1.
    Source: J. Taylor, "Conditional PixelCNNs" and its code, conditional-pixelcnn (2018).
    """

    @stores_config
    def __init__(self, channels=1, levels=8, features=64, blocks=6, classes=10, dropout=0.5):
        super().__init__(channels, levels, classes)
        self.half = check_int("blocks", blocks, 1)
        check_features(features, channels)
        if check_number("dropout", dropout) >= 1:
            raise ValueError(f"dropout must be below 1, got {dropout}")
        self.first = MaskedConv2d("A", 2 * channels, features, 7, groups=channels)
        self.norm = nn.BatchNorm2d(features)
        shortcuts = [False] * (blocks - 1) + [True] * blocks + [False]
        self.blocks = nn.ModuleList(GatedResidual(features, classes, channels, shortcut) for shortcut in shortcuts)
        self.dropout = nn.Dropout2d(dropout)
        self.head = MaskedConv2d("B", features, channels * levels, 1, groups=channels)

    def logits(self, x, labels=None):
        x = self.norm(self.first(with_ones(x))).relu()
        earlier = []  # the first half's features; the last ones are used first
        for i, block in enumerate(self.blocks):
            if i < self.half:
                earlier.append(x)
            x = block(x, labels, earlier.pop() if block.shortcut is not None else None)
        return self.split_levels(self.head(self.dropout(x)))


@incremental.register(GatedResidual)
class IncrementalGatedResidual:
    def __init__(self, block: GatedResidual, labels, n, size):
        scale, shift = scale_and_shift(block.norm)
        conv, self.shortcut = block.conv, None
        if block.shortcut is not None:  # the mean of two convolutions: halve both
            conv = fold(conv, torch.full_like(scale, 0.5).repeat(2), torch.zeros_like(shift).repeat(2))
            half_scale, half_shift = (part / 2 for part in scale_and_shift(block.shortcut_norm))
            self.shortcut = Pointwise(fold(block.shortcut, half_scale, half_shift))
        self.conv = incremental(conv, None, n, size)
        features = block.conv.out_channels
        condition = conv.weight.new_zeros(1, features) if labels is None else block.condition(labels)
        self.condition = condition.chunk(block.groups, 1)
        self.norm = list(zip(scale.chunk(block.groups), shift.chunk(block.groups), strict=True))

    def row(self, row: int) -> None:
        self.conv.row(row)

    def pixel(self, col: int, group: int, x: torch.Tensor, earlier: torch.Tensor | None) -> torch.Tensor:
        """One group of the output at a pixel, from that group of the input `x` and all `earlier` features there."""
        z = self.conv.pixel(col, group)
        if self.shortcut is not None:
            z = z + self.shortcut.pixel(earlier, group)
        scale, shift = self.norm[group]
        return x + torch.addcmul(shift, gate(z + self.condition[group]), scale)


@incremental.register(ShortcutPixelCNN)
class IncrementalShortcutPixelCNN:
    def __init__(self, model: ShortcutPixelCNN, labels, n, size):
        self.half = model.half
        self.inputs = with_ones(inputs_of_levels(model))
        self.first = incremental(fold(model.first, *scale_and_shift(model.norm)), None, n, size)
        self.blocks = [incremental(block, labels, n, size) for block in model.blocks]
        self.head = Pointwise(model.head)
        self.features = model.head.weight.new_zeros(n, model.head.in_channels)  # the input of the head, at this pixel
        self.own = self.features.chunk(model.channels, 1)

    def row(self, row: int) -> None:
        self.first.row(row)
        for block in self.blocks:
            block.row(row)

    def put(self, col: int, channel: int, levels: torch.Tensor) -> None:
        self.first.own[col][channel].copy_(self.inputs[levels])

    def pixel(self, col: int, channel: int) -> torch.Tensor:
        x = self.first.pixel(col, channel).relu_()
        earlier = []
        for i, block in enumerate(self.blocks):
            block.conv.own[col][channel].copy_(x)
            if i < self.half:
                earlier.append(block.conv.here[col])
            x = block.pixel(col, channel, x, earlier.pop() if block.shortcut is not None else None)
        self.own[channel].copy_(x)
        return self.head.pixel(self.features, channel)
