"""What gates and two stacks buy: the network of notebook 04 with each of them left out."""

from __future__ import annotations

import torch
from torch import nn

from ..caching import IncrementalSquare, Pointwise, incremental, inputs_of_levels
from ..checks import check_int
from ..layers import HorizontalConv2d, MaskedConv2d, VerticalConv2d, gate
from ..models import AutoregressiveModel, stores_config


class AblatedBlock(nn.Module):
    """A block with one stack or two, with gates or with ReLU. Of one stack v stays None.

    `forward(v, h, labels)` returns `(v, h, out)`: the stacks after the block, and what goes to the skip connection.
    """

    def __init__(self, features, dilation, classes, two_stacks, gates, residual):
        super().__init__()
        wide = 2 * features if gates else features
        self.activation = gate if gates else torch.relu
        self.vertical = self.link = None
        if two_stacks:
            self.vertical = VerticalConv2d(features, wide, 3, dilation=dilation)
            self.link = nn.Conv2d(wide, wide, 1)
            self.own = HorizontalConv2d(features, wide, 3, dilation=dilation, bias=False)
        else:
            self.own = MaskedConv2d("B", features, wide, 3, dilation=dilation)
        self.residual = MaskedConv2d("B", features, features, 1, bias=False) if residual else None
        self.condition = nn.Linear(classes, wide * (1 + two_stacks), bias=False)

    def forward(self, v, h, labels):
        for_h, *for_v = self.condition(labels)[:, :, None, None].split(self.own.out_channels, 1)
        z = self.own(h) + for_h
        if v is not None:
            v = self.vertical(v)
            z = z + self.link(v)  # the link is taken before the activation
            v = self.activation(v + for_v[0])
        out = self.activation(z)
        return v, h if self.residual is None else h + self.residual(out), out


class AblatedPixelCNN(AutoregressiveModel):
    """`GatedPixelCNN` with classes and levels as vectors, of one stack or two, with gates or with ReLU.

    One stack is masked convolutions, with their blind spot. With both parts it computes what `GatedPixelCNN` does.
    features, blocks, dilations, embedding: as there. Grey images only.
    """

    @stores_config
    def __init__(self, levels=8, features=48, dilations=(1,) * 8, classes=10, embedding=8, two_stacks=True, gates=True):
        super().__init__(1, levels, check_int("classes", classes, 1), check_int("embedding", embedding, 1))
        self.two_stacks, blocks = two_stacks, len(dilations)
        if two_stacks:
            self.vertical = VerticalConv2d(self.inputs, features, 7, first=True)
            self.first = HorizontalConv2d(self.inputs, features, 7, first=True, bias=False)
        else:
            self.first = MaskedConv2d("A", self.inputs, features, 7)
        self.blocks = nn.ModuleList(
            AblatedBlock(features, dilation, classes, two_stacks, gates, residual=block < blocks - 1)
            for block, dilation in enumerate(dilations)
        )
        self.skip = MaskedConv2d("B", blocks * features, features, 1)
        self.hidden = MaskedConv2d("B", features, features, 1)
        self.head = MaskedConv2d("B", features, levels, 1)

    def logits(self, x, labels=None):
        v = self.vertical(x) if self.two_stacks else None
        h = self.first(x) if v is None else self.first(x) + v
        skips = []
        for block in self.blocks:
            v, h, out = block(v, h, labels)
            skips.append(out)
        return self.split_levels(self.head(self.hidden(self.skip(torch.cat(skips, 1)).relu()).relu()))


@incremental.register(AblatedBlock)
class IncrementalAblatedBlock:
    """`row` runs what sees only rows above, `pixel` the rest."""

    def __init__(self, block: AblatedBlock, labels, n, size):
        self.activation, self.link = block.activation, block.link
        self.vertical = None if block.vertical is None else incremental(block.vertical, None, n, size)
        self.own = incremental(block.own, None, n, size)
        self.residual = None if block.residual is None else Pointwise(block.residual)
        self.for_h, *self.for_v = block.condition(labels).split(block.own.out_channels, 1)

    def row(self, row: int, v: torch.Tensor | None) -> torch.Tensor | None:
        """A row of the vertical stack before and after the block, `(W, N, F)`; None where there is one stack."""
        if v is None:
            self.own.row(row)
            return None
        self.vertical.put(row, v)
        v = self.vertical.row(row)
        self.own.row(nn.functional.linear(v, self.link.weight[:, :, 0, 0], self.link.bias))
        return self.activation((v + self.for_v[0]).movedim(2, 1)).movedim(1, 2)

    def pixel(self, col: int) -> torch.Tensor:
        return self.activation(self.own.pixel(col, 0) + self.for_h)  # (N, F)


@incremental.register(AblatedPixelCNN)
class IncrementalAblatedPixelCNN:
    def __init__(self, model: AblatedPixelCNN, labels, n, size):
        self.first, self.two_stacks = incremental(model.first, None, n, size), model.two_stacks
        if model.two_stacks:
            self.first = IncrementalSquare(incremental(model.vertical, None, n, size), self.first)
        self.blocks = [incremental(block, labels, n, size) for block in model.blocks]
        self.skip, self.hidden, self.head = (Pointwise(layer) for layer in (model.skip, model.hidden, model.head))
        self.inputs = inputs_of_levels(model)

    def row(self, row: int) -> None:
        above = self.first.row(row)
        v = above if self.two_stacks else None
        for block in self.blocks:
            v = block.row(row, v)

    def put(self, col: int, channel: int, levels: torch.Tensor) -> None:
        self.first.own[col][channel].copy_(self.inputs[levels])

    def pixel(self, col: int, channel: int) -> torch.Tensor:
        h, skips = self.first.pixel(col, channel), []
        for block in self.blocks:
            block.own.own[col][channel].copy_(h)
            skips.append(block.pixel(col))
            if block.residual is not None:
                h = block.residual.pixel(skips[-1], channel, add=h)
        x = self.skip.pixel(torch.cat(skips, 1), channel).relu()
        return self.head.pixel(self.hidden.pixel(x, channel).relu(), channel)
