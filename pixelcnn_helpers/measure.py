"""Measurements too long for a notebook: `python -m pixelcnn_helpers measure NAME` makes them, the notebooks show them.

Each lies in measurements/NAME.json, with what it takes to make it again.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch.nn import functional as F

from .bench import as_masked_squares
from .data import load_dataset, quantize
from .likelihood import nats
from .models import GatedPixelCNN, ShortcutPixelCNN
from .recipes import RECIPES, hardware, label_rows, read_as_asked, two_stacks, versions
from .sampling import sample
from .training import fit

MEASUREMENTS = Path(__file__).parent / "measurements"


def load_measurement(name: str) -> dict:
    """A stored measurement, "reach" say: figures as JSON holds them, images as integer tensors `(N, C, H, W)`.

    Raises ValueError for an unknown name.
    """
    known = sorted(path.stem for path in MEASUREMENTS.glob("*.json"))
    if name not in known:
        raise ValueError(f"name must be one of {', '.join(map(repr, known))}, got {name!r}")
    return json.loads((MEASUREMENTS / f"{name}.json").read_text(encoding="utf-8"), object_hook=_images)


def measure(name: str, folder: Path = MEASUREMENTS, **options) -> Path:
    """Make one of `MAKERS` anew and write it. Raises ValueError for another name, FileNotFoundError without MNIST."""
    if name not in MAKERS:
        raise ValueError(f"what to measure must be one of {', '.join(MAKERS)}, got {name!r}")
    began = time.perf_counter()
    found = {"what": name, "hardware": hardware(), "versions": versions(), **MAKERS[name](**options)}
    found["seconds"] = round(time.perf_counter() - began)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(found, indent=1, default=_packed) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
    return path


def measure_reach(epochs: int = 2) -> dict:
    """Two networks of equal size and training, one that sees 11 rows up and one that sees 27: nats, and samples."""
    recipe = replace(RECIPES["conditional-mnist"], epochs=epochs)
    data = load_dataset(recipe.data)
    levels = recipe.config["levels"]
    train, test = quantize(data.train, levels), quantize(data.test, levels)
    networks = []
    for dilations in ([1] * 8, recipe.config["dilations"]):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            model = GatedPixelCNN(**recipe.config | {"dilations": dilations})
        history = fit(
            model, train, label_rows(model, data.train_classes), epochs=epochs, batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate, seed=recipe.seed, compile=recipe.compile,
        )
        model.cpu()
        found = nats(model, test, label_rows(model, data.test_classes))
        asked = label_rows(model, torch.arange(10).repeat(2))
        networks.append({
            "dilations": dilations, "rows": model.reach, "epochs": epochs, "seconds": round(history.seconds[-1]),
            "nats_per_pixel": found.mean().item() / test[0].numel(), "read_as_asked": read_as_asked(model),
            "samples": sample(model, labels=asked),
        })
        print({key: value for key, value in networks[-1].items() if key != "samples"})
    return {"recipe": asdict(recipe), "networks": networks}


def measure_equal_time(minutes: float = 8.0) -> dict:
    """Nats per pixel over seconds of training: ours, the blog's, and ours as the textbook writes and runs it."""
    data = load_dataset("mnist")
    torch.manual_seed(0)
    ours = GatedPixelCNN(**two_stacks(classes=10))
    squares = as_masked_squares(copy.deepcopy(ours))
    runners = {
        "two stacks": (ours, True),
        "the blog's network": (ShortcutPixelCNN(**RECIPES["shortcut-mnist"].config), True),
        "two stacks as masked squares, float32": (squares, False),
    }
    curves = []
    for name, (model, fast) in runners.items():
        seconds, found = race(model, data, minutes * 60, fast)
        weights = sum(weight.numel() for weight in model.parameters())
        curves.append({"name": name, "weights": weights, "fast": fast, "seconds": seconds, "nats_per_pixel": found})
        print(f"{name}: {found[-1]:.4f} nats per pixel after {seconds[-1]:.0f} s")
    return {"minutes": minutes, "curves": curves}


def race(model, data, seconds: float, fast: bool, batch_size: int = 64) -> tuple[list[float], list[float]]:
    """Train for so many seconds and look up sixteen times: (seconds, nats per pixel of 1,000 held-out images).

    fast: channels-last, bfloat16 and torch.compile, as our recipes train; else as a textbook does. The learning rate
    falls over the seconds as `fit` lets it fall over the steps. Looking up, and compiling, cost no time.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, held = (quantize(part, model.levels).to(device) for part in (data.train[:-2000], data.train[-1000:]))
    labels, held_labels = (
        label_rows(model, part).to(device) for part in (data.train_classes[:-2000], data.train_classes[-1000:])
    )
    model.to(device=device, memory_format=torch.channels_last if fast else torch.contiguous_format)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    forward = torch.compile(model) if fast else model

    def step(share: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, 20 * share) * 0.5 * (1 + math.cos(math.pi * share))
        batch = torch.randint(len(images), (batch_size,), device=device)
        x = images[batch].long()
        with torch.autocast(device.type, torch.bfloat16, enabled=fast):
            logits = forward(x, labels[batch])
        loss = F.cross_entropy(logits.float(), x)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()  # waits for a GPU, so that the clock is right

    model.train()
    for _ in range(3):  # compiles and warms up, at a learning rate of 0
        step(0.0)
    spent, times, found = 0.0, [], []
    while spent < seconds:
        began = time.perf_counter()
        model.train()
        while time.perf_counter() - began < seconds / 16:
            step(min(1.0, (spent + time.perf_counter() - began) / seconds))
        spent += time.perf_counter() - began
        times.append(round(spent, 1))
        found.append(nats(model, held, held_labels).mean().item() / held[0].numel())
    return times, found


MAKERS = {"reach": measure_reach, "equal-time": measure_equal_time}


def _packed(images: torch.Tensor) -> dict:
    """Integer images of at most 16 levels as JSON: their shape, and a letter of hexadecimal for each pixel."""
    return {"shape": list(images.shape), "pixels": "".join(f"{value:x}" for value in images.flatten().tolist())}


def _images(found: dict):
    """What `_packed` wrote, as a tensor again; everything else as it is."""
    if found.keys() != {"shape", "pixels"}:
        return found
    return torch.tensor([int(letter, 16) for letter in found["pixels"]], dtype=torch.uint8).view(found["shape"])
