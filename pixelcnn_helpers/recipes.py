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

from .checks import check_int
from .classifiers import accuracy, class_probabilities, fit_classifier
from .data import bernoulli, load_dataset, quantize, rotated
from .likelihood import class_posterior, nats
from .pretrained import KINDS, WEIGHTS, load_pretrained, pretrained_names, publish, save_model
from .sampling import sample
from .training import fit

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
JUDGED_LEVELS = (2, 4, 8, 16, 256)
NEAR_AND_FAR = (1, 2, 4, 8, 1, 2, 4, 2)  # dilations: with a first 7×7, a field of 27 rows above


@dataclass(frozen=True)
class Recipe:
    """A training: the network (class and arguments), the data, and how it is trained. `--set` changes any of it.

    data: "mnist", "fashion", "emnist-letters" or "digits". drawn: black and white pixels, drawn afresh as
    Bernoulli(x/255) every time. rotation: each image turned by up to so many degrees, other ones every time.
    held_out: so many training images, the last ones, choose the best epoch. patience: stop after so many without
    a better one. compile: see `fit`.
    """

    network: str
    config: dict = field(default_factory=dict)
    data: str = "mnist"
    epochs: int = 4
    batch_size: int = 64
    learning_rate: float = 2e-3
    seed: int = 0
    drawn: bool = False
    rotation: float = 0.0
    held_out: int = 2000
    patience: int = 0
    compile: bool = True


def two_stacks(features: int = 48, levels: int = 8, classes: int = 0) -> dict:
    """Arguments of a `GatedPixelCNN` whose field reaches all 27 rows above the last one of MNIST."""
    return {"levels": levels, "features": features, "blocks": 8, "dilations": list(NEAR_AND_FAR), "classes": classes}


TO_READ = {"epochs": 12, "batch_size": 128, "learning_rate": 4e-3, "rotation": 10.0}
RECIPES = {
    "conditional-mnist": Recipe("GatedPixelCNN", two_stacks(classes=10), epochs=14),
    "judge-mnist": Recipe("ConvClassifier", {"width": 24}, seed=41, **TO_READ),
    "teacher-mnist": Recipe("ResidualClassifier", {"width": 32}, seed=7, **TO_READ),
    "shortcut-mnist": Recipe("ShortcutPixelCNN", {"levels": 8, "features": 64, "blocks": 6, "classes": 10}, epochs=4),
    "neutral-mnist": Recipe("GatedPixelCNN", two_stacks(), epochs=6, seed=3),
    "pixelcnn-mnist": Recipe("PixelCNN", {"levels": 256}, epochs=4),
    "gated-mnist": Recipe("GatedPixelCNN", two_stacks(features=64, levels=256), epochs=4),
    "gated-binary-mnist": Recipe("GatedPixelCNN", two_stacks(levels=2), epochs=6, drawn=True),
}


def train(name: str, resume: bool = False, settings: Iterable[str] = (), folder: Path = WEIGHTS) -> Path | None:
    """Train a recipe and write `folder/NAME.safetensors`, whose card tells how it was made and what it reaches.

    settings: changes to the recipe or to the network's arguments, "epochs=1" or "features=16" say.
    A checkpoint every minute lies in checkpoints/ (not for classifiers, which take minutes); resume goes on from there.
    Returns None if it was interrupted.
    Raises ValueError for an unknown recipe or setting, or a checkpoint that nobody asked to resume.
    """
    recipe = changed(recipe_called(name), settings)
    checkpoint = CHECKPOINTS / f"{name}.pt"
    if checkpoint.exists() and not resume:
        raise ValueError(f"{checkpoint} is of an unfinished training: --resume goes on with it, or delete it")
    data = load_dataset(recipe.data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        try:
            model = KINDS[recipe.network](**recipe.config)
        except TypeError as error:
            raise ValueError(error) from None  # what a setting may bring about is a ValueError
    recipe = replace(recipe, config=model.config)  # with the defaults of today
    weights = sum(parameter.numel() for parameter in model.parameters())
    print(f"{name}: {recipe.network}, {weights:,} weights, on {data}")
    split = len(data.train) - check_int("held_out", recipe.held_out, 1)
    check_int("the images left to train on", split, 1)
    options = {"epochs": recipe.epochs, "batch_size": recipe.batch_size, "learning_rate": recipe.learning_rate}
    options |= {"seed": recipe.seed}
    if is_classifier(model):
        validation = data.train[split:], data.train_classes[split:]
        try:
            history = fit_classifier(
                model, data.train[:split], data.train_classes[:split], validation=validation,
                rotation=recipe.rotation, **options,
            )
        except KeyboardInterrupt:
            print("Stopped; a classifier takes minutes and leaves no checkpoint, so nothing is kept.")
            return None
        steps = len(history.train) * max(1, split // recipe.batch_size)
    else:
        images, augment = data.train[:split], _augment(recipe, data.levels)
        if augment is None:
            images = as_seen(recipe, images, data.levels)
        labels = label_rows(model, data.train_classes)
        held_labels = None if labels is None else labels[split:]
        history = fit(
            model, images, None if labels is None else labels[:split], augment=augment, checkpoint=checkpoint,
            validation=(as_seen(recipe, data.train[split:], data.levels), held_labels),
            patience=recipe.patience or None, compile=recipe.compile, **options,
        )
        if history.interrupted:
            print(f"python -m pixelcnn_helpers train {name} --resume goes on from {checkpoint}.")
            return None
        steps = history.steps[-1]
    card = {
        "recipe": name, **asdict(recipe), "weights": weights, "images": split,
        "images_seen": steps * min(recipe.batch_size, split), "seconds": round(history.seconds[-1]),
        "hardware": hardware(), "versions": versions(), "history": asdict(history),
    }
    card["test"] = measured(model.cpu(), recipe, data)
    path = save_model(model, folder / f"{name}.safetensors", card)
    publish(path)
    checkpoint.unlink(missing_ok=True)
    print(f"{path}: {_told(card['test'])}")
    return path


def evaluate(name: str) -> dict:
    """Measure a network that ships again on the test images of its recipe; print it beside its card; return it.

    Raises ValueError for an unknown name, FileNotFoundError where its data set is not there and cannot be had.
    """
    model, card = load_pretrained(name)
    recipe = Recipe(**{key.name: card[key.name] for key in fields(Recipe)})
    found = measured(model, recipe, load_dataset(recipe.data))
    print(f"{name}\n  its card  {_told(card['test'])}\n  measured  {_told(found)}")
    return found


def measured(model, recipe: Recipe, data, every: int = 1) -> dict:
    """What the card says under "test", from every so many test images.

    A classifier: its accuracy at several numbers of grey levels. Another network: nats per image, with the standard
    deviation over images, nats per pixel, bits/dim, and nats per image over every 20th image, for a quick check.
    With ten classes, on MNIST, and no image left out: the share of 1,000 samples, 100 of each class, that `judge-mnist`
    reads as asked.
    """
    images, classes = data.test[::every], data.test_classes[::every]
    if is_classifier(model):
        return {"images": len(images), "accuracy": {
            str(levels): round(accuracy(model, images, classes, levels), 4) for levels in JUDGED_LEVELS
        }}
    # drawn before any are left out, so that each image is the same one in every measurement
    images = as_seen(recipe, data.test, data.levels)[::every]
    found = nats(model, images, label_rows(model, classes))
    told = {"images": len(images), "nats_per_image": found.mean().item(), "deviation": found.std().item()}
    told["nats_per_pixel"] = told["nats_per_image"] / images[0].numel()
    told["bits_per_dim"] = told["nats_per_pixel"] / math.log(2)
    if every > 1:
        return told
    told["every_20th"] = found[::20].mean().item()
    if model.classes:
        right = class_posterior(model, images[::5]).argmax(1) == classes[::5]
        told["bayes_accuracy"] = right.double().mean().item()
    if model.classes == 10 and recipe.data == "mnist" and "judge-mnist" in pretrained_names():
        told["read_as_asked"] = read_as_asked(model)
    return told


def read_as_asked(model, per_class: int = 100) -> float:
    """The share of samples, so many of each class, that the judge, who had no part in them, reads as asked for."""
    asked = torch.arange(model.classes).repeat_interleave(per_class)
    images = sample(model, labels=label_rows(model, asked))
    judge, _ = load_pretrained("judge-mnist")
    return (class_probabilities(judge, images, model.levels).argmax(1) == asked).double().mean().item()


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
        known = {one.name: getattr(recipe, one.name) for one in fields(recipe) if one.name != "config"}
        arguments = {
            name: one.default for name, one in inspect.signature(KINDS[recipe.network]).parameters.items()
        } | recipe.config
        if not equals or key not in known | arguments:
            raise ValueError(f"a setting must be KEY=VALUE with one of {', '.join(known | arguments)}, got {setting!r}")
        old = (known | arguments)[key]
        if old is not None and type(value) is not type(old) and not (type(old) is float and type(value) is int):
            raise ValueError(f"{key} must be like {old!r}, got {text!r}")
        if key == "network":
            if value not in KINDS:
                raise ValueError(f"network must be one of {', '.join(KINDS)}, got {value!r}")
            taken = inspect.signature(KINDS[value]).parameters.keys() & recipe.config.keys()
            recipe = replace(recipe, config={name: recipe.config[name] for name in sorted(taken)})
        recipe = replace(recipe, **({key: value} if key in known else {"config": recipe.config | {key: value}}))
    return recipe


def recipe_called(name: str) -> Recipe:
    if name not in RECIPES:
        raise ValueError(f"the recipe must be one of {', '.join(RECIPES)}, got {name!r}")
    return RECIPES[name]


def is_classifier(model) -> bool:
    return not hasattr(model, "levels")


def hardware() -> str:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return gpu or f"CPU ({platform.machine()}), {torch.get_num_threads()} threads"


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
    line = "{nats_per_image:.2f} nats per image, {nats_per_pixel:.4f} per pixel, {bits_per_dim:.4f} bits/dim"
    line = line.format(**test) + f" ({test['images']:,} test images)"
    return line + (f"; {test['read_as_asked']:.1%} of samples read as asked for" if "read_as_asked" in test else "")
