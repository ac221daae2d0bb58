"""Levels as learned vectors at the input: the same order, the same samples, the same files."""

import pytest
import torch
from conftest import integers, refused

from pixelcnn_helpers import (
    GatedPixelCNN,
    PixelCNN,
    assert_causal,
    load_model,
    naive_sample,
    nats,
    receptive_field,
    sample,
    save_model,
)

LABELS = torch.tensor([[1.0, 0.0], [0.3, 0.7]])


def make(kind, channels=1):
    torch.manual_seed(0)
    if kind == "gated":
        return GatedPixelCNN(channels=channels, levels=5, features=6, blocks=2, classes=2, embedding=3)
    return PixelCNN(channels=channels, levels=5, features=6, layers=3, kernel_size=3, embedding=3)


@pytest.mark.parametrize("kind", ["gated", "plain"])
@pytest.mark.parametrize("channels", [1, 3])
class TestEveryNetwork:
    def test_nothing_leaks(self, kind, channels):
        model = make(kind, channels)
        assert_causal(model, labels=LABELS[:1] if model.classes else None)

    def test_the_cached_sampler_draws_the_same_images(self, kind, channels):
        model = make(kind, channels).double()
        labels = LABELS if model.classes else None
        cached, naive = (way(model, 2, labels, (5, 4), seed=3) for way in (sample, naive_sample))
        assert torch.equal(cached, naive)
        assert len(cached.unique()) > 2

    def test_a_file_brings_the_vectors_back(self, kind, channels, tmp_path):
        model = make(kind, channels)
        images, labels = integers((2, channels, 5, 4), 5), LABELS if model.classes else None
        loaded, _ = load_model(save_model(model, tmp_path / "model.safetensors"))
        assert loaded.config == model.config and loaded.config["embedding"] == 3
        assert torch.equal(nats(loaded, images, labels), nats(model, images, labels))

    def test_the_input_is_one_vector_after_the_other(self, kind, channels):
        model, images = make(kind, channels), integers((2, channels, 5, 4), 5)
        found = model.scale(images)
        assert found.shape == (2, 3 * channels, 5, 4) == (2, model.inputs, 5, 4)
        wanted = [model.embedding.weight[images[:, channel]].permute(0, 3, 1, 2) for channel in range(channels)]
        assert torch.equal(found, torch.cat(wanted, 1))


def test_the_field_is_that_of_numbers():
    model, numbers = make("gated"), GatedPixelCNN(levels=5, features=6, blocks=2, classes=2)
    fields = [receptive_field(network, 4, 3, (7, 8), LABELS[:1]) for network in (model, numbers)]
    assert (fields[0] == fields[1]).all()


def test_the_vectors_learn():
    model = make("gated")
    before = model.embedding.weight.detach().clone()
    model(integers((2, 1, 5, 4), 5), LABELS).square().mean().backward()
    assert (model.embedding.weight.grad != 0).any(1).all()
    assert torch.equal(model.embedding.weight, before)  # forward does not change them


@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (2.0, TypeError), (True, TypeError)])
def test_no_such_embedding(value, error):
    with refused(error, "embedding must be"):
        GatedPixelCNN(embedding=value)
