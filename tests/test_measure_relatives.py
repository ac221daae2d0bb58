"""`measure relatives` with tiny trainings, and the training of a VQ-VAE and of a PixelCNN over its codes."""

import pytest
import torch
from conftest import integers, refused

from pixelcnn_helpers import GatedPixelCNN, load_measurement, load_pretrained, pretrained
from pixelcnn_helpers.studies import datasets
from pixelcnn_helpers.studies.datasets import Dataset, load_dataset
from pixelcnn_helpers.studies.together import VQVAE
from pixelcnn_helpers.workshop import evaluate, measure_relatives, places
from pixelcnn_helpers.workshop import train as train_module
from pixelcnn_helpers.workshop.measure import measure
from pixelcnn_helpers.workshop.publish import publish
from pixelcnn_helpers.workshop.train import train

GREYS = Dataset(
    "greys", 256, integers((60, 1, 28, 28), 256).to(torch.uint8), torch.arange(60) % 10,
    integers((40, 1, 28, 28), 256, seed=1).to(torch.uint8), torch.arange(40) % 10,
)  # fmt: skip
FEW = {
    "SEEDS": (0, 1), "STEPS": dict.fromkeys(measure_relatives.STEPS, 3) | {"PixelCNN": 1}, "BOUNDS": (1, 4),
    "TIMED": 30, "LEARNED_SEEDS": (0, 1), "LEARNED_STEPS": 2, "DRAWN": 40, "KEPT": 10, "CRITIC_STEPS": 3, "SHOWN": 4,
}  # fmt: skip


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for name in ("MEASUREMENTS", "WEIGHTS"):
        monkeypatch.setattr(pretrained, name, tmp_path / name)
    monkeypatch.setattr(places, "CHECKPOINTS", tmp_path / "checkpoints")
    (tmp_path / "MEASUREMENTS").mkdir()
    return tmp_path


@pytest.fixture
def few(monkeypatch):
    """Few steps and images, and the sample in place of MNIST."""
    digits = load_dataset("digits")
    small = Dataset(
        digits.name, 17, digits.train[:80], digits.train_classes[:80], digits.test[:30], digits.test_classes[:30]
    )
    data = {"mnist": load_dataset("mnist-sample"), "digits": small}
    torch.manual_seed(0)
    neutral = GatedPixelCNN(levels=8, features=4, blocks=1, first_kernel_size=3).eval()
    neutral.size = (28, 28)
    monkeypatch.setattr(measure_relatives, "load_dataset", data.__getitem__)
    networks = {"neutral-mnist": (neutral, {}), "judge-mnist": JUDGE, "teacher-mnist": TEACHER}
    monkeypatch.setattr(measure_relatives, "load_pretrained", networks.__getitem__)
    for name, value in FEW.items():
        monkeypatch.setattr(measure_relatives, name, value)


JUDGE, TEACHER = load_pretrained("judge-mnist"), load_pretrained("teacher-mnist")


def test_relatives_as_told(few):
    found = load_measurement(measure("relatives").stem)
    side = found["side_by_side"]
    assert side.keys() == {"PixelCNN", "VAE", "GAN", "transformer", measure_relatives.NO_NORM}
    for name, one in side.items():
        assert len(one["by_seed"]) == 2 and one["by_seed"][0]["samples"].shape == (4, 1, 8, 8)
        assert one["mean"]["weights"] == one["by_seed"][0]["weights"] and one["interval"]["weights"] == 0
        assert {"precision", "coverage", "nearest", "seconds"} < one["mean"].keys()
        assert ("nats" in one["mean"]) == (name in ("PixelCNN", "transformer"))
    assert side["VAE"]["mean"]["bound_1"] > 0 and "means" in side["VAE"]["by_seed"][0]
    for one in found["learned"].values():
        assert one["by_seed"][0]["samples"].shape == (40, 1, 8, 8)
        assert all(run["bound"] >= run["own"] - 1e-3 for run in one["by_seed"])
    critics = found["critic"]["chosen"].values()
    assert all(0 <= one["mean"]["auroc"] <= 1 and one["by_seed"][0]["samples"].shape[0] == 4 for one in critics)
    assert len(critics) == len(found["critic"]["unchosen"]["by_seed"]) == 2
    assert found["grey"]["squared"]["means"].shape == (4, 1, 8, 8)
    assert not list(places.CHECKPOINTS.iterdir())


def test_a_stopped_measurement_goes_on(few, monkeypatch):
    done, part = [], measure_relatives.one_model

    def noted(name, data, features, head, seed):
        done.append((name, seed))
        return part(name, data, features, head, seed)

    def pressed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(measure_relatives, "one_model", noted)
    with monkeypatch.context() as patch:
        patch.setattr(measure_relatives, "grey", pressed)
        with pytest.raises(KeyboardInterrupt):
            measure("relatives")
    measure("relatives")
    assert len(done) == len(set(done)) == 10


# weights


@pytest.fixture
def greys(monkeypatch):
    for module in (train_module, evaluate):
        monkeypatch.setattr(module, "load_dataset", lambda name: GREYS)


SMALL = ["levels=4", "codes=5", "width=2", "depth=2", "held_out=20", "batch_size=8", "epochs=2"]


def test_a_vqvae_is_trained_and_measured_like_any_network(greys, folders):
    model, card = pretrained.load_model(train("vqvae-mnist", settings=SMALL, folder=folders))
    assert isinstance(model, VQVAE) and model.size == (28, 28)
    assert card["epochs_trained"] == 2 and card["history"]["steps"] == [10]
    assert card["test"]["nats_per_image"] > 0 and 1 <= card["test"]["codes_used"] <= 5
    assert not list(places.CHECKPOINTS.iterdir())


@pytest.mark.parametrize("setting", ["optimizer=muon", "mutated=0.1", "patience=2", "compile=true"])
def test_a_vqvae_refuses_what_it_does_not_do(greys, folders, setting):
    with refused(ValueError, "the recipe of a VQ-VAE needs optimizer=adam"):
        train("vqvae-mnist", settings=[*SMALL, setting], folder=folders)


def test_an_interrupted_vqvae_begins_anew(greys, folders, monkeypatch):
    def pressed(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "fit_vqvae", pressed)
        assert train("vqvae-mnist", settings=SMALL, folder=folders) is None
    assert train("vqvae-mnist", settings=SMALL, folder=folders).is_file()


def test_codes_are_a_data_set(folders, monkeypatch):
    model = VQVAE(levels=8, codes=6, width=2, depth=2)
    publish(pretrained.save_model(model, pretrained.WEIGHTS / "vqvae-mnist.safetensors"))
    monkeypatch.setattr(datasets, "load_mnist", lambda train, name="mnist": (
        (GREYS.train, GREYS.train_classes) if train else (GREYS.test, GREYS.test_classes)
    ))  # fmt: skip
    codes = load_dataset("mnist-codes")
    assert codes.levels == 6 and codes.train.shape == (60, 1, 7, 7) and codes.train.max() < 6
    assert torch.equal(codes.test_classes, GREYS.test_classes)
