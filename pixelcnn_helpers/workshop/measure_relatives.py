"""`measure relatives`: a PixelCNN beside a VAE, a GAN and a transformer, and together with other models."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from ..data import quantize
from ..likelihood import nats
from ..models import GatedPixelCNN
from ..pretrained import load_pretrained
from ..sampling import sample
from ..studies.datasets import Dataset, load_dataset
from ..studies.fidelity import classes_drawn, fit_reader, nearest_distances, precision_and_coverage
from ..studies.intervals import half_width
from ..studies.judges import class_probabilities
from ..studies.records import live_weights
from ..studies.relatives import (
    GAN,
    VAE,
    GreyVAE,
    ImageTransformer,
    conv_down,
    descend,
    fit_gan,
    gan_sample,
    vae_bound,
    vae_sample,
)  # fmt: skip
from ..studies.together import LearnedClasses, chosen_by, fit_learned_classes, use_of_classes
from ..training import fit
from .measure_likelihood import share
from .resumable import Runs

SEEDS = (0, 1, 2, 3, 4)
NO_NORM = "GAN, no batch norm"
STEPS = {"PixelCNN": 10, "VAE": 3000, "GAN": 2000, "transformer": 1000, NO_NORM: 2000}  # of the PixelCNN: epochs
NARROW = {"features": 24, "blocks": 4, "embedding": 8}
BOUNDS = (1, 10, 100)  # samples of the importance-weighted bound
SHOWN = 20
TIMED = 1000  # samples
LEARNED_SEEDS, LEARNED_STEPS, LEARNED_CLASSES = (0, 1, 2), 400, 10
FULL_SIGHT = {"features": 16, "blocks": 4, "embedding": 8}
SHORT_SIGHT = FULL_SIGHT | {"blocks": 1, "first_kernel_size": 3}
LEARNED = {  # the decoder's arguments, and the free nats
    "full sight": (FULL_SIGHT, 0.0),
    "short sight": (SHORT_SIGHT, 0.0),
    "narrow": (FULL_SIGHT | {"features": 4}, 0.0),
    "full sight, 2 nats free": (FULL_SIGHT, 2.0),
    "short sight, 2 nats free": (SHORT_SIGHT, 2.0),
}
DRAWN, KEPT, CRITIC_STEPS = 4000, 500, 600  # digits of `neutral-mnist`: half teach a critic, half are chosen from


def measure_relatives() -> dict:
    """Each part is kept once it is finished. Nothing is chosen by the test images."""
    mnist, digits, runs = load_dataset("mnist"), load_dataset("digits"), Runs("relatives")
    features, head = fit_reader(digits.train, digits.train_classes, digits.levels)
    found = {
        "reader": share(read(features, head, digits.test, digits.levels) == digits.test_classes),
        "side_by_side": {
            name: seeds_of(runs, name, SEEDS, partial(one_model, name, digits, features, head)) for name in STEPS
        },
        "real": fidelity(digits.train[: len(digits.test)], digits, features, head)
        | {"nearest": nearest_distances(digits.test, digits.train, digits.levels).mean().item()},
        "grey": {
            pixels: runs.result(f"grey, {pixels}", partial(grey, pixels, digits))
            for pixels in ("squared", "black and white")
        },
        "learned": {
            arm: seeds_of(runs, f"learned, {arm}", LEARNED_SEEDS, partial(learned, arm, digits)) for arm in LEARNED
        },
        "critic": runs.result("critic", partial(critic, mnist)),
    }  # fmt: skip
    runs.remove()
    return {"seeds": list(SEEDS), "steps": STEPS, "learned_steps": LEARNED_STEPS, **found}


def seeds_of(runs: Runs, key: str, seeds, work: Callable[[int], dict]) -> dict:
    """What `work(seed)` told, by seed and together."""
    found = over_seeds([runs.result(f"{key}, {seed}", partial(work, seed)) for seed in seeds])
    print(f"{key}: { {name: round(value, 3) for name, value in found['mean'].items()} }", flush=True)
    return found


def over_seeds(found: list[dict]) -> dict:
    """Each number's mean over the seeds, with its 95 % interval."""
    numbers = {
        name: [one[name] for one in found] for name, value in found[0].items() if isinstance(value, int | float)
    }
    return {
        "by_seed": found, "mean": {name: statistics.mean(values) for name, values in numbers.items()},
        "interval": {name: half_width(values) for name, values in numbers.items()},
    }  # fmt: skip


def one_model(name: str, data: Dataset, features: nn.Module, head: nn.Module, seed: int) -> dict:
    """Train one model on the bundled digits, and measure it on the held-out ones."""
    torch.manual_seed(seed)
    model, train, draw = MODELS[name]
    model, began = model(data), time.perf_counter()
    train(model, data.train, STEPS[name], seed)
    seconds = time.perf_counter() - began
    found = {"weights": live_weights(model), "seconds": seconds}
    if isinstance(model, VAE):
        found |= {f"bound_{count}": vae_bound(model, data.test, count).mean().item() for count in BOUNDS}
    elif not isinstance(model, GAN):
        found["nats"] = nats(model, data.test).mean().item()
    began = time.perf_counter()
    images = draw(model, TIMED, seed)
    found["seconds_per_1000"] = (time.perf_counter() - began) * 1000 / TIMED
    few = images[: len(data.test)]
    found |= fidelity(few, data, features, head)
    found["nearest"] = nearest_distances(few, data.train, data.levels).mean().item()
    found["samples"] = shown(images)
    if isinstance(model, VAE):
        found["means"] = shown(vae_sample(model, TIMED, seed, mean=True))
    return found


def fit_transformer(model: ImageTransformer, images: torch.Tensor, steps: int, seed: int) -> None:
    descend(
        model.parameters(), lambda batch: F.cross_entropy(model(images[batch]), images[batch].long()), len(images),
        steps=steps, batch_size=32, learning_rate=4e-3, seed=seed,
    )  # fmt: skip
    model.eval()


def fit_pixelcnn(model: GatedPixelCNN, images: torch.Tensor, epochs: int, seed: int) -> None:
    fit(model, images, epochs=epochs, batch_size=16, learning_rate=4e-3, seed=seed, progress=False)
    model.cpu()


def fitted_gan(model: GAN, images: torch.Tensor, steps: int, seed: int) -> None:
    fit_gan(model, images, steps=steps, seed=seed)


def fit_vae(model: VAE, images: torch.Tensor, steps: int, seed: int) -> None:
    descend(model.parameters(), lambda batch: model(images[batch]).mean(), len(images), steps=steps, seed=seed)
    model.eval()


MODELS = {  # how each is made from a data set, trained, and drawn from
    "PixelCNN": (
        lambda data: GatedPixelCNN(levels=data.levels, **NARROW), fit_pixelcnn,
        lambda model, n, seed: sample(model, n, seed=seed),
    ),
    "VAE": (lambda data: VAE(data.levels, tuple(data.train.shape[2:]), width=24), fit_vae, vae_sample),
    "GAN": (lambda data: GAN(data.levels, tuple(data.train.shape[2:]), width=28), fitted_gan, gan_sample),
    NO_NORM: (
        lambda data: GAN(data.levels, tuple(data.train.shape[2:]), width=28, norm=False), fitted_gan, gan_sample
    ),
    "transformer": (
        lambda data: ImageTransformer(data.levels, tuple(data.train.shape[2:]), width=48, layers=2), fit_transformer,
        lambda model, n, seed: sample(model, n, seed=seed, method="naive"),
    ),
}  # fmt: skip


@torch.no_grad()
def read(features: nn.Module, head: nn.Module, images: torch.Tensor, levels: int) -> torch.Tensor:
    return head(features(images.float() / (levels - 1))).argmax(1)


@torch.no_grad()
def fidelity(images: torch.Tensor, data: Dataset, features: nn.Module, head: nn.Module) -> dict:
    """Precision and coverage against the test digits, of as many samples, and how many classes are drawn."""
    seen, real = (features(x.float() / (data.levels - 1)) for x in (images, data.test))
    precision, coverage = precision_and_coverage(real, seen)
    drawn = classes_drawn(head(seen).argmax(1))
    return {"precision": precision, "coverage": coverage, "classes_drawn": drawn}


def grey(pixels: str, data: Dataset) -> dict:
    """Means and samples of a VAE with one number per pixel."""
    torch.manual_seed(0)
    model = GreyVAE(data.levels, tuple(data.train.shape[2:]), width=24, pixels=pixels)
    fit_vae(model, data.train, STEPS["VAE"], 0)
    means, samples = model.draw(SHOWN)
    return {"means": shown(means), "samples": shown(samples)}


def shown(images: torch.Tensor) -> torch.Tensor:
    """The first ones, with 16 levels instead of 17, since a measurement stores a pixel as a hexadecimal digit."""
    return quantize(images[:SHOWN], 16, 17)


def learned(arm: str, data: Dataset, seed: int) -> dict:
    """Classes that nobody named: whether the decoder uses them, and samples of each."""
    torch.manual_seed(seed)
    arguments, free = LEARNED[arm]
    model = LearnedClasses(GatedPixelCNN(levels=data.levels, classes=LEARNED_CLASSES, **arguments), free=free)
    fit_learned_classes(model, data.train, steps=LEARNED_STEPS, batch_size=64, learning_rate=4e-3, seed=seed)
    rows = torch.eye(LEARNED_CLASSES).repeat_interleave(4, 0)
    size = tuple(data.train.shape[2:])
    return use_of_classes(model, data.test, data.test_classes) | {
        "samples": quantize(sample(model.decoder, labels=rows, size=size, seed=seed), 16, data.levels),
    }


def critic(data: Dataset) -> dict:
    """Samples of `neutral-mnist`, chosen by a critic's logits, beside as many that were not, and real digits.

    A critic learns from one half of the samples and as many training digits; the others are chosen from. One sees
    pixels, the other what `teacher-mnist` makes of them before its last layer. `judge-mnist` had no part in either: how
    sure it is, and precision and coverage in its features against 500 test digits.
    """
    model, _ = load_pretrained("neutral-mnist")
    judge, _ = load_pretrained("judge-mnist")
    teacher, _ = load_pretrained("teacher-mnist")
    drawn = torch.cat([sample(model, min(500, DRAWN - start), seed=start) for start in range(0, DRAWN, 500)])
    teaching, left = drawn.chunk(2)
    train, test, fresh = (quantize(images, 8) for images in (
        data.train[: len(teaching)], data.test[:KEPT], data.test[KEPT : 2 * KEPT]
    ))  # fmt: skip
    found = {}
    for sees, body in (("pixels", None), ("the teacher's features", teacher.net[:-1])):
        chosen = []
        for seed in SEEDS:
            logits = fit_critic(train, teaching, body, seed)
            best = left[chosen_by(logits(left), KEPT, seed)]
            told = (logits(fresh)[:, None] > logits(left)).double().mean().item()
            chosen.append({"auroc": told} | judged(judge, best, test) | {"samples": best[:SHOWN]})
        found[sees] = over_seeds(chosen)
    return {
        "drawn": DRAWN, "kept": KEPT, "chosen": found, "real": judged(judge, fresh, test),
        "unchosen": over_seeds([judged(judge, part, test) for part in left.split(KEPT) if len(part) == KEPT]),
        "unchosen_samples": left[:SHOWN],
    }  # fmt: skip


def fit_critic(real: torch.Tensor, drawn: torch.Tensor, body: nn.Module | None, seed: int) -> Callable:
    """Teach a discriminator real digits from samples, as many of both, of 8 levels; images -> logits `(N,)`.

    body: what turns floats `(N, 1, 28, 28)` into features `(N, F)`, and is not trained; None for a convolutional
    discriminator of pixels.
    """

    @torch.no_grad()
    def seen(images):
        return images.float() / 7 if body is None else body(images.float() / 7)

    sides = seen(real), seen(drawn)
    torch.manual_seed(seed)
    if body is None:
        discriminator = conv_down(1, 32, (28, 28), 1)
    else:
        width = sides[0].shape[1]
        discriminator = nn.Sequential(
            nn.BatchNorm1d(width), nn.Linear(width, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 1)
        )

    def loss(batch):
        on_real, on_drawn = discriminator(torch.cat([side[batch] for side in sides])).chunk(2)
        return F.softplus(-on_real).mean() + F.softplus(on_drawn).mean()

    descend(discriminator.parameters(), loss, len(real), steps=CRITIC_STEPS, seed=seed)
    discriminator.eval()

    @torch.no_grad()
    def logits(images):
        return discriminator(seen(images))[:, 0]

    return logits


@torch.no_grad()
def judged(judge: nn.Module, images: torch.Tensor, real: torch.Tensor) -> dict:
    """How many the judge is sure of, at 0.9; precision and coverage in the inputs of its last layer."""
    sure = class_probabilities(judge, images, 8).amax(1) >= 0.9
    seen, known = (judge.net[:-1](x.float() / 7) for x in (images, real))
    precision, coverage = precision_and_coverage(known, seen)
    return {"sure": share(sure), "precision": precision, "coverage": coverage}
