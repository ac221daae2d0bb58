"""The codec: what it decodes is what it was given, at the length that the likelihood promises, or there is an error."""

import hashlib
import json
import math
import sys

import pytest
import torch
from conftest import ConditionalToy, integers, one_hot, refused
from hypothesis import given
from hypothesis import strategies as some

from pixelcnn_helpers import GatedPixelCNN, PixelCNN, ShortcutPixelCNN, compress, decompress, load_digits, nats
from pixelcnn_helpers.studies import codec

TINY = {"features": 6, "blocks": 2, "first_kernel_size": 5}


def network(levels=5, channels=1, classes=0, **options):
    torch.manual_seed(0)
    return GatedPixelCNN(levels=levels, channels=channels, classes=classes, **TINY | options).eval()


def resealed(data: bytes) -> bytes:
    """Bytes that were altered, with a checksum that fits."""
    return data[:-16] + hashlib.sha256(data[:-16]).digest()[:16]


@given(
    levels=some.sampled_from([2, 3, 8, 256, 300]), channels=some.sampled_from([1, 3]),
    classes=some.sampled_from([0, 3]), count=some.integers(1, 5), height=some.integers(1, 6),
    width=some.integers(1, 6), seed=some.integers(0, 99), soft=some.booleans(),
)  # fmt: skip
def test_there_and_back(levels, channels, classes, count, height, width, seed, soft):
    model = network(levels, channels, classes)
    images = torch.randint(levels, (count, channels, height, width), generator=torch.Generator().manual_seed(seed))
    labels = None
    if classes:
        draw = torch.Generator().manual_seed(seed)
        labels = torch.rand(count, 3, generator=draw).softmax(1) if soft else torch.eye(3)[torch.arange(count) % 3]
    data = compress(model, images, labels)
    assert isinstance(data, bytes)
    found = decompress(model, data)
    assert found.dtype == torch.int64 and torch.equal(found, images)


@pytest.mark.parametrize(
    "model",
    [
        network(embedding=4),
        ShortcutPixelCNN(levels=5, features=6, blocks=1, classes=3).eval(),
        PixelCNN(levels=5, features=6, layers=2, kernel_size=3).eval(),
    ],
    ids=["vectors", "shortcut", "plain"],
)  # fmt: skip
def test_every_network_of_the_package(model):
    images = integers((3, 1, 6, 5), 5)
    labels = one_hot([0, 1, 2], 3) if model.classes else None
    assert torch.equal(decompress(model, compress(model, images, labels)), images)


def test_several_batches(monkeypatch):
    """The size of the batches is read from the bytes."""
    model, images = network(), integers((7, 1, 4, 4), 5)
    monkeypatch.setattr(codec, "BATCH", 3)
    data = compress(model, images)
    monkeypatch.setattr(codec, "BATCH", 64)
    assert torch.equal(decompress(model, data), images)
    assert len(data) <= len(compress(model, images)) + 1


@pytest.mark.parametrize("classes", [0, 10])
def test_the_length_is_what_the_likelihood_promises(classes):
    images, digits = load_digits()
    images, model = images[:100], network(17, classes=classes)
    labels = one_hot(digits[:100].tolist(), 10) if classes else None
    data = compress(model, images, labels)
    header, stored, words = codec._parts(data)
    ideal = nats(model, images, labels).sum().item() / math.log(2)
    assert ideal - 8 < 8 * len(words) < ideal * 1.001 + 64
    assert header["labels"] == len(stored) < 100
    assert len(data) - len(words) - len(stored) < 300


def test_images_of_any_integer_type_and_layout():
    model, images = network(), integers((4, 1, 5, 6), 5)
    data = compress(model, images)
    for same in (images.to(torch.uint8), images.int(), images.to(memory_format=torch.channels_last)):
        assert compress(model, same) == data
    assert torch.equal(decompress(model, bytearray(data)), images)
    assert torch.equal(decompress(model, memoryview(data)), images)


def test_the_model_and_the_threads_stay_as_they_were():
    model = network().train()
    before, threads = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_num_threads()
    state = torch.random.get_rng_state()
    decompress(model, compress(model, integers((2, 1, 4, 4), 5)))
    assert model.training and torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_bytes_that_were_cut_off_or_altered():
    model, images = network(), integers((2, 1, 5, 5), 5)
    data = compress(model, images)
    for length in range(0, len(data), 7):
        with refused(ValueError, "data must"):
            decompress(model, data[:length])
    for place in range(0, len(data), 5):
        altered = bytearray(data)
        altered[place] ^= 1
        with refused(ValueError, "data must"):
            decompress(model, altered)
    with refused(ValueError, "data must be whole", "cut off or altered"):
        decompress(model, data + b"\0")


@pytest.mark.parametrize("data", ["text", None, 3, torch.zeros(3)])
def test_what_is_no_bytes(data):
    with refused(TypeError, "data must be bytes"):
        decompress(network(), data)


def test_what_another_model_wrote():
    model, images = network(), integers((2, 1, 5, 5), 5)
    data = compress(model, images)
    changes = ({"features": 7}, {"levels": 6}, {"channels": 3}, {"embedding": 2}, {"kernel_size": 1})
    for other in (network(**change) for change in changes):
        with refused(ValueError, "model must be the one that wrote these bytes"):
            decompress(other, data)
    torch.manual_seed(1)
    with refused(ValueError, "model must be the one that wrote these bytes"):
        decompress(GatedPixelCNN(levels=5, **TINY), data)


def test_other_probabilities_are_noticed():
    """As on a machine that computes otherwise: the payload is decoded, and the images are not those of the header."""
    model, images = network(), integers((2, 1, 5, 5), 5)
    data = compress(model, images)
    altered, words = bytearray(data), codec._parts(data)[2]
    altered[-16 - len(words)] ^= 64  # the first byte of the payload
    with refused(ValueError, "data was written on", "with other probabilities than", f"torch {torch.__version__}"):
        decompress(model, resealed(bytes(altered)))


def test_the_header_can_be_read_by_others():
    data = compress(network(), integers((2, 1, 5, 4), 5))
    header = json.loads(data[12 : 12 + int.from_bytes(data[8:12], "little")])
    assert header["shape"] == [2, 1, 5, 4] and header["levels"] == 5


@pytest.mark.parametrize(
    ("images", "labels", "error", "words"),
    [
        (torch.zeros(2, 1, 4, 4), None, TypeError, "images must hold integers"),
        (torch.full((2, 1, 4, 4), 5), None, ValueError, "images must hold values 0 … 4"),
        (integers((2, 3, 4, 4), 5), None, ValueError, "images must have 1 channel"),
        (integers((2, 1, 4, 4), 5), torch.eye(2), ValueError, "labels must be None"),
    ],
)
def test_bad_input(images, labels, error, words):
    with refused(error, words):
        compress(network(), images, labels)


def test_a_model_without_a_cached_way():
    with refused(TypeError, "ConditionalToy"):
        compress(ConditionalToy(), integers((2, 1, 4, 4), 3), one_hot([0, 1], 3))


def test_without_constriction(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with refused(ModuleNotFoundError, "pip install constriction"):
        compress(network(), integers((1, 1, 4, 4), 5))
