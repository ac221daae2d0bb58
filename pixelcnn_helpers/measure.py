"""Measurements too long for a notebook: `python -m pixelcnn_helpers measure NAME` makes them, the notebooks show them.

Each lies in measurements/NAME.json, with what it takes to make it again.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F

from .bench import as_masked_squares
from .between import PAIRS, Contrasted, MixedClasses, leanings, resampled, sample_between, turning_points
from .checks import check_images, shipped
from .classifiers import class_probabilities
from .data import load_dataset, quantize
from .files import write_whole
from .likelihood import nats
from .models import GatedPixelCNN, ShortcutPixelCNN
from .pretrained import digests, load_pretrained
from .recipes import CHECKPOINTS, RECIPES, label_rows, network_of, read_as_asked, trained, two_stacks, versions
from .sampling import sample
from .training import check_compiler, get_accelerator, hardware, same_randomness_after

MEASUREMENTS = Path(__file__).parent / "measurements"
BATCH_SIZE, LEARNING_RATE = 64, 2e-3  # of a `race`
BETWEEN = "shortcut-mnist", "conditional-mnist", "between-mnist", "teacher-mnist", "judge-mnist", "neutral-mnist"


def load_measurement(name: str) -> dict:
    """A stored measurement, "reach" say: figures as JSON holds them, images as integer tensors `(N, C, H, W)`.

    Raises ValueError for an unknown name.
    """
    known = sorted(path.stem for path in MEASUREMENTS.glob("*.json"))
    if name not in known:
        raise ValueError(f"name must be {shipped(known)}, got {name!r}")
    return json.loads((MEASUREMENTS / f"{name}.json").read_text(encoding="utf-8"), object_hook=_images)


def measure(name: str, folder: Path | None = None) -> Path:
    """Make one of `MAKERS` anew and write it; seconds and hardware are those of the last start, if it was stopped.

    Raises ValueError for another name, FileNotFoundError without MNIST.
    """
    if name not in MAKERS:
        raise ValueError(f"what to measure must be one of {', '.join(MAKERS)}, got {name!r}")
    began, where = time.perf_counter(), hardware(get_accelerator().device)
    found = {"what": name, "hardware": where, "versions": versions(), **MAKERS[name]()}
    found["seconds"] = round(time.perf_counter() - began)
    path = (folder or MEASUREMENTS) / f"{name}.json"
    write_whole(path, json.dumps(found, indent=1, default=_packed) + "\n")
    return path


def measure_reach(epochs: int = 2) -> dict:
    """Two networks of equal size and training, one that sees 11 rows and columns far, one that sees 27.

    Nats of the test images, with the standard error of the difference; samples, and how many the judge reads as asked.
    A training that is stopped goes on from its checkpoint the next time.
    """
    load_pretrained("judge-mnist")  # noticed now, rather than after an hour
    base = RECIPES["conditional-mnist"]
    data = load_dataset(base.data)
    test = quantize(data.test, base.config["levels"])
    networks, weighed = [], []
    for dilations in ([1] * 8, base.config["dilations"]):
        recipe = replace(base, epochs=epochs, config=base.config | {"dilations": dilations})
        model = network_of(recipe)
        checkpoint = CHECKPOINTS / f"reach-{model.reach}.pt"
        history = trained(model, recipe, data, checkpoint)
        if history is None:
            raise KeyboardInterrupt
        model.cpu()
        weighed.append(nats(model, test, label_rows(model, data.test_classes)) / test[0].numel())
        networks.append({
            "recipe": asdict(recipe), "rows": model.reach, "seconds": round(history.seconds[-1]),
            "nats_per_pixel": weighed[-1].mean().item(), "read_as_asked": read_as_asked(model),
            "samples": sample(model, labels=torch.eye(10).repeat(2, 1)),
        })
        print({key: networks[-1][key] for key in ("rows", "seconds", "nats_per_pixel", "read_as_asked")})
    for one in networks:
        (CHECKPOINTS / f"reach-{one['rows']}.pt").unlink()
    gained = weighed[0] - weighed[1]
    error = gained.std().item() / len(gained) ** 0.5
    return {"epochs": epochs, "networks": networks, "gained": gained.mean().item(), "error": error}


def measure_equal_time(minutes: float = 25.0) -> dict:
    """Nats per pixel over seconds of training: our two stacks, the blog's network, and our stacks as masked squares.

    All start from one seed, see the same batches, and learn by AdamW at the rate of our recipes; they take turns, so
    that what else happens on the machine happens to all. minutes: for each.
    """
    data, device = load_dataset("mnist"), get_accelerator().device
    check_compiler(device)
    with same_randomness_after(device):  # dropout draws, too
        torch.manual_seed(0)
        return {
            "minutes": minutes, "batch_size": BATCH_SIZE, "learning_rate": LEARNING_RATE,
            "curves": curves_of_races(data, minutes * 60),
        }


def curves_of_races(data, seconds: float) -> list[dict]:
    """What `race` tells of each runner, as JSON: a dictionary each, with a list for every figure."""
    ours = GatedPixelCNN(**two_stacks(classes=10))
    blogs = ShortcutPixelCNN(**RECIPES["shortcut-mnist"].config)
    runners = [
        ("two stacks, half kernels", ours, True),
        ("the blog's network", blogs, True),
        ("two stacks, masked squares", as_masked_squares(copy.deepcopy(ours)), False),
    ]
    precision = get_accelerator().mixed_precision.replace("no", "float32")
    curves = [
        {
            "name": name, "weights": sum(weight.numel() for weight in (blogs if model is blogs else ours).parameters()),
            "how": f"{precision}, channels-last, compiled" if fast else "float32, contiguous, not compiled",
            "seconds": [], "steps": [], "nats_per_pixel": [],
        }
        for name, model, fast in runners
    ]
    races = [race(model, data, seconds, fast) for _, model, fast in runners]
    for turn in zip(*races, strict=True):
        for curve, found in zip(curves, turn, strict=True):
            for key, value in found.items():
                curve[key].append(value)
            print(f"{curve['name']}, {curve['how']}: {found}")
    return curves


def measure_between(count: int = 256) -> dict:
    """Every way to draw digits between two classes, at half and half, and some of them at eleven weights.

    Points: for a way, a pair and a weight, so many images, what `figures_between` says of them, and the share of them
    that are as likely as 95 of 100 real digits of the pair. Beside the ways stand real digits, half of each class, and
    the pixels of two real digits averaged. What was measured before a stop is not measured again.
    """
    judge, neutral = (load_pretrained(name)[0] for name in ("judge-mnist", "neutral-mnist"))
    data = load_dataset("mnist")
    train, test = (quantize(images, neutral.levels) for images in (data.train, data.test))
    of_class = {index: test[data.test_classes == index][:count] for pair in PAIRS for index in pair}
    limits = {pair: nats(neutral, torch.cat([of_class[c] for c in pair])).quantile(0.95).item() for pair in PAIRS}

    def real(a, b, weight, count):
        return torch.cat([of_class[a][: count // 2], of_class[b][: count - count // 2]])

    def mixup(a, b, weight, count):
        return ((1 - weight) * of_class[a] + weight * of_class[b] + 0.5).floor()  # halves go up, as in `quantize`

    kept, softened = CHECKPOINTS / "between.json", CHECKPOINTS / "softened.pt"
    what = [count, *(digests().get(name) for name in BETWEEN)]
    before = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    if before.get("what") != what:  # what other weights gave counts for nothing
        softened.unlink(missing_ok=True)
        before = {"what": what, "points": {}}
        write_whole(kept, json.dumps(before))
    found, points = before["points"], []
    for name, (draw, everywhere) in {"real digits": (real, False), "pixels averaged": (mixup, True), **ways()}.items():
        for a, b in PAIRS:
            for weight in [k / 10 for k in range(11)] if everywhere else [0.5]:
                key = f"{name}, {a} and {b}, {weight:g}, {count} images"
                if key not in found:
                    began = time.perf_counter()
                    images = draw(a, b, weight, count).to("cpu", torch.uint8)
                    took = time.perf_counter() - began
                    found[key] = {
                        "way": name, "pair": [a, b], "weight": weight, "seconds": round(took, 2),
                        **figures_between(images, a, b, judge, neutral, train, limits[a, b]),
                    }
                    write_whole(kept, json.dumps(before))
                    print(key, found[key])
                points.append(found[key])
    for file in (kept, softened):
        file.unlink(missing_ok=True)
    likely = {f"{a} {b}": limit for (a, b), limit in limits.items()}
    return {"count": count, "likely": likely, "softened": asdict(softened_recipe()), "points": points}


def figures_between(images, a, b, judge, neutral, train, limit) -> dict[str, list[float]]:
    """Means over images, each with its standard error.

    leaning, on_pair, truly: `leanings` of the judge's votes. nats: under a network that did not make them. likely: the
    share with at most `limit` nats. distance: to the nearest training image, where black against white counts 1.
    """
    leaning, on_pair, truly = leanings(class_probabilities(judge, images, neutral.levels), a, b)
    weighed = nats(neutral, images)
    points, others = (part.flatten(1).float() / (neutral.levels - 1) for part in (images, train))
    told = {
        "leaning": leaning, "on_pair": on_pair, "truly": truly, "nats": weighed, "likely": weighed <= limit,
        "distance": torch.cdist(points, others).min(1).values,
    }
    return {name: [round(value, 4) for value in mean_and_error(values)] for name, values in told.items()}


def mean_and_error(values: torch.Tensor) -> tuple[float, float]:
    """The mean and its standard error; that of a share as if one more were in and one more out, lest it be 0."""
    n = len(values)
    if values.dtype == torch.bool:
        share = (int(values.sum()) + 1) / (n + 2)
        return values.double().mean().item(), (share * (1 - share) / n) ** 0.5
    return values.double().mean().item(), values.double().std().item() / n**0.5


def softened_recipe():
    return replace(RECIPES["between-mnist"], labels="softened", rounds=0, wanted=0)


def trained_on_softened_labels():
    """`conditional-mnist` after one more epoch, under the teacher's softened readings; once, by its checkpoint."""
    recipe = softened_recipe()
    model = network_of(recipe)
    if trained(model, recipe, load_dataset(recipe.data), CHECKPOINTS / "softened.pt") is None:
        raise KeyboardInterrupt
    return model.cpu()


def ways() -> dict[str, tuple]:
    """Ways to draw between two classes: name -> `draw(a, b, weight, count)`, and whether to measure all weights."""
    blogs, ours, between = (load_pretrained(name)[0] for name in BETWEEN[:3])

    def labelled(model):
        return lambda a, b, weight, count: sample_between(model, a, b, weight, count, tries=1)

    return {
        "the blog's network, label mixed": (labelled(blogs), True),
        "two stacks, label mixed": (labelled(ours), True),
        "softened labels, one epoch": (labelled(trained_on_softened_labels()), False),
        "logits mixed": (labelled(MixedClasses(ours, geometric=True)), False),
        "probabilities mixed": (labelled(MixedClasses(ours)), False),
        "steered": (labelled(MixedClasses(ours, restore=0.5)), False),
        "resampled": (partial(resampled, ours), False),
        "against either-or": (labelled(Contrasted(ours, 2.0)), False),
        "turning points": (partial(turning_points, ours), False),
        "candidates": (partial(sample_between, ours), False),
        "self-taught, label mixed": (labelled(between), True),
        "self-taught, candidates": (partial(sample_between, between), True),
    }


def race(model, data, seconds: float, fast: bool, turns: int = 8) -> Iterator[dict]:
    """Train for so many seconds in so many turns, and look up after each: seconds, steps, nats per pixel.

    fast: as our recipes train, channels-last, in the precision that the processor is fast in, compiled; else as a
    textbook does. The learning rate falls over the seconds as `fit` lets it fall over the steps. Compiling takes its
    time; looking up, at 1,000 images that nobody trains on, does not count.
    """
    accelerator = get_accelerator()
    device, half = accelerator.device, {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision)
    images, held = (quantize(part, model.levels).to(device) for part in (data.train[:-2000], data.train[-1000:]))
    labels, held_labels = (
        label_rows(model, part).to(device) for part in (data.train_classes[:-2000], data.train_classes[-1000:])
    )
    model.to(device=device, memory_format=torch.channels_last if fast else torch.contiguous_format)
    optimizer, draws = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE), torch.Generator().manual_seed(0)
    scaler = torch.amp.GradScaler(device.type, enabled=fast and half is torch.float16)
    forward, spent, steps = torch.compile(model) if fast else model, 0.0, 0
    for turn in range(1, turns + 1):
        began = time.perf_counter() - spent
        model.train()
        while spent < seconds * turn / turns:
            share = min(1.0, spent / seconds)
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * min(1.0, 20 * share) * 0.5 * (1 + math.cos(math.pi * share))
            batch = torch.randint(len(images), (BATCH_SIZE,), generator=draws).to(device)
            x = images[batch].long()
            with torch.autocast(device.type, half, enabled=fast and half is not None):
                logits = forward(x, labels[batch])
            loss = F.cross_entropy(logits.float(), x)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            loss.item()  # waits for a GPU, so that the clock is right
            spent, steps = time.perf_counter() - began, steps + 1
        found = nats(model, held, held_labels).mean().item() / held[0].numel()
        yield {"seconds": round(spent, 1), "steps": steps, "nats_per_pixel": found}


MAKERS = {"reach": measure_reach, "equal-time": measure_equal_time, "between": measure_between}


def _packed(images: torch.Tensor) -> dict:
    """Integer images of at most 16 levels as JSON: their shape, and a letter of hexadecimal for each pixel."""
    check_images(images, 16)
    return {"shape": list(images.shape), "pixels": "".join(f"{value:x}" for value in images.flatten().tolist())}


def _images(found: dict):
    """What `_packed` wrote, as a tensor again; everything else as it is."""
    if found.keys() != {"shape", "pixels"}:
        return found
    return torch.tensor([int(letter, 16) for letter in found["pixels"]], dtype=torch.uint8).view(found["shape"])
