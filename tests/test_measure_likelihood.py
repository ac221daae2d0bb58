"""`measure likelihood` and `measure codec`, with tiny networks and few images."""

from dataclasses import replace

import pytest
import torch

from pixelcnn_helpers import GatedPixelCNN, load_measurement, load_mnist_sample, load_pretrained, pretrained
from pixelcnn_helpers.studies.datasets import load_dataset
from pixelcnn_helpers.workshop import measure_codec as codec
from pixelcnn_helpers.workshop import measure_likelihood as likelihood
from pixelcnn_helpers.workshop import places
from pixelcnn_helpers.workshop.measure import measure

LEVELS = {"gated-binary-mnist": 2, "gated-mnist": 256, "pixelcnn-mnist": 256}
FEW = {
    "HELD_OUT": 200, "REAL": 20, "STRANGE": 10, "SHIFTED": 20, "ATTACKED": 3, "STRENGTHS": (0.1, 0.3), "COSTLIEST": 2,
    "DOUBTED": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def judge():
    return load_pretrained("judge-mnist")[0]


@pytest.fixture(scope="module")
def data():
    return load_dataset("mnist-sample")


@pytest.fixture(autouse=True)
def few(tmp_path, monkeypatch, judge, data):
    """Empty folders, few images of the sample, and untrained networks, but for the judge, under the names that ship."""
    monkeypatch.setattr(pretrained, "MEASUREMENTS", tmp_path)
    monkeypatch.setattr(places, "CHECKPOINTS", tmp_path / "checkpoints")

    def network(name):
        torch.manual_seed(len(name))
        classes = 10 if name == "conditional-mnist" else 0
        options = {"features": 4, "blocks": 1, "first_kernel_size": 3, "classes": classes}
        return judge if name == "judge-mnist" else GatedPixelCNN(levels=LEVELS.get(name, 8), **options).eval(), {}

    images, classes = load_mnist_sample(train=False)
    for module in (likelihood, codec):
        monkeypatch.setattr(module, "load_pretrained", network)
    monkeypatch.setattr(likelihood, "load_dataset", {"mnist": data}.__getitem__)
    monkeypatch.setattr(codec, "load_mnist_sample", lambda train: (images[:3], classes[:3]))
    for name, value in FEW.items():
        monkeypatch.setattr(likelihood, name, value)


def test_likelihood_as_told():
    found = load_measurement(measure("likelihood").stem)
    strange = found["strange"]
    assert len(strange["kinds"]) == 10 and len(strange["thresholds"]) == 8
    blank = strange["kinds"]["blank"]
    assert blank["nats"]["auroc"] in (0, 1) and blank["nats"]["interval"] == 0
    for kind in [*strange["kinds"].values(), strange["all"]]:
        assert kind.keys() == strange["thresholds"].keys() == strange["false_alarms"].keys()
        assert all(0 <= one["found"] <= 1 for one in kind.values())
    attacks = found["attacks"]
    for one in [*attacks["fgsm"], *attacks["pgd"], *attacks["both"]]:
        assert one["fooled_and_passed"] <= min(one["fooled"], 1 - one["refused"]) + 1e-9
    assert attacks["pgd"][1]["fooled"] == 1
    kinds = found["uncertainty"]["kinds"]
    assert len(kinds) == 5 and kinds["clean"]["judge"]["right"] > 0.9
    for kind in kinds.values():
        plain, cooled = kind["Bayes' rule"], kind["Bayes' rule, cooled"]
        assert plain["right"] == cooled["right"] == pytest.approx(1 - plain["risk"]["own"][-1])
        assert len(plain["risk"]["surprise"]) == 20 and sum(plain["bins"]["counts"]) == 20
    outliers = found["outliers"]
    assert outliers["costliest"]["classes"] == [digit for digit in range(10) for _ in range(2)]
    labels = found["labels"]
    assert labels["images"].shape == (2, 1, 28, 28) and labels["margin"] == sorted(labels["margin"], reverse=True)
    assert all(own != other for own, other in zip(labels["classes"], labels["better"], strict=True))
    assert not list(places.CHECKPOINTS.iterdir())


def test_thresholds_never_see_test_data(data):
    """Other test images change no threshold, no usual nats and no temperature."""
    networks = {name: likelihood.load_pretrained(name)[0] for name in likelihood.NETWORKS}
    found = []
    for test in (data.test, 255 - data.test):
        changed = replace(data, test=test)
        one = likelihood.strange(networks, changed)
        sure = likelihood.uncertainty(networks, changed)
        attacked = likelihood.attacks(networks, replace(changed, test_classes=judged(networks, test)))
        found.append((one["thresholds"], one["usual"], sure["temperature"], attacked["threshold"]))
    assert found[0] == found[1]


def judged(networks, images):
    """Classes that the judge reads right."""
    seen = likelihood.quantize(images, 8)
    return likelihood.class_probabilities(networks["judge-mnist"], seen, 8).argmax(1)


def test_likelihood_stopped_and_gone_on_with(monkeypatch):
    done, part = [], likelihood.uncertainty
    monkeypatch.setattr(likelihood, "attacks", lambda *args: done.append("attacks") or {})

    def pressed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(likelihood, "uncertainty", pressed)
    with pytest.raises(KeyboardInterrupt):
        measure("likelihood")
    monkeypatch.setattr(likelihood, "uncertainty", part)
    measure("likelihood")
    assert done == ["attacks"]  # not twice


def test_codec_as_told():
    found = load_measurement(measure("codec").stem)
    assert found["images"] == 3 and found["levels"].keys() == {"2", "8", "256"}
    for table in found["levels"].values():
        for one in table["networks"].values():
            assert one["ideal"] < one["bytes"] < one["ideal"] + 700  # a header, labels and a word
            assert one["one_alone"] < one["bytes"]
        assert table["others"].keys() == {"zlib", "bz2", "lzma", "PNG", "WebP"}
        assert all(one["together"] < one["alone"] for one in table["others"].values())
    assert not list(places.CHECKPOINTS.iterdir())


def test_a_codec_that_returns_other_images_is_no_result(monkeypatch):
    monkeypatch.setattr(codec, "decompress", lambda model, data: torch.zeros(3, 1, 28, 28, dtype=torch.long))
    with pytest.raises(AssertionError, match="other images"):
        measure("codec")


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (2, b"\xa1"),
        (4, b"\x44\x01"),
        (8, b"\x10\x10\x00\x01"),
        (16, b"\x10\x10\x00\x01"),
        (256, b"\1\0\1\0\0\0\0\1"),
    ],
)
def test_values_in_few_bits(levels, expected):
    assert codec.in_few_bits(torch.tensor([1, 0, 1, 0, 0, 0, 0, 1]), levels) == expected


def test_wrong_labels_are_found(data, monkeypatch):
    """A digit under another label is doubted by the judge, and its margin is the one that was computed by hand."""
    classes = data.train_classes.clone()
    classes[5] = (classes[5] + 3) % 10
    networks = {name: likelihood.load_pretrained(name)[0] for name in ("judge-mnist", "conditional-mnist")}
    monkeypatch.setattr(likelihood, "DOUBTED", 1)
    monkeypatch.setattr(likelihood, "COSTLIEST", 1)
    found = likelihood.labels(networks, replace(data, train_classes=classes))
    assert found["places"] == [5] and found["classes"] == [int(classes[5])]
    (by_class,) = likelihood.class_nats(networks["conditional-mnist"], likelihood.quantize(data.train[5:6], 8)).tolist()
    own = by_class.pop(int(classes[5]))
    assert found["margin"] == [pytest.approx(own - min(by_class))]
