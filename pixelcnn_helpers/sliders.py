"""Sliders that work in JupyterLab, Notebook and Colab alike: plain controls, one picture whose bytes are replaced."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import ipywidgets as widgets
from matplotlib.figure import Figure

from .plots import png


def picture_slider(draw: Callable[..., tuple[Figure, str]], width: int = 600, **controls: Sequence) -> widgets.VBox:
    """Sliders above a picture that is drawn anew when one of them moves, with a line of words under it.

    draw: `draw(**values) -> (figure, words)`, one value per control; the words say what the picture shows.
    controls: name = the values to choose from, in order; each becomes a slider of that name, usable by keyboard.
    width: of the picture on the page, in pixels.
    Raises ValueError without controls or for one without values.
    """
    if not controls or any(not len(options) for options in controls.values()):
        raise ValueError(f"controls must name at least one slider, each with values, got {controls}")
    sliders = {
        name: widgets.SelectionSlider(options=list(options), description=name, continuous_update=False)
        for name, options in controls.items()
    }
    picture = widgets.Image(format="png", layout=widgets.Layout(width=f"{width}px"))
    words = widgets.HTML()
    words.add_class("pixelcnn-words")

    def redraw(_change=None) -> None:
        figure, text = draw(**{name: slider.value for name, slider in sliders.items()})
        picture.value, words.value = png(figure, crop=False), html.escape(text)

    redraw()
    for slider in sliders.values():
        slider.observe(redraw, "value")
    return widgets.VBox([*sliders.values(), picture, words])
