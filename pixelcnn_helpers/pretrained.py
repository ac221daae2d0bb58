"""Weights in files: saving and loading one's own networks, and what ships with the package."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from .checkpoint import write_atomically

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

    card: whatever should be known about the weights, as JSON can hold it. The file is written atomically.
    Returns its path. Raises TypeError for what is no model and for a card that JSON cannot hold, ValueError for
    another suffix than .safetensors.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    path = _path(path)
    kind, size = type(model).__name__, getattr(model, "size", None)
    config = model.config if kind in KINDS and kind_called(kind) is type(model) else None
    about = {"class": kind, "config": config, "size": size if isinstance(size, tuple | list) else None}
    about = json.dumps(about, default=lambda number: number.item())  # NumPy's
    try:
        metadata = {"format": "pt", "model": about, "card": json.dumps(card or {}, allow_nan=False)}
    except (TypeError, ValueError) as error:
        raise TypeError(f"card must hold what JSON can hold: {error}") from None
    # copies, since a file cannot hold two tensors that share memory
    state = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }
    for name, value in state.items():
        if name.endswith("mask") and ((value == 0) | (value == 1)).all():
            state[name] = value.bool()  # a byte instead of four
    write_atomically(path, save(state, metadata))  # save_file would make it unreadable for other users
    return path


def load_model(path, model: nn.Module | None = None) -> tuple[nn.Module, dict]:
    """A model saved by `save_model`, in evaluation mode, and its card.

    model: None builds a network of this package, in float32 on the CPU. For a class of your own, pass an instance; it
    receives the weights, in its precision and on its device.
    Raises FileNotFoundError for a missing file, ValueError for a damaged one, one that `save_model` did not write, or
    weights that do not fit the model (your instance may then hold some of them), TypeError for what is no model.
    """
    path = _path(path)
    if not isinstance(model, nn.Module | None):
        raise TypeError(f"model must be a torch.nn.Module or None, got {model!r}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: save_model(model, path) writes one")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
        about, card = json.loads(metadata["model"]), json.loads(metadata["card"])
        kind, config, size = about["class"], about["config"], about["size"]
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}): save or download it again") from None
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} was not written by save_model: it says nothing about the model ({error})") from None
    if model is None:
        if kind not in KINDS or config is None:
            fix = f"build it yourself and pass it, load_model(path, model={kind}(…))"
            raise ValueError(f"{path} holds a {kind} that is not of this package: {fix}")
        try:
            model = kind_called(kind)(**config)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} cannot be read by this version of the package, or is damaged: {error}") from None
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise ValueError(f"the weights in {path} do not fit this {type(model).__name__}: {first[0].strip()}") from None
    if size is not None:
        model.size = tuple(size)
    return model.eval(), card


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

    `python -m pixelcnn_helpers measure NAME` makes it anew. Raises ValueError for an unknown name.
    """
    path = MEASUREMENTS / f"{_shipped(name, sorted(file.stem for file in MEASUREMENTS.glob('*.json')))}.json"
    return json.loads(path.read_text(encoding="utf-8"), object_hook=_unpacked)


def _unpacked(found: dict):
    """Images that a measurement stores as hexadecimal digits, one for each pixel; everything else as it is."""
    if found.keys() != {"shape", "pixels"}:
        return found
    return torch.tensor([int(digit, 16) for digit in found["pixels"]], dtype=torch.uint8).view(found["shape"])


def digests(folder: Path | None = None) -> dict[str, str]:
    """Name -> SHA-256, as the list in the folder of the weights has it."""
    path = (folder or WEIGHTS) / SUMS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {name.removesuffix(".safetensors"): digest for digest, name in map(str.split, lines)}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _shipped(name, names) -> str:
    if name not in names:
        listed = ", ".join(map(repr, names))
        wanted = f"one of {listed}" if names else "none, for none are there: install the package again"
        raise ValueError(f"name must be {wanted}, got {name!r}")
    return name


def _path(path) -> Path:
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {str(path)!r}")
    return path
