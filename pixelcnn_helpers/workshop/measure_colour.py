"""`measure colour`: what the order of the channels is worth, and what a head for 256 levels costs."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from ..data import quantize
from ..likelihood import bits_per_dim
from ..models import GatedPixelCNN
from ..sampling import sample
from ..studies.colour import BlindToOwnPixel, SeparateChannels, channel_bits, with_logistic_head
from ..studies.datasets import VALIDATION, colour_digits, load_dataset, load_photo_patches, relit
from ..studies.intervals import half_width
from ..studies.records import live_weights
from ..training import History, fit
from .resumable import Runs

SEEDS = (0, 1, 2)
LEVELS, BATCH, RATE = 8, 16, 4e-3
SHAPE = {"embedding": 8, "blocks": 5, "first_kernel_size": 5, "dilations": [1, 2, 4, 1, 1]}
ARMS: dict[str, tuple[Callable, int]] = {  # network, features: as many weights in each as a width can bring about
    "separate": (SeparateChannels, 21),
    "no order": (BlindToOwnPixel, 35),
    "R→G→B": (GatedPixelCNN, 36),
    "B→G→R": (GatedPixelCNN, 36),
}
SAMPLES = 24
MIXTURES = (1, 2, 5, 10)


@dataclass
class Task:
    """Images to train on, to choose the epoch by, and to measure on; at 256 levels if `augment` redraws them."""

    train: torch.Tensor
    validation: torch.Tensor
    test: torch.Tensor
    epochs: int
    blocks: int  # of the test images
    augment: Callable | None = None


def measure_colour() -> dict:
    """Train each of `ARMS` on patches of photographs and on coloured digits, and each head on green alone.

    All have the same steps and batches, and nearly as many weights. The weights kept are those of the epoch that is
    best on validation images. R→G→B is also trained on the patches as they are, not relit.
    """
    runs = Runs("colour")
    patches, green = photographs(), photographs(levels=256, channels=slice(1, 2), size=8, epochs=1)
    plain = replace(patches, train=quantize(patches.train, LEVELS), augment=None)
    found = {
        "batch_size": BATCH, "learning_rate": RATE, "seeds": list(SEEDS), "levels": LEVELS, "shape": SHAPE,
        "data": {"photographs": orders(runs, "photographs", patches), "digits": orders(runs, "digits", digits())},
        "not_relit": seeds_of(runs, "photographs as they are, R→G→B", partial(one_arm, "R→G→B", plain))["by_seed"],
        "heads": {"epochs": green.epochs, "levels": 256, "networks": [
            {"mixtures": number} | seeds_of(runs, f"{number} mixtures", partial(one_head, number, green))
            for number in (0, *MIXTURES)
        ]},
    }  # fmt: skip
    runs.remove()
    return found


def orders(runs: Runs, name: str, task: Task) -> dict:
    """All of `ARMS` on one kind of images: bits by channel, and by how much each costs more than R→G→B.

    An interval is of a mean over blocks, of differences that are means over seeds.
    """
    arms = {arm: seeds_of(runs, f"{name}, {arm}", partial(one_arm, arm, task)) for arm in ARMS}
    for one in arms.values():
        bits = torch.tensor(one.pop("bits")).mean(0)  # (seeds, N, 3) -> (N, 3)
        one["channels"] = bits.mean(0).tolist()
        one["by_block"] = bits.unflatten(0, (task.blocks, -1)).mean((1, 2)).tolist()
    for one in arms.values():
        more = [a - b for a, b in zip(one["by_block"], arms["R→G→B"]["by_block"], strict=True)]
        one |= {"costs_more": statistics.mean(more), "interval": half_width(more)}
    return {"blocks": task.blocks, "epochs": task.epochs, "arms": arms}


def seeds_of(runs: Runs, key: str, work: Callable[[int], dict]) -> dict:
    """What `work(seed)` tells for all seeds together; samples are those of the first."""
    found = []
    for seed in SEEDS:
        found.append(runs.result(f"{key}, {seed}", partial(work, seed)))
        print(f"{key}, seed {seed}: {found[-1]['bits_per_dim']:.4f} bits/dim", flush=True)
    together = found[0] | {"by_seed": [one["bits_per_dim"] for one in found]}
    together["bits_per_dim"] = statistics.mean(together["by_seed"])
    if "bits" in together:
        together["bits"] = [one["bits"] for one in found]
    return together


def photographs(levels: int = LEVELS, channels: slice = slice(None), size: int = 16, epochs: int = 3) -> Task:
    """Patches, relit in training. A block is a row of the test part: the patches beside one another."""
    data = load_photo_patches(size, levels=256)
    train, validation = data.train[:-VALIDATION, channels], data.train[-VALIDATION:, channels]
    validation, test = quantize(validation, levels), quantize(data.test[:, channels], levels)
    rows = len(test) // (64 // size)
    return Task(train, validation, test, epochs, rows, lambda images, draw: quantize(relit(images, draw), levels))


def digits() -> Task:
    """The bundled digits in colour, each one a block."""
    data, held = load_dataset("digits"), 300
    train, test = (
        colour_digits(images, classes, LEVELS, seed, data.levels)
        for images, classes, seed in ((data.train, data.train_classes, 0), (data.test, data.test_classes, 1))
    )
    return Task(train[:-held], train[-held:], test, epochs=12, blocks=len(test))


def one_arm(arm: str, task: Task, seed: int) -> dict:
    """Train one network, and tell the bits of each held-out image's channels, in the order R, G, B, and samples."""
    kind, features = ARMS[arm]
    torch.manual_seed(seed)
    model = kind(channels=3, levels=LEVELS, features=features, **SHAPE)
    turned = arm == "B→G→R"
    if turned:  # the network's first channel holds blue
        train, validation, test = (images.flip(1) for images in (task.train, task.validation, task.test))
        task = replace(task, train=train, validation=validation, test=test)
    history = learn(model, task, seed)
    bits = channel_bits(model, task.test)
    samples = sample(model, SAMPLES, method="cached" if kind is GatedPixelCNN else "guess")
    bits, samples = (bits.flip(1), samples.flip(1)) if turned else (bits, samples)
    return {
        "weights": live_weights(model), "seconds": history.seconds[-1], "bits_per_dim": bits.mean().item(),
        "bits": bits.tolist(), "samples": samples,
    }


def one_head(mixtures: int, task: Task, seed: int) -> dict:
    """Train a one-channel network for 256 levels, with a softmax if there are no mixtures."""
    torch.manual_seed(seed)
    model = GatedPixelCNN(levels=256, features=24, **SHAPE | {"embedding": 16})
    if mixtures:
        with_logistic_head(model, mixtures)
    learn(model, task, seed)
    weights = sum(weight.numel() for weight in model.head.parameters())
    return {"head_weights": weights, "bits_per_dim": bits_per_dim(model, task.test)}


def learn(model, task: Task, seed: int) -> History:
    """Train a network on a task as all are trained, and leave it on the CPU."""
    history = fit(
        model, task.train, epochs=task.epochs, batch_size=BATCH, learning_rate=RATE, seed=seed, augment=task.augment,
        validation=(task.validation, None), progress=False,
    )
    model.cpu()
    return history
