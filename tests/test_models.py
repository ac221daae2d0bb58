"""The plain network: its shape, its order, what it carries and what it refuses."""

import io

import numpy as np
import pytest
import torch
from conftest import ConditionalToy, integers, one_hot, refused
from torch import nn

import pixelcnn_helpers as pch
from pixelcnn_helpers import GatedPixelCNN, HorizontalConv2d, MaskedConv2d, PixelCNN, assert_causal
from pixelcnn_helpers.models import AutoregressiveModel, device_of, evaluating
from pixelcnn_helpers.studies.between import MixedClasses


def small(channels=1, **options):
    return PixelCNN(**{"channels": channels, "levels": 4, "features": 6, "layers": 2, "kernel_size": 3, **options})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_causal(channels, kernel_size):
    assert_causal(small(channels, kernel_size=kernel_size), size=(4, 5))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_layout(channels):
    model, images = small(channels), integers((5, channels, 6, 7), 4)
    assert model(images).shape == (5, 4, channels, 6, 7)
    assert model(images).dtype == torch.float32
    nn.functional.cross_entropy(model(images), images).backward()  # the layout that the loss takes
    assert all(weight.grad is not None for weight in model.parameters())


def test_the_logits_of_a_colour_are_a_run_of_channels():
    model, images = small(3).eval(), integers((2, 3, 4, 4), 4)
    flat = model.net(model.scale(images))  # (N, C*levels, H, W)
    assert torch.equal(model(images)[:, :, 1], flat[:, 4:8])


def test_is_the_network_of_the_article():
    model = PixelCNN()
    convs = [layer for layer in model.modules() if isinstance(layer, MaskedConv2d)]
    assert [conv.mask_type for conv in convs] == ["A", *"BBBBBBB", "B"]
    assert [conv.kernel_size[0] for conv in convs] == [7] * 8 + [1]
    assert [conv.out_channels for conv in convs] == [64] * 8 + [256]
    kinds = [type(layer) for layer in model.net]
    assert kinds == [MaskedConv2d, nn.BatchNorm2d, nn.ReLU] * 8 + [MaskedConv2d]
    assert (model.channels, model.levels, model.classes, model.size) == (1, 256, 0, None)


def test_default_features_split_among_the_channels():
    widths = {channels: PixelCNN(channels, levels=2, layers=1).net[0].out_channels for channels in (1, 2, 3, 7)}
    assert widths == {1: 64, 2: 60, 3: 60, 7: 63}


def test_colour_masks_everywhere():
    convs = [layer for layer in small(3).modules() if isinstance(layer, MaskedConv2d)]
    assert [conv.colour_groups for conv in convs] == [3, 3, 3]


def test_scales_its_input():
    model = small(levels=17)
    assert model.scale(torch.tensor([0, 8, 16])).tolist() == [-1, 0, 1]
    images = integers((2, 1, 5, 5), 17)
    for dtype in (torch.uint8, torch.int16, torch.int32):
        assert torch.equal(model.eval()(images.to(dtype)), model(images))
    assert model.double()(images).dtype == torch.float64


def test_forward_changes_no_weight():
    model = small().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(integers((2, 1, 5, 5), 4))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_state_dict_round_trip():
    model, images, file = small(), integers((8, 1, 5, 5), 4), io.BytesIO()
    model(images)  # moves the averages of batch norm
    torch.save(model.state_dict(), file)
    file.seek(0)
    twin = small()
    twin.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(twin.eval()(images), model.eval()(images))
    assert sum(name.endswith("mask") for name in model.state_dict()) == 3


def test_carries_what_it_is():
    model = ConditionalToy(levels=5, classes=3)
    assert (model.channels, model.levels, model.classes, model.size) == (1, 5, 3, None)
    assert model(integers((2, 1, 4, 4), 5), one_hot([0, 2])).shape == (2, 5, 1, 4, 4)


def test_modes_are_handed_back_layer_by_layer():
    model = small()
    model.net[1].eval()  # frozen by its owner
    modes = [module.training for module in model.modules()]
    with pytest.raises(KeyError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise KeyError
    assert [module.training for module in model.modules()] == modes


def test_device_of():
    assert device_of(small().to("meta")) == torch.device("meta")
    assert device_of(nn.Identity()) == torch.device("cpu")


def test_a_model_without_logits_says_so():
    model = AutoregressiveModel(1, 2)
    with pytest.raises(NotImplementedError):
        model.logits(torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"channels": 0}, ValueError, ("channels", "at least 1", "got 0")),
        ({"levels": 1}, ValueError, ("levels", "at least 2", "got 1")),
        ({"levels": True}, TypeError, ("levels", "integer", "boolean True")),
        ({"levels": 16.0}, TypeError, ("levels", "integer", "float 16.0")),
        ({"layers": 0}, ValueError, ("layers", "at least 1", "got 0")),
        ({"kernel_size": 4}, ValueError, ("kernel_size", "odd", "got 4")),
        ({"features": 0}, ValueError, ("features", "at least 1", "got 0")),
        ({"channels": 3, "features": 64}, ValueError, ("features", "3 channels", "got 64")),
    ],
)
def test_bad_options(options, error, words):
    with refused(error, *words):
        small(**options)


GOOD = integers((2, 1, 4, 4), 3)


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (GOOD.tolist(), TypeError, ("images", "torch tensor", "list")),
        (GOOD.float(), TypeError, ("images", "integers 0 … 2", "float32")),
        (GOOD.float() * float("nan"), TypeError, ("images", "integers 0 … 2", "float32")),
        (GOOD.bool(), TypeError, ("images", "integers 0 … 2", "bool")),
        (GOOD.to(torch.uint16), TypeError, ("images", "integers 0 … 2", "uint16")),
        (GOOD[0], ValueError, ("images", "(N, C, H, W)", "(1, 4, 4)")),
        (GOOD[:0], ValueError, ("images", "not be empty", "(0, 1, 4, 4)")),
        (GOOD.expand(2, 3, 4, 4), ValueError, ("images", "1 channel", "got 3")),
        (GOOD + 1, ValueError, ("images", "0 … 2", "1 … 3", "quantize")),
        (GOOD - 1, ValueError, ("images", "0 … 2", "-1 … 1")),
    ],
)
def test_bad_images(images, error, words):
    with refused(error, *words):
        ConditionalToy()(images, one_hot([0, 1]))


ROWS = one_hot([0, 1])


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (None, ValueError, ("labels", "float rows (N, 3)", "got None")),
        ([0, 1], TypeError, ("labels", "torch tensor", "list")),
        (7, TypeError, ("labels", "torch tensor", "int 7")),
        (torch.tensor([0, 1]), TypeError, ("labels", "float rows (N, 3)", "int64", "one_hot")),
        (ROWS[0], ValueError, ("labels", "(N, 3)", "(3,)")),
        (torch.tensor(1.0), ValueError, ("labels", "(N, 3)", "()")),
        (ROWS[:, :2], ValueError, ("labels", "(N, 3)", "(2, 2)")),
        (ROWS[:1], ValueError, ("labels", "one row per image", "1 rows for 2 images")),
        (ROWS * float("nan"), ValueError, ("labels", "finite", "NaN")),
        (torch.tensor([[2.0, -1, 0], [1, 0, 0]]), ValueError, ("labels", "not be negative", "got -1")),
        (ROWS * 0.5, ValueError, ("labels", "sum to 1", "0.5")),
        (torch.eye(3)[:2] + 0.1, ValueError, ("labels", "sum to 1", "1.3")),
    ],
)
def test_bad_labels(labels, error, words):
    with refused(error, *words):
        ConditionalToy()(GOOD, labels)


def counted_graphs(model, *inputs):
    """How many graphs torch.compile makes of a forward pass."""
    graphs = []

    def backend(graph, examples):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    torch.compile(model, backend=backend)(*inputs)
    return len(graphs)


def test_a_compiled_forward_pass_is_one_graph():
    """A check that looks at values would break it in two."""
    images, rows = integers((2, 1, 5, 5), 3), one_hot([0, 2])
    model = GatedPixelCNN(levels=3, features=4, blocks=2, classes=3)
    assert counted_graphs(model, images, rows) == 1
    torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(images, rows), model(images, rows))


@pytest.mark.parametrize("kind", [GatedPixelCNN, pch.ShortcutPixelCNN])
def test_no_values_are_looked_at_away_from_the_processor(kind):
    """A tensor on the device "meta" has none."""
    model, images = kind(levels=3, features=4, blocks=1, classes=3).to("meta"), integers((2, 1, 5, 5), 3).to("meta")
    assert model(images, one_hot([0, 1]).to("meta")).shape == (2, 3, 1, 5, 5)
    with refused(ValueError, "labels", "one row per image"):
        model(images, one_hot([0]).to("meta"))


@pytest.fixture
def float64_default():
    """A context in which new tensors are float64 unless told otherwise."""
    before = torch.get_default_dtype()
    yield lambda: torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(before)


def results():
    """What the public functions return for small networks, built with float32 weights."""
    torch.manual_seed(0)
    plain = PixelCNN(3, levels=4, features=6, layers=2, kernel_size=3).float().eval()
    gated = GatedPixelCNN(levels=4, features=6, blocks=2, classes=3).float().eval()
    return plain, gated


def test_nothing_depends_on_the_default_type(float64_default):
    plain, gated = results()
    rows, colour, grey = one_hot([0, 2]), integers((2, 3, 5, 5), 4), integers((2, 1, 5, 5), 4)
    layers = [MaskedConv2d("A", 3, 6, 3, groups=3), HorizontalConv2d(3, 6, 3, groups=3)]

    def found():
        drawn = [
            pch.sample(model, 2, labels, (4, 4), temperature=0.7, method=method)
            for model, labels in ((plain, None), (gated, rows), (MixedClasses(gated, restore=0.5), rows))
            for method in ("cached", "guess", "naive")
        ]
        return [
            *drawn, plain(colour), gated(grey, rows), pch.nats(plain, colour), pch.pixel_nats(gated, grey, rows),
            pch.class_posterior(gated, grey), pch.causal_mask(3, "A", 3, 3, 3), pch.quantize(grey, 2, 4),
            pch.receptive_field(plain, 3, 3, (5, 5)), pch.effective_receptive_field(gated, 3, 3, (5, 5), rows[:1]),
            pch.blind_spot(plain, 3, 3, (5, 5)), pch.bits_per_dim(plain, colour),
            pch.marginal_bits_per_dim(colour, colour, 4), assert_causal(gated, size=(3, 3), labels=rows[:1]),
        ]  # fmt: skip

    wanted = found()
    float64_default()
    for i, (one, other) in enumerate(zip(wanted, found(), strict=True)):
        if isinstance(one, torch.Tensor):
            assert one.dtype == other.dtype and torch.equal(one, other), i
        else:
            assert np.array_equal(one, other), i
    made = [MaskedConv2d("A", 3, 6, 3, groups=3), HorizontalConv2d(3, 6, 3, groups=3)]
    for layer, before in zip(made, layers, strict=True):
        assert layer.mask.dtype == layer.weight.dtype == torch.float64  # as nn.Conv2d
        assert torch.equal(layer.mask.float(), before.mask)


def test_labels_are_refused_without_classes():
    with refused(ValueError, "labels", "must be None", "no classes", "Tensor"):
        small()(integers((2, 1, 4, 4), 4), one_hot([0, 1]))


def test_soft_labels_in_another_precision_are_welcome():
    model, rows = ConditionalToy(), torch.tensor([[0.25, 0.75, 0], [0, 0.5, 0.5]])
    assert torch.allclose(model(GOOD, rows.double()), model(GOOD, rows))
    assert torch.allclose(model(GOOD, rows.half()), model(GOOD, rows))


def test_one_compilation_serves_every_batch_size():
    """A text about the shapes that a check made in every pass would be compiled again for each of them."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    model = GatedPixelCNN(levels=3, features=4, blocks=1, classes=2)
    compiled = torch.compile(model, backend=backend, dynamic=True)
    for n in (6, 7, 9, 8):
        images, labels = integers((n, 1, 5, 4), 3), torch.eye(2)[torch.arange(n) % 2]
        assert torch.allclose(compiled(images, labels), model(images, labels), atol=1e-5)
    assert len(graphs) == 1
