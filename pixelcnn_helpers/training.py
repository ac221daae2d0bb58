"""Training by maximum likelihood: one plain loop for every network, on whatever device there is."""

from __future__ import annotations

import ctypes
import io
import math
import os
import platform
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, broadcast, broadcast_object_list, parse_flag_from_env
from torch.nn import functional as F
from tqdm.auto import tqdm

from .checks import check_images, check_int, check_labels, check_model, check_number
from .files import write_whole
from .likelihood import bits_per_dim
from .models import images_on_cpu

SAVE_EVERY = 60  # seconds between checkpoints within an epoch


@dataclass
class History:
    """What a training measured, one entry per epoch (and one where it was stopped): `asdict` makes it JSON.

    steps: optimiser steps so far. train: mean bits/dim since the entry before, as trained (dropout, augmentation).
    validation: bits/dim on the validation images in the precision of training, empty if there were none.
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
    epochs or steps: exactly one. The learning rate warms up over the first twentieth and then falls to 0 as a cosine.
    batch_size: images per step, over all processes together.
    validation: `(images, labels)`, measured after every epoch; the weights that did best on it are the ones kept.
    patience: stop after so many epochs without a better validation.
    augment: `augment(images, generator) -> images` may redraw a batch `(B, C, H, W)` of integers, of up to 256 levels
    before and the model's own after it; the generator is on the device of the images.
    compile: let torch.compile fuse each step, for long trainings: it takes half a minute and a C++ compiler.
    callback: `callback(history)` after every epoch.
    checkpoint: a file to resume from if it is there, saved after every epoch, every minute, and when stopped.

    Accelerate chooses the device (CUDA, Apple's, CPU) and the processes; the precision is bfloat16 where the processor
    computes in it, float16 on older CUDA cards, else float32; weights stay float32. Ctrl-C keeps what was learned.
    Afterwards the model is in evaluation mode, on that device, and knows its `size`. The caller's random state is not
    touched. An epoch leaves out what does not fill its last batch, other images every time.
    Raises ValueError or TypeError for arguments that do not fit the model or one another, ValueError for a checkpoint
    of another training, FloatingPointError when the loss is no longer a number, NoCompiler (a RuntimeError) where
    compile has nothing to compile with.
    """
    channels, levels, classes = check_model(model, wanted="be trained")
    # what augment returns is looked at, batch by batch
    check_images(images, levels if augment is None else max(levels, 256), channels)
    check_labels(labels, len(images), classes)
    held_images, held_labels = _validation(validation, levels, channels, classes)
    if (epochs is None) == (steps is None):
        raise ValueError(f"exactly one of epochs and steps must be given, got epochs={epochs} and steps={steps}")
    if patience is not None:
        check_int("patience", patience, 1)
        if validation is None:
            raise ValueError(f"patience needs validation=(images, labels), got patience={patience} without it")
    learning_rate = check_number("learning_rate", learning_rate)
    if learning_rate == 0:
        raise ValueError("learning_rate must be above 0, got 0")
    seed = check_int("seed", seed, 0) % 2**32  # leaves room for the steps in torch's 64 bits

    accelerator = get_accelerator()
    device, processes = accelerator.device, accelerator.num_processes
    share = max(1, min(check_int("batch_size", batch_size, 1), len(images)) // processes)  # of a batch, per process
    per_epoch = max(1, len(images) // (share * processes))
    total = check_int("steps", steps, 1) if epochs is None else check_int("epochs", epochs, 1) * per_epoch

    if compile:
        check_compiler(device)  # before anything is touched
    # integers in memory, where the model is: a batch is an index away
    images = images.to(device, torch.uint8 if levels <= 256 else torch.int32)
    labels = None if labels is None else labels.to(device)
    # what Accelerate would leave on the model
    marks = {"forward", "_is_accelerate_prepared", "_is_torch_compile"} - vars(model).keys()
    model.to(device=device, memory_format=torch.channels_last)  # before the optimiser: it holds on to the weights
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    plan = _plan(model, images, held_images, total, share * processes, learning_rate, seed)
    accelerator.wait_for_everyone()  # the main process may still be saving an earlier training
    run = _Run(model, optimizer, checkpoint, plan, saves=accelerator.is_main_process)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    step, history, run.learned = torch.compile(wrapped) if compile else wrapped, run.history, run.learned.to(device)
    hidden = not (progress and accelerator.is_main_process)
    bar = tqdm(
        total=total, initial=run.step, unit="img", unit_scale=share * processes, desc="training", disable=hidden
    )
    shown, order = time.perf_counter(), None

    def close_entry() -> None:
        """Write what was learned since the last entry, and keep the weights if they are the best so far."""
        broadcast(list(model.buffers()))  # each process has averaged its own batches in batch norm
        mean = accelerator.reduce(run.learned, "mean").item() / max(1, run.step - run.since) / math.log(2)
        if not math.isfinite(mean):
            raise FloatingPointError(f"the loss was no longer a number by step {run.step}: lower learning_rate")
        held = [] if validation is None else broadcast_object_list([bits_per_dim(model, held_images, held_labels)])
        # only now, since Ctrl-C may come while it is measured
        history.steps.append(run.step)
        history.train.append(mean)
        history.validation.extend(held)
        history.seconds.append(time.perf_counter() - run.started)
        if held and held[0] == min(history.validation):
            run.best = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        run.learned, run.since = torch.zeros_like(run.learned), run.step

    with same_randomness_after(device):
        try:
            while run.step < total and not _stalled(history, patience):
                model.train()
                epoch, within = divmod(run.step, per_epoch)
                if within == 0 or order is None:
                    shuffle = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
                    order = torch.randperm(len(images), generator=shuffle)
                first = (within * processes + accelerator.process_index) * share
                batch = order[first : first + share].to(device)
                x = images[batch].long()
                # dropout and augmentation: a seed per step and process, so that a resumed training repeats them
                torch.manual_seed((seed * 1_000_003 + run.step) * processes + accelerator.process_index)
                if augment is not None:
                    x = augment(x, torch.Generator(device).manual_seed(torch.initial_seed()))
                    looked_at = images_on_cpu(x) or run.step == 0  # a GPU would have to be waited for
                    check_images(x, levels, channels, name="what augment returns", values=looked_at)
                    if len(x) != len(batch) or x.shape[1:] != images.shape[1:]:
                        wanted, got = (len(batch), *images.shape[1:]), tuple(x.shape)
                        raise ValueError(f"what augment returns must have the shape {wanted}, got {got}")
                    x = x.long()
                rows = () if labels is None else (labels[batch],)

                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * _schedule(run.step, total)
                loss = F.cross_entropy(step(x, *rows), x)  # (B, levels, C, H, W) against (B, C, H, W)
                optimizer.zero_grad()
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()

                run.learned += loss.detach()
                run.step += 1
                bar.update()
                now = time.perf_counter()
                if now - shown > 0.5:  # reading the loss waits for the device: not at every step
                    bar.set_postfix_str(f"{loss.item() / math.log(2):.3f} bits/dim", refresh=False)
                    shown = now
                if run.step % per_epoch == 0 or run.step == total:
                    close_entry()
                    run.save()
                    if callback is not None:
                        callback(history)
                elif now - run.saved > SAVE_EVERY:
                    run.save()
        except KeyboardInterrupt:
            history.interrupted = True
            run.save()  # before anything that a second Ctrl-C could stop
            if run.step > run.since:
                close_entry()
            run.save()
            print(f"Stopped after {run.step} of {total} steps; what was learned so far is kept.")
        finally:
            bar.close()
            accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)  # forward without autocast again
            for mark in marks:  # with them, a second training would go without autocast
                vars(model).pop(mark, None)
            if run.best is not None:
                model.load_state_dict(run.best)
            model.eval()
            if hasattr(model, "size"):
                model.size = tuple(images.shape[-2:])
    return history


class _Run:
    """What a training needs to go on: step, history, best weights, and how they are saved and found again."""

    def __init__(self, model, optimizer, path, plan: dict, saves: bool):
        self.model, self.optimizer, self.plan, self.saves = model, optimizer, plan, saves
        self.path = None if path is None else Path(path)
        self.step, self.history, self.best, self.saved = 0, History(), None, time.perf_counter()
        self.learned, self.since = torch.zeros(()), 0  # the loss since the history's last entry, summed, and its step
        seconds = 0.0
        if self.path is not None and self.path.exists():
            seconds = self._load()
        self.started = time.perf_counter() - seconds

    def _load(self) -> float:
        """Take over what the checkpoint holds; its seconds of training."""
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            plan, history = dict(state["plan"]), History(**state["history"])
            seconds = state["seconds"]
            if plan == self.plan:
                self.model.load_state_dict(state["model"])
                self.optimizer.load_state_dict(state["optimizer"])
                self.step, self.history, self.best = state["step"], history, state["best"]
                self.learned, self.since = torch.tensor(state["learned"]), state["since"]
        except Exception as error:  # torch raises many kinds for a file it cannot read
            reason = type(error).__name__
            raise ValueError(f"checkpoint {self.path} cannot be read ({reason}): delete it or name another") from error
        if plan != self.plan:
            pairs = [(name, plan.get(name), own) for name, own in self.plan.items()]
            what = "; ".join(f"{name} {there} there, {own} here" for name, there, own in pairs if there != own)
            raise ValueError(f"checkpoint {self.path} is of another training ({what}): delete it or name another")
        self.history.interrupted = False
        return seconds

    def save(self) -> None:
        """Write the checkpoint beside its place and move it there, so that a crash leaves the old one whole."""
        self.saved = time.perf_counter()
        if self.path is None or not self.saves:
            return
        state = {
            "plan": self.plan, "step": self.step, "history": asdict(self.history), "best": self.best,
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "seconds": time.perf_counter() - self.started, "learned": self.learned.item(), "since": self.since,
        }
        whole = io.BytesIO()
        torch.save(state, whole)
        write_whole(self.path, whole.getvalue())


def _plan(model, images, held_images, total: int, batch: int, learning_rate: float, seed: int) -> dict:
    """What must be the same for a checkpoint to be of this training."""
    weights = sum(weight.numel() for weight in model.parameters())
    return {
        "model": type(model).__name__, "weights": weights, "config": repr(getattr(model, "config", None)),
        "images": list(images.shape), "sum of pixels": int(images.sum()),
        "validation": 0 if held_images is None else len(held_images),
        "steps": total, "batch_size": batch, "learning_rate": learning_rate, "seed": seed,
    }


def _validation(validation, levels: int, channels: int, classes: int):
    if validation is None:
        return None, None
    try:
        images, labels = validation
    except (TypeError, ValueError):
        raise ValueError(f"validation must be a pair (images, labels), got {type(validation).__name__}") from None
    check_images(images, levels, channels, name="validation[0]")
    check_labels(labels, len(images), classes, name="validation[1]")
    return images, labels


class NoCompiler(RuntimeError):
    """torch.compile has nothing to compile with."""


def check_compiler(device: torch.device) -> None:
    """NoCompiler, with the fix, where torch.compile cannot work: torch itself would fail within the first step."""
    try:
        torch.compile(torch.neg)(torch.zeros(2, device=device))
    except Exception as error:  # many kinds, from one version to the next
        raise NoCompiler(
            f"compile=True needs a C++ compiler, such as g++, that works ({type(error).__name__}): "
            "install one, or pass compile=False (to the command train: --set compile=false)"
        ) from error


def hardware(device: torch.device | str = "cpu") -> str:
    """What computes here, in words: the GPU's name, or the processor's with its threads."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    name, told = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if told.is_file():  # Linux
        names = [line.partition(":")[2].strip() for line in told.read_text().splitlines() if "model name" in line]
        name = (names or [name])[0]
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' * (threads > 1)}"


def keep_memory() -> None:
    """Let the C library keep freed memory instead of asking the kernel for it anew at every step (glibc, Linux).

    On a processor this makes training about a tenth faster, with large batches more. It holds for the whole process,
    and so is for commands that do nothing else.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt, never, trim_threshold, mmap_max = ctypes.CDLL(None).mallopt, 2**31 - 1, -1, -4
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, never)


def same_randomness_after(device: torch.device):
    """A context after which torch's random state, on a GPU its own too, is what it was before."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _schedule(step: int, total: int) -> float:
    """The share of the learning rate at a step: a warm-up over a twentieth of the training, then a cosine to 0."""
    warm_up = max(1, total // 20)
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / total))


def _stalled(history: History, patience: int | None) -> bool:
    """Whether the last `patience` epochs brought no better validation."""
    found = history.validation
    return patience is not None and len(found) > patience and min(found[-patience:]) >= min(found[:-patience])


def get_accelerator() -> Accelerator:
    """Accelerate's word on device and processes, with the precision that the processor computes fast in."""
    # several processes would wait for ever for the gradient of a weight that nothing depends on
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    if AcceleratorState._shared_state:  # set up before, by the caller or by an earlier fit: one per process
        return Accelerator(kwargs_handlers=handlers)
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION") or _precision()
    return Accelerator(mixed_precision=precision, kwargs_handlers=handlers)


def _precision() -> str:
    cpu_only = parse_flag_from_env("ACCELERATE_USE_CPU")
    if torch.cuda.is_available() and not cpu_only:
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if torch.backends.mps.is_available() and not cpu_only:
        return "no"
    abilities = getattr(torch.cpu, "get_capabilities", dict)()
    older = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)  # torch 2.9 has no get_capabilities
    return "bf16" if abilities.get("avx512_bf16") or older() else "no"
