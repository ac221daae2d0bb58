"""The networks of `measure ablation` and `measure blog`: equal to those they vary, causal, and of one size."""

import pytest
import torch
from conftest import integers, one_hot

from pixelcnn_helpers import (
    GatedPixelCNN,
    ShortcutPixelCNN,
    assert_causal,
    load_measurement,
    naive_sample,
    pretrained,
    sample,
)
from pixelcnn_helpers.studies.ablation import AblatedPixelCNN
from pixelcnn_helpers.studies.datasets import load_dataset
from pixelcnn_helpers.studies.records import live_weights
from pixelcnn_helpers.workshop import measure_ablation, measure_blog, places
from pixelcnn_helpers.workshop.measure import measure

SMALL = {"features": 6, "dilations": (1, 2), "classes": 3, "embedding": 4}


def test_with_both_parts_it_computes_what_the_gated_network_does():
    torch.manual_seed(0)
    gated = GatedPixelCNN(levels=5, features=6, blocks=2, dilations=[1, 2], classes=3, embedding=4).double()
    ablated = AblatedPixelCNN(5, **SMALL).double()
    state = {}
    for name, value in gated.state_dict().items():
        name = name.replace("horizontal", "own") if name.startswith("blocks") else name.replace("horizontal", "first")
        state[name] = torch.cat(value.chunk(2)[::-1]) if "condition" in name else value  # here h's part comes first
    ablated.load_state_dict(state)
    images, labels = integers((2, 1, 9, 9), 5), one_hot(torch.tensor([0, 2]), 3).double()
    torch.testing.assert_close(ablated(images, labels), gated(images, labels))


@pytest.mark.parametrize("two_stacks", [False, True])
@pytest.mark.parametrize("gates", [False, True])
def test_every_arm_is_causal(two_stacks, gates):
    torch.manual_seed(0)
    model = AblatedPixelCNN(4, two_stacks=two_stacks, gates=gates, **SMALL)
    assert_causal(model, labels=one_hot([0], 3))
    labels = one_hot(torch.arange(3), 3)
    drawn = sample(model.eval(), labels=labels, size=(7, 6))
    assert torch.equal(drawn, naive_sample(model, labels=labels, size=(7, 6)))


def test_all_arms_have_as_many_live_weights():
    counts = [live_weights(measure_ablation.network(arm)) for arm in measure_ablation.ARMS]
    assert max(counts) <= measure_ablation.WEIGHTS and min(counts) > 0.93 * measure_ablation.WEIGHTS


def test_ablation_as_told(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(pretrained, "MEASUREMENTS", tmp_path)
    monkeypatch.setattr(places, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(measure_ablation, "load_dataset", lambda name: load_dataset("mnist-sample"))
    for name, value in {"STEPS": 2, "HELD_OUT": 900, "TESTED": 10, "DRAWN": 10, "WEIGHTS": 2000}.items():
        monkeypatch.setattr(measure_ablation, name, value)
    found = load_measurement(measure("ablation").stem)["arms"]
    assert found.keys() == measure_ablation.ARMS.keys()
    for arm in found.values():
        assert arm["mean"].keys() >= {"nats", "read_as_asked", "live_weights"} and len(arm["by_seed"]) == 2


# the blog's network with one thing changed


@pytest.mark.parametrize("change", measure_blog.CHANGES.values(), ids=str)
def test_each_change_of_the_blogs_network_is_causal(change):
    torch.manual_seed(0)
    model = measure_blog.network(**change | {"features": 4})
    assert_causal(model.eval(), size=(5, 4), labels=one_hot([0], 10))


def test_the_norm_stands_where_it_is_told():
    block = measure_blog.NormAfterSum(4, 10).train()
    x = torch.randn(20, 4, 6, 6)
    out = block(x, one_hot(torch.arange(20) % 10, 10))
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    assert not measure_blog.network(features=4, norm="none").blocks[0].norm.state_dict()


def test_blog_as_told(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(pretrained, "MEASUREMENTS", tmp_path)
    monkeypatch.setattr(places, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(measure_blog, "load_dataset", lambda name: load_dataset("mnist-sample"))
    monkeypatch.setattr(measure_blog, "network", lambda **change: ShortcutPixelCNN(features=4, blocks=1))
    monkeypatch.setattr(measure_blog, "STEPS", 2)
    for name, value in {"HELD_OUT": 900, "TESTED": 10}.items():
        monkeypatch.setattr(measure_ablation, name, value)
    found = load_measurement(measure("blog").stem)["networks"]
    assert found.keys() == measure_blog.CHANGES.keys()
    assert all(len(one["by_image"]) == 10 and one["nats"] > 0 for one in found.values())
