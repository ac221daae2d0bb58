"""A class that a notebook teaches is the class that the package offers: same weights, same outputs."""

import ast
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pixelcnn_helpers as pch
from pixelcnn_helpers.layers import gate
from pixelcnn_helpers.likelihood import pixel_nats
from pixelcnn_helpers.models import AutoregressiveModel
from pixelcnn_helpers.sampling import row_noise
from pixelcnn_helpers.studies import between, together
from pixelcnn_helpers.studies.colour import LogisticMixture
from pixelcnn_helpers.studies.judges import ConvClassifier
from pixelcnn_helpers.studies.relatives import GAN, VAE, CausalNet1d, ImageTransformer, conv_down, conv_up
from pixelcnn_helpers.studies.shortcut import GatedResidual
from pixelcnn_helpers.workshop import measure_between

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def class_from_notebook(notebook: str, name: str, *others: str, **given):
    """The class `name` as the notebook spells it out, with the names that its imports and `others` there bring.

    given: further names that it uses, with their values.
    """
    cells = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text())["cells"]
    cells = [cell for cell in cells if cell["cell_type"] == "code" and "setup" not in cell["metadata"].get("tags", [])]
    code = ["".join(cell["source"]) for cell in cells]
    (spelt,) = [
        node
        for cell in code
        for node in ast.parse(cell).body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name
    ]
    names = {"np": np, "torch": torch, "nn": nn, "F": F, "pch": pch, "MaskedConv2d": pch.MaskedConv2d}
    names |= {"VerticalConv2d": pch.VerticalConv2d, "HorizontalConv2d": pch.HorizontalConv2d}
    names |= {"math": math, "AutoregressiveModel": AutoregressiveModel, "conv_down": conv_down, "conv_up": conv_up}
    names |= {"gate": gate}
    names |= {other: class_from_notebook(notebook, *others[number:]) for number, other in enumerate(others)}
    names |= given
    exec(compile(ast.Module([spelt], []), notebook, "exec"), names)
    return names[name]


@pytest.mark.parametrize(
    "options", [{}, {"groups": 3}, {"dilation": 2}, {"bias": False}], ids=["plain", "groups", "dilation", "no bias"]
)
@pytest.mark.parametrize("mask_type", "AB")
def test_masked_convolution(mask_type, options):
    same(class_from_notebook("01_masks", "MaskedConv2d"), pch.MaskedConv2d, (mask_type, 3, 6, 5), options, floats())


@pytest.mark.parametrize("name", ["AB", "BB", "AC", "CB"])  # C has no mask
def test_leak_test(name):
    layers = [
        nn.Conv2d(width, 4, 3, padding=1) if kind == "C" else pch.MaskedConv2d(kind, width, 4, 3)
        for kind, width in zip(name, (1, 4), strict=True)
    ]
    model = class_from_notebook("01_masks", "Tiny")(layers[0], nn.ReLU(), layers[1])
    found = []
    for test in (class_from_notebook("01_masks", "assert_causal"), pch.assert_causal):
        try:
            found.append(test(model))
        except AssertionError as error:
            found.append(str(error).split(":")[0])
    assert found == [None if name == "AB" else "leak"] * 2


@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_receptive_field_and_blind_spot(layers, kernel_size):
    stack = class_from_notebook("02_blind_spot", "masked_stack")(layers, kernel_size)
    taught = class_from_notebook("02_blind_spot", "receptive_field")
    also_taught = class_from_notebook("02_blind_spot", "blind_spot", "receptive_field")
    for where in ((0, 0), (4, 3), (6, 7)):
        assert np.array_equal(taught(stack, *where, (7, 8)), pch.receptive_field(stack, *where, (7, 8)))
        assert np.array_equal(also_taught(stack, *where, (7, 8)), pch.blind_spot(stack, *where, (7, 8)))


@pytest.mark.parametrize("name", ["VerticalConv2d", "HorizontalConv2d"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("dilation", [1, 2])
def test_half_kernels(name, first, dilation):
    taught = class_from_notebook("02_blind_spot", name)
    same(taught, getattr(pch, name), (3, 6, 5), {"first": first, "dilation": dilation}, floats())


def test_mixture_of_logistic_distributions():
    taught = class_from_notebook("08_colour", "LogisticMixture")
    same(taught, LogisticMixture, (3, 256, 5), {}, floats())


@pytest.mark.parametrize("channels", [1, 3])
def test_plain_network(channels):
    taught = class_from_notebook("03_pixelcnn", "PixelCNN")
    options = {"channels": channels, "levels": 5, "features": 6, "layers": 3, "kernel_size": 3}
    same(taught, pch.PixelCNN, (), options, torch.randint(5, (2, channels, 7, 6)))


def test_plain_network_by_default_is_the_same_size():
    sizes = [
        {name: tuple(value.shape) for name, value in network().state_dict().items()}
        for network in (class_from_notebook("03_pixelcnn", "PixelCNN"), pch.PixelCNN)
    ]
    assert sizes[0] == sizes[1]


def test_sampling_loop():
    naive_sample = class_from_notebook("03_pixelcnn", "naive_sample")
    gumbel_noise = class_from_notebook("03_pixelcnn", "gumbel_noise")
    model = pch.PixelCNN(levels=5, features=6, layers=2, kernel_size=3).double().eval()
    noise = torch.stack([gumbel_noise(seed, 4, 6, 5) for seed in (3, 4)])
    assert torch.equal(naive_sample(model, noise), pch.naive_sample(model, 2, size=(4, 6), seed=3))


@pytest.mark.parametrize("groups", [1, 3])
def test_gate(groups):
    x = torch.randn(2, 12, 5, 4)
    assert torch.equal(class_from_notebook("04_gated_pixelcnn", "gate")(x, groups), gate(x, groups))


@pytest.mark.parametrize("options", [{}, {"groups": 3}, {"dilation": 2}, {"kernel_size": 5}, {"classes": 4}], ids=str)
def test_gated_block(options):
    taught = class_from_notebook("04_gated_pixelcnn", "GatedBlock", "gate")
    stacks = (torch.randn(2, 6, 7, 6), torch.randn(2, 6, 7, 6))
    same(taught, pch.GatedBlock, (6,), options, *stacks, *label_rows(options))


@pytest.mark.parametrize(
    "options", [{}, {"channels": 3}, {"dilations": [1, 2, 1]}, {"classes": 4}, {"channels": 3, "classes": 4}], ids=str
)
def test_gated_network(options):
    taught = class_from_notebook("04_gated_pixelcnn", "GatedPixelCNN", "GatedBlock", "gate")
    options = {"levels": 5, "features": 6, "blocks": 3, "first_kernel_size": 5, **options}
    images = torch.randint(5, (2, options.get("channels", 1), 7, 6))
    same(taught, pch.GatedPixelCNN, (), options, images, *label_rows(options))


def test_gated_network_by_default_is_the_same():
    taught = class_from_notebook("04_gated_pixelcnn", "GatedPixelCNN", "GatedBlock", "gate")
    same(taught, pch.GatedPixelCNN, (), {}, torch.randint(8, (1, 1, 7, 6)))
    assert taught().reach == pch.GatedPixelCNN().reach


@pytest.mark.parametrize("shortcut", [False, True])
def test_the_blogs_block(shortcut):
    taught = class_from_notebook("05_conditional_pixelcnn", "GatedResidual")
    x, earlier = torch.randn(2, 6, 7, 6), torch.randn(2, 6, 7, 6)
    inputs = [x, *label_rows({"classes": 4})] + ([earlier] if shortcut else [])
    same(taught, GatedResidual, (6, 4), {"shortcut": shortcut}, *inputs)


@pytest.mark.parametrize("options", [{}, {"dilations": [1, 2, 1]}, {"first_kernel_size": 3}], ids=str)
@torch.no_grad()
def test_caches(options):
    helpers = "pointwise", "VerticalCache", "HorizontalCache"
    taught = class_from_notebook("07_fast_sampling", "CachedNetwork", *helpers)
    model = pch.GatedPixelCNN(levels=5, features=6, blocks=3, **options).double().eval()
    ways = taught(model, 2, (5, 6)), pch.incremental(model, None, 2, (5, 6))
    images = torch.randint(5, (2, 1, 5, 6))
    for row in range(5):
        for way in ways:
            way.row(row)
        for col in range(6):
            found, wanted = ways[0].pixel(col), ways[1].pixel(col, 0)
            torch.testing.assert_close(found, wanted)
            torch.testing.assert_close(found, model(images)[:, :, 0, row, col])
            ways[0].put(col, images[:, 0, row, col])
            ways[1].put(col, 0, images[:, 0, row, col])


@torch.no_grad()
def test_guesses():
    model = pch.GatedPixelCNN(levels=5, features=6, blocks=2, classes=4).eval()
    labels = torch.eye(4)[:3]
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    noise = torch.stack([row_noise(generators, 6, 1, 5) for _ in range(5)]).permute(3, 4, 2, 0, 1)
    taught = class_from_notebook("07_fast_sampling", "guess")(model, labels, noise)
    offered = list(pch.guesses(model, labels=labels, size=(5, 6)))
    assert len(taught) == len(offered) and all(map(torch.equal, taught, offered))


def asking(a, b, weight, classes=4):
    return pch.soft_label({a: 1 - weight, b: weight}, classes)


def small_conditional():
    return pch.GatedPixelCNN(levels=3, features=4, blocks=2, classes=4).eval()


@pytest.mark.parametrize("geometric", [False, True])
@pytest.mark.parametrize("k", [-1.0, 0.0, 0.5])
@torch.no_grad()
def test_mixed_predictions(geometric, k):
    model, images, label = small_conditional(), torch.randint(3, (2, 1, 5, 6)), asking(1, 3, 0.3)
    taught = class_from_notebook("06_between_classes", "mixed_logits")(model, images, label, geometric, k)
    torch.testing.assert_close(taught, between.MixedClasses(model, geometric, k)(images, label.expand(2, -1)))


@torch.no_grad()
def test_contrasted_predictions():
    model, images, label = small_conditional(), torch.randint(3, (2, 1, 5, 6)), asking(1, 3, 0.3)
    taught = class_from_notebook("06_between_classes", "contrasted_logits", "mixed_logits")
    expected = between.Contrasted(model, 2.0)(images, label.expand(2, -1))
    torch.testing.assert_close(taught(model, images, label, 2.0), expected)


@pytest.mark.parametrize("name", ["resampled", "turning_points", "best_candidate"])
def test_ways_to_draw_between(name):
    model, reader = small_conditional(), ConvClassifier(classes=4, width=2).eval()
    model.size = (28, 28)
    names = {"asking": asking, "pixel_nats": pixel_nats, "APART": between.APART}
    taught = class_from_notebook("06_between_classes", name, steady_reading=between.steady_reading, **names)
    if name == "resampled":
        found, wanted = taught(model, 1, 3, 2), measure_between.resampled(model, 1, 3, n=2)
    elif name == "turning_points":
        found, wanted = taught(model, 1, 3, 2, reader), measure_between.turning_points(model, 1, 3, n=2, reader=reader)
    else:
        found = taught(model, 1, 3, 0.5, reader, 4)[None]
        wanted = pch.sample_between(model, 1, 3, 0.5, n=1, tries=4, reader=reader)
    assert torch.equal(found, wanted)


def test_vae():
    images = torch.randint(5, (3, 1, 8, 8))
    taught, offered = class_from_notebook("10_relatives", "VAE")(5, width=4), VAE(5, width=4)
    offered.load_state_dict(taught.state_dict())
    bounds = []
    for model in (taught, offered):
        torch.manual_seed(0)
        bounds.append(model(images))
    assert torch.equal(*bounds)


def test_gan():
    taught, offered = class_from_notebook("10_relatives", "GAN")(width=4), GAN(width=4)
    offered.load_state_dict(taught.state_dict())
    losses = []
    for gan in (taught, offered):
        torch.manual_seed(0)
        real = torch.rand(3, 1, 8, 8)
        losses.append(torch.stack([gan.discriminator_loss(real), gan.generator_loss(3)]))
    assert torch.equal(*losses)


def test_vqvae():
    taught = class_from_notebook("10_relatives", "VQVAE")
    same(taught, together.VQVAE, (5,), {"codes": 6, "width": 4}, torch.randint(5, (3, 1, 8, 8)))


def test_learned_classes():
    taught = class_from_notebook("10_relatives", "LearnedClasses", "divergence")
    decoder = pch.GatedPixelCNN(levels=5, features=4, blocks=1, classes=3)
    for free in (0.0, 2.0):
        options = {"width": 4, "free": free}
        same(taught, together.LearnedClasses, (decoder,), options, torch.randint(5, (3, 1, 8, 8)))


def test_choice_by_a_critic():
    taught, logits = class_from_notebook("10_relatives", "chosen_by"), torch.randn(30)
    assert torch.equal(taught(logits, 7, seed=3), together.chosen_by(logits, 7, seed=3))


def test_1d_network():
    taught = class_from_notebook("10_relatives", "CausalNet1d")
    same(taught, CausalNet1d, (5,), {"features": 4, "dilations": (1, 2)}, torch.randint(5, (2, 1, 1, 9)))


def test_transformer():
    taught = class_from_notebook("10_relatives", "ImageTransformer", "TransformerLayer")
    options = {"size": (4, 5), "width": 8, "heads": 2, "layers": 2}
    same(taught, ImageTransformer, (5,), options, torch.randint(5, (2, 1, 4, 5)))


def label_rows(options) -> list:
    return [torch.rand(2, 4).softmax(1)] if "classes" in options else []


def same(taught, offered, arguments, options, *inputs):
    one, other = taught(*arguments, **options), offered(*arguments, **options)
    assert one.state_dict().keys() == other.state_dict().keys()
    other.load_state_dict(one.state_dict())
    for output, expected in zip(as_tuple(one.eval()(*inputs)), as_tuple(other.eval()(*inputs)), strict=True):
        assert torch.equal(output, expected)


def as_tuple(outputs) -> tuple:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def floats():
    return torch.randn(2, 3, 7, 6, generator=torch.Generator().manual_seed(0))
