"""Masks, and convolutions that keep to raster order. Every layer maps `(N, in, H, W)` to `(N, out, H, W)`."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .checks import check_int


def causal_mask(kernel_size, mask_type, in_channels=1, out_channels=1, groups=1) -> torch.Tensor:
    """The 0/1 mask that keeps a square kernel from seeing pixels that come later in raster order.

    Type "A" is for the first layer, whose input is the image: its centre is closed. Type "B" is for later layers, whose
    input is features: its centre is open. The channels are split evenly, in order, into `groups` that follow one
    another at each pixel (R, then G, then B). At the centre, an output of group g sees the inputs of the groups before
    g ("A"), or of these and g ("B"). For a kernel of 5×5, and for three groups:

        A   1 1 1 1 1     B   1 1 1 1 1     A, centre   from  R G B     B, centre   from  R G B
            1 1 1 1 1         1 1 1 1 1             to R      0 0 0             to R      1 0 0
            1 1 0 0 0         1 1 1 0 0             to G      1 0 0             to G      1 1 0
            0 0 0 0 0         0 0 0 0 0             to B      1 1 0             to B      1 1 1
            0 0 0 0 0         0 0 0 0 0

    Returns float32 `(out_channels, in_channels, kernel_size, kernel_size)`.
    Raises ValueError for an even kernel, an unknown type, or channels that do not split evenly.
    Source: van den Oord et al. 2016, Pixel Recurrent Neural Networks, arXiv 1601.06759, section 3.4 and figure 2.
    """
    half = check_kernel_size(kernel_size) // 2
    if not isinstance(mask_type, str) or mask_type not in ("A", "B"):
        raise ValueError(f'mask_type must be "A" or "B", got {mask_type!r}')
    groups = check_int("groups", groups, 1)
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if check_int(name, channels, 1) % groups:
            raise ValueError(f"{name} must split evenly into {groups} groups, got {channels}")

    mask = torch.zeros(out_channels, in_channels, kernel_size, kernel_size, dtype=torch.float32)
    mask[:, :, :half] = 1  # the rows above
    mask[:, :, half, :half] = 1  # the same row, to the left
    source = torch.arange(in_channels) * groups // in_channels  # the group of each channel, in even runs
    target = torch.arange(out_channels)[:, None] * groups // out_channels
    mask[:, :, half, half] = (target > source if mask_type == "A" else target >= source).float()  # (out, in)
    return mask


class MaskedConv2d(nn.Conv2d):
    """A square convolution whose kernel is multiplied by a `causal_mask` in every forward pass.

    groups: the colour groups of the mask, 3 for R, G, B; they do not split the convolution.
    dilation, device, dtype: as for `nn.Conv2d`. The stride is 1, and zeros around the image keep H and W.
    The mask is a buffer: it moves with `.to(...)` and is saved in `state_dict`. The weight is never changed.
    `reach` is the number of pixels that the kernel spans to each side.
    Raises ValueError where `causal_mask` does. Source: van den Oord et al. 2016, arXiv 1601.06759, section 3.4.
    """

    def __init__(
        self, mask_type, in_channels, out_channels, kernel_size, groups=1, bias=True, dilation=1,
        device=None, dtype=None,
    ):
        mask = causal_mask(kernel_size, mask_type, in_channels, out_channels, groups)
        self.reach = kernel_size // 2 * check_int("dilation", dilation, 1)
        super().__init__(
            in_channels, out_channels, kernel_size, padding=self.reach, dilation=dilation, bias=bias,
            device=device, dtype=dtype,
        )
        self.mask_type, self.colour_groups = mask_type, groups
        self.register_buffer("mask", mask.to(self.weight))  # (out, in, k, k)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.masked_weight(), self.bias)

    def masked_weight(self) -> torch.Tensor:
        """The weight with its closed taps at 0, `(out, in, k, k)`."""
        return self.weight * self.mask

    def extra_repr(self) -> str:
        return f"{self.mask_type!r}, {super().extra_repr()}, colour_groups={self.colour_groups}"


class VerticalConv2d(nn.Conv2d):
    """The vertical stack's convolution: a kernel as wide as the square one that ends at the centre row.

    With `first` the input is the image, and only rows above the pixel (o) are seen. A later layer's input is vertical
    features, which depend on the rows above theirs only, so the whole centre row is open. For a kernel of 3×3:

        first   x x x     later   x x x
                  o               x ⊗ x

    Half a kernel and a shift do what a square kernel with a mask does, without multiplying by zeros.
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
            x = x[:, :, : -self.dilation[0]]  # without the last row: the lowest tap lies on the row above
        return super().forward(x)


class HorizontalConv2d(nn.Conv2d):
    """The horizontal stack's convolution: one row of taps that ends at the centre.

    With `first` (type A) the pixel itself (o) is closed, otherwise (type B) it is open. For a kernel of 5:

        first   x x o     later   x x ⊗

    With `groups` = 3 the centre tap follows the group mask of its type: green sees its own red, blue both.
    Raises ValueError for an even kernel, channels that do not split evenly, and a kernel that would see nothing.
    Source: van den Oord et al. 2016, arXiv 1606.05328, section 2.2 and figure 2.
    """

    def __init__(self, in_channels, out_channels, kernel_size, first=False, dilation=1, groups=1, bias=True):
        mask = causal_mask(kernel_size, "A" if first else "B", in_channels, out_channels, groups)  # (out, in, k, k)
        self.reach, taps = _half_kernel(kernel_size, first, dilation, centre_exists=groups > 1)
        super().__init__(in_channels, out_channels, (1, taps), dilation=dilation, bias=bias)
        self.closed, self.colour_groups = first and groups == 1, groups  # closed: there is no centre tap
        if groups > 1:
            self.register_buffer("mask", mask[:, :, taps - 1 : taps, :taps].contiguous().to(self.weight))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, (self.reach, 0))  # empty columns left of the image
        if self.closed:
            x = x[:, :, :, : -self.dilation[1]]  # without the last column: the last tap lies on the pixel before
        return self._conv_forward(x, self.masked_weight(), self.bias)

    def masked_weight(self) -> torch.Tensor:
        """The weight with its closed taps at 0, `(out, in, 1, taps)`."""
        return self.weight * self.mask if self.colour_groups > 1 else self.weight


class GatedBlock(nn.Module):
    """One step of the two stacks: each is convolved to twice its features and gated, tanh ⊙ σ.

    features: of each stack, in and out; they split evenly into `groups` colours. classes: 0 without labels.
    residual: False leaves out the 1×1 back to the horizontal stack, which nothing reads after a network's last block.
    `forward(v, h, labels=None)` takes both stacks `(N, features, H, W)` and label rows `(N, classes)`. It returns
    `(v, h, gated)`: both stacks after this block, and the gated features of the horizontal one, for the skip.
    Every layer on the horizontal path keeps the groups apart; the vertical stack needs no groups.
    Raises ValueError for an even kernel or features that do not split evenly.
    Source: van den Oord et al. 2016, arXiv 1606.05328, equation 2 and figure 2; the label as in equation 4.
    """

    def __init__(self, features, kernel_size=3, dilation=1, classes=0, groups=1, residual=True):
        super().__init__()
        features, classes = check_int("features", features, 1), check_int("classes", classes, 0)
        self.groups = groups
        self.vertical = VerticalConv2d(features, 2 * features, kernel_size, dilation=dilation)
        self.reach = self.vertical.reach
        self.horizontal = HorizontalConv2d(
            features, 2 * features, kernel_size, dilation=dilation, groups=groups, bias=False
        )
        self.link = nn.Conv2d(2 * features, 2 * features, 1)  # from v to h; its bias serves both
        self.residual = MaskedConv2d("B", features, features, 1, groups=groups, bias=False) if residual else None
        self.condition = nn.Linear(classes, 4 * features, bias=False) if classes else None  # a column for each class

    def forward(self, v, h, labels=None):
        v = self.vertical(v)  # (N, 2F, H, W)
        z = self.horizontal(h) + self.link(v)  # the link is taken before the gate
        if labels is not None:
            for_v, for_h = self.condition(labels)[:, :, None, None].chunk(2, 1)
            v, z = v + for_v, z + for_h
        gated = gate(z, self.groups)
        if self.residual is not None:
            h = h + self.residual(gated)
        return gate(v), h, gated


def gate(x: torch.Tensor, groups: int = 1) -> torch.Tensor:
    """tanh ⊙ σ: `(N, 2F, …)` -> `(N, F, …)`. Each colour group holds the inputs of its tanh, then those of its σ."""
    tanh, sigmoid = x.unflatten(1, (groups, 2, -1)).unbind(2)
    return (tanh.tanh() * sigmoid.sigmoid()).flatten(1, 2)


def check_kernel_size(value) -> int:
    """An odd kernel size, which has the centre tap that masks refer to."""
    size = check_int("kernel_size", value, 1)
    if size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, so that the kernel has a centre, got {size}")
    return size


def _half_kernel(kernel_size: int, first: bool, dilation: int, centre_exists: bool = False) -> tuple[int, int]:
    """The reach of a half kernel in pixels, and its number of taps; a first one has no centre, unless that exists."""
    half = check_kernel_size(kernel_size) // 2
    if not isinstance(first, bool):
        raise TypeError(f"first must be True or False, got {first!r}")
    taps = half + (centre_exists or not first)
    if taps == 0:
        raise ValueError("kernel_size must be at least 3 in a first layer, got 1, which is empty without its centre")
    return half * check_int("dilation", dilation, 1), taps
