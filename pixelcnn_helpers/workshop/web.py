"""The page that draws: one HTML file with a network, its sampler and the judge, by `python -m pixelcnn_helpers page`.

The sources lie in `page/web/`. The page needs no network: weights, code and style are inside. Weights stay float32, so
that a seed and a label give the very image that `sample` gives.
"""

from __future__ import annotations

import base64
import copy
import json
import re
from importlib.resources import files
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..causality import receptive_field
from ..checkpoint import write_atomically
from ..models import GatedPixelCNN
from ..page import plots
from ..pretrained import load_pretrained
from ..studies.between import PAIRS
from ..studies.judges import ConvClassifier

LARGEST = 3_500_000  # bytes of the file
WORKER = ("softmax.js", "random.js", "kernel.js", "network.js", "judge.js", "worker.js")
PAGE = ("softmax.js", "client.js", "paint.js", "mix.js", "inside.js", "half.js", "page.js")
STYLE = ("page.css", "controls.css")


def write_page(root: Path) -> Path:
    """Write `figures/between.html` from the weights that ship; the same bytes in every run."""
    model, judge = (load_pretrained(name)[0] for name in ("between-mnist", "judge-mnist"))
    path = root / "figures" / "between.html"
    write_atomically(path, build(model, judge))
    print(f"{path.relative_to(root)}: {path.stat().st_size / 1e6:.2f} MB")
    return path


def build(model: GatedPixelCNN, judge: ConvClassifier) -> str:
    """The page as HTML, for a network of ten classes and a judge of its images.

    Raises ValueError or TypeError for a network or judge that the JavaScript cannot run, for a page that becomes too
    large, and where the assembler is missing.
    """
    _check(model, judge)
    floats: list[torch.Tensor] = []
    about = {
        "network": {"config": model.config, "size": model.size, "tensors": _placed(_weights(model), floats)},
        "judge": {"size": judge.size, "layers": _layers(judge), "tensors": _placed(_folded(judge), floats)},
        "weights": sum(value.numel() for value in _weights(model).values()),
        "pairs": PAIRS,
        "field": _field(model),
    }
    parts = {
        "about": json.dumps(about, separators=(",", ":")).replace("<", r"\u003c"),
        "floats": base64.b64encode(torch.cat(floats).numpy().astype("<f4").tobytes()).decode(),
        "wasm": base64.b64encode(assembled()).decode(),
        "colours": _colours(),
        "worker": "\n".join(map(source, WORKER)),
        "page": "\n".join(map(source, PAGE)),
        "style": "\n".join(map(source, STYLE)),
    }
    page = re.sub(r"\{\{([\w.]+)\}\}", lambda found: parts[found[1]], source("page.html"))
    if len(page.encode()) > LARGEST:
        size = len(page.encode()) / 1e6
        raise ValueError(f"page must be at most {LARGEST / 1e6:g} MB, got {size:.2f} MB: take fewer features or blocks")
    return page


def source(name: str) -> str:
    """A file of `page/web/`. Raises ValueError for JavaScript or CSS that would end its element in the page."""
    text = (files("pixelcnn_helpers.page") / "web" / name).read_text(encoding="utf-8")
    if not name.endswith(".html") and re.search(r"</|<!--", text):
        raise ValueError(f"{name} must not hold '</' or '<!--', which HTML would read: write '<\\/' or '<\\!--'")
    return text


def assembled() -> bytes:
    """kernel.wat as WebAssembly."""
    try:
        from wasmtime import wat2wasm
    except ImportError:
        raise ValueError("the assembler is missing: pip install wasmtime, or pip install -e .[test]") from None
    return bytes(wat2wasm(source("kernel.wat")))


def _check(model, judge) -> None:
    if type(model) is not GatedPixelCNN or type(judge) is not ConvClassifier:
        got = f"a {type(model).__name__} and a {type(judge).__name__}"
        raise TypeError(f"the page runs a GatedPixelCNN and a ConvClassifier, got {got}")
    for name in ("features", "levels"):  # the kernel computes four outputs at a time
        if model.config[name] % 4:
            raise ValueError(f"{name} must be a multiple of 4 for the page, got {model.config[name]}")
    if judge.config["width"] % 4:
        raise ValueError(f"width of the judge must be a multiple of 4 for the page, got {judge.config['width']}")
    if model.channels != 1 or model.size != judge.size:
        got = f"{model.channels} and {model.size}"
        raise ValueError(f"model must have one channel and the judge's size {judge.size}, got {got}")
    if not model.classes == judge.classes == len(plots.CLASSES):
        raise ValueError(f"model and judge must have ten classes, got {model.classes} and {judge.classes}")


def _weights(model: GatedPixelCNN) -> dict[str, torch.Tensor]:
    """The network's weights; with one channel no mask closes anything."""
    return {name: value for name, value in model.state_dict().items() if not name.endswith("mask")}


def _layers(judge: ConvClassifier) -> list[tuple[str, str]]:
    """The judge's layers in order, without batch norm: what each is, and its name."""
    named = enumerate(judge.net)
    return [(type(layer).__name__, f"net.{i}") for i, layer in named if not isinstance(layer, nn.BatchNorm2d)]


def _folded(judge: ConvClassifier) -> dict[str, torch.Tensor]:
    """The judge's weights, each batch norm folded into the convolution before it. It is computed in float64, whose
    rounding does not show in float32, so that every processor finds the same."""
    state, net = {}, list(copy.deepcopy(judge).double().eval().net)
    for index, layer in enumerate(net):
        if isinstance(layer, nn.Conv2d):
            layer = fuse_conv_bn_eval(layer, net[index + 1])
        if not isinstance(layer, nn.BatchNorm2d):
            state |= {f"net.{index}.{name}": value for name, value in layer.state_dict().items()}
    return state


def _placed(state: dict[str, torch.Tensor], floats: list[torch.Tensor]) -> dict[str, dict]:
    """Append tensors to `floats`, as flat float32; returns where each begins, and its shape."""
    places = {}
    for name, value in state.items():
        places[name] = {"offset": sum(map(len, floats)), "shape": list(value.shape)}
        floats.append(value.detach().flatten().float())
    return places


def _field(model: GatedPixelCNN) -> list[str]:
    """The receptive field in rows of 0 and 1: `reach` rows above a pixel and its own, `reach` columns to each side.

    It depends on the kernels alone, so a narrow network with the same ones tells it sooner.
    """
    reach = model.reach
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        narrow = GatedPixelCNN(**model.config | {"features": 4, "classes": 0, "embedding": 0})
    field = receptive_field(narrow, reach, reach, (reach + 1, 2 * reach + 1))
    return ["".join(map(str, row)) for row in field.astype(int)]


def _colours() -> str:
    """The colours of the series as CSS variables."""
    colours = {"seen": plots.SEEN, "here": plots.HERE, "later": plots.LATER}
    colours |= {f"class-{index}": colour for index, colour in enumerate(plots.CLASSES)}
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())
