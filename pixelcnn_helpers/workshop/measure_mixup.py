"""`measure mixup`: what learned mixup does for a classifier with few labels, beside what costs less."""

from __future__ import annotations

import os
import time

import joblib
import numpy as np
import torch
from torch.nn import functional as F

from ..data import quantize
from ..likelihood import class_posterior, nats
from ..pretrained import load_pretrained
from ..studies import mixup
from ..studies.datasets import Dataset, load_dataset
from ..studies.mixup import Labelled, drawn_from, pixel_mixup, shifts_and_rotations
from ..studies.records import live_weights
from ..training import get_accelerator
from .recipes import NEAR_AND_FAR
from .resumable import Runs

DRAWS = 10
SIZES = {"mnist": (10, 50), "mnist-sample": (10, 20, 50)}  # labels of each class, a fifth of them for validation
LONGER = 50  # labels of each class where GenLabel and candidates are tried, too, with the open generator
LEVELS = 8  # of every image, drawn or real, so that no classifier can tell them by their levels
POOL = 1000  # images of each kind that a generator draws
UPDATES = 400
TRIES = 4
CLOSED = {"features": 24, "blocks": 8, "dilations": list(NEAR_AND_FAR), "embedding": 8}
STEPS = {"closed": 800, "open": 600}  # of 16 images, for a generator
UNLABELLED = 5000  # images that an open generator sees besides, with a teacher's guesses for labels
SETTINGS = {  # the one number that each kind of arm is tuned by, with three values
    "learning rate": (1e-3, 2e-3, 4e-3), "strength": (0.5, 1.0, 1.5), "alpha": (0.2, 0.5, 1.0),
    "share": (0.25, 0.5, 0.75),
}  # fmt: skip
RELABELLED = 500  # ghosts of pixel mixup that GenLabel's generator reads, ten passes each
JUDGED = 1000  # test images for a generator's nats
DISTURBED = 5  # every fifth test image is disturbed
SHOWN = 20


def measure_mixup() -> dict:
    """One draw of labels after the other, one on each core at a time; each is kept once it is finished.

    With MNIST draws share no image. Without it the sample that ships is drawn from, where they do.
    Seconds are CPU time.
    """
    try:
        name, data = "mnist", load_dataset("mnist")
    except FileNotFoundError:
        name, data = "mnist-sample", load_dataset("mnist-sample")
    print(f"labels are drawn from the {data}", flush=True)
    runs, bound = Runs(f"mixup-{name}"), bound_pools()
    tasks = [(per_class, draw) for draw in range(DRAWS) for per_class in SIZES[name]]
    left = [task for task in tasks if key_of(*task) not in runs.found]
    jobs = 1 if get_accelerator().device.type == "cuda" else os.cpu_count()
    done = joblib.Parallel(jobs, return_as="generator_unordered")(
        joblib.delayed(one_draw)(name, *task, bound, alone=jobs == 1) for task in left
    )
    for key, found in done:
        runs.result(key, lambda found=found: found)
        print(f"{key}: {found['seconds']:.0f} s", flush=True)
    draws = {str(one): [runs.found[key_of(one, draw)] for draw in range(DRAWS)] for one in SIZES[name]}
    runs.remove()
    fewest = int(data.train_classes.bincount().min())
    return {
        "data": name, "test_images": len(data.test), "levels": LEVELS, "pool": POOL, "updates": UPDATES,
        "tries": TRIES, "settings": SETTINGS, "draws": draws,
        "overlap": {str(one): one * DRAWS > fewest for one in SIZES[name]},
        "bound": {kind: images[:SHOWN] for kind, (images, _) in bound.items()},
    }  # fmt: skip


def key_of(per_class: int, draw: int) -> str:
    return f"{per_class} labels of each class, draw {draw}"


def bound_pools() -> dict:
    """What networks draw that have seen all labels: no fair arm, but an upper bound."""
    single, mixed = mixup.single_rows(POOL), mixup.mixed_rows(POOL)
    return {
        "single": (mixup.draw(load_pretrained("conditional-mnist")[0], single), single),
        "mixed": (mixup.draw(load_pretrained("between-mnist")[0], mixed), mixed),
    }


def one_draw(name: str, per_class: int, draw: int, bound: dict, alone: bool = True) -> tuple[str, dict]:
    """Every arm on one draw of labels, in three settings each, of which the validation labels choose one."""
    if not alone:
        torch.set_num_threads(1)
    began, data = time.process_time(), load_dataset(name)
    few = mixup.draw_labelled(data.train, data.train_classes, per_class, draw)
    x, rows = seen(few.train), F.one_hot(few.classes, 10).float()
    held, test = (seen(few.validation), few.validation_classes), (seen(data.test), data.test_classes)

    def train(steps=(), learning_rate=2e-3):
        net = mixup.small_classifier((28, 28), seed=draw)
        return mixup.fit_few(net, x, rows, steps, UPDATES, learning_rate=learning_rate, seed=draw)

    teacher = train([shifts_and_rotations()])
    arms, pools, generators = without_generator(), {"bound": bound}, {}
    for setting in STEPS:
        model, pools[setting], generators[setting] = generator_of(setting, few, data, teacher, draw)
        if setting == "open" and per_class == LONGER:
            pools[setting] |= chosen_and_relabelled(model, teacher, x, rows, draw)
    for setting, kinds in pools.items():
        arms |= with_pools(setting, kinds)
        images, labels = kinds["single"]
        learned = train([drawn_from(images / (LEVELS - 1), labels, 1.0)])
        accuracy = right(learned, *test).mean().item()
        generators.setdefault(setting, {})["classification_accuracy_score"] = accuracy
    nets = {arm: [train(**one) for one in settings] for arm, settings in arms.items()}
    found = {arm: outcome(three, held, test) for arm, three in nets.items()}
    result = {"arms": found, "generators": generators}
    if draw == 0:
        chosen = {arm: three[found[arm]["chosen"]] for arm, three in nets.items()}
        result["shown"] = shown(pools, few, x, rows) | {"changed": changed(chosen, test)}
    return key_of(per_class, draw), result | {"seconds": time.process_time() - began}


def seen(images: torch.Tensor) -> torch.Tensor:
    """Images of 256 levels as every classifier sees them: floats in 0 … 1 on few levels."""
    return quantize(images, LEVELS).float() / (LEVELS - 1)


def generator_of(setting: str, few: Labelled, data: Dataset, teacher, draw: int) -> tuple:
    """A PixelCNN for one draw of labels, what it draws of single and of mixed classes, and what it reaches.

    *closed*: it sees the labelled images only. *open*: it begins as `neutral-mnist`, which has seen the others without
    labels, and learns what a class is from the labelled ones and from a teacher's guesses about some others. The
    teacher is a classifier of the same few labels. These guesses are the pool "pseudo".
    """
    images, rows, pretrained, pools = few.train, F.one_hot(few.classes, 10).float(), None, {}
    if setting == "open":
        pretrained, _ = load_pretrained("neutral-mnist")
        others = unlabelled(few, data.train, draw)
        guesses = mixup.answers(teacher, seen(others)).exp()
        images, rows = torch.cat([images, others]), torch.cat([rows, guesses])
        pools["pseudo"] = quantize(others, LEVELS), guesses
    began = time.process_time()
    model = mixup.fit_generator(
        images, rows, LEVELS, data.levels, steps=STEPS[setting], config=CLOSED, pretrained=pretrained,
        augment=setting == "closed", seed=draw,
    )  # fmt: skip
    trained_in = time.process_time() - began
    single, mixed, seed = mixup.single_rows(POOL), mixup.mixed_rows(POOL, seed=draw), draw * 10 * POOL
    pools |= {
        "single": (mixup.draw(model, single, seed), single),
        "mixed": (mixup.draw(model, mixed, seed + POOL), mixed),
    }
    drawn_in = time.process_time() - began - trained_in
    test, known = (
        nats(model, quantize(images, LEVELS), F.one_hot(classes, 10).float()).mean().item()
        for images, classes in ((data.test[:JUDGED], data.test_classes[:JUDGED]), (few.train, few.classes))
    )
    return model, pools, {
        "weights": live_weights(model), "steps": STEPS[setting], "seconds_training": trained_in,
        "seconds_drawing": drawn_in, "nats": test, "nats_of_labelled": known,
    }  # fmt: skip


def unlabelled(few: Labelled, images: torch.Tensor, draw: int) -> torch.Tensor:
    """`UNLABELLED` random images that are not among the labelled ones, neither for training nor for validation."""
    labelled = {image.numpy().tobytes() for image in torch.cat([few.train, few.validation])}
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(draw))
    others = [place for place in order if images[place].numpy().tobytes() not in labelled]
    return images[torch.stack(others[:UNLABELLED])]


def chosen_and_relabelled(model, teacher, x: torch.Tensor, rows: torch.Tensor, draw: int) -> dict:
    """Mixed images, the best of some candidates by a teacher of the same few labels; and GenLabel's."""
    mixed, draws = mixup.mixed_rows(POOL, seed=draw), np.random.default_rng(draw)
    chosen = draws.integers(len(x), size=RELABELLED)
    ghosts, _ = pixel_mixup()(x[chosen], rows[chosen], draws)
    ghosts = (ghosts * (LEVELS - 1)).round().long()
    return {
        "candidates": (mixup.draw_nearest(model, mixed, teacher, TRIES, (draw + 1) * 100 * POOL), mixed),
        "GenLabel": (ghosts, class_posterior(model, ghosts).float()),  # Sohn et al. 2022, arXiv 2201.02354
    }


def without_generator() -> dict:
    """The arms that need no generator: their three settings, each as arguments of `fit_few`."""
    alphas, shifts = SETTINGS["alpha"], shifts_and_rotations()
    return {
        "nothing": [{"learning_rate": rate} for rate in SETTINGS["learning rate"]],
        "shifts": [{"steps": [shifts_and_rotations(strength)]} for strength in SETTINGS["strength"]],
        "pixel mixup": [{"steps": [pixel_mixup(alpha)]} for alpha in alphas],
        "shifts, pixel mixup": [{"steps": [shifts, pixel_mixup(alpha)]} for alpha in alphas],
    }


NAMES = {
    "single": "samples",
    "mixed": "learned mixup",
    "candidates": "candidates",
    "GenLabel": "GenLabel",
    "pseudo": "pseudo-labels",
}


def with_pools(setting: str, pools: dict) -> dict:
    """The arms that take a share of each batch from what a generator drew, alone and with shifts."""
    found = {}
    for kind, (images, rows) in pools.items():
        floats = images.float() / (LEVELS - 1)
        steps = [drawn_from(floats, rows, share) for share in SETTINGS["share"]]
        if setting != "bound":
            found[f"{setting}: {NAMES[kind]}"] = [{"steps": [step]} for step in steps]
        found[f"{setting}: shifts, {NAMES[kind]}"] = [{"steps": [step, shifts_and_rotations()]} for step in steps]
    return found


def outcome(nets: list, held: tuple, test: tuple) -> dict:
    """One arm's three classifiers: the one with the lowest validation loss is scored in full."""
    losses = [F.nll_loss(mixup.answers(net, held[0]), held[1]).item() for net in nets]
    chosen = losses.index(min(losses))
    by_image = [right(net, *test) for net in nets]
    some = tuple(part[::DISTURBED] for part in test)
    return {
        "validation_nll": losses, "accuracies": [one.mean().item() for one in by_image], "chosen": chosen,
        "by_class": [by_image[chosen][test[1] == one].mean().item() for one in range(10)],
    } | mixup.scores(nets[chosen], *test) | mixup.disturbed(nets[chosen], *some)  # fmt: skip


def right(net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """1 where the answer is right, else 0: float64 `(N,)`."""
    return (mixup.answers(net, images).argmax(1) == classes).double()


def shown(pools: dict, few: Labelled, x: torch.Tensor, rows: torch.Tensor) -> dict:
    """Some images of each kind, with their labels."""
    return {
        "labelled": quantize(few.train[:: max(1, len(few.train) // SHOWN)][:SHOWN], LEVELS),
    } | {
        f"{setting}, {kind}": {"images": images[:SHOWN], "rows": labels[:SHOWN].tolist()}
        for setting, kinds in pools.items() for kind, (images, labels) in kinds.items()
    }  # fmt: skip


def changed(nets: dict, test: tuple) -> dict:
    """Test digits that learned mixup reads right and shifts alone do not, and the other way round."""
    before, after = (right(nets[arm], *test) for arm in ("shifts", "open: shifts, learned mixup"))
    return {
        name: {"count": int(where.sum()), "images": (test[0][where][:SHOWN] * (LEVELS - 1)).round().long(),
               "classes": test[1][where][:SHOWN].tolist()}
        for name, where in (("gained", after > before), ("lost", before > after))
    }  # fmt: skip
