"""The slider of notebook 02, moved in JupyterLab by a real Chromium."""

from pathlib import Path

import nbformat
import pytest
from browser import QUIET, check, chromium, opened, photographed, step, wait_for_picture

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "02_blind_spot.ipynb"
SLIDERS = "layers", "kernel"
KEEP = """import pixelcnn_helpers
def keep(function, *args, slider=pixelcnn_helpers.picture_slider, **kwargs):
    global draw, picture_slider  # for the test that draws without moving anything
    draw, picture_slider = function, slider
    return slider(function, *args, **kwargs)
pixelcnn_helpers.picture_slider = keep"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The set-up cell of 02 and the cells of its slider, run in JupyterLab."""
    code = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    slider = [cell.source for cell in code[1:] if "slider" in cell.metadata.get("tags", [])]
    with opened([code[0].source, KEEP, *slider], tmp_path_factory.mktemp("browser")) as page:
        yield page


def arrives(page) -> None:
    """Wait for what the function draws for the values at which the sliders stand."""
    values = {slider: int(page.value(slider)) for slider in SLIDERS}
    drawn = page.execute(f"""if 1:
        import hashlib, ipywidgets
        unmoved = picture_slider(draw, **{ {slider: [value] for slider, value in values.items()} })
        picture, = (child for child in unmoved.children if type(child) is ipywidgets.Image)
        print(hashlib.sha256(picture.value).hexdigest(), draw(**{values})[1])""")
    wait_for_picture(page, tuple(drawn.strip().split(" ", 1)), f"the picture and the words of {values}")


@pytest.mark.parametrize("slider", SLIDERS)
def test_slider(page, slider, tmp_path):
    with photographed(page.page, tmp_path / "failed.png"):
        check(page, slider)


@pytest.mark.parametrize("keys", [("Home", "Home"), ("End", "Home"), ("Home", "End")])
def test_page_shows_what_the_function_draws(page, keys):
    for slider, key in zip(SLIDERS, keys, strict=True):
        page.move(slider, key)
    arrives(page)


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
        check(page, slider, QUIET)
    errors = page.errors()
    assert bool(errors) == bool(raised) and all(raised in error for error in errors)
    page.execute(f"for widget in widgets: del widget.{method}")
    page.move(slider, "Home", "End")  # the picture and the words catch up with the slider
    arrives(page)
    step(page, slider, "Home")


def test_missing_chromium_is_skipped_but_not_in_ci(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no chromium"):
        chromium()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no chromium"):
        chromium()
