"""What survives a stop: files written atomically, the checkpoint of a training, Ctrl-C between two steps."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file, and the folders above it; whatever stops the write leaves the old file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")  # two writers do not share it
    try:
        unfinished.write_bytes(data if isinstance(data, bytes) else data.encode())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def digest(*tensors: torch.Tensor | None) -> str:
    """The beginning of a SHA-256 of the values and shapes of tensors."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(repr(None if tensor is None else (tensor.dtype, tuple(tensor.shape))).encode())
        if tensor is not None:
            found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return found.hexdigest()[:12]


class Checkpoint:
    """A file from which a training goes on: its weights, its optimiser, and how far it is.

    path: None saves nothing. writes: whether this process writes the file; until `close` it then holds a lock on
    `path + ".lock"`, which the end of the process releases, too.
    Raises TypeError for what is no path, ValueError for one that cannot be written or that another training uses.
    """

    def __init__(self, path, writes: bool = True):
        if not isinstance(path, str | os.PathLike | None):
            raise TypeError(f"checkpoint must be a path or None, got {type(path).__name__}")
        self.path, self.lock, self.writes = None if path is None else Path(path), None, writes
        self.saved_at = time.perf_counter()
        if self.path is None or not writes:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.lock = FileLock(f"{self.path}.lock", timeout=0)
            self.lock.acquire()
        except Timeout:
            raise ValueError(f"checkpoint {self.path} is in use by another training: name another one") from None
        except (OSError, ValueError) as error:
            raise ValueError(f"checkpoint {path} cannot be written ({error}): name another one") from None

    def close(self) -> None:
        if self.lock is not None:
            self.lock.release()

    def load(self, plan: dict, model, optimizer, start: dict) -> dict:
        """How far the training in the file is, with its weights in the model; `start` if there is no file.

        plan: what must be the same for the file to belong to this training, but for a lower learning rate.
        Raises ValueError for a file that cannot be read, lacks something, or is of another training. The model is then
        as it was before.
        """
        self.plan, self.model, self.optimizer = plan, model, optimizer
        if self.path is None or not self.path.exists():
            return start
        before = {name: value.clone() for name, value in model.state_dict().items()}
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            there, found = dict(state["plan"]), {key: state[key] for key in start}
            ours = _goes_on_with(there, plan)
            if ours:
                for weights in (found["best"], state["model"]):
                    model.load_state_dict(before if weights is None else weights)
                optimizer.load_state_dict(state["optimizer"])
                kinds = {frozenset(one) for one in state["optimizer"]["state"].values()}
                if len(kinds) > 1 or found["history"].keys() != start["history"].keys():
                    raise KeyError("a part is missing")
        except Exception as error:  # torch raises many kinds for a file it cannot read
            model.load_state_dict(before)
            reason = type(error).__name__
            raise ValueError(f"checkpoint {self.path} cannot be read ({reason}): delete it or name another") from None
        if not ours:
            pairs = [(name, there.get(name), own) for name, own in plan.items()]
            what = "; ".join(f"{name} {other} there, {own} here" for name, other, own in pairs if other != own)
            raise ValueError(f"checkpoint {self.path} is of another training ({what}): delete it or name another")
        return found

    def save(self, **progress) -> None:
        """Replace the file by one with the weights of now, and how far the training is.

        Where that fails (a full disk, say), a line says so, and the old file stays.
        """
        self.saved_at = time.perf_counter()
        if self.path is None or not self.writes:
            return
        state = {"plan": self.plan, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        buffer = io.BytesIO()
        torch.save(state | progress, buffer)
        try:
            write_atomically(self.path, buffer.getvalue())
        except OSError as error:
            print(f"Checkpoint {self.path} could not be written ({error}): training goes on in memory.", flush=True)


def _goes_on_with(there: dict, plan: dict) -> bool:
    """Whether a checkpoint's plan is this one, or this one at a higher learning rate."""
    same = there | {"learning_rate": 0} == plan | {"learning_rate": 0}
    return same and plan["learning_rate"] <= there["learning_rate"]


class DelayedInterrupt:
    """A context in which the first Ctrl-C waits until `act`, and a second one acts at once, but never inside `held`.

    So weights, optimiser and counts always belong to the same step. It changes nothing outside the main thread, or
    where somebody else handles Ctrl-C.
    """

    def __enter__(self) -> DelayedInterrupt:
        self.presses, self.is_held = 0, False
        in_main = threading.current_thread() is threading.main_thread()
        self.delays = in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self.delays:
            signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_) -> None:
        if self.delays:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _press(self, *_) -> None:
        self.presses += 1
        if self.presses > 1 and not self.is_held:
            raise KeyboardInterrupt

    @contextmanager
    def held(self):
        self.is_held = True
        try:
            yield
        finally:
            self.is_held = False

    def act(self) -> None:
        """Raise the KeyboardInterrupt that waits, if there is one."""
        if self.presses:
            raise KeyboardInterrupt
