"""Training by maximum likelihood: one plain loop for every network, on whatever device there is."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field

import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from .checkpoint import Checkpoint, DelayedInterrupt, digest
from .checks import check_images, check_int, check_labels, check_model, check_positive, check_two, check_type, require
from .likelihood import bits_per_dim, nats
from .models import at_least_float32, on_cpu
from .muon import Muon, hidden_kernels

OPTIMIZERS = ("muon", "adamw")
SAVE_EVERY = 60  # seconds between checkpoints within an epoch


@dataclass
class History:
    """What a training measured, one entry per epoch (and one where it was stopped): `asdict` makes it JSON.

    steps: optimiser steps so far. train: mean bits/dim since the entry before, as trained (dropout, augmentation).
    validation: bits/dim on the validation images, in the precision of training; empty without validation images.
    seconds: training time so far.
    """

    steps: list[int] = field(default_factory=list)
    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    interrupted: bool = False


@dataclass
class State:
    """How far a training is; a checkpoint holds it as it is."""

    plan: dict  # what must be the same for a checkpoint to belong to this training
    step: int = 0
    history: History = field(default_factory=History)
    best: dict | None = None  # the weights with the best validation
    since: int = 0  # the step of the history's last entry
    learned: torch.Tensor = field(default_factory=lambda: torch.tensor(0.0))  # sum of the losses since then, in nats
    seconds: float = 0.0  # training time so far

    def __post_init__(self):
        self.began = time.perf_counter() - self.seconds

    def ends_epoch(self, step: int) -> bool:
        return step % self.plan["steps per epoch"] == 0 or step == self.plan["steps"]

    def validations(self) -> list[float]:
        """The validations of whole epochs; that of an entry written at a stop does not count."""
        entries = zip(self.history.steps, self.history.validation, strict=False)
        return [bits for step, bits in entries if self.ends_epoch(step)]


def fit(
    model, images, labels=None, *, epochs=None, steps=None, batch_size=64, learning_rate=2e-3, seed=0, optimizer="muon",
    validation=None, checkpoint=None, augment=None, patience=None, compile=False, callback=None, progress=True,
) -> History:
    """Train a model on images in place, by its mean negative log likelihood, and return its `History`.

    images: integers `(N, C, H, W)`; labels: float rows `(N, classes)` for a model with classes.
    epochs or steps: exactly one. The learning rate rises over the first twentieth, then falls evenly to 0.
    optimizer: "muon", with ten times the learning rate for kernels between features, see `Muon`; or "adamw" for all.
    batch_size: images per step, over all processes. An epoch leaves out those that do not fill its last batch.
    validation: `(images, labels)`, measured after every epoch; the weights that did best on it are the ones kept.
    patience: stop after so many epochs without a better validation.
    augment: `augment(images, generator) -> images` may redraw a batch `(B, C, H, W)` of integers, of up to 256 levels
    before and the model's own after it; the generator is on the device of the images.
    compile: let torch.compile fuse each step, for long trainings; it takes half a minute and a C++ compiler.
    callback: `callback(history)` after every epoch. progress: show a bar.
    checkpoint: a file to resume from if it exists, saved after every epoch, every minute, and when stopped. Data and
    arguments must then be the same, but for a lower learning rate; `augment` is compared by what it makes of the first
    images on a CPU. A second training on the same file is refused while the first one runs.

    Accelerate chooses the device (CUDA, Apple's, CPU) and the processes. The precision is bfloat16 where the processor
    computes in it, float16 on older CUDA cards, else float32; weights stay float32. Ctrl-C acts after the current step
    or validation, a second one at once, and keeps what was learned. Afterwards the model is in evaluation mode, on that
    device, and has its `size`. The caller's random state is kept.
    Raises ValueError or TypeError for arguments that do not fit the model or one another, ValueError for a checkpoint
    of another training, FloatingPointError when loss or weights are no longer finite (the checkpoint stays as it was),
    NoCompiler (a RuntimeError) where compile has no compiler.
    """
    held_images, held_labels = _check_data(model, images, labels, validation, augment)
    _check_options(epochs, steps, optimizer, patience, validation, augment, callback, compile, progress)
    limit = check_int("steps", steps, 1) if epochs is None else check_int("epochs", epochs, 1)
    batch_size = min(check_int("batch_size", batch_size, 1), len(images))
    learning_rate = check_positive("learning_rate", learning_rate)
    require(learning_rate <= 1000, "learning_rate", "be at most 1000", learning_rate)
    seed = check_int("seed", seed, 0) % 2**32  # leaves room for the steps in torch's 64 bits
    weights = _trainable(model)
    accelerator = get_accelerator()
    device, processes, rank = accelerator.device, accelerator.num_processes, accelerator.process_index
    require(len(images) >= processes, "images", f"be one at least for each of {processes} processes", len(images))
    accelerator.wait_for_everyone()  # the main process may still be saving an earlier training

    with (
        DelayedInterrupt() as interrupt,
        closing(Checkpoint(checkpoint, writes=rank == 0)) as file,
        same_randomness_after(device),
        torch.inference_mode(False),  # it switches gradients on, too
    ):
        with interrupt.held(), accelerator.autocast():  # until this ends Ctrl-C waits: the lock is always released
            nats(model, torch.zeros_like(images[:1]), None if labels is None else labels[:1])  # checks the logits
        images = images.to(device, torch.uint8 if model.levels <= 256 else torch.int32)
        labels = None if labels is None else labels.detach().to(device, weights[0].dtype)
        share = max(1, batch_size // processes)  # images per process and step
        batch_size = share * processes
        per_epoch = max(1, len(images) // batch_size)
        total = limit if epochs is None else limit * per_epoch

        # how far the training is, from the file if there is one
        redrawn = None
        if augment is not None and checkpoint is not None:
            torch.manual_seed(seed)
            redrawn = digest(_augmented(augment, images[:share].cpu().long(), model.levels))
        parts = model.state_dict(keep_vars=True).items()
        plan = {
            "model": type(model).__name__, "config": repr(getattr(model, "config", None)),
            "weights": sum(weight.numel() for weight in weights), "precision": str(weights[0].dtype),
            "layers": digest(*((name, part.shape, part.dtype, part.requires_grad) for name, part in parts)),
            "images": list(images.shape), "pixels": digest(images), "labels": digest(labels),
            "validation": 0 if held_images is None else len(held_images), "validation images": digest(held_images),
            "validation labels": digest(held_labels), "augmentation": redrawn, "steps": total,
            "steps per epoch": per_epoch, "batch_size": batch_size, "optimizer": optimizer, "seed": seed,
            "learning_rate": learning_rate,
        }
        state = State(**file.read(asdict(State(plan))))
        state.history = History(**state.history | {"interrupted": False})
        state.learned = state.learned.to(device)
        trainer = Trainer(model, learning_rate, optimizer, compile=compile)  # the model was not changed before
        with interrupt.held():
            file.load(model, trainer.optimizer)
        hidden = not (progress and rank == 0)
        bar = tqdm(None, "training", total, initial=state.step, unit="img", unit_scale=batch_size, disable=hidden)
        shown = state.seconds
        order = None  # of the images in an epoch

        try:
            while True:
                # after an epoch, also where a stopped training goes on
                ended = state.ends_epoch(state.step) and state.step > state.since
                if ended or time.perf_counter() - file.saved_at > SAVE_EVERY:
                    _check_finite(state, weights, file)
                    if ended:
                        _close_entry(state, trainer, interrupt, held_images, held_labels)
                    file.save(asdict(state))
                    if ended and callback is not None:
                        callback(state.history)
                interrupt.act()
                if state.step == total or stalled(state.validations(), patience):
                    break

                # the batch: every epoch shuffles the images
                epoch, within = divmod(state.step, per_epoch)
                if within == 0 or order is None:
                    shuffle = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
                    order = torch.randperm(len(images), generator=shuffle)
                first = (within * processes + rank) * share
                batch = order[first : first + share].to(device)
                x = images[batch].long()  # (B, C, H, W)
                rows = () if labels is None else (labels[batch],)

                # a seed for each step and process, so that a resumed training repeats its dropout and augmentation
                torch.manual_seed((seed * 1_000_003 + state.step) * processes + rank)
                if augment is not None:
                    x = _augmented(augment, x, model.levels, look=on_cpu(x) or state.step == 0)

                # the optimiser
                model.train()
                with interrupt.held():
                    loss = trainer.step(schedule(state.step, total), x, x, *rows)
                    state.learned += loss
                    state.step += 1
                    state.seconds = time.perf_counter() - state.began

                # the bar
                bar.update()
                if state.seconds - shown > 0.5:  # reading the loss waits for a GPU, so not at every step
                    bar.set_postfix_str(f"{loss.item() / math.log(2):.3f} bits/dim", refresh=False)
                    shown = state.seconds
        except KeyboardInterrupt:
            if interrupt.is_held:  # raised within a step by something else: weights and counts do not belong together
                raise
            state.history.interrupted = True
            _check_finite(state, weights, file)
            file.save(asdict(state))  # before anything that another Ctrl-C could stop
            if state.step > state.since:
                of_epochs = state.best
                _close_entry(state, trainer, interrupt, held_images, held_labels)
                # the best weights may be those of this stop: they are returned, but a resumed training does without
                best = state.best if state.ends_epoch(state.step) else of_epochs
                file.save(asdict(state) | {"best": best})
            print(f"Stopped after {state.step} of {total} steps; what was learned so far is kept.")
        finally:
            interrupt.is_held = True  # the rest takes no time
            bar.close()
            if state.best is not None:
                model.load_state_dict(state.best)
            model.eval()
            if hasattr(model, "size"):
                model.size = tuple(images.shape[-2:])
    return state.history


def _check_data(model, images, labels, validation, augment) -> tuple:
    """Check what a model is trained on. Returns the images and labels of the validation, or None and None."""
    channels, levels, classes = check_model(model, wanted="be trained")
    check_images(images, levels if augment is None else max(levels, 256), channels)
    check_labels(labels, len(images), classes)
    if validation is None:
        return None, None
    held_images, held_labels = check_two("validation", validation, "(images, labels)")
    check_images(held_images, levels, channels, name="validation[0]")
    check_labels(held_labels, len(held_images), classes, name="validation[1]")
    return held_images, held_labels


def _check_options(epochs, steps, optimizer, patience, validation, augment, callback, compile, progress) -> None:
    given = f"epochs={epochs} and steps={steps}"
    require((epochs is None) != (steps is None), "exactly one of epochs and steps", "be given", given)
    known = isinstance(optimizer, str) and optimizer in OPTIMIZERS
    require(known, "optimizer", f"be one of {', '.join(map(repr, OPTIMIZERS))}", repr(optimizer))
    if patience is not None and check_int("patience", patience, 1) and validation is None:
        raise ValueError(f"patience needs validation=(images, labels), got patience={patience} without it")
    check_type("augment", augment, Callable | None, "a function or None")
    check_type("callback", callback, Callable | None, "a function or None")
    for name, flag in (("compile", compile), ("progress", progress)):
        require(isinstance(flag, bool), name, "be True or False", f"{type(flag).__name__} {flag!r}", TypeError)


def _trainable(model) -> list[torch.Tensor]:
    """The weights that a training changes, if it can."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if not weights:
        raise ValueError("model has no weights to train: is requires_grad False for all of them?")
    for weight in model.parameters():
        single = weight.dtype in (torch.float32, torch.float64)
        require(single, "model", "have float32 weights", f"{weight.dtype}: model.float() converts them")
    if any(weight.is_inference() for weight in weights):
        raise ValueError("model was built under torch.inference_mode(), where weights cannot be trained")
    if any(weight.is_meta or not weight.isfinite().all() for weight in weights):
        raise ValueError("model must have finite weights: some are NaN, infinite or on the meta device")
    return weights


def _check_finite(state: State, weights, file: Checkpoint) -> None:
    if not all(value.isfinite().all() for value in (state.learned, *weights)):
        there = file.path is not None and file.path.exists()
        kept = f" ({file.path} is from before, and goes on at a lower rate)" if there else ""
        raise FloatingPointError(f"loss or weights were not finite by step {state.step}: lower learning_rate{kept}")


def _close_entry(state: State, trainer: Trainer, interrupt: DelayedInterrupt, held_images, held_labels) -> None:
    """Write what was learned since the last entry into the history; keep the weights if they are the best."""
    from accelerate.utils import broadcast, broadcast_object_list

    model, accelerator, history = trainer.model, trainer.accelerator, state.history
    broadcast(list(model.buffers()))  # batch norm's running averages become those of the main process
    mean = accelerator.reduce(state.learned, "mean").item() / (state.step - state.since)
    found = []
    if held_images is not None:
        with accelerator.autocast():  # the model itself computes in float32
            found = [bits_per_dim(model, held_images, held_labels)]
        broadcast_object_list(found)  # that of the main process, so that all processes decide alike
    with interrupt.held():
        if found and found[0] < min(state.validations(), default=math.inf):
            state.best = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        state.seconds = time.perf_counter() - state.began
        history.steps.append(state.step)
        history.train.append(mean / math.log(2))
        history.validation.extend(found)
        history.seconds.append(state.seconds)
        state.learned.zero_()
        state.since = state.step


def _augmented(augment, x: torch.Tensor, levels: int, look: bool = True) -> torch.Tensor:
    """A batch redrawn by the caller's `augment`, checked; its values only if `look`, which would wait for a GPU."""
    redrawn = augment(x, torch.Generator(x.device).manual_seed(torch.initial_seed()))
    check_images(redrawn, levels, name="what augment returns", values=look)
    require(redrawn.shape == x.shape, "what augment returns", f"have the shape {tuple(x.shape)}", tuple(redrawn.shape))
    return redrawn.long()


class Trainer:
    """One optimiser step after the other: its learning rate, the precision, the processes.

    model: moved to the device in place. optimizer, compile: see `fit`. fast: channels-last, in the precision that the
    processor is fast in; False trains as textbooks do, contiguous and in float32.
    """

    def __init__(self, model, learning_rate, optimizer="adamw", weight_decay=0.01, compile=False, fast=True):
        self.model, self.learning_rate = model, learning_rate
        self.accelerator = get_accelerator()
        self.device = self.accelerator.device
        if compile:
            check_compiler(self.device)  # before the model changes
        # before the optimiser, which refers to the weights
        model.to(device=self.device, memory_format=torch.channels_last if fast else torch.contiguous_format)
        kernels = hidden_kernels(model) if optimizer == "muon" else []  # otherwise all weights are AdamW's
        self.optimizer = Muon(model.parameters(), kernels, learning_rate, weight_decay)
        self._optimizer = self.accelerator.prepare(self.optimizer)
        self._loss = self.accelerator.prepare(_CrossEntropy(model)) if fast else _CrossEntropy(model)
        if compile:
            self._loss = torch.compile(self._loss)

    def step(self, share: float, targets: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        """One step at a share of the learning rate; returns the mean cross entropy before it, in nats."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate * share * group["ratio"]
        loss = self._loss(targets, *inputs)
        self._optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        return loss.detach()


class _CrossEntropy(nn.Module):
    """A model's loss as a module, which Accelerate and torch.compile can wrap without leaving marks on the model."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, targets, *inputs):
        return F.cross_entropy(at_least_float32(self.model(*inputs)), targets)


def schedule(done: float, total: float) -> float:
    """The share of the learning rate after `done` of `total` steps: a warm-up, then a straight line to 0.

    Source: Defazio et al. 2023, Optimal Linear Decay Learning Rate Schedules and Further Refinements, arXiv 2310.07831.
    """
    warm_up = max(1, total // 20)
    return min(1.0, (done + 1) / warm_up, (total - done) / max(1, total - warm_up))


def stalled(found: list[float], patience: int | None) -> bool:
    """Whether the last `patience` epochs brought no better validation than those before."""
    return patience is not None and len(found) > patience and min(found[-patience:]) >= min(found[:-patience])


@contextmanager
def same_randomness_after(device: torch.device):
    """A context after which torch's random state, on a GPU its own too, is what it was before."""
    apples = torch.mps.get_rng_state() if device.type == "mps" else None  # fork_rng does not know Apple's GPUs
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        if apples is not None:
            torch.mps.set_rng_state(apples)


class NoCompiler(RuntimeError):
    """torch.compile finds no compiler."""


def check_compiler(device: torch.device) -> None:
    """Raise NoCompiler, with the fix, where torch.compile cannot work; torch itself would fail in the first step."""
    try:
        torch.compile(torch.neg)(torch.zeros(2, device=device))
    except Exception as error:  # many kinds, from one version to the next
        raise NoCompiler(
            f"compile=True needs a C++ compiler, such as g++, that works ({type(error).__name__}): "
            "install one, or pass compile=False (to the command train: --set compile=false)"
        ) from error


def get_accelerator():
    """Accelerate's choice of device and processes, with the precision that the processor is fast in."""
    from accelerate import Accelerator  # takes a second to import
    from accelerate.state import is_initialized

    if is_initialized():  # by the caller or by an earlier call: there is one state per process
        return Accelerator()
    return Accelerator(mixed_precision=os.environ.get("ACCELERATE_MIXED_PRECISION") or _precision())


def _precision() -> str:
    from accelerate.utils import parse_flag_from_env

    cpu_only = parse_flag_from_env("ACCELERATE_USE_CPU")
    if torch.cuda.is_available() and not cpu_only:
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if torch.backends.mps.is_available() and not cpu_only:
        return "no"
    if hasattr(torch.cpu, "get_capabilities"):
        fast = torch.cpu.get_capabilities().get("avx512_bf16")
    else:  # torch 2.9 has no public way to ask
        fast = torch.cpu._is_avx512_bf16_supported()
    return "bf16" if fast else "no"
