"""What survives a stop: files written atomically, the checkpoint of a training, Ctrl-C between two steps."""

from __future__ import annotations

import glob
import hashlib
import io
import os
import signal
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

import torch
from filelock import FileLock, Timeout

from .checks import check_type


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file, and the folders above it; whatever stops the write leaves the old file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")  # two writers do not share it
    try:
        unfinished.write_bytes(data if isinstance(data, bytes) else data.encode())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def digest(*values) -> str:
    """The beginning of a SHA-256 of tensors and plain values, of those in dictionaries and lists, too."""
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, dict):
            value = [*value, *value.values()]
        if isinstance(value, list | tuple):
            value = digest(*value)
        if isinstance(value, torch.Tensor):
            found.update(value.detach().cpu().flatten().view(torch.uint8).numpy())
            value = (value.dtype, tuple(value.shape))
        found.update(f"{value!r};".encode())
    return found.hexdigest()[:12]


class Checkpoint:
    """A file from which a training goes on: its weights, its optimiser, and how far it is.

    path: None saves nothing. writes: whether this process writes the file; until `close` it then holds a lock on
    `path + ".lock"`, which the end of the process releases, too.
    Raises TypeError for what is no path, ValueError for one that cannot be written or that another training uses.
    """

    def __init__(self, path, writes: bool = True):
        check_type("checkpoint", path, str | os.PathLike | None, "a path or None")
        self.path = self.lock = self.loaded = None
        self.writes = writes and path is not None
        self.saved_at = time.perf_counter()
        if path is None:
            return
        try:
            self.path = Path(path).resolve()  # stays the same in whatever folder a callback works
            if self.path.exists() and not self.path.is_file():
                raise OSError("it is not a file")
            if writes:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.lock = FileLock(f"{self.path}.lock")
                self.lock.acquire(timeout=0)
                for unfinished in self.path.parent.glob(f"{glob.escape(self.path.name)}.*.part"):
                    unfinished.unlink()  # of a training that was killed
                with NamedTemporaryFile(dir=self.path.parent, prefix=f"{self.path.name}.", suffix=".part"):
                    pass  # the folder takes new files, with names as long as those of `write_atomically`
        except Timeout:
            raise ValueError(f"checkpoint {path} is in use by another training: name another one") from None
        except (OSError, ValueError, RuntimeError) as error:
            self.close()
            raise ValueError(f"checkpoint {path} cannot be written ({error}): name another one") from None

    def close(self) -> None:
        if self.lock is not None:
            self.lock.release()

    def read(self, start: dict) -> dict:
        """The state of the training in the file; `start` if there is no file.

        start: its plan must be that of the file, but for a lower learning rate.
        Raises ValueError for a file that cannot be read, was changed since it was saved, or is of another training.
        """
        if self.path is None or not self.path.exists():
            return start
        try:
            loaded = torch.load(self.path, map_location="cpu", weights_only=True)
            if loaded.pop("digest") != digest(loaded) or loaded["history"].keys() != start["history"].keys():
                raise ValueError("damaged")
            state = {key: loaded[key] for key in start}
        except Exception as error:  # torch raises many kinds for a file it cannot read
            reason = type(error).__name__
            raise ValueError(f"checkpoint {self.path} cannot be read ({reason}): delete it or name another") from None
        there, here = state["plan"], start["plan"]
        if here["learning_rate"] < there.get("learning_rate", 0):
            there = there | {"learning_rate": here["learning_rate"]}
        pairs = [(name, there.get(name), here.get(name)) for name in there | here]
        differ = "; ".join(f"{name} {old} there, {new} here" for name, old, new in pairs if old != new)
        if differ:
            raise ValueError(f"checkpoint {self.path} is of another training ({differ}): delete it or name another")
        self.loaded = loaded
        return state | {"plan": here}

    def load(self, model, optimizer) -> None:
        """Give the model and its optimiser what was read, if there was a file; they are what `save` saves."""
        self.model, self.optimizer = model, optimizer
        if self.loaded is not None:
            model.load_state_dict(self.loaded["model"])
            optimizer.load_state_dict(self.loaded["optimizer"])
            self.loaded = None

    def save(self, state: dict) -> None:
        """Replace the file by one with the weights of now and the state of the training.

        Where that fails (a full disk, say), a line says so, and the old file stays.
        """
        self.saved_at = time.perf_counter()
        if not self.writes:
            return
        state = state | {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        buffer = io.BytesIO()
        torch.save(state | {"digest": digest(state)}, buffer)
        try:
            write_atomically(self.path, buffer.getvalue())
        except OSError as error:
            print(f"Checkpoint {self.path} could not be written ({error}): training goes on in memory.", flush=True)


class DelayedInterrupt:
    """A context in which the first Ctrl-C waits until `act`, and a second one acts at once, but never inside `held`.

    So weights, optimiser and counts always belong to the same step. Then the handler from before acts; Python's own
    raises KeyboardInterrupt. Outside the main thread, where no signals arrive, nothing is changed.
    """

    def __enter__(self) -> DelayedInterrupt:
        self.presses, self.waits, self.is_held = 0, False, True  # until the first `held` ends
        in_main = threading.current_thread() is threading.main_thread()
        self.before = signal.getsignal(signal.SIGINT) if in_main else None
        if callable(self.before):
            signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, kind, *_) -> None:
        if callable(self.before):
            signal.signal(signal.SIGINT, self.before)
        if kind is None:
            self.act()

    def _press(self, *_) -> None:
        self.presses += 1
        self.waits = True
        if self.presses > 1 and not self.is_held:
            self.act()

    @contextmanager
    def held(self):
        """An error inside leaves `is_held` True: what belongs together may not be complete."""
        self.is_held = True
        yield
        self.is_held = False
        if self.presses > 1:
            self.act()

    def act(self) -> None:
        """Let the Ctrl-C act that waits, if there is one."""
        if self.waits:
            self.waits = False
            self.before(signal.SIGINT, None)
