"""The slider between classes without a browser, its pictures as plain figures, and the slider that needs no kernel."""

import asyncio
import base64
import io
import json
import re
import threading
import time

import ipywidgets
import pytest
import torch
from conftest import BrightnessReader, refused
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

import pixelcnn_helpers as pch
from pixelcnn_helpers.page import plots, sliders

PAIRS = ((0, 1), (2, 1))


def parts(box) -> dict[str, ipywidgets.Widget]:
    """The controls by their descriptions, the picture and the words."""
    found = {}

    def walk(widget):
        for child in getattr(widget, "children", ()):
            walk(child)
        if isinstance(widget, ipywidgets.Image):
            found["picture"] = widget
        elif isinstance(widget, ipywidgets.HTML):
            found["words"] = widget
        elif getattr(widget, "description", ""):
            found[widget.description] = widget

    walk(box)
    return found


@pytest.fixture
def slider(large):
    return parts(pch.class_slider(large, PAIRS, BrightnessReader(), n=4))


def test_every_control_has_a_description_and_waits_for_the_end_of_a_move(slider):
    assert slider.keys() == {
        "mix", "pair", "weight", "temperature", "new noise", "0", "1", "2", "picture", "words"
    }  # fmt: skip
    moved = [control for control in slider.values() if hasattr(control, "continuous_update")]
    assert len(moved) == 6 and not any(control.continuous_update for control in moved)


def test_the_pairs_come_first_and_then_all_others(slider):
    assert list(slider["pair"].options) == ["0 → 1", "2 → 1", "0 → 2", "1 → 2"]


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_the_slider_shows_what_the_function_draws(slider, large, weight):
    slider["weight"].value = weight
    label = pch.soft_label({0: 1 - weight, 1: weight}, 3)
    figure, words = pch.class_picture(large, label, BrightnessReader(), n=4)
    assert slider["picture"].value == plots.png(figure, crop=False)
    assert slider["words"].value == words


def test_moves_keep_the_noise_until_new_noise_is_asked_for(slider, large):
    first = slider["picture"].value
    slider["weight"].value = 1.0
    slider["weight"].value = 0.5
    assert slider["picture"].value == first
    slider["new noise"].click()
    assert slider["picture"].value != first
    figure, _ = pch.class_picture(large, pch.soft_label({0: 0.5, 1: 0.5}, 3), BrightnessReader(), n=4, seed=4)
    assert slider["picture"].value == plots.png(figure, crop=False)


def test_another_pair(slider, large):
    slider["pair"].value = "2 → 1"
    slider["weight"].value = 0.25
    assert slider["words"].value.startswith("4 digits drawn for 0.25 of 1, 0.75 of 2.")


def test_temperature(slider, large):
    slider["temperature"].value = 0.5
    label = pch.soft_label({0: 0.5, 1: 0.5}, 3)
    figure, _ = pch.class_picture(large, label, BrightnessReader(), n=4, temperature=0.5)
    assert slider["picture"].value == plots.png(figure, crop=False)


def test_a_mixture_of_all_classes_is_normalised(slider, large):
    slider["weight"].value = 0.25
    slider["mix"].value = "all classes"
    assert [slider[name].value for name in "012"] == [8, 2, 0]  # where the pair was
    slider["0"].value = slider["1"].value = 5
    before = slider["picture"].value
    slider["2"].value = 10
    assert slider["words"].value.startswith("4 digits drawn for 0.25 of 0, 0.25 of 1, 0.50 of 2.")
    assert slider["picture"].value != before
    slider["weight"].value = 1.0  # hidden now, and no part of the label
    assert slider["words"].value.startswith("4 digits drawn for 0.25 of 0")
    slider["mix"].value = "two classes"
    slider["mix"].value = "all classes"
    assert [slider[name].value for name in "012"] == [5, 5, 10]  # as they were left


def test_only_the_controls_that_count_are_shown(large):
    box = pch.class_slider(large, PAIRS)
    kind, two, every = box.children[:3]
    assert two.layout.display != "none" and every.layout.display == "none"
    kind.value = "all classes"
    assert two.layout.display == "none" and every.layout.display != "none"


def test_a_mixture_of_nothing_says_so_and_keeps_the_picture(slider):
    slider["mix"].value = "all classes"
    slider["0"].value = 0
    before = slider["picture"].value
    slider["1"].value = 0
    assert slider["words"].value == "all parts are 0: raise one of them"
    assert slider["picture"].value == before
    slider["1"].value = 1
    assert slider["words"].value.startswith("4 digits drawn for 1.00 of 1.")


def test_without_a_judge_there_are_no_votes(large):
    assert parts(pch.class_slider(large, n=2, pairs=[(1, 2)]))["words"].value == (
        "2 digits drawn for 0.50 of 1, 0.50 of 2."
    )


def test_in_a_kernel_moves_that_wait_are_drawn_once(large, monkeypatch):
    drawn = []

    def draw():
        drawn.append(control.value)
        return plots.axes(width=1, height=1)[0], f"{control.value}"

    control = ipywidgets.IntSlider()
    _, words = sliders.pictured(draw, [control], 100)

    async def move():
        for value in range(1, 51):
            control.value = value
        assert drawn == [0]  # nothing yet: the page's messages come first
        await asyncio.sleep(10 * sliders.PAUSE)
        assert drawn == [0, 50] and words.value == "50"
        control.value = 7
        await asyncio.sleep(10 * sliders.PAUSE)
        assert drawn == [0, 50, 7] and words.value == "7"

    asyncio.run(move())


def test_moves_in_two_threads_of_a_kernel_end_on_the_last():
    """ipykernel 7 may hand a control's first move to one thread and its next to another."""
    first_began, first_may_end = threading.Event(), threading.Event()

    def draw():
        value = control.value
        if value == 1:
            first_began.set()
            first_may_end.wait(20)
        return plots.axes(width=1 + value, height=1)[0], f"{value}"

    async def move(value):
        control.value = value
        await asyncio.sleep(10 * sliders.PAUSE)

    control = ipywidgets.IntSlider()
    picture, words = sliders.pictured(draw, [control], 100)
    threads = [threading.Thread(target=asyncio.run, args=[move(value)]) for value in (1, 2)]
    threads[0].start()
    assert first_began.wait(20)
    threads[1].start()
    time.sleep(10 * sliders.PAUSE)  # the second would have drawn by now
    first_may_end.set()
    for thread in threads:
        thread.join(20)
    assert words.value == "2"
    assert picture.value == plots.png(draw()[0], crop=False)


def test_in_a_kernel_an_error_is_shown(large, monkeypatch):
    told = []

    class Shell:
        def showtraceback(self):
            told.append(True)

    def draw():
        if control.value:
            raise ZeroDivisionError("1 < 2")
        return plots.axes(width=1, height=1)[0], "fine"

    monkeypatch.setattr(sliders, "get_ipython", Shell)
    control = ipywidgets.IntSlider()
    _, words = sliders.pictured(draw, [control], 100)

    async def move(value):
        control.value = value
        await asyncio.sleep(10 * sliders.PAUSE)

    asyncio.run(move(1))
    assert told == [True] and words.value == "ZeroDivisionError: 1 &lt; 2"
    asyncio.run(move(0))
    assert told == [True] and words.value == "fine"  # and it goes on


def test_refusals(large):
    with refused(ValueError, "model must have classes to mix"):
        pch.class_slider(pch.PixelCNN(levels=3, features=4, layers=1, kernel_size=3))
    for pairs, error, words in (
        (((0, 0),), ValueError, "two different classes of 0 … 2"),
        (((0, 3),), ValueError, "two different classes of 0 … 2"),
        ((1, 2), ValueError, "each of pairs must be a pair of classes, (1, 7) say, got 1"),
        (((0, 0.5),), TypeError, "a class must be an integer"),
    ):
        with refused(error, words):
            pch.class_slider(large, pairs)
    with refused(ValueError, "n must be at least 1"):
        pch.class_slider(large, PAIRS, n=0)
    with refused(TypeError, "must be a ConvClassifier or a ResidualClassifier"):
        pch.class_slider(large, PAIRS, judge=large)
    with refused(ValueError, "judge must know the 3 classes of the model", "got one of 10 classes"):
        pch.class_slider(large, PAIRS, judge=pch.load_pretrained("judge-mnist")[0])
    with refused(ValueError, "label must sum to 1"):
        pch.class_picture(large, torch.tensor([[0.5, 0.2, 0.2]]))
    with refused(ValueError, "label must have one row", "got 2 rows"):
        pch.class_picture(large, torch.eye(3)[:2])


def test_votes_have_the_colour_of_their_class_whatever_was_asked_for():
    votes = torch.tensor([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    for label in ([0.0, 0.5, 0.5], [1.0, 0.0, 0.0]):
        figure = plots.draw_votes(torch.zeros(3, 1, 4, 4, dtype=torch.long), 3, label, votes)
        sheet, bars = figure.axes
        assert [round(patch.get_width() / 4, 2) for patch in sheet.patches] == [0.2, 0.5, 0.3, 0, 1, 0, 1, 0, 0]
        colours = [to_hex(patch.get_facecolor(), keep_alpha=False).upper() for patch in sheet.patches]
        assert colours == plots.CLASSES[:3] * 3
        assert [to_hex(bar.get_facecolor()).upper() for bar in bars.patches[3:]] == plots.CLASSES[:3]
        heights = [bar.get_height() for bar in bars.patches]
        assert heights[:3] == label and heights[3:] == pytest.approx(votes.mean(0).tolist())


def test_there_is_a_colour_for_each_of_many_classes():
    plots.draw_votes(torch.zeros(1, 3, 4, 4, dtype=torch.long), 3, torch.full((26,), 1 / 26), torch.ones(1, 26) / 26)
    assert len(set(plots.CLASSES)) == 10


def test_values_may_be_pairs():
    drawn = []
    box = pch.picture_slider(lambda pair: (drawn.append(pair) or Figure(), f"{pair}"), pair=[(1, 7), (3, 8)])
    box.children[0].index = 1
    assert drawn == [(1, 7), (3, 8)] and box.children[0].options == (("(1, 7)", (1, 7)), ("(3, 8)", (3, 8)))


# without a kernel


def test_a_slider_of_frames(monkeypatch):
    put = []
    monkeypatch.setattr(plots, "display", put.append)
    figures = {}
    for name in ("0 %", "50 % & <more>", "100 %"):
        figures[name], ax = plots.axes(width=1, height=1)
        ax.set_title(name)
    pch.frame_slider(figures, alt='Frames of a "test":', begin=1)
    (page,) = put
    (src, alt, frames) = re.search(r'<img src="(.+?)" .*?alt="(.*?)".*?data-frames="(.*?)"', page.data).groups()
    frames = json.loads(frames.replace("&quot;", '"'))
    assert frames[1] == src and len(set(frames)) == 3
    sizes = {Image.open(io.BytesIO(base64.b64decode(frame.split(",")[1]))).size for frame in frames}
    assert len(sizes) == 1
    assert alt == "Frames of a &quot;test&quot;: 50 % &amp; &lt;more&gt;"
    assert 'max="2" value="1"' in page.data and ">50 % &amp; &lt;more&gt;</output>" in page.data
    with refused(ValueError, "begin must be below 3", "got 3"):
        pch.frame_slider(figures, alt="none", begin=3)
    with refused(ValueError, "begin must be at least 0"):
        pch.frame_slider(figures, alt="none", begin=-1)
    with pytest.raises(ValueError, match="at least one figure"):
        pch.frame_slider({}, alt="none")
