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
    `here[col]` is the input at a pixel, `(N, in)`, and `own[col][group]` one group of it, both to write to.
    """

    def __init__(self, weight, reach, dilation, n, width, groups):
        self.weights = [part.permute(2, 1, 0).contiguous() for part in weight.chunk(groups)]  # (taps, in, out/groups)
        kept = weight.new_zeros(width + reach, n, weight.shape[1])  # `reach` empty columns left of the image
        self.image = kept[reach:]  # (W, N, in)
        span = dilation * (weight.shape[2] - 1) + 1
        # views made once: making one costs as much as a small product
        self.seen = [kept[col : col + span : dilation] for col in range(width)]  # (taps, N, in) under the taps
        self.here = self.image.unbind()
        self.own = [here.chunk(groups, 1) for here in self.here]

    def row(self) -> torch.Tensor:
        """The input of the whole row so far, `(N, in, W)`."""
        return self.image.permute(1, 2, 0)

    def pixel(self, col: int, group: int, above: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """One group of outputs at a pixel, `(N, out/groups)`: these taps and what lies `above`."""
        return torch.addbmm(above, self.seen[col], self.weights[group], out=out)


class MaskedWalk:
    """A masked square: its rows above and its own row, whose finished pixels become a row above."""

    def __init__(self, rows: Rows | None, line: Line, bias: torch.Tensor, groups: int):
        self.rows, self.line, self.bias, self.groups = rows, line, bias, groups
        self.here, self.own = line.here, line.own

    def row(self, row: int) -> None:
        if self.rows is None:  # a kernel of 1
            width, n = self.line.image.shape[:2]
            above = self.bias[None, :, None].expand(n, -1, width)
        else:
            if row > 0:
                self.rows.put(row - 1, self.line.row())
            above = self.rows.row(row)
        self.above = by_pixel(above, self.groups)

    def pixel(self, col: int, group: int, out: torch.Tensor | None = None) -> torch.Tensor:
        return self.line.pixel(col, group, self.above[group][col], out)


class Pointwise:
    """A masked 1×1 convolution: at a pixel, one group of its outputs from all its inputs. weight: `(out, in)`."""

    def __init__(self, weight, bias, groups):
        self.weights = [part.T.contiguous() for part in weight.chunk(groups)]  # (in, out/groups)
        self.biases = None if bias is None else bias.chunk(groups)

    def pixel(self, x: torch.Tensor, group: int, add=None, out: torch.Tensor | None = None) -> torch.Tensor:
        """One group of outputs, `(N, out/groups)`; `add` takes the place of the bias."""
        return torch.addmm(self.biases[group] if add is None else add, x, self.weights[group], out=out)


def by_pixel(x: torch.Tensor, groups: int) -> list[tuple[torch.Tensor, ...]]:
    """A row `(N, out, W)` for use pixel by pixel: for each group W tensors `(N, out/groups)`."""
    return [part.permute(2, 0, 1).contiguous().unbind() for part in x.chunk(groups, 1)]


def folded(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """The scale and the shift that batch norm applies in evaluation mode, each `(features,)`."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale
