"""What several test files share: tiny models, a check of refusals, a machine without a network."""

from __future__ import annotations

import socket
import warnings

import hypothesis
import pytest
import torch
from torch import nn

from pixelcnn_helpers import GatedPixelCNN, MaskedConv2d
from pixelcnn_helpers.models import AutoregressiveModel
from pixelcnn_helpers.studies.judges import Classifier

# The same examples in every run: a red suite must mean a change in the code.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True, max_examples=30, database=None)
hypothesis.settings.load_profile("steady")

torch.set_num_threads(1)  # one for each of pytest's workers; tensors this small only wait for more


class NetModel(AutoregressiveModel):
    """Any net from scaled images `(N, C, H, W)` to `(N, C*levels, H, W)`, as a model."""

    def __init__(self, net: nn.Module, channels=1, levels=4):
        super().__init__(channels, levels)
        self.net = net

    def logits(self, x, labels=None):
        return self.split_levels(self.net(x))


class ConditionalToy(AutoregressiveModel):
    """Two masked layers; the label rows shift the features."""

    def __init__(self, levels=3, classes=3, features=6, dropout=0.0):
        super().__init__(1, levels, classes)
        self.first = MaskedConv2d("A", 1, features, 3)
        self.shift = nn.Linear(classes, features)
        self.dropout = nn.Dropout(dropout)
        self.last = MaskedConv2d("B", features, levels, 3)

    def logits(self, x, labels=None):
        features = torch.tanh(self.first(x) + self.shift(labels)[:, :, None, None])
        return self.split_levels(self.last(self.dropout(features)))


class BrightnessReader(Classifier):
    """Reads class 1 in an image by how bright it is, class 0 by how dark, and hardly ever class 2."""

    def __init__(self):
        super().__init__(3)
        self.asked, self.weight = 0, nn.Parameter(torch.zeros(()))

    def logits(self, x):
        self.asked += len(x)
        bright = x.flatten(1).mean(1).clamp(0.01, 0.99)
        return torch.stack([1 - bright, bright, torch.full_like(bright, 1e-6)], 1).log()


@pytest.fixture
def large():
    """A tiny network for images of MNIST's size, as classifiers want them; its three classes differ."""
    model = GatedPixelCNN(levels=3, features=4, blocks=1, classes=3).eval()
    nn.init.normal_(model.blocks[0].condition.weight, std=3.0)
    model.size = (28, 28)
    return model


def refused(error: type[Exception], *words: str):
    """A context in which exactly this error must be raised, with all these words in one line."""

    class Refusal:
        def __enter__(self):
            return None

        def __exit__(self, kind, value, trace):
            assert kind is not None, f"{error.__name__} was not raised"
            if kind is not error:
                return False  # another error: let it be seen
            missing = [word for word in words if word not in str(value)]
            assert not missing, f"{missing} not in {str(value)!r}"
            assert "\n" not in str(value)
            return True

    return Refusal()


def assert_clear(call, error: type[Exception], *words: str) -> None:
    """A hostile call must end in exactly this error: one line with all these words, raised by the package itself.

    An error that torch, NumPy or Python raises inside a library would come with a deep traceback.
    """
    with pytest.raises(error) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call()
    text = str(caught.value)
    assert caught.type is error, f"{caught.type.__name__}: {text}"
    missing = [word for word in words if word not in text]
    assert not missing, f"{missing} not in {text!r}"
    assert "\n" not in text and len(text) < 600, f"more than a line: {text!r}"
    raised_in = caught.traceback[-1].path
    assert "pixelcnn_helpers" in str(raised_in), f"raised in {raised_in}"


def one_hot(classes, count=3) -> torch.Tensor:
    return nn.functional.one_hot(torch.as_tensor(classes), count).float()


def pytest_collection_modifyitems(items):
    """The notebooks first, since one process needs as long for them as the other one for everything else."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


ALSO_ON_COLAB = {"09_likelihood_at_work": "constriction"}  # what a notebook needs and Colab lacks


def set_up_cell(name: str, address: str) -> str:
    """The set-up cell of a notebook, the same in all but for its name and what it installs on Colab."""
    extra = ALSO_ON_COLAB.get(name)
    helpers, package = ("the helpers alone", "") if extra is None else (f"the helpers and {extra}", f" {extra}")
    return f"""# On Colab this installs {helpers}; elsewhere it does nothing.
if "google.colab" in str(get_ipython()):
    %pip install -q --no-deps "git+https://github.com/{address}"{package}
import pixelcnn_helpers as pch

pch.start("{name}")"""


def integers(shape, levels, seed=0) -> torch.Tensor:
    return torch.randint(levels, shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def offline(monkeypatch):
    """No network: every connection fails, and is counted."""
    tried = []

    def refuse(*args, **kwargs):
        tried.append(args)
        raise OSError("network is unreachable")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    return tried


@pytest.fixture(autouse=True)
def _same_weights():
    """Every test starts from the same random state."""
    torch.manual_seed(0)
