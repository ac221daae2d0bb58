"""Measurements: made, stored and found again; a training that is stopped and gone on with."""

import json
import pathlib
from dataclasses import replace

import pytest
import torch
from conftest import BrightnessReader, integers, refused

from pixelcnn_helpers import Dataset, GatedPixelCNN, fit, load_measurement, nats, pretrained
from pixelcnn_helpers.__main__ import main
from pixelcnn_helpers.pretrained import _unpacked
from pixelcnn_helpers.workshop import measure_between as between_module
from pixelcnn_helpers.workshop import measure_colour as colour_module
from pixelcnn_helpers.workshop import measure_optimizers as optimizers_module
from pixelcnn_helpers.workshop import measure_reach as reach_module
from pixelcnn_helpers.workshop import measure_records as records_module
from pixelcnn_helpers.workshop import places
from pixelcnn_helpers.workshop import train as train_module
from pixelcnn_helpers.workshop.hardware import hardware, versions
from pixelcnn_helpers.workshop.measure import MAKERS, measure
from pixelcnn_helpers.workshop.measure_between import figures_between, measure_between, ways
from pixelcnn_helpers.workshop.packing import packed
from pixelcnn_helpers.workshop.recipes import RECIPES, Recipe, two_stacks
from pixelcnn_helpers.workshop.train import network_of, trained

CLASSES = torch.arange(2128) % 10
BARS = 255 * (torch.arange(6).view(1, 1, 6, 1) <= CLASSES.view(-1, 1, 1, 1)).expand(-1, 1, 6, 5).to(torch.uint8)
DATA = Dataset("bars", 256, BARS, CLASSES, BARS[:40], CLASSES[:40])  # as high as their class says


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    """Empty folders for all that is written, and the CPU, where the same seed gives the same bits."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(pretrained, "MEASUREMENTS", tmp_path / "measurements")
    monkeypatch.setattr(places, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path / "weights")
    return tmp_path / "measurements"


def stacks(**options):
    torch.manual_seed(0)
    return GatedPixelCNN(**{"levels": 4, "features": 4, "blocks": 1, "classes": 10, **options})


def exit_code(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return stopped.value.code


# images as JSON


@pytest.mark.parametrize("shape", [(3, 2, 4, 5), (1, 1, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_images_there_and_back(shape, dtype):
    images = integers(shape, 16).to(dtype)
    text = json.dumps({"deep": [{"samples": images, "shape": [2]}]}, default=packed)
    assert len(text) < images.numel() + 100  # a letter for each pixel
    found = json.loads(text, object_hook=_unpacked)
    assert found["deep"][0]["shape"] == [2]
    assert found["deep"][0]["samples"].dtype == torch.uint8
    assert torch.equal(found["deep"][0]["samples"].to(dtype), images)


def test_images_in_any_order_in_memory():
    images = integers((3, 2, 4, 5), 16).transpose(2, 3)
    assert torch.equal(_unpacked(packed(images)), images.to(torch.uint8))


def test_every_level_has_its_letter():
    images = torch.arange(16).view(1, 1, 2, 8)
    assert packed(images) == {"shape": [1, 1, 2, 8], "pixels": "0123456789abcdef"}


@pytest.mark.parametrize(
    ("found", "error", "words"),
    [
        (torch.arange(17).view(1, 1, 1, 17), ValueError, ("images", "0 … 15", "0 … 16")),
        (torch.arange(-1, 3).view(1, 1, 2, 2), ValueError, ("images", "0 … 15", "-1 … 2")),
        (torch.rand(1, 1, 2, 2), TypeError, ("images", "integers", "float32")),
        (torch.zeros(2, 2, dtype=torch.long), ValueError, ("images", "(N, C, H, W)", "(2, 2)")),
        ({1, 2}, TypeError, ("images", "torch tensor", "set")),
        (object(), TypeError, ("images", "torch tensor", "object")),
    ],
)
def test_what_cannot_be_stored(found, error, words):
    with refused(error, *words):
        json.dumps({"samples": found}, default=packed)


# stored and found again


def test_measure_and_load(shelf, monkeypatch, capsys):
    samples = integers((2, 1, 3, 3), 16)
    monkeypatch.setitem(MAKERS, "reach", lambda: {"figure": 0.25, "samples": samples})
    main(["measure", "reach"])
    path = shelf / "reach.json"
    assert capsys.readouterr().out == f"{path}\n"
    assert list(shelf.iterdir()) == [path]
    found = load_measurement("reach")
    assert torch.equal(found.pop("samples"), samples.to(torch.uint8))
    assert isinstance(found.pop("seconds"), int)
    assert found == {"what": "reach", "hardware": hardware(), "versions": versions(), "figure": 0.25}


def test_measure_into_another_folder(shelf, tmp_path, monkeypatch):
    monkeypatch.setitem(MAKERS, "reach", dict)
    assert measure("reach", tmp_path / "a" / "b") == tmp_path / "a" / "b" / "reach.json"
    assert not shelf.exists()


def test_a_file_is_replaced_as_a_whole(shelf, monkeypatch):
    made = {"figure": 1}
    monkeypatch.setitem(MAKERS, "reach", lambda: made)
    path = measure("reach")
    old = path.read_bytes()

    def crashes(file, data, write=pathlib.Path.write_bytes):
        write(file, data[:10])
        raise OSError("disk full")

    made["figure"] = 2
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(pathlib.Path, "write_bytes", crashes)
        measure("reach")
    made["odd"] = object()
    with refused(TypeError, "images", "torch tensor", "object"):
        measure("reach")
    assert path.read_bytes() == old
    assert list(shelf.iterdir()) == [path]
    del made["odd"]
    assert json.loads(measure("reach").read_text())["figure"] == 2


def test_ctrl_c(shelf, monkeypatch):
    def pressed():
        raise KeyboardInterrupt

    monkeypatch.setitem(MAKERS, "reach", pressed)
    assert exit_code("measure", "reach") == 130
    assert not shelf.exists()


@pytest.mark.parametrize("name", ["nonsense", "", "../reach", "reach.json", None, 3])
def test_unknown_names(shelf, monkeypatch, name):
    monkeypatch.setitem(MAKERS, "reach", dict)
    with refused(ValueError, "what to measure must be one of reach, between", f"got {name!r}"):
        measure(name)
    with refused(ValueError, "name", "none are there", "install the package again", f"got {name!r}"):
        load_measurement(name)
    measure("reach")
    with refused(ValueError, "name must be one of 'reach'", f"got {name!r}"):
        load_measurement(name)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nonsense", ("reach, between", "'nonsense'")),
        ("reach", ("none are there", "'judge-mnist'")),
        ("ablation", ("MNIST", "could not be downloaded", "PIXELCNN_DATA")),
    ],
)
def test_errors_are_one_line(shelf, offline, monkeypatch, tmp_path, what, words):
    monkeypatch.setenv("PIXELCNN_DATA", str(tmp_path / "data"))
    said = exit_code("measure", what)
    assert said.startswith("python -m pixelcnn_helpers measure: ")
    assert "\n" not in said
    assert all(word in said for word in words), said
    assert not shelf.exists()




# near and far


@pytest.fixture
def reach(monkeypatch):
    """`measure_reach` of tiny networks and images, of whose samples the judge reads half as asked."""
    config = two_stacks(features=6, levels=4, classes=10)
    small = replace(RECIPES["conditional-mnist"], config=config, batch_size=32, compile=False)
    monkeypatch.setitem(RECIPES, "conditional-mnist", small)
    monkeypatch.setattr(reach_module, "load_dataset", {"mnist": DATA}.__getitem__)
    monkeypatch.setattr(reach_module, "load_pretrained", {"judge-mnist": None}.__getitem__)
    monkeypatch.setattr(reach_module, "read_as_asked", lambda model: 0.5)


def timeless(path):
    found = json.loads(path.read_text())
    return {**found, "seconds": 0, "networks": [{**one, "seconds": 0} for one in found["networks"]]}


def test_reach(shelf, reach, capsys):
    main(["measure", "reach"])
    assert capsys.readouterr().out.splitlines()[-1] == str(shelf / "reach.json")
    found = load_measurement("reach")
    near, far = found["networks"]
    assert (near["rows"], far["rows"]) == (11, 27)
    assert found["epochs"] == near["recipe"]["epochs"] == far["recipe"]["epochs"] == 2
    assert near["recipe"]["config"].pop("dilations") == [1] * 8
    assert far["recipe"]["config"].pop("dilations") == [1, 2, 4, 8, 1, 2, 4, 2]
    assert near["recipe"] == far["recipe"]
    assert found["gained"] == pytest.approx(near["nats_per_pixel"] - far["nats_per_pixel"])
    assert found["error"] > 0
    for one in (near, far):
        assert one["read_as_asked"] == 0.5
        assert one["samples"].shape == (20, 1, 6, 5)
        assert one["samples"].max() < 4
    assert not list(places.CHECKPOINTS.iterdir())


def test_reach_can_be_made_again_from_what_is_stored(shelf, reach):
    """Trained once more, and the gain and its error computed by hand."""
    measure("reach")
    found, weighed = load_measurement("reach"), []
    for one in found["networks"]:
        recipe = Recipe(**one["recipe"])
        model = network_of(recipe)
        trained(model, recipe, DATA, None)
        weighed.append(nats(model, DATA.test // 85, torch.eye(10)[DATA.test_classes]) / 30)
        assert one["nats_per_pixel"] == pytest.approx(weighed[-1].mean().item())
    assert found["error"] == pytest.approx((weighed[0] - weighed[1]).var().div(40).sqrt().item())


@pytest.mark.parametrize("rows", [11, 27])
def test_reach_stopped_and_gone_on_with(shelf, reach, monkeypatch, tmp_path, rows):
    """In the training of either network; what comes out is what comes out without a stop."""
    whole = timeless(measure("reach", tmp_path / "whole"))

    def stopping(model, *args, **options):
        def pressed(history):
            if model.reach == rows:
                raise KeyboardInterrupt

        return fit(model, *args, callback=pressed, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_module, "fit", stopping)
        measure("reach")
    assert not shelf.exists()
    left = {file.name for file in places.CHECKPOINTS.iterdir() if file.suffix != ".lock"}
    assert left == {"reach-11.pt"} | {f"reach-{rows}.pt"}
    assert timeless(measure("reach")) == whole
    assert not list(places.CHECKPOINTS.iterdir())


# between two classes


@pytest.fixture
def greys(monkeypatch, large):
    """Images of three classes, as bright as their class; a reader of brightness, and a network without classes."""
    classes = torch.arange(90) % 3
    images = (100 * classes.view(-1, 1, 1, 1) + integers((90, 1, 28, 28), 40)).to(torch.uint8)
    data = Dataset("greys", 256, images, classes, images[:60], classes[:60])
    neutral = GatedPixelCNN(levels=3, features=4, blocks=1).eval()
    shipped = {"judge-mnist": BrightnessReader().eval(), "neutral-mnist": neutral}
    shipped |= dict.fromkeys(("shortcut-mnist", "conditional-mnist", "between-mnist", "teacher-mnist"), large)
    monkeypatch.setattr(between_module, "load_pretrained", lambda name: (shipped[name], {}))
    monkeypatch.setattr(between_module, "load_dataset", lambda name: data)
    monkeypatch.setattr(between_module, "PAIRS", ((0, 1), (1, 2)))
    return data


def draws(a, b, weight, count):
    """As many images as asked for, the brighter the larger the weight."""
    return torch.full((count, 1, 28, 28), int(weight > 0.5))


def test_between(greys, monkeypatch, capsys):
    monkeypatch.setattr(between_module, "ways", lambda: {"one": (draws, True), "other": (draws, False)})
    found = measure_between(20)
    assert found["count"] == 20 and found["likely"].keys() == {"0 1", "1 2"}
    points = {(one["way"], *one["pair"], one["weight"]): one for one in found["points"]}
    assert len(points) == len(found["points"]) == 2 * (1 + 11 + 11 + 1)
    assert {key[3] for key in points if key[0] == "one"} == {k / 10 for k in range(11)}
    assert {key[3] for key in points if key[0] in ("real digits", "other")} == {0.5}

    real, averaged = points["real digits", 0, 1, 0.5], points["pixels averaged", 0, 1, 0.5]
    assert real["likely"][0] == pytest.approx(0.95, abs=0.06)
    assert real["leaning"][1] > 2 * averaged["leaning"][1]  # real ones are of one class each
    dark = points["one", 0, 1, 0.2]
    assert dark["leaning"] == [0.01, 0.0] and dark["truly"][0] == 0.0 and dark["on_pair"][0] == 1.0
    assert 0.03 < dark["truly"][1] < 0.06  # of 20 images, none is not never
    low, high = (points["pixels averaged", 0, 1, weight]["leaning"][0] for weight in (0.0, 1.0))
    assert low < 0.1 and high > 0.4  # the first class is the darker one
    assert points["one", 0, 1, 0.6]["leaning"][0] == pytest.approx(0.5)
    assert points["one", 0, 1, 0.6]["truly"][0] == 1.0
    assert not (places.CHECKPOINTS / "between.json").exists()


def test_what_a_point_says(greys):
    _, neutral = BrightnessReader(), GatedPixelCNN(levels=3, features=4, blocks=1).eval()
    images = integers((10, 1, 28, 28), 3)
    weighed = nats(neutral, images)
    limit = weighed.median().item()
    near = torch.cat([images[:4], integers((30, 1, 28, 28), 3, seed=1)])
    found = figures_between(images, 0, 1, BrightnessReader().eval(), neutral, near, limit)
    assert found["nats"] == pytest.approx([weighed.mean().item(), weighed.std().item() / 10**0.5], abs=1e-4)
    assert found["likely"][0] == (weighed <= limit).double().mean()
    away = torch.cdist(images.flatten(1).double(), near.flatten(1).double()).amin(1) / 2
    assert (away[:4] == 0).all()
    assert found["distance"] == pytest.approx([away.mean().item(), away.std().item() / 10**0.5], abs=1e-3)


def test_between_stopped_and_gone_on_with(greys, monkeypatch):
    asked = []

    def slow(a, b, weight, count):
        asked.append((a, b))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return draws(a, b, weight, count)

    monkeypatch.setattr(between_module, "ways", lambda: {"gone": (draws, False), "slow": (slow, False)})
    with pytest.raises(KeyboardInterrupt):
        measure_between(8)
    kept = (places.CHECKPOINTS / "between.json").read_text()
    monkeypatch.setattr(between_module, "ways", lambda: {"slow": (slow, False)})
    found = measure_between(8)
    assert asked == [(0, 1), (1, 2), (1, 2)]
    assert {one["way"] for one in found["points"]} == {"real digits", "pixels averaged", "slow"}
    for change in (lambda: measure_between(9), lambda: None):  # another count, and then other weights
        (places.CHECKPOINTS / "between.json").write_text(kept)
        asked[:] = [None, None]
        change() or (monkeypatch.setattr(between_module, "digests", lambda: {"judge-mnist": "y"}), measure_between(8))
        assert asked[2:] == [(0, 1), (1, 2)] * (len(asked[2:]) // 2)
    assert [one["pair"] for one in found["points"] if one["way"] == "slow"] == [[0, 1], [1, 2]]


@pytest.mark.parametrize("other", [False, True])
def test_what_was_learned_from_other_weights_is_not_gone_on_with(greys, monkeypatch, other):
    softened, there = places.CHECKPOINTS / "softened.pt", []

    def ways():
        there.append(softened.exists())
        softened.write_text("an hour of training")
        raise KeyboardInterrupt

    monkeypatch.setattr(between_module, "ways", ways)
    for digest in ("one", "other" if other else "one"):
        monkeypatch.setattr(between_module, "digests", lambda digest=digest: {"teacher-mnist": digest})
        with pytest.raises(KeyboardInterrupt):
            measure_between(8)
    assert there == [False, not other]


def test_every_way_draws(greys, large, monkeypatch):
    reader = BrightnessReader().eval()
    monkeypatch.setattr("pixelcnn_helpers.studies.between.load_pretrained", lambda name: (reader, {}))
    monkeypatch.setattr(between_module, "trained_on_softened_labels", lambda: large)
    for name, (draw, _) in ways().items():
        images = draw(0, 1, 0.5, 2)
        assert images.shape == (2, 1, 28, 28), name
        assert not torch.equal(images[0], images[1]), name


def test_every_way_is_of_its_network(monkeypatch):
    asked, names = [], ("shortcut-mnist", "conditional-mnist", "between-mnist")
    shipped = {name: stacks(levels=3) for name in names}
    monkeypatch.setattr(between_module, "load_pretrained", lambda name: (shipped[name], {}))
    monkeypatch.setattr(between_module, "trained_on_softened_labels", lambda: "softened")

    def noted(how):
        return lambda model, *_, **options: asked.append((how, model, options))

    for name in ("sample_between", "turning_points", "resampled"):
        monkeypatch.setattr(between_module, name, noted(name))
    told = {}
    for way, (draw, _) in ways().items():
        draw(0, 1, 0.5, 2)
        how, model, options = asked.pop()
        inner = getattr(model, "model", model)
        network = next((name for name, one in shipped.items() if one is inner), inner)
        kind = type(model).__name__, getattr(model, "geometric", None), getattr(model, "restore", None)
        told[way] = (how, network, kind if inner is not model else None, options)
    mixed = {"tries": 1}
    assert told == {
        "the blog's network, label mixed": ("sample_between", "shortcut-mnist", None, mixed),
        "two stacks, label mixed": ("sample_between", "conditional-mnist", None, mixed),
        "softened labels, one epoch": ("sample_between", "softened", None, mixed),
        "logits mixed": ("sample_between", "conditional-mnist", ("MixedClasses", True, 0.0), mixed),
        "probabilities mixed": ("sample_between", "conditional-mnist", ("MixedClasses", False, 0.0), mixed),
        "steered": ("sample_between", "conditional-mnist", ("MixedClasses", False, 0.5), mixed),
        "resampled": ("resampled", "conditional-mnist", None, {}),
        "against either-or": ("sample_between", "conditional-mnist", ("Contrasted", False, 0.0), mixed),
        "turning points": ("turning_points", "conditional-mnist", None, {}),
        "candidates": ("sample_between", "conditional-mnist", None, {}),
        "self-taught, label mixed": ("sample_between", "between-mnist", None, mixed),
        "self-taught, candidates": ("sample_between", "between-mnist", None, {}),
    }


# optimisers


@pytest.fixture
def optimizers(monkeypatch):
    """`measure_optimizers` of one tiny network; the list collects what it trains."""
    small = Recipe("PixelCNN", {"levels": 4, "features": 4, "layers": 2, "kernel_size": 3}, held_out=64, compile=False)
    monkeypatch.setattr(optimizers_module, "NETWORKS", {"small": (small, 64)})
    monkeypatch.setattr(optimizers_module, "load_dataset", {"mnist": DATA}.__getitem__)
    done = []

    def watched(model, images, labels, **options):
        done.append((options["optimizer"], options["learning_rate"], options["seed"]))
        assert (len(images), labels, options["steps"]) == (len(BARS) - 64, None, 4)
        return fit(model, images, labels, **options)

    monkeypatch.setattr(optimizers_module, "fit", watched)
    return done


def test_optimizers_each_at_its_best_rate(shelf, optimizers):
    found = load_measurement(measure("optimizers").stem)["networks"]["small"]
    assert len(optimizers) == len(set(optimizers)) == 2 * (3 + 2)  # three rates by one seed, the best by two more
    for name in ("muon", "adamw"):
        one = found[name]
        assert one["tried"][f"{one['learning_rate']}"] == min(one["tried"].values()) == one["bits_per_dim"][0]
        assert len(set(one["bits_per_dim"])) == 3
    gains = torch.tensor(found["adamw"]["bits_per_dim"]) - torch.tensor(found["muon"]["bits_per_dim"])
    assert found["gained"] == pytest.approx(gains.mean().item(), abs=1e-6)
    assert found["interval"] == pytest.approx(4.303 * gains.std().item() / 3**0.5, rel=1e-3)
    assert not list(places.CHECKPOINTS.iterdir())


def measured_after_a_stop(what, module, done, runs):
    """Measure, stopped after so many runs of `done`, and then again to the end."""
    watched = module.fit

    def pressed(*args, **options):
        if len(done) == runs:
            raise KeyboardInterrupt
        return watched(*args, **options)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "fit", pressed)
        measure(what)
    measure(what)


def test_optimizers_stopped_and_gone_on_with(shelf, optimizers):
    measured_after_a_stop("optimizers", optimizers_module, optimizers, runs=4)
    assert len(optimizers) == len(set(optimizers)) == 10  # none twice


# colour


@pytest.fixture
def colour(monkeypatch):
    """`measure_colour` on few small images, with two seeds; the list collects what is trained."""
    few = {"photographs": colour_module.photographs, "digits": colour_module.digits}

    def cut(task):
        return replace(
            task, train=task.train[:32, :, :8, :8], validation=task.validation[:4, :, :8, :8],
            test=task.test[:12, :, :8, :8], epochs=1, blocks=3,
        )  # fmt: skip

    done = []

    def watched(model, images, **options):
        done.append((type(model).__name__, images[0, 0, 0].tolist(), options["seed"]))
        return fit(model, images, **options)

    monkeypatch.setattr(colour_module, "photographs", lambda **options: cut(few["photographs"](**options)))
    monkeypatch.setattr(colour_module, "digits", lambda: cut(few["digits"]()))
    monkeypatch.setattr(colour_module, "SHAPE", {"embedding": 2, "blocks": 1, "first_kernel_size": 3})
    monkeypatch.setattr(colour_module, "ARMS", {arm: (kind, 6) for arm, (kind, _) in colour_module.ARMS.items()})
    for name, value in {"SEEDS": (0, 1), "SAMPLES": 2, "MIXTURES": (1,), "fit": watched}.items():
        monkeypatch.setattr(colour_module, name, value)
    return done


def test_colour_as_told(shelf, colour):
    found = load_measurement(measure("colour").stem)
    assert len(colour) == 2 * (4 + 4 + 1 + 2)  # orders of photographs and of digits, not relit, two heads
    for told in found["data"].values():
        arms = told["arms"]
        assert arms.keys() == {"separate", "no order", "R→G→B", "B→G→R"}
        assert arms["R→G→B"]["weights"] == arms["B→G→R"]["weights"]
        base = torch.tensor(arms["R→G→B"]["by_block"])
        for one in arms.values():
            assert len(one["channels"]) == 3 and len(one["by_block"]) == 3 and len(set(one["by_seed"])) == 2
            assert sum(one["channels"]) / 3 == pytest.approx(one["bits_per_dim"], rel=1e-5)
            assert sum(one["by_block"]) / 3 == pytest.approx(one["bits_per_dim"], rel=1e-5)
            more = torch.tensor(one["by_block"]) - base
            assert one["costs_more"] == pytest.approx(more.mean().item(), abs=1e-6)
            assert one["interval"] == pytest.approx(4.303 * more.std().item() / 3**0.5, abs=1e-4)
            assert one["samples"].shape == (2, 3, 8, 8)
    assert found["not_relit"] != found["data"]["photographs"]["arms"]["R→G→B"]["by_seed"]
    softmax, one = found["heads"]["networks"]
    assert softmax["head_weights"] == 24 * 256 + 256 and one["head_weights"] == 3 * 25
    assert not list(places.CHECKPOINTS.iterdir())


def test_blue_first_is_told_in_the_usual_order(shelf, colour, monkeypatch):
    """A network that was trained blue first gives its bits and samples as red, green, blue."""
    monkeypatch.setitem(colour_module.ARMS, "B→G→R", (GatedPixelCNN, 24))
    task = colour_module.digits()
    task = replace(task, train=task.train * 0 + torch.tensor([1, 2, 3], dtype=torch.uint8).view(3, 1, 1), epochs=100)
    task = replace(task, validation=task.train[:4], test=task.train[:3])
    found = colour_module.one_arm("B→G→R", task, 0)
    assert found["samples"].movedim(1, 0).flatten(1).mode(1).values.tolist() == [1, 2, 3]
    assert len(found["bits"]) == 3 and max(map(max, found["bits"])) < 0.5


def test_colour_stopped_and_gone_on_with(shelf, colour):
    measured_after_a_stop("colour", colour_module, colour, runs=5)
    assert len(colour) == 22  # none twice


# records


def test_records_are_a_log(shelf, reach, monkeypatch):
    monkeypatch.setattr(records_module, "load_dataset", {"mnist": DATA}.__getitem__)
    for _ in range(2):
        measure("records")
    log = load_measurement("records")
    first, second = log["records"]
    assert log["target"] == records_module.TARGET
    assert first["nats_per_pixel"] == second["nats_per_pixel"] > 0  # the same seed, so the same weights
    assert first["recipe"]["epochs"] == records_module.EPOCHS
    assert first["images"] == 2 * (128 // 32) * 32
    *_, line = records_module.told(log).splitlines()
    assert line.startswith(second["date"]) and f"{second['nats_per_pixel']:.4f}" in line
    assert hardware() in line
    assert not list(places.CHECKPOINTS.iterdir())
