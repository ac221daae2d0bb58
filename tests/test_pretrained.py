"""Weights in files: the same network comes back, a file that is not whole is refused, and those that ship are sound."""

import dataclasses
import hashlib
import json
import os
import pathlib
import pickle
import shutil

import numpy as np
import pytest
import torch
from conftest import ConditionalToy, integers, one_hot, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from pixelcnn_helpers import (
    GatedPixelCNN,
    PixelCNN,
    ShortcutPixelCNN,
    assert_causal,
    load_model,
    load_pretrained,
    pretrained,
    pretrained_names,
    sample,
    save_model,
)
from pixelcnn_helpers.models import AutoregressiveModel
from pixelcnn_helpers.studies.datasets import encoded, load_dataset
from pixelcnn_helpers.studies.judges import Classifier, ConvClassifier, ResidualClassifier
from pixelcnn_helpers.studies.mnist import data_folder
from pixelcnn_helpers.studies.together import VQVAE
from pixelcnn_helpers.workshop.evaluate import JUDGED_LEVELS, measured
from pixelcnn_helpers.workshop.publish import publish
from pixelcnn_helpers.workshop.recipes import RECIPES, Recipe, recipe_of

REAL = next(  # where the real MNIST is, if it is
    (folder for folder in (data_folder(), pathlib.Path(__file__).parents[2] / "shared" / "data")
     if (folder / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").is_file()), None,
)  # fmt: skip
MODELS = {
    "PixelCNN": lambda: PixelCNN(3, levels=4, features=6, layers=2, kernel_size=3),
    "GatedPixelCNN": lambda: GatedPixelCNN(levels=3, features=4, blocks=2, dilations=(1, 2), classes=3),
    "ShortcutPixelCNN": lambda: ShortcutPixelCNN(levels=3, features=4, blocks=2, classes=3, dropout=0.25),
    "ConvClassifier": lambda: ConvClassifier(classes=4, width=2),
    "ResidualClassifier": lambda: ResidualClassifier(width=3),
    "VQVAE": lambda: VQVAE(levels=3, codes=5, width=2, depth=2),
}
CARD = {"data": "«digits»", "epochs": 3, "history": {"train": [2.5, 1e-300], "validation": []}, "best": None}
MUSTS = {  # at most so many nats per pixel, at least so much of everything else
    "conditional-mnist": {
        "epochs_trained": 12, "nats_per_pixel": 0.205, "read_as_asked": 0.95, "bayes_accuracy": 0.97,
    },
    "between-mnist": {"read_as_asked": 0.95, "bayes_accuracy": 0.97},
    "judge-mnist": {"accuracy": 0.993},
    "teacher-mnist": {"accuracy": 0.993},
    "shortcut-mnist": {"epochs_trained": 4},
    "neutral-mnist": {"nats_per_pixel": 0.208},
    "background-mnist": {"nats_per_pixel": 0.97},
    "pixelcnn-mnist": {"epochs_trained": 4},
    "gated-mnist": {"bits_per_dim": 0.8},
    "gated-binary-mnist": {"epochs_trained": 6},
    "colour-photos": {"bits_per_dim": 0.75},
    "vqvae-mnist": {"nats_per_pixel": 0.25, "codes_used": 30},
    "codes-mnist": {"bayes_accuracy": 0.93},
}  # fmt: skip


def inputs(model):
    if isinstance(model, VQVAE):
        return (integers((2, 1, 8, 4), model.levels),)
    if not hasattr(model, "levels"):
        return (torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0)),)
    rows = (one_hot([0, model.classes - 1], model.classes),) if model.classes else ()
    return integers((2, model.channels, 5, 4), model.levels), *rows


@torch.no_grad()
def answer(model):
    return model.eval()(*inputs(model))


def used(model):
    """A model whose batch norm has seen a batch, as after a training."""
    model.train()(*inputs(model))
    return model


def tiny(seed=0):
    torch.manual_seed(seed)
    return PixelCNN(levels=3, features=4, layers=1, kernel_size=3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tiny.safetensors"


class Bomb:
    """Unpickled, it leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return pathlib.Path.touch, (self.trace,)


# a reader's own files


def test_every_class_that_ships_is_tried_here():
    assert MODELS.keys() == pretrained.KINDS.keys()
    assert all(type(make()) is pretrained.kind_called(name) for name, make in MODELS.items())


@pytest.mark.parametrize("kind", MODELS)
def test_there_and_back(path, kind):
    model = used(MODELS[kind]())
    if hasattr(model, "levels"):
        model.size = (5, 4)
    assert save_model(model, path.parent / "deep" / path.name, CARD) == path.parent / "deep" / path.name
    loaded, card = load_model(str(path.parent / "deep" / path.name))
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert loaded.size == model.size
    assert card == CARD
    assert not any(module.training for module in loaded.modules())
    assert torch.equal(answer(loaded), answer(model))
    assert [file.name for file in (path.parent / "deep").iterdir()] == [path.name]


@settings(max_examples=15)
@given(st.data())
def test_any_config_there_and_back(tmp_path_factory, data):
    channels, blocks = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    model = GatedPixelCNN(
        channels, levels=data.draw(st.integers(2, 5)), features=channels * data.draw(st.integers(1, 3)), blocks=blocks,
        kernel_size=data.draw(st.sampled_from([1, 3, 5])), first_kernel_size=data.draw(st.sampled_from([3, 5])),
        dilations=data.draw(st.none() | st.lists(st.integers(1, 3), min_size=blocks, max_size=blocks)),
        classes=data.draw(st.integers(0, 3)),
    )  # fmt: skip
    loaded, card = load_model(save_model(model, tmp_path_factory.getbasetemp() / "any.safetensors"))
    assert (loaded.config, loaded.size, card) == (model.config, None, {})
    assert torch.equal(answer(loaded), answer(model))


@pytest.mark.skipif(os.name != "posix", reason="permissions as on Unix")
def test_others_may_read_the_file(path):
    path.parent.joinpath("note").touch()
    assert save_model(tiny(), path).stat().st_mode == path.parent.joinpath("note").stat().st_mode


def test_a_loaded_network_draws_the_same_images(path):
    model = used(MODELS["GatedPixelCNN"]())
    model.size = (5, 4)
    loaded, _ = load_model(save_model(model, path))
    rows = one_hot([0, 1, 2])
    assert torch.equal(sample(loaded, labels=rows), sample(model, labels=rows))


def test_a_file_holds_masks_in_bytes_and_the_weights_under_open_taps(path):
    model = MODELS["PixelCNN"]()
    loaded, _ = load_model(save_model(model, path))
    with safe_open(path, "pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
    assert {name.endswith("mask") for name, value in kept.items() if value.dtype == torch.bool} == {True}
    assert sum(value.numel() for value in kept.values() if value.dtype == torch.float32) < 0.8 * sum(
        value.numel() for value in model.parameters()
    )
    state = model.state_dict()
    for name, value in state.items():
        mask = state.get(name.removesuffix("weight") + "mask", torch.ones(()))
        back = loaded.state_dict()[name]
        assert torch.equal(back, value * mask if name.endswith("weight") else value) and back.dtype == value.dtype
    images = integers((2, model.channels, 8, 8), model.levels)
    assert torch.equal(loaded(images), model.eval()(images))


def test_a_file_with_closed_taps_is_read_and_one_with_too_few_open_ones_refused(path):
    model = MODELS["PixelCNN"]()
    with safe_open(save_model(model, path), "pt") as file:
        metadata, state = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    whole = state | {name: value for name, value in model.state_dict().items() if name.endswith("weight")}
    save_file(whole, path, metadata)
    loaded, _ = load_model(path)
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in model.state_dict().items())
    kernel = next(name for name, value in state.items() if name.endswith("weight") and value.ndim == 1)
    save_file(state | {kernel: state[kernel][1:]}, path, metadata)
    with pytest.raises(ValueError, match="is damaged"):
        load_model(path)


def test_numbers_of_numpy_in_the_config(path):
    model = GatedPixelCNN(levels=np.int64(3), features=np.int32(4), blocks=2, dilations=np.array([1, 2]))
    loaded, _ = load_model(save_model(model, path))
    assert loaded.config == {**model.config, "dilations": [1, 2]}


def test_the_model_is_left_as_it_was(path):
    model = used(tiny().to(memory_format=torch.channels_last))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    save_model(model, path)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.requires_grad for weight in load_model(path)[0].parameters())


def test_a_class_of_ones_own(path):
    model = used(ConditionalToy())
    model.size = (5, 4)
    save_model(model, path, CARD)
    with refused(ValueError, "ConditionalToy", "not of this package", "load_model(path, model=ConditionalToy(…))"):
        load_model(path)
    own = ConditionalToy().train()
    loaded, card = load_model(path, model=own)
    assert loaded is own
    assert (loaded.training, loaded.size, card) == (False, (5, 4), CARD)
    assert torch.equal(answer(loaded), answer(model))


def test_a_class_of_ones_own_may_be_called_like_one_of_ours_and_mean_other_things(path):
    class PixelCNN(nn.Module):
        def __init__(self):
            super().__init__()
            self.size, self.config = 28, object()
            self.first, self.last = nn.Linear(2, 2), nn.Linear(2, 2)
            self.last.weight = self.first.weight  # shared memory

    model = PixelCNN()
    save_model(model, path)
    with refused(ValueError, "PixelCNN", "not of this package"):
        load_model(path)
    loaded, _ = load_model(path, model=PixelCNN())
    assert loaded.size == 28
    assert torch.equal(loaded.last.weight, model.first.weight)


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ({"loss": float("nan")}, ("float",)),
        ({"history": [float("inf")]}, ("float",)),
        ({"model": tiny()}, ("PixelCNN",)),
        ({"seen": {1, 2}}, ("set",)),
        ({"loss": np.float32(1)}, ("float32",)),
        ({(1, 2): 3}, ("tuple",)),
    ],
)
def test_a_card_that_json_cannot_hold(path, card, words):
    with refused(TypeError, "card", "JSON", *words):
        save_model(tiny(), path, card)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("name", ["tiny.pt", "tiny", "tiny.safetensors.part", "safetensors"])
def test_another_suffix(path, name):
    for refuse in (lambda: save_model(tiny(), path.parent / name), lambda: load_model(path.parent / name)):
        with refused(ValueError, "path", ".safetensors", name):
            refuse()
    assert not list(path.parent.iterdir())


def test_what_is_no_model(path):
    with refused(TypeError, "model", "torch.nn.Module", "OrderedDict"):
        save_model(tiny().state_dict(), path)
    save_model(tiny(), path)
    with refused(TypeError, "model", "torch.nn.Module", "ConditionalToy"):
        load_model(path, model=ConditionalToy)  # the class


def test_a_missing_file(path):
    for missing in (path, path.parent / "deep" / path.name):
        with refused(FileNotFoundError, str(missing), "save_model(model, path)"):
            load_model(missing)
    path.mkdir()
    with refused(FileNotFoundError, str(path)):
        load_model(path)


DAMAGES = {
    "empty": lambda data: b"",
    "a byte": lambda data: data[:1],
    "half a header": lambda data: data[:100],
    "short by one": lambda data: data[:-1],
    "long by one": lambda data: data + b"x",
    "a page": lambda data: b"<!DOCTYPE html><title>404</title>" * 20,
    "a pickle": lambda data: pickle.dumps({"weight": [1.0]}),
    "a bent card": lambda data: data.replace(b'"card":"{', b'"card":"['),
    "bytes that are no text": lambda data: data.replace(b"epochs", b"\xff\xfe\xfdchs"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(path, damage):
    data = save_model(tiny(), path, CARD).read_bytes()
    path.write_bytes(DAMAGES[damage](data))
    assert path.read_bytes() != data
    with refused(ValueError, str(path), "damaged", "again"):
        load_model(path)


def test_a_header_with_any_byte_bent_is_read_or_refused(path):
    """No other error gets through, whatever the damage."""
    data, told = save_model(tiny(), path).read_bytes(), 0
    for place in range(0, 8 + int.from_bytes(data[:8], "little"), 3):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        try:
            load_model(path)
        except ValueError as error:
            told += 1
            assert str(path) in str(error)
    assert told > 100


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "pt"},
        {"model": '{"class": "PixelCNN", "config": {}, "size": null}'},
        {"model": "[]", "card": "{}"},
        {"model": "null", "card": "{}"},
        {"model": '{"class": "PixelCNN"}', "card": "{}"},
    ],
)
def test_a_file_of_other_safetensors_content(path, metadata):
    save_file(tiny().state_dict(), path, metadata)
    with refused(ValueError, str(path), "not written by save_model"):
        load_model(path)


def test_weights_that_do_not_fit(path):
    save_model(tiny(), path)
    for model, words in ((PixelCNN(levels=3, features=6, layers=1, kernel_size=3), "size mismatch"),
                         (ConditionalToy(), "first.weight")):
        with refused(ValueError, "the weights in", str(path), "do not fit this", type(model).__name__, words):
            load_model(path, model=model)


@pytest.mark.parametrize("config", [{"colour": 3}, {"features": "many"}, {"layers": 0}])
def test_a_config_that_no_network_takes(path, config):
    about = json.dumps({"class": "PixelCNN", "config": config, "size": None})
    save_file(tiny().state_dict(), path, {"model": about, "card": "{}"})
    with refused(ValueError, str(path), "this version", "damaged", next(iter(config))):
        load_model(path)


def test_a_failed_write_leaves_the_old_file_whole(path, monkeypatch):
    old = save_model(tiny(), path, CARD).read_bytes()

    def crashes(file, data, write=pathlib.Path.write_bytes):
        write(file, data[:10])
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(pathlib.Path, "write_bytes", crashes)
        save_model(tiny(1), path)
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


def test_nothing_is_ever_unpickled(path, monkeypatch):
    trace = path.parent / "exploded"
    for name in (path.name, "tiny.pt"):
        (path.parent / name).write_bytes(pickle.dumps(Bomb(trace)))
        with pytest.raises(ValueError, match=r"damaged|must end in"):
            load_model(path.parent / name)
        torch.save({"weight": Bomb(trace)}, path.parent / name)
        with pytest.raises(ValueError, match=r"damaged|must end in"):
            load_model(path.parent / name)
    monkeypatch.setattr(pretrained, "WEIGHTS", path.parent)
    publish(path)
    with refused(ValueError, str(path), "damaged"):
        load_pretrained("tiny")
    assert not trace.exists()
    pickle.loads(pickle.dumps(Bomb(trace)))  # it does go off
    assert trace.exists()


# those that ship


@pytest.fixture
def shelf(path, monkeypatch):
    """A folder of weights with two networks in it."""
    monkeypatch.setattr(pretrained, "WEIGHTS", path.parent)
    for name, seed in (("tiny", 0), ("small", 1)):
        publish(save_model(tiny(seed), path.parent / f"{name}.safetensors", {"recipe": name}))
    return path.parent


def test_loads_what_was_published(shelf, offline):
    assert sorted(pretrained_names()) == ["small", "tiny"]
    model, card = load_pretrained("tiny")
    assert card == {"recipe": "tiny"}
    assert not model.training
    assert torch.equal(answer(model), answer(tiny()))


def test_the_list_of_sums_is_one_that_sha256sum_reads(shelf):
    def lines():
        return [
            f"{hashlib.sha256((shelf / f'{name}.safetensors').read_bytes()).hexdigest()}  {name}.safetensors"
            for name in ("small", "tiny")
        ]

    assert (shelf / "SHA256SUMS").read_text().splitlines() == lines()
    publish(save_model(tiny(2), shelf / "tiny.safetensors"))  # another of the same name
    assert (shelf / "SHA256SUMS").read_text().splitlines() == lines()
    assert torch.equal(answer(load_pretrained("tiny")[0]), answer(tiny(2)))


@pytest.mark.parametrize("name", ["digits", "", "../tiny", "tiny.safetensors", None, 3])
def test_an_unknown_name(shelf, name):
    with refused(ValueError, "name", "'small', 'tiny'", repr(name)):
        load_pretrained(name)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_that_ships(shelf, damage):
    path = shelf / "tiny.safetensors"
    path.write_bytes(DAMAGES[damage](save_model(tiny(), path, CARD).read_bytes()))
    with refused(ValueError, str(path), "not the file that was published", "SHA256SUMS", "install the package again"):
        load_pretrained("tiny")


def test_another_file_in_its_place(shelf):
    shutil.copy(shelf / "small.safetensors", shelf / "tiny.safetensors")
    load_model(shelf / "tiny.safetensors")  # a good one, but
    with refused(ValueError, "tiny.safetensors", "not the file that was published", "SHA-256"):
        load_pretrained("tiny")


def test_a_weight_changed_by_one_bit(shelf):
    path = shelf / "tiny.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with refused(ValueError, "tiny.safetensors", "not the file that was published"):
        load_pretrained("tiny")


def test_a_missing_file_that_ships(shelf):
    (shelf / "tiny.safetensors").unlink()
    with refused(ValueError, "tiny.safetensors is not there: install the package again"):
        load_pretrained("tiny")
    assert load_pretrained("small")


def test_without_any_weights(path, monkeypatch):
    monkeypatch.setattr(pretrained, "WEIGHTS", path.parent / "nowhere")
    assert pretrained_names() == []
    with refused(ValueError, "name", "none are there", "install the package again", "'tiny'"):
        load_pretrained("tiny")


def test_the_folder_holds_what_the_list_says_and_no_more_than_30_mb():
    files = [file for file in pretrained.WEIGHTS.glob("*") if file.name != pretrained.SUMS]
    assert {file.name for file in files} == {f"{name}.safetensors" for name in pretrained_names()}
    assert sum(file.stat().st_size for file in files) <= 30e6
    assert set(pretrained_names()) <= RECIPES.keys()


def weights_in_training(name, model, card):
    """How many weights a network had in its training.

    In version 0.1 the last block of two stacks had a residual layer, a 1×1 that nothing read. A file that holds it was
    trained with it; a file of that version that was written again may not hold it any more.
    """
    now = sum(weight.numel() for weight in model.parameters())
    with safe_open(pretrained.WEIGHTS / f"{name}.safetensors", "pt") as file:
        dropped = {key: file.get_tensor(key).numel() for key in set(file.keys()) - model.state_dict().keys()}
    if not isinstance(model, GatedPixelCNN):
        assert not dropped
        return now
    layer = f"blocks.{len(model.blocks) - 1}.residual"
    assert dropped in ({}, dict.fromkeys((f"{layer}.weight", f"{layer}.mask"), model.features**2))
    rewritten = not dropped and card["versions"]["pixelcnn-helpers"].startswith("0.1.") and card["weights"] != now
    return now + model.features**2 if dropped or rewritten else now


@pytest.mark.parametrize("name", pretrained_names())
def test_a_network_that_ships(name):
    model, card = load_pretrained(name)
    younger = {"start", "labels", "rounds", "wanted", "optimizer", "relit", "mutated"}  # than some of the cards
    assert {field.name for field in dataclasses.fields(Recipe)} - younger < card.keys()
    told = {"images", "epochs_trained", "seconds", "hardware", "versions", "history", "test", "weights"}
    assert told < card.keys()
    assert card["recipe"] == name
    older = {"embedding": 0} if "embedding" in model.config else {}  # some of the cards do not know it
    assert (card["network"], older | card["config"]) == (type(model).__name__, model.config)
    assert card["weights"] == weights_in_training(name, model, card)
    assert model.size == {"colour-photos": (16, 16), "codes-mnist": (7, 7)}.get(name, (28, 28))
    assert not model.training
    assert all(value.isfinite().all() for value in model.state_dict().values())
    if isinstance(model, GatedPixelCNN):
        assert model.reach >= model.size[0] - 1  # every row above the last one
    if isinstance(model, AutoregressiveModel):
        assert_causal(model, labels=one_hot([0], model.classes) if model.classes else None)


@pytest.mark.parametrize("name", pretrained_names())
def test_what_a_network_that_ships_must_reach(name):
    _, card = load_pretrained(name)
    told = {**card["test"], "epochs_trained": card["epochs_trained"]}
    assert told["images"] == (104 if name == "colour-photos" else 10000)
    for what, must in MUSTS[name].items():
        if what in ("nats_per_pixel", "bits_per_dim"):
            assert told[what] <= must
        elif what == "accuracy":
            assert told[what].keys() == {str(levels) for levels in JUDGED_LEVELS}
            assert min(told[what].values()) >= must
        else:
            assert told[what] >= must, what


def test_every_recipe_has_its_musts():
    ours = ("mnist", "mnist-codes", "photos")
    assert MUSTS.keys() == {name for name, recipe in RECIPES.items() if recipe.data in ours}


@pytest.fixture(scope="module")
def digits():
    """MNIST where it is at hand, and otherwise the sample of it that ships."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIXELCNN_DATA", str(REAL))
        return load_dataset("mnist" if REAL else "mnist-sample")


@pytest.mark.parametrize("name", pretrained_names())
def test_the_figures_on_the_card_are_those_of_the_network(name, digits):
    """On every 20th test image of MNIST to the digit; on every second one of the sample as far as chance lets it."""
    model, card = load_pretrained(name)
    told = card["test"]
    if name == "colour-photos":  # its data is at hand everywhere
        found = measured(model, recipe_of(card), load_dataset("photos"))
        assert found["nats_per_image"] == pytest.approx(told["nats_per_image"], rel=1e-4)
        return
    digits = encoded(digits) if name == "codes-mnist" else digits
    found = measured(model, recipe_of(card), digits, every=20 if REAL else 2)
    assert found["images"] == 500
    if isinstance(model, Classifier) and REAL:
        assert found["accuracy"] == pytest.approx(told["every_20th"], abs=1.01 / 500)  # one image, on another machine
    elif isinstance(model, Classifier):
        assert found["accuracy"].keys() == told["accuracy"].keys()
        assert min(found["accuracy"].values()) > 0.98
    elif REAL:
        assert found["nats_per_image"] == pytest.approx(told["every_20th"], rel=1e-4)
    else:
        error = told["deviation"] / found["images"] ** 0.5
        assert found["nats_per_image"] == pytest.approx(told["nats_per_image"], abs=5 * error)
        assert found["deviation"] == pytest.approx(told["deviation"], rel=0.2)


@pytest.mark.parametrize("name", pretrained_names())
def test_the_readme_says_what_the_card_says(name):
    text = (pathlib.Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
    test = load_pretrained(name)[1]["test"]
    if "accuracy" in test:
        assert f"{100 * test['accuracy']['8']:.2f} % right" in row
    elif name == "colour-photos":
        assert f"{test['bits_per_dim']:.3f} bits/dim" in row
    elif name == "codes-mnist":
        assert f"{test['nats_per_pixel']:.3f} nats per code" in row
    else:
        assert f"{test['nats_per_pixel']:.4f} nats per pixel" in row
        assert "read_as_asked" not in test or f"{100 * test['read_as_asked']:.1f} % of samples read as asked" in row
        between = [round(100 * share) for share in test.get("truly_between", {}).values()]
        assert not between or f"{min(between)} to {max(between)} % truly between" in row
        assert "bayes_accuracy" not in test or f"{100 * test['bayes_accuracy']:.1f} % right by Bayes' rule" in row
