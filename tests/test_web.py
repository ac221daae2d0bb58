"""The page that draws: how it is built, and the arithmetic of its kernel. `test_browser_page.py` opens it."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import refused
from PIL import Image

from pixelcnn_helpers import GatedPixelCNN, PixelCNN, load_pretrained
from pixelcnn_helpers.__main__ import main
from pixelcnn_helpers.page import plots
from pixelcnn_helpers.studies.judges import ConvClassifier, ResidualClassifier
from pixelcnn_helpers.workshop import film, web

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "figures" / "between.html"
SOURCES = sorted((ROOT / "pixelcnn_helpers" / "page" / "web").iterdir())


def tiny(**options) -> GatedPixelCNN:
    model = GatedPixelCNN(**{"levels": 4, "features": 4, "blocks": 2, "classes": 10, **options}).eval()
    model.size = (28, 28)
    return model


def test_the_committed_page_is_what_the_command_writes(tmp_path):
    (tmp_path / "notebooks").mkdir()
    main(["page"], tmp_path)
    path = tmp_path / "figures" / "between.html"
    # the assembler writes the same bytes in its versions 13 to 50
    assert path.read_bytes() == COMMITTED.read_bytes(), "python -m pixelcnn_helpers page writes it anew"
    assert path.stat().st_size <= web.LARGEST


def test_the_same_bytes_twice():
    model, judge = tiny(), ConvClassifier(width=4)
    assert web.build(model, judge) == web.build(model, judge)


def test_the_page_holds_all_it_needs_and_no_address():
    page = COMMITTED.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]+\.[a-z]+/", page)
    assert "default-src 'none'" in page and "{{" not in page
    links = re.findall(r'href="([^"#]+)"', page)
    assert all(link == "data:," or (COMMITTED.parent / link).is_file() for link in links) and len(links) == 3


def test_the_page_has_the_colours_of_the_series():
    page = COMMITTED.read_text(encoding="utf-8")
    for name, colour in {"seen": plots.SEEN, "here": plots.HERE, "class-7": plots.CLASSES[7]}.items():
        assert f"--{name}: {colour};" in page


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_each_source_is_used_and_short_enough_to_read(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert path.name in {*web.WORKER, *web.PAGE, *web.STYLE, "page.html", "kernel.wat"}
    assert len(lines) <= 660 if path.suffix == ".css" else len(lines) <= 260
    assert all(len(line) <= 120 for line in lines) or path.suffix == ".html"


def test_layers_have_the_names_of_python():
    network = web.source("network.js")
    for name in ("VerticalConv2d", "HorizontalConv2d", "Pointwise", "GatedBlock", "GatedPixelCNN"):
        assert f"class {name} " in network
    for name, _ in tiny(embedding=2).named_parameters():
        *_, layer, kind = name.split(".")
        assert f".{kind}" in network and re.search(rf'\b(this\.)?{layer}\b', network), name


# The film


def test_the_committed_film_moves_and_says_what_it_shows():
    path = COMMITTED.with_suffix(".png")
    with Image.open(path) as picture:
        assert picture.n_frames > 20 and picture.size == film.SHOWN and picture.info["Description"] == film.DESCRIPTION
    assert path.stat().st_size < 500_000


def test_a_film_without_chromium_or_playwright(monkeypatch, tmp_path):
    monkeypatch.setattr(film.shutil, "which", lambda name: None)
    with refused(ValueError, "needs chromium", "install one"):
        film.write_film(tmp_path / "between.html")
    monkeypatch.setattr(film.shutil, "which", lambda name: name)
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with refused(ValueError, "pip install playwright"):
        film.write_film(tmp_path / "between.html")


# The kernel, run by the assembler's own engine


@pytest.fixture(scope="module")
def kernel():
    """A function that calls the kernel on float arrays: it stores them, and returns all memory after the call."""
    import wasmtime

    store = wasmtime.Store(wasmtime.Engine())
    memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(4, None)))
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, web.assembled()), [memory]).exports(store)

    def call(name, values, *numbers):
        memory.write(store, np.asarray(values, "<f4").tobytes(), 0)
        exports[name](store, *numbers)
        return np.frombuffer(memory.read(store, 0, 4 * 65536), "<f4")

    return call


@pytest.mark.parametrize("outs", [4, 8, 24, 28, 48])
@pytest.mark.parametrize("count, taps", [(1, 1), (5, 1), (5, 3)])
def test_product(kernel, outs, count, taps):
    draw, ins = np.random.default_rng(0), 5
    x, w, start = draw.normal(size=(count + 4, ins)), draw.normal(size=(taps, ins, outs)), draw.normal(size=outs)
    whole = outs - outs % 24
    tiles = [w[..., o : o + 24] for o in range(0, whole, 24)] + [w[..., o : o + 4] for o in range(whole, outs, 4)]
    packed = np.concatenate([tile.ravel() for tile in tiles])
    at_w, at_start = 4 * x.size, 4 * (x.size + w.size)
    at_y = at_start + 4 * outs
    step = 4 * ins
    # every second position under the taps: a dilation of 2
    numbers = (0, step, count, taps, 2 * step, ins, at_w, at_start, 0, at_y, 4 * outs, outs)
    found = kernel("product", np.concatenate([x.ravel(), packed, start]), *numbers)
    found = found[at_y // 4 : at_y // 4 + count * outs].reshape(count, outs)
    wanted = [start + sum(x[p + 2 * t] @ w[t] for t in range(taps)) for p in range(count)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_gate(kernel):
    z = torch.cat([torch.linspace(-40, 40, 5000), torch.randn(3000)]).view(2, 2, 2000)  # positions, halves, features
    add = torch.randn(2, 2000)
    numbers = (0, 4 * z.numel(), 2, 2000, 4 * (z.numel() + add.numel()), 8000)
    found = kernel("gate", torch.cat([z.flatten(), add.flatten()]), *numbers)
    found = torch.tensor(found[z.numel() + add.numel() :][:4000]).view(2, 2000)
    tanh, sigmoid = (z + add).double().unbind(1)
    torch.testing.assert_close(found.double(), tanh.tanh() * sigmoid.sigmoid(), rtol=0, atol=2e-7)


# Bad input


@pytest.mark.parametrize(
    "options, words",
    [
        ({"features": 6}, ["features must be a multiple of 4", "6"]),
        ({"levels": 5}, ["levels must be a multiple of 4", "5"]),
        ({"classes": 3}, ["ten classes", "3 and 10"]),
        ({"channels": 2}, ["one channel", "2 and (28, 28)"]),
    ],
)
def test_a_network_that_the_kernel_cannot_run(options, words):
    with refused(ValueError, *words):
        web.build(tiny(**options), ConvClassifier(width=4))


def test_other_networks_and_judges():
    with refused(TypeError, "GatedPixelCNN", "a PixelCNN"):
        web.build(PixelCNN(levels=4, features=4, layers=1), ConvClassifier(width=4))
    with refused(TypeError, "ConvClassifier", "a ResidualClassifier"):
        web.build(tiny(), ResidualClassifier(width=4))
    with refused(ValueError, "width of the judge", "6"):
        web.build(tiny(), ConvClassifier(width=6))
    model = tiny()
    model.size = (8, 8)
    with refused(ValueError, "size", "(8, 8)"):
        web.build(model, ConvClassifier(width=4))


def test_a_page_that_becomes_too_large(monkeypatch):
    monkeypatch.setattr(web, "LARGEST", 10_000)
    with refused(ValueError, "at most 0.01 MB", "fewer features"):
        web.build(tiny(), ConvClassifier(width=4))


def test_without_the_assembler(monkeypatch):
    monkeypatch.setitem(sys.modules, "wasmtime", None)
    with refused(ValueError, "pip install wasmtime"):
        web.assembled()


def test_source_that_would_end_its_element(monkeypatch, tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "bad.js").write_text("const tag = '</script>';")
    monkeypatch.setattr(web, "files", lambda package: tmp_path)
    with refused(ValueError, "bad.js must not hold", "write"):
        web.source("bad.js")


def test_the_weights_that_ship_can_be_told_from_others():
    model, _ = load_pretrained("between-mnist")
    names = set(web._weights(model))
    assert names == {name for name, _ in model.named_parameters()}
