"""Digits between two classes: mixed predictions, candidates that a reader chooses among, bisection, resampling."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from conftest import BrightnessReader, ConditionalToy, integers, one_hot, refused
from torch import nn

from pixelcnn_helpers import (
    GatedPixelCNN,
    PixelCNN,
    ShortcutPixelCNN,
    incremental,
    nats,
    pixel_nats,
    sample,
    soft_label,
)
from pixelcnn_helpers.models import AutoregressiveModel
from pixelcnn_helpers.studies import between
from pixelcnn_helpers.studies.between import (
    Contrasted,
    MixedClasses,
    leanings,
    pair_label,
    sample_between,
    steady_reading,
)
from pixelcnn_helpers.studies.judges import ConvClassifier
from pixelcnn_helpers.workshop.measure_between import resampled, turning_points

LABELS = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.0, 0.8], [1.0, 0.0, 0.0], [0.3, 0.3, 0.4]])


def conditional(kind=GatedPixelCNN, channels=1):
    """A small network whose classes differ much."""
    options = {"channels": channels, "levels": 3, "features": 6, "blocks": 2, "classes": 3}
    model = (kind(**options) if kind is GatedPixelCNN else kind(**options, dropout=0.0)).double().eval()
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=3.0)
    model.size = (6, 5)
    return model


# mixed predictions


WAYS = {
    "probabilities": lambda model: MixedClasses(model),
    "logits": lambda model: MixedClasses(model, geometric=True),
    "steered": lambda model: MixedClasses(model, restore=0.7),
    "logits steered": lambda model: MixedClasses(model, geometric=True, restore=0.7),
    "Bayes": lambda model: MixedClasses(model, restore=-1),
    "contrasted": lambda model: Contrasted(model, 1.5),
}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", [GatedPixelCNN, ShortcutPixelCNN])
@pytest.mark.parametrize("way", WAYS)
def test_mixed_predictions_draw_as_they_weigh(way, kind, channels):
    mixed = WAYS[way](conditional(kind, channels))
    assert torch.equal(sample(mixed, labels=LABELS), sample(mixed, labels=LABELS, method="naive"))


@pytest.mark.parametrize("way", WAYS)
def test_a_single_class_stays_as_it_was(way):
    model, rows = conditional(), one_hot([0, 1, 2])
    images = integers((3, 1, 6, 5), 3)
    wanted = model(images, rows).log_softmax(1)
    torch.testing.assert_close(WAYS[way](model)(images, rows).log_softmax(1), wanted)


def by_class(model, images):
    """log p of every level under each class, `(classes, N, levels, C, H, W)`."""
    return torch.stack([model(images, one_hot([c]).expand(len(images), -1)).log_softmax(1) for c in range(3)])


def test_means_of_probabilities_and_of_logits():
    model, images = conditional(), integers((4, 1, 6, 5), 3)
    log_p, weights = by_class(model, images), LABELS.T[:, :, None, None, None, None].double()
    found = MixedClasses(model)(images, LABELS)
    torch.testing.assert_close(found.exp(), (weights * log_p.exp()).sum(0))
    found = MixedClasses(model, geometric=True)(images, LABELS)
    torch.testing.assert_close(found, (weights * log_p).sum(0))


def test_bayes_rule_gives_the_mixture_of_whole_images():
    model, images = conditional(), integers((4, 1, 6, 5), 3)
    each = torch.stack([-nats(model, images, one_hot([c]).expand(4, -1)) for c in range(3)], 1)
    wanted = -(each + LABELS.double().log()).logsumexp(1)
    torch.testing.assert_close(nats(MixedClasses(model, restore=-1), images, LABELS), wanted)


def test_bayes_rule_in_half_precision():
    """The log probabilities of what was drawn are summed in float32, whatever the network computes in."""
    model, images = conditional().bfloat16(), integers((4, 1, 28, 28), 3)
    each = torch.stack([-nats(model, images, one_hot([c]).expand(4, -1)) for c in range(3)], 1)
    wanted = -(each + LABELS.double().log()).logsumexp(1)
    torch.testing.assert_close(nats(MixedClasses(model, restore=-1), images, LABELS), wanted, rtol=1e-4, atol=0)


@pytest.mark.parametrize("method", ["cached", "guess"])
def test_mixed_predictions_in_half_precision_choose_in_float32(method):
    """All levels are equally likely, so their mean is 127.5; rounded noise prefers the first of several."""
    model = GatedPixelCNN(levels=256, features=4, blocks=1, classes=3)
    nn.init.zeros_(model.head.weight), nn.init.zeros_(model.head.bias)
    mixed = MixedClasses(model.bfloat16(), restore=0.5)
    images = sample(mixed, labels=LABELS[:1].expand(200, -1), size=(16, 16), method=method)
    assert abs(images.double().mean().item() - 127.5) < 3 * ((256**2 - 1) / 12 / images.numel()) ** 0.5


def test_steering_leans_towards_the_class_that_lost():
    model, images = conditional(), integers((1, 1, 6, 5), 3)
    label = soft_label({0: 0.5, 1: 0.5}, 3)
    log_p = by_class(model, images)[:2, 0]  # (2, levels, C, H, W)
    own = log_p.gather(1, images[:1].expand(2, -1, -1, -1)[:, None])[:, 0].flatten(1)  # (2, 30), in raster order
    before = own.cumsum(1) - own
    weights = (-0.7 * before).softmax(0).view(2, 1, 1, 6, 5)
    wanted = (weights * log_p.exp()).sum(0)
    torch.testing.assert_close(MixedClasses(model, restore=0.7)(images, label)[0].exp(), wanted)


def test_the_contrast_is_with_either_or():
    model, images = conditional(), integers((4, 1, 6, 5), 3)
    either, plain = MixedClasses(model, restore=-1)(images, LABELS), model(images, LABELS).log_softmax(1)
    torch.testing.assert_close(Contrasted(model, 1.5)(images, LABELS), plain + 1.5 * (plain - either))
    torch.testing.assert_close(Contrasted(model, 0)(images, LABELS), plain)


def test_an_image_does_not_depend_on_the_others_labels():
    mixed = MixedClasses(conditional(), restore=0.5)
    together = sample(mixed, labels=LABELS, seed=7)
    for i in range(4):
        assert torch.equal(sample(mixed, labels=LABELS[i : i + 1], seed=7 + i), together[i : i + 1])


def test_mixing_refuses():
    with refused(ValueError, "model must have classes to mix", "PixelCNN with classes=0"):
        MixedClasses(PixelCNN(levels=3, features=4, layers=1, kernel_size=3))
    with refused(TypeError, "model must be a torch.nn.Module"):
        MixedClasses("conditional-mnist")
    with refused(ValueError, "restore must be finite and at least -1, got -2"):
        MixedClasses(conditional(), restore=-2)
    with refused(ValueError, "strength must be finite and at least 0, got -1"):
        Contrasted(conditional(), -1)
    with refused(TypeError, "model has no cached way", "@incremental.register(ConditionalToy)", 'method="naive"'):
        sample(MixedClasses(ConditionalToy()), labels=LABELS, size=(3, 3))
    mixed = MixedClasses(conditional())
    with refused(ValueError, "labels must be float rows", "got None"):
        mixed(integers((1, 1, 6, 5), 3))
    with refused(ValueError, "images must hold values 0 … 2"):
        mixed(integers((1, 1, 6, 5), 3) + 5, LABELS[:1])


# candidates


def test_one_candidate_is_a_sample_with_the_mixed_label(large):
    label = soft_label({0: 0.3, 1: 0.7}, 3)
    wanted = sample(large, labels=label.expand(3, -1), seed=5)
    assert torch.equal(sample_between(large, 0, 1, 0.7, 3, 5, tries=1), wanted)


def test_the_first_near_candidate_is_taken_or_the_nearest(large, monkeypatch):
    reader, label = BrightnessReader(), soft_label({0: 0.5, 1: 0.5}, 3)
    for near in (0.0, 0.02, 0.1):
        monkeypatch.setattr(between, "NEAR", near)
        found = sample_between(large, 0, 1, n=4, seed=3, tries=5, reader=reader)
        for i in range(4):
            seeds = [3 + i + k * between.APART for k in range(5)]
            drawn = sample(large, labels=label.expand(5, -1), seed=seeds)
            assert len(torch.unique(drawn, dim=0)) == 5
            away = (steady_reading(reader, drawn, 3) - label).abs().sum(1) / 2
            first = next((k for k in range(5) if away[k] <= near), int(away.argmin()))
            assert torch.equal(found[i], drawn[first])


def test_candidates_do_not_depend_on_the_batch(large):
    options = {"seed": 2, "tries": 4, "reader": BrightnessReader()}
    together = sample_between(large, 0, 1, 0.4, 5, **options)
    assert torch.equal(sample_between(large, 0, 1, 0.4, 2, **options), together[:2])
    options["seed"] = 5
    assert torch.equal(sample_between(large, 0, 1, 0.4, 2, **options), together[3:])


def test_candidates_are_drawn_at_the_temperature_asked_for(large):
    cold, warm = (sample_between(large, 0, 1, n=3, tries=3, temperature=t, reader=BrightnessReader()) for t in (0, 1))
    assert torch.equal(cold[0], cold[1]) and not torch.equal(warm[0], warm[1])


def test_no_more_candidates_are_drawn_than_needed(large, monkeypatch):
    reader = BrightnessReader()
    monkeypatch.setattr(between, "NEAR", 1.0)
    monkeypatch.setattr(between, "BATCH", 4)
    sample_between(large, 0, 1, n=4, tries=50, reader=reader)
    assert reader.asked == 4 * 5  # one candidate each, read five times


def test_readings_are_the_mean_over_five_places():
    reader = BrightnessReader()
    images = torch.zeros(1, 1, 28, 28, dtype=torch.long)
    images[0, 0, 0] = 2  # the first row, which leaves the frame when it moves up
    whole, gone, cut = 28 / 784, 0.01, 27 / 784
    wanted = (2 * whole + gone + 2 * cut) / 5
    assert steady_reading(reader, images, 3)[0, 1].item() == pytest.approx(wanted, rel=1e-3)


def test_sample_between_refuses(large):
    for wrong, error, words in (
        ({"b": 0}, ValueError, ("two different classes of 0 … 2", "got (0, 0)")),
        ({"b": 3}, ValueError, ("two different classes of 0 … 2", "got (0, 3)")),
        ({"b": 1.0}, TypeError, ("a class must be an integer",)),
        ({"weight": 1.5}, ValueError, ("weight must be within 0 … 1, got 1.5",)),
        ({"weight": -0.5}, ValueError, ("weight must be finite and at least 0",)),
        ({"weight": float("nan")}, ValueError, ("weight must be finite",)),
        ({"n": 0}, ValueError, ("n must be at least 1",)),
        ({"tries": 0}, ValueError, ("tries must be at least 1",)),
        ({"seed": -1}, ValueError, ("seed must be at least 0",)),
        ({"reader": nn.Linear(2, 2)}, TypeError, ("must be a ConvClassifier or a ResidualClassifier",)),
        ({"temperature": -1, "tries": 1}, ValueError, ("temperature must be finite and at least 0",)),
    ):
        with refused(error, *words):
            sample_between(large, **({"a": 0, "b": 1, "n": 1} | wrong))
    with refused(ValueError, "model must have classes to mix"):
        sample_between(PixelCNN(levels=3, features=4, layers=1, kernel_size=3), 0, 1)
    with refused(ValueError, "reader must know the 2 classes of the model", "got one of 3 classes"):
        sample_between(ConditionalToy(classes=2), 0, 1, n=1, reader=BrightnessReader())
    with refused(TypeError, "reader must be a ConvClassifier or a ResidualClassifier, got str"):
        sample_between(large, 0, 1, n=1, reader="teacher-mnist")
    with refused(ValueError, "the model must draw images (1, 28, 28), which the reader reads", "(1, 8, 8)"):
        small = conditional()
        small.size = (8, 8)
        sample_between(small, 0, 1, n=1, reader=BrightnessReader())


def test_a_reader_that_diverged(large):
    reader = ConvClassifier(classes=3, width=2).eval()
    nn.init.constant_(reader.net[-1].bias, math.nan)
    with refused(ValueError, "model must return finite logits", "its training diverged"):
        sample_between(large, 0, 1, n=2, reader=reader)


# other ways


@pytest.mark.parametrize("weight", [0.2, 0.5, 0.8])
def test_turning_points_keep_the_noise_and_find_the_weight(weight):
    """The more an image is of class 1, the brighter it is. So for every noise one weight fits best."""
    model, options = Dimmer(), {"reader": BrightnessReader(), "steps": 7}
    found = turning_points(model, 0, 1, weight, n=3, seed=4, **options)
    assert (found.flatten(1).float().mean(1) - weight).abs().max() < 0.03  # moved images lose their edge
    assert torch.equal(turning_points(model, 0, 1, weight, n=1, seed=6, **options)[0], found[2])
    coarse = turning_points(model, 0, 1, weight, n=3, seed=4, **(options | {"steps": 2}))
    middles = (0.5, 0.25 if weight < 0.5 else 0.75)  # all that two bisections look at
    wanted = min(middles, key=lambda middle: abs(middle - weight))
    assert (coarse.flatten(1).float().mean(1) - wanted).abs().max() < 0.05


class Dimmer(AutoregressiveModel):
    """Each pixel is on with the probability that the label gives to class 1, whatever came before."""

    def __init__(self):
        super().__init__(1, 2, 3)
        self.weight, self.size = nn.Parameter(torch.zeros(())), (28, 28)

    def logits(self, x, labels=None):
        on = labels[:, 1].clamp(1e-4, 1 - 1e-4).view(-1, 1, 1, 1, 1).expand(len(x), 1, 1, *x.shape[2:])
        return torch.cat([1 - on, on], 1).log()


@incremental.register
def _(model: Dimmer, labels, n, size):
    on = labels[:, 1:2].clamp(1e-4, 1 - 1e-4)
    return SimpleNamespace(
        row=lambda row: None, put=lambda *drawn: None, pixel=lambda *place: torch.cat([1 - on, on], 1).log()
    )


@pytest.mark.parametrize("weight", [0.2, 0.5, 0.8])
def test_resampling_keeps_what_the_network_cannot_decide(large, weight):
    odds = math.log(weight / (1 - weight))

    def away(images):
        of_a, of_b = (nats(large, images, pair_label(large, 0, 1, share).expand(6, -1)) for share in (0.0, 1.0))
        return (of_a - of_b - odds).abs()

    plain = sample_between(large, 0, 1, weight, n=6, tries=1)
    options = {"particles": 8, "width": 0.1}
    found = resampled(large, 0, 1, weight, n=6, **options)
    assert found.shape == plain.shape
    assert away(found).median() < away(plain).median() / 2
    assert torch.equal(resampled(large, 0, 1, weight, n=2, seed=1, **options), found[1:3])  # its own seed


def test_resampling_refuses(large):
    for wrong, words in (
        ({"particles": 0}, "particles must be at least 1"), ({"blocks": 0}, "blocks must be at least 1"),
        ({"width": 0}, "width must be above 0"), ({"n": 0}, "n must be at least 1"), ({"seed": -1}, "seed"),
        ({"blocks": 29}, "blocks must be at most 28, the rows of an image, got 29"),
    ):  # fmt: skip
        with refused(ValueError, words):
            resampled(large, 0, 1, **({"n": 1} | wrong))
    large.size = None
    with refused(ValueError, "size must be a pair"):
        resampled(large, 0, 1, n=1)


def test_leanings():
    votes = torch.tensor([[0.5, 0.4, 0.1], [0.3, 0.3, 0.4], [0.95, 0.05, 0.0], [0.0, 0.0, 1.0], [1e-15, 3e-15, 1.0]])
    leaning, on_pair, truly = leanings(votes, 0, 1)
    assert leaning.tolist() == pytest.approx([4 / 9, 0.5, 0.05, 0.0, 0.75])
    assert on_pair.tolist() == pytest.approx([0.9, 0.6, 1.0, 0.0, 0.0])
    assert truly.tolist() == [True, False, False, False, False]


def test_pixel_nats_sum_to_nats():
    model, images = conditional(), integers((4, 1, 6, 5), 3)
    each = pixel_nats(model, images, LABELS)
    assert each.shape == images.shape and (each > 0).all()
    torch.testing.assert_close(each.flatten(1).sum(1), nats(model, images, LABELS))
    other = copy.deepcopy(images)
    other[:, :, 3:] = (other[:, :, 3:] + 1) % 3
    assert torch.equal(pixel_nats(model, other, LABELS)[:, :, :3], each[:, :, :3])
    assert math.isfinite(each.max())
