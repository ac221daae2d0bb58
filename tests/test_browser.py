"""The slider of notebook 02, moved in JupyterLab by a real Chromium."""

import hashlib
from pathlib import Path

import nbformat
import psutil
import pytest
from browser import Browser, chromium, photographed, wait

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "02_blind_spot.ipynb"
SLIDERS = "layers", "kernel"
SECONDS = 2  # for the page to show what the kernel has already sent
KEEP = """import pixelcnn_helpers
def keep(function, *args, slider=pixelcnn_helpers.picture_slider, **kwargs):
    global draw, picture_slider  # for the test that draws without moving anything
    draw, picture_slider = function, slider
    return slider(function, *args, **kwargs)
pixelcnn_helpers.picture_slider = keep"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The set-up cell of 02 and the cells of its slider, run in JupyterLab."""
    folder = tmp_path_factory.mktemp("browser")
    book = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    slider = [cell for cell in code[1:] if "slider" in cell.metadata.get("tags", [])]
    book.cells = [code[0], nbformat.v4.new_code_cell(KEEP), *slider]
    for cell in book.cells:  # what was stored must not pass for what was run
        cell.outputs, cell.execution_count = [], None
    nbformat.write(book, folder / "slider.ipynb")
    before = set(psutil.Process().children(recursive=True))
    with Browser(folder / "lab") as browser, browser.notebook(folder / "slider.ipynb") as page:
        assert page.errors() == []
        yield page
        started = set(psutil.Process().children(recursive=True)) - before
    assert len(started) > 3  # Lab, its kernel, Playwright, Chromium
    _, left = psutil.wait_procs(started, timeout=20)
    assert [process.name() for process in left if process.status() != psutil.STATUS_ZOMBIE] == []


def shown(page) -> tuple[str, str]:
    """What the page shows: the picture, as a hash of its bytes, and the words."""
    return hashlib.sha256(page.picture_bytes()).hexdigest(), page.words()


def step(page, slider: str, key: str) -> tuple[str, str]:
    """Press one key; what is shown then. If the slider moved, both the picture and the words must become new."""
    value, (picture, words) = page.value(slider), shown(page)
    page.move(slider, key)
    if page.value(slider) != value:
        wait(lambda: shown(page)[0] != picture, SECONDS, f"{key} on {slider} to change the picture")
        wait(lambda: page.words() != words, SECONDS, f"{key} on {slider} to change the words")
    return shown(page)


def check(page, slider: str) -> None:
    """Walk a slider from its first to its last value, go back and forth, then faster than the kernel can follow."""
    seen = [step(page, slider, "Home")]
    while (now := step(page, slider, "ArrowRight")) != seen[-1] and len(seen) < 50:
        seen.append(now)
    assert len(set(seen)) == len(seen) >= 3
    assert step(page, slider, "Home") == seen[0]
    assert step(page, slider, "End") == seen[-1]
    page.move(slider, *["ArrowLeft", "ArrowRight"] * 9, "ArrowLeft", "ArrowLeft")
    wait(lambda: shown(page) == seen[-3], SECONDS, f"20 quick keys on {slider} to arrive")
    assert page.errors() == []


@pytest.mark.parametrize("slider", SLIDERS)
def test_slider(page, slider, tmp_path):
    with photographed(page.page, tmp_path / "failed.png"):
        check(page, slider)


@pytest.mark.parametrize("keys", [("Home", "Home"), ("End", "Home"), ("Home", "End")])
def test_page_shows_what_the_function_draws(page, keys):
    for slider, key in zip(SLIDERS, keys, strict=True):
        page.move(slider, key)
    values = {slider: int(page.value(slider)) for slider in SLIDERS}
    drawn = page.execute(f"""if 1:
        import hashlib, ipywidgets
        unmoved = picture_slider(draw, **{ {slider: [value] for slider, value in values.items()} })
        picture, = (child for child in unmoved.children if type(child) is ipywidgets.Image)
        print(hashlib.sha256(picture.value).hexdigest(), draw(**{values})[1])""")
    wait(lambda: shown(page) == tuple(drawn.strip().split(" ", 1)), SECONDS, f"the picture and the words of {values}")


@pytest.mark.parametrize(
    "widget, method, instead, missed, raised",
    [
        ("SelectionSlider", "set_state", None, "the picture", ""),  # the kernel never hears of the move
        ("Image", "send_state", "1 / 0", "the picture", "ZeroDivisionError"),  # the callback breaks off
        ("HTML", "send_state", None, "the words", ""),  # the page never hears of the new words
    ],
)
def test_check_notices_what_is_broken(page, widget, method, instead, missed, raised):
    slider = SLIDERS[0]
    page.execute(f"""if 1:
        import gc, ipywidgets
        widgets = [thing for thing in gc.get_objects() if type(thing) is ipywidgets.{widget}]
        for widget in widgets:
            widget.{method} = lambda *args, **kwargs: {instead}""")
    with pytest.raises(TimeoutError, match=f"to change {missed}"):
        check(page, slider)
    errors = page.errors()
    assert bool(errors) == bool(raised) and all(raised in error for error in errors)
    page.execute(f"for widget in widgets: del widget.{method}")
    page.move(slider, "Home", "End")  # the picture and the words catch up with the slider
    step(page, slider, "Home")


def test_missing_chromium_is_skipped_but_not_in_ci(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no chromium"):
        chromium()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no chromium"):
        chromium()
