"""The tests themselves on trial: what assert_causal must catch, and fields against two independent computations."""

import itertools
import random

import numpy as np
import pytest
import torch
from conftest import ConditionalToy, NetModel, integers, one_hot, refused
from torch import nn
from torch.nn import functional as F

from pixelcnn_helpers import (
    GatedPixelCNN,
    HorizontalConv2d,
    MaskedConv2d,
    PixelCNN,
    VerticalConv2d,
    assert_causal,
    blind_spot,
    effective_receptive_field,
    receptive_field,
)


def stack(*layers, channels=1, levels=4):
    """(mask type, width, kernel, groups) each, with ReLUs between, as a model."""
    net, width = [], channels
    for kind, features, kernel_size, groups in layers:
        net += [MaskedConv2d(kind, width, features, kernel_size, groups), nn.ReLU()]
        width = features
    return NetModel(nn.Sequential(*net[:-1]), channels, levels)


class Plain(nn.Module):
    """A module of somebody else: integer images in, logits out, and nothing that it could be asked about."""

    def __init__(self, logits):
        super().__init__()
        self.forward = logits


def shifted(x, rows, cols):
    """x moved down and to the right, zeros where nothing comes from."""
    height, width = x.shape[-2:]
    x = F.pad(x, (max(cols, 0), max(-cols, 0), max(rows, 0), max(-rows, 0)))
    return x[..., max(-rows, 0) :, max(-cols, 0) :][..., :height, :width]


def plain(rows, cols, levels=4):
    return Plain(lambda images: F.one_hot(shifted(images, rows, cols), levels).permute(0, 4, 1, 2, 3).float())


# what must pass


@pytest.mark.parametrize("channels", [1, 3])
def test_a_right_model_passes(channels):
    model = PixelCNN(channels, levels=3, features=6, layers=2, kernel_size=3)
    assert assert_causal(model) is None
    assert_causal(model, channels, (3, 3), 3)


def test_a_plain_module_passes():
    assert_causal(plain(0, 1))
    assert_causal(plain(1, -2), size=(3, 5), levels=4)


def test_a_plain_module_that_leaves_out_the_only_channel_passes():
    assert_causal(Plain(lambda images: F.one_hot(shifted(images[:, 0], 0, 1), 4).permute(0, 3, 1, 2).float()))


def test_a_conditional_model_passes_with_a_label():
    assert_causal(ConditionalToy(), labels=one_hot([1]))
    with refused(ValueError, "labels", "got None"):
        assert_causal(ConditionalToy())
    with refused(ValueError, "labels", "no classes"):
        assert_causal(PixelCNN(levels=2, layers=1, features=2), labels=one_hot([1]))
    with refused(ValueError, "labels", "one row", "2 rows"):
        assert_causal(ConditionalToy(), labels=one_hot([1, 2]))


@pytest.mark.parametrize("kind", [PixelCNN, ConditionalToy])
def test_the_model_is_left_as_it_was(kind):
    model = kind(levels=3, features=4, **({"layers": 2} if kind is PixelCNN else {"dropout": 0.5}))
    labels = one_hot([0]) if model.classes else None
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen = torch.get_rng_state()
    assert_causal(model, labels=labels)
    receptive_field(model, 1, 1, (3, 3), labels)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(torch.get_rng_state(), seen)


# what must be caught


def caught(model, *words, **options):
    with pytest.raises(AssertionError) as found:
        assert_causal(model, **options)
    missing = [word for word in words if word not in str(found.value)]
    assert not missing, f"{missing} not in {found.value}"


def test_type_b_in_the_first_layer():
    model = stack(("B", 8, 3, 1), ("B", 4, 1, 1))
    caught(model, "leak", "output at row 0, col 0 changes with the input at row 0, col 0, which is not earlier")


def test_no_mask_at_all():
    caught(NetModel(nn.Conv2d(1, 4, 3, padding=1)), "output at row 0, col 0 changes with the input at row 0, col 0")


def test_type_a_on_a_1x1():
    caught(stack(("A", 8, 3, 1), ("A", 4, 1, 1)), "ignore all earlier pixels")
    caught(stack(("A", 4, 1, 1)), "ignore all earlier pixels")


def test_type_b_without_its_own_row_leaks_nothing_and_is_seen_in_a_single_row():
    """It sees too little, not too much: a whole image hides it, an image of one row shows it, and so do its fields."""
    model = stack(("A", 8, 3, 1), ("B", 8, 3, 1), ("B", 4, 1, 1))
    model.net[2].mask[:, :, 1] = 0
    assert_causal(model)
    caught(model, "ignore all earlier pixels", size=(1, 6))
    assert not receptive_field(model, 3, 3, (7, 7))[3].any()


def test_colour_without_the_group_mask_in_the_1x1():
    model = stack(("A", 12, 3, 3), ("B", 12, 1, 1), channels=3)
    caught(model, "output at row 0, col 0, red changes with the input at row 0, col 0, red")


def test_colour_without_the_group_mask_in_the_first_layer():
    """One group and type A: no leak, but green never sees its own red."""
    caught(stack(("A", 12, 3, 1), ("B", 12, 1, 3), channels=3), "green ignores its own red")


def test_blue_that_ignores_its_own_green():
    model = stack(("A", 12, 3, 3), ("B", 12, 1, 3), channels=3)
    model.net[0].mask[8:, 1, 1, 1] = 0
    model.net[2].mask[8:, 4:8, 0, 0] = 0
    caught(model, "blue ignores its own green")


def test_two_channels_are_numbered():
    caught(stack(("A", 8, 3, 1), ("B", 8, 1, 2), channels=2), "channel 1 ignores its own channel 0")


class Stacks(nn.Module):
    """Two stacks on the scaled image; with `leak` the vertical one reads the horizontal one."""

    reach = 3

    def __init__(self, leak=False, features=8, levels=4, layers=3):
        super().__init__()
        widths = [1, *[features] * layers]
        self.vertical = nn.ModuleList(VerticalConv2d(widths[i], features, 3, first=i == 0) for i in range(layers))
        self.horizontal = nn.ModuleList(HorizontalConv2d(widths[i], features, 3, first=i == 0) for i in range(layers))
        self.last, self.leak = nn.Conv2d(features, levels, 1), leak

    def forward(self, x):
        v = h = x
        for vertical, horizontal in zip(self.vertical, self.horizontal, strict=True):
            v, h = vertical(v), horizontal(h)
            h = torch.tanh(h + v)
            v = torch.tanh(v + h if self.leak else v)
        return self.last(h)


def test_vertical_stack_that_reads_the_horizontal_one():
    assert_causal(NetModel(Stacks()))
    caught(NetModel(Stacks(leak=True)), "output at row 0, col 0 changes with the input at row 0, col 0")


@pytest.mark.parametrize(
    ("rows", "cols", "words"),
    [
        (0, 0, "output at row 0, col 0 changes with the input at row 0, col 0,"),
        (0, -1, "output at row 0, col 0 changes with the input at row 0, col 1,"),
        (-1, 2, "output at row 0, col 2 changes with the input at row 1, col 0,"),
    ],
)
def test_plain_modules_that_leak(rows, cols, words):
    caught(plain(rows, cols), words)


def test_the_pair_that_leaks_is_the_one_named():
    def logits(images):
        out = F.one_hot(shifted(images, 0, 1), 4).permute(0, 4, 1, 2, 3).float()
        out[:, 0, 1, 2, 1] += images[:, 2, 2, 1]  # blue, later
        return out

    caught(Plain(logits), "row 2, col 1, green changes with the input at row 2, col 1, blue", channels=3)


@pytest.mark.parametrize("size", [1e-17, 1e-30])
def test_a_leak_that_only_the_gradient_sees(size):
    class Faint(NetModel):
        def logits(self, x, labels=None):
            return super().logits(x) + size * x[:, None]

    model = Faint(MaskedConv2d("A", 1, 4, 3))
    caught(model, "output at row 0, col 0 has a gradient towards the input at row 0, col 0")


def test_a_leak_that_only_a_perturbation_sees():
    class Rounded(NetModel):
        def forward(self, images, labels=None):
            return super().forward(images) + shifted(images, 0, -1)[:, None]  # around scale and logits

    caught(Rounded(MaskedConv2d("A", 1, 4, 3)), "output at row 0, col 0 changes with the input at row 0, col 1")


def test_a_model_that_only_leaks_in_its_last_position():
    def logits(images):
        out = F.one_hot(shifted(images, 0, 1), 4).permute(0, 4, 1, 2, 3).float()
        out[:, 0, :, -1, -1] += images[:, :, -1, -1]
        return out

    caught(Plain(logits), "output at row 6, col 5 changes with the input at row 6, col 5")


def test_constant_logits_are_no_model():
    caught(Plain(lambda images: torch.zeros(len(images), 4, *images.shape[1:])), "ignore all earlier pixels")


@pytest.mark.parametrize(
    ("model", "options", "error", "words"),
    [
        (lambda images: images, {}, TypeError, ("model", "torch.nn.Module", "function")),
        (plain(0, 1), {"channels": 0}, ValueError, ("channels", "at least 1", "got 0")),
        (plain(0, 1), {"levels": 1}, ValueError, ("levels", "at least 2", "got 1")),
        (plain(0, 1), {"size": 7}, ValueError, ("size", "pair", "got 7")),
        (plain(0, 1), {"size": (7, 0)}, ValueError, ("size", "at least 1", "got 0")),
        (stack(("A", 4, 3, 1)), {"channels": 3}, ValueError, ("channels", "model's", "1 and 4", "3 and 4")),
        (stack(("A", 4, 3, 1)), {"levels": 5}, ValueError, ("levels", "model's", "1 and 4", "1 and 5")),
        (Plain(lambda images: images[:, 0] / 3), {}, ValueError, ("model", "(N, levels, C, H, W)", "(2, 7, 6)")),
        (Plain(lambda images: images[:, None] / images[:, None]), {}, ValueError, ("model", "finite", "NaN")),
    ],
)
def test_bad_input(model, options, error, words):
    with refused(error, *words):
        assert_causal(model, **options)


# leaks that reach further than the small image


class Opened(nn.Module):
    """A layer that also sees one feature at a later place, `(rows, cols)` away."""

    def __init__(self, layer, rows, cols, source=0, target=0):
        super().__init__()
        self.layer, self.place, self.channels = layer, (-rows, -cols), (source, target)
        self.tap = nn.Parameter(layer.weight.detach().std())  # as large as other weights

    def forward(self, x):
        source, target = self.channels
        y = self.layer(x).clone()
        y[:, target] = y[:, target] + self.tap * shifted(x[:, source], *self.place)
        return y


def dilated(**options):
    return GatedPixelCNN(levels=3, features=4, dilations=[1, 2, 4, 8, 1, 2, 4, 2], **options)


class Foreign(nn.Module):
    """A network as a module of somebody else: integer images in, logits out, in one precision only."""

    def __init__(self, model, dtype=torch.float32):
        super().__init__()
        self.model, self.dtype, self.reach = model.to(dtype), dtype, getattr(model, "reach", 0)
        self.channels, self.levels, self.classes = model.channels, model.levels, model.classes

    def forward(self, images, labels=None):
        x = images.to(self.dtype) * (2 / (self.levels - 1)) - 1
        return self.model.logits(x, None if labels is None else labels.to(self.dtype))


@pytest.mark.parametrize("wrap", [lambda model: model, Foreign], ids=["gradient", "change"])
@pytest.mark.parametrize(("stack", "rows", "cols"), [("horizontal", 0, 8), ("vertical", 8, 8), ("vertical", 8, -8)])
def test_a_leak_of_eight_pixels(wrap, stack, rows, cols):
    model = dilated()
    assert_causal(wrap(model))
    setattr(model.blocks[3], stack, Opened(getattr(model.blocks[3], stack), rows, cols))
    assert_causal(wrap(model), size=(7, 6))  # too small, and all that was asked for
    caught(wrap(model), "leak: ", "which is not earlier")


def test_the_places_of_a_far_leak():
    model = dilated()
    model.blocks[3].horizontal = Opened(model.blocks[3].horizontal, 0, 8)
    caught(model, "an output up to row 0, col 27 has a gradient towards the input at row 0, col 27")
    caught(Foreign(model), "changes with the inputs from row 0, col 27 on")


def test_a_module_of_unknown_reach_is_tested_on_ten_pixels():
    caught(plain(0, -9), "changes with the inputs from row 0, col 10 on")
    caught(plain(-10, 3), "changes with the inputs from row")


def test_a_far_leak_around_the_gradient():
    class Around(NetModel):
        def forward(self, images, labels=None):
            return super().forward(images) + shifted(images, 0, -9)[:, None]

    caught(Around(MaskedConv2d("A", 1, 4, 3)), "changes with the inputs from row 0, col 10 on")


def test_taps_that_lie_outside_the_small_image_are_no_closed_ones():
    model = NetModel(nn.Sequential(MaskedConv2d("A", 1, 4, 3, dilation=9)))
    assert_causal(model)
    caught(model, "ignore all earlier pixels", size=(7, 6))


def test_the_larger_images_end_somewhere():
    model, sizes = NetModel(MaskedConv2d("A", 1, 4, 3)), []
    model.reach = 1000
    model.net.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    assert_causal(model)
    assert set(sizes) == {(7, 6), (42, 82)}


def test_a_large_size_takes_few_images_at_a_time():
    model, sizes = NetModel(MaskedConv2d("A", 1, 4, 3)), []
    model.net.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].numel()))
    assert_causal(model, size=(24, 25))
    assert max(sizes) < 40 * 24 * 25


# precision, and the mode that the caller is in


class Half(nn.Module):
    """Half-precision weights and activations; the input of a layer is rounded whatever it was."""

    def __init__(self, leak):
        super().__init__()
        self.conv, self.leak = MaskedConv2d("A", 1, 4, 3).bfloat16(), leak

    def forward(self, images):
        logits = self.conv(images.bfloat16() / 3)
        return (logits + self.leak * logits.std() * images.bfloat16() / 3)[:, :, None]


def test_half_precision_hides_nothing():
    assert_causal(PixelCNN(levels=4, features=8, layers=3, kernel_size=3).bfloat16())
    assert_causal(PixelCNN(3, levels=4, features=9, layers=3, kernel_size=3).half())
    assert_causal(Half(0.0))
    caught(Half(0.2), "output at row 0, col 0 changes with the input at row 0, col 0")
    caught(Half(1e-4), "output at row 0, col 0 changes with the input at row 0, col 0")


def test_a_colour_network_as_deep_as_the_article_s_sees_its_own_red():
    """Through the centres of eight 7×7 kernels comes less than the rounding of float32."""
    model = PixelCNN(3, levels=4, features=6)
    assert_causal(model, size=(3, 3))
    assert_causal(Foreign(model), size=(3, 3))


def test_units_that_are_dead_hide_nothing():
    model = stack(("A", 1, 3, 1), ("B", 4, 1, 1))
    nn.init.constant_(model.net[0].bias, -10)
    assert_causal(model)
    assert_causal(Foreign(model))
    model.net[0].mask[:, :, 1, 2] = 1
    caught(model, "output at row 0, col 0 has a gradient towards the input at row 0, col 1")
    caught(Foreign(model), "output at row 0, col 0 changes with the input at row 0, col 1")


def test_a_module_that_cannot_be_copied_is_tested_itself():
    model = plain(0, 1)
    model.cache = torch.ones(2, requires_grad=True) * 2  # deepcopy refuses what autograd computed
    assert_causal(model)
    model.forward = plain(0, 0).forward
    caught(model, "output at row 0, col 0 changes with the input at row 0, col 0")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_mode_of_the_caller_does_not_matter(mode):
    model, other = gated_with_classes(), plain(0, 1)
    other.levels, row = 4, one_hot([1])
    asked = [(receptive_field, model, row), (receptive_field, other, None), (effective_receptive_field, model, row)]
    asked += [(blind_spot, model, row), (blind_spot, other, None)]
    wanted = [ask(each, 3, 3, (6, 6), labels) for ask, each, labels in asked]
    with mode():
        for (ask, each, labels), before in zip(asked, wanted, strict=True):
            assert np.array_equal(ask(each, 3, 3, (6, 6), labels), before)
        built, labels = gated_with_classes(), one_hot([1])  # weights and labels without a history, in inference mode
        assert_causal(built, labels=labels)
        assert effective_receptive_field(built.double(), 3, 3, (6, 6), labels.double()).any()
        caught(stack(("B", 8, 3, 1), ("B", 4, 1, 1)), "output at row 0, col 0 changes with the input at row 0, col 0")
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode) and not torch.is_grad_enabled()


def gated_with_classes():
    torch.manual_seed(0)
    return GatedPixelCNN(levels=3, features=4, blocks=2, first_kernel_size=3, classes=3)


def test_a_forbidden_level_is_no_divergence():
    def logits(images):
        found = F.one_hot(shifted(images, 0, 1), 4).permute(0, 4, 1, 2, 3).float()
        return found.masked_fill(found == 1, -torch.inf)

    assert_causal(Plain(logits))
    words = "output at row 0, col 1 changes with the input at row 0, col 2"
    caught(Plain(lambda images: logits(shifted(images, 0, -2))), words)


# random narrow networks, right and wrong


def narrow(seed):
    """A network of few features, its kernels and dilations drawn at random; two of three are gated."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    channels = draw.choice([1, 1, 2, 3])
    options = {"channels": channels, "levels": draw.choice([2, 3, 8]), "features": channels * draw.randint(1, 4)}
    if draw.random() < 1 / 3:
        return PixelCNN(**options, layers=draw.randint(1, 4), kernel_size=draw.choice([3, 5, 7]))
    blocks = draw.randint(1, 6)
    return GatedPixelCNN(
        **options, blocks=blocks, kernel_size=draw.choice([1, 3, 5]), first_kernel_size=draw.choice([3, 5, 7]),
        dilations=[draw.choice([1, 2, 3, 4, 8]) for _ in range(blocks)],
    )


def opened(model, seed):
    """The network with one closed tap of one layer open: on a row below in a vertical stack, in others to the right."""
    draw = random.Random(seed)
    layers = [
        name for name, layer in model.named_modules()
        if isinstance(layer, (MaskedConv2d, HorizontalConv2d, VerticalConv2d)) and layer.kernel_size[1] > 1
    ]
    name = draw.choice(layers)
    layer, (owner, _, last) = model.get_submodule(name), name.rpartition(".")
    step, half = layer.dilation[1], layer.reach // layer.dilation[1]
    down = step * draw.randint(1, half) if isinstance(layer, VerticalConv2d) else 0
    right = step * (draw.randint(-half, half) if down else draw.randint(1, half))
    source = 0 if name in ("vertical", "horizontal") else draw.randrange(layer.in_channels)  # not the ones
    model.get_submodule(owner)._modules[last] = Opened(layer, down, right, source, draw.randrange(layer.out_channels))
    return model


@pytest.mark.parametrize("wrap", [lambda model: model, Foreign], ids=["gradient", "change"])
@pytest.mark.parametrize("seed", range(24))
def test_narrow_networks(seed, wrap):
    model = narrow(seed)
    assert_causal(wrap(model))
    caught(wrap(opened(model, seed)), "leak: ", "which is not earlier")


# fields, counted in two other ways


def paths(layers, row, col, size, count=False):
    """From an output back through the taps of each (mask type, kernel size, dilation), last layer first."""
    ways = {(row, col): 1}
    for kind, kernel_size, dilation in reversed(layers):
        half, found = kernel_size // 2, {}
        for (r, c), (dr, dc) in itertools.product(ways, itertools.product(range(-half, half + 1), repeat=2)):
            place = r + dr * dilation, c + dc * dilation
            seen = (dr, dc) < (0, 0) or (kind == "B" and (dr, dc) == (0, 0))
            if seen and 0 <= place[0] < size[0] and 0 <= place[1] < size[1]:  # zeros lie outside the image
                found[place] = found.get(place, 0) + ways[r, c]
        ways = found
    field = np.zeros(size)
    for place, number in ways.items():
        field[place] = number
    return field if count else field > 0


def box(layers, row, col, size):
    """Earlier pixels within the reach of all layers together."""
    reach = sum(k // 2 * d for _, k, d in layers)
    places = itertools.product(*map(range, size))
    found = [p < (row, col) and abs(p[0] - row) <= reach and abs(p[1] - col) <= reach for p in places]
    return np.array(found).reshape(size)


POSITIONS = [(0, 0), (0, 7), (7, 0), (7, 7), (4, 3), (5, 6)]
STACKS = [
    [("A", 3, 1)],
    [("A", 3, 1), ("B", 3, 1)],
    [("A", 3, 1), ("B", 3, 1), ("B", 3, 1), ("B", 3, 1)],
    [("A", 5, 1), ("B", 3, 1), ("B", 1, 1)],
    [("A", 7, 1), ("B", 1, 1)],
    [("A", 3, 2), ("B", 3, 1), ("B", 3, 2)],
    [("B", 3, 1), ("B", 5, 1)],
]


@pytest.mark.parametrize("layers", STACKS)
def test_fields_by_counting_paths(layers):
    widths = [1, *[4] * len(layers)]
    net = nn.Sequential(*(MaskedConv2d(t, widths[i], 4, k, dilation=d) for i, (t, k, d) in enumerate(layers)))
    for row, col in POSITIONS:
        wanted = paths(layers, row, col, (8, 8))
        field = receptive_field(net, row, col, (8, 8))
        assert field.dtype == bool
        assert field.shape == (8, 8)
        assert (field == wanted).all()
        assert (blind_spot(net, row, col, (8, 8)) == (box(layers, row, col, (8, 8)) & ~wanted)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_fields_by_changing_pixels(channels):
    model = PixelCNN(channels, levels=4, features=12, layers=2, kernel_size=3).eval()
    size, images = (5, 6), integers((16, channels, 5, 6), 4)
    reference = model(images)
    for row, col in [(0, 0), (0, 5), (2, 3), (4, 0), (4, 5)]:
        wanted = np.zeros(size, bool)
        for r, c in itertools.product(*map(range, size)):
            changed = images.clone()
            changed[:, :, r, c] = (changed[:, :, r, c] + 1) % 4
            wanted[r, c] = ((model(changed) - reference)[..., row, col].abs() > 1e-6).any()
        assert (receptive_field(model, row, col, size) == wanted).all()


def test_a_model_is_asked_as_its_stack_of_layers_is():
    """The plain network's field is that of its convolutions; the 1×1 adds nothing."""
    model = PixelCNN(levels=3, features=6, layers=3, kernel_size=3)
    layers = [("A", 3, 1), ("B", 3, 1), ("B", 3, 1), ("B", 1, 1)]
    assert (receptive_field(model, 6, 4, (9, 9)) == paths(layers, 6, 4, (9, 9))).all()
    assert blind_spot(model, 6, 4, (9, 9)).sum() == 2 + 1  # a triangle to the right of the row above


def test_a_model_without_scale_and_logits_is_asked_by_perturbation():
    model = plain(1, 2)
    model.channels, model.levels = 1, 4
    field = receptive_field(model, 3, 4, (5, 6))
    assert np.argwhere(field).tolist() == [[2, 2]]
    with refused(TypeError, "model", "scale and logits", "Plain"):
        effective_receptive_field(model, 3, 4, (5, 6))


def test_a_model_with_classes_has_a_field():
    field = receptive_field(ConditionalToy(), 3, 3, (6, 6), labels=one_hot([2]))
    assert (field == paths([("A", 3, 1), ("B", 3, 1)], 3, 3, (6, 6))).all()
    with refused(ValueError, "labels", "got None"):
        receptive_field(ConditionalToy(), 3, 3, (6, 6))


@pytest.mark.parametrize("position", [(0, 0), (0, 8), (4, 4), (8, 0), (8, 8), (5, 7)])
def test_two_stacks_have_no_blind_spot(position):
    model = NetModel(Stacks())
    model.reach = Stacks.reach
    assert not blind_spot(model, *position, (9, 9)).any()
    single = stack(*[("A" if i == 0 else "B", 8, 3, 1) for i in range(3)], ("B", 4, 1, 1))
    assert blind_spot(single, 5, 4, (9, 9)).any()


def test_plain_convolutions_reach_as_far_as_their_kernels():
    """Rows and columns apart, as a reader would write the half kernels by hand."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, (1, 5), padding=(0, 2)))
    spot = blind_spot(net, 4, 4, (9, 9))
    assert np.argwhere(spot[:4]).min() == 1  # reach 1 + 2
    assert not (spot & receptive_field(net, 4, 4, (9, 9))).any()


def test_effective_field():
    net = nn.Sequential(*(MaskedConv2d("A" if i == 0 else "B", 1 if i == 0 else 8, 8, 3) for i in range(4)))
    strength = effective_receptive_field(net, 7, 5, (9, 11))
    assert strength.shape == (9, 11)
    assert strength.sum() == pytest.approx(1)
    assert ((strength > 0) == receptive_field(net, 7, 5, (9, 11))).all()
    assert not effective_receptive_field(net, 0, 0, (9, 11)).any()  # no pixel is earlier than the first


def test_effective_field_counts_paths_where_every_tap_weighs_one():
    layers = [("A", 3, 1), ("B", 5, 1), ("B", 3, 1)]
    net = nn.Sequential(*(MaskedConv2d(kind, 1, 1, k) for kind, k, _ in layers))
    for layer in net:
        nn.init.constant_(layer.weight, 1.0)
    counts = paths(layers, 5, 4, (8, 9), count=True)
    np.testing.assert_allclose(effective_receptive_field(net, 5, 4, (8, 9)), counts / counts.sum(), atol=1e-12)


@pytest.mark.parametrize("ask", [receptive_field, effective_receptive_field, blind_spot])
@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((4, 0, (4, 4)), ValueError, ("row", "4×4", "(4, 0)")),
        ((0, 4, (4, 4)), ValueError, ("col", "4×4", "(0, 4)")),
        ((-1, 0, (4, 4)), ValueError, ("row", "at least 0", "got -1")),
        ((0, 1.0, (4, 4)), TypeError, ("col", "integer", "float 1.0")),
        ((0, 0, (4,)), ValueError, ("size", "pair", "(4,)")),
        ((0, 0, None), ValueError, ("size", "pair", "None")),
    ],
)
def test_bad_positions(ask, args, error, words):
    with refused(error, *words):
        ask(MaskedConv2d("A", 1, 1, 3), *args)


def test_no_field_of_what_is_no_stack():
    with refused(TypeError, "model", "torch.nn.Module", "list"):
        receptive_field([MaskedConv2d("A", 1, 1, 3)], 0, 0, (4, 4))
    with refused(TypeError, "model", "stack of layers", "ReLU"):
        receptive_field(nn.ReLU(), 0, 0, (4, 4))


def test_a_stack_of_layers_is_no_model():
    with pytest.raises(TypeError, match="must map integer images to logits; receptive_field takes layers"):
        assert_causal(nn.Sequential(MaskedConv2d("A", 1, 4, 3)))


def test_one_pixel_proves_nothing():
    with pytest.raises(ValueError, match=r"size must be larger than one pixel.*got \(1, 1\)"):
        assert_causal(PixelCNN(levels=3, features=4, layers=1, kernel_size=3), size=(1, 1))


def test_layers_that_shrink_the_image_are_refused():
    with pytest.raises(ValueError, match=r"must keep the size \(7, 7\), got \(5, 5\)"):
        receptive_field(nn.Conv2d(1, 1, 3), 3, 3, (7, 7))
