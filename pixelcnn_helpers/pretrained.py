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
from .checks import check_module, check_size, check_type, require
from .layers import HorizontalConv2d, MaskedConv2d

WEIGHTS = Path(__file__).parent / "weights"
MEASUREMENTS = Path(__file__).parent / "measurements"
SUMS = "SHA256SUMS"  # beside the weights, as `sha256sum --check` reads it
# The classes that a file may name, and the modules that define them: imported when a file needs one.
KINDS = {
    "PixelCNN": "models", "GatedPixelCNN": "models", "ShortcutPixelCNN": "studies.shortcut",
    "ConvClassifier": "studies.judges", "ResidualClassifier": "studies.judges", "VQVAE": "studies.together",
}


def save_model(model: nn.Module, path, card: dict | None = None) -> Path:
    """Write a model's weights, the arguments of its constructor, and a card into one safetensors file, atomically.

    card: what should be known about the weights, as JSON can hold it. A compiled model is saved as the one inside it.
    Of a masked kernel only the weights under open taps are stored; the others come back as 0.
    Returns the file's path. Raises TypeError for what is no model and for a card that JSON cannot hold, ValueError for
    another suffix than .safetensors and for weights that a file cannot hold, OSError if the file cannot be written.
    """
    check_module(model)
    path = _checked_path(path)
    check_type("card", card, dict | None, "a dictionary")
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    kind, size = type(model).__name__, getattr(model, "size", None)
    about = {"class": kind, "config": None, "size": size if isinstance(size, tuple | list) else None}
    if kind in KINDS and kind_called(kind) is type(model):
        about |= {"config": model.config, "size": None if size is None else check_size(size)}
    about = json.dumps(about, default=lambda number: number.item())  # NumPy's numbers
    try:
        metadata = {"format": "pt", "model": about, "card": json.dumps(card or {}, allow_nan=False)}
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"card must hold what JSON can hold: {error}") from None
    try:
        state = {}
        for name, value in model.state_dict().items():
            if name.endswith("mask") and ((value == 0) | (value == 1)).all():
                value = value.bool()  # a byte instead of four
            # copies, since a file cannot hold two tensors that share memory
            state[name.replace("_orig_mod.", "")] = value.cpu().clone(memory_format=torch.contiguous_format)
        for name, layer in model.named_modules():
            if isinstance(layer, MaskedConv2d | HorizontalConv2d) and "mask" in layer._buffers:
                kernel, mask = (f"{name}.{part}".replace("_orig_mod.", "").lstrip(".") for part in ("weight", "mask"))
                if state[mask].dtype == torch.bool:  # not one of a user's own, of other numbers
                    state[kernel] = state[kernel][state[mask]]  # (open taps,)
        write_atomically(path, save(state, metadata))  # a file of save_file is not readable for other users
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}") from None
    except Exception as error:  # weights on the meta device, of a type that safetensors lacks, what is no tensor
        raise ValueError(f"model has weights that a file cannot hold: {_first_line(error)}") from None
    return path


def load_model(path, model: nn.Module | None = None) -> tuple[nn.Module, dict]:
    """A model saved by `save_model`, in evaluation mode, and its card.

    model: None builds a network of this package, in float32 on the CPU, whatever torch's defaults are; no random number
    is drawn. For a class of your own, pass an instance; it receives the weights, in its precision and on its device.
    Raises FileNotFoundError for a missing file, ValueError for a damaged one, one that `save_model` did not write, or
    weights that do not fit the model (your instance may then hold some of them), TypeError for what is no model.
    """
    path = _checked_path(path)
    check_type("model", model, nn.Module | None, "a torch.nn.Module or None")
    about, state = _read(path)
    kind, config, size = about["class"], about["config"], about["size"]
    if model is None:
        if kind not in KINDS or config is None:
            fix = f"build it yourself and pass it, load_model(path, model={kind}(…))"
            raise ValueError(f"{path} holds a {kind} that is not of this package: {fix}")
        try:
            model = _built(kind, config, state)
            size = None if size is None else check_size(size)
        except (TypeError, ValueError, RuntimeError) as error:
            fault = "cannot be read by this version of the package, or is damaged"
            raise ValueError(f"{path} {fault}: {_first_line(error)}") from None
    inner = getattr(model, "_orig_mod", model)
    try:
        inner.load_state_dict(state)
    except RuntimeError as error:
        reason = _first_line(str(error).partition("\n")[2] or error)  # torch gives its reasons from line 2 on
        raise ValueError(f"the weights in {path} do not fit this {type(inner).__name__}: {reason}") from None
    if size is not None:
        inner.size = tuple(size)
    return model.eval(), about["card"]


def _read(path: Path) -> tuple[dict, dict]:
    """What a file holds: a dictionary of class, config, size and card, and the weights by name."""
    if not os.path.isfile(path):
        but = ", but a folder" if os.path.isdir(path) else ""
        raise FileNotFoundError(f"there is no file {path}{but}: save_model(model, path) writes one")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
        for kernel, mask in ((name, name.removesuffix("weight") + "mask") for name in list(state)):
            if mask in state and state[kernel].ndim == 1 < state[mask].ndim:  # files of version 0.1 hold whole kernels
                opened, state[kernel] = state[kernel], state[kernel].new_zeros(state[mask].shape)
                state[kernel][state[mask]] = opened
        about = {**json.loads(metadata["model"]), "card": json.loads(metadata["card"])}
        for name, kind in {"class": str, "config": dict | None, "size": list | None, "card": dict}.items():
            if not isinstance(about[name], kind) or (name == "class" and not about[name].isidentifier()):
                raise ValueError(f"its {name} is {reprlib.repr(about[name])}")
    except (SafetensorError, OSError, ValueError, RecursionError, IndexError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged ({_first_line(error)}): save or download it again") from None
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} was not written by save_model: it says nothing about the model ({error})") from None
    return about, state


def _built(kind: str, config: dict, state: dict) -> nn.Module:
    """A network for these weights, in float32 on the CPU. The caller's random state is kept.

    An altered config could ask for terabytes, so no integer in it may exceed both the number of tensors and their
    longest side. (Dilations may; they are in a list.)
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
    """A network that ships with the package, in evaluation mode on the CPU, and its card. Nothing is downloaded.

    name: one of `pretrained_names()`, "conditional-mnist" say. The card tells recipe, data, epochs, seconds, hardware,
    versions, history and what was measured on the test images.
    Raises ValueError for an unknown name, and for a file that is missing, damaged, or not the one that was published.
    """
    known = digests()
    path = WEIGHTS / f"{_checked_name(name, known)}.safetensors"
    if not path.is_file():
        raise ValueError(f"{path} is not there: install the package again")
    if hashlib.sha256(path.read_bytes()).hexdigest() != known[name]:
        fault = f"is not the file that was published (its SHA-256 is not in {SUMS})"
        raise ValueError(f"{path} {fault}: install the package again")
    return load_model(path)


def pretrained_names() -> list[str]:
    """The names of the networks that ship with the package."""
    return list(digests())


def digests(folder: Path | None = None) -> dict[str, str]:
    """Name -> SHA-256, as the list in the folder of the weights has it. Raises ValueError for a damaged list."""
    path = (folder or WEIGHTS) / SUMS
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    entries = re.findall(r"^\s*([0-9a-f]{64})  (\S+)\.safetensors\s*$", text, re.MULTILINE)
    if 2 * len(entries) != len(text.split()):
        raise ValueError(f"{path} is damaged, a line is no SHA-256 and file: install the package again")
    return {name: digest for digest, name in entries}


def load_measurement(name: str) -> dict:
    """A stored measurement, "reach" say: figures as JSON holds them, images as uint8 tensors `(N, C, H, W)`.

    `python -m pixelcnn_helpers measure NAME` makes it anew. Raises ValueError for an unknown name or a damaged file.
    """
    path = MEASUREMENTS / f"{_checked_name(name, sorted(file.stem for file in MEASUREMENTS.glob('*.json')))}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_hook=_unpacked)
        check_type("its content", found, dict, "a dictionary")
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # RuntimeError: images that do not fit their shape
        raise ValueError(f"{path} is damaged ({_first_line(error)}): install the package again") from None
    return found


def _unpacked(found: dict):
    """Images that a measurement stores as hexadecimal digits, one for each pixel; everything else as it is."""
    if found.keys() != {"shape", "pixels"}:
        return found
    return torch.tensor([int(digit, 16) for digit in found["pixels"]], dtype=torch.uint8).view(found["shape"])


def _checked_name(name, names) -> str:
    listed = ", ".join(map(repr, names)) or "none, for none are there (install the package again)"
    require(isinstance(name, str) and name in names, "name", f"be one of {listed}", reprlib.repr(name))
    return name


def _checked_path(path) -> Path:
    check_type("path", path, str | os.PathLike, "a string or a Path")
    path = Path(path)
    fits = path.suffix == ".safetensors" and "\0" not in str(path)
    require(fits, "path", "end in .safetensors, and hold no NUL", repr(str(path)))
    return path


def _first_line(error: Exception | str) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
