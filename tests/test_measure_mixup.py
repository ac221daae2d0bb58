"""`measure mixup` with tiny trainings: what it stores, that a stop loses nothing, and that nothing leaks."""

import dataclasses

import pytest
import torch
from conftest import integers

from pixelcnn_helpers import GatedPixelCNN, load_measurement, pretrained
from pixelcnn_helpers.studies.datasets import load_dataset
from pixelcnn_helpers.workshop import measure_mixup, places
from pixelcnn_helpers.workshop.measure import measure

TINY = {"features": 4, "blocks": 1, "first_kernel_size": 3}
FEW = {
    "DRAWS": 2, "SIZES": {"mnist": (5, 10)}, "LONGER": 10, "POOL": 20, "UPDATES": 2, "TRIES": 2, "CLOSED": TINY,
    "STEPS": {"closed": 2, "open": 2}, "UNLABELLED": 30, "RELABELLED": 15, "JUDGED": 10, "SHOWN": 4,
}  # fmt: skip
PLAIN = {"nothing", "shifts", "pixel mixup", "shifts, pixel mixup"}


@pytest.fixture(autouse=True)
def tiny(tmp_path, monkeypatch):
    """Few steps and images in one process, the sample in place of MNIST, and random networks for those that ship."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(pretrained, "MEASUREMENTS", tmp_path)
    monkeypatch.setattr(places, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(measure_mixup.os, "cpu_count", lambda: 1)
    torch.manual_seed(0)
    networks = {
        name: GatedPixelCNN(levels=8, classes=classes, **TINY).eval()
        for name, classes in (("neutral-mnist", 0), ("conditional-mnist", 10), ("between-mnist", 10))
    }
    for network in networks.values():
        network.size = (28, 28)
    monkeypatch.setattr(measure_mixup, "load_pretrained", lambda name: (networks[name], {}))
    monkeypatch.setattr(measure_mixup, "load_dataset", lambda name: small())
    for name, value in FEW.items():
        monkeypatch.setattr(measure_mixup, name, value)


def small():
    sample = load_dataset("mnist-sample")
    few = torch.arange(0, len(sample.test), 20)
    return dataclasses.replace(sample, test=sample.test[few], test_classes=sample.test_classes[few])


def test_mixup_as_told():
    found = load_measurement(measure("mixup").stem)
    assert found["data"] == "mnist" and found["overlap"] == {"5": False, "10": False}
    assert {size: len(draws) for size, draws in found["draws"].items()} == {"5": 2, "10": 2}
    for size, draws in found["draws"].items():
        for one in draws:
            assert one["generators"].keys() == {"closed", "open", "bound"}
            assert one["arms"].keys() >= PLAIN | {"open: pseudo-labels", "bound: shifts, learned mixup"}
            assert ("open: GenLabel" in one["arms"]) == (size == "10") == ("open: shifts, candidates" in one["arms"])
            for arm in one["arms"].values():
                assert arm["accuracy"] == arm["accuracies"][arm["chosen"]]
                assert arm["validation_nll"][arm["chosen"]] == min(arm["validation_nll"])
                assert len(arm["by_class"]) == 10 and arm["nll"] > 0
    shown = found["draws"]["5"][0]["shown"]
    assert shown["open, mixed"]["images"].shape == (4, 1, 28, 28) and len(shown["open, mixed"]["rows"]) == 4
    assert not places.CHECKPOINTS.exists() or not list(places.CHECKPOINTS.glob("mixup*.json"))


def test_a_stopped_measurement_goes_on(monkeypatch):
    done, one_draw = [], measure_mixup.one_draw

    def noted(name, per_class, draw, *rest, **options):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append((per_class, draw))
        return one_draw(name, per_class, draw, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(measure_mixup, "one_draw", noted)
        with pytest.raises(KeyboardInterrupt):
            measure("mixup")
        done.clear()
        measure("mixup")
    assert len(done) == 1


def learned_from(monkeypatch, data, setting):
    """What the arms of a setting learn from one draw of a data set: validation losses, and pictures that it draws."""
    monkeypatch.setattr(measure_mixup, "load_dataset", lambda name: data)
    _, found = measure_mixup.one_draw("mnist", 10, 0, measure_mixup.bound_pools())
    arms = {arm: one["validation_nll"] for arm, one in found["arms"].items() if arm in PLAIN or setting in arm}
    return arms, {kind: one["images"] for kind, one in found["shown"].items() if setting in kind}


@pytest.mark.parametrize("setting", ["closed", "open"])
def test_no_test_image_and_no_further_label_reaches_an_arm(monkeypatch, setting):
    """Other test images and labels, other labels of unlabelled images and, if closed, these images themselves."""
    data, draw = small(), measure_mixup.mixup.draw_labelled
    order = torch.arange(len(data.train))[:, None]
    kept = draw(order, data.train_classes, 10)
    labelled = torch.zeros(len(data.train), dtype=torch.bool)
    labelled[torch.cat([kept.train, kept.validation]).flatten()] = True
    other = dataclasses.replace(
        data, test=integers(data.test.shape, 256).to(torch.uint8), test_classes=(data.test_classes + 3) % 10,
        train=data.train.clone(), train_classes=data.train_classes.clone(),
    )  # fmt: skip
    if setting == "closed":
        other.train[~labelled] = 255 - other.train[~labelled]
    same = [where.nonzero()[:, 0] for where in (labelled & (data.train_classes == one) for one in range(10))]

    def drawn(images, classes, per_class, number=0):
        assert per_class == 10 and number == 0
        places = torch.cat([places[2:] for places in same]), torch.cat([places[:2] for places in same])
        found = measure_mixup.Labelled(*(x[at] for at in places for x in (images, data.train_classes)))
        assert all(labelled[at].all() for at in places)
        return found

    other.train_classes[~labelled] = (other.train_classes[~labelled] + 1) % 10
    monkeypatch.setattr(measure_mixup.mixup, "draw_labelled", drawn)  # its groups follow from the labels
    arms, pictures = learned_from(monkeypatch, data, setting)
    other_arms, other_pictures = learned_from(monkeypatch, other, setting)
    assert arms == other_arms and len(arms) > 6
    assert pictures.keys() == other_pictures.keys() and len(pictures) == {"closed": 2, "open": 5}[setting]
    for kind, images in pictures.items():
        assert torch.equal(images, other_pictures[kind]), kind


def test_the_images_without_labels_are_none_of_the_labelled():
    data = small()
    few = measure_mixup.mixup.draw_labelled(data.train, data.train_classes, 10)
    others = measure_mixup.unlabelled(few, data.train, 0)
    assert len(others) == FEW["UNLABELLED"] and len(others.unique(dim=0)) == len(others)
    both = torch.cat([others, few.train, few.validation])
    assert len(both.unique(dim=0)) == len(both)


def test_without_mnist_the_sample_is_drawn_from_and_draws_overlap(monkeypatch):
    def load(name):
        if name == "mnist":
            raise FileNotFoundError
        return small()

    monkeypatch.setattr(measure_mixup, "load_dataset", load)
    monkeypatch.setattr(measure_mixup, "SIZES", {"mnist-sample": (60,)})
    found = load_measurement(measure("mixup").stem)
    assert found["data"] == "mnist-sample" and found["overlap"] == {"60": True}
