"""Hostile calls of `fit`: each argument of a wrong type, value or shape, and combinations that do not fit.

Each row of the table is one call. It must end in the error that the row names, in one line, raised by the package
itself, before any weight is changed.
"""

import decimal
import sys

import numpy as np
import pytest
import torch
from conftest import assert_clear, integers, one_hot
from torch import nn

from pixelcnn_helpers import GatedPixelCNN, PixelCNN, fit

IMAGES, HELD = integers((24, 1, 5, 4), 3), integers((10, 1, 5, 4), 3, seed=1)
LABELS, HELD_LABELS = one_hot(torch.arange(24) % 3), one_hot(torch.arange(10) % 3)
NAN, INF = float("nan"), float("inf")


def plain(**changes):
    """A network without classes; changes are made to its attributes."""
    model = PixelCNN(levels=3, features=4, layers=1, kernel_size=3)
    for name, value in changes.items():
        setattr(model, name, value)
    return model


def conditional():
    return GatedPixelCNN(levels=3, features=4, blocks=1, first_kernel_size=3, classes=3)


def filled(value):
    model = plain()
    model.net[-1].weight.data[0] = value
    return model


def on_meta():
    with torch.device("meta"):
        return plain()


def inferred():
    with torch.inference_mode():
        return plain()


class Returning(nn.Module):
    """A model of somebody else, whose logits are made of its bias by any function."""

    channels, levels = 1, 3

    def __init__(self, function, bias=True):
        super().__init__()
        self.function = function
        if bias:
            self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, images):
        logits = torch.zeros(len(images), 3, *images.shape[1:])
        return self.function(logits + self.bias.view(1, 3, 1, 1, 1))


TABLE = {
    # models
    "model None": ({"model": None}, TypeError, "model must be a torch.nn.Module", "NoneType"),
    "model a word": ({"model": "PixelCNN"}, TypeError, "model must be a torch.nn.Module", "'PixelCNN'"),
    "model a class": ({"model": PixelCNN}, TypeError, "model must be a torch.nn.Module", "type"),
    "model a function": ({"model": lambda x: x}, TypeError, "model must be a torch.nn.Module", "function"),
    "model a layer": ({"model": nn.Linear(2, 2)}, TypeError, "Linear carries no channels and no levels"),
    "model a list of layers": ({"model": nn.ModuleList([plain()])}, TypeError, "ModuleList carries no channels"),
    "levels a word": ({"model": plain(levels="3")}, TypeError, "model.levels must be an integer", "'3'"),
    "levels a fraction": ({"model": plain(levels=3.5)}, TypeError, "model.levels must be an integer", "3.5"),
    "levels 1": ({"model": plain(levels=1)}, ValueError, "model.levels must be at least 2", "got 1"),
    "levels None": ({"model": plain(levels=None)}, TypeError, "model.levels must be an integer", "NoneType"),
    "channels 0": ({"model": plain(channels=0)}, ValueError, "model.channels must be at least 1", "got 0"),
    "channels a pair": ({"model": plain(channels=(1, 3))}, TypeError, "model.channels must be an integer", "tuple"),
    "classes -1": ({"model": plain(classes=-1)}, ValueError, "model.classes must be at least 0", "got -1"),
    "classes None": ({"model": plain(classes=None)}, TypeError, "model.classes must be an integer", "NoneType"),
    "float16": ({"model": plain().half()}, ValueError, "model must have float32 weights", "float16", "model.float()"),
    "bfloat16": ({"model": plain().bfloat16()}, ValueError, "model must have float32 weights", "bfloat16"),
    "all frozen": ({"model": plain().requires_grad_(False)}, ValueError, "model has no weights to train"),
    "no weights": ({"model": Returning(None, bias=False)}, ValueError, "model has no weights to train"),
    "a NaN": ({"model": filled(NAN)}, ValueError, "model must have finite weights", "NaN"),
    "an infinity": ({"model": filled(-INF)}, ValueError, "model must have finite weights", "infinite"),
    "no values": ({"model": on_meta()}, ValueError, "model must have finite weights", "meta device"),
    "inference mode": ({"model": inferred()}, ValueError, "model was built under torch.inference_mode()"),
    "returns None": ({"model": Returning(lambda x: None)}, ValueError, "model must return logits", "NoneType"),
    "returns a pair": ({"model": Returning(lambda x: (x, x))}, ValueError, "model must return logits", "tuple"),
    "returns a number": ({"model": Returning(lambda x: x.mean())}, ValueError, "must return logits", "got ()"),
    "levels are last": (
        {"model": Returning(lambda x: x.movedim(1, -1))}, ValueError, "(1, 3, 1, 5, 4)", "got (1, 1, 5, 4, 3)",
    ),
    "levels behind channels": ({"model": Returning(lambda x: x.transpose(1, 2))}, ValueError, "got (1, 1, 3, 5, 4)"),
    "no channels": ({"model": Returning(lambda x: x[:, :, 0])}, ValueError, "must return logits", "got (1, 3, 5, 4)"),
    "a level less": ({"model": Returning(lambda x: x[:, :2])}, ValueError, "must return logits", "got (1, 2, 1, 5, 4)"),
    "a level more": (
        {"model": Returning(lambda x: torch.cat([x, x[:, :1]], 1))}, ValueError, "logits", "got (1, 4, 1, 5, 4)",
    ),
    "a smaller image": ({"model": Returning(lambda x: x[..., 1:, :])}, ValueError, "logits", "got (1, 3, 1, 4, 4)"),
    "returns NaN": ({"model": Returning(lambda x: x * NAN)}, ValueError, "model must return finite logits"),
    # images
    "images None": ({"images": None}, TypeError, "images must be a torch tensor", "NoneType"),
    "images a list": ({"images": IMAGES.tolist()}, TypeError, "images must be a torch tensor", "list"),
    "images an array": ({"images": IMAGES.numpy()}, TypeError, "images must be a torch tensor", "ndarray"),
    "images a pair": ({"images": (IMAGES, LABELS)}, TypeError, "images must be a torch tensor", "tuple"),
    "images floats": ({"images": IMAGES / 2}, TypeError, "images must hold integers 0 … 2", "float32"),
    "images booleans": ({"images": IMAGES > 0}, TypeError, "images must hold integers 0 … 2", "bool"),
    "images uint16": ({"images": IMAGES.to(torch.uint16)}, TypeError, "images must hold integers 0 … 2", "uint16"),
    "images complex": ({"images": IMAGES.to(torch.complex64)}, TypeError, "images must hold integers", "complex64"),
    "one image": ({"images": IMAGES[0]}, ValueError, "images must have the shape (N, C, H, W)", "(1, 5, 4)"),
    "images without channels": ({"images": IMAGES[:, 0]}, ValueError, "images must have the shape", "(24, 5, 4)"),
    "images of five axes": ({"images": IMAGES[None]}, ValueError, "images must have the shape", "(1, 24, 1, 5, 4)"),
    "no images": ({"images": IMAGES[:0]}, ValueError, "images must not be empty", "(0, 1, 5, 4)"),
    "images without rows": ({"images": IMAGES[:, :, :0]}, ValueError, "images must not be empty", "(24, 1, 0, 4)"),
    "images in colour": ({"images": IMAGES.expand(-1, 3, -1, -1)}, ValueError, "images must have 1 channel(s), got 3"),
    "images too bright": ({"images": IMAGES + 1}, ValueError, "images must hold values 0 … 2, got 1 … 3", "quantize"),
    "images negative": ({"images": IMAGES - 1}, ValueError, "images must hold values 0 … 2, got -1 … 1"),
    # labels
    "labels without classes": ({"labels": LABELS}, ValueError, "labels must be None", "no classes"),
    "labels missing": ({"model": conditional()}, ValueError, "labels must be float rows (N, 3)", "got None"),
    "labels integers": ({"labels": torch.arange(24) % 3}, TypeError, "labels must be float rows", "one_hot"),
    "labels integer rows": ({"labels": LABELS.long()}, TypeError, "labels must be float rows", "int64"),
    "labels booleans": ({"labels": LABELS > 0}, TypeError, "labels must be float rows", "bool"),
    "labels an array": ({"labels": LABELS.numpy()}, TypeError, "labels must be a torch tensor", "ndarray"),
    "labels a list": ({"labels": LABELS.tolist()}, TypeError, "labels must be a torch tensor", "list"),
    "labels a number": ({"labels": 3}, TypeError, "labels must be a torch tensor", "int 3"),
    "labels of one axis": ({"labels": LABELS[:, 0]}, ValueError, "labels must have the shape (N, 3)", "(24,)"),
    "a class too many": ({"labels": torch.eye(4)[:3].repeat(8, 1)}, ValueError, "the shape (N, 3)", "(24, 4)"),
    "a row too few": ({"labels": LABELS[1:]}, ValueError, "labels must have one row per image", "23 rows for 24"),
    "labels of one row": ({"labels": LABELS[:1]}, ValueError, "labels must have one row per image", "1 rows for 24"),
    "labels NaN": ({"labels": LABELS * NAN}, ValueError, "labels must be finite"),
    "labels infinite": ({"labels": LABELS.clamp_min(0.1) * INF}, ValueError, "labels must be finite"),
    "labels negative": ({"labels": 2 * LABELS - 1 / 3}, ValueError, "labels must not be negative"),
    "labels of zeros": ({"labels": 0 * LABELS}, ValueError, "labels must sum to 1 in every row", "got a sum of 0"),
    "labels in percent": ({"labels": 100 * LABELS}, ValueError, "labels must sum to 1 in every row", "100"),
    # how long
    "neither epochs nor steps": ({"epochs": None}, ValueError, "exactly one of epochs and steps"),
    "epochs and steps": ({"steps": 3}, ValueError, "exactly one of epochs and steps", "epochs=1 and steps=3"),
    "epochs 0": ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
    "epochs negative": ({"epochs": -2}, ValueError, "epochs must be at least 1, got -2"),
    "epochs a fraction": ({"epochs": 1.5}, TypeError, "epochs must be an integer", "1.5"),
    "epochs a whole float": ({"epochs": 2.0}, TypeError, "epochs must be an integer", "2.0"),
    "epochs a word": ({"epochs": "2"}, TypeError, "epochs must be an integer", "'2'"),
    "epochs a boolean": ({"epochs": True}, TypeError, "epochs must be an integer", "boolean True"),
    "epochs a list": ({"epochs": [2]}, TypeError, "epochs must be an integer", "list"),
    "steps 0": ({"epochs": None, "steps": 0}, ValueError, "steps must be at least 1, got 0"),
    "steps infinite": ({"epochs": None, "steps": INF}, TypeError, "steps must be an integer", "inf"),
    "steps of numpy": ({"epochs": None, "steps": np.float64(3)}, TypeError, "steps must be an integer"),
    "batch_size 0": ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
    "batch_size negative": ({"batch_size": -8}, ValueError, "batch_size must be at least 1, got -8"),
    "batch_size a fraction": ({"batch_size": 0.5}, TypeError, "batch_size must be an integer", "0.5"),
    "batch_size None": ({"batch_size": None}, TypeError, "batch_size must be an integer", "NoneType"),
    "batch_size a boolean": ({"batch_size": False}, TypeError, "batch_size must be an integer", "boolean False"),
    # learning rate and seed
    "learning_rate 0": ({"learning_rate": 0}, ValueError, "learning_rate must be above 0, got 0"),
    "learning_rate negative": ({"learning_rate": -1e-3}, ValueError, "learning_rate must be finite and at least 0"),
    "learning_rate NaN": ({"learning_rate": NAN}, ValueError, "learning_rate must be finite", "nan"),
    "learning_rate infinite": ({"learning_rate": INF}, ValueError, "learning_rate must be finite", "inf"),
    "learning_rate huge": ({"learning_rate": 1e38}, ValueError, "learning_rate must be at most 1000", "1e+38"),
    "learning_rate beyond floats": ({"learning_rate": 10**400}, ValueError, "learning_rate must be finite"),
    "learning_rate a word": ({"learning_rate": "0.01"}, TypeError, "learning_rate must be a number", "'0.01'"),
    "learning_rate None": ({"learning_rate": None}, TypeError, "learning_rate must be a number", "NoneType"),
    "learning_rate a boolean": ({"learning_rate": True}, TypeError, "learning_rate must be a number", "True"),
    "learning_rate a tensor": ({"learning_rate": torch.tensor(0.1)}, TypeError, "learning_rate must be", "Tensor"),
    "learning_rate complex": ({"learning_rate": 1j}, TypeError, "learning_rate must be a number", "complex"),
    "learning_rate a decimal": ({"learning_rate": decimal.Decimal(1)}, TypeError, "learning_rate must be", "Decimal"),
    "learning_rate a list": ({"learning_rate": [0.1, 0.01]}, TypeError, "learning_rate must be a number", "list"),
    "seed negative": ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    "seed a fraction": ({"seed": 0.5}, TypeError, "seed must be an integer", "0.5"),
    "seed a word": ({"seed": "0"}, TypeError, "seed must be an integer", "'0'"),
    "seed None": ({"seed": None}, TypeError, "seed must be an integer", "NoneType"),
    "seed a boolean": ({"seed": False}, TypeError, "seed must be an integer", "boolean False"),
    "seed a generator": ({"seed": torch.Generator()}, TypeError, "seed must be an integer", "Generator"),
    # validation and patience
    "validation a tensor": ({"validation": HELD}, ValueError, "validation must be a pair (images, labels)", "Tensor"),
    "validation two images": ({"validation": HELD[:2]}, ValueError, "validation[0] must have the shape", "(1, 5, 4)"),
    "validation one thing": ({"validation": (HELD,)}, ValueError, "validation must be a pair", "tuple"),
    "validation three things": ({"validation": (HELD, None, 1)}, ValueError, "validation must be a pair", "tuple"),
    "validation a number": ({"validation": 0.1}, ValueError, "validation must be a pair", "0.1"),
    "validation a boolean": ({"validation": True}, ValueError, "validation must be a pair", "True"),
    "validation two letters": ({"validation": "ab"}, TypeError, "validation[0] must be a torch tensor", "'a'"),
    "validation a dict": ({"validation": {"a": 1, "b": 2}}, ValueError, "validation must be a pair", "a"),
    "validation of None": ({"validation": (None, None)}, TypeError, "validation[0] must be a torch tensor", "NoneType"),
    "validation floats": ({"validation": (HELD / 2, None)}, TypeError, "validation[0] must hold integers", "float32"),
    "validation empty": ({"validation": (HELD[:0], None)}, ValueError, "validation[0] must not be empty"),
    "validation in colour": (
        {"validation": (HELD.expand(-1, 3, -1, -1), None)}, ValueError, "validation[0] must have 1 channel(s), got 3",
    ),
    "validation too bright": ({"validation": (HELD + 1, None)}, ValueError, "validation[0] must hold values", "1 … 3"),
    "validation of 256 levels": (
        {"validation": (HELD * 100, None), "augment": lambda x, _: x}, ValueError, "validation[0] must hold", "0 … 200",
    ),
    "validation with labels": ({"validation": (HELD, HELD_LABELS)}, ValueError, "validation[1] must be None"),
    "validation without labels": (
        {"labels": LABELS, "validation": (HELD, None)}, ValueError, "validation[1] must be float rows (N, 3)",
    ),
    "validation labels too few": (
        {"labels": LABELS, "validation": (HELD, HELD_LABELS[1:])}, ValueError, "validation[1]", "9 rows for 10",
    ),
    "validation labels NaN": (
        {"labels": LABELS, "validation": (HELD, HELD_LABELS * NAN)}, ValueError, "validation[1] must be finite",
    ),
    "patience alone": ({"patience": 2}, ValueError, "patience needs validation=(images, labels)", "patience=2"),
    "patience 0": ({"patience": 0, "validation": (HELD, None)}, ValueError, "patience must be at least 1, got 0"),
    "patience a fraction": ({"patience": 1.5, "validation": (HELD, None)}, TypeError, "patience must be an integer"),
    "patience a word": ({"patience": "2", "validation": (HELD, None)}, TypeError, "patience must be an integer", "'2'"),
    "patience infinite": ({"patience": INF, "validation": (HELD, None)}, TypeError, "patience must be an integer"),
    "patience a boolean": ({"patience": True, "validation": (HELD, None)}, TypeError, "patience", "boolean True"),
    # functions
    "augment a number": ({"augment": 5}, TypeError, "augment must be a function or None", "int"),
    "augment a word": ({"augment": "flip"}, TypeError, "augment must be a function or None", "str"),
    "augment a list": ({"augment": [torch.flip]}, TypeError, "augment must be a function or None", "list"),
    "augment True": ({"augment": True}, TypeError, "augment must be a function or None", "bool"),
    "augment gives None": ({"augment": lambda x, _: None}, TypeError, "what augment returns must be", "NoneType"),
    "augment gives a pair": ({"augment": lambda x, g: (x, g)}, TypeError, "what augment returns must be", "tuple"),
    "augment gives an array": ({"augment": lambda x, _: x.numpy()}, TypeError, "what augment returns", "ndarray"),
    "augment gives floats": ({"augment": lambda x, _: x / 2}, TypeError, "what augment returns must hold", "float32"),
    "augment gives booleans": ({"augment": lambda x, _: x > 0}, TypeError, "what augment returns must hold", "bool"),
    "augment is too bright": ({"augment": lambda x, _: x + 1}, ValueError, "what augment returns", "1 … 3"),
    "augment is negative": ({"augment": lambda x, _: -x}, ValueError, "what augment returns must hold", "-2 … 0"),
    "augment drops an image": ({"augment": lambda x, _: x[1:]}, ValueError, "must have the shape (8, 1, 5, 4)", "(7,"),
    "augment crops": ({"augment": lambda x, _: x[..., 1:]}, ValueError, "must have the shape", "(8, 1, 5, 3)"),
    "augment flattens": ({"augment": lambda x, _: x.flatten(1)}, ValueError, "what augment returns", "(8, 20)"),
    "augment with too many levels": (
        {"images": IMAGES * 200, "augment": lambda x, _: x // 200}, ValueError, "images must hold values 0 … 255, got",
    ),
    "callback a number": ({"callback": 5}, TypeError, "callback must be a function or None", "int"),
    "callback a word": ({"callback": "print"}, TypeError, "callback must be a function or None", "str"),
    "callback a list": ({"callback": [print]}, TypeError, "callback must be a function or None", "list"),
    # switches and files
    "compile 1": ({"compile": 1}, TypeError, "compile must be True or False, got int 1"),
    "compile a word": ({"compile": "false"}, TypeError, "compile must be True or False, got str 'false'"),
    "compile None": ({"compile": None}, TypeError, "compile must be True or False, got NoneType None"),
    "progress 0": ({"progress": 0}, TypeError, "progress must be True or False, got int 0"),
    "progress a word": ({"progress": "no"}, TypeError, "progress must be True or False, got str 'no'"),
    "progress None": ({"progress": None}, TypeError, "progress must be True or False, got NoneType None"),
    "checkpoint a number": ({"checkpoint": 5}, TypeError, "checkpoint must be a path or None, got int"),
    "checkpoint a boolean": ({"checkpoint": True}, TypeError, "checkpoint must be a path or None, got bool"),
    "checkpoint bytes": ({"checkpoint": b"model.pt"}, TypeError, "checkpoint must be a path or None, got bytes"),
    "checkpoint a list": ({"checkpoint": ["model.pt"]}, TypeError, "checkpoint must be a path or None, got list"),
    "checkpoint an open file": ({"checkpoint": sys.stdout}, TypeError, "checkpoint must be a path or None"),
    "checkpoint empty": ({"checkpoint": ""}, ValueError, "checkpoint", "cannot be written (it is not a file)"),
    "checkpoint a folder": ({"checkpoint": "."}, ValueError, "checkpoint . cannot be written (it is not a file)"),
    "checkpoint with NUL": ({"checkpoint": "a\0b"}, ValueError, "checkpoint a\0b cannot be written", "null"),
    "checkpoint below a file": ({"checkpoint": "/dev/null/a.pt"}, ValueError, "checkpoint /dev/null/a.pt cannot be"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.chdir(tmp_path)  # so that a checkpoint which is written would be found there


@pytest.mark.parametrize("name", TABLE)
def test_a_hostile_call(name, tmp_path):
    options, error, *words = TABLE[name]
    labelled = "labels" in options and name != "labels without classes"
    options = {"images": IMAGES, "epochs": 1, "batch_size": 8, "progress": False, **options}
    model = options.pop("model") if "model" in options else conditional() if labelled else plain()
    is_model = isinstance(model, nn.Module)
    before = {key: value.clone() for key, value in model.state_dict().items()} if is_model else {}
    assert_clear(lambda: fit(model, **options), error, *words)
    for key, value in before.items():
        assert value.is_meta or torch.equal(value.nan_to_num(), model.state_dict()[key].nan_to_num())
    assert not list(tmp_path.iterdir())


def test_the_same_calls_without_their_mistakes_are_trained():
    """So that a row of the table fails for its own reason."""
    options = {"epochs": 1, "batch_size": 8, "progress": False}
    augment = lambda x, _: x.flip(3)  # noqa: E731
    assert fit(plain(), IMAGES, validation=(HELD, None), patience=1, augment=augment, **options).steps == [3]
    assert fit(conditional(), IMAGES, LABELS, validation=[HELD, HELD_LABELS], **options).steps == [3]
    assert fit(Returning(lambda x: x), IMAGES, learning_rate=1000, seed=10**30, **options).steps == [3]


def test_what_a_callback_or_an_augmentation_raises_is_the_callers_own():
    def raises(*_):
        raise KeyError("mine")

    for name in ("augment", "callback"):
        model = plain()
        with pytest.raises(KeyError, match="mine"):
            fit(model, IMAGES, epochs=1, progress=False, **{name: raises})
        assert not model.training
