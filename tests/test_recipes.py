"""Recipes: what they build, how they are changed, trained, stopped, gone on with, and measured again."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from conftest import BrightnessReader, integers, refused
from test_data import write_files

from pixelcnn_helpers import (
    Dataset,
    GatedPixelCNN,
    class_posterior,
    fit,
    load_model,
    load_pretrained,
    nats,
    pretrained,
    pretrained_names,
    quantize,
    receptive_field,
    sample,
    save_model,
)
from pixelcnn_helpers.__main__ import main
from pixelcnn_helpers.pretrained import kind_called
from pixelcnn_helpers.studies.datasets import load_dataset
from pixelcnn_helpers.studies.judges import Classifier, fit_classifier
from pixelcnn_helpers.workshop import data as data_module
from pixelcnn_helpers.workshop import evaluate as evaluate_module
from pixelcnn_helpers.workshop import hardware as hardware_module
from pixelcnn_helpers.workshop import places, self_training
from pixelcnn_helpers.workshop import train as train_module
from pixelcnn_helpers.workshop.data import as_seen
from pixelcnn_helpers.workshop.evaluate import JUDGED_LEVELS, evaluate, measured, read_as_asked, told, truly_between
from pixelcnn_helpers.workshop.hardware import hardware, versions
from pixelcnn_helpers.workshop.publish import publish
from pixelcnn_helpers.workshop.recipes import OLD, RECIPES, Recipe, recipe_of, two_stacks
from pixelcnn_helpers.workshop.self_training import files_of_rounds
from pixelcnn_helpers.workshop.settings import changed
from pixelcnn_helpers.workshop.train import network_of, train

# "neutral-mnist" made small enough to be trained on the bundled digits in a second
TINY = [
    "data=digits", "levels=17", "features=8", "blocks=1", "dilations=[1]", "epochs=1", "learning_rate=0.02",
    "held_out=100", "batch_size=64", "compile=false",
]  # fmt: skip
GREYS = Dataset(
    "greys", 256, integers((24, 1, 28, 28), 256).to(torch.uint8), torch.arange(24) % 10,
    integers((40, 1, 28, 28), 256, seed=1).to(torch.uint8), torch.arange(40) % 10,
)  # fmt: skip

CARDS = {name: json.dumps(load_pretrained(name)[1]) for name in pretrained_names()}  # before the shelf is emptied
THREE = Dataset("three", 256, GREYS.train, GREYS.train_classes % 3, GREYS.test[:20], GREYS.test_classes[:20] % 3)


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    """Empty folders for weights and checkpoints, and the CPU, where the same seed gives the same bits."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(places, "CHECKPOINTS", tmp_path / "checkpoints")
    return tmp_path / "weights"


def tiny(shelf, *settings, name="neutral-mnist", **options):
    return train(name, settings=[*TINY, *settings], folder=shelf, **options)


def weights(path):
    return load_model(path)[0].state_dict()


def same(a, b):
    return all(torch.equal(value, b[name]) for name, value in a.items())


def watch(monkeypatch, fit=fit, **more):
    """What `train` hands to `fit` (or `fit_classifier`), which also gets `more`."""
    seen = []

    def watched(model, images, labels=None, **options):
        seen.append({"images": images, "labels": labels, **options})
        return fit(model, images, labels, **options, **more)

    monkeypatch.setattr(train_module, fit.__name__, watched)
    return seen


def use(monkeypatch, data):
    """The data set that `train` and `evaluate` find, whatever its name."""
    for module in (train_module, evaluate_module):
        monkeypatch.setattr(module, "load_dataset", lambda name: data)


def after_one_epoch(history):
    raise KeyboardInterrupt


# recipes, and changes to them

DATA_OF = {
    "conditional-fashion": "fashion", "conditional-letters": "emnist-letters", "colour-photos": "photos",
    "cifar10": "cifar10", "codes-mnist": "mnist-codes",
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_its_network(name):
    recipe = RECIPES[name]
    model = kind_called(recipe.network)(**recipe.config)
    assert recipe.data == DATA_OF.get(name, "mnist")
    if isinstance(model, Classifier):
        assert model.classes == 10
    else:
        assert model.levels == recipe.config["levels"]
        if name not in ("shortcut-mnist", "between-mnist", "codes-mnist", "vqvae-mnist"):
            assert model.classes == (26 if name == "conditional-letters" else 10 * name.startswith("conditional"))
        assert recipe.drawn == (model.levels == 2)
    if isinstance(model, GatedPixelCNN):  # every row above the last one
        assert model.reach >= {"photos": 15, "cifar10": 31, "mnist-codes": 6}.get(recipe.data, 27)


def test_the_field_of_two_stacks_is_every_earlier_pixel_of_mnist():
    """Seen from the middle of the last row, by gradient."""
    field = receptive_field(GatedPixelCNN(**two_stacks(features=8, levels=2)), 27, 14, (28, 28))
    assert field[:27].all()
    assert field[27].tolist() == [True] * 14 + [False] * 14


def test_settings():
    recipe = changed(RECIPES["conditional-mnist"], [
        "epochs=3", "learning_rate=1", "rotation=7.5", "drawn=true", "compile=false", "data=fashion",
        "features=16", "dilations=[1, 2]", "blocks=2", "kernel_size=5",
    ])  # fmt: skip
    assert recipe == Recipe(
        "GatedPixelCNN", {
            "levels": 8, "features": 16, "blocks": 2, "dilations": [1, 2], "classes": 10, "kernel_size": 5,
            "embedding": 0,
        }, data="fashion", epochs=3, learning_rate=1, rotation=7.5, drawn=True, compile=False, **OLD,
    )  # fmt: skip
    assert RECIPES["conditional-mnist"].config["features"] == 48  # unchanged itself
    assert changed(recipe, []) is recipe
    assert changed(recipe, ['data="digits"']).data == "digits"
    assert changed(RECIPES["pixelcnn-mnist"], ["features=10"]).config["features"] == 10  # None, unless it is set


def test_another_network_keeps_the_arguments_that_it_knows():
    recipe = changed(RECIPES["conditional-mnist"], ["network=ShortcutPixelCNN", "dropout=0"])
    assert recipe.config == {"levels": 8, "features": 48, "blocks": 8, "classes": 10, "dropout": 0}
    assert kind_called(recipe.network)(**recipe.config).classes == 10


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("epochs", ("KEY=VALUE", "'epochs'")),
        ("", ("KEY=VALUE", "''")),
        ("=3", ("KEY=VALUE", "'=3'")),
        ("colour=red", ("KEY=VALUE", "epochs", "features", "'colour=red'")),
        ("config={}", ("KEY=VALUE", "'config={}'")),
        ("dropout=0.5", ("KEY=VALUE", "'dropout=0.5'")),  # of another network
        ("epochs=", ("epochs", "like 3", "''")),
        ("epochs=many", ("epochs", "like 3", "'many'")),
        ("epochs=1.5", ("epochs", "like 3", "'1.5'")),
        ("epochs=true", ("epochs", "like 3", "'true'")),
        ("epochs=null", ("epochs", "like 3", "'null'")),
        ("compile=1", ("compile", "like true", "'1'")),
        ("compile=False", ("compile", "like true,", "'False'")),  # Python's, not JSON's
        ("learning_rate=fast", ("learning_rate", "like 0.002", "'fast'")),
        ("data=3", ("data", 'like "mnist"', "'3'")),
        ("dilations=2", ("dilations", "like [1", "'2'")),
        ("network=Perceptron", ("network", "GatedPixelCNN", "ShortcutPixelCNN", "'Perceptron'")),
    ],
)
def test_bad_settings(setting, words):
    with refused(ValueError, *words):
        changed(RECIPES["neutral-mnist"], [setting, "seed=1"])


# training


def test_training_writes_weights_and_their_card(shelf, capsys):
    path = tiny(shelf)
    said = capsys.readouterr().out
    assert path == shelf / "neutral-mnist.safetensors"
    assert {file.name for file in shelf.iterdir()} == {path.name, "SHA256SUMS"}
    assert not list(places.CHECKPOINTS.iterdir())
    model, card = pretrained.load_pretrained("neutral-mnist")
    data = load_dataset("digits")
    count = sum(weight.numel() for weight in model.parameters())
    made = changed(RECIPES["neutral-mnist"], TINY)
    assert {name: card[name] for name in asdict(made)} == asdict(replace(made, config=model.config))
    assert (card["recipe"], card["weights"], card["images"]) == ("neutral-mnist", count, 1397)
    assert card["epochs_trained"] == 1
    assert card["history"]["steps"] == [21]
    assert len(card["history"]["validation"]) == 1
    assert card["seconds"] == round(card["history"]["seconds"][-1])
    assert {"python", "torch"} <= card["versions"].keys()
    assert card["hardware"]
    found = nats(model, data.test)
    assert card["test"] == {
        "images": 300, "nats_per_image": pytest.approx(found.mean().item()),
        "deviation": pytest.approx(found.std().item()), "nats_per_pixel": pytest.approx(found.mean().item() / 64),
        "bits_per_dim": pytest.approx(found.mean().item() / 64 / math.log(2)),
        "every_20th": pytest.approx(found[::20].mean().item()),
    }  # fmt: skip
    assert card["test"]["bits_per_dim"] < math.log2(17)
    assert f"{count:,} weights, on {data}" in said
    assert f"{found.mean():.2f} ± {found.std() / 300**0.5:.2f} nats per image" in said


def test_a_network_with_classes_sees_them(shelf, monkeypatch):
    seen = watch(monkeypatch)
    path = tiny(shelf, name="conditional-mnist")
    data, (model, card) = load_dataset("digits"), load_model(path)
    assert torch.equal(seen[0]["labels"].argmax(1), data.train_classes[:1397])
    assert torch.equal(seen[0]["validation"][1].argmax(1), data.train_classes[1397:])
    right = nats(model, data.test, torch.eye(10)[data.test_classes]).mean().item()
    assert card["test"]["nats_per_image"] == pytest.approx(right)
    assert card["test"]["bayes_images"] == len(data.test)
    found = class_posterior(model, data.test).argmax(1) == data.test_classes
    assert card["test"]["bayes_accuracy"] == pytest.approx(found.double().mean().item())
    assert "read_as_asked" not in card["test"]  # the judge reads MNIST


def test_same_seed_same_weights(tmp_path):
    runs = []
    for seed in (5, 5, 6):
        torch.rand(3)  # whatever the caller drew before
        runs.append(weights(tiny(tmp_path / str(len(runs)), f"seed={seed}")))
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_the_held_out_images_choose_and_are_not_trained_on(shelf, monkeypatch):
    seen = watch(monkeypatch)
    tiny(shelf, "levels=4", "patience=3", "batch_size=99", "learning_rate=0.03", "seed=7", "optimizer=adamw")
    data = load_dataset("digits")
    assert torch.equal(seen[0]["images"], quantize(data.train[:-100], 4, 17))
    assert torch.equal(seen[0]["validation"][0], quantize(data.train[-100:], 4, 17))
    wanted = {"patience": 3, "compile": False, "augment": None, "batch_size": 99, "learning_rate": 0.03, "seed": 7}
    wanted["optimizer"] = "adamw"
    assert wanted.items() <= seen[0].items()


def test_rotation_turns_in_full_resolution(shelf, monkeypatch):
    seen = watch(monkeypatch)
    tiny(shelf, "levels=2", "rotation=30")
    images, augment = seen[0]["images"], seen[0]["augment"]
    assert torch.equal(images, load_dataset("digits").train[:-100])  # 17 levels go in
    turned = augment(images.long(), torch.Generator().manual_seed(0))
    assert turned.max() == 1  # and 2 come out
    assert not torch.equal(turned, quantize(images, 2, 17))
    assert torch.equal(turned, augment(images.long(), torch.Generator().manual_seed(0)))

def test_relit_patches_are_redrawn_in_full_resolution(shelf, monkeypatch):
    seen = watch(monkeypatch)
    path = tiny(shelf, "data=photos", "channels=3", "features=6", "levels=4", "relit=true", "held_out=500")
    images, augment = seen[0]["images"], seen[0]["augment"]
    data = load_dataset("photos")
    assert torch.equal(images, data.train[:-500])  # 256 levels go in
    redrawn = augment(images[:50].long(), torch.Generator().manual_seed(0))
    assert redrawn.max() == 3 and not torch.equal(redrawn, quantize(images[:50], 4))
    assert torch.equal(seen[0]["validation"][0], quantize(data.train[-500:], 4))
    assert load_model(path)[1]["test"]["images"] == len(data.test)


def test_mutated_digits_are_redrawn_in_training_and_once_for_all_elsewhere(shelf, monkeypatch):
    seen = watch(monkeypatch)
    cards = [load_model(tiny(shelf, "levels=4", "mutated=0.4"))[1] for _ in range(2)]
    images, augment = seen[0]["images"], seen[0]["augment"]
    first, second, again = (augment(images.long(), torch.Generator().manual_seed(seed)) for seed in (0, 1, 0))
    assert torch.equal(first, again)
    for redrawn in (first, second):
        changed_share = (quantize(images, 4, 17) != redrawn).double().mean().item()
        assert changed_share == pytest.approx(0.3, abs=0.02)  # a quarter of 0.4 stays by chance
    held = [one["validation"][0] for one in seen]
    assert torch.equal(*held) and not torch.equal(held[0], quantize(load_dataset("digits").train[-100:], 4, 17))
    assert cards[0]["test"] == cards[1]["test"]


def test_black_and_white_is_drawn_afresh_in_training_and_once_for_all_elsewhere(shelf, monkeypatch):
    use(monkeypatch, GREYS)
    seen = watch(monkeypatch)
    settings = [*TINY, "data=mnist", "levels=2", "features=2", "held_out=8"]
    cards = [load_model(train("gated-binary-mnist", False, settings, shelf / str(i)))[1] for i in range(2)]
    images, augment = seen[0]["images"], seen[0]["augment"]
    assert torch.equal(images, GREYS.train[:16])  # grey ones go in
    first, second, again = (augment(images.long(), torch.Generator().manual_seed(seed)) for seed in (0, 1, 0))
    assert set(first.unique().tolist()) == {0, 1}
    assert torch.equal(first, again)
    assert (first != second).double().mean().item() == pytest.approx(1 / 3, abs=0.02)  # the mean of 2p(1 - p)
    held = [one["validation"][0] for one in seen]
    assert set(held[0].unique().tolist()) == {0, 1}
    assert torch.equal(*held)
    assert cards[0]["test"] == cards[1]["test"]


def test_black_and_white_of_fewer_levels():
    recipe = replace(RECIPES["gated-binary-mnist"], data="digits")
    ramp = torch.arange(17).view(1, 1, 1, 17).expand(400, 1, 5, 17)
    share = as_seen(recipe, ramp, 17).double().mean((0, 1, 2))
    assert torch.allclose(share, torch.arange(17).double() / 16, atol=0.05)


@pytest.mark.parametrize("drawn", [True, False])
def test_a_quick_measurement_is_of_the_same_images(drawn):
    """Every 20th one, with the pixels drawn for it in the whole measurement."""
    recipe = Recipe("GatedPixelCNN", {"levels": 2, "features": 2, "blocks": 1}, drawn=drawn)
    model = GatedPixelCNN(**recipe.config).eval()
    whole, part = measured(model, recipe, GREYS), measured(model, recipe, GREYS, every=20)
    assert (whole["images"], part["images"]) == (40, 2)
    assert part["nats_per_image"] == pytest.approx(whole["every_20th"])
    assert part["nats_per_image"] != pytest.approx(whole["nats_per_image"], rel=1e-6)


def test_a_classifier(shelf, monkeypatch, capsys):
    use(monkeypatch, GREYS)
    seen, settings = watch(monkeypatch, fit_classifier), ["width=2", "epochs=2", "held_out=4", "batch_size=6"]
    path = train("judge-mnist", settings=[*settings, "rotation=3.5", "learning_rate=0.01", "seed=7"], folder=shelf)
    wanted = {"epochs": 2, "batch_size": 6, "rotation": 3.5, "learning_rate": 0.01, "seed": 7}
    assert wanted.items() <= seen[0].items()
    assert torch.equal(seen[0]["images"], GREYS.train[:20])
    assert torch.equal(seen[0]["validation"][0], GREYS.train[20:])
    model, card = pretrained.load_pretrained("judge-mnist")
    assert type(model).__name__ == card["network"] == "ConvClassifier"
    assert card["config"] == model.config
    assert (card["images"], card["epochs_trained"]) == (20, 2)
    assert card["test"]["images"] == 40
    for shares in (card["test"]["accuracy"], card["test"]["every_20th"]):
        assert {int(levels) for levels in shares} == set(JUDGED_LEVELS)
        assert all(0 <= share <= 1 for share in shares.values())
    part = measured(model, RECIPES["judge-mnist"], GREYS, every=20)
    assert (part["images"], part["accuracy"]) == (2, card["test"]["every_20th"])
    assert f"{path}: accuracy by grey levels" in capsys.readouterr().out
    evaluate("judge-mnist")
    _, before, after = capsys.readouterr().out.splitlines()
    assert before.removeprefix("  its card") == after.removeprefix("  measured")


@pytest.mark.parametrize("setting", ["drawn=true", "patience=2", "compile=true", "optimizer=muon"])
def test_what_classifiers_do_not_know(shelf, monkeypatch, setting):
    use(monkeypatch, GREYS)
    with refused(ValueError, "classifier", setting.partition("=")[0]):
        train("judge-mnist", settings=["width=2", "held_out=4", setting], folder=shelf)
    assert not shelf.exists()


def test_drawn_pixels_have_two_levels(shelf):
    with refused(ValueError, "drawn", "levels must be 2", "got 17"):
        tiny(shelf, "drawn=true")
    with refused(ValueError, "levels must be 2", "got 8"):  # by default
        network_of(Recipe("GatedPixelCNN", drawn=True))


def test_on_mnist_the_judge_reads_samples_of_every_class(monkeypatch, capsys):
    """Where it is there: its own training comes before it."""
    recipe = Recipe("GatedPixelCNN", {"levels": 2, "features": 2, "blocks": 1, "classes": 10})
    model = GatedPixelCNN(**recipe.config).eval()
    monkeypatch.setattr(evaluate_module, "read_as_asked", lambda network, per_class: {model: 0.75}[network])
    assert "read_as_asked" not in measured(model, recipe, GREYS)
    monkeypatch.setattr(evaluate_module, "pretrained_names", lambda: ["judge-mnist"])
    found = measured(model, recipe, GREYS)
    assert (found["samples"], found["read_as_asked"], found["bayes_images"]) == (10_000, 0.75, 40)
    assert told(found).endswith("75.0% of 10,000 samples read as asked")
    assert "truly_between" not in found
    shares = {"1 and 7": 0.5, "3 and 8": 0.25}
    monkeypatch.setattr(evaluate_module, "truly_between", lambda network: {model: shares}[network])
    found = measured(model, replace(recipe, labels="self-taught"), GREYS)
    assert told(found).endswith("read as asked; truly between at one half: 50% of 1 and 7, 25% of 3 and 8")
    for less in (measured(model, recipe, GREYS, every=20), measured(model, replace(recipe, data="fashion"), GREYS)):
        assert "read_as_asked" not in less


def test_what_the_judge_finds_between(shelf, monkeypatch, large):
    monkeypatch.setattr(evaluate_module, "PAIRS", ((0, 1), (0, 2)))
    judges = {"judge-mnist": (BrightnessReader().eval(), {})}
    monkeypatch.setattr(evaluate_module, "load_pretrained", judges.__getitem__)
    found = truly_between(large, per_pair=6)
    images = sample(large, labels=torch.tensor([[0.5, 0.5, 0.0]]).expand(6, -1))
    bright = images.flatten(1).float().mean(1) / 2
    assert found == {"0 and 1": ((bright >= 0.2) & (bright <= 0.8)).double().mean().item(), "0 and 2": 0.0}


def test_what_the_judge_reads(shelf, monkeypatch):
    """Of a network that draws what it is asked for, and of one that draws noughts."""

    class Judge(torch.nn.Module):
        def forward(self, images):
            return 9 * torch.nn.functional.one_hot(images[:, 0, 0, 0].mul(9).round().long(), 10).float()

    def draws(digits):
        return lambda model, labels, seed: digits(labels.argmax(1)).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)

    def read(judge, images, levels):
        return judge(images / (levels - 1))

    model = GatedPixelCNN(levels=10, features=2, blocks=1, classes=10)
    monkeypatch.setattr(evaluate_module, "load_pretrained", lambda name: ({"judge-mnist": Judge()}[name], {}))
    monkeypatch.setattr(evaluate_module, "class_probabilities", read)
    for digits, share in ((lambda asked: asked, 1.0), (torch.zeros_like, 0.1)):
        monkeypatch.setattr(evaluate_module, "sample", draws(digits))
        assert read_as_asked(model, per_class=3) == pytest.approx(share)


# trainings that start from another, and other labels


@pytest.fixture
def begun(shelf, monkeypatch):
    """A network with three classes that ships, small enough; "conditional-mnist" by name."""
    use(monkeypatch, THREE)
    torch.manual_seed(5)
    model = GatedPixelCNN(levels=3, features=4, blocks=1, dilations=[1], classes=3)
    model.size = (28, 28)
    publish(save_model(model, pretrained.WEIGHTS / "conditional-mnist.safetensors"))
    teachers = {"teacher-mnist": (BrightnessReader().eval(), {})}
    monkeypatch.setattr("pixelcnn_helpers.studies.between.load_pretrained", teachers.get)
    return model


def further(shelf, *settings, **options):
    small = ["levels=3", "features=4", "blocks=1", "dilations=[1]", "classes=3", "start=conditional-mnist"]
    small += ["embedding=0", "held_out=8", "batch_size=4", "epochs=1", "compile=false"]
    return train("neutral-mnist", settings=[*small, *settings], folder=shelf, **options)


def test_a_training_starts_from_another(begun, shelf, monkeypatch):
    seen = watch(monkeypatch, callback=after_one_epoch)
    assert further(shelf) is None
    assert seen[0]["labels"].unique().tolist() == [0, 1]
    started = network_of(replace(RECIPES["neutral-mnist"], config=begun.config, start="conditional-mnist"))
    assert same(started.state_dict(), begun.state_dict())


def test_softened_labels(begun, shelf, monkeypatch):
    seen = watch(monkeypatch)
    path = further(shelf, "labels=softened")
    labels = seen[0]["labels"]
    assert torch.allclose(labels.sum(1), torch.ones(len(labels))) and 0.02 < labels[:, 1].min() < labels[:, 1].max()
    assert seen[0]["validation"][1].unique().tolist() == [0, 1]  # measured under the true ones
    assert load_model(path)[1]["labels"] == "softened"


def test_self_taught(begun, shelf, monkeypatch, capsys):
    monkeypatch.setattr(self_training, "PAIRS", ((0, 1),))
    monkeypatch.setattr(self_training, "AT_ONCE", 16)
    settings = ["labels=self-taught", "rounds=2", "wanted=4"]
    path = further(shelf, *settings)
    _, card = load_model(path)
    assert card["rounds"] == 2 and len(card["history"]["steps"]) == 2 and card["epochs_trained"] == 2
    assert not any(places.CHECKPOINTS.iterdir())

    monkeypatch.setattr(train_module, "measured", lambda *args: 1 / 0)  # a crash after the training
    with pytest.raises(ZeroDivisionError):
        further(shelf, *settings)
    with refused(ValueError, "neutral-mnist", "is of an unfinished training: --resume goes on with it"):
        further(shelf, *settings)
    with refused(ValueError, "was begun with", "wanted=4"):
        further(shelf, "labels=self-taught", "rounds=2", "wanted=5", resume=True)
    monkeypatch.setattr(train_module, "measured", measured)
    monkeypatch.setattr(self_training, "sample", None)  # nothing is drawn again
    again = train("neutral-mnist", resume=True, folder=shelf)
    assert same(weights(again), weights(path)) and not files_of_rounds(places.CHECKPOINTS / "neutral-mnist.pt")


def test_self_training_that_finds_nothing_leaves_nothing(begun, shelf, monkeypatch):
    """Not even what it drew in vain, which a retry with other settings would take for its own."""
    monkeypatch.setattr(self_training, "PAIRS", ((0, 1),))
    monkeypatch.setattr(self_training, "sample", lambda model, labels, **options: torch.zeros(len(labels), 1, 28, 28))
    for wanted in (1, 2):
        with refused(ValueError, "drew nothing that the teacher cannot decide", "wanted"):
            further(shelf, "labels=self-taught", "rounds=2", f"wanted={wanted}")
        assert not any(places.CHECKPOINTS.iterdir())


def test_an_error_in_a_later_round_keeps_the_rounds_before(begun, shelf, monkeypatch):
    """Hours may have gone into them. The training goes on from there when the reason is gone."""
    monkeypatch.setattr(self_training, "PAIRS", ((0, 1),))
    monkeypatch.setattr(self_training, "AT_ONCE", 16)
    settings, calls = ["labels=self-taught", "rounds=2", "wanted=4"], []
    whole = further(shelf, *settings)

    def fails_once(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            raise ValueError("something is wrong in round 2")
        return fit(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(self_training, "fit", fails_once)
        with refused(ValueError, "something is wrong in round 2"):
            further(shelf, *settings)
    kept = {file.name for file in places.CHECKPOINTS.iterdir()}
    assert {"neutral-mnist.json", "neutral-mnist.round-1.pt", "neutral-mnist.drawn-1.safetensors"} <= kept
    assert same(weights(train("neutral-mnist", resume=True, folder=shelf)), weights(whole))


def test_self_training_interrupted_anywhere_can_be_resumed(begun, shelf, monkeypatch, capsys):
    monkeypatch.setattr(self_training, "PAIRS", ((0, 1),))
    monkeypatch.setattr(self_training, "AT_ONCE", 16)
    with monkeypatch.context() as patch:
        patch.setattr(self_training, "moved_copies", lambda *words: after_one_epoch(None))
        assert further(shelf, "labels=self-taught", "rounds=1", "wanted=4") is None
    assert "--resume goes on" in capsys.readouterr().out
    assert train("neutral-mnist", resume=True, folder=shelf).is_file()


def test_a_teacher_of_other_classes(begun, shelf, monkeypatch):
    teacher = kind_called("ResidualClassifier")(classes=4, width=2)
    monkeypatch.setattr("pixelcnn_helpers.studies.between.load_pretrained", {"teacher-mnist": (teacher, {})}.get)
    with refused(ValueError, "reader must know the 3 classes of the model, got one of 4 classes"):
        further(shelf, "labels=softened")


@pytest.mark.parametrize("name", pretrained_names())
def test_the_recipe_on_every_card_that_ships(name):
    recipe = recipe_of(json.loads(CARDS[name]))
    assert recipe.network == RECIPES[name].network and recipe.data == DATA_OF.get(name, "mnist")
    assert recipe == replace(RECIPES[name], config=recipe.config)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["labels=guessed"], ("labels must be one of classes, softened, self-taught", "'guessed'")),
        (["labels=self-taught", "rounds=0", "wanted=3"], ("rounds must be at least 1",)),
        (["labels=self-taught", "rounds=1"], ("wanted must be at least 1",)),
        (["labels=softened", "rotation=5"], ("labels=softened needs data=mnist, a network with classes and a start",)),
        (["labels=softened", "start="], ("labels=softened needs data=mnist, a network with classes and a start",)),
        (["labels=self-taught", "data=fashion"], ("labels=self-taught needs data=mnist",)),
        (["features=8"], ("a training that starts from conditional-mnist needs its config", "'features': 4")),
        (["start=nobody"], ("name must be one of", "'nobody'")),
    ],
)
def test_what_such_trainings_refuse(begun, shelf, settings, words):
    with refused(ValueError, *words):
        further(shelf, *settings)
    assert not places.CHECKPOINTS.exists() or not any(places.CHECKPOINTS.iterdir())


def test_versions_of_a_checkout_that_was_never_installed(monkeypatch):
    def version(name):
        if name == "pixelcnn-helpers":
            raise hardware_module.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(hardware_module, "version", version)
    assert versions()["torch"] == "1.2.3"
    assert "pixelcnn-helpers" not in versions()


# stopped, and gone on with


@pytest.fixture
def stopped(shelf, monkeypatch, capsys):
    """Two epochs of a tiny training, of which one is done: what --resume goes on from."""
    with monkeypatch.context() as patch:
        watch(patch, callback=after_one_epoch)
        assert tiny(None, "epochs=2") is None
    assert "train neutral-mnist --resume" in capsys.readouterr().out
    assert not shelf.exists()
    assert {file.name for file in places.CHECKPOINTS.iterdir()} == {
        "neutral-mnist.pt",
        "neutral-mnist.json",
        "neutral-mnist.pt.lock",
    }
    return places.CHECKPOINTS / "neutral-mnist.pt"


@pytest.mark.parametrize("settings", [[], [*TINY, "epochs=2"]])
def test_interrupted_and_resumed_it_ends_in_the_same_weights(shelf, tmp_path, monkeypatch, stopped, settings):
    """Without settings it goes on with those that it was begun with, and on the card are all machines."""
    with monkeypatch.context() as patch:
        patch.setattr(places, "CHECKPOINTS", tmp_path / "elsewhere")
        whole = load_model(tiny(tmp_path / "whole", "epochs=2"))
    saved, log = stopped.read_bytes(), stopped.with_suffix(".json")
    with refused(ValueError, str(stopped), "unfinished", "--resume", "delete"):
        train("neutral-mnist", settings=settings)
    assert stopped.read_bytes() == saved
    log.write_text(json.dumps(json.loads(log.read_text()) | {"hardware": ["an abacus"]}))
    main(["train", "neutral-mnist", "--resume", *(["--set", *settings] if settings else [])])
    model, card = pretrained.load_pretrained("neutral-mnist")
    assert same(model.state_dict(), whole[0].state_dict())
    assert {name: card[name] for name in asdict(RECIPES["neutral-mnist"])} == {
        **asdict(changed(RECIPES["neutral-mnist"], [*TINY, "epochs=2"])), "config": model.config,
    }  # fmt: skip
    assert card["history"]["steps"] == [21, 42]
    assert card["history"]["train"] == whole[1]["history"]["train"]
    assert card["epochs_trained"] == 2
    assert card["hardware"] == f"an abacus, {hardware()}"
    assert not list(places.CHECKPOINTS.iterdir())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("epochs=3", ("begun with epochs=2:",)),
        ("rotation=5", ("begun with rotation=0.0:",)),
        ("dilations=[2]", ("begun with dilations=[1]:",)),  # just as many weights
        ("held_out=99", ("begun with held_out=100:",)),
        ("compile=true", ("begun with compile=false:",)),
    ],
)
def test_other_settings_than_it_was_begun_with(shelf, stopped, setting, words):
    files = {file: file.read_bytes() for file in places.CHECKPOINTS.iterdir()}
    with refused(ValueError, str(stopped), *words, "without --set", "delete"):
        tiny(shelf, "epochs=2", setting, resume=True)
    assert {file: file.read_bytes() for file in places.CHECKPOINTS.iterdir()} == files
    assert not shelf.exists()


def test_a_checkpoint_whose_settings_are_lost(shelf, stopped):
    """Other ones are refused, and not taken for those that it was begun with."""
    stopped.with_suffix(".json").unlink()
    with refused(ValueError, "checkpoint", "another training", "42 there, 63 here"):
        tiny(shelf, "epochs=3", resume=True)
    with refused(ValueError, "checkpoint", "another training", "'dilations': [1]", "there", "'dilations': [2]"):
        tiny(shelf, "epochs=2", "dilations=[2]", resume=True)
    assert set(places.CHECKPOINTS.iterdir()) == {stopped, stopped.with_name("neutral-mnist.pt.lock")}
    assert tiny(shelf, "epochs=2", resume=True).is_file()


@pytest.mark.parametrize("variant", ["fashion", "emnist-letters"])
def test_clothes_and_letters_from_tiny_files(shelf, tmp_path, monkeypatch, variant):
    """These data sets cannot be had everywhere, so no weights ship; whoever has the files trains by one command."""
    monkeypatch.setenv("PIXELCNN_DATA", str(tmp_path / "data"))
    write_files(tmp_path / "data", variant, train=12, test=4)
    name = {"fashion": "conditional-fashion", "emnist-letters": "conditional-letters"}[variant]
    settings = ["epochs=1", "features=2", "held_out=4", "batch_size=4", "compile=false"]
    model, card = load_model(train(name, settings=settings, folder=shelf))
    assert model.classes == (10 if variant == "fashion" else 26)
    assert (card["recipe"], card["images"], card["test"]["images"]) == (name, 8, 4)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "{\"recipe\": ", "[]", "null", '{"recipe": {}, "hardware": []}', '{"recipe": {"x": 1}, "hardware": []}'],
)
def test_damaged_settings_of_an_unfinished_training(shelf, stopped, text):
    stopped.with_suffix(".json").write_text(text)
    with refused(ValueError, str(stopped.with_suffix(".json")), "is damaged", "delete it"):
        train("neutral-mnist", resume=True, folder=shelf)
    assert stopped.exists()


def test_epochs_are_counted_once_however_often_it_was_stopped(shelf, monkeypatch):
    calls = []

    def pressed(images, degrees, generator):
        calls.append(degrees)
        if len(calls) == 26:  # within the second epoch; the first call is for the checkpoint's digest
            raise KeyboardInterrupt
        return images

    monkeypatch.setattr(data_module, "rotated", pressed)
    assert tiny(shelf, "epochs=2", "rotation=5") is None
    _, card = load_model(train("neutral-mnist", resume=True, folder=shelf))
    assert card["history"]["steps"] == [21, 24, 42]
    assert (card["epochs"], card["epochs_trained"]) == (2, 2)


def test_resume_without_a_checkpoint_begins(shelf):
    assert tiny(shelf, resume=True).is_file()


def test_a_classifier_that_was_stopped_begins_again(shelf, monkeypatch):
    use(monkeypatch, GREYS)
    settings = ["width=2", "epochs=1", "held_out=4", "batch_size=6"]
    with monkeypatch.context() as patch:
        patch.setattr(train_module, "fit_classifier", lambda *args, **options: after_one_epoch(None))
        assert train("judge-mnist", settings=[*settings, "width=3"], folder=shelf) is None
    assert not shelf.exists()
    model, _ = load_model(train("judge-mnist", resume=True, settings=settings, folder=shelf))
    assert model.config["width"] == 2


def test_weights_that_are_replaced_are_kept(shelf, capsys):
    old = tiny(None).read_bytes()
    assert not list(places.CHECKPOINTS.iterdir())  # there were none before
    capsys.readouterr()
    path = tiny(None, "seed=9")
    assert path == shelf / "neutral-mnist.safetensors"
    kept = places.CHECKPOINTS / "neutral-mnist.before.safetensors"
    assert str(kept) in capsys.readouterr().out
    assert list(places.CHECKPOINTS.iterdir()) == [kept]
    assert kept.read_bytes() == old
    assert not same(weights(kept), weights(path))
    assert pretrained.load_pretrained("neutral-mnist")[1]["seed"] == 9


# without a checkout


def contents(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_without_a_checkout_trained_weights_go_into_the_current_folder(shelf, tmp_path, monkeypatch, capsys):
    """They do not replace what ships, and they are not put on its list."""
    tiny(shelf)
    shipped, here = contents(shelf), tmp_path / "here"
    assert {str(file) for file in shipped} == {"neutral-mnist.safetensors", "SHA256SUMS"}
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(places, "IN_CHECKOUT", False)
    for seed in (9, 10):
        main(["train", "neutral-mnist", "--set", *TINY, f"seed={seed}"])
        assert {str(file) for file in contents(here)} == {"neutral-mnist.safetensors"}
        assert load_model(here / "neutral-mnist.safetensors")[1]["seed"] == seed
        assert f"{here / 'neutral-mnist.safetensors'}: " in capsys.readouterr().out
    assert contents(shelf) == shipped
    kept = places.CHECKPOINTS / "neutral-mnist.before.safetensors"
    assert list(places.CHECKPOINTS.iterdir()) == [kept] and load_model(kept)[1]["seed"] == 9


@pytest.fixture
def fresh(tmp_path):
    """Runs a command in a fresh interpreter, in an empty folder; the package is this one, or a copy without a checkout.

    The copy has the list of the weights, but none of them.
    """
    (tmp_path / "here").mkdir()
    environment = dict(os.environ)

    def call(*arguments, copied):
        package, copy = Path(pretrained.__file__).parent, tmp_path / "site" / "pixelcnn_helpers"
        if copied:
            shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
        environment["PYTHONPATH"] = str((copy if copied else package).parent)
        command = [sys.executable, "-m", "pixelcnn_helpers", *arguments]
        return subprocess.run(command, cwd=tmp_path / "here", env=environment, capture_output=True, text=True)

    return call


@pytest.mark.parametrize("copied", [False, True])
def test_an_unknown_name_in_a_fresh_interpreter(fresh, tmp_path, copied):
    done = fresh("evaluate", "no-such-name", copied=copied)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"python -m pixelcnn_helpers evaluate: name must be one of {', '.join(map(repr, CARDS))}, ")
    assert line.endswith("got 'no-such-name'")
    assert (done.returncode, done.stdout, contents(tmp_path / "here")) == (1, "", {})


def test_training_in_a_fresh_interpreter_without_a_checkout(fresh, tmp_path):
    done = fresh("train", "neutral-mnist", "--set", *TINY, copied=True)
    assert done.returncode == 0, done.stderr
    assert {str(file) for file in contents(tmp_path / "here")} == {"neutral-mnist.safetensors"}
    assert load_model(tmp_path / "here" / "neutral-mnist.safetensors")[1]["epochs_trained"] == 1
    assert (tmp_path / "here" / "checkpoints").is_dir()  # where --resume would have looked
    package = tmp_path / "site" / "pixelcnn_helpers"
    shipped = Path(pretrained.__file__).parent / "weights" / "SHA256SUMS"
    assert contents(package / "weights") == {Path("SHA256SUMS"): shipped.read_bytes()}


# measured again


def test_evaluate(shelf, capsys):
    tiny(shelf)
    _, card = pretrained.load_pretrained("neutral-mnist")
    capsys.readouterr()
    main(["evaluate", "neutral-mnist"])
    name, before, after = capsys.readouterr().out.splitlines()
    assert name == "neutral-mnist"
    assert before.removeprefix("  its card") == after.removeprefix("  measured")
    assert f"{card['test']['nats_per_image']:.2f} ± " in before
    assert "(300 images)" in before
    assert evaluate("neutral-mnist") == pytest.approx(card["test"])


@pytest.mark.parametrize("write", [False, True])
def test_evaluate_puts_on_the_card_what_it_measured_if_asked_to(shelf, write):
    path = tiny(shelf)
    model, card = load_model(path)
    stale = card | {"test": card["test"] | {"nats_per_image": 1.0, "bayes_accuracy": 1.0, "bayes_images": 7}}
    publish(save_model(model, path, stale))
    main(["evaluate", "neutral-mnist", *(["--write"] if write else [])])
    again, found = pretrained.load_pretrained("neutral-mnist")
    assert same(again.state_dict(), model.state_dict())
    assert found["test"] == (pytest.approx(card["test"]) if write else stale["test"])
    assert {**found, "test": None} == {**card, "test": None}
    assert again.size == (8, 8)


# the command line


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (["one"], ("one", False, [])),
        (["one", "--resume"], ("one", True, [])),
        (["one", "--set", "a=1", "b=2", "--resume", "--set", "c=3"], ("one", True, ["a=1", "b=2", "c=3"])),
    ],
)
def test_what_train_is_told(monkeypatch, arguments, given):
    """And how a training that was interrupted ends: as a shell says it of Ctrl-C."""
    asked = []
    monkeypatch.setattr(train_module, "train", lambda *args: asked.append(args) or "a path")
    main(["train", *arguments])
    monkeypatch.setattr(train_module, "train", lambda *args: asked.append(args))
    with pytest.raises(SystemExit) as stopped:
        main(["train", *arguments])
    assert stopped.value.code == 130
    assert asked == [given, given]


def test_ctrl_c_outside_the_training(monkeypatch):
    monkeypatch.setattr(train_module, "measured", lambda *args: after_one_epoch(None))
    with pytest.raises(SystemExit) as stopped:
        main(["train", "neutral-mnist", "--set", *TINY])
    assert stopped.value.code == 130
    assert (places.CHECKPOINTS / "neutral-mnist.pt").exists()  # what was learned is kept


def test_nothing_to_compile_with(shelf, monkeypatch):
    def fails(*args):
        raise RuntimeError("no such file: g++")

    monkeypatch.setattr(torch, "compile", lambda module: fails)
    with pytest.raises(SystemExit) as stopped:
        main(["train", "neutral-mnist", "--set", *TINY, "compile=true"])
    assert stopped.value.code.startswith("python -m pixelcnn_helpers train: compile=True needs a C++ compiler")
    assert not list(places.CHECKPOINTS.glob("*"))
    assert not shelf.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nonsense"], ("conditional-mnist", "gated-binary-mnist", "'nonsense'")),
        (["train", "neutral-mnist", "--set", "epochs"], ("KEY=VALUE", "'epochs'")),
        (["train", "neutral-mnist", "--set", "seed=1", "epochs=many"], ("epochs", "'many'")),
        (["train", "neutral-mnist", "--set", "data=nonsense"], ("'digits', 'mnist-sample', 'mnist'", "'nonsense'")),
        (["train", "neutral-mnist", "--set", "data=digits"], ("images left to train on", "-503")),
        (["train", "neutral-mnist", "--set", "data=digits", "epochs=0", "held_out=100"], ("epochs", "at least 1")),
        (["train", "neutral-mnist", "--set", "data=digits", "blocks=2"], ("dilations", "2 blocks")),
        (["train", "neutral-mnist", "--set", "data=digits", "dilations=[1,2,3,4,5,6,7,8.5]"], ("integer", "8.5")),
        (["train", "pixelcnn-mnist", "--set", "data=digits", "features=many"], ("features", "many")),
        (["train", "conditional-mnist", "--set", "data=digits", "held_out=1", "classes=5"], ("at least 10", "got 5")),
        (["train", "neutral-mnist", "--set", "drawn=true"], ("drawn", "levels must be 2", "got 8")),
        (["train", "judge-mnist", "--set", "data=digits", "held_out=9", "patience=1"], ("classifier", "patience=0")),
        (["train", "neutral-mnist"], ("MNIST", "could not be downloaded", "PIXELCNN_DATA")),
        (["evaluate", "nonsense"], ("'made'", "'nonsense'")),
        (["evaluate", "made"], ("MNIST", "could not be downloaded", "PIXELCNN_DATA")),
    ],
)
def test_errors_are_one_line(shelf, offline, monkeypatch, tmp_path, arguments, words):
    monkeypatch.setenv("PIXELCNN_DATA", str(tmp_path / "data"))
    card = asdict(RECIPES["neutral-mnist"]) | {"test": {}}
    publish(save_model(GatedPixelCNN(features=2, blocks=1), shelf / "made.safetensors", card))
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    said = stopped.value.code
    assert said.startswith(f"python -m pixelcnn_helpers {arguments[0]}: ")
    assert "\n" not in said
    assert all(word in said for word in words), said
    assert not list(places.CHECKPOINTS.glob("*"))
    assert {file.name for file in shelf.iterdir()} == {"made.safetensors", "SHA256SUMS"}
