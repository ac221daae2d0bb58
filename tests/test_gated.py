"""The gated block, the two-stack and the shortcut network: what they see, what their labels do, what they refuse."""

import numpy as np
import pytest
import torch
from conftest import integers, one_hot, refused
from torch import nn

from pixelcnn_helpers import (
    GatedBlock,
    GatedPixelCNN,
    MaskedConv2d,
    PixelCNN,
    ShortcutPixelCNN,
    assert_causal,
    blind_spot,
    fit,
    load_digits,
    receptive_field,
    sample,
    soft_label,
)
from pixelcnn_helpers.layers import gate


def gated(channels=1, **options):
    wanted = {"levels": 4, "features": 8 * channels, "blocks": 2, "first_kernel_size": 3}
    return GatedPixelCNN(channels, **wanted | options)


def shortcut(channels=1, **options):
    return ShortcutPixelCNN(channels, **{"levels": 4, "features": 8 * channels, "blocks": 2, "classes": 0} | options)


def one(classes):
    return soft_label({0: 0.25, classes - 1: 0.75}, classes) if classes else None


# causality and reach


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("dilations", [(1, 1), (2, 1), (1, 3)])
def test_gated_is_causal(channels, classes, dilations):
    assert_causal(gated(channels, classes=classes, dilations=dilations), size=(5, 4), labels=one(classes))


@pytest.mark.parametrize("options", [{"kernel_size": 1}, {"kernel_size": 5}, {"first_kernel_size": 7}, {"blocks": 1}])
def test_gated_is_causal_with_other_kernels(options):
    assert_causal(gated(**options), size=(5, 5))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [0, 3])
def test_shortcut_is_causal(channels, classes):
    assert_causal(shortcut(channels, classes=classes), size=(4, 5), labels=one(classes))


@pytest.mark.parametrize("channels", [1, 3])
def test_trained_averages_leak_nothing(channels):
    model = shortcut(channels)
    settle(model)
    assert_causal(model, size=(4, 4))


def settle(model):
    """A few batches in training mode, so that the averages of batch norm are not 0 and 1."""
    for i in range(3):
        model.train()(integers((8, model.channels, 5, 5), model.levels, i))


def test_no_blind_spot_with_two_stacks_and_one_without():
    size = (7, 7)
    two, one_stack = gated(dilations=(1, 2)), PixelCNN(levels=4, features=8, layers=3, kernel_size=3)
    places = [(row, col) for row in range(7) for col in range(7)]
    assert not any(blind_spot(two, *place, size).any() for place in places)
    assert any(blind_spot(one_stack, *place, size).any() for place in places)
    assert any(blind_spot(shortcut(blocks=1), *place, size).any() for place in places)


def test_no_blind_spot_in_colour():
    assert not any(blind_spot(gated(3), row, col, (5, 5)).any() for row in range(5) for col in range(5))


@pytest.mark.parametrize(
    ("dilations", "rows"), [(None, 11), ((1, 2, 4, 8, 1, 2, 4, 2), 27)]
)
def test_reaches_as_far_as_its_docstring_says(dilations, rows):
    model = GatedPixelCNN(levels=2, features=4, dilations=dilations)
    assert model.reach == rows
    height, middle = rows + 3, 30
    seen = receptive_field(model, height - 1, middle, (height, 60))
    row, col = np.indices(seen.shape)
    earlier = (row < height - 1) | (col < middle)
    assert np.array_equal(seen, earlier & (row >= height - 1 - rows) & (abs(col - middle) <= rows))  # and no holes


def test_the_bottom_of_28_rows_sees_the_top():
    model = GatedPixelCNN(levels=2, features=4, dilations=[1, 2, 4, 8, 1, 2, 4, 2])
    seen = receptive_field(model, 27, 27, (28, 28))
    assert seen.sum() == 28 * 28 - 1  # all that is earlier


def test_the_shortcut_network_ends_15_rows_up():
    seen = receptive_field(ShortcutPixelCNN(levels=2, features=8, classes=0), 17, 6, (20, 12))
    assert seen.any(1).nonzero()[0][0] == 17 - 15
    seen = receptive_field(shortcut(blocks=1), 8, 6, (10, 12))
    assert seen.any(1).nonzero()[0][0] == 8 - 5


# the gate


def test_gate_is_tanh_times_sigmoid():
    x = torch.randn(2, 8, 3, 4)
    assert torch.allclose(gate(x), torch.tanh(x[:, :4]) * torch.sigmoid(x[:, 4:]))


def test_gate_by_colour():
    x = torch.randn(2, 12, 3)
    wanted = [torch.tanh(x[:, i : i + 2]) * torch.sigmoid(x[:, i + 2 : i + 4]) for i in (0, 4, 8)]
    assert torch.allclose(gate(x, 3), torch.cat(wanted, 1))


# the block


def stacks(features=6, n=2, size=(5, 4)):
    return torch.randn(n, features, *size), torch.randn(n, features, *size)


def test_block_is_equation_2_of_the_paper():
    block, (v, h), rows = GatedBlock(6, classes=3), stacks(), one_hot([0, 2])
    v_new, h_new, passed = block(v, h, rows)
    wide = block.vertical(v)
    for_v, for_h = (block.condition.weight @ rows.T).T[:, :, None, None].chunk(2, 1)
    z = block.horizontal(h) + block.link(wide) + for_h  # the link: before the gate, before the label
    wanted = z[:, :6].tanh() * z[:, 6:].sigmoid()
    assert torch.allclose(v_new, (wide + for_v)[:, :6].tanh() * (wide + for_v)[:, 6:].sigmoid(), atol=1e-6)
    assert torch.allclose(passed, wanted, atol=1e-6)
    assert torch.allclose(h_new, h + block.residual(wanted), atol=1e-6)
    assert all(part.shape == h.shape for part in (v_new, h_new, passed))


def test_the_link_is_taken_before_the_gate():
    block, (v, h) = GatedBlock(6), stacks()
    received = []
    block.link.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0]))
    v_new, _, _ = block(v * 30, h)
    assert received[0].shape[1] == 12  # both halves
    assert received[0].abs().max() > 1 >= v_new.abs().max()  # a gate ends at ±1
    assert torch.equal(received[0], block.vertical(v * 30))


def test_the_vertical_stack_never_reads_the_horizontal_one():
    block, (v, h) = GatedBlock(6), stacks()
    assert torch.equal(block(v, h)[0], block(v, torch.randn_like(h))[0])
    assert not torch.equal(block(v, h)[1], block(torch.randn_like(v), h)[1])


def test_colours_stay_apart_on_the_horizontal_path():
    """At one pixel nothing of the vertical stack: green features may not move red, blue not green."""
    block, (v, h) = GatedBlock(6, groups=3).double(), stacks(size=(1, 1))
    v, h = v.double(), h.double().requires_grad_()
    for output in block(v, h)[1:]:
        for group in range(3):
            (gradient,) = torch.autograd.grad(output[:, 2 * group : 2 * group + 2].sum(), h, retain_graph=True)
            assert gradient[:, : 2 * group + 2].abs().min() > 0
            assert not gradient[:, 2 * group + 2 :].any()


def test_all_masks_of_a_colour_network_know_its_colours():
    for model in (gated(3), shortcut(3)):
        masked = [layer for layer in model.modules() if hasattr(layer, "colour_groups")]
        assert {layer.colour_groups for layer in masked} == {3}
    apart = [name for name, layer in gated(3).named_modules()
             if isinstance(layer, nn.Conv2d) and not hasattr(layer, "colour_groups")]
    assert all(name.endswith(("vertical", "link")) for name in apart)


# labels


@pytest.mark.parametrize("make", [gated, shortcut])
def test_labels_go_through_a_matrix_product(make):
    model, images = make(classes=3).double().eval(), integers((1, 1, 5, 5), 4).expand(4, 1, 5, 5)
    with torch.no_grad():
        layer = model.blocks[0].condition
        offset = 0 if layer.bias is None else layer.bias
        picked = layer(torch.eye(3, dtype=torch.float64)) - offset
        assert torch.equal(picked, layer.weight.T + offset - offset)  # a one-hot row picks a row
        logits = model(images, torch.cat([torch.eye(3), soft_label({0: 0.5, 1: 0.5}, 3)]))
    zero, first, second, mixed = logits
    assert (zero - first).abs().max() > 1e-3 and (first - second).abs().max() > 1e-3
    assert (mixed - zero).abs().max() > 1e-3 and (mixed - first).abs().max() > 1e-3
    assert (mixed - (zero + first) / 2).abs().max() > 1e-6  # inputs are mixed, not outputs


@pytest.mark.parametrize("make", [gated, shortcut])
def test_every_block_hears_the_label(make):
    model, images = make(classes=3).eval(), integers((2, 1, 4, 4), 4)
    for i in range(len(model.blocks)):
        with torch.no_grad():
            before, other = model(images, one_hot([0, 0])), model(images, one_hot([1, 2]))
            model.blocks[i].condition.weight[:, 0] += 1
            assert not torch.allclose(model(images, one_hot([0, 0])), before)
            assert torch.equal(model(images, one_hot([1, 2])), other)


@pytest.mark.parametrize("make", [gated, shortcut])
def test_classes_are_optional(make):
    images = integers((2, 1, 4, 4), 4)
    assert make()(images).shape == (2, 4, 1, 4, 4)
    assert all(block.condition is None for block in make().blocks)
    with refused(ValueError, "labels", "no classes"):
        make()(images, one_hot([0, 1]))
    with refused(ValueError, "labels", "float rows (N, 3)", "got None"):
        make(classes=3)(images)
    with refused(ValueError, "labels", "sum to 1"):
        make(classes=3)(images, one_hot([0, 1]) * 2)


def test_the_defaults():
    assert (GatedPixelCNN().levels, len(GatedPixelCNN().blocks), GatedPixelCNN().classes) == (8, 8, 0)
    model = ShortcutPixelCNN()
    assert (model.levels, model.classes, len(model.blocks), model.dropout.p) == (8, 10, 12, 0.5)
    assert [block.shortcut is not None for block in model.blocks] == [False] * 5 + [True] * 6 + [False]


@pytest.mark.parametrize("make", [gated, shortcut])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_every_weight_learns(make, channels):
    model, images = make(channels, features=12, classes=3), integers((5, channels, 6, 7), 4)
    logits = model(images, one_hot([0, 1, 2, 0, 1]))
    assert logits.shape == (5, 4, channels, 6, 7)
    nn.functional.cross_entropy(logits, images).backward()
    last = f"blocks.{len(model.blocks) - 1}.residual.weight"  # of the gated network: the head takes skips alone
    idle = [name for name, weight in model.named_parameters() if weight.grad is None and name != last]
    assert not idle


@pytest.mark.parametrize("make", [gated, shortcut])
def test_forward_changes_no_weight_and_no_random_state(make):
    model, images = make().eval(), integers((2, 1, 5, 5), 4)
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    model(images)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


# the channel of ones


def test_the_ones_tell_where_the_edge_is():
    """A grey image is scaled to 0, like what lies around it: without the ones its edge could not be seen."""
    grey, two, short = torch.full((1, 1, 9, 9), 1), gated(levels=3), shortcut(levels=3).eval()
    for model, first in ((two, two.vertical), (two, two.horizontal), (short, short.first)):
        features = []
        first.register_forward_hook(lambda _, inputs, output, seen=features: seen.append(output[0]))
        with torch.no_grad():
            told = model(grey)
            first.weight[:, 1::2] = 0  # deaf to the ones
            untold = model(grey)
        assert not torch.allclose(features[0][:, 0, 0], features[0][:, 4, 4])
        assert torch.allclose(features[1], features[1][:, 4:5, 4:5].expand_as(features[1]))
        assert not torch.allclose(told, untold)


def test_ones_are_ones_behind_each_channel():
    model, seen = gated(3), []
    model.vertical.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = integers((2, 3, 4, 4), 4)
    model(images)
    assert (seen[0][:, 1::2] == 1).all()
    assert torch.equal(seen[0][:, ::2], model.scale(images))


# the shortcut


def shortcut_inputs(model, images):
    """What goes into every block, and what into every shortcut."""
    blocks, received = [], []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, inputs: blocks.append(inputs[0]))
        if block.shortcut is not None:
            block.shortcut.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0]))
    model(images)
    return blocks, received


def test_shortcuts_hand_over_the_first_half_in_reverse():
    model = shortcut(blocks=3).eval()
    blocks, received = shortcut_inputs(model, integers((2, 1, 5, 5), 4))
    assert len(blocks) == 6 and len(received) == 3
    assert all(torch.equal(one, blocks[i]) for one, i in zip(received, (2, 1, 0), strict=True))
    # the slip of the original hands each block its own input instead
    assert not any(torch.equal(one, blocks[i]) for one, i in zip(received[1:], (3, 4), strict=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_shortcut_carries_signal(channels):
    model, images = shortcut(channels, blocks=3).double().eval(), integers((2, channels, 5, 5), 4)
    with torch.no_grad():
        whole = model(images)
        for block in model.blocks:
            if block.shortcut is not None:
                silent = block.shortcut.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 0,))
                assert (model(images) - whole).abs().max() > 1e-6
                silent.remove()
    assert torch.equal(model(images), whole)


def test_the_shortcut_is_a_path_of_its_own():
    """With the convolutions of the second half silenced, its gates still answer to the first half."""
    block, x = shortcut().eval().blocks[1], torch.randn(2, 8, 4, 4)
    earlier = torch.randn(2, 8, 4, 4, requires_grad=True)
    with torch.no_grad():
        block.conv.weight.zero_()
    (gradient,) = torch.autograd.grad(block(x, None, earlier).square().sum(), earlier)
    assert gradient.abs().max() > 0
    with torch.no_grad():
        z = (block.conv(x) + block.shortcut_norm(block.shortcut(earlier))) / 2
        assert torch.allclose(block(x, None, earlier), x + block.norm(gate(z)), atol=1e-6)


def test_dropout_only_in_training():
    model, images = shortcut(dropout=0.5), integers((4, 1, 5, 5), 4)
    assert not torch.equal(model(images), model(images))
    assert torch.equal(model.eval()(images), model(images))
    twin = shortcut(dropout=0)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.eval()(images), model(images))


def test_dropout_takes_whole_channels():
    dropped = shortcut(features=16).dropout.train()(torch.ones(3, 16, 4, 4)).flatten(2)
    assert ((dropped == 0).all(2) | (dropped == 2).all(2)).all()
    assert (dropped == 0).any() and (dropped == 2).any()


# bad input


@pytest.mark.parametrize(
    ("make", "options", "error", "words"),
    [
        (gated, {"channels": 0}, ValueError, ("channels", "at least 1", "got 0")),
        (gated, {"levels": 1}, ValueError, ("levels", "at least 2", "got 1")),
        (gated, {"features": 0}, ValueError, ("features", "at least 1", "got 0")),
        (gated, {"features": 8.0}, TypeError, ("features", "integer", "float 8.0")),
        (gated, {"channels": 3, "features": 8}, ValueError, ("features", "3 channels", "got 8")),
        (gated, {"blocks": 0}, ValueError, ("blocks", "at least 1", "got 0")),
        (gated, {"blocks": True}, TypeError, ("blocks", "integer", "boolean True")),
        (gated, {"kernel_size": 2}, ValueError, ("kernel_size", "odd", "got 2")),
        (gated, {"kernel_size": "3"}, TypeError, ("kernel_size", "integer", "str '3'")),
        (gated, {"first_kernel_size": 1}, ValueError, ("kernel_size", "at least 3", "got 1")),
        (gated, {"first_kernel_size": 4}, ValueError, ("kernel_size", "odd", "got 4")),
        (gated, {"dilations": [1]}, ValueError, ("dilations", "2 blocks", "[1]")),
        (gated, {"dilations": [1, 0]}, ValueError, ("dilation", "at least 1", "got 0")),
        (gated, {"dilations": [1, 1.5]}, TypeError, ("dilation", "integer", "float 1.5")),
        (gated, {"dilations": 2}, ValueError, ("dilations", "one for each", "got 2")),
        (gated, {"classes": -1}, ValueError, ("classes", "at least 0", "got -1")),
        (shortcut, {"levels": 1.5}, TypeError, ("levels", "integer", "float 1.5")),
        (shortcut, {"channels": 3, "features": 8}, ValueError, ("features", "3 channels", "got 8")),
        (shortcut, {"blocks": 0}, ValueError, ("blocks", "at least 1", "got 0")),
        (shortcut, {"classes": True}, TypeError, ("classes", "integer", "boolean True")),
        (shortcut, {"dropout": 1}, ValueError, ("dropout", "below 1", "got 1")),
        (shortcut, {"dropout": -0.1}, ValueError, ("dropout", "at least 0", "got -0.1")),
        (shortcut, {"dropout": "0.5"}, TypeError, ("dropout", "number", "str '0.5'")),
        (shortcut, {"dropout": float("nan")}, ValueError, ("dropout", "finite", "nan")),
        (GatedBlock, {"features": 0}, ValueError, ("features", "at least 1", "got 0")),
        (GatedBlock, {"features": 6.0}, TypeError, ("features", "integer", "float 6.0")),
        (GatedBlock, {"features": 6, "kernel_size": 2}, ValueError, ("kernel_size", "odd", "got 2")),
        (GatedBlock, {"features": 6, "dilation": 0}, ValueError, ("dilation", "at least 1", "got 0")),
        (GatedBlock, {"features": 6, "classes": -1}, ValueError, ("classes", "at least 0", "got -1")),
        (GatedBlock, {"features": 7, "groups": 3}, ValueError, ("channels", "3 groups", "got 7")),
    ],
)
def test_bad_options(make, options, error, words):
    with refused(error, *words):
        make(**options)


def test_sizes_of_numpy_and_dilations_of_any_sequence():
    model = gated(features=np.int64(8), blocks=np.int64(2), dilations=np.array([1, 2]))
    assert model.reach == 1 + 1 + 2
    assert gated(dilations=range(1, 3)).reach == model.reach


# from data to pictures


def test_trains_and_draws_digits_on_request():
    """A few steps are enough to leave the uniform baseline, and a label row is all it takes to ask."""
    images, classes = load_digits()
    images, rows = images[:512], one_hot(classes[:512], 10)
    model = GatedPixelCNN(levels=17, features=16, blocks=3, first_kernel_size=5, classes=10)
    history = fit(model, images, rows, steps=24, batch_size=32, progress=False)
    assert history.train[-1] < 4.0 < np.log2(17)
    drawn = sample(model, labels=soft_label({1: 0.5, 7: 0.5}, 10).expand(3, 10))
    assert drawn.shape == (3, 1, *images.shape[-2:])
    assert not torch.equal(drawn[0], drawn[1])
    masked = [layer for layer in model.modules() if isinstance(layer, MaskedConv2d)]
    assert len(masked) == 2 + 3  # the residuals but the last, skip, hidden and head
