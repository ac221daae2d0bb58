"""Each layer against a plain convolution with the same weights, and random stacks of them against raster order."""

import pytest
import torch
from conftest import refused
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from pixelcnn_helpers import HorizontalConv2d, MaskedConv2d, VerticalConv2d, causal_mask

ODD, DILATIONS, SIZES = (3, 5, 7), (1, 2, 3), ((1, 1), (1, 6), (5, 1), (2, 3), (6, 7))


def square(layer, kernel_size, reach, dilation, x):
    """The square convolution that a half kernel stands for: its weights in a square of zeros."""
    weight = getattr(layer, "mask", 1) * layer.weight
    full = torch.zeros(*weight.shape[:2], kernel_size, kernel_size, dtype=weight.dtype)
    rows, cols = weight.shape[2:]
    if isinstance(layer, VerticalConv2d):
        full[:, :, :rows] = weight
    else:
        full[:, :, kernel_size // 2, :cols] = weight.squeeze(2)
    return F.conv2d(x, full, layer.bias, padding=reach, dilation=dilation)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("dilation", DILATIONS)
@pytest.mark.parametrize("kernel_size", ODD)
def test_half_kernels_equal_squares(kernel_size, dilation, first):
    reach = kernel_size // 2 * dilation
    layers = [VerticalConv2d(3, 6, kernel_size, first, dilation)]
    layers += [HorizontalConv2d(3, 6, kernel_size, first, dilation, groups) for groups in (1, 3)]
    for layer in layers:
        layer.double()
        assert layer.reach == reach
        for size in SIZES:
            x = torch.randn(2, 3, *size, dtype=torch.float64)
            torch.testing.assert_close(layer(x), square(layer, kernel_size, reach, dilation, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("first", [True, False])
def test_half_kernels_have_no_wasted_taps(first):
    assert VerticalConv2d(2, 4, 7, first).weight.shape == (4, 2, 3 + (not first), 7)
    assert HorizontalConv2d(2, 4, 7, first).weight.shape == (4, 2, 1, 3 + (not first))
    assert HorizontalConv2d(3, 3, 7, first, groups=3).weight.shape == (3, 3, 1, 4)  # the centre is shared by colours
    assert VerticalConv2d(2, 4, 3, first, bias=False).bias is None
    assert HorizontalConv2d(2, 4, 3, first, bias=False).bias is None


@pytest.mark.parametrize(("kind", "first"), [("A", True), ("B", False)])
@pytest.mark.parametrize("groups", [1, 3])
def test_vertical_and_horizontal_together_are_the_masked_square(kind, first, groups):
    """First layers: rows above + own row to the left = mask A. (Type B differs: vertical features lag a row behind.)"""
    masked = MaskedConv2d(kind, 3, 6, 5, groups=groups, bias=False)
    horizontal = HorizontalConv2d(3, 6, 5, first=first, groups=groups, bias=False)
    above = VerticalConv2d(3, 6, 5, first=True, bias=False)
    above.weight.data.copy_(masked.weight[:, :, :2])
    horizontal.weight.data.copy_(masked.weight[:, :, 2:3, : horizontal.weight.shape[3]])
    x = torch.randn(2, 3, 6, 7)
    torch.testing.assert_close(above(x) + horizontal(x), masked(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernel_size", [1, *ODD])
@pytest.mark.parametrize("dilation", DILATIONS)
@pytest.mark.parametrize("kind", ["A", "B"])
def test_masked_conv_is_a_convolution_with_a_masked_weight(kernel_size, dilation, kind):
    layer = MaskedConv2d(kind, 3, 6, kernel_size, groups=3, dilation=dilation)
    mask, reach = causal_mask(kernel_size, kind, 3, 6, 3), kernel_size // 2 * dilation
    for size in SIZES:
        x = torch.randn(2, 3, *size)
        wanted = F.conv2d(x, layer.weight * mask, layer.bias, padding=reach, dilation=dilation)
        assert torch.equal(layer(x), wanted)
        assert wanted.shape == (2, 6, *size)


def test_mask_is_a_buffer():
    layer = MaskedConv2d("A", 1, 4, 3)
    assert "mask" in layer.state_dict()
    assert "mask" not in dict(layer.named_parameters())
    assert layer.to(torch.float64).mask.dtype == torch.float64
    assert layer.to("meta").mask.is_meta
    assert MaskedConv2d("A", 1, 4, 3, dtype=torch.float64, device="meta").mask.dtype == torch.float64
    assert "mask" in HorizontalConv2d(3, 3, 3, groups=3).state_dict()


@pytest.mark.parametrize(
    "make",
    [
        lambda: MaskedConv2d("B", 3, 6, 5, groups=3),
        lambda: HorizontalConv2d(3, 6, 5, groups=3),
        lambda: HorizontalConv2d(3, 6, 5, first=True, groups=3),
    ],
)
def test_weight_is_never_changed_and_masked_taps_get_no_gradient(make):
    layer = make()
    before = layer.weight.detach().clone()
    layer(torch.randn(2, 3, 6, 6)).square().sum().backward()
    assert torch.equal(layer.weight, before)
    closed = layer.mask.expand_as(layer.weight) == 0
    assert closed.any()
    assert (layer.weight.grad[closed] == 0).all()
    assert (layer.weight.grad[~closed] != 0).all()


def test_masked_taps_hold_even_when_the_weights_are_written_over():
    layer = MaskedConv2d("A", 1, 1, 3, bias=False)
    nn.init.constant_(layer.weight, 100.0)
    x = torch.zeros(1, 1, 3, 3)
    x[0, 0, 1, 1] = x[0, 0, 2, 0] = 1
    assert layer(x)[0, 0, 1, 1] == 0


def test_layers_tell_what_they_are():
    assert "'A'" in repr(MaskedConv2d("A", 3, 6, 3, groups=3))
    assert "colour_groups=3" in repr(MaskedConv2d("A", 3, 6, 3, groups=3))


# causality of stacks


class TwoStacks(nn.Module):
    """Vertical features feed the horizontal ones through a 1×1, as in the gated network, without the gates."""

    def __init__(self, kernels, dilations, groups, features):
        super().__init__()
        widths = [groups, *[features] * len(kernels)]
        make = list(enumerate(zip(kernels, dilations, strict=True)))
        self.vertical = nn.ModuleList(VerticalConv2d(widths[i], features, k, i == 0, d) for i, (k, d) in make)
        self.link = nn.ModuleList(nn.Conv2d(features, features, 1) for _ in make)
        self.horizontal = nn.ModuleList(
            HorizontalConv2d(widths[i], features, k, i == 0, d, groups) for i, (k, d) in make
        )

    def forward(self, x):
        v = h = x
        for vertical, link, horizontal in zip(self.vertical, self.link, self.horizontal, strict=True):
            v = vertical(v)  # (N, features, H, W), rows above only
            h = horizontal(h) + link(v)
        return h


def dependence(net, groups, features, size=(4, 5)):
    """Which outputs have a gradient towards which inputs: boolean, both in raster order, channels innermost."""
    x = torch.randn(1, groups, *size, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(net.double(), x, vectorize=True)[0, :, :, :, 0]  # (F, H, W, C, H, W)
    moved = (jacobian != 0).unflatten(0, (groups, features // groups)).any(1)
    return moved.permute(1, 2, 0, 4, 5, 3).flatten(3).flatten(0, 2)


stacks = st.lists(st.tuples(st.sampled_from([3, 5]), st.sampled_from([1, 2])), min_size=1, max_size=3)


@given(stacks, st.sampled_from([1, 3]), st.integers(1, 2))
def test_stacks_of_masked_convolutions_are_causal(layers, groups, split):
    features = groups * split
    kinds = ["A", *"B" * (len(layers) - 1)]
    widths = [groups, *[features] * (len(layers) - 1)]
    net = nn.Sequential(*(
        MaskedConv2d(kind, width, features, k, groups, dilation=d)
        for kind, width, (k, d) in zip(kinds, widths, layers, strict=True)
    ), MaskedConv2d("B", features, features, 1, groups))  # fmt: skip
    depends = dependence(net, groups, features)
    assert not depends.triu().any()
    assert depends.any()
    for later in range(1, groups):  # green sees its own red, blue its own red and green
        for earlier in range(later):
            assert depends[later::groups, earlier::groups].diagonal().all()


@given(stacks, st.sampled_from([1, 3]), st.integers(1, 2))
def test_two_stacks_are_causal(layers, groups, split):
    features = groups * split
    depends = dependence(TwoStacks(*zip(*layers, strict=True), groups, features), groups, features)
    assert not depends.triu().any()
    assert depends.any()
    for later in range(1, groups):
        for earlier in range(later):
            assert depends[later::groups, earlier::groups].diagonal().all()


@given(stacks)
def test_vertical_stack_sees_whole_rows_above_and_nothing_of_its_own(layers):
    widths = [1, *[2] * len(layers)]
    net = nn.Sequential(*(VerticalConv2d(widths[i], 2, k, i == 0, d) for i, (k, d) in enumerate(layers)))
    depends = dependence(net, 1, 2).unflatten(0, (4, 5)).unflatten(2, (4, 5))  # (row, col, row, col)
    for row in range(4):
        assert not depends[row, :, row:].any()
    assert depends[-1].any()


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: MaskedConv2d("C", 1, 1, 3), ValueError, ("mask_type", '"A" or "B"', "'C'")),
        (lambda: MaskedConv2d("A", 1, 1, 4), ValueError, ("kernel_size", "odd", "got 4")),
        (lambda: MaskedConv2d("A", 0, 1, 3), ValueError, ("in_channels", "at least 1", "got 0")),
        (lambda: MaskedConv2d("A", 3, 8, 3, groups=3), ValueError, ("out_channels", "3 groups", "got 8")),
        (lambda: MaskedConv2d("A", 1, 1, 3, dilation=0), ValueError, ("dilation", "at least 1", "got 0")),
        (lambda: VerticalConv2d(1, 1, 2), ValueError, ("kernel_size", "odd", "got 2")),
        (lambda: VerticalConv2d(0, 1, 3), ValueError, ("in_channels", "at least 1", "got 0")),
        (lambda: VerticalConv2d(1, -1, 3), ValueError, ("out_channels", "at least 1", "got -1")),
        (lambda: VerticalConv2d(1, 1, 1, first=True), ValueError, ("kernel_size", "at least 3", "got 1")),
        (lambda: VerticalConv2d(1, 1, 3, dilation=1.5), TypeError, ("dilation", "integer", "float 1.5")),
        (lambda: HorizontalConv2d(1, 1, 4), ValueError, ("kernel_size", "odd", "got 4")),
        (lambda: HorizontalConv2d(1, 1, 1, first=True), ValueError, ("kernel_size", "at least 3", "got 1")),
        (lambda: HorizontalConv2d(3, 4, 3, groups=3), ValueError, ("out_channels", "3 groups", "got 4")),
        (lambda: HorizontalConv2d(3, 3, 3, groups=0), ValueError, ("groups", "at least 1", "got 0")),
    ],
)
def test_bad_input(make, error, words):
    with refused(error, *words):
        make()


@pytest.mark.parametrize("option", [{"stride": 2}, {"padding_mode": "circular"}, {"padding": 0}])
def test_options_that_would_break_raster_order_are_not_taken(option):
    with pytest.raises(TypeError):
        MaskedConv2d("A", 1, 1, 3, **option)


@pytest.mark.parametrize("layer", [VerticalConv2d, HorizontalConv2d])
def test_first_is_no_mask_type(layer):
    with pytest.raises(TypeError, match="first must be True or False, got 'B'"):
        layer(1, 4, 3, "B")
