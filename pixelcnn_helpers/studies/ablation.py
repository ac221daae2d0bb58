"""What gates and two stacks buy: the network of notebook 04 with each of them left out."""

from __future__ import annotations

import torch
from torch import nn

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
