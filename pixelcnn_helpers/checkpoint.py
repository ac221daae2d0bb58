"""Files that survive a stop: atomic writes, and the checkpoint of a training."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import torch


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file, and the folders above it; whatever stops the write leaves the old file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    try:
        unfinished.write_bytes(data if isinstance(data, bytes) else data.encode())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


class Checkpoint:
    """A file from which a training goes on: its weights, its optimiser, and how far it is.

    plan: what must be the same for a checkpoint to belong to this training. path: None saves nothing. writes: whether
    this process writes the file.
    """

    def __init__(self, path, plan: dict, model, optimizer, writes: bool = True):
        self.path = None if path is None else Path(path)
        self.plan, self.model, self.optimizer, self.writes = plan, model, optimizer, writes
        self.saved_at = time.perf_counter()

    def load(self, start: dict) -> dict:
        """How far the training in the file is, with its weights in the model; `start` if there is no file.

        Raises ValueError for a file that cannot be read, lacks a key of `start`, or is of another training.
        """
        if self.path is None or not self.path.exists():
            return start
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            plan, found = dict(state["plan"]), {key: state[key] for key in start}
            if plan == self.plan:
                self.model.load_state_dict(state["model"])
                self.optimizer.load_state_dict(state["optimizer"])
        except Exception as error:  # torch raises many kinds for a file it cannot read
            reason = type(error).__name__
            raise ValueError(f"checkpoint {self.path} cannot be read ({reason}): delete it or name another") from error
        if plan != self.plan:
            pairs = [(name, plan.get(name), own) for name, own in self.plan.items()]
            what = "; ".join(f"{name} {there} there, {own} here" for name, there, own in pairs if there != own)
            raise ValueError(f"checkpoint {self.path} is of another training ({what}): delete it or name another")
        return found

    def save(self, **progress) -> None:
        """Replace the file by one with the weights of now, and how far the training is."""
        self.saved_at = time.perf_counter()
        if self.path is not None and self.writes:
            state = {"plan": self.plan, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
            buffer = io.BytesIO()
            torch.save(state | progress, buffer)
            write_atomically(self.path, buffer.getvalue())
