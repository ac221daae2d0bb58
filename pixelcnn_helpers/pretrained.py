"""Weights in files: saving and loading one's own networks, and what ships with the package."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import reprlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from .checkpoint import write_atomically
from .checks import check_size

WEIGHTS = Path(__file__).parent / "weights"
MEASUREMENTS = Path(__file__).parent / "measurements"
SUMS = "SHA256SUMS"  # beside the weights, as `sha256sum --check` reads it
# The classes that a file may name, and where each is defined: imported when a file needs it.
KINDS = {
    "PixelCNN": "models", "GatedPixelCNN": "models", "ShortcutPixelCNN": "studies.shortcut",
    "ConvClassifier": "studies.judges", "ResidualClassifier": "studies.judges",
}


def save_model(model: nn.Module, path, card: dict | None = None) -> Path:
    """Write a model's weights, the arguments that build it again, and a card into one safetensors file.

    card: a dictionary of whatever should be known about the weights, as JSON can hold it. The file is written
    atomically. A model compiled by torch.compile is saved as the model inside it.
    Returns the file's path. Raises TypeError for what is no model and for a card that JSON cannot hold, ValueError for
    another suffix than .safetensors and for weights that a file cannot hold, OSError for a file that cannot be written.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    model, path = getattr(model, "_orig_mod", model), _path(path)  # torch.compile's wrapper has the prefix _orig_mod
    kind, size = type(model).__name__, getattr(model, "size", None)
    ours = kind in KINDS and kind_called(kind) is type(model)
    if ours and size is not None:
        size = check_size(size)
    config = model.config if ours else None
    about = {"class": kind, "config": config, "size": size if isinstance(size, tuple | list) else None}
    about = json.dumps(about, default=lambda number: number.item())  # NumPy's
    if not isinstance(card, dict | None):
        raise TypeError(f"card must be a dictionary, got {type(card).__name__}")
    try:
        metadata = {"format": "pt", "model": about, "card": json.dumps(card or {}, allow_nan=False)}
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"card must hold what JSON can hold: {error}") from None
    try:
        # copies, since a file cannot hold two tensors that share memory
        state = {
            name.replace("_orig_mod.", ""): value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in model.state_dict().items()
        }
        for name, value in state.items():
            if name.endswith("mask") and ((value == 0) | (value == 1)).all():
                state[name] = value.bool()  # a byte instead of four
        data = save(state, metadata)  # save_file would make it unreadable for other users
    except Exception as error:  # weights on the meta device, of a type that safetensors lacks, what is no tensor
        raise ValueError(f"model has weights that a file cannot hold: {_line(error)}") from None
    try:
        write_atomically(path, data)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}") from None
    return path


def load_model(path, model: nn.Module | None = None) -> tuple[nn.Module, dict]:
    """A model saved by `save_model`, in evaluation mode, and its card.

    model: None builds a network of this package, in float32 on the CPU, whatever torch's defaults are; no random number
    is drawn. For a class of your own, pass an instance; it receives the weights, in its precision and on its device.
    Raises FileNotFoundError for a missing file, ValueError for a damaged one, one that `save_model` did not write, or
    weights that do not fit the model (your instance may then hold some of them), TypeError for what is no model.
    """
    path = _path(path)
    if not isinstance(model, nn.Module | None):
        raise TypeError(f"model must be a torch.nn.Module or None, got {model!r}")
    if not os.path.isfile(path):
        but = ", but a folder" if os.path.isdir(path) else ""
        raise FileNotFoundError(f"there is no file {path}{but}: save_model(model, path) writes one")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
        about, card = json.loads(metadata["model"]), json.loads(metadata["card"])
        kind, config, size = about["class"], about["config"], about["size"]
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({_line(error)}): save or download it again") from None
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} was not written by save_model: it says nothing about the model ({error})") from None
    types = (("class", kind, str), ("config", config, dict | None), ("size", size, list | None), ("card", card, dict))
    for name, value, wanted in types:
        if not isinstance(value, wanted) or (name == "class" and not value.isidentifier()):
            raise ValueError(f"{path} is damaged (its {name} is {reprlib.repr(value)}): save or download it again")
    if model is None:
        if kind not in KINDS or config is None:
            fix = f"build it yourself and pass it, load_model(path, model={kind}(…))"
            raise ValueError(f"{path} holds a {kind} that is not of this package: {fix}")
        try:
            model = _built(kind, config, state)
            size = None if size is None else check_size(size)
        except (TypeError, ValueError, RuntimeError) as error:
            what = "cannot be read by this version of the package, or is damaged"
            raise ValueError(f"{path} {what}: {_line(error)}") from None
    inner = getattr(model, "_orig_mod", model)  # of a model compiled by torch.compile
    try:
        inner.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        kind = type(inner).__name__
        raise ValueError(f"the weights in {path} do not fit this {kind}: {first[0].strip()[:300]}") from None
    if size is not None:
        inner.size = tuple(size)
    return model.eval(), card


def _built(kind: str, config: dict, state: dict) -> nn.Module:
    """A network for these weights, in float32 on the CPU. The caller's random state is kept.

    A config that was tampered with could ask for terabytes. No number in it, except for dilations, is above the number
    of the network's tensors or above their longest side.
    """
    most = max([len(state), *(side for value in state.values() for side in value.shape)])
    for name, value in config.items():
        if isinstance(value, int) and value > most:
            raise ValueError(f"{name} is {value}, more than the weights have room for")
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        return kind_called(kind)(**config).float()


def kind_called(name: str) -> type[nn.Module]:
    """The class of one of `KINDS`."""
    return getattr(importlib.import_module(f".{KINDS[name]}", __package__), name)


def load_pretrained(name: str) -> tuple[nn.Module, dict]:
    """A network that ships with the package, in evaluation mode on the CPU, and its card. No network is needed.

    name: one of `pretrained_names()`, "conditional-mnist" say. The card tells recipe, data, epochs, seconds, hardware,
    versions, history and what was measured on the test images.
    Raises ValueError for an unknown name, and for a file that is missing, damaged, or not the one that was published.
    """
    known = digests()
    path = WEIGHTS / f"{_shipped(name, known)}.safetensors"
    if not path.is_file():
        raise ValueError(f"{path} is not there: install the package again")
    if sha256(path) != known[name]:
        what = f"is not the file that was published (its SHA-256 is not in {SUMS})"
        raise ValueError(f"{path} {what}: install the package again")
    return load_model(path)


def pretrained_names() -> list[str]:
    """The names of the networks that ship with the package."""
    return list(digests())


def load_measurement(name: str) -> dict:
    """A stored measurement, "reach" say: figures as JSON holds them, images as integer tensors `(N, C, H, W)`.

    `python -m pixelcnn_helpers measure NAME` makes it anew. Raises ValueError for an unknown name or a damaged file.
    """
    path = MEASUREMENTS / f"{_shipped(name, sorted(file.stem for file in MEASUREMENTS.glob('*.json')))}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_hook=_unpacked)
        if not isinstance(found, dict):
            raise TypeError("it holds no dictionary")
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # RuntimeError: images that do not fit their shape
        raise ValueError(f"{path} is damaged ({_line(error)}): install the package again") from None
    return found


def _unpacked(found: dict):
    """Images that a measurement stores as hexadecimal digits, one for each pixel; everything else as it is."""
    if found.keys() != {"shape", "pixels"}:
        return found
    return torch.tensor([int(digit, 16) for digit in found["pixels"]], dtype=torch.uint8).view(found["shape"])


def digests(folder: Path | None = None) -> dict[str, str]:
    """Name -> SHA-256, as the list in the folder of the weights has it. Raises ValueError for a damaged list."""
    path = (folder or WEIGHTS) / SUMS
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    entries = [re.fullmatch(r"([0-9a-f]{64})  (\S+)\.safetensors", line.strip()) for line in lines]
    if None in entries:
        line = reprlib.repr(lines[entries.index(None)])
        raise ValueError(f"{path} is damaged, for {line} names no file and its SHA-256: install the package again")
    return {entry[2]: entry[1] for entry in entries}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _shipped(name, names) -> str:
    if not isinstance(name, str) or name not in names:
        listed = ", ".join(map(repr, names))
        wanted = f"one of {listed}" if names else "none, for none are there: install the package again"
        raise ValueError(f"name must be {wanted}, got {reprlib.repr(name)}")
    return name


def _path(path) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a string or a Path, got {type(path).__name__}")
    path = Path(path)
    if path.suffix != ".safetensors" or "\0" in str(path):
        raise ValueError(f"path must end in .safetensors, and hold no NUL, got {str(path)!r}")
    return path


def _line(error: Exception) -> str:
    """The first line of what an error says, or its name."""
    return next(iter(str(error).splitlines()), "")[:300] or type(error).__name__
