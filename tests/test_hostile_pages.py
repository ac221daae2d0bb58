"""Hostile calls around a notebook's page and the studies: wrong figures, images, sliders, models and classifiers.

Each row of a table is one call. It must end in the error that the row names, in one line, raised by the package itself.
"""

import numpy as np
import pytest
import torch
from conftest import BrightnessReader, assert_clear, integers
from matplotlib import pyplot
from matplotlib.figure import Figure
from torch import nn

import pixelcnn_helpers as pch
from pixelcnn_helpers.page import plots, sliders
from pixelcnn_helpers.studies.judges import ConvClassifier, accuracy, class_probabilities, fit_classifier

NAN = float("nan")
IMAGES = integers((4, 1, 6, 5), 3)
MNIST = integers((3, 1, 28, 28), 256)
CLASSES = torch.tensor([0, 1, 2])
HALF = torch.tensor([[0.5, 0.5, 0.0]])
MAP = np.arange(12.0).reshape(3, 4) / 12


def rows(table: dict) -> list:
    """A table {name: (call, error, words, …)} as pytest's parameters."""
    return [pytest.param(call, error, words, id=name) for name, (call, error, *words) in table.items()]


def network(size=(28, 28), **options):
    """A tiny network with three classes."""
    model = pch.GatedPixelCNN(**{"levels": 3, "features": 4, "blocks": 1, "classes": 3} | options).eval()
    model.size = size
    return model


class Bare(nn.Module):
    """A model of a reader's own: it says what its images are, but has no attribute `size`."""

    channels, levels, classes = 1, 3, 3

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, images, labels=None):
        return self.bias[None, :, None, None, None].expand(len(images), -1, *images.shape[1:])


def diverged():
    reader = ConvClassifier(classes=3, width=2)
    nn.init.constant_(reader.net[0].weight, NAN)
    return reader


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    """What is displayed, instead of a page."""
    found = []
    monkeypatch.setattr(plots, "display", found.append)
    return found


# figures on the page


def figure(width=1):
    made, ax = plots.axes(width=width, height=1)
    ax.plot([1, 2])
    return made


def one():
    return {"one": figure()}


SHOWN = {
    "show None": (lambda: pch.show(None, "none"), TypeError, "figure must be a matplotlib Figure", "NoneType"),
    "show axes": (lambda: pch.show(plots.axes()[1], "axes"), TypeError, "figure must be a matplotlib Figure", "Axes"),
    "show a pair": (lambda: pch.show(plots.axes(), "a pair"), TypeError, "figure must be a matplotlib Figure", "tuple"),
    "show bytes": (lambda: pch.show(plots.png(figure()), "png"), TypeError, "figure must be a matplotlib Figure"),
    "show images": (lambda: pch.show(IMAGES, "images"), TypeError, "figure must be a matplotlib Figure", "Tensor"),
    "show pyplot": (lambda: pch.show(pyplot, "pyplot"), TypeError, "figure must be a matplotlib Figure", "module"),
    "show without alt": (lambda: pch.show(figure(), None), TypeError, "alt must be a string", "NoneType"),
    "show alt=5": (lambda: pch.show(figure(), 5), TypeError, "alt must be a string", "int"),
    "show alt=''": (lambda: pch.show(figure(), " "), ValueError, "alt must say in words what the picture shows"),
    "animate a figure": (lambda: pch.animate(figure(), "x"), TypeError, "figures must be several", "Figure"),
    "animate None": (lambda: pch.animate(None, "x"), TypeError, "figures must be several", "NoneType"),
    "animate [None]": (lambda: pch.animate([None], "x"), TypeError, "figures[0] must be a matplotlib Figure"),
    "animate text": (lambda: pch.animate("ab", "x"), TypeError, "figures[0] must be a matplotlib Figure", "str"),
    "animate a dictionary": (lambda: pch.animate(one(), "x"), TypeError, "figures[0] must be a matplotlib Figure"),
    "animate nothing": (lambda: pch.animate(iter([]), "x"), ValueError, "at least one figure"),
    "animate images": (lambda: pch.animate(IMAGES, "x"), TypeError, "figures[0] must be a matplotlib Figure"),
    "animate sizes": (lambda: pch.animate([figure(), figure(2)], "x"), ValueError, "figures must all be of one size"),
    "animate alt=None": (lambda: pch.animate([figure()], None), TypeError, "alt must be a string", "NoneType"),
    "animate alt=''": (lambda: pch.animate([figure()], ""), ValueError, "alt must say in words"),
    "animate 0 ms": (lambda: pch.animate([figure()], "x", 0), ValueError, "milliseconds must be at least 1", "got 0"),
    "animate -5 ms": (lambda: pch.animate([figure()], "x", -5), ValueError, "milliseconds must be at least 1"),
    "animate 0.5 ms": (lambda: pch.animate([figure()], "x", 0.5), TypeError, "milliseconds must be an integer"),
    "animate a minute": (lambda: pch.animate([figure()] * 2, "x", 60_000), ValueError, "milliseconds", "at most 16000"),
    "frames numbered": (lambda: pch.frame_slider({0: figure()}, "x"), TypeError, "figures must be a dictionary"),
    "frames in a list": (lambda: pch.frame_slider([figure()], "x"), TypeError, "figures must be a dictionary", "list"),
    "frames None": (lambda: pch.frame_slider(None, "x"), TypeError, "figures must be a dictionary", "NoneType"),
    "a figure for frames": (lambda: pch.frame_slider(figure(), "x"), TypeError, "figures must be a dictionary"),
    "frames of None": (lambda: pch.frame_slider({"a": None}, "x"), TypeError, "figures[0] must be a matplotlib Figure"),
    "no frames": (lambda: pch.frame_slider({}, "x"), ValueError, "figures must hold at least one figure"),
    "frames alt=None": (lambda: pch.frame_slider(one(), None), TypeError, "alt must be a string", "NoneType"),
    "frames alt=''": (lambda: pch.frame_slider(one(), ""), ValueError, "alt must say in words"),
    "begin too high": (lambda: pch.frame_slider(one(), "x", 1), ValueError, "begin must be below 1", "got 1"),
    "begin negative": (lambda: pch.frame_slider(one(), "x", -1), ValueError, "begin must be at least 0", "got -1"),
    "begin half": (lambda: pch.frame_slider(one(), "x", 0.5), TypeError, "begin must be an integer", "0.5"),
    "begin a name": (lambda: pch.frame_slider(one(), "x", "one"), TypeError, "begin must be an integer", "'one'"),
    "begin True": (lambda: pch.frame_slider(one(), "x", True), TypeError, "begin must be an integer", "boolean"),
}


@pytest.mark.parametrize(("call", "error", "words"), rows(SHOWN))
def test_what_cannot_be_shown(shown, call, error, words):
    assert_clear(call, error, *words)
    assert not shown


# sliders


def drawing(**values):
    return figure(), "words"


SLIDERS = {
    "no values": (lambda: pch.picture_slider(drawing, a=5), TypeError, "control a must be a sequence", "int"),
    "values None": (lambda: pch.picture_slider(drawing, a=None), TypeError, "control a must be a sequence", "NoneType"),
    "a generator": (lambda: pch.picture_slider(drawing, a=iter([1])), TypeError, "control a must be a sequence"),
    "empty": (lambda: pch.picture_slider(drawing, a=[]), ValueError, "at least one slider, each with values"),
    "no controls": (lambda: pch.picture_slider(drawing), ValueError, "at least one slider, each with values"),
    "no function": (lambda: pch.picture_slider(5, a=[1]), TypeError, "draw must be a function", "int"),
    "a figure": (lambda: pch.picture_slider(figure(), a=[1]), TypeError, "draw must be a function", "Figure"),
    "draws None": (lambda: pch.picture_slider(lambda a: None, a=[1]), ValueError, "what draw returns", "None"),
    "draws a figure": (lambda: pch.picture_slider(lambda a: figure(), a=[1]), ValueError, "what draw returns", "pair"),
    "draws words": (lambda: pch.picture_slider(lambda a: ("a", "b"), a=[1]), TypeError, "matplotlib Figure", "str"),
    "words None": (lambda: pch.picture_slider(lambda a: (figure(), None), a=[1]), TypeError, "string", "NoneType"),
    "words 5": (lambda: pch.picture_slider(lambda a: (figure(), 5), a=[1]), TypeError, "string", "int"),
    "width 0": (lambda: pch.picture_slider(drawing, 0, a=[1]), ValueError, "width must be at least 1", "got 0"),
    "width text": (lambda: pch.picture_slider(drawing, "600px", a=[1]), TypeError, "width must be an integer", "600px"),
    "width None": (lambda: pch.picture_slider(drawing, None, a=[1]), TypeError, "width must be an integer", "NoneType"),
    "model None": (lambda: pch.class_slider(None), TypeError, "model must be a torch.nn.Module", "NoneType"),
    "model and card": (lambda: pch.class_slider((network(), {})), TypeError, "model must be a torch.nn", "tuple"),
    "a name": (lambda: pch.class_slider("between-mnist"), TypeError, "model must be a torch.nn.Module", "str"),
    "a layer": (lambda: pch.class_slider(nn.Linear(2, 2)), TypeError, "Linear carries no channels and no levels"),
    "without classes": (lambda: pch.class_slider(network(classes=0)), ValueError, "model must have classes to mix"),
    "one class": (lambda: pch.class_slider(network(classes=1)), ValueError, "model must have classes to mix"),
    "pairs 5": (lambda: pch.class_slider(network(), 5), TypeError, "pairs must be pairs of classes", "int"),
    "pairs None": (lambda: pch.class_slider(network(), None), TypeError, "pairs must be pairs of classes", "NoneType"),
    "one pair": (lambda: pch.class_slider(network(), (1, 2)), ValueError, "each of pairs must be a pair of classes"),
    "pairs text": (lambda: pch.class_slider(network(), "12"), ValueError, "each of pairs must be a pair of classes"),
    "pairs letters": (lambda: pch.class_slider(network(), ["12"]), TypeError, "a class must be an integer", "'1'"),
    "pairs of three": (lambda: pch.class_slider(network(), [(0, 1, 2)]), ValueError, "each of pairs must be a pair"),
    "pairs of 7": (lambda: pch.class_slider(network()), ValueError, "two different classes of 0 … 2", "(1, 7)"),
    "pairs of True": (lambda: pch.class_slider(network(), [(0, True)]), TypeError, "a class must be an integer"),
    "judge True": (lambda: pch.class_slider(network(), [(0, 1)], True), TypeError, "judge must be a ConvClassifier"),
    "judge and card": (lambda: pch.class_slider(network(), [(0, 1)], (1, 2)), TypeError, "judge must be", "tuple"),
    "judge of ten": (
        lambda: pch.class_slider(network(), [(0, 1)], ConvClassifier(width=2)), ValueError,
        "judge must know the 3 classes of the model", "one of 10 classes",
    ),
    "judge of 28×28": (
        lambda: pch.class_slider(network((8, 8)), [(0, 1)], BrightnessReader()), ValueError,
        "the model must draw images (1, 28, 28)", "(1, 8, 8)",
    ),
    "judge in colour": (
        lambda: pch.class_slider(network(channels=3, features=6), [(0, 1)], BrightnessReader()), ValueError,
        "the model must draw images (1, 28, 28)", "(3, 28, 28)",
    ),
    "judge diverged": (lambda: pch.class_slider(network(), [(0, 1)], diverged(), 1), ValueError, "training diverged"),
    "n 0": (lambda: pch.class_slider(network(), [(0, 1)], n=0), ValueError, "n must be at least 1", "got 0"),
    "n None": (lambda: pch.class_slider(network(), [(0, 1)], n=None), TypeError, "n must be an integer", "NoneType"),
    "n 2.5": (lambda: pch.class_slider(network(), [(0, 1)], n=2.5), TypeError, "n must be an integer", "2.5"),
    "seed -1": (lambda: pch.class_slider(network(), [(0, 1)], seed=-1), ValueError, "seed must be at least 0"),
    "seed None": (lambda: pch.class_slider(network(), [(0, 1)], seed=None), TypeError, "seed must be an integer"),
    "seed 2**40": (lambda: pch.class_slider(network(), [(0, 1)], n=1, seed=2**40), ValueError, "seed", "below 2**32"),
    "class width": (lambda: pch.class_slider(network((4, 4)), [(0, 1)], n=1, width=-1), ValueError, "width", "got -1"),
    "no size": (lambda: pch.class_slider(network(None), [(0, 1)]), ValueError, "model must have a size", "model.size"),
    "no size, judged": (
        lambda: pch.class_slider(Bare(), [(0, 1)], BrightnessReader()), ValueError, "model must have a size", "Bare",
    ),
    "size 28": (lambda: pch.class_slider(network(28), [(0, 1)]), ValueError, "size must be a pair", "28"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), rows(SLIDERS))
def test_sliders_that_cannot_be(call, error, words):
    assert_clear(call, error, *words)


def test_a_drawing_that_fails_later_says_so_under_the_picture():
    """From the second drawing on, an error has nobody to go to but the page."""
    box = sliders.picture_slider(lambda a: (figure(), "fine") if a == 1 else (figure(), 5), a=[1, 2])
    control, picture, words = box.children
    before = picture.value
    with pytest.raises(TypeError, match="the second of what draw returns must be a string, got int"):
        control.value = 2
    assert picture.value == before and words.value == "fine"


PICTURES = {
    "no model": (lambda: pch.class_picture(None, HALF), TypeError, "model must be a torch.nn.Module", "NoneType"),
    "no classes": (lambda: pch.class_picture(network(classes=0), None), ValueError, "model must have classes to mix"),
    "no label": (lambda: pch.class_picture(network(), None), ValueError, "label must be float rows (N, 3)", "None"),
    "a dictionary": (lambda: pch.class_picture(network(), {0: 1.0}), TypeError, "label must be a torch tensor", "dict"),
    "a class": (lambda: pch.class_picture(network(), 1), TypeError, "label must be a torch tensor", "int 1"),
    "one dimension": (lambda: pch.class_picture(network(), HALF[0]), ValueError, "label must have the shape (N, 3)"),
    "ten classes": (lambda: pch.class_picture(network(), torch.eye(10)[:1]), ValueError, "label", "(N, 3)", "(1, 10)"),
    "integers": (lambda: pch.class_picture(network(), torch.tensor([[0, 1, 0]])), TypeError, "label", "float rows"),
    "two rows": (lambda: pch.class_picture(network(), HALF.expand(2, -1)), ValueError, "label must have one row"),
    "sums to 2": (lambda: pch.class_picture(network(), 2 * HALF), ValueError, "label must sum to 1", "got a sum of 2"),
    "negative": (lambda: pch.class_picture(network(), torch.tensor([[2.0, -1, 0]])), ValueError, "negative", "-1"),
    "NaN": (lambda: pch.class_picture(network(), HALF * NAN), ValueError, "label must be finite"),
    "two channels": (
        lambda: pch.class_picture(network((4, 4), channels=2), HALF, n=1), ValueError, "(N, 1 or 3, H, W)", "(1, 2, 4",
    ),
    "judge None of it": (lambda: pch.class_picture(network(), HALF, "judge-mnist"), TypeError, "judge must be", "str"),
    "a network as judge": (lambda: pch.class_picture(network(), HALF, network()), TypeError, "judge", "GatedPixelCNN"),
    "n -1": (lambda: pch.class_picture(network(), HALF, n=-1), ValueError, "n must be at least 1", "got -1"),
    "seed text": (lambda: pch.class_picture(network(), HALF, seed="0"), TypeError, "seed must be an integer", "'0'"),
    "seed -1": (lambda: pch.class_picture(network(), HALF, seed=-1), ValueError, "seed must be at least 0"),
    "cold": (lambda: pch.class_picture(network(), HALF, temperature=-1), ValueError, "temperature", "at least 0"),
    "temperature NaN": (lambda: pch.class_picture(network(), HALF, temperature=NAN), ValueError, "temperature", "nan"),
    "temperature None": (lambda: pch.class_picture(network(), HALF, temperature=None), TypeError, "temperature"),
    "no size": (lambda: pch.class_picture(network(None), HALF), ValueError, "model must have a size", "model.size"),
    "no size at all": (lambda: pch.class_picture(Bare(), HALF), ValueError, "model must have a size", "Bare"),
    "no size, judged": (
        lambda: pch.class_picture(Bare(), HALF, BrightnessReader()), ValueError, "model must have a size", "Bare",
    ),
    "size text": (lambda: pch.class_picture(network("28"), HALF), TypeError, "size[0] must be an integer", "'2'"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), rows(PICTURES))
def test_pictures_of_classes_that_cannot_be(call, error, words):
    assert_clear(call, error, *words)


# drawings


def on_axes(name, *arguments, **options):
    """A call of a function that draws on axes."""
    return lambda: getattr(plots, name)(plots.axes(width=1, height=1)[1], *arguments, **options)


HISTORY = pch.History(steps=[1, 2], train=[2.0, 1.0])
SHAPE = (ValueError, "images must have the shape (N, 1 or 3, H, W)")
DRAWINGS = {
    "images None": (lambda: plots.draw_images(None, 3), TypeError, "images must be a tensor or an array", "NoneType"),
    "images in a list": (lambda: plots.draw_images([IMAGES[0]], 3), TypeError, "images must be a tensor or an array"),
    "no images": (lambda: plots.draw_images(IMAGES[:0], 3), ValueError, "at least one image"),
    "a number": (lambda: plots.draw_images(torch.tensor(1), 3), ValueError, "at least one image"),
    "one image": (lambda: plots.draw_images(IMAGES[0], 3), *SHAPE, "(1, 6, 5)"),
    "two channels": (lambda: plots.draw_images(IMAGES.expand(-1, 2, -1, -1), 3), *SHAPE, "(4, 2, 6, 5)"),
    "channels last": (lambda: plots.draw_images(IMAGES.movedim(1, 3), 3), *SHAPE, "(4, 6, 5, 1)"),
    "no pixels": (lambda: plots.draw_images(IMAGES[..., :0], 3), *SHAPE, "(4, 1, 6, 0)"),
    "too many levels": (lambda: plots.draw_images(IMAGES + 1, 3), ValueError, "images must hold values 0 … 2", "3"),
    "negative": (lambda: plots.draw_images(IMAGES - 1, 3), ValueError, "images must hold values 0 … 2", "-1"),
    "NaN": (lambda: plots.draw_images(IMAGES * NAN, 3), ValueError, "images must hold values 0 … 2", "nan"),
    "complex images": (lambda: plots.draw_images(IMAGES * 1j, 3), ValueError, "images must be numbers", "complex64"),
    "images of objects": (lambda: plots.draw_images(np.array([None]), 3), ValueError, "numbers, got object"),
    "one level": (lambda: plots.draw_images(IMAGES, 1), ValueError, "levels must be at least 2", "got 1"),
    "levels None": (lambda: plots.draw_images(IMAGES, None), TypeError, "levels must be an integer", "NoneType"),
    "no columns": (lambda: plots.draw_images(IMAGES, 3, cols=0), ValueError, "cols must be at least 1", "got 0"),
    "columns 1.5": (lambda: plots.draw_images(IMAGES, 3, cols=1.5), TypeError, "cols must be an integer", "1.5"),
    "few names": (lambda: plots.draw_images(IMAGES, 3, 2, ["one"]), ValueError, "row_names", "each of the 2 rows"),
    "many names": (lambda: plots.draw_images(IMAGES, 3, 4, ["a", "b"]), ValueError, "row_names", "the 1 rows", "got 2"),
    "few columns": (lambda: plots.draw_images(IMAGES, 3, 2, None, 1, ["a"]), ValueError, "col_names", "the 2 cols"),
    "names True": (lambda: plots.draw_images(IMAGES, 3, 4, True), TypeError, "row_names must be a list", "bool"),
    "scale 0": (lambda: plots.draw_images(IMAGES, 3, scale=0), ValueError, "scale must be above 0", "got 0"),
    "scale NaN": (lambda: plots.draw_images(IMAGES, 3, scale=NAN), ValueError, "scale must be finite", "nan"),
    "scale text": (lambda: plots.draw_images(IMAGES, 3, scale="big"), TypeError, "scale must be a number", "'big'"),
    "sheet without axes": (lambda: plots.draw_sheet(None, IMAGES, 3, 2), TypeError, "ax must be one matplotlib Axes"),
    "sheet without columns": (on_axes("draw_sheet", IMAGES, 3, 0), ValueError, "cols must be at least 1"),
    "sheet of one image": (on_axes("draw_sheet", IMAGES[0], 3, 1), *SHAPE),
    "many axes": (
        lambda: plots.draw_kernel(plots.axes(1, 3)[1], MAP), TypeError, "ax must be one matplotlib Axes", "ndarray",
    ),
    "a figure for axes": (lambda: plots.draw_kernel(Figure(), MAP), TypeError, "ax must be one matplotlib", "Figure"),
    "kernel (1, 1, k, k)": (on_axes("draw_kernel", pch.causal_mask(3, "A")), ValueError, "taps", "(1, 1, 3, 3)"),
    "kernel None": (on_axes("draw_kernel", None), ValueError, "taps must be numbers"),
    "kernel of text": (on_axes("draw_kernel", [["a"]]), ValueError, "taps must be numbers"),
    "kernel of two lengths": (on_axes("draw_kernel", [[1], [1, 2]]), ValueError, "taps must be numbers", "list"),
    "kernel of nothing": (on_axes("draw_kernel", [[]]), ValueError, "taps must have the shape (H, W)"),
    "context (1, H, W)": (on_axes("draw_context", MAP[None], 2, MAP > 0), ValueError, "image must have the shape"),
    "context, another mask": (on_axes("draw_context", MAP, 2, MAP.T > 0), ValueError, "seen", "(3, 4)", "(4, 3)"),
    "context above levels": (on_axes("draw_context", 20 * MAP, 17, MAP > 0), ValueError, "image must hold", "0 … 16"),
    "context of one level": (on_axes("draw_context", MAP, 1, MAP > 0), ValueError, "levels must be at least 2"),
    "context, row outside": (on_axes("draw_context", MAP, 2, MAP > 0, 3, 0), ValueError, "row and col must lie within"),
    "context without col": (on_axes("draw_context", MAP, 2, MAP > 0, 1), TypeError, "col must be an integer", "None"),
    "field None": (on_axes("draw_field", None, 0, 0), ValueError, "field must be numbers"),
    "field (1, H, W)": (on_axes("draw_field", MAP[None], 0, 0), ValueError, "field must have the shape (H, W)"),
    "field, col outside": (on_axes("draw_field", MAP, 0, 4), ValueError, "lie within (3, 4), got (0, 4)"),
    "field, row negative": (on_axes("draw_field", MAP, -1, 0), ValueError, "row must be at least 0"),
    "field, row None": (on_axes("draw_field", MAP, None, 0), TypeError, "row must be an integer", "NoneType"),
    "field, row 0.5": (on_axes("draw_field", MAP, 0.5, 0), TypeError, "row must be an integer", "0.5"),
    "field, another blind spot": (on_axes("draw_field", MAP, 0, 0, MAP[:2]), ValueError, "blind", "(3, 4)", "(2, 4)"),
    "roles, another shape": (on_axes("draw_roles", MAP, MAP.T, 0, 0), ValueError, "computed must have the shape"),
    "roles None": (on_axes("draw_roles", None, MAP, 0, 0), ValueError, "kept must be numbers"),
    "strength NaN": (on_axes("draw_strength", MAP * NAN, 0, 0), ValueError, "strength must be finite"),
    "strength negative": (on_axes("draw_strength", -MAP, 0, 0), ValueError, "strength must be finite and not negative"),
    "strength in one row": (on_axes("draw_strength", MAP[0], 0, 0), ValueError, "strength must have the shape (H, W)"),
    "strength, outside": (on_axes("draw_strength", MAP, 9, 9), ValueError, "row and col must lie within (3, 4)"),
    "history None": (lambda: plots.draw_history(None), TypeError, "history must be a History", "NoneType"),
    "history of a card": (lambda: plots.draw_history({"train": [1]}), TypeError, "history must be a History", "dict"),
    "history of two lengths": (
        lambda: plots.draw_history(pch.History(steps=[1, 2], train=[2.0])), ValueError, "one entry", "[2, 1, 2]",
    ),
    "baselines in a list": (lambda: plots.draw_history(HISTORY, [4.0]), TypeError, "baselines must be a dictionary"),
    "a baseline of text": (lambda: plots.draw_history(HISTORY, {"a": "4"}), TypeError, "baselines['a']", "number"),
    "a baseline of NaN": (lambda: plots.draw_history(HISTORY, {"a": NAN}), ValueError, "baselines['a']", "finite"),
    "votes for no images": (lambda: plots.draw_votes(IMAGES[:0], 3, HALF[0]), ValueError, "at least one image"),
    "votes for two channels": (lambda: plots.draw_votes(IMAGES.expand(-1, 2, -1, -1), 3, HALF[0]), *SHAPE),
    "votes, a row": (lambda: plots.draw_votes(IMAGES, 3, HALF), ValueError, "label must have the shape (classes,)"),
    "votes without label": (lambda: plots.draw_votes(IMAGES, 3, None), ValueError, "label must be numbers"),
    "votes above 1": (lambda: plots.draw_votes(IMAGES, 3, HALF[0] * 9), ValueError, "label must hold numbers in 0 … 1"),
    "votes of NaN": (lambda: plots.draw_votes(IMAGES, 3, HALF[0] * NAN), ValueError, "label must hold numbers"),
    "votes for fewer images": (lambda: plots.draw_votes(IMAGES, 3, HALF[0], HALF), ValueError, "votes", "(4, 3)"),
    "votes for other classes": (
        lambda: plots.draw_votes(IMAGES, 3, HALF[0], torch.ones(4, 2)), ValueError, "votes must have the shape (4, 3)",
    ),
    "axes 0": (lambda: plots.axes(0, 1), ValueError, "rows must be at least 1", "got 0"),
    "axes 1.5": (lambda: plots.axes(1, 1.5), TypeError, "cols must be an integer", "1.5"),
    "axes without width": (lambda: plots.axes(width=0), ValueError, "width must be above 0"),
    "axes without end": (lambda: plots.axes(height=float("inf")), ValueError, "height must be finite"),
    "a frame on nothing": (lambda: plots.frame(None, 0, 0), TypeError, "ax must be one matplotlib Axes", "NoneType"),
    "a frame at None": (on_axes("frame", None, 0), TypeError, "row must be an integer", "NoneType"),
    "a frame, no reach": (on_axes("frame", 0, 0, -1), ValueError, "reach must be at least 0", "got -1"),
}  # fmt: skip


def test_numbers_of_every_kind_are_drawn():
    images = IMAGES.numpy()
    for kind in (images, images[::-1], images.astype(np.int8), IMAGES.bfloat16(), IMAGES > 3, IMAGES.double() / 3):
        plots.draw_images(kind, 3)
    for kind in (MAP, MAP[::-1], MAP.tolist(), torch.tensor(MAP).bfloat16(), torch.tensor(MAP, requires_grad=True)):
        on_axes("draw_strength", kind, 1, 1)()
        on_axes("draw_kernel", kind)()
        on_axes("draw_context", kind, 2, MAP > 0)()


@pytest.mark.parametrize(("call", "error", "words"), rows(DRAWINGS))
def test_drawings_that_cannot_be(call, error, words):
    assert_clear(call, error, *words)


# the studies


def between(*arguments, **options):
    return lambda: pch.sample_between(network(), *(arguments or (0, 1)), **{"n": 1, "tries": 1} | options)


def read(**options):
    return between(**{"tries": 2} | options)


BETWEEN = {
    "no model": (lambda: pch.sample_between(None, 0, 1), TypeError, "model must be a torch.nn.Module", "NoneType"),
    "a name": (lambda: pch.sample_between("between-mnist", 1, 7), TypeError, "model must be a torch.nn.Module", "str"),
    "a classifier": (lambda: pch.sample_between(BrightnessReader(), 0, 1), TypeError, "carries no channels"),
    "no classes": (lambda: pch.sample_between(network(classes=0), 0, 1), ValueError, "model must have classes to mix"),
    "the same class": (between(1, 1), ValueError, "two different classes of 0 … 2", "(1, 1)"),
    "class 7": (between(1, 7), ValueError, "two different classes of 0 … 2", "(1, 7)"),
    "class -1": (between(0, -1), ValueError, "a class must be at least 0", "-1"),
    "class 1.0": (between(0, 1.0), TypeError, "a class must be an integer", "1.0"),
    "class None": (between(None, 1), TypeError, "a class must be an integer", "NoneType"),
    "class '1'": (between(0, "1"), TypeError, "a class must be an integer", "'1'"),
    "weight 2": (between(0, 1, 2), ValueError, "weight must be within 0 … 1", "got 2"),
    "weight -0.1": (between(0, 1, -0.1), ValueError, "weight must be finite and at least 0", "-0.1"),
    "weight NaN": (between(0, 1, NAN), ValueError, "weight must be finite", "nan"),
    "weight None": (between(0, 1, None), TypeError, "weight must be a number", "NoneType"),
    "weight True": (between(0, 1, True), TypeError, "weight must be a number"),
    "weight in a list": (between(0, 1, [0.5]), TypeError, "weight must be a number", "list"),
    "n 0": (between(n=0), ValueError, "n must be at least 1", "got 0"),
    "n None": (between(n=None), TypeError, "n must be an integer", "NoneType"),
    "n '4'": (between(n="4"), TypeError, "n must be an integer", "'4'"),
    "seed -1": (between(seed=-1), ValueError, "seed must be at least 0", "-1"),
    "seeds in a list": (between(seed=[1]), TypeError, "seed must be an integer", "list"),
    "seed 2**32": (between(seed=2**32), ValueError, "seed must be below 2**32"),
    "tries 0": (between(tries=0), ValueError, "tries must be at least 1", "got 0"),
    "tries 2.5": (between(tries=2.5), TypeError, "tries must be an integer", "2.5"),
    "tries None": (between(tries=None), TypeError, "tries must be an integer", "NoneType"),
    "temperature -1": (between(temperature=-1), ValueError, "temperature", "at least 0", "-1"),
    "temperature None": (between(temperature=None), TypeError, "temperature must be a number", "NoneType"),
    "reader 5": (read(reader=5), TypeError, "reader must be a ConvClassifier or a ResidualClassifier", "int"),
    "a reader's name": (read(reader="teacher-mnist"), TypeError, "reader must be a ConvClassifier", "str"),
    "a network as reader": (read(reader=network()), TypeError, "reader must be a ConvClassifier", "GatedPixelCNN"),
    "a reader of ten": (read(), ValueError, "reader must know the 3 classes of the model", "one of 10 classes"),
    "a diverged reader": (read(reader=diverged()), ValueError, "training diverged"),
    "no size": (lambda: pch.sample_between(network(None), 0, 1, tries=1), ValueError, "model must have a size"),
    "no size at all": (lambda: pch.sample_between(Bare(), 0, 1, tries=1), ValueError, "model must have a size", "Bare"),
    "no size, read": (
        lambda: pch.sample_between(Bare(), 0, 1, reader=BrightnessReader()), ValueError, "model must have a size",
    ),
    "size 28": (lambda: pch.sample_between(network(28), 0, 1, tries=1), ValueError, "size must be a pair", "28"),
    "size 28, read": (
        lambda: pch.sample_between(network(28), 0, 1, reader=BrightnessReader()), ValueError, "size must be a pair",
    ),
    "size of three": (
        lambda: pch.sample_between(network((1, 2, 3)), 0, 1, tries=1), ValueError, "size must be a pair", "(1, 2, 3)",
    ),
    "another size": (
        lambda: pch.sample_between(network((8, 8)), 0, 1, reader=BrightnessReader()), ValueError,
        "the model must draw images (1, 28, 28)", "(1, 8, 8)",
    ),
    "two channels": (
        lambda: pch.sample_between(network(channels=2), 0, 1, reader=BrightnessReader()), ValueError,
        "the model must draw images (1, 28, 28)", "(2, 28, 28)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), rows(BETWEEN))
def test_samples_between_classes_that_cannot_be(call, error, words):
    assert_clear(call, error, *words)


def reading(images=MNIST, levels=256, **options):
    return lambda: class_probabilities(BrightnessReader(), images, levels, **options)


def training(images=MNIST, classes=CLASSES, **options):
    options = {"epochs": 1, "progress": False} | options
    return lambda: fit_classifier(ConvClassifier(classes=3, width=2), images, classes, **options)


def right(images=MNIST, classes=CLASSES, **options):
    return lambda: accuracy(BrightnessReader(), images, classes, **options)


CLASSIFIER = "model must be a ConvClassifier or a ResidualClassifier"
NO_SUCH_IMAGES = (ValueError, "images must have the shape (N, 1, 28, 28)")
NO_SUCH_CLASSES = (ValueError, "classes must be a tensor of integers (3,), one per image")
JUDGES = {
    "no model": (lambda: class_probabilities(None, MNIST, 256), TypeError, CLASSIFIER, "NoneType"),
    "a network": (lambda: class_probabilities(network(), MNIST, 256), TypeError, CLASSIFIER, "GatedPixelCNN"),
    "a pair": (lambda: class_probabilities((BrightnessReader(), {}), MNIST, 256), TypeError, CLASSIFIER, "tuple"),
    "diverged": (lambda: class_probabilities(diverged(), MNIST, 256), ValueError, "finite logits", "training diverged"),
    "no images": (reading(None), TypeError, "images must be a torch tensor", "NoneType"),
    "an array": (reading(MNIST.numpy()), TypeError, "images must be a torch tensor", "ndarray"),
    "floats": (reading(MNIST / 255), TypeError, "images must hold integers 0 … 255", "float32"),
    "none of them": (reading(MNIST[:0]), ValueError, "images must not be empty"),
    "one": (reading(MNIST[0]), ValueError, "images must have the shape (N, C, H, W)"),
    "colours": (reading(MNIST.expand(-1, 3, -1, -1)), *NO_SUCH_IMAGES, "(3, 3, 28, 28)"),
    "8×8": (reading(MNIST[..., :8, :8]), *NO_SUCH_IMAGES, "(3, 1, 8, 8)"),
    "other levels": (reading(levels=8), ValueError, "images must hold values 0 … 7", "quantize"),
    "one level": (reading(levels=1), ValueError, "levels must be at least 2", "got 1"),
    "no levels": (reading(levels=None), TypeError, "levels must be an integer", "NoneType"),
    "batches of 0": (reading(batch_size=0), ValueError, "batch_size must be at least 1", "got 0"),
    "batches of 2.5": (reading(batch_size=2.5), TypeError, "batch_size must be an integer", "2.5"),
    "train None": (lambda: fit_classifier(None, MNIST, CLASSES), TypeError, CLASSIFIER, "NoneType"),
    "train a network": (lambda: fit_classifier(network(), MNIST, CLASSES), TypeError, CLASSIFIER, "GatedPixelCNN"),
    "train on nothing": (training(None), TypeError, "images must be a torch tensor", "NoneType"),
    "train on floats": (training(MNIST / 255), TypeError, "images must hold integers 0 … 255", "float32"),
    "train on colours": (training(MNIST.expand(-1, 3, -1, -1)), *NO_SUCH_IMAGES, "(3, 3, 28, 28)"),
    "train on digits": (training(*pch.load_digits()), *NO_SUCH_IMAGES, "(1797, 1, 8, 8)"),
    "without classes": (training(classes=None), *NO_SUCH_CLASSES, "NoneType"),
    "classes in a list": (training(classes=[0, 1, 2]), *NO_SUCH_CLASSES, "list"),
    "float classes": (training(classes=CLASSES.float()), *NO_SUCH_CLASSES, "float32"),
    "label rows": (training(classes=torch.eye(3).long()), *NO_SUCH_CLASSES, "(3, 3)"),
    "fewer classes": (training(classes=CLASSES[:2]), *NO_SUCH_CLASSES, "(2,)"),
    "class 3": (training(classes=CLASSES + 1), ValueError, "classes must hold values 0 … 2", "got 1 … 3"),
    "class -1": (training(classes=CLASSES - 1), ValueError, "classes must hold values 0 … 2", "got -1 … 1"),
    "epochs 0": (training(epochs=0), ValueError, "epochs must be at least 1", "got 0"),
    "epochs None": (training(epochs=None), TypeError, "epochs must be an integer", "NoneType"),
    "batch_size 0": (training(batch_size=0), ValueError, "batch_size must be at least 1", "got 0"),
    "learning_rate 0": (training(learning_rate=0), ValueError, "learning_rate must be above 0"),
    "learning_rate NaN": (training(learning_rate=NAN), ValueError, "learning_rate must be finite", "nan"),
    "learning_rate text": (training(learning_rate="1e-3"), TypeError, "learning_rate must be a number", "'1e-3'"),
    "rotation -1": (training(rotation=-1), ValueError, "rotation must be finite and at least 0", "-1"),
    "rotation 1e39": (training(rotation=1e39), ValueError, "rotation must be at most 360", "1e+39"),
    "rotation None": (training(rotation=None), TypeError, "rotation must be a number", "NoneType"),
    "seed -1": (training(seed=-1), ValueError, "seed must be at least 0", "-1"),
    "validation 5": (training(validation=5), ValueError, "validation must be a pair (images, classes)", "5"),
    "validation images": (training(validation=MNIST), ValueError, "validation must be a pair (images, classes)"),
    "validation of 8×8": (training(validation=(MNIST[..., :8, :8], CLASSES)), ValueError, "validation[0] must have"),
    "validation class": (training(validation=(MNIST, CLASSES + 1)), ValueError, "validation[1] must hold", "0 … 2"),
    "accuracy of None": (lambda: accuracy(None, MNIST, CLASSES), TypeError, CLASSIFIER, "NoneType"),
    "accuracy without classes": (right(classes=None), *NO_SUCH_CLASSES, "NoneType"),
    "accuracy of one class": (right(classes=1), *NO_SUCH_CLASSES, "int"),
    "accuracy, class 3": (right(classes=CLASSES + 1), ValueError, "classes must hold values 0 … 2"),
    "accuracy on no images": (right(MNIST[:0], CLASSES[:0]), ValueError, "images must not be empty"),
    "accuracy on arrays": (right(MNIST.numpy()), TypeError, "images must be a torch tensor", "ndarray"),
    "accuracy, one level": (right(levels=1), ValueError, "levels must be at least 2", "got 1"),
    "accuracy, many levels": (right(levels=10**12), ValueError, "levels", "at most 65,536"),
    "accuracy, no batches": (right(batch_size=0), ValueError, "batch_size must be at least 1"),
}


@pytest.mark.parametrize(("call", "error", "words"), rows(JUDGES))
def test_classifiers_that_cannot_be(call, error, words):
    assert_clear(call, error, *words)
