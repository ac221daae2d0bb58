"""The second way to run a convolution: one row or one pixel at a time, with what came before kept, so that each
feature is computed once while an image is drawn. The layers say in `walk` how their kernels divide into these two.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Rows:
    """The taps above the own row (in a vertical stack: up to it), asked once for a whole row.

    weight: `(out, in, taps up, k)`; reach: how many rows up the first tap lies.
    """

    def __init__(self, weight, bias, reach, dilation, n, size):
        self.weight, self.bias, self.reach, self.dilation = weight, bias, reach, dilation
        self.span = dilation * (weight.shape[2] - 1) + 1
        kept = weight.new_zeros(n, weight.shape[1], size[0] + reach, size[1])  # `reach` empty rows above the image
        self.kept = kept.contiguous(memory_format=torch.channels_last)

    def put(self, row: int, x: torch.Tensor) -> None:
        """Keep a row of the input, `(N, in, W)`."""
        self.kept[:, :, row + self.reach] = x

    def row(self, row: int) -> torch.Tensor:
        """What these taps add to a row of the output, `(N, out, W)`, from the rows that were put."""
        rows = self.kept[:, :, row : row + self.span]
        return F.conv2d(rows, self.weight, self.bias, padding=(0, self.reach), dilation=self.dilation)[:, :, 0]


class Line:
    """The taps on the own row, asked once for each pixel and, in colour, for each group of its outputs.

    weight: `(out, in, taps)`, masked; reach: how many columns to the left the first tap lies.
    """

    def __init__(self, weight, reach, dilation, n, width, groups):
        self.weights = [part.permute(2, 1, 0).contiguous() for part in weight.chunk(groups)]  # (taps, in, out/groups)
        self.kept = weight.new_zeros(width + reach, n, weight.shape[1])  # `reach` empty columns left of the image
        self.reach, self.dilation, self.span = reach, dilation, dilation * (weight.shape[2] - 1) + 1

    def here(self, col: int) -> torch.Tensor:
        """The input at a pixel, `(N, in)`, to write to."""
        return self.kept[col + self.reach]

    def row(self) -> torch.Tensor:
        """The input of the whole row so far, `(N, in, W)`."""
        return self.kept[self.reach :].permute(1, 2, 0)

    def pixel(self, col: int, group: int, above: torch.Tensor) -> torch.Tensor:
        """One group of outputs at a pixel, `(N, out/groups)`: these taps and what lies `above`."""
        return torch.addbmm(above, self.kept[col : col + self.span : self.dilation], self.weights[group])


class MaskedWalk:
    """A masked square: its rows above and its own row, whose finished pixels become a row above."""

    def __init__(self, rows: Rows | None, line: Line, bias: torch.Tensor, groups: int):
        self.rows, self.line, self.bias, self.groups = rows, line, bias, groups

    def here(self, col):
        return self.line.here(col)

    def row(self, row: int) -> None:
        if self.rows is None:  # a kernel of 1
            above = self.bias[None, :, None].expand(self.line.kept.shape[1], -1, self.line.kept.shape[0])
        else:
            if row > 0:
                self.rows.put(row - 1, self.line.row())
            above = self.rows.row(row)
        self.above = by_pixel(above, self.groups)

    def pixel(self, col: int, group: int) -> torch.Tensor:
        return self.line.pixel(col, group, self.above[group][col])


class Pointwise:
    """A masked 1×1 convolution: at a pixel, one group of its outputs from all its inputs."""

    def __init__(self, weight, bias, groups):
        self.weights = [part.T.contiguous() for part in weight.chunk(groups)]  # (in, out/groups)
        self.biases = None if bias is None else bias.chunk(groups)

    def pixel(self, x: torch.Tensor, group: int) -> torch.Tensor:
        weight = self.weights[group]
        return x @ weight if self.biases is None else torch.addmm(self.biases[group], x, weight)


def by_pixel(x: torch.Tensor, groups: int) -> list[torch.Tensor]:
    """A row `(N, out, W)` for use pixel by pixel: for each group `(W, N, out/groups)`."""
    return [part.permute(2, 0, 1).contiguous() for part in x.chunk(groups, 1)]


def folded(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """The scale and the shift that batch norm applies in evaluation mode, each `(features,)`."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale
