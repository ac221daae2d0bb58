"""Likelihoods against sums done by hand, and against their one law: all images together have probability 1."""

import itertools
import math

import pytest
import torch
from conftest import ConditionalToy, integers, one_hot, refused
from torch import nn

from pixelcnn_helpers import (
    GatedPixelCNN,
    PixelCNN,
    bits_per_dim,
    class_posterior,
    fit,
    marginal_bits_per_dim,
    nats,
    pixel_nats,
    quantize,
    uniform_bits_per_dim,
)
from pixelcnn_helpers import likelihood as likelihood_room
from pixelcnn_helpers.models import AutoregressiveModel
from pixelcnn_helpers.studies.datasets import load_dataset


class Known(AutoregressiveModel):
    """Every pixel apart, with a distribution of its own: `table` holds probabilities `(levels, C, H, W)`."""

    def __init__(self, table):
        super().__init__(table.shape[1], table.shape[0])
        self.table = nn.Parameter(table)

    def logits(self, x, labels=None):
        return self.table.log().expand(len(x), *self.table.shape)


def every_image(channels, height, width, levels):
    values = list(itertools.product(range(levels), repeat=channels * height * width))
    return torch.tensor(values).view(-1, channels, height, width)


@pytest.mark.parametrize(
    ("channels", "size", "levels", "mode"),
    [(1, (2, 2), 3, "train"), (1, (2, 3), 2, "eval"), (3, (1, 2), 3, "train"), (2, (2, 2), 2, "eval")],
)
def test_all_images_together_have_probability_one(channels, size, levels, mode):
    model = PixelCNN(channels, levels=levels, features=6, layers=2, kernel_size=3).double()
    model.train(mode == "train")
    images = every_image(channels, *size, levels)
    p = (-nats(model, images)).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-12)
    assert p.std() > 0.01 * p.mean()  # an untrained network, but no uniform one


@pytest.mark.parametrize("row", [[1.0, 0, 0], [0.5, 0.25, 0.25]])
def test_all_images_of_a_label_have_probability_one(row):
    images = every_image(1, 2, 2, 3)
    p = (-nats(ConditionalToy().double(), images, torch.tensor([row]).expand(len(images), 3))).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-12)


def test_nats_of_a_known_distribution():
    table = torch.rand(3, 2, 2, 2, dtype=torch.float64)
    model, images = Known(table / table.sum(0)), integers((7, 2, 2, 2), 3)
    wanted = [
        -sum(math.log(model.table[image[place], *place].item()) for place in itertools.product(range(2), repeat=3))
        for image in images
    ]
    found = nats(model, images)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(wanted, rel=1e-12)
    assert bits_per_dim(model, images) == pytest.approx(sum(wanted) / 7 / 8 / math.log(2), rel=1e-12)


def test_nats_by_hand():
    """One softmax after another, for a network in float32."""
    model, images = PixelCNN(3, levels=4, features=6, layers=2, kernel_size=3).eval(), integers((3, 3, 4, 5), 4)
    logits = model(images).detach().double()
    for image, rows, found in zip(images, logits, nats(model, images), strict=True):
        total = 0.0
        for channel, row, col in itertools.product(*map(range, image.shape)):
            weights = [math.exp(v) for v in rows[:, channel, row, col].tolist()]
            total -= math.log(weights[image[channel, row, col]] / sum(weights))
        assert found.item() == pytest.approx(total, rel=1e-6)


def test_a_certain_model_costs_nothing_and_an_impossible_image_everything():
    table = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2).contiguous()
    assert nats(Known(table), torch.tensor([[[[0, 0], [0, 0]]], [[[0, 1], [0, 0]]]])).tolist() == [0, math.inf]


def test_only_an_impossible_image_has_infinite_nats():
    table = torch.tensor([0.5, 0.0, 0.5]).view(3, 1, 1, 1).expand(3, 1, 1, 2).contiguous()
    images = torch.tensor([[[[0, 2]]], [[[0, 1]]], [[[1, 1]]]])
    assert nats(Known(table), images).tolist() == [pytest.approx(2 * math.log(2)), math.inf, math.inf]
    assert pixel_nats(Known(table), images)[1].flatten().tolist() == [pytest.approx(math.log(2)), math.inf]
    assert bits_per_dim(Known(table), images) == math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("ask", [nats, pixel_nats, bits_per_dim])
def test_a_single_logit_that_is_not_finite_is_noticed(ask, value):
    """In the second batch, at a level that does not occur."""
    model, images = Known(torch.full((3, 1, 4, 4), 1 / 3)), integers((5, 1, 4, 4), 2)

    def logits(x, labels=None):
        found = torch.zeros(len(x), 3, 1, 4, 4)
        found[-1, 2, 0, 3, 3] = value if len(x) == 1 else 0
        return found

    model.logits = logits
    with refused(ValueError, "model must return finite logits", "training diverged"):
        ask(model, images, batch_size=4)


def test_an_image_that_is_impossible_under_some_class_is_of_another():
    table = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    images = torch.tensor([[[[0, 0]]], [[[1, 1]]]])
    torch.testing.assert_close(class_posterior(OfAClass(table), images), torch.tensor([[1, 0], [0.2, 0.8]]).double())
    with refused(ValueError, "images must be possible under some class"):
        class_posterior(OfAClass(table), images + 1)


def test_half_precision_is_summed_in_more():
    model, images = PixelCNN(levels=64, features=8, layers=1, kernel_size=3), integers((4, 1, 8, 8), 64)
    wanted = nats(model, images)
    assert torch.allclose(nats(model.bfloat16(), images), wanted, rtol=1e-2)


def test_a_processor_takes_small_batches_unless_told_otherwise(monkeypatch):
    model, images, sizes = PixelCNN(levels=3, features=6, layers=1, kernel_size=3), integers((11, 1, 5, 5), 3), []
    monkeypatch.setattr(likelihood_room, "VALUES_AT_ONCE", 100)
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    found = nats(model, images)
    assert sizes == [4, 4, 3]
    torch.testing.assert_close(nats(model, images, batch_size=11), found, rtol=1e-6, atol=1e-5)
    assert sizes[3:] == [11]
    monkeypatch.setattr(likelihood_room, "VALUES_AT_ONCE", 1)
    assert len(nats(model, images)) == 11


def test_does_not_depend_on_the_batch():
    model, images = PixelCNN(levels=3, features=6, layers=2, kernel_size=3), integers((11, 1, 5, 5), 3)
    whole = nats(model, images)
    for batch_size in (1, 4, 11, 1000):
        torch.testing.assert_close(nats(model, images, batch_size=batch_size), whole, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(nats(model, images[3:4]), whole[3:4], rtol=1e-6, atol=1e-5)


def test_labels_belong_to_their_images():
    model, images, rows = ConditionalToy().double(), integers((5, 1, 4, 4), 3), one_hot([0, 1, 2, 1, 0]).double()
    found = nats(model, images, rows, batch_size=2)
    apart = torch.cat([nats(model, images[i : i + 1], rows[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(found, apart)
    assert not torch.allclose(found, nats(model, images, rows.flip(1)))


def test_the_model_is_asked_in_evaluation_mode_and_handed_back():
    model = PixelCNN(levels=3, features=6, layers=2, kernel_size=3).train()
    images, before = integers((5, 1, 4, 4), 3), {k: v.clone() for k, v in model.state_dict().items()}
    wanted = nats(model.eval(), images)
    assert torch.equal(nats(model.train(), images), wanted)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not wanted.requires_grad


def test_images_of_any_integer_type():
    model, images = PixelCNN(levels=3, features=6, layers=1, kernel_size=3), integers((5, 1, 4, 4), 3)
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        assert torch.equal(nats(model, images.to(dtype)), nats(model, images))


class OfAClass(AutoregressiveModel):
    """Every pixel apart, with a distribution for each class: `table` holds probabilities `(classes, levels)`."""

    def __init__(self, table):
        super().__init__(1, table.shape[1], table.shape[0])
        self.table = nn.Parameter(table)

    def logits(self, x, labels=None):
        rows = (labels @ self.table).log()  # (N, levels)
        return rows[:, :, None, None, None].expand(-1, -1, *x.shape[1:])


def test_posterior_by_hand():
    table = torch.tensor([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]], dtype=torch.float64)
    images = torch.tensor([[[[0, 1]]], [[[1, 1]]], [[[0, 0]]]])
    likelihood = torch.tensor([[1 / 4, 3 / 16, 0], [1 / 4, 9 / 16, 0], [1 / 4, 1 / 16, 1]], dtype=torch.float64)
    found = class_posterior(OfAClass(table), images)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, likelihood / likelihood.sum(1, keepdim=True))


@pytest.mark.parametrize("batch_size", [2, 5, 256])
def test_posterior_is_the_softmax_of_the_likelihoods(batch_size):
    model, images = ConditionalToy(dropout=0.5).train(), integers((5, 1, 6, 6), 3).to(torch.uint8)
    found = class_posterior(model, images, batch_size)
    assert found.shape == (5, 3)
    assert not found.requires_grad
    assert torch.allclose(found.sum(1), torch.ones(5, dtype=torch.float64))
    logs = torch.stack([-nats(model, images, one_hot([label]).expand(5, 3)) for label in range(3)], 1)
    torch.testing.assert_close(found, logs.exp() / logs.exp().sum(1, keepdim=True), rtol=1e-4, atol=1e-6)
    assert model.training


def test_posterior_of_large_images():
    """Thousands of nats are no matter for a softmax that subtracts the largest."""
    table = torch.tensor([[0.5, 0.5], [0.4, 0.6]])
    found = class_posterior(OfAClass(table), torch.zeros(1, 1, 60, 60, dtype=torch.long))
    assert torch.equal(found, torch.tensor([[1.0, 0.0]], dtype=torch.float64))


def test_a_network_reads_digits_better_than_chance():
    data = load_dataset("digits")
    images, test = (quantize(part, 4, 17) for part in (data.train, data.test))
    model, rows = GatedPixelCNN(levels=4, features=16, blocks=2, classes=10), one_hot(data.train_classes, 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        fit(model, images, rows, epochs=4, batch_size=32, learning_rate=5e-3, progress=False)
    found = class_posterior(model, test).argmax(1)
    assert (found == data.test_classes).double().mean() > 0.6  # chance: 0.1


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((PixelCNN(levels=3, features=2, layers=1), integers((2, 1, 4, 4), 3)), ValueError, ("classes", "PixelCNN")),
        ((ConditionalToy(), integers((2, 1, 4, 4), 4)), ValueError, ("images", "0 … 2", "0 … 3")),
        ((ConditionalToy(), integers((2, 1, 4, 4), 3).float()), TypeError, ("images", "integers", "float32")),
        ((ConditionalToy(), integers((2, 1, 4, 4), 3), 0), ValueError, ("batch_size", "at least 1", "got 0")),
        ((nn.Linear(1, 1), integers((2, 1, 4, 4), 3)), TypeError, ("model", "Linear", "no channels")),
    ],
)
def test_bad_input_of_the_posterior(args, error, words):
    with refused(error, *words):
        class_posterior(*args)


def test_uniform_baseline():
    assert uniform_bits_per_dim(256) == 8
    assert uniform_bits_per_dim(17) == pytest.approx(math.log2(17))
    table = torch.full((5, 1, 3, 3), 1 / 5)
    assert bits_per_dim(Known(table), integers((4, 1, 3, 3), 5)) == pytest.approx(uniform_bits_per_dim(5), rel=1e-6)


def test_marginal_baseline_by_hand():
    train, images = integers((9, 1, 2, 3), 4), integers((5, 1, 2, 3), 4, seed=1)
    total = 0.0
    for image in images:
        for row, col in itertools.product(range(2), range(3)):
            seen = (train[:, 0, row, col] == image[0, row, col]).sum().item()
            total -= math.log2((seen + 1) / (9 + 4))
    assert marginal_bits_per_dim(train, images, 4) == pytest.approx(total / 30, rel=1e-12)


def test_marginal_baseline_is_that_of_a_model():
    train, images = integers((40, 2, 3, 3), 3).to(torch.uint8), integers((6, 2, 3, 3), 3, seed=1)
    counts = torch.stack([(train == level).sum(0) for level in range(3)]).double() + 1
    assert marginal_bits_per_dim(train, images, 3) == pytest.approx(bits_per_dim(Known(counts / counts.sum(0)), images))


GOOD = integers((2, 1, 4, 4), 3)
PLAIN = PixelCNN(levels=3, features=2, layers=1, kernel_size=3)


@pytest.mark.parametrize("ask", [nats, bits_per_dim])
@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((PLAIN, GOOD[0]), ValueError, ("images", "(N, C, H, W)", "(1, 4, 4)")),
        ((PLAIN, GOOD.float()), TypeError, ("images", "integers 0 … 2", "float32")),
        ((PLAIN, GOOD + 1), ValueError, ("images", "0 … 2", "1 … 3")),
        ((PLAIN, GOOD.expand(2, 3, 4, 4)), ValueError, ("images", "1 channel", "got 3")),
        ((PLAIN, GOOD, one_hot([0, 1])), ValueError, ("labels", "must be None", "Tensor")),
        ((ConditionalToy(), GOOD), ValueError, ("labels", "float rows", "got None")),
        ((ConditionalToy(), GOOD, one_hot([0, 1, 2])), ValueError, ("labels", "3 rows for 2 images")),
        ((PLAIN, GOOD, None, 0), ValueError, ("batch_size", "at least 1", "got 0")),
        ((PLAIN, GOOD, None, 2.5), TypeError, ("batch_size", "integer", "float 2.5")),
        ((nn.Linear(1, 1), GOOD), TypeError, ("model", "Linear", "no channels", "no levels")),
        ((lambda images: images, GOOD), TypeError, ("model", "torch.nn.Module", "function")),
    ],
)
def test_bad_input(ask, args, error, words):
    with refused(error, *words):
        ask(*args)


def test_logits_of_another_layout():
    model = nn.Conv2d(1, 3, 1)
    model.channels, model.levels, model.forward = 1, 3, lambda images: torch.zeros(len(images), 3, 4, 4)
    with refused(ValueError, "model", "(N, levels, C, H, W)", "(2, 3, 1, 4, 4)", "(2, 3, 4, 4)"):
        nats(model, GOOD)


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((GOOD, GOOD[:, :, :3], 3), ValueError, ("images", "shape of train", "(1, 4, 4)", "(1, 3, 4)")),
        ((GOOD, GOOD, 2), ValueError, ("train", "0 … 1", "0 … 2")),
        ((GOOD, GOOD, 1), ValueError, ("levels", "at least 2", "got 1")),
        ((GOOD.float(), GOOD, 3), TypeError, ("train", "integers 0 … 2", "float32")),
        ((GOOD, GOOD + 1, 3), ValueError, ("images", "0 … 2", "1 … 3")),
    ],
)
def test_bad_input_of_the_marginal_baseline(args, error, words):
    with refused(error, *words):
        marginal_bits_per_dim(*args)


@pytest.mark.parametrize("levels", [1, 0, -4])
def test_bad_input_of_the_uniform_baseline(levels):
    with refused(ValueError, "levels", "at least 2", f"got {levels}"):
        uniform_bits_per_dim(levels)
