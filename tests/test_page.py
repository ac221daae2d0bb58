"""What a notebook shows: figures, films, sliders, and the lines it starts with."""

import io
import threading

import matplotlib
import numpy as np
import pytest
import torch
from conftest import refused
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

import pixelcnn_helpers as pch
from pixelcnn_helpers.page import plots, sliders
from pixelcnn_helpers.workshop import figures


@pytest.fixture(autouse=True)
def _settings_restored():
    """`start` changes matplotlib's settings for the whole process."""
    with matplotlib.rc_context():
        yield


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, as IPython objects, instead of a page."""
    found = []
    monkeypatch.setattr(plots, "display", found.append)
    return found


def small_figure(title="a title"):
    figure, ax = plots.axes(width=2, height=2)
    plots.draw_kernel(ax, pch.causal_mask(3, "A")[0, 0], title=title)
    return figure


def test_show_puts_a_sharp_png_with_its_description_on_the_page(shown):
    pch.show(small_figure(), alt="a mask of three by three taps")
    (image,) = shown
    picture = Image.open(io.BytesIO(image.data))
    assert picture.format == "PNG"
    assert image.metadata["alt"] == "a mask of three by three taps" and image.width == picture.width // 2


def test_a_film_is_one_animated_png_of_equal_frames(shown):
    pch.animate([small_figure(f"frame {i}") for i in range(3)], alt="three frames of a mask", milliseconds=50)
    picture = Image.open(io.BytesIO(shown[0].data))
    assert picture.format == "PNG" and picture.is_animated and picture.n_frames == 3


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    history = pch.History(steps=[1, 2], train=[2.0, 1.0], validation=[2.0, 1.5], seconds=[0.1, 0.2])
    drawn = [small_figure(), plots.draw_images(torch.zeros(3, 1, 4, 4), 2), plots.draw_history(history, {"uniform": 4})]
    assert all(isinstance(figure, Figure) and plots.png(figure).startswith(b"\x89PNG") for figure in drawn)
    assert dict(matplotlib.rcParams) == before


def test_a_history_that_never_began_and_many_baselines():
    names = ["one", "two", "three", "four"]
    figure = plots.draw_history(pch.History(interrupted=True), dict(zip(names, range(4), strict=True)))
    assert [text.get_text() for text in figure.axes[0].texts] == names


def test_no_images_are_refused():
    none = torch.zeros(0, 1, 4, 4)
    for draw in (lambda: plots.draw_images(none, 2), lambda: plots.draw_votes(none, 2, torch.eye(3)[0])):
        with refused(ValueError, "images must hold at least one image, got none"):
            draw()


def test_drawing_in_two_threads_at_once_leaves_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    threads = [threading.Thread(target=lambda: [plots.png(small_figure()) for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_shows_every_image_in_its_place(channels):
    _, ax = plots.axes(width=2, height=2)
    images = torch.zeros(3, channels, 4, 4, dtype=torch.long)
    images[2] = 7
    plots.draw_sheet(ax, images, levels=8, cols=2)
    sheet = ax.images[0].get_array()
    assert sheet.shape[:2] == (9, 9)  # two rows and two columns of 4 pixels, one white pixel between
    assert (sheet[5:, :4] == 1).all() and (sheet[:4, :4] == 0).all() and (sheet[5:, 5:] == 1).all()


def test_a_field_tells_its_parts_apart():
    _, ax = plots.axes(width=2, height=2)
    field, blind = np.zeros((2, 3, 4), bool)
    field[0, 0], blind[0, 1], field[1, 1], field[2, 2] = True, True, True, True
    plots.draw_field(ax, field, 1, 1, blind)
    assert ax.images[0].get_array().tolist() == [[1, 2, 0, 0], [0, 3, 0, 0], [0, 0, 3, 0]]  # seen, blind; leaks


def test_a_slider_replaces_the_bytes_of_one_picture():
    asked = []

    def draw(layers, kernel):
        asked.append((layers, kernel))
        return small_figure(f"{layers}"), f"{layers} layers <of> {kernel}"

    box = pch.picture_slider(draw, layers=range(1, 4), kernel=(3, 5))
    *controls, picture, words = box.children
    assert [control.description for control in controls] == ["layers", "kernel"]
    assert not any(control.continuous_update for control in controls)
    before = picture.value
    controls[0].value = 3
    assert picture.value != before and words.value == "3 layers &lt;of&gt; 3"
    controls[0].value = 1
    assert picture.value == before
    assert asked == [(1, 3), (3, 3), (1, 3)]


@pytest.mark.parametrize("controls", [{}, {"layers": []}])
def test_a_slider_without_values_is_refused(controls):
    with pytest.raises(ValueError, match="controls must name at least one slider, each with values"):
        sliders.picture_slider(lambda **values: None, **controls)


@pytest.mark.parametrize("name", ["01_masks", "02_blind_spot", "03_pixelcnn"])
def test_start_says_what_the_notebook_runs_on(name, shown, capsys, monkeypatch):
    monkeypatch.setenv("PIXELCNN_PROFILE", "quick")
    pch.start(name)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["device", "profile", "data"]
    assert len(shown[0].metadata["alt"]) > 40 and shown[0].data.startswith(b"\x89PNG")


def test_after_start_matplotlib_draws_in_the_style_of_the_series(shown):
    matplotlib.rcdefaults()
    assert any(matplotlib.rcParams[name] != value for name, value in plots.STYLE.items())
    before = dict(matplotlib.rcParams)
    pch.start("01_masks")
    after = dict(matplotlib.rcParams)
    assert {name: after[name] for name in plots.STYLE} == plots.STYLE
    others = after.keys() - plots.STYLE.keys()
    assert {name: after[name] for name in others} == {name: before[name] for name in others}
    small_figure()  # leaves the style as it is
    assert dict(matplotlib.rcParams) == after


@pytest.mark.parametrize("make", [Figure, lambda: pyplot.figure()])
def test_plain_matplotlib_follows_the_style_after_start(make, shown):
    """The line width, the colour and the legend without a frame are those of `draw_history`."""
    matplotlib.rcdefaults()
    pch.start("01_masks")
    figure = make()
    ax = figure.subplots()
    (line,) = ax.plot([1, 2], label="a line")
    history = plots.draw_history(pch.History(steps=[1, 2], train=[2.0, 1.0])).axes[0]
    assert line.get_linewidth() == history.lines[0].get_linewidth() == plots.STYLE["lines.linewidth"] == 2
    assert line.get_color() == history.lines[0].get_color() == plots.LINES[0]
    assert not ax.legend().get_frame_on() and not history.get_legend().get_frame_on()
    assert not ax.spines["top"].get_visible() and not ax.spines["right"].get_visible()
    pyplot.close("all")


def test_start_in_the_full_profile_says_whether_mnist_is_there(shown, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PIXELCNN_PROFILE", "full")
    monkeypatch.setenv("PIXELCNN_DATA", str(tmp_path))
    pch.start("03_pixelcnn")
    assert "MNIST, downloaded when first used" in capsys.readouterr().out
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    names = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]

    def said():
        pch.start("03_pixelcnn")
        return capsys.readouterr().out.splitlines()[2]

    found = "data     MNIST, found on this machine"
    for ending in ("", ".gz"):  # all four files, or all four archives: torchvision downloads what is missing
        for name in names:
            assert said() != found
            (raw / (name + ending)).touch()
        assert said() == found
        (raw / (names[0] + ending)).unlink()
        assert "MNIST, downloaded when first used" in said()


def test_start_refuses_a_notebook_it_does_not_know(shown):
    before = dict(matplotlib.rcParams)
    with pytest.raises(ValueError, match=r"name must be one of 01_masks, .*got '99'"):
        pch.start("99")
    assert dict(matplotlib.rcParams) == before


def test_the_pictures_are_drawn_by_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    for draw in (figures.draw_masks, figures.draw_blind_spots):
        figure, description = draw()
        figures.save(tmp_path / "picture.png", figure, description)
        with Image.open(tmp_path / "picture.png") as picture:
            assert picture.info["Description"] == description
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]


def test_a_film_needs_a_figure(shown):
    with pytest.raises(ValueError, match="at least one figure"):
        pch.animate([], alt="no frames at all")
