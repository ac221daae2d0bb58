"""Which taps of a kernel may look: pure functions on small tensors."""

from __future__ import annotations

import torch

from .checks import check_int, check_kernel_size


def causal_mask(
    kernel_size: int, mask_type: str, in_channels: int = 1, out_channels: int = 1, groups: int = 1
) -> torch.Tensor:
    """The 0/1 mask that keeps a square kernel from seeing pixels that come later in raster order.

    Rows above the centre and taps to its left are open, everything after the centre is closed.
    The centre itself depends on the type: "A" (first layer, whose input is the image) closes it,
    "B" (later layers, whose input is features) opens it.

    With `groups` > 1 the channels are split evenly, in order, into groups that join the raster order
    (R, then G, then B). Then, at the centre only, group g sees the groups before it ("A") or
    the groups before it and itself ("B").

    Returns float32 `(out_channels, in_channels, kernel_size, kernel_size)`.
    Raises ValueError for an even kernel, an unknown type, or channels that do not split evenly.
    Source: van den Oord et al. 2016, Pixel Recurrent Neural Networks, section 3.4 and figure 2.
    """
    size = check_kernel_size(kernel_size)
    if mask_type not in ("A", "B"):
        raise ValueError(f'mask_type must be "A" or "B", got {mask_type!r}')
    groups = check_int("groups", groups, 1)
    source = channel_groups("in_channels", in_channels, groups)  # (in,)
    target = channel_groups("out_channels", out_channels, groups)  # (out,)

    mask = torch.zeros(len(target), len(source), size, size)
    mask[:, :, : size // 2] = 1  # the rows above
    mask[:, :, size // 2, : size // 2] = 1  # the own row, to the left
    earlier = target[:, None] > source if mask_type == "A" else target[:, None] >= source
    mask[:, :, size // 2, size // 2] = earlier.float()  # (out, in)
    return mask


def channel_groups(name: str, channels: int, groups: int) -> torch.Tensor:
    """The group of each channel, `0 … groups-1` in even runs, as an integer tensor `(channels,)`."""
    channels = check_int(name, channels, 1)
    if channels % groups:
        raise ValueError(f"{name} must split evenly into {groups} groups, got {channels}")
    return torch.arange(channels) // (channels // groups)
