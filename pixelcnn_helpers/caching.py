"""The incremental way through each layer and network: caches that let `sample` compute each feature once.

The forward passes in `layers.py` and `models.py` compute the features of a whole image. While an image is drawn, the
features of finished pixels no longer change. The classes here keep them, and compute the features of one row (where a
layer sees only rows above) or of one pixel (where it sees pixels to the left) at a time.
"""

from __future__ import annotations

import copy
from functools import singledispatch
from itertools import cycle

import torch
from torch import nn
from torch.nn import functional as F

from .checks import check_int, check_labels, check_model, check_size
from .layers import GatedBlock, HorizontalConv2d, MaskedConv2d, VerticalConv2d, gate
from .models import GatedPixelCNN, PixelCNN, with_ones


def incremental(layer, labels, n: int, size: tuple[int, int]):
    """The incremental way through a layer or a model, for n images of `size = (height, width)`.

    labels: float rows `(n, classes)`, or None for a model without classes. Call it, and what it returns, under
    `torch.no_grad()` and in evaluation mode. For a model it returns an object with three methods:

        row(r)                      once for each row, from the top, before the values of that row
        pixel(col, channel)         the logits `(n, levels)` of a value; from the left, channels innermost
        put(col, channel, levels)   stores the levels that were drawn there, integers `(n,)`

    A model of your own joins in with `@incremental.register(MyModel)` on a function of the same four arguments.
    Raises TypeError for a type that is not registered, and for a subclass of a registered one, at any depth, that
    computes its output in another way. Raises ValueError or TypeError for other arguments that do not fit.
    """
    n, size = check_int("n", n, 1), check_size(size)
    if hasattr(layer, "levels"):
        check_labels(labels, n, check_model(layer)[2])
        labels = None if labels is None else labels.to(next(layer.parameters(), labels))
    for module in layer.modules() if isinstance(layer, nn.Module) else ():
        known = next(kind for kind in type(module).__mro__ if kind in _way.registry)  # object, if none is registered
        for name in ("forward", "logits"):
            wanted = getattr(known, name, None)
            if wanted is not None and getattr(getattr(module, name), "__func__", None) is not wanted:
                raise _no_way(module, f": {name} is not that of {known.__name__}")
    return _way(layer, labels, n, size)


@singledispatch
def _way(layer, labels, n, size):
    raise _no_way(layer)


def _no_way(layer, reason: str = "") -> TypeError:
    fix = f'register one with @incremental.register({type(layer).__name__}), or use method="naive" or "guess"'
    return TypeError(f"model has no cached way{reason}; {fix}")


incremental.register = _way.register


@incremental.register(VerticalConv2d)
class RowsAbove:
    """The taps of a kernel on rows above (in a vertical stack also on the current one), computed a row at a time."""

    def __init__(self, layer: VerticalConv2d | MaskedConv2d, labels, n, size):
        if isinstance(layer, VerticalConv2d):
            weight = layer.weight  # (out, in, rows, k)
        else:  # a kernel of 1 sees no rows above: it is given its own row, which is still empty here
            weight = layer.masked_weight()[:, :, : layer.kernel_size[0] // 2 or 1]
        (height, width), reach, self.dilation = size, layer.reach, layer.dilation[0]
        self.weights = weight.permute(2, 3, 1, 0).contiguous()  # (rows, k, in, out)
        self.bias = weight.new_zeros(1) if layer.bias is None else layer.bias
        # with empty rows on top and empty columns at both sides
        cache = weight.new_zeros(height + reach, width + 2 * reach, n, layer.in_channels)
        self.rows = cache[reach:, reach : reach + width].unbind()  # (W, N, in)
        # under each tap of a row of the kernel lies the cached row, moved by some columns: overlapping views
        self.taps = [row.unfold(0, width, self.dilation).movedim(3, 1).flatten(1, 2) for row in cache]
        self.shape = (width, n)

    def put(self, row: int, x: torch.Tensor) -> None:
        """Store a row of the input, `(W, N, in)`."""
        self.rows[row].copy_(x)

    def row(self, row: int) -> torch.Tensor:
        """The contribution of these taps to a row of the output, `(W, N, out)`."""
        out = self.bias
        for weight, taps in zip(self.weights, self.taps[row :: self.dilation], strict=False):
            out = torch.addbmm(out, taps, weight)  # (k, W·N, in) and (k, in, out) -> (W·N, out)
        return out.unflatten(0, self.shape)


@incremental.register(HorizontalConv2d)
class OwnRow:
    """The taps of a kernel on the current row, computed for one pixel and one group of outputs at a time.

    `here[col]` is the stored input at a column, `(N, in)`, and `own[col][group]` one group of it; both can be written.
    """

    def __init__(self, layer: HorizontalConv2d | MaskedConv2d, labels, n, size):
        self.groups, dilation, width = layer.colour_groups, layer.dilation[1], size[1]
        half = layer.reach // dilation
        weight = layer.masked_weight()[:, :, layer.kernel_size[0] // 2, : half + 1]  # (out, in, taps)
        self.weights = [part.permute(2, 1, 0).contiguous() for part in weight.chunk(self.groups)]
        cache = weight.new_zeros(width + layer.reach, n, layer.in_channels)  # empty columns on the left
        self.input = cache[layer.reach :]  # (W, N, in)
        span = dilation * (weight.shape[2] - 1) + 1
        # the views are made once, since making one takes as long as a small matrix product
        self.seen = [cache[col : col + span : dilation] for col in range(width)]  # (taps, N, in) under the taps
        self.here = self.input.unbind()
        self.own = [here.chunk(self.groups, 1) for here in self.here]

    def row(self, above: torch.Tensor) -> None:
        """Begin a row. `above` is added to the output of these taps, `(W, N, out)`: the rows above, with the bias."""
        self.above = [part.contiguous().unbind() for part in above.chunk(self.groups, 2)]

    def pixel(self, col: int, group: int, out: torch.Tensor | None = None) -> torch.Tensor:
        """One group of outputs at a pixel, `(N, out/groups)`."""
        return torch.addbmm(self.above[group][col], self.seen[col], self.weights[group], out=out)


class Pointwise:
    """A masked 1×1 convolution: at a pixel, one group of its outputs from all inputs, a matrix product."""

    def __init__(self, layer: MaskedConv2d):
        groups = layer.colour_groups
        self.weights = [part.T.contiguous() for part in layer.masked_weight()[:, :, 0, 0].chunk(groups)]
        self.biases = None if layer.bias is None else layer.bias.chunk(groups)

    def pixel(self, x: torch.Tensor, group: int, add=None, out: torch.Tensor | None = None) -> torch.Tensor:
        """One group of outputs, `(N, out/groups)`; `add` takes the place of the bias."""
        return torch.addmm(self.biases[group] if add is None else add, x, self.weights[group], out=out)


class IncrementalSquare:
    """A kernel in two parts, its rows above and its own row. When a row is finished, it becomes a row above."""

    def __init__(self, rows_above: RowsAbove, own_row: OwnRow):
        self.rows_above, self.own_row = rows_above, own_row
        self.here, self.own, self.pixel = own_row.here, own_row.own, own_row.pixel

    def row(self, row: int) -> torch.Tensor:
        """Begin a row; returns the contribution of the rows above, `(W, N, out)`."""
        if row > 0:
            self.rows_above.put(row - 1, self.own_row.input)
        above = self.rows_above.row(row)
        self.own_row.row(above)
        return above


@incremental.register
def _(layer: MaskedConv2d, labels, n, size):
    return IncrementalSquare(RowsAbove(layer, None, n, size), OwnRow(layer, None, n, size))


@incremental.register(PixelCNN)
class IncrementalPixelCNN:
    def __init__(self, model: PixelCNN, labels, n, size):
        for layer, kind in zip(model.net, cycle([MaskedConv2d, nn.BatchNorm2d, nn.ReLU])):
            if not isinstance(layer, kind):
                raise _no_way(model, f": {type(layer).__name__} stands where PixelCNN has {kind.__name__}")
        *blocks, last = model.net
        folded = [fold(conv, *scale_and_shift(norm)) for conv, norm in zip(blocks[::3], blocks[1::3], strict=True)]
        self.layers = [incremental(conv, None, n, size) for conv in folded]
        self.last = Pointwise(last)
        self.features = last.weight.new_zeros(n, last.in_channels)  # the input of the last layer, at this pixel
        self.own = self.features.chunk(model.channels, 1)
        self.inputs = inputs_of_levels(model)

    def row(self, row: int) -> None:
        for layer in self.layers:
            layer.row(row)

    def put(self, col: int, channel: int, levels: torch.Tensor) -> None:
        self.layers[0].own[col][channel].copy_(self.inputs[levels])

    def pixel(self, col: int, channel: int) -> torch.Tensor:
        outputs = [layer.own[col] for layer in self.layers[1:]] + [self.own]
        for layer, output in zip(self.layers, outputs, strict=True):
            layer.pixel(col, channel, out=output[channel]).relu_()
        return self.last.pixel(self.features, channel)


@incremental.register(GatedBlock)
class IncrementalGatedBlock:
    """`row` runs the vertical half of a block for a row, `pixel` its horizontal half at a pixel."""

    def __init__(self, block: GatedBlock, labels, n, size):
        self.link = block.link
        self.vertical = incremental(block.vertical, None, n, size)
        self.horizontal = incremental(block.horizontal, None, n, size)
        self.residual = None if block.residual is None else Pointwise(block.residual)
        self.condition = None if labels is None else block.condition(labels).chunk(2, 1)
        # what one group's gate reads at a pixel, and its two halves
        self.z = block.link.weight.new_empty(n, block.link.out_channels // block.groups)
        self.tanh, self.sigmoid = self.z.chunk(2, 1)

    def row(self, row: int, v: torch.Tensor) -> torch.Tensor:
        """A row of the vertical stack before and after the block, `(W, N, F)`."""
        self.vertical.put(row, v)
        v = self.vertical.row(row)  # (W, N, 2F)
        z = F.linear(v, self.link.weight[:, :, 0, 0], self.link.bias)  # the 1×1 link
        if self.condition is not None:
            for_v, for_h = self.condition
            v, z = v + for_v, z + for_h
        self.horizontal.row(z)
        return gate(v.movedim(2, 1)).movedim(1, 2)

    def pixel(self, col: int, group: int, out: torch.Tensor) -> None:
        """Write one group of the gated features at a pixel into `out`, `(N, F/groups)`."""
        self.horizontal.pixel(col, group, out=self.z)
        torch.mul(self.tanh.tanh_(), self.sigmoid.sigmoid_(), out=out)


@incremental.register(GatedPixelCNN)
class IncrementalGatedPixelCNN:
    def __init__(self, model: GatedPixelCNN, labels, n, size):
        vertical, horizontal = (incremental(layer, None, n, size) for layer in (model.vertical, model.horizontal))
        self.first = IncrementalSquare(vertical, horizontal)
        self.blocks = [incremental(block, labels, n, size) for block in model.blocks]
        self.skip, self.hidden, self.head = (Pointwise(layer) for layer in (model.skip, model.hidden, model.head))
        self.inputs = inputs_of_levels(model)
        if model.embedding is None:
            self.inputs = with_ones(self.inputs)
        new, groups = model.head.weight.new_zeros, model.channels
        # the forward pass sorts the gated features by colour, then by block; here they lie block by block
        self.skip.weights = [
            weight.unflatten(0, (groups, len(self.blocks), -1)).transpose(0, 1).flatten(0, 2).contiguous()
            for weight in self.skip.weights
        ]
        # the inputs of skip, hidden and head at this pixel, and the parts of them that `pixel` writes one by one
        self.gated = new(n, len(self.blocks) * model.features)
        self.x, self.y = new(n, model.features), new(n, model.features)
        self.of_block = self.gated.chunk(len(self.blocks), 1)  # of each block (N, F)
        self.own = [gated.chunk(groups, 1) for gated in self.of_block]
        self.own_x, self.own_y = self.x.chunk(groups, 1), self.y.chunk(groups, 1)

    def row(self, row: int) -> None:
        v = self.first.row(row)
        for block in self.blocks:
            v = block.row(row, v)

    def put(self, col: int, channel: int, levels: torch.Tensor) -> None:
        torch.index_select(self.inputs, 0, levels, out=self.first.own[col][channel])

    def pixel(self, col: int, channel: int) -> torch.Tensor:
        inputs = [block.horizontal.own[col][channel] for block in self.blocks]
        self.first.pixel(col, channel, out=inputs[0])
        for i, block in enumerate(self.blocks):
            block.pixel(col, channel, out=self.own[i][channel])
            if i + 1 < len(self.blocks):  # nothing reads the residual of the last block
                block.residual.pixel(self.of_block[i], channel, add=inputs[i], out=inputs[i + 1])
        self.skip.pixel(self.gated, channel, out=self.own_x[channel]).relu_()
        self.hidden.pixel(self.x, channel, out=self.own_y[channel]).relu_()
        return self.head.pixel(self.y, channel)


def inputs_of_levels(model) -> torch.Tensor:
    """Each level as the network sees it, `(levels, inputs per channel)`."""
    return model.scale(torch.arange(model.levels)[:, None, None, None])[:, :, 0, 0]


def fold(layer: MaskedConv2d, scale: torch.Tensor, shift: torch.Tensor) -> MaskedConv2d:
    """A copy of a convolution that also applies a scale and a shift, `(out,)` each, to its output."""
    folded = copy.deepcopy(layer)
    folded.weight = nn.Parameter(layer.weight * scale[:, None, None, None])
    folded.bias = nn.Parameter(shift if layer.bias is None else layer.bias * scale + shift)
    return folded


def scale_and_shift(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """The scale and the shift that batch norm applies in evaluation mode, `(features,)` each."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale
