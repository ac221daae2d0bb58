"""Scores of strangeness: each one's direction, and what it is made of."""

import io
import math

import numpy as np
import pytest
import torch
from conftest import integers, refused
from PIL import Image

from pixelcnn_helpers import GatedPixelCNN, class_posterior, load_mnist_sample, load_pretrained, nats, quantize
from pixelcnn_helpers.likelihood import class_nats
from pixelcnn_helpers.studies.judges import ConvClassifier
from pixelcnn_helpers.studies.scores import NETWORKS, png, png_bits, saliency, scores
from pixelcnn_helpers.studies.strange import auroc, strange_images


@pytest.fixture(scope="module")
def judge():
    return load_pretrained("judge-mnist")[0]


@pytest.fixture(scope="module")
def networks(judge):
    torch.manual_seed(0)
    options = {"levels": 8, "features": 4, "blocks": 1, "first_kernel_size": 3}
    found = {name: GatedPixelCNN(**options).eval() for name in NETWORKS[:2]}
    return found | {"conditional-mnist": GatedPixelCNN(**options, classes=10).eval(), "judge-mnist": judge}


@pytest.fixture(scope="module")
def digits():
    return quantize(load_mnist_sample(False)[0][::100], 8)


def test_what_each_score_is_made_of(networks, digits):
    found = scores(networks, digits, usual=1000.0)
    assert len(found) == 8
    assert all(values.dtype == torch.float64 and values.shape == (10,) for values in found.values())
    plain = nats(networks["neutral-mnist"], digits)
    background = nats(networks["background-mnist"], digits)
    bits = torch.tensor([8.0 * len(png(image, 8)) for image in digits]) * math.log(2)
    best = class_nats(networks["conditional-mnist"], digits).amin(1)
    expected = {
        "nats": plain, "typicality": (plain - 1000).abs(), "nats less complexity": plain - bits, "PNG alone": bits,
        "nats less background": plain - background, "nats of the best class": best,
    }  # fmt: skip
    for name, values in expected.items():
        assert torch.allclose(found[name], values.double(), rtol=1e-5, atol=1e-2), name


def test_scores_of_the_networks_at_hand(networks, digits):
    few = scores({"neutral-mnist": networks["neutral-mnist"]}, digits, 100.0)
    assert list(few) == ["nats", "typicality", "nats less complexity", "PNG alone"]
    assert torch.equal(few["nats"], scores(networks, digits, 100.0)["nats"])


def test_strange_images_have_higher_scores():
    """With networks that ship. A blank image costs fewer nats than any digit, so its nats alone are no score."""
    networks = {name: load_pretrained(name)[0] for name in ("neutral-mnist", "judge-mnist")}
    test = load_mnist_sample(False)[0][::100]
    kinds = strange_images(test)
    usual = nats(networks["neutral-mnist"], quantize(test, 8)).mean().item()
    real = scores(networks, quantize(test, 8), usual)
    for kind in ("inverted", "noise", "scrambled"):
        found = scores(networks, quantize(kinds[kind], 8), usual)
        for name in ("nats", "typicality", "nats less complexity", "nats where judge looks"):
            assert auroc(found[name], real[name])[0] > 0.85, (kind, name)
    blank = scores(networks, quantize(kinds["blank"], 8), usual)
    assert blank["nats"].max() < real["nats"].min()
    assert blank["typicality"].min() > real["typicality"].median()
    assert blank["nats less complexity"].min() > real["nats less complexity"].max()


def test_nats_by_class_are_those_of_each_label(networks, digits):
    model = networks["conditional-mnist"]
    found = class_nats(model, digits)
    assert found.shape == (10, 10) and found.dtype == torch.float64
    row = torch.nn.functional.one_hot(torch.tensor(3), 10).float().expand(10, -1)
    assert torch.allclose(found[:, 3], nats(model, digits, row))
    assert torch.allclose((-found).softmax(1), class_posterior(model, digits))
    with refused(ValueError, "classes"):
        class_nats(networks["neutral-mnist"], digits)


@pytest.mark.parametrize("levels", [2, 3, 8, 16, 17, 256])
def test_a_png_holds_the_image(levels):
    image = integers((1, 9, 7), levels)
    with Image.open(io.BytesIO(png(image, levels))) as read:
        greys = np.asarray(read.convert("L")).astype(int)
    values = greys * (levels - 1) / 255 if levels <= 16 else greys
    assert np.array_equal(np.rint(values), image[0].numpy())


def test_png_bits_grow_with_detail():
    plain, noise = torch.zeros(1, 1, 28, 28, dtype=torch.uint8), integers((1, 1, 28, 28), 8)
    found = png_bits(torch.cat([plain, noise]), 8)
    assert found.dtype == torch.float64 and found[0] < found[1] / 3
    with refused(ValueError):
        png_bits(plain + 8, 8)


def test_saliency_is_where_a_change_matters(judge):
    images = load_mnist_sample(False)[0][::200] / 255
    looks = saliency(judge, images)
    assert looks.shape == images.shape and looks.dtype == torch.float64 and looks.min() >= 0
    assert torch.allclose(looks.mean((1, 2, 3)), torch.ones(5, dtype=torch.float64))
    assert torch.allclose(looks, saliency(judge, images, batch_size=2), rtol=1e-3, atol=1e-3)
    assert not images.requires_grad and all(weight.grad is None for weight in judge.parameters())
    torch.manual_seed(0)
    unsure = ConvClassifier(width=3).double().eval()
    image = images[:1].double() * 0.8 + 0.1
    looks, slopes = saliency(unsure, image)[0, 0], []
    for row, col in ((14, 14), (8, 12)):
        step = torch.zeros_like(image)
        step[0, 0, row, col] = 1e-6
        with torch.no_grad():
            up, down = (unsure(image + sign * step).log_softmax(1).amax() for sign in (1, -1))
        slopes.append((up - down).abs().item())
    assert slopes[0] / slopes[1] == pytest.approx((looks[14, 14] / looks[8, 12]).item(), rel=1e-3)
