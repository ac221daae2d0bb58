"""Convolutions that keep to raster order. All map `(N, in, H, W)` to `(N, out, H, W)`."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .checks import check_int, check_kernel_size
from .masks import causal_mask


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
    ):  # fmt: skip
        mask = causal_mask(kernel_size, mask_type, in_channels, out_channels, groups)
        dilation = check_int("dilation", dilation, 1)
        self.reach = kernel_size // 2 * dilation  # pixels up, left and right that the kernel spans
        super().__init__(
            in_channels, out_channels, kernel_size, padding=self.reach, dilation=dilation, bias=bias,
            device=device, dtype=dtype,
        )  # fmt: skip
        self.mask_type, self.colour_groups = mask_type, groups
        self.register_buffer("mask", mask.to(self.weight))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight * self.mask, self.bias)

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
        )  # fmt: skip
        self.first = first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, (0, 0, self.reach, 0))  # empty rows above the image
        if self.first:
            x = x[:, :, : -self.dilation[0]]  # one step up: the lowest tap lies on the row above
        return super().forward(x)


class HorizontalConv2d(nn.Conv2d):
    """The horizontal stack's convolution: one row, cut off right of its centre.

    With `first` (type A) the own position is closed, otherwise (type B) it is open. With `groups` = 3 the centre tap
    follows the group mask of its type instead: green sees its own red, blue its own red and green.

    Raises ValueError for an even kernel, channels that do not split evenly, and a kernel that would see nothing.
    Source: van den Oord et al. 2016, arXiv 1606.05328, section 2.2 and figure 2.
    """

    def __init__(self, in_channels, out_channels, kernel_size, first=False, dilation=1, groups=1, bias=True):
        groups = check_int("groups", groups, 1)
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
        weight = self.weight * self.mask if self.colour_groups > 1 else self.weight
        return self._conv_forward(x, weight, self.bias)


def _half_kernel(kernel_size: int, closed: bool, dilation: int) -> tuple[int, int]:
    """How many pixels a half kernel spans, and how many taps it has; a closed one stops before its centre."""
    half = check_kernel_size(kernel_size) // 2
    if closed and half == 0:
        raise ValueError("kernel_size must be at least 3 in a first layer, got 1, which is empty without its centre")
    return half * check_int("dilation", dilation, 1), half + (not closed)
