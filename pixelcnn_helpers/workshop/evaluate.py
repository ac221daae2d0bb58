"""What a network reaches on the test images: `python -m pixelcnn_helpers evaluate NAME`, and the "test" of its card."""

from __future__ import annotations

import math

import torch

from .. import pretrained
from ..likelihood import class_posterior, nats
from ..pretrained import load_pretrained, pretrained_names, save_model
from ..sampling import sample
from ..studies.between import PAIRS, leanings, sample_between
from ..studies.datasets import Dataset, load_dataset
from ..studies.judges import Classifier, accuracy, class_probabilities
from ..studies.together import VQVAE, pixel_cost
from . import places
from .data import as_seen, label_rows
from .publish import publish
from .recipes import Recipe, recipe_of

JUDGED_LEVELS = (2, 4, 8, 16, 256)


def evaluate(name: str, write: bool = False) -> dict:
    """Measure a network that ships again on the test images of its recipe; print it beside its card; return it.

    write: put what was measured on the card. Raises ValueError for an unknown name, FileNotFoundError where its data
    set is not there and cannot be had.
    """
    if write and not places.IN_CHECKOUT:
        raise ValueError("--write changes the weights of a checkout: clone the repository, and run it there")
    model, card = load_pretrained(name)
    recipe = recipe_of(card)
    found = measured(model, recipe, load_dataset(recipe.data))
    print(f"{name}\n  its card  {told(card['test'])}\n  measured  {told(found)}")
    if write:
        card["weights"] = sum(weight.numel() for weight in model.parameters())
        publish(save_model(model, pretrained.WEIGHTS / f"{name}.safetensors", card | {"test": found}))
    return found


def measured(model, recipe: Recipe, data: Dataset, every: int = 1) -> dict:
    """What the card says under "test", from every so many test images.

    A classifier: its accuracy at several numbers of grey levels. Another network: nats per image, with the standard
    deviation over images, nats per pixel, bits/dim; of a VQ-VAE, those of the pixels given their codes.
    With no image left out, besides: the same over every 20th image, for a quick check; for a network with classes, the
    share of the images whose class Bayes' rule finds; on MNIST, the share of 10,000 samples, 1,000 of each class, that
    `judge-mnist` reads as asked; and for one that taught itself, `truly_between`.
    """
    images, classes = data.test[::every], data.test_classes[::every]
    told = {"images": len(images)}
    if isinstance(model, Classifier):
        told["accuracy"] = {str(levels): accuracy(model, images, classes, levels) for levels in JUDGED_LEVELS}
        if every == 1:
            told["every_20th"] = measured(model, recipe, data, every=20)["accuracy"]
        return told
    # drawn before any are left out, so that each image is the same one in every measurement
    images = as_seen(recipe, data.test, data.levels)[::every]
    if isinstance(model, VQVAE):
        found, told["codes_used"] = pixel_cost(model, images), len(model.encode(images).unique())
    else:
        found = nats(model, images, label_rows(model, classes))
    told |= {"nats_per_image": found.mean().item(), "deviation": found.std().item()}
    told["nats_per_pixel"] = told["nats_per_image"] / images[0].numel()
    told["bits_per_dim"] = told["nats_per_pixel"] / math.log(2)
    if every > 1:
        return told
    told["every_20th"] = found[::20].mean().item()
    if model.classes:
        right = class_posterior(model, images).argmax(1) == classes
        told |= {"bayes_images": len(right), "bayes_accuracy": right.double().mean().item()}
    if model.classes == 10 and recipe.data == "mnist" and "judge-mnist" in pretrained_names():
        told |= {"samples": 10_000, "read_as_asked": read_as_asked(model, per_class=1000)}
        if recipe.labels == "self-taught":
            told["truly_between"] = truly_between(model)
    return told


def read_as_asked(model, per_class: int = 100) -> float:
    """The share of samples, so many of each class, that the judge, who had no part in them, reads as asked for."""
    asked = torch.arange(model.classes).repeat_interleave(per_class)
    starts, rows = range(0, len(asked), 1000), label_rows(model, asked)  # by 1,000, to spare memory
    images = torch.cat([sample(model, labels=rows[start : start + 1000], seed=start) for start in starts])
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


def told(test: dict) -> str:
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
