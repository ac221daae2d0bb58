"""Training the networks that ship: `python -m pixelcnn_helpers train NAME`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from .. import pretrained
from ..checkpoint import write_atomically
from ..checks import check_int
from ..pretrained import kind_called, load_pretrained, save_model
from ..studies.between import reader_for
from ..studies.datasets import Dataset, load_dataset
from ..studies.judges import Classifier, fit_classifier
from ..studies.together import VQVAE, fit_vqvae, pixel_cost
from ..training import History, NoCompiler, fit, get_accelerator
from . import places
from .data import as_seen, augmentation, label_rows
from .evaluate import measured, told
from .hardware import hardware, versions
from .publish import publish
from .recipes import LABELS, Recipe, recipe_called
from .self_training import files_of_rounds, self_taught, softened
from .settings import changed, settings_of


def train(name: str, resume: bool = False, settings: Iterable[str] = (), folder: Path | None = None) -> Path | None:
    """Train a recipe and write its weights, with a card that tells how they were made and what they reach.

    settings: changes to the recipe or to the network's arguments, "epochs=1" or "features=16" say.
    folder: where NAME.safetensors goes, `weights_folder()` if None; one that it replaces is kept in checkpoints/. A
    checkpoint every minute lies there, too (not for classifiers, which take minutes). resume goes on from it, with the
    settings that it was begun with. Returns None if it was interrupted.
    Raises ValueError for an unknown recipe or setting, a checkpoint without `resume`, or one begun with other settings;
    FileNotFoundError without the data, and what `fit` raises.
    """
    recipe, begun = changed(recipe_called(name), settings), places.CHECKPOINTS / f"{name}.json"
    checkpoint = begun.with_suffix(".pt")
    left = [checkpoint] if checkpoint.exists() else files_of_rounds(checkpoint)
    if left and not resume:
        raise ValueError(f"{left[0]} is of an unfinished training: --resume goes on with it, or delete it")
    model, machines = network_of(recipe), []
    recipe = replace(recipe, config=model.config)  # with the defaults of today
    if left and begun.exists():
        before, machines = begun_with(begun)
        asked = settings_of(recipe)
        differ = [f"{key}={json.dumps(value)}" for key, value in settings_of(before).items() if value != asked.get(key)]
        if differ and settings:
            raise ValueError(f"{left[0]} was begun with {', '.join(differ)}: resume without --set, or delete it")
        recipe, model = before, network_of(before)
    data, here, new = load_dataset(recipe.data), hardware(get_accelerator().device), not begun.exists()
    machines = [*machines, here] if here not in machines else machines
    write_atomically(begun, json.dumps({"recipe": asdict(recipe), "hardware": machines}, indent=1) + "\n")

    weights = sum(parameter.numel() for parameter in model.parameters())
    print(f"{name}: {recipe.network}, {weights:,} weights, on {data}")
    try:
        history = trained(model, recipe, data, checkpoint)
    except (ValueError, NoCompiler):
        there = [checkpoint] if checkpoint.exists() else files_of_rounds(checkpoint)
        if new and there == left:  # refused before anything was learned
            places.remove(begun, *([] if there else [checkpoint]))
        raise
    if history is None:
        print(f"Stopped. python -m pixelcnn_helpers train {name} --resume goes on from {places.CHECKPOINTS}.")
        return None
    images, epochs = len(data.train) - recipe.held_out, len(history.train)
    if not isinstance(model, Classifier):  # its history has an entry more for each stop within an epoch
        epochs = history.steps[-1] // max(1, images // recipe.batch_size)
    card = {
        "recipe": name, **asdict(recipe), "weights": weights, "images": images, "epochs_trained": epochs,
        "seconds": round(history.seconds[-1]), "hardware": ", ".join(machines),
        "versions": versions(), "history": asdict(history), "test": measured(model.cpu(), recipe, data),
    }
    path = (folder or weights_folder()) / f"{name}.safetensors"
    if path.exists():
        kept = places.CHECKPOINTS / f"{name}.before.safetensors"
        write_atomically(kept, path.read_bytes())
        print(f"The weights that were there before are kept in {kept}.")
    save_model(model, path, card)
    if folder is not None or places.IN_CHECKOUT:
        publish(path)
    places.remove(checkpoint, begun, *files_of_rounds(checkpoint))
    print(f"{path}: {told(card['test'])}")
    return path


def begun_with(path: Path) -> tuple[Recipe, list[str]]:
    """The recipe that an unfinished training was begun with, and the machines that it ran on."""
    try:
        log = json.loads(path.read_text(encoding="utf-8"))
        recipe, machines = Recipe(**log["recipe"]), list(log["hardware"])
        network_of(recipe)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        fix = "delete it, and resume with the settings of that training"
        raise ValueError(f"{path} is damaged ({type(error).__name__}): {fix}") from None
    return recipe, machines


def weights_folder() -> Path:
    """Where trained weights go: in a checkout into the package, otherwise into the current folder."""
    return pretrained.WEIGHTS if places.IN_CHECKOUT else Path.cwd()


def network_of(recipe: Recipe):
    """A recipe's network before its training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        try:
            model = kind_called(recipe.network)(**recipe.config)
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
    if recipe.drawn and not isinstance(model, Classifier) and model.levels != 2:
        raise ValueError(f"drawn pixels are black or white, so levels must be 2, got {model.levels}")
    return model


def trained(model, recipe: Recipe, data: Dataset, checkpoint: Path):
    """Train a recipe's network in place; its history, or None if it was interrupted."""
    split = len(data.train) - check_int("held_out", recipe.held_out, 1)
    check_int("the images left to train on", split, 1)
    options = {"epochs": recipe.epochs, "batch_size": recipe.batch_size, "learning_rate": recipe.learning_rate}
    options |= {"seed": recipe.seed}
    if isinstance(model, Classifier):
        plain = recipe.optimizer == "adamw" and recipe.labels == "classes"
        changes = recipe.drawn or recipe.relit or recipe.mutated
        if changes or recipe.patience or recipe.compile or not plain:
            needs = "optimizer=adamw, drawn=false, relit=false, mutated=0, patience=0, compile=false and labels=classes"
            raise ValueError(f"a classifier's recipe needs {needs}")
        held = data.train[split:], data.train_classes[split:]
        try:
            return fit_classifier(
                model, data.train[:split], data.train_classes[:split], validation=held, rotation=recipe.rotation,
                **options,
            )
        except KeyboardInterrupt:  # minutes are lost
            return None
    if isinstance(model, VQVAE):
        return trained_vqvae(model, recipe, as_seen(recipe, data.train, data.levels), split)
    labels, augment = label_rows(model, data.train_classes), augmentation(recipe, data.levels)
    images = data.train[:split] if augment else as_seen(recipe, data.train[:split], data.levels)
    held = as_seen(recipe, data.train[split:], data.levels), None if labels is None else labels[split:]
    labels = None if labels is None else labels[:split]
    options |= {"validation": held, "patience": recipe.patience or None, "compile": recipe.compile}
    options |= {"optimizer": recipe.optimizer}
    if recipe.labels != "classes":
        if augment or labels is None or recipe.data != "mnist" or not recipe.start:
            needs = "data=mnist, a network with classes and a start, rotation=0, drawn=false, relit=false and mutated=0"
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


def trained_vqvae(model: VQVAE, recipe: Recipe, images: torch.Tensor, split: int) -> History | None:
    """Train a VQ-VAE on all images but those from `split` on, which are measured at the end; it keeps its last weights.

    The history has one entry, in bits/dim of pixels: of the whole training loss, and of held-out pixels given codes.
    """
    changes = recipe.rotation or recipe.drawn or recipe.relit or recipe.mutated or recipe.patience or recipe.compile
    if changes or (recipe.optimizer, recipe.labels) != ("adam", "classes"):
        needs = "optimizer=adam, labels=classes, compile=false, and no changes of images and no patience"
        raise ValueError(f"the recipe of a VQ-VAE needs {needs}")
    steps, began = recipe.epochs * max(1, split // recipe.batch_size), time.perf_counter()
    try:
        losses = fit_vqvae(
            model, images[:split], steps=steps, batch_size=min(recipe.batch_size, split),
            learning_rate=recipe.learning_rate, seed=recipe.seed,
        )  # fmt: skip
    except KeyboardInterrupt:  # minutes are lost
        return None
    seconds, bits = time.perf_counter() - began, images[0].numel() * math.log(2)
    model.size = tuple(images.shape[2:])
    last, held = losses[-(steps // recipe.epochs) :], pixel_cost(model, images[split:]).mean().item()
    return History([steps], [sum(last) / len(last) / bits], [held / bits], [seconds])
