"""One figure style for the series: functions that draw a matplotlib Figure, `show` and `animate` for the page."""

from __future__ import annotations

import base64
import html
import io
import json
import reprlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import cycle

import matplotlib
import numpy as np
import torch
from IPython.display import HTML, Image, display
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image as Pillow

from ..checks import check_int, check_number, check_positive
from ..training import History

# Okabe and Ito's colours, which colour-blind readers can tell apart, each with one meaning throughout the series.
SEEN, HERE, BLIND, LEAK, LATER = "#56B4E9", "#D55E00", "#F0C419", "#CC79A7", "#E6E6E6"
COMPUTED = "#009E73"  # features that a step computes
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
# One for each class: Paul Tol's "muted" colours, and black.
CLASSES = ["#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#222222"]
STYLE = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=LINES),
    "lines.linewidth": 2,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "image.interpolation": "nearest",
}
PIXELS_PER_INCH = 150  # drawn at twice the size it is shown at, so that it stays sharp on fine screens


ONE_AT_A_TIME = threading.RLock()  # a slider draws in a thread of its own, and matplotlib's settings are global


@contextmanager
def style():
    """The style of the series inside, and matplotlib's own settings as they were afterwards."""
    with ONE_AT_A_TIME, matplotlib.rc_context(STYLE):
        yield


def styled(draw):
    """A drawing function that runs in the style of the series."""

    @wraps(draw)
    def inside(*args, **kwargs):
        with style():
            return draw(*args, **kwargs)

    return inside


def png(figure: Figure, crop: bool = True) -> bytes:
    """A figure as the bytes of a PNG, without its empty margins if `crop`."""
    buffer = io.BytesIO()
    margins = {"bbox_inches": "tight", "pad_inches": 0.08} if crop else {}
    with style():
        figure.savefig(buffer, format="png", dpi=PIXELS_PER_INCH, facecolor="white", **margins)
    return buffer.getvalue()


def show(figure: Figure, alt: str) -> None:
    """Put a figure on the page as a PNG. alt: what it shows, in words, for those who cannot see it.

    Raises TypeError for what is no matplotlib Figure, TypeError or ValueError for an alt without words.
    """
    check_figure("figure", figure)
    put(png(figure), _alt(alt))


def animate(figures: Iterable[Figure], alt: str, milliseconds: int = 400) -> None:
    """Put a film on the page as an animated PNG. A still page shows the first figure: make it the whole story.

    figures: all of one size. milliseconds: of each; the first one stays four times as long.
    Raises ValueError or TypeError for arguments that are anything else.
    """
    if check_int("milliseconds", milliseconds, 1) > 16_000:
        raise ValueError(f"milliseconds must be at most 16000, the longest that a PNG can hold, got {milliseconds}")
    alt, frames, buffer = _alt(alt), _frames(figures), io.BytesIO()
    sizes = sorted({frame.size for frame in frames})
    if len(sizes) > 1:
        raise ValueError(f"figures must all be of one size, got figures of {sizes[0]} and of {sizes[1]} pixels")
    durations = [4 * milliseconds] + [milliseconds] * (len(frames) - 1)
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    put(buffer.getvalue(), alt)


def frame_slider(figures: Mapping[str, Figure], alt: str, begin: int = 0) -> None:
    """Put a slider on the page that works without a kernel: it shows one of the figures, each with its name.

    alt: what they show, in words; the name of the one that is shown follows it. begin: the number of the one to begin
    with, from 0; a page that runs no scripts, GitHub's say, shows only that.
    Raises ValueError if there is none, TypeError for what is no dictionary of names and figures.
    """
    if not isinstance(figures, Mapping) or not all(isinstance(name, str) for name in figures):
        raise TypeError(f"figures must be a dictionary {{name: figure}}, its names strings, got {_short(figures)}")
    alt, frames, pictures = _alt(alt), _frames(figures.values()), []
    if check_int("begin", begin, 0) >= len(frames):
        raise ValueError(f"begin must be below {len(frames)}, the number of figures, got {begin}")
    for frame in frames:
        buffer = io.BytesIO()
        frame.save(buffer, "PNG", optimize=True)
        pictures.append("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode())
    names, width, said = list(figures), frames[0].width // 2, html.escape(f"{alt} ")
    first, all_names, all_frames = (html.escape(text) for text in (names[begin], *map(json.dumps, (names, pictures))))
    move = (
        "const box = this.parentNode, image = box.querySelector('img');"
        "box.frames ??= JSON.parse(image.dataset.frames); const name = JSON.parse(this.dataset.names)[this.value];"
        "image.src = box.frames[this.value]; image.alt = image.dataset.alt + name;"
        "box.querySelector('output').value = name; this.setAttribute('aria-valuetext', name);"
    )
    # JupyterLab takes arrow keys for its own, unless an element suppresses its shortcuts
    display(HTML(
        f'<div class="pixelcnn-frames"><input type="range" max="{len(names) - 1}" value="{begin}" autocomplete="off" '
        f'style="width: {width // 2}px" data-lm-suppress-shortcuts="true" aria-label="{said}" aria-valuetext="{first}" '
        f'data-names="{all_names}" oninput="{html.escape(move)}"> <output aria-live="off">{first}</output><br>'
        f'<img src="{pictures[begin]}" width="{width}" alt="{said}{first}" data-alt="{said}" '
        f'data-frames="{all_frames}"></div>'
    ))


def _frames(figures: Iterable[Figure]) -> list[Pillow.Image]:
    """Figures as uncropped pictures in few colours, which keeps them small."""
    if not isinstance(figures, Iterable):
        raise TypeError(f"figures must be several matplotlib Figures, got {_short(figures)}")
    figures = list(figures)
    if not figures:
        raise ValueError("figures must hold at least one figure, got none")
    for index, figure in enumerate(figures):
        check_figure(f"figures[{index}]", figure)
    return [Pillow.open(io.BytesIO(png(figure, crop=False))).convert("RGB").quantize(64) for figure in figures]


def check_figure(name: str, value) -> None:
    if not isinstance(value, Figure):
        raise TypeError(f"{name} must be a matplotlib Figure, got {_short(value)}")


def _alt(alt: str) -> str:
    if not isinstance(alt, str):
        raise TypeError(f"alt must be a string, got {_short(alt)}")
    if not alt.strip():
        raise ValueError("alt must say in words what the picture shows, got an empty string")
    return alt


def _short(value) -> str:
    return f"{type(value).__name__} {reprlib.repr(value)}" if isinstance(value, Mapping) else type(value).__name__


def put(picture: bytes, alt: str) -> None:
    """Put a PNG on the page, at half its size, with its description."""
    width = Pillow.open(io.BytesIO(picture)).width // 2
    display(Image(picture, width=width, metadata={"alt": alt}))  # Colab's IPython 7 takes no alt=


@styled
def axes(rows: int = 1, cols: int = 1, width: float = 8.0, height: float = 2.6, **options):
    """An empty figure of `rows` × `cols` axes in the style of the series: `(figure, axes)`, sizes in inches."""
    rows, cols = check_int("rows", rows, 1), check_int("cols", cols, 1)
    figure = Figure(figsize=(check_positive("width", width), check_positive("height", height)))
    return figure, figure.subplots(rows, cols, **options)


@styled
def draw_images(
    images, levels: int, cols: int | None = None, row_names: Sequence[str] | None = None, scale: float = 0.72,
    col_names: Sequence[str] | None = None,
) -> Figure:
    """A sheet of images `(N, 1 or 3, H, W)` with values `0 … levels-1`, `cols` to a row.

    `row_names` stand on the left, `col_names` above. Raises ValueError or TypeError for anything else, and for another
    number of names than rows or columns.
    """
    images = _images(images, levels)
    cols, scale = check_int("cols", len(images) if cols is None else cols, 1), check_positive("scale", scale)
    rows, height = -(-len(images) // cols), images.shape[2]
    for kind, names, count in (("row", row_names, rows), ("col", col_names, cols)):
        if isinstance(names, str) or not isinstance(names, Sequence | None):
            raise TypeError(f"{kind}_names must be a list of names, got {type(names).__name__}")
        if names and len(names) != count:
            raise ValueError(f"{kind}_names must be one for each of the {count} {kind}s, got {len(names)}")
    figure = Figure(figsize=(cols * scale + 1.5 * bool(row_names), rows * scale))
    ax = figure.subplots()
    draw_sheet(ax, images, levels, cols)
    if row_names:
        middles = [row * (height + _gap(height)) + height / 2 - 0.5 for row in range(rows)]
        ax.set_yticks(middles, row_names)
    if col_names:
        width = images.shape[3]
        ax.set_xticks([col * (width + _gap(height)) + width / 2 - 0.5 for col in range(cols)], col_names)
        ax.xaxis.tick_top()
    return figure


@styled
def draw_sheet(ax, images, levels: int, cols: int, title: str = "") -> None:
    """The same sheet of images on axes that are already there."""
    images, cols = _images(images, levels).float() / (levels - 1), check_int("cols", cols, 1)
    _check_ax(ax)
    count, channels, height, width = images.shape
    rows, gap = -(-count // cols), _gap(height)
    sheet = np.ones((rows * (height + gap) - gap, cols * (width + gap) - gap, channels))
    for index, image in enumerate(images):
        top, left = index // cols * (height + gap), index % cols * (width + gap)
        sheet[top : top + height, left : left + width] = image.permute(1, 2, 0)
    ax.imshow(sheet if channels == 3 else sheet[..., 0], cmap="gray", vmin=0, vmax=1)
    _bare(ax, title)


def _images(images, levels: int) -> torch.Tensor:
    """Images `(N, 1 or 3, H, W)` with values `0 … levels-1` on the CPU; ValueError or TypeError for anything else."""
    levels = check_int("levels", levels, 2)
    if not isinstance(images, torch.Tensor | np.ndarray):
        raise TypeError(f"images must be a tensor or an array, got {type(images).__name__}")
    images = torch.as_tensor(_numbers("images", images))
    if not len(images.shape[:1]) or not len(images):
        raise ValueError("images must hold at least one image, got none")
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.numel():
        raise ValueError(f"images must have the shape (N, 1 or 3, H, W), got {tuple(images.shape)}")
    low, high = (value.item() for value in images.aminmax())
    if not (low >= 0 and high <= levels - 1):  # NaN neither
        raise ValueError(f"images must hold values 0 … {levels - 1}, got {low:g} … {high:g}")
    return images


def _map(ax, name: str, values, place: tuple[int, int] | None = None, like=None) -> np.ndarray:
    """Numbers `(H, W)` for one axes, checked: `place` is a pixel of theirs, and they have the shape of `like`."""
    _check_ax(ax)
    values = _numbers(name, values)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"{name} must have the shape (H, W), got {values.shape}")
    if like is not None and values.shape != like.shape:
        raise ValueError(f"{name} must have the shape {like.shape}, got {values.shape}")
    if place is not None:
        row, col = check_int("row", place[0], 0), check_int("col", place[1], 0)
        if row >= values.shape[0] or col >= values.shape[1]:
            raise ValueError(f"row and col must lie within {values.shape}, got ({row}, {col})")
    return values


def _numbers(name: str, values) -> np.ndarray:
    """A tensor, an array or nested lists as an array of numbers; ValueError for anything else."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values  # NumPy has no bfloat16
    try:
        values = np.ascontiguousarray(values) if np.ndim(values) else np.asarray(values)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numbers in a regular shape, got {type(values).__name__}") from None
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numbers, got {values.dtype}")
    return values


def _check_ax(ax) -> None:
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be one matplotlib Axes, got {type(ax).__name__}")


def _gap(height: int) -> int:
    """White pixels between the images of a sheet."""
    return max(1, height // 12)


@styled
def draw_context(
    ax, image, levels: int, seen, row: int | None = None, col: int | None = None, title: str = "", lines: bool = True
) -> None:
    """An image `(H, W)` of which only the pixels `seen` show, from dark to light blue; `(row, col)`, if any, framed."""
    image = _map(ax, "image", image, None if row is None else (row, col))
    grey, seen = image[..., None] / (check_int("levels", levels, 2) - 1), _map(ax, "seen", seen, like=image)
    if not (grey.min() >= 0 and grey.max() <= 1):
        raise ValueError(f"image must hold values 0 … {levels - 1}, got {image.min():g} … {image.max():g}")
    tint, hidden = (np.array(matplotlib.colors.to_rgb(colour)) for colour in (SEEN, LATER))
    shown = np.where(seen[..., None], (0.45 + 0.55 * grey) * tint, hidden)  # ink is blue, too, for it is seen
    ax.imshow(shown)
    if lines:
        grid_lines(ax, *shown.shape[:2])
    if row is not None:
        frame(ax, row, col)
    _bare(ax, title)


@styled
def draw_kernel(ax, taps, title: str = "", centre: bool = True) -> None:
    """One kernel `(k, k)`: open taps blue, closed ones grey, each with its number; the centre framed if wanted."""
    taps = _map(ax, "taps", taps)
    height, width = taps.shape
    ax.imshow(taps != 0, cmap=ListedColormap([LATER, SEEN]), vmin=0, vmax=1)
    grid_lines(ax, height, width)
    if centre:
        frame(ax, height // 2, width // 2)
    for (row, col), tap in np.ndenumerate(taps):
        ax.text(col, row, f"{tap:g}", ha="center", va="center", color="black" if tap else "#777777")
    _bare(ax, title)


@styled
def draw_field(ax, field, row: int, col: int, blind=None, title: str = "", lines: bool = True) -> None:
    """A receptive field `(H, W)`, the pixel itself framed: seen pixels blue, `blind` ones yellow, others grey.

    What is seen but must not be, the pixel itself and all later ones, is pink.
    """
    roles = _map(ax, "field", field, (row, col)).astype(int)
    rows, cols = np.indices(roles.shape)
    later = (rows > row) | ((rows == row) & (cols >= col))
    roles = np.where(later & (roles > 0), 3, roles)
    if blind is not None:
        roles = np.where(_map(ax, "blind", blind, like=roles), 2, roles)
    ax.imshow(roles, cmap=ListedColormap([LATER, SEEN, BLIND, LEAK]), vmin=0, vmax=3)
    if lines:
        grid_lines(ax, *roles.shape)
    frame(ax, row, col)
    _bare(ax, title)


@styled
def draw_roles(ax, kept, computed, row: int, col: int, title: str = "") -> None:
    """Features `(H, W)` while an image is drawn: kept ones blue, those `computed` now green, others grey."""
    kept = _map(ax, "kept", kept, (row, col))
    roles = np.where(_map(ax, "computed", computed, like=kept), 2, kept.astype(int))
    ax.imshow(roles, cmap=ListedColormap([LATER, SEEN, COMPUTED]), vmin=0, vmax=2)
    grid_lines(ax, *roles.shape)
    frame(ax, row, col)
    _bare(ax, title)


@styled
def draw_strength(ax, strength, row: int, col: int, title: str = "") -> None:
    """An effective receptive field `(H, W)`: the darker, the larger a pixel's share of the largest, grey if unseen."""
    strength = _map(ax, "strength", strength, (row, col))
    if not (strength.min() >= 0 and np.isfinite(strength).all()):
        raise ValueError("strength must be finite and not negative")
    shares = strength / (strength.max() or 1.0)
    shades = ax.imshow(np.where(strength > 0, shares, np.nan), cmap="Blues", norm=LogNorm(1e-3, 1, clip=True))
    ax.set_facecolor(LATER)
    frame(ax, row, col)
    bar = ax.figure.colorbar(shades, ax=ax, shrink=0.8)
    bar.set_ticks([1e-3, 1e-2, 1e-1, 1], labels=["0.1 %", "1 %", "10 %", "100 %"])
    bar.set_label("of the strongest pixel", fontsize=9)
    bar.outline.set_visible(False)
    _bare(ax, title)


@styled
def draw_history(history: History, baselines: dict[str, float] | None = None) -> Figure:
    """Learning curves in bits/dim over the optimiser's steps, with `baselines` {name: bits/dim} as dashed lines."""
    if not isinstance(history, History):
        raise TypeError(f"history must be a History, got {_short(history)}; History(**card['history']) makes one")
    if not isinstance(baselines, Mapping | None):
        raise TypeError(f"baselines must be a dictionary {{name: bits/dim}}, got {_short(baselines)}")
    counts = [len(part) for part in (history.steps, history.train, history.validation or history.steps)]
    if len(set(counts)) > 1:
        raise ValueError(f"history must hold one entry of each kind per epoch, got {counts}")
    for name, value in (baselines or {}).items():
        check_number(f"baselines[{name!r}]", value)
    figure = Figure(figsize=(8, 3.2))
    ax = figure.subplots()
    ax.plot(history.steps, history.train, label="training")
    if history.validation:
        ax.plot(history.steps, history.validation, label="held out")
    for (name, value), colour in zip((baselines or {}).items(), cycle(("#555555", "#999999", "#bbbbbb")), strict=False):
        ax.axhline(value, color=colour, linestyle="--", linewidth=1.2)
        ax.text(max(history.steps, default=0), value, name, ha="right", va="bottom", color=colour)
    ax.set(xlabel="steps", ylabel="bits/dim")
    ax.legend(loc="upper center", ncols=2)
    return figure


@styled
def draw_votes(images, levels: int, label, votes=None) -> Figure:
    """Images in two rows, and under each how a judge reads it; beside them, by class, the label and the mean votes.

    images: `(N, 1 or 3, H, W)` with values `0 … levels-1`; label: `(classes,)`; votes: `(N, classes)` or None, all in
    0 … 1. Each class has its colour, the same in every picture. Raises ValueError or TypeError for anything else.
    """
    images, label = _images(images, levels), _shares("label", label)
    if votes is not None:
        votes = _shares("votes", votes, (len(images), *label.shape))
    figure = Figure(figsize=(8, 2.6))
    sheet, bars = figure.subplots(1, 2, width_ratios=[1.5, 1])
    places, colours = np.arange(len(label)), [CLASSES[index % len(CLASSES)] for index in range(len(label))]
    cols, (height, width) = -(-len(images) // 2), images.shape[2:]
    line, gap = height * 0.14, 2  # of the votes under an image, and around it
    for index, image in enumerate(images.float() / (levels - 1)):
        left, top = index % cols * (width + gap), index // cols * (height + line + 3 * gap)
        shown = image.permute(1, 2, 0).expand(-1, -1, 3).numpy()
        sheet.imshow(shown, extent=(left, left + width, top + height, top))
        for colour, share in zip(colours, [] if votes is None else votes[index].tolist(), strict=False):
            corner = left, top + height + gap
            sheet.add_patch(Rectangle(corner, width * share, line, color=colour, linewidth=0))
            left += width * share
    rows = -(-len(images) // cols)
    sheet.set(xlim=(0, cols * (width + gap) - gap), ylim=(rows * (height + line + 3 * gap) - 2 * gap, 0))
    _bare(sheet)

    bars.bar(places - 0.2, label, 0.4, color="white", edgecolor="#555555")
    if votes is not None:
        bars.bar(places + 0.2, votes.mean(0), 0.4, color=colours)
        bars.set_title("asked for (outlined), mean votes (filled)", fontsize=10)
    bars.set(xticks=places, yticks=[0, 0.5, 1], ylim=(0, 1.05), xlabel="class")
    return figure


def _shares(name: str, values, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Numbers in 0 … 1: a label `(classes,)`, or the votes of the given shape."""
    values = _numbers(name, values)
    if values.shape != shape if shape else (values.ndim != 1 or not values.size):
        raise ValueError(f"{name} must have the shape {shape or '(classes,)'}, got {values.shape}")
    if not (values.min() >= 0 and values.max() <= 1 + 1e-3):
        raise ValueError(f"{name} must hold numbers in 0 … 1, got {values.tolist()}")
    return values


def frame(ax, row: int, col: int, reach: int = 0) -> None:
    """A frame around the pixel that everything is about, or a thinner one `reach` pixels further out."""
    _check_ax(ax)
    row, col, reach = check_int("row", row, 0), check_int("col", col, 0), check_int("reach", reach, 0)
    corner, side = (col - reach - 0.5, row - reach - 0.5), 2 * reach + 1
    thickness = 1.2 if reach else 2.5
    ax.add_patch(Rectangle(corner, side, side, fill=False, color=HERE, linewidth=thickness, zorder=3))


def grid_lines(ax, height: int, width: int) -> None:
    """White lines between the pixels of an image."""
    ax.hlines(np.arange(height + 1) - 0.5, -0.5, width - 0.5, color="white", linewidth=1)
    ax.vlines(np.arange(width + 1) - 0.5, -0.5, height - 0.5, color="white", linewidth=1)


def _bare(ax, title: str = "") -> None:
    ax.set(xticks=[], yticks=[], title=title)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
