"""Training by maximum likelihood: one plain loop for every network, on whatever device there is."""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict, dataclass, field

import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from .checkpoint import Checkpoint
from .checks import check_images, check_int, check_labels, check_model, check_positive, check_two
from .likelihood import bits_per_dim
from .models import on_cpu

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


def fit(
    model, images, labels=None, *, epochs=None, steps=None, batch_size=64, learning_rate=2e-3, seed=0, validation=None,
    checkpoint=None, augment=None, patience=None, compile=False, callback=None, progress=True,
) -> History:
    """Train a model on images in place, by AdamW on the mean negative log likelihood, and return its `History`.

    images: integers `(N, C, H, W)`; labels: float rows `(N, classes)` for a model with classes.
    epochs or steps: exactly one. The learning rate rises over the first twentieth, then falls to 0 as a cosine.
    batch_size: images per step, over all processes. An epoch leaves out those that do not fill its last batch.
    validation: `(images, labels)`, measured after every epoch; the weights that did best on it are the ones kept.
    patience: stop after so many epochs without a better validation.
    augment: `augment(images, generator) -> images` may redraw a batch `(B, C, H, W)` of integers, of up to 256 levels
    before and the model's own after it; the generator is on the device of the images.
    compile: let torch.compile fuse each step, for long trainings; it takes half a minute and a C++ compiler.
    callback: `callback(history)` after every epoch.
    checkpoint: a file to resume from if it exists, saved after every epoch, every minute, and when stopped.

    Accelerate chooses the device (CUDA, Apple's, CPU) and the processes. The precision is bfloat16 where the processor
    computes in it, float16 on older CUDA cards, else float32; weights stay float32. Ctrl-C keeps what was learned.
    Afterwards the model is in evaluation mode, on that device, and has its `size`. The caller's random state is kept.
    Raises ValueError or TypeError for arguments that do not fit the model or one another, ValueError for a checkpoint
    of another training, FloatingPointError when the loss is NaN or infinite, NoCompiler (a RuntimeError) where compile
    has no compiler.
    """
    channels, levels, classes = check_model(model, wanted="be trained")
    check_images(images, levels if augment is None else max(levels, 256), channels)
    check_labels(labels, len(images), classes)
    if validation is not None:
        held_images, held_labels = check_two("validation", validation, "(images, labels)")
        check_images(held_images, levels, channels, name="validation[0]")
        check_labels(held_labels, len(held_images), classes, name="validation[1]")
    if (epochs is None) == (steps is None):
        raise ValueError(f"exactly one of epochs and steps must be given, got epochs={epochs} and steps={steps}")
    if patience is not None and check_int("patience", patience, 1) and validation is None:
        raise ValueError(f"patience needs validation=(images, labels), got patience={patience} without it")
    seed = check_int("seed", seed, 0) % 2**32  # leaves room for the steps in torch's 64 bits
    batch_size = min(check_int("batch_size", batch_size, 1), len(images))
    limit = check_int("steps", steps, 1) if epochs is None else check_int("epochs", epochs, 1)

    trainer = Trainer(model, check_positive("learning_rate", learning_rate), compile=compile)
    device, processes, rank = trainer.device, trainer.accelerator.num_processes, trainer.accelerator.process_index
    share = max(1, batch_size // processes)  # images per process and step
    per_epoch = max(1, len(images) // (share * processes))
    total = limit if epochs is None else limit * per_epoch
    plan = {
        "model": type(model).__name__, "weights": sum(weight.numel() for weight in model.parameters()),
        "config": repr(getattr(model, "config", None)), "images": list(images.shape),
        "sum of pixels": int(images.sum()), "validation": 0 if validation is None else len(held_images),
        "steps": total, "batch_size": share * processes, "learning_rate": trainer.learning_rate, "seed": seed,
    }
    trainer.accelerator.wait_for_everyone()  # the main process may still be saving an earlier training
    file = Checkpoint(checkpoint, plan, model, trainer.optimizer, writes=rank == 0)
    # learned: the sum of the losses since the history's last entry, which was written at step `since`
    start = {"step": 0, "history": {}, "best": None, "learned": 0.0, "since": 0, "seconds": 0.0}
    step, history, best, learned, since, seconds = file.load(start).values()
    history = History(**{**history, "interrupted": False})
    learned = torch.tensor(learned, device=device)
    began = time.perf_counter() - seconds

    # integers in the memory of the device, indexed by batch
    images = images.to(device, torch.uint8 if levels <= 256 else torch.int32)
    labels = None if labels is None else labels.to(device)
    order, shown_at = None, time.perf_counter()
    hidden = not (progress and rank == 0)
    bar = tqdm(total=total, initial=step, unit="img", unit_scale=share * processes, desc="training", disable=hidden)

    def save() -> None:
        file.save(
            step=step, history=asdict(history), best=best, learned=learned.item(), since=since,
            seconds=time.perf_counter() - began,
        )

    def close_entry() -> None:
        """Write what was learned since the last entry into the history, and keep the weights if they are the best."""
        nonlocal best, since
        mean = trainer.mean_of_processes(learned) / max(1, step - since) / math.log(2)
        if not math.isfinite(mean):
            raise FloatingPointError(f"the loss was no longer a number by step {step}: lower learning_rate")
        held = []
        if validation is not None:
            with trainer.accelerator.autocast():  # the model itself computes in float32
                held = trainer.of_main(bits_per_dim(model, held_images, held_labels))
        # the lists grow together, after all that Ctrl-C may interrupt
        history.steps.append(step)
        history.train.append(mean)
        history.validation.extend(held)
        history.seconds.append(time.perf_counter() - began)
        if held and held[0] == min(history.validation):
            best = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        learned.zero_()
        since = step

    with same_randomness_after(device):
        try:
            while step < total and not stalled(history, patience):
                model.train()
                epoch, within = divmod(step, per_epoch)
                if within == 0 or order is None:
                    shuffle = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
                    order = torch.randperm(len(images), generator=shuffle)
                first = (within * processes + rank) * share
                batch = order[first : first + share].to(device)
                # a seed for each step and process, so that a resumed training repeats its dropout and augmentation
                torch.manual_seed((seed * 1_000_003 + step) * processes + rank)
                x = images[batch].long()  # (B, C, H, W)
                if augment is not None:
                    x = _augmented(augment, x, levels, look=on_cpu(x) or step == 0)
                rows = () if labels is None else (labels[batch],)
                loss = trainer.step(schedule(step, total), x, x, *rows)

                learned += loss
                step += 1
                bar.update()
                now = time.perf_counter()
                if now - shown_at > 0.5:  # reading the loss waits for a GPU, so not at every step
                    bar.set_postfix_str(f"{loss.item() / math.log(2):.3f} bits/dim", refresh=False)
                    shown_at = now
                if step % per_epoch == 0 or step == total:
                    close_entry()
                    save()
                    if callback is not None:
                        callback(history)
                elif now - file.saved_at > SAVE_EVERY:
                    save()
        except KeyboardInterrupt:
            history.interrupted = True
            save()  # before anything that a second Ctrl-C could stop
            if step > since:
                close_entry()
            save()
            print(f"Stopped after {step} of {total} steps; what was learned so far is kept.")
        finally:
            bar.close()
            if best is not None:
                model.load_state_dict(best)
            model.eval()
            if hasattr(model, "size"):
                model.size = tuple(images.shape[-2:])
    return history


def _augmented(augment, x: torch.Tensor, levels: int, look: bool) -> torch.Tensor:
    """A batch redrawn by the caller's `augment`, checked; its values only if `look`, which would wait for a GPU."""
    redrawn = augment(x, torch.Generator(x.device).manual_seed(torch.initial_seed()))
    check_images(redrawn, levels, name="what augment returns", values=look)
    if redrawn.shape != x.shape:
        raise ValueError(f"what augment returns must have the shape {tuple(x.shape)}, got {tuple(redrawn.shape)}")
    return redrawn.long()


class Trainer:
    """One optimiser step after the other: AdamW, its learning rate, the precision, the processes.

    model: moved to the device in place. compile: see `fit`. fast: channels-last, in the precision that the processor is
    fast in; False trains as textbooks do, contiguous and in float32.
    """

    def __init__(self, model, learning_rate: float, weight_decay: float = 0.01, compile=False, fast: bool = True):
        self.accelerator, self.model, self.learning_rate = get_accelerator(), model, learning_rate
        self.device = self.accelerator.device
        if compile:
            check_compiler(self.device)  # before the model changes
        # before the optimiser, which refers to the weights
        model.to(device=self.device, memory_format=torch.channels_last if fast else torch.contiguous_format)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
        self._loss, self._optimizer = self.accelerator.prepare(_CrossEntropy(model, fast), self.optimizer)
        if compile:
            self._loss = torch.compile(self._loss)

    def step(self, share: float, targets: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        """One step at a share of the learning rate; returns the mean cross entropy before it, in nats."""
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate * share
        loss = self._loss(targets, *inputs)
        self._optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        return loss.detach()

    def mean_of_processes(self, value: torch.Tensor) -> float:
        """The mean of a value over all processes; batch norm's running averages become those of the main one."""
        from accelerate.utils import broadcast

        broadcast(list(self.model.buffers()))
        return self.accelerator.reduce(value, "mean").item()

    def of_main(self, value) -> list:
        """What the main process has, in a list, so that all processes decide alike."""
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])


class _CrossEntropy(nn.Module):
    """A model's loss as a module, which Accelerate and torch.compile can wrap without leaving marks on the model."""

    def __init__(self, model, fast: bool):
        super().__init__()
        self.model, self.fast = model, fast

    def forward(self, targets, *inputs):
        if self.fast:
            logits = self.model(*inputs)
        else:
            with torch.autocast(targets.device.type, enabled=False):  # switches that of Accelerate off
                logits = self.model(*inputs)
        return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets)


def schedule(done: float, total: float) -> float:
    """The share of the learning rate after `done` of `total` steps or seconds: a warm-up, then a cosine to 0."""
    warm_up = max(1, total // 20)
    return min(1.0, (done + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * done / total))


def stalled(history: History, patience: int | None) -> bool:
    """Whether the last `patience` epochs brought no better validation."""
    found = history.validation
    return patience is not None and len(found) > patience and min(found[-patience:]) >= min(found[:-patience])


def same_randomness_after(device: torch.device):
    """A context after which torch's random state, on a GPU its own too, is what it was before."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


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
