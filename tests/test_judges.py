"""The judge and the teacher: their input and output, their training, and the errors they raise."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from conftest import integers, refused
from torch import nn

from pixelcnn_helpers import PixelCNN, load_digits, quantize
from pixelcnn_helpers.studies import judges
from pixelcnn_helpers.studies.judges import (
    ConvClassifier,
    ResidualClassifier,
    accuracy,
    class_probabilities,
    fit_classifier,
    redraw,
)
from pixelcnn_helpers.training import get_accelerator

BOTH = pytest.mark.parametrize("kind", [ConvClassifier, ResidualClassifier])
NOISE, CLASSES = integers((12, 1, 28, 28), 256), integers((12,), 10)


@pytest.fixture(scope="module", autouse=True)
def _on_the_cpu():
    """The tests compare weights bit by bit, which not every GPU reproduces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        yield


@pytest.fixture(scope="module")
def digits():
    """The bundled digits, 256 levels at 28×28: `(images, classes)`."""
    images, classes = load_digits()
    large = nn.functional.interpolate(quantize(images, 256, 17).float(), (28, 28), mode="bilinear")
    return large.round().to(torch.uint8), classes


def small(kind=ConvClassifier, seed=0, **options):
    torch.manual_seed(seed)
    return kind(**{"width": 4, **options})


def quick(model, images=NOISE, classes=CLASSES, **options):
    return fit_classifier(model, images, classes, **{"epochs": 2, "batch_size": 4, "progress": False, **options})


def same(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# the networks


@BOTH
def test_logits_of_floats(kind):
    model = small(kind, classes=7)
    logits = model(torch.rand(3, 1, 28, 28))
    assert logits.shape == (3, 7) and logits.dtype == torch.float32
    assert model.size == (28, 28) and model.classes == 7


@BOTH
def test_config_builds_the_same_network(kind):
    model = small(kind, classes=5, width=6).eval()
    again = type(model)(**json.loads(json.dumps(model.config))).eval()
    again.load_state_dict(model.state_dict())
    x = torch.rand(2, 1, 28, 28)
    assert again.config == model.config == {"classes": 5, "width": 6}
    assert torch.equal(model(x), again(x))


@BOTH
def test_small_enough_to_ship(kind):
    state = kind().state_dict()
    assert sum(value.numel() * value.element_size() for value in state.values()) < 1.25e6


def test_two_architectures():
    """Nothing that one has learned fits into the other."""
    judge, teacher = ({tuple(w.shape) for w in kind().parameters() if w.ndim == 4} for kind in BOTH.args[1])
    assert not judge & teacher


@BOTH
def test_every_weight_counts(kind):
    model = small(kind)
    model(torch.rand(4, 1, 28, 28)).square().sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.parameters())


@BOTH
def test_gradients_reach_the_image(kind):
    x = torch.rand(2, 1, 28, 28, requires_grad=True)
    small(kind).eval()(x).sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "bad", "error"),
    [("classes", 1, ValueError), ("classes", "10", TypeError), ("width", 0, ValueError), ("width", True, TypeError)],
)
def test_refuses_sizes(name, bad, error):
    with refused(error, name):
        ConvClassifier(**{name: bad})


# what goes in


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_refuses_integers(dtype):
    with refused(TypeError, "floats in 0 … 1", str(dtype), "images / (levels - 1)"):
        small()(torch.zeros(2, 1, 28, 28, dtype=dtype))


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 3, 28, 28), (2, 1, 8, 8), (0, 1, 28, 28), (28, 28)])
def test_refuses_shapes(shape):
    with refused(ValueError, "(N, 1, 28, 28)", str(shape)):
        small()(torch.zeros(shape))


@pytest.mark.parametrize("value", [255.0, -0.5, 1.001, math.nan, math.inf, -math.inf])
def test_refuses_values(value):
    x = torch.zeros(2, 1, 28, 28)
    x[1, 0, 3, 4] = value
    with refused(ValueError, "0 … 1", f"{value:g}", "images / (levels - 1)"):
        small()(x)


def test_refuses_what_is_no_tensor():
    with refused(TypeError, "images must be a torch tensor", "ndarray"):
        small()(np.zeros((2, 1, 28, 28)))


def test_other_floats_are_welcome():
    model, x = small().eval(), torch.rand(2, 1, 28, 28)
    assert torch.equal(model(x.double()), model(x))
    assert model.double()(x).dtype == torch.float64


# learning


@BOTH
def test_learns_to_read(kind, digits):
    images, classes = digits
    model = small(kind, width=8)
    held = (images[1500:], classes[1500:])
    before = accuracy(model, *held)
    history = fit_classifier(
        model, images[:600], classes[:600], epochs=8, batch_size=40, learning_rate=1e-2, validation=held,
        progress=False,
    )
    assert before < 0.4 and not model.training
    assert len(history.train) == len(history.validation) == len(history.seconds) == 8
    assert history.train[-1] < history.train[0] / 2 and history.seconds == sorted(history.seconds)
    assert history.validation[-1] == accuracy(model, *held) > 0.8
    assert accuracy(model, *held, levels=2) > 0.7
    assert json.loads(json.dumps(asdict(history))) == asdict(history)


@BOTH
def test_same_seed_same_weights(kind):
    models = [small(kind) for _ in range(3)]
    curves = [quick(model, seed=seed).train for model, seed in zip(models, (3, 3, 4), strict=True)]
    assert same(*models[:2]) and curves[0] == curves[1]
    assert not same(*models[1:]) and curves[1] != curves[2]


def test_the_callers_random_state_is_not_touched():
    model = small()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    quick(model, validation=(NOISE, CLASSES))
    accuracy(model, NOISE, CLASSES, 4)
    assert torch.equal(torch.rand(3), expected)


def test_the_callers_images_are_not_touched():
    images, classes = NOISE.clone(), CLASSES.clone()
    quick(small(), images, classes)
    assert torch.equal(images, NOISE) and torch.equal(classes, CLASSES)


@BOTH
def test_it_computes_in_the_precision_of_fit(kind):
    """bfloat16 where `fit` takes it, in the step alone: the weights and the validation stay in float32."""
    model, seen = small(kind), set()
    model.net[0].register_forward_hook(lambda layer, args, out: seen.add((layer.training, out.dtype)))
    quick(model, validation=(NOISE, CLASSES))
    fast = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[get_accelerator().mixed_precision]
    assert seen == {(True, fast), (False, torch.float32)}
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
    assert vars(model).keys() == vars(small(kind)).keys()


@BOTH
def test_gradients_are_clipped_to_norm_1(kind):
    model = small(kind)
    nn.init.normal_(model.net[-1].weight, std=1000)
    quick(model, epochs=1, batch_size=12)  # its gradients are left on the model
    assert torch.stack([weight.grad.norm() for weight in model.parameters()]).norm().item() == pytest.approx(1.0)


def test_fewer_images_than_a_batch():
    assert len(quick(small(), batch_size=100).train) == 2


def test_evaluation_mode_after_an_error(monkeypatch):
    model = small()
    monkeypatch.setattr(judges, "redraw", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        quick(model)
    assert not model.training


def test_a_loss_that_is_no_number():
    model = small()
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    with refused(FloatingPointError, "epoch 1", "learning_rate"):
        quick(model)


@pytest.mark.parametrize(
    ("error", "words", "options"),
    [
        (ValueError, ["epochs", "at least 1"], {"epochs": 0}),
        (TypeError, ["batch_size", "integer"], {"batch_size": 2.5}),
        (ValueError, ["learning_rate", "above 0"], {"learning_rate": 0}),
        (ValueError, ["rotation", "at least 0"], {"rotation": -1}),
        (ValueError, ["seed"], {"seed": -1}),
        (ValueError, ["validation", "pair"], {"validation": NOISE[0, 0]}),
        (ValueError, ["validation[1]", "12"], {"validation": (NOISE, CLASSES[:3])}),
        (ValueError, ["images", "(N, 1, 28, 28)"], {"images": NOISE[..., :8]}),
        (TypeError, ["images", "integers"], {"images": NOISE / 255}),
        (ValueError, ["images", "0 … 255"], {"images": NOISE + 1}),
        (ValueError, ["classes", "integers (12,)", "float32"], {"classes": CLASSES.float()}),
        (ValueError, ["classes", "(3,)"], {"classes": CLASSES[:3]}),
        (ValueError, ["classes", "list"], {"classes": [1] * 12}),
        (ValueError, ["classes", "0 … 9", "10"], {"classes": CLASSES.clamp(min=1) * 0 + 10}),
    ],
)
def test_refuses(error, words, options):
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with refused(error, *words):
        quick(model, **options)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("model", [PixelCNN(levels=2, features=2, layers=1, kernel_size=3), nn.Flatten(), None])
def test_refuses_what_is_no_classifier(model):
    calls = quick, lambda model: class_probabilities(model, NOISE, 256), lambda model: accuracy(model, NOISE, CLASSES)
    for call in calls:
        with refused(TypeError, "ConvClassifier", type(model).__name__):
            call(model)


# redrawing


def test_redrawn_images(digits):
    images = digits[0][:100]
    x = redraw(images, 10.0, torch.Generator().manual_seed(0))
    assert x.shape == images.shape and x.dtype == torch.float32 and x.min() == 0 and x.max() == 1
    assert (x - images / 255).abs().mean((1, 2, 3)).min() > 0.01  # each has moved
    assert (x - images / 255).mean((1, 2, 3)).abs().max() < 0.15  # and still has its ink


def test_redrawn_levels(monkeypatch, digits):
    """Left where they are, images are rounded as by `quantize`, at every number of levels, or black and white."""
    monkeypatch.setattr(judges, "SHIFT", 0)
    monkeypatch.setattr(judges, "SCALE", 0)
    images = digits[0][:300]
    x = redraw(images, 0.0, torch.Generator().manual_seed(0))
    rounded = torch.stack([quantize(images, levels) / (levels - 1) for levels in judges.LEVELS])
    found = (x - rounded).abs().amax((2, 3, 4)) < 1e-4  # (levels, N)
    drawn = ~found.any(0)
    assert all(30 < count < 70 for count in [*found.sum(1).tolist(), drawn.sum()])  # one in six
    assert set(x[drawn].unique().tolist()) == {0.0, 1.0}
    assert abs(x[drawn].mean() - images[drawn].float().mean() / 255) < 0.01


# asking


@BOTH
@pytest.mark.parametrize("levels", [2, 8, 256])
def test_read_and_accuracy_agree(kind, levels):
    model = small(kind).train()
    few = quantize(NOISE, levels)
    found = class_probabilities(model, few, levels)
    assert found.shape == (12, 10) and found.dtype == torch.float32 and found.device.type == "cpu"
    assert not found.requires_grad and torch.allclose(found.sum(1), torch.ones(12))
    assert model.training, "handed back in the mode it came in"
    expected = model.eval()(few / (levels - 1)).softmax(1)
    assert torch.allclose(found, expected, atol=1e-6)
    answers = found.argmax(1)
    assert accuracy(model, NOISE, answers, levels) == 1.0
    assert accuracy(model, NOISE, (answers + 1) % 10, levels) == 0.0
    assert accuracy(model, NOISE, torch.cat([answers[:3], (answers[3:] + 1) % 10]), levels) == 0.25


def test_batches_do_not_matter():
    model = small()
    found = class_probabilities(model, NOISE, 256, batch_size=5)
    assert torch.allclose(found, class_probabilities(model, NOISE, 256), atol=1e-6)
    assert accuracy(model, NOISE, CLASSES, batch_size=5) == accuracy(model, NOISE, CLASSES)


def test_read_refuses():
    model = small()
    with refused(ValueError, "0 … 7", "255"):
        class_probabilities(model, NOISE.clamp(max=255), 8)
    with refused(TypeError, "integers 0 … 7", "float32"):
        class_probabilities(model, NOISE / 255, 8)
    with refused(ValueError, "levels", "at least 2"):
        class_probabilities(model, NOISE * 0, 1)
    with refused(ValueError, "(N, 1, 28, 28)"):
        class_probabilities(model, NOISE[..., :8], 256)
    with refused(ValueError, "batch_size"):
        class_probabilities(model, NOISE, 256, batch_size=0)
