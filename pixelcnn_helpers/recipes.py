"""How the weights that ship were made: `python -m pixelcnn_helpers train NAME`, and `evaluate NAME` to check them."""

from __future__ import annotations

import inspect
import json
import math
import platform
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch.nn import functional as F

from . import pretrained
from .between import PAIRS, leanings, reader_for, sample_between
from .checks import check_int
from .classifiers import accuracy, class_probabilities, fit_classifier
from .data import Dataset, bernoulli, load_dataset, quantize, rotated
from .files import write_whole
from .likelihood import class_posterior, nats
from .pretrained import KINDS, load_pretrained, pretrained_names, publish, save_model
from .sampling import sample
from .self_training import files_of_rounds, self_taught, softened
from .training import NoCompiler, fit, get_accelerator, hardware

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
JUDGED_LEVELS = (2, 4, 8, 16, 256)
NEAR_AND_FAR = (1, 2, 4, 8, 1, 2, 4, 2)  # dilations: with a first 7×7, a field of 27 rows above


@dataclass(frozen=True)
class Recipe:
    """A training: the network (class and arguments), the data, and how it is trained. `--set` changes any of it.

    data: "mnist", "fashion", "emnist-letters" or "digits". held_out: so many training images, the last ones, are not
    trained on: they say which epoch was a PixelCNN's best (a classifier keeps its last).
    rotation: each image turned by up to so many degrees, other ones every time. drawn: black and white pixels, drawn
    afresh as Bernoulli(x/255) every time. patience: stop after so many epochs without a better one (0: never).
    compile: see `fit`. Classifiers know neither drawn nor patience nor compile.
    start: a network that ships, whose weights to begin with. labels: "classes"; "softened", readings of `teacher-mnist`
    at a temperature of 4; or "self-taught", in rounds, see `self_taught`, where so many images are wanted of each pair.
    """

    network: str
    config: dict = field(default_factory=dict)
    data: str = "mnist"
    epochs: int = 4
    batch_size: int = 64
    learning_rate: float = 2e-3
    seed: int = 0
    held_out: int = 2000
    rotation: float = 0.0
    drawn: bool = False
    patience: int = 0
    compile: bool = True
    start: str = ""
    labels: str = "classes"
    rounds: int = 0
    wanted: int = 0


def two_stacks(features: int = 48, levels: int = 8, classes: int = 0) -> dict:
    """Arguments of a `GatedPixelCNN` whose field reaches all 27 rows above the last one of MNIST."""
    return {"levels": levels, "features": features, "blocks": 8, "dilations": list(NEAR_AND_FAR), "classes": classes}


TO_READ = {"epochs": 12, "batch_size": 128, "learning_rate": 4e-3, "rotation": 10.0, "compile": False}
LABELS = ("classes", "softened", "self-taught")
RECIPES = {
    "conditional-mnist": Recipe("GatedPixelCNN", two_stacks(classes=10), epochs=14),
    "judge-mnist": Recipe("ConvClassifier", {"width": 24}, seed=41, **TO_READ),
    "teacher-mnist": Recipe("ResidualClassifier", {"width": 32}, seed=7, **TO_READ),
    "shortcut-mnist": Recipe("ShortcutPixelCNN", {"levels": 8, "features": 64, "blocks": 6, "classes": 10}, epochs=4),
    "neutral-mnist": Recipe("GatedPixelCNN", two_stacks(), epochs=6, seed=3),
    "between-mnist": Recipe(
        "GatedPixelCNN", two_stacks(classes=10), start="conditional-mnist", labels="self-taught", rounds=4, wanted=400,
        epochs=1, learning_rate=1.5e-3,
    ),
    "pixelcnn-mnist": Recipe("PixelCNN", {"levels": 256}, epochs=4),
    "gated-mnist": Recipe("GatedPixelCNN", two_stacks(features=64, levels=256), epochs=4),
    "gated-binary-mnist": Recipe("GatedPixelCNN", two_stacks(levels=2), epochs=6, drawn=True),
}


def train(name: str, resume: bool = False, settings: Iterable[str] = (), folder: Path | None = None) -> Path | None:
    """Train a recipe and write its weights, with a card that tells how they were made and what they reach.

    settings: changes to the recipe or to the network's arguments, "epochs=1" or "features=16" say.
    folder: where NAME.safetensors goes, the package's own weights if None; one that it replaces is kept in
    checkpoints/. A checkpoint every minute lies there, too (not for classifiers, which take minutes), and resume goes
    on from it, with the settings that it was begun with. Returns None if it was interrupted.
    Raises ValueError for an unknown recipe or setting, a checkpoint that nobody asked to resume, or one that was begun
    with other settings; FileNotFoundError without the data, and what `fit` raises.
    """
    recipe, begun = changed(recipe_called(name), settings), CHECKPOINTS / f"{name}.json"
    checkpoint = begun.with_suffix(".pt")
    left = [checkpoint] if checkpoint.exists() else files_of_rounds(checkpoint)
    if left and not resume:
        raise ValueError(f"{left[0]} is of an unfinished training: --resume goes on with it, or delete it")
    model, machines = network_of(recipe), []
    recipe = replace(recipe, config=model.config)  # with the defaults of today
    if left and begun.exists():
        log = json.loads(begun.read_text(encoding="utf-8"))
        before, machines = Recipe(**log["recipe"]), log["hardware"]
        asked = settings_of(recipe)
        differ = [f"{key}={json.dumps(value)}" for key, value in settings_of(before).items() if value != asked.get(key)]
        if differ and settings:
            raise ValueError(f"{left[0]} was begun with {', '.join(differ)}: resume without --set, or delete it")
        recipe, model = before, network_of(before)
    data, here, new = load_dataset(recipe.data), hardware(get_accelerator().device), not begun.exists()
    machines = [*machines, here] if here not in machines else machines
    write_whole(begun, json.dumps({"recipe": asdict(recipe), "hardware": machines}, indent=1) + "\n")

    weights = sum(parameter.numel() for parameter in model.parameters())
    print(f"{name}: {recipe.network}, {weights:,} weights, on {data}")
    try:
        history = trained(model, recipe, data, checkpoint)
    except (ValueError, NoCompiler):  # refused: what has just been begun leads nowhere
        if new:
            for file in {begun, *files_of_rounds(checkpoint)}.difference(left):
                file.unlink()
        raise
    if history is None:
        print(f"Stopped. python -m pixelcnn_helpers train {name} --resume goes on from what {CHECKPOINTS} keeps of it.")
        return None
    images, epochs = len(data.train) - recipe.held_out, len(history.train)
    if not is_classifier(model):  # its history has an entry more for each stop within an epoch
        epochs = history.steps[-1] // max(1, images // recipe.batch_size)
    card = {
        "recipe": name, **asdict(recipe), "weights": weights, "images": images, "epochs_trained": epochs,
        "seconds": round(history.seconds[-1]), "hardware": ", ".join(machines),
        "versions": versions(), "history": asdict(history), "test": measured(model.cpu(), recipe, data),
    }
    path = (folder or pretrained.WEIGHTS) / f"{name}.safetensors"
    if path.exists():
        kept = CHECKPOINTS / f"{name}.before.safetensors"
        write_whole(kept, path.read_bytes())
        print(f"The weights that were there before are kept in {kept}.")
    publish(save_model(model, path, card))
    for file in (checkpoint, begun, *files_of_rounds(checkpoint)):
        file.unlink(missing_ok=True)
    print(f"{path}: {_told(card['test'])}")
    return path


def network_of(recipe: Recipe):
    """A recipe's network before its training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        try:
            model = KINDS[recipe.network](**recipe.config)
        except TypeError as error:
            raise ValueError(error) from None  # what a setting may bring about is a ValueError
    if recipe.start:
        begun, _ = load_pretrained(recipe.start)
        if (type(begun), begun.config) != (type(model), model.config):
            raise ValueError(f"a training that starts from {recipe.start} needs its config, {begun.config}")
        model.load_state_dict(begun.state_dict())
        model.size = begun.size
    if recipe.labels not in LABELS:
        raise ValueError(f"labels must be one of {', '.join(LABELS)}, got {recipe.labels!r}")
    if recipe.drawn and not is_classifier(model) and model.levels != 2:
        raise ValueError(f"drawn pixels are black or white, so levels must be 2, got {model.levels}")
    return model


def trained(model, recipe: Recipe, data: Dataset, checkpoint: Path):
    """Train a recipe's network in place; its history, or None if it was interrupted."""
    split = len(data.train) - check_int("held_out", recipe.held_out, 1)
    check_int("the images left to train on", split, 1)
    options = {"epochs": recipe.epochs, "batch_size": recipe.batch_size, "learning_rate": recipe.learning_rate}
    options |= {"seed": recipe.seed}
    if is_classifier(model):
        if recipe.drawn or recipe.patience or recipe.compile or recipe.labels != "classes":
            raise ValueError("a classifier's recipe needs drawn=false, patience=0, compile=false and labels=classes")
        held = data.train[split:], data.train_classes[split:]
        try:
            return fit_classifier(
                model, data.train[:split], data.train_classes[:split], validation=held, rotation=recipe.rotation,
                **options,
            )
        except KeyboardInterrupt:  # minutes are lost
            return None
    labels, augment = label_rows(model, data.train_classes), _augment(recipe, data.levels)
    images = data.train[:split] if augment else as_seen(recipe, data.train[:split], data.levels)
    held = as_seen(recipe, data.train[split:], data.levels), None if labels is None else labels[split:]
    labels = None if labels is None else labels[:split]
    options |= {"validation": held, "patience": recipe.patience or None, "compile": recipe.compile}
    if recipe.labels != "classes":
        if augment or labels is None or recipe.data != "mnist" or not recipe.start:
            needs = "data=mnist, a network with classes and a start, rotation=0 and drawn=false"
            raise ValueError(f"labels={recipe.labels} needs {needs}")
        teacher = reader_for(model)
        if recipe.labels == "self-taught":
            return self_taught(
                model, teacher, images, labels, rounds=check_int("rounds", recipe.rounds, 1),
                wanted=check_int("wanted", recipe.wanted, 1), checkpoint=checkpoint, **options,
            )
        labels = softened(teacher, images, model.levels, temperature=4.0)
    history = fit(model, images, labels, augment=augment, checkpoint=checkpoint, **options)
    return None if history.interrupted else history


def evaluate(name: str, write: bool = False) -> dict:
    """Measure a network that ships again on the test images of its recipe; print it beside its card; return it.

    write: put what was measured on the card. Raises ValueError for an unknown name, FileNotFoundError where its data
    set is not there and cannot be had.
    """
    model, card = load_pretrained(name)
    recipe = recipe_of(card)
    found = measured(model, recipe, load_dataset(recipe.data))
    print(f"{name}\n  its card  {_told(card['test'])}\n  measured  {_told(found)}")
    if write:
        publish(save_model(model, pretrained.WEIGHTS / f"{name}.safetensors", card | {"test": found}))
    return found


def measured(model, recipe: Recipe, data: Dataset, every: int = 1) -> dict:
    """What the card says under "test", from every so many test images.

    A classifier: its accuracy at several numbers of grey levels. Another network: nats per image, with the standard
    deviation over images, nats per pixel, bits/dim.
    With no image left out, besides: the same over every 20th image, for a quick check; for a network with classes, the
    share of every fifth image whose class Bayes' rule finds; on MNIST, the share of 1,000 samples, 100 of each class,
    that `judge-mnist` reads as asked; and for one that taught itself, `truly_between`.
    """
    images, classes = data.test[::every], data.test_classes[::every]
    told = {"images": len(images)}
    if is_classifier(model):
        told["accuracy"] = {str(levels): accuracy(model, images, classes, levels) for levels in JUDGED_LEVELS}
        if every == 1:
            told["every_20th"] = measured(model, recipe, data, every=20)["accuracy"]
        return told
    # drawn before any are left out, so that each image is the same one in every measurement
    images = as_seen(recipe, data.test, data.levels)[::every]
    found = nats(model, images, label_rows(model, classes))
    told |= {"nats_per_image": found.mean().item(), "deviation": found.std().item()}
    told["nats_per_pixel"] = told["nats_per_image"] / images[0].numel()
    told["bits_per_dim"] = told["nats_per_pixel"] / math.log(2)
    if every > 1:
        return told
    told["every_20th"] = found[::20].mean().item()
    if model.classes:
        right = class_posterior(model, images[::5]).argmax(1) == classes[::5]
        told |= {"bayes_images": len(right), "bayes_accuracy": right.double().mean().item()}
    if model.classes == 10 and recipe.data == "mnist" and "judge-mnist" in pretrained_names():
        told |= {"samples": 1000, "read_as_asked": read_as_asked(model)}
        if recipe.labels == "self-taught":
            told["truly_between"] = truly_between(model)
    return told


def read_as_asked(model, per_class: int = 100) -> float:
    """The share of samples, so many of each class, that the judge, who had no part in them, reads as asked for."""
    asked = torch.arange(model.classes).repeat_interleave(per_class)
    images = sample(model, labels=label_rows(model, asked))
    judge, _ = load_pretrained("judge-mnist")
    return (class_probabilities(judge, images, model.levels).argmax(1) == asked).double().mean().item()


def truly_between(model, per_pair: int = 256) -> dict[str, float]:
    """For each of `PAIRS`, the share of samples asked for at one half that the judge finds truly between."""
    judge, _ = load_pretrained("judge-mnist")
    found = {}
    for a, b in PAIRS:
        images = sample_between(model, a, b, n=per_pair, tries=1)
        _, _, truly = leanings(class_probabilities(judge, images, model.levels), a, b)
        found[f"{a} and {b}"] = truly.double().mean().item()
    return found


def as_seen(recipe: Recipe, images: torch.Tensor, levels: int, generator: torch.Generator | None = None):
    """Images as the recipe's network sees them: fewer levels, or drawn in black and white (by a fixed seed if None)."""
    if recipe.drawn:
        return bernoulli(quantize(images, 256, levels), generator or torch.Generator().manual_seed(0))
    return quantize(images, recipe.config["levels"], levels)


def changed(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """The recipe with settings "KEY=VALUE" for its fields, or for arguments of its network, in this order.

    Another network keeps the arguments that it knows, too.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        known = settings_of(recipe)
        if not equals or key not in known:
            raise ValueError(f"a setting must be KEY=VALUE with one of {', '.join(known)}, got {setting!r}")
        old = known[key]
        if old is not None and type(value) is not type(old) and not (type(old) is float and type(value) is int):
            raise ValueError(f"{key} must be like {json.dumps(old)}, got {text!r}")
        if key == "network":
            if value not in KINDS:
                raise ValueError(f"network must be one of {', '.join(KINDS)}, got {value!r}")
            taken = inspect.signature(KINDS[value]).parameters.keys() & recipe.config.keys()
            recipe = replace(recipe, config={name: recipe.config[name] for name in sorted(taken)})
        in_recipe = key not in inspect.signature(KINDS[recipe.network]).parameters
        recipe = replace(recipe, **({key: value} if in_recipe else {"config": recipe.config | {key: value}}))
    return recipe


def settings_of(recipe: Recipe) -> dict:
    """All that `changed` can set, by key: the recipe's fields, and the arguments of its network, or their defaults."""
    known = {one.name: getattr(recipe, one.name) for one in fields(recipe) if one.name != "config"}
    arguments = inspect.signature(KINDS[recipe.network]).parameters
    return known | {name: one.default for name, one in arguments.items()} | recipe.config


def recipe_of(card: dict) -> Recipe:
    """The recipe on a card; what was not known yet when it was written has its default."""
    return Recipe(**{key.name: card[key.name] for key in fields(Recipe) if key.name in card})


def recipe_called(name: str) -> Recipe:
    if name not in RECIPES:
        raise ValueError(f"the recipe must be one of {', '.join(RECIPES)}, got {name!r}")
    return RECIPES[name]


def is_classifier(model) -> bool:
    return not hasattr(model, "levels")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": version("torch")}
    with suppress(PackageNotFoundError):  # a checkout that was never installed
        found["pixelcnn-helpers"] = version("pixelcnn-helpers")
    return found


def _augment(recipe: Recipe, levels: int):
    """What redraws a batch for `fit`, or None: turned in full resolution, then as the network sees it."""
    if not recipe.rotation and not recipe.drawn:
        return None

    def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if recipe.rotation:
            images = rotated(images, recipe.rotation, generator)
        return as_seen(recipe, images, levels, generator)

    return augment


def label_rows(model, classes: torch.Tensor) -> torch.Tensor | None:
    if model.classes and classes.max() >= model.classes:
        raise ValueError(f"classes must be at least {int(classes.max()) + 1} for these images, got {model.classes}")
    return F.one_hot(classes, model.classes).float() if model.classes else None


def _told(test: dict) -> str:
    """A card's "test" in a line."""
    if "accuracy" in test:
        found = ", ".join(f"{share:.2%} at {levels}" for levels, share in test["accuracy"].items())
        return f"accuracy by grey levels: {found} ({test['images']:,} test images)"
    line = f"{test['nats_per_image']:.2f} ± {test['deviation'] / test['images'] ** 0.5:.2f} nats per image, "
    line += f"{test['nats_per_pixel']:.4f} per pixel, {test['bits_per_dim']:.4f} bits/dim ({test['images']:,} images)"
    if "bayes_accuracy" in test:
        line += f"; Bayes' rule reads {test['bayes_accuracy']:.1%} of {test['bayes_images']:,} right"
    if "read_as_asked" in test:
        line += f"; {test['read_as_asked']:.1%} of {test['samples']:,} samples read as asked"
    if "truly_between" in test:
        shares = ", ".join(f"{share:.0%} of {pair}" for pair, share in test["truly_between"].items())
        line += f"; truly between at one half: {shares}"
    return line
