"""causal_mask against the definition that it shortens: may this tap be seen from here, in raster order?"""

import itertools

import pytest
import torch
from conftest import refused
from hypothesis import given
from hypothesis import strategies as st

from pixelcnn_helpers import causal_mask


def naive_mask(kernel_size, mask_type, in_channels, out_channels, groups):
    """Tap by tap: a value is (row, col, colour); A sees the values before its own, B its own as well."""
    mask = torch.zeros(out_channels, in_channels, kernel_size, kernel_size)
    centre = kernel_size // 2
    for o, i, row, col in itertools.product(*map(range, mask.shape)):
        seen = (row, col, i * groups // in_channels)
        own = (centre, centre, o * groups // out_channels)
        mask[o, i, row, col] = float(seen < own or (mask_type == "B" and seen == own))
    return mask


@given(
    half=st.integers(0, 4), mask_type=st.sampled_from("AB"), groups=st.sampled_from([1, 2, 3]),
    split=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)  # fmt: skip
def test_mask_is_raster_order(half, mask_type, groups, split):
    args = 2 * half + 1, mask_type, split[0] * groups, split[1] * groups, groups
    mask = causal_mask(*args)
    assert mask.dtype == torch.float32
    assert mask.shape == (args[3], args[2], args[0], args[0])
    assert torch.equal(mask, naive_mask(*args))


def test_one_channel_by_hand():
    assert causal_mask(3, "A").tolist() == [[[[1, 1, 1], [1, 0, 0], [0, 0, 0]]]]
    assert causal_mask(3, "B").tolist() == [[[[1, 1, 1], [1, 1, 0], [0, 0, 0]]]]
    assert causal_mask(1, "A").tolist() == [[[[0]]]]


def test_colours_by_hand():
    """Rows: what R, G and B may see of R, G and B at their own pixel."""
    assert causal_mask(1, "A", 3, 3, groups=3).squeeze().tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert causal_mask(1, "B", 3, 3, groups=3).squeeze().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    wide = causal_mask(1, "A", 3, 6, groups=3).squeeze()  # two features per colour, in order
    assert wide.tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0]]


def test_only_the_centre_tells_colours_apart():
    mask = causal_mask(5, "A", 6, 3, groups=3)
    mask[:, :, 2, 2] = 0
    assert torch.equal(mask, causal_mask(5, "A", 6, 3))


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((2, "A"), ValueError, ("kernel_size", "odd", "got 2")),
        ((0, "A"), ValueError, ("kernel_size", "at least 1", "got 0")),
        ((-3, "A"), ValueError, ("kernel_size", "at least 1", "got -3")),
        ((3.0, "A"), TypeError, ("kernel_size", "integer", "float 3.0")),
        ((True, "A"), TypeError, ("kernel_size", "integer", "boolean True")),
        (((3, 3), "A"), TypeError, ("kernel_size", "integer", "tuple")),
        ((3, "C"), ValueError, ("mask_type", '"A" or "B"', "'C'")),
        ((3, "a"), ValueError, ("mask_type", '"A" or "B"', "'a'")),
        ((3, None), ValueError, ("mask_type", '"A" or "B"', "None")),
        ((3, "A", 0), ValueError, ("in_channels", "at least 1", "got 0")),
        ((3, "A", 1, "8"), TypeError, ("out_channels", "integer", "str '8'")),
        ((3, "A", 4, 3, 3), ValueError, ("in_channels", "split evenly into 3", "got 4")),
        ((3, "A", 3, 64, 3), ValueError, ("out_channels", "split evenly into 3", "got 64")),
        ((3, "A", 3, 3, 0), ValueError, ("groups", "at least 1", "got 0")),
    ],
)
def test_bad_input(args, error, words):
    with refused(error, *words):
        causal_mask(*args)
