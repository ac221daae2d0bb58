"""`python -m pixelcnn_helpers bench`: how fast drawing and training are, both sides of each comparison in one run."""

from __future__ import annotations

import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from ..checks import check_int
from ..data import load_digits
from ..layers import HorizontalConv2d, VerticalConv2d
from ..models import GatedPixelCNN, PixelCNN, device_of
from ..pretrained import load_measurement
from ..sampling import guesses, sample
from ..training import NoCompiler, Trainer, check_compiler, fit, get_accelerator
from .hardware import hardware
from .measure_records import told

SIZE = (28, 28)
COLOUR = [(64, 8, (16, 16)), (16, 256, (32, 32))]  # images, levels, size


def bench(what: str, batches=(1, 16, 64, 256), repeats: int = 5, json_path: str | None = None) -> dict:
    """Run one benchmark, print its tables, write them as JSON if asked, and return them.

    what: "sample" or "train". batches: how many images at once. repeats: the median of so many is quoted.
    Raises ValueError for another word, or counts below 1.
    """
    if what not in ("sample", "train"):
        raise ValueError(f'what must be "sample" or "train", got {what!r}')
    batches = [check_int("batches", batch, 1) for batch in batches]
    check_int("repeats", repeats, 1)
    machine = f"{hardware(get_accelerator().device)}, torch {torch.__version__}"
    print(machine)
    found = {"what": what, "machine": machine, "repeats": repeats}
    found["tables"] = bench_sample(batches, repeats) if what == "sample" else bench_train(repeats)
    if json_path is not None:
        Path(json_path).write_text(json.dumps(found, indent=1) + "\n")
    return found


def bench_sample(batches, repeats: int) -> dict:
    """Seconds to draw images, cached and naive, and one forward pass over as many as the floor."""
    torch.manual_seed(0)
    networks = {
        "two stacks, 8 levels": GatedPixelCNN(features=64, blocks=8, levels=8),
        "two stacks, 256 levels": GatedPixelCNN(features=64, blocks=8, levels=256),
        "the article's, 256 levels": PixelCNN(),
    }
    tables = {}
    heading = "images  forward   cached  /forward    naive  /cached  cropped  /cached"
    for name, model in networks.items():
        model.to(get_accelerator().device)
        print(f"\n{name}, {SIZE[0]}×{SIZE[1]}, float32; seconds\n")
        print(heading)
        tables[name] = [drawing_seconds(model, n, SIZE, repeats) for n in batches]
    print("\nthree channels, float32; seconds\n")
    print(heading)
    for n, levels, size in COLOUR:
        model = GatedPixelCNN(channels=3, features=48, blocks=8, levels=levels).to(get_accelerator().device)
        name = f"{size[0]}×{size[1]}×3, {levels} levels"
        tables[name] = [drawing_seconds(model, n, size, repeats, note=name)]
    print("\nforward: the faster of contiguous and channels-last. cached: sample(), whole. naive, cropped: the loop's")
    print("passes at one value of every row, times the values in a row, in the layout of the faster forward pass.")
    tables["guess"] = bench_guess(batches, repeats)
    return tables


def drawing_seconds(model, n: int, size: tuple[int, int], repeats: int, note: str = "") -> dict:
    """The seconds of n images, drawn each way; printed as a line."""
    row = {"images": n, "forward": forward_seconds(model, n, size, repeats)}
    row["cached"] = timed(lambda: sample(model, n, size=size), repeats, model)
    row["naive"] = naive_seconds(model, n, size, cropped=False)
    row["cropped"] = naive_seconds(model, n, size, cropped=True)
    ratios = [row["cached"] / row["forward"], row["naive"] / row["cached"], row["cropped"] / row["cached"]]
    line = f"{n:6}  {row['forward']:7.3f}  {row['cached']:7.3f}  {ratios[0]:8.2f}  "
    line += f"{row['naive']:7.1f}  {ratios[1]:7.0f}  {row['cropped']:7.1f}  {ratios[2]:7.0f}  {note}"
    print(line.rstrip())
    return row


def bench_guess(batches, repeats: int) -> list[dict]:
    """Passes and seconds of the guess method, on a network trained for a moment on the bundled digits."""
    torch.manual_seed(0)
    model = GatedPixelCNN(levels=17, features=32, blocks=4, first_kernel_size=5)
    fit(model, load_digits()[0], epochs=6, batch_size=32, progress=False)
    print("\nguessing, a small two-stack network trained on the bundled digits, 8×8 (64 values); seconds\n")
    print("images  passes    guess   cached")
    rows = []
    for n in batches:
        row = {"images": n, "passes": sum(1 for _ in guesses(model, n))}
        row["guess"] = timed(lambda n=n: sample(model, n, method="guess"), repeats, model)
        row["cached"] = timed(lambda n=n: sample(model, n), repeats, model)
        rows.append(row)
        print(f"{n:6}  {row['passes']:6}  {row['guess']:7.3f}  {row['cached']:7.3f}")
    return rows


def bench_train(repeats: int, batch: int = 64) -> dict:
    """Images per second in training: the two stacks as `fit` trains them, and as masked squares in float32."""
    torch.manual_seed(0)
    model = GatedPixelCNN(features=64, blocks=8, levels=8)
    squares = as_masked_squares(copy.deepcopy(model))
    compiled, device = copy.deepcopy(model), get_accelerator().device
    sides = {
        "half kernels, as fit trains, compiled": (compiled, {"compile": True}),
        "half kernels, as fit trains": (model, {}),
        "masked squares, contiguous, float32": (squares, {"fast": False}),
    }
    try:
        check_compiler(device)
    except NoCompiler as error:
        print(f"\n{error}")
        del sides["half kernels, as fit trains, compiled"]
    print(f"\ntraining, 64 features, 8 blocks, 8 levels, {SIZE[0]}×{SIZE[1]}, batch {batch}; images per second\n")
    found = {}
    images = torch.randint(8, (batch, 1, *SIZE), device=device)
    for name, (network, options) in sides.items():
        trainer = Trainer(network.train(), learning_rate=1e-3, **options)
        found[name] = batch / timed(lambda trainer=trainer: trainer.step(1.0, images, images), repeats, network)
        print(f"{name:<40} {found[name]:7.1f}")
    ours, *_, theirs = found.values()
    print(f"{'ratio of the first to the last':<40} {ours / theirs:7.2f}")
    print(f"\nmeasured before, by `measure records`: {told(load_measurement('records'))}")
    return found


class MaskedSquare(nn.Conv2d):
    """The textbook's way to write a half kernel: a square, most of whose taps are multiplied by zero."""

    def __init__(self, half: nn.Conv2d, kernel_size: int, row: int, col: int):
        dilation = half.dilation[0]
        reach = kernel_size // 2 * dilation
        where = {"dtype": half.weight.dtype, "device": half.weight.device}
        super().__init__(half.in_channels, half.out_channels, kernel_size, padding=reach, dilation=dilation, **where)
        height, width = half.kernel_size
        self.register_buffer("mask", torch.zeros_like(self.weight))
        self.mask[:, :, row : row + height, col : col + width] = 1
        with torch.no_grad():
            self.weight[:, :, row : row + height, col : col + width] = half.weight
            self.bias.copy_(torch.zeros_like(self.bias) if half.bias is None else half.bias)

    def forward(self, x):
        return self._conv_forward(x, self.weight * self.mask, self.bias)


def as_masked_squares(model: GatedPixelCNN) -> GatedPixelCNN:
    """The same one-channel network, in place, with every half kernel written as a masked square: the same outputs."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, VerticalConv2d):
                setattr(parent, name, MaskedSquare(layer, layer.kernel_size[1], 0, 0))
            elif isinstance(layer, HorizontalConv2d):
                half = layer.reach // layer.dilation[1]
                setattr(parent, name, MaskedSquare(layer, 2 * half + 1, half, 0))
    return model


@torch.no_grad()
def forward_seconds(model, n: int, size: tuple[int, int], repeats: int) -> float:
    """One forward pass over n images in the faster of two layouts, in which the model is left."""
    images = torch.randint(model.levels, (n, model.channels, *size), device=device_of(model))
    seconds = {}
    for layout in (torch.channels_last, torch.contiguous_format):
        model.to(memory_format=layout)
        seconds[layout] = timed(lambda: model(images), repeats, model)
    best = min(seconds, key=seconds.get)
    model.to(memory_format=best)
    return seconds[best]


@torch.no_grad()
def naive_seconds(model, n: int, size: tuple[int, int], cropped: bool) -> float:
    """The passes of the naive loop, timed at one value of every row and multiplied by the values in a row.

    cropped: each pass ends with the row that it draws, as the UvA tutorial does it.
    """
    images = torch.randint(model.levels, (n, model.channels, *size), device=device_of(model))
    began = time.perf_counter()
    for row in range(size[0]):
        logits = model(images[:, :, : row + 1] if cropped else images)[:, :, 0, row, 0]
        logits.argmax(1).cpu()  # waits for a GPU
    return (time.perf_counter() - began) * size[1] * model.channels


def timed(work: Callable[[], object], repeats: int, model: nn.Module) -> float:
    """The median of `repeats` runs in seconds, after one to warm up."""
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        if device_of(model).type != "cpu":
            torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])
