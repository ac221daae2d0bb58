"""Sliders that work in JupyterLab, Notebook and Colab alike: plain controls, one picture whose bytes are replaced."""

from __future__ import annotations

import asyncio
import html
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

import ipywidgets as widgets
import torch
from IPython import get_ipython
from matplotlib.figure import Figure

from ..checks import check_classes, check_int, check_labels, check_two
from ..data import soft_label
from ..sampling import sample
from ..studies.between import PAIRS, check_drawn_size, check_pair, reader_for
from ..studies.judges import class_probabilities
from .plots import check_figure, draw_votes, png

PAUSE = 0.02  # seconds in which the kernel takes note of the moves that came while it drew


def picture_slider(draw: Callable[..., tuple[Figure, str]], width: int = 600, **controls: Sequence) -> widgets.VBox:
    """Sliders above a picture that is drawn anew when one of them moves, with a line of words under it.

    draw: `draw(**values) -> (figure, words)`, one value per control; the words say what the picture shows.
    controls: name = the values to choose from, in order; each becomes a slider of that name, usable by keyboard.
    width: of the picture on the page, in pixels.
    Raises ValueError without controls or for one without values, TypeError for a `draw` that is no such function.
    """
    if not callable(draw):
        raise TypeError(f"draw must be a function that returns (figure, words), got {type(draw).__name__}")
    for name, options in controls.items():
        if not hasattr(options, "__len__") or not hasattr(options, "__iter__"):
            raise TypeError(f"control {name} must be a sequence of values, got {type(options).__name__}")
    if not controls or any(not len(options) for options in controls.values()):
        raise ValueError(f"controls must name at least one slider, each with values, got {controls}")
    sliders = {
        name: widgets.SelectionSlider(
            options=[(str(value), value) for value in options],  # a pair alone would be taken for a name and a value
            description=name, continuous_update=False,
        )
        for name, options in controls.items()
    }
    shown = pictured(lambda: draw(**{name: slider.value for name, slider in sliders.items()}), sliders.values(), width)
    return widgets.VBox([*sliders.values(), *shown])


def class_slider(
    model, pairs: Iterable[tuple[int, int]] = PAIRS, judge=None, n: int = 10, seed: int = 0, width: int = 800
) -> widgets.VBox:
    """Digits between two classes, drawn anew as you move: choose a pair, then how much of each class to ask for.

    All moves keep the noise, so that only the label changes, until *new noise* is pressed. *all classes* mixes any of
    them by parts. With a judge, `load_pretrained("judge-mnist")[0]` say, its mean votes stand beside the label.

    model: one with classes, `load_pretrained("conditional-mnist")[0]` say. pairs: those that come first in the list;
    all others follow. n: how many digits, with the seeds `seed`, `seed + 1`, … . width: of the picture, in pixels.
    `class_picture` draws the same pictures without a slider.
    Raises ValueError for a model without classes or size, or a pair that is not two of them, TypeError for what is no
    model, no pairs or no judge.
    """
    classes, n, seed = check_classes(model), check_int("n", n, 1), check_int("seed", seed, 0)
    check_drawn_size(model)
    if not isinstance(pairs, Iterable):
        raise TypeError(f"pairs must be pairs of classes, ((1, 7), (3, 8)) say, got {type(pairs).__name__}")
    judge = None if judge is None else reader_for(model, judge, name="judge")
    first = [check_pair(pair, classes) for pair in pairs]
    options = {f"{a} → {b}": (a, b) for a, b in [*first, *combinations(range(classes), 2)]}  # each once

    kind = widgets.ToggleButtons(options=["two classes", "all classes"], description="mix")
    # not a list to drop down, whose arrow keys JupyterLab takes for its own
    pair = widgets.SelectionSlider(options=list(options), description="pair", continuous_update=False)
    weight = widgets.FloatSlider(
        value=0.5, min=0, max=1, step=0.05, description="weight", continuous_update=False, readout_format=".2f",
        layout=widgets.Layout(width="460px"),
    )
    parts = [
        widgets.IntSlider(
            max=10, description=str(index), orientation="vertical", continuous_update=False,
            layout=widgets.Layout(width="52px", height="150px"),
        )
        for index in range(classes)
    ]
    temperature = widgets.FloatSlider(
        value=1, min=0.5, max=1.5, step=0.1, description="temperature", continuous_update=False, readout_format=".1f",
        style={"description_width": "90px"},
    )
    noise = widgets.Button(description="new noise")
    of_two, of_all = widgets.HBox([pair, weight]), widgets.HBox(parts)
    first_seed = seed

    def draw() -> tuple[Figure, str]:
        if kind.value == "two classes":
            a, b = options[pair.value]
            asked = {a: 1 - weight.value, b: weight.value}
        else:
            total = sum(part.value for part in parts)
            if total == 0:
                raise ValueError("all parts are 0: raise one of them")
            asked = {index: part.value / total for index, part in enumerate(parts)}
        return class_picture(model, soft_label(asked, classes), judge, n, first_seed, temperature.value)

    def choose(_change=None) -> None:
        """Show the controls that count; the parts begin where the pair was."""
        of_two.layout.display, of_all.layout.display = (None, "none")[:: 1 if kind.value == "two classes" else -1]
        if kind.value == "all classes" and not any(part.value for part in parts):
            a, b = options[pair.value]
            parts[a].value, parts[b].value = round(10 - 10 * weight.value), round(10 * weight.value)

    def renew(_button) -> None:
        nonlocal first_seed
        first_seed += n

    choose()
    kind.observe(choose, "value")
    noise.on_click(renew)
    shown = pictured(draw, [kind, pair, weight, *parts, temperature, noise], width)
    return widgets.VBox([kind, of_two, of_all, widgets.HBox([temperature, noise]), *shown])


def class_picture(
    model, label: torch.Tensor, judge=None, n: int = 10, seed: int = 0, temperature: float = 1.0
) -> tuple[Figure, str]:
    """One picture of `class_slider`, and the words under it: digits that one label row `(1, classes)` asks for.

    n, seed, temperature: as for `sample`. Beside the digits stand the label and, with a judge, its mean votes.
    """
    classes, n = check_classes(model), check_int("n", n, 1)
    check_drawn_size(model)
    judge = None if judge is None else reader_for(model, judge, name="judge")
    check_labels(label, 1, classes, name="label")
    images = sample(model, labels=label.expand(n, -1), seed=seed, temperature=temperature)
    votes = None if judge is None else class_probabilities(judge, images, model.levels)  # (n, classes)
    asked = ", ".join(f"{share:.2f} of {index}" for index, share in enumerate(label[0].tolist()) if share)
    words = f"{n} digit{'s' * (n > 1)} drawn for {asked}."
    if judge is not None:
        mean = votes.mean(0)
        leaders = [index for index in mean.argsort(descending=True)[:3].tolist() if mean[index] > 0.005]
        words += " Mean votes of the judge: " + ", ".join(f"{mean[index]:.2f} for {index}" for index in leaders) + "."
    return draw_votes(images, model.levels, label[0], votes), words


def pictured(draw: Callable[[], tuple[Figure, str]], controls: Iterable, width: int) -> list[widgets.Widget]:
    """A picture and a line of words, drawn anew whenever a control moves; ValueErrors are told in the words.

    Moves that come while it draws are not queued up: it then draws once, for where the controls are now.
    """
    check_int("width", width, 1)

    def drawn() -> tuple[bytes, str]:
        figure, words = check_two("what draw returns", draw(), "(figure, words)")
        check_figure("the first of what draw returns", figure)
        if not isinstance(words, str):
            raise TypeError(f"the second of what draw returns must be a string, got {type(words).__name__}")
        return png(figure, crop=False), words

    # With JupyterLab, ipykernel 7 hands a control's first move to its main thread and later ones to another. Drawn side
    # by side, an older picture could end last and stay.
    one_at_a_time = threading.RLock()
    picture = widgets.Image(format="png", layout=widgets.Layout(width=f"{width}px", max_width="100%"))
    words = widgets.HTML()
    words.add_class("pixelcnn-words")
    waiting = False

    def redraw() -> None:
        nonlocal waiting
        with one_at_a_time:
            waiting = False  # before the controls are read: a move from here on asks for another drawing
            try:
                picture.value, text = drawn()
            except ValueError as error:
                text = f"{error}"
            words.value = html.escape(text)

    def redraw_later() -> None:
        try:
            redraw()
        except Exception as error:  # the event loop would tell it to nobody
            words.value = html.escape(f"{type(error).__name__}: {error}")
            if shell := get_ipython():
                shell.showtraceback()

    def moved(_change) -> None:
        nonlocal waiting
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no kernel
            redraw()
            return
        if not waiting:
            waiting = True
            loop.call_later(PAUSE, redraw_later)

    picture.value, text = drawn()  # what is wrong from the start is raised
    words.value = html.escape(text)
    for control in controls:
        if isinstance(control, widgets.Button):
            control.on_click(moved)
        else:
            control.observe(moved, "value")
    return [picture, words]

