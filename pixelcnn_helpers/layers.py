"""Convolutions that keep to raster order. All map `(N, in, H, W)` to `(N, out, H, W)`."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .checks import check_int, check_kernel_size
from .masks import causal_mask
from .walks import Line, MaskedWalk, Pointwise, Rows


class MaskedConv2d(nn.Conv2d):
    """A square convolution whose kernel is multiplied by a `causal_mask` in every forward pass.

    `groups` counts the colour groups of the mask (3 for R, G, B); it does not split the convolution.
    `dilation`, `device` and `dtype` are those of `nn.Conv2d`; stride is 1, zeros around the image keep H and W.
    The mask is a buffer: it moves with `.to(...)`, is saved in `state_dict`, and the weight is never changed.

    Raises ValueError where `causal_mask` does. Source: van den Oord et al. 2016, arXiv 1601.06759, section 3.4.
    """

    def __init__(
        self, mask_type, in_channels, out_channels, kernel_size, groups=1, bias=True, dilation=1,
        device=None, dtype=None,
    ):
        mask = causal_mask(kernel_size, mask_type, in_channels, out_channels, groups)
        dilation = check_int("dilation", dilation, 1)
        self.reach = kernel_size // 2 * dilation  # pixels up, left and right that the kernel spans
        super().__init__(
            in_channels, out_channels, kernel_size, padding=self.reach, dilation=dilation, bias=bias,
            device=device, dtype=dtype,
        )
        self.mask_type, self.colour_groups = mask_type, groups
        self.register_buffer("mask", mask.to(self.weight))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight * self.mask, self.bias)

    def walk(self, n: int, size: tuple[int, int], scale=None, shift=None) -> MaskedWalk:
        """The same convolution, row by row and pixel by pixel; scale and shift `(out,)`: of a norm behind it."""
        weight, bias = self.weight * self.mask, self.bias
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        if scale is not None:
            weight, bias = weight * scale[:, None, None, None], bias * scale + shift
        half, dilation = self.kernel_size[0] // 2, self.dilation[0]
        rows = Rows(weight[:, :, :half], bias, self.reach, dilation, n, size) if half else None
        line = Line(weight[:, :, half, : half + 1], self.reach, dilation, n, size[1], self.colour_groups)
        return MaskedWalk(rows, line, bias, self.colour_groups)

    def walk_pointwise(self) -> Pointwise:
        """A 1×1 convolution has nothing to keep: at a pixel it is a matrix product."""
        return Pointwise((self.weight * self.mask)[:, :, 0, 0], self.bias, self.colour_groups)

    def extra_repr(self) -> str:
        return f"{self.mask_type!r}, {super().extra_repr()}, colour_groups={self.colour_groups}"


class VerticalConv2d(nn.Conv2d):
    """The vertical stack's convolution: a kernel as wide as the square one, cut off below its centre row.

    With `first` the input is the image, and only the rows above are seen. Otherwise the input is vertical
    features, which hold nothing of their own row yet, so that the own row (all of it, right side too) is open.
    Half a kernel and a shift, where others multiply half of a square by zero: no mask is needed.

    Raises ValueError for an even kernel, and for a first kernel of 1, which would see nothing.
    Source: van den Oord et al. 2016, arXiv 1606.05328, section 2.2 and figure 1 (right).
    """

    def __init__(self, in_channels, out_channels, kernel_size, first=False, dilation=1, bias=True):
        self.reach, rows = _half_kernel(kernel_size, first, dilation)
        super().__init__(
            check_int("in_channels", in_channels, 1), check_int("out_channels", out_channels, 1),
            (rows, kernel_size), padding=(0, self.reach), dilation=dilation, bias=bias,
        )
        self.first = first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, (0, 0, self.reach, 0))  # empty rows above the image
        if self.first:
            x = x[:, :, : -self.dilation[0]]  # one step up: the lowest tap lies on the row above
        return super().forward(x)

    def walk(self, n: int, size: tuple[int, int]) -> Rows:
        """The same convolution, one row at a time."""
        return Rows(self.weight, self.bias, self.reach, self.dilation[0], n, size)


class HorizontalConv2d(nn.Conv2d):
    """The horizontal stack's convolution: one row, cut off right of its centre.

    With `first` (type A) the own position is closed, otherwise (type B) it is open. With `groups` = 3 the centre tap
    follows the group mask of its type instead: green sees its own red, blue its own red and green.

    Raises ValueError for an even kernel, channels that do not split evenly, and a kernel that would see nothing.
    Source: van den Oord et al. 2016, arXiv 1606.05328, section 2.2 and figure 2.
    """

    def __init__(self, in_channels, out_channels, kernel_size, first=False, dilation=1, groups=1, bias=True):
        groups = check_int("groups", groups, 1)
        if not isinstance(first, bool):
            raise TypeError(f"first must be True or False, got {first!r}")
        closed = first and groups == 1  # no tap on the own position at all
        self.reach, taps = _half_kernel(kernel_size, closed, dilation)
        centre = causal_mask(1, "A" if first else "B", in_channels, out_channels, groups)  # (out, in, 1, 1)
        super().__init__(in_channels, out_channels, (1, taps), dilation=dilation, bias=bias)
        self.closed, self.colour_groups = closed, groups
        if groups > 1:
            left = torch.ones(out_channels, in_channels, 1, taps - 1)
            self.register_buffer("mask", torch.cat([left, centre], 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, (self.reach, 0))  # empty columns left of the image
        if self.closed:
            x = x[:, :, :, : -self.dilation[1]]  # one step left: the last tap lies on the pixel before
        return self._conv_forward(x, self.masked_weight(), self.bias)

    def masked_weight(self) -> torch.Tensor:
        return self.weight * self.mask if self.colour_groups > 1 else self.weight

    def walk(self, n: int, width: int) -> Line:
        """The same convolution without its bias, one pixel at a time."""
        weight = self.masked_weight()[:, :, 0]
        return Line(weight, self.reach, self.dilation[1], n, width, self.colour_groups)


class GatedBlock(nn.Module):
    """One step of the two stacks: each convolved to twice its features, and gated, tanh ⊙ σ.

    features: of each stack, in and out; they split evenly into `groups` colours. classes: 0 without condition.
    `forward(v, h, labels=None)` takes both stacks `(N, features, H, W)` and label rows `(N, classes)`, and returns
    `(v, h, gated)`: the stacks after this block, and what the horizontal one passed its gate, for the skip to the head.

    The link from the vertical to the horizontal stack is taken before the gate. The residual runs round the horizontal
    stack only. In colour everything on the horizontal path keeps the groups apart; the vertical one needs none.
    Raises ValueError for an even kernel or features that do not split evenly.
    Source: van den Oord et al. 2016, arXiv 1606.05328, equation 2 and figure 2; the label as in equation 4.
    """

    def __init__(self, features, kernel_size=3, dilation=1, classes=0, groups=1):
        super().__init__()
        classes, self.groups = check_int("classes", classes, 0), groups
        features = check_int("features", features, 1)
        self.vertical = VerticalConv2d(features, 2 * features, kernel_size, dilation=dilation)
        self.reach = self.vertical.reach
        # the link brings a bias, and so may these two go without
        self.horizontal = HorizontalConv2d(
            features, 2 * features, kernel_size, dilation=dilation, groups=groups, bias=False
        )
        self.link = nn.Conv2d(2 * features, 2 * features, 1)
        self.residual = MaskedConv2d("B", features, features, 1, groups=groups, bias=False)
        self.condition = nn.Linear(classes, 4 * features, bias=False) if classes else None

    def forward(self, v, h, labels=None):
        v = self.vertical(v)  # (N, 2F, H, W), not gated yet
        z = self.horizontal(h) + self.link(v)
        if labels is not None:
            for_v, for_h = self.condition(labels)[:, :, None, None].chunk(2, 1)  # a matrix product: mixtures are native
            v, z = v + for_v, z + for_h
        gated = gate(z, self.groups)
        return gate(v), h + self.residual(gated), gated

    def walk(self, labels, n: int, size: tuple[int, int]) -> GatedBlockWalk:
        """The same block, row by row in the vertical stack and pixel by pixel in the horizontal one."""
        return GatedBlockWalk(self, labels, n, size)


class GatedBlockWalk:
    """A `GatedBlock` that draws: `row` runs its vertical half for a row, `pixel` its horizontal half at a pixel."""

    def __init__(self, block: GatedBlock, labels, n, size):
        self.groups, self.link = block.groups, block.link
        self.rows, self.line = block.vertical.walk(n, size), block.horizontal.walk(n, size[1])
        self.residual = block.residual.walk_pointwise()
        self.condition = None if labels is None else block.condition(labels).chunk(2, 1)

    def row(self, row: int, v: torch.Tensor) -> torch.Tensor:
        """A row of the vertical stack, `(N, F, W)`, before and after; what it sends across is kept."""
        self.rows.put(row, v)
        v = self.rows.row(row)
        # the link as a matrix product, in the order in which the pixels will ask for it
        z = F.linear(v.permute(2, 0, 1), self.link.weight[:, :, 0, 0], self.link.bias)  # (W, N, 2F)
        if self.condition is not None:
            v, z = v + self.condition[0][:, :, None], z + self.condition[1]
        self.across = [part.unbind() for part in z.chunk(self.groups, 2)]
        return gate(v)

    def pixel(self, col: int, group: int, out: torch.Tensor) -> None:
        """Write one group of what passes the gate at a pixel into `out`, `(N, F/groups)`."""
        tanh, sigmoid = self.line.pixel(col, group, self.across[group][col]).chunk(2, 1)
        torch.mul(tanh.tanh_(), sigmoid.sigmoid_(), out=out)


def gate(x: torch.Tensor, groups: int = 1) -> torch.Tensor:
    """tanh ⊙ σ: `(N, 2F, …)` -> `(N, F, …)`, where each colour group brings its own two halves."""
    tanh, sigmoid = x.unflatten(1, (groups, 2, -1)).unbind(2)
    return (tanh.tanh() * sigmoid.sigmoid()).flatten(1, 2)


def _half_kernel(kernel_size: int, closed: bool, dilation: int) -> tuple[int, int]:
    """How many pixels a half kernel spans, and how many taps it has; a closed one stops before its centre."""
    half = check_kernel_size(kernel_size) // 2
    if not isinstance(closed, bool):
        raise TypeError(f"first must be True or False, got {closed!r}")
    if closed and half == 0:
        raise ValueError("kernel_size must be at least 3 in a first layer, got 1, which is empty without its centre")
    return half * check_int("dilation", dilation, 1), half + (not closed)
