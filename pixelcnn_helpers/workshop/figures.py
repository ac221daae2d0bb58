"""The pictures that are made ahead: each notebook's opening picture and the README's, by `make figures`.

Every picture is drawn by the package itself and carries its description, which the notebooks use as alt text.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, PngImagePlugin

from ..causality import blind_spot, receptive_field
from ..checkpoint import write_atomically
from ..data import load_digits, load_mnist_sample, quantize
from ..layers import MaskedConv2d, causal_mask
from ..likelihood import pixel_nats
from ..models import PixelCNN
from ..page import plots
from ..pretrained import load_measurement, load_pretrained
from ..sampling import naive_sample, sample
from ..studies.between import PAIRS, sample_between
from ..studies.datasets import load_dataset, load_photo_patches
from ..studies.strange import strange_images
from ..training import fit
from .places import ROOT


def main() -> None:
    """Draw every picture anew, about half a minute on two CPU cores."""
    model, held_out = trained_network()
    pictures = ROOT / "pixelcnn_helpers" / "page" / "pictures"
    save(pictures / "01_masks.png", *draw_masks())
    save(pictures / "02_blind_spot.png", *draw_blind_spots())
    save(pictures / "03_pixelcnn.png", *draw_digits(model, held_out))
    save(pictures / "04_gated_pixelcnn.png", *draw_gated())
    save(pictures / "05_conditional_pixelcnn.png", *draw_ten_classes())
    save(pictures / "06_between_classes.png", *draw_between())
    save(pictures / "07_fast_sampling.png", *draw_cache())
    save(pictures / "08_colour.png", *draw_colour())
    save(pictures / "09_likelihood_at_work.png", *draw_surprise())
    save(pictures / "10_relatives.png", *draw_relatives())
    save(pictures / "11_learned_mixup.png", *draw_mixup())
    save(ROOT / "figures" / "pixelcnn.png", *draw_overview(model))


def save(path: Path, figure: Figure, description: str) -> None:
    """Write a figure with its description inside, in few colours, so that it stays small."""
    text, small = PngImagePlugin.PngInfo(), io.BytesIO()
    text.add_itxt("Description", description)
    image = Image.open(io.BytesIO(plots.png(figure))).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    image.save(small, "PNG", optimize=True, pnginfo=text)
    write_atomically(path, small.getvalue())
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.0f} KB")


def trained_network() -> tuple[PixelCNN, torch.Tensor]:
    """A small plain PixelCNN trained on the bundled digits, and the digits held out, `(300, 1, 8, 8)`."""
    images = load_digits()[0]
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    torch.manual_seed(0)
    model = PixelCNN(levels=17, features=32, layers=6, kernel_size=5)
    fit(model, images[:1497], epochs=10, batch_size=16, validation=(images[1497:], None))
    return model, images[1497:]


def draw_masks() -> tuple[Figure, str]:
    """An image as the network may see it, and the two masks that make it so."""
    figure, axes = plots.axes(1, 3, width=8, height=2.9)
    digit, row, col = load_digits()[0][3, 0], 4, 4
    rows, cols = np.indices(digit.shape)
    earlier = (rows < row) | ((rows == row) & (cols < col))
    plots.draw_context(axes[0], digit, 17, earlier, row, col, title="which pixels may be seen")
    plots.draw_kernel(axes[1], causal_mask(5, "A")[0, 0], title="mask A, first layer")
    plots.draw_kernel(axes[2], causal_mask(5, "B")[0, 0], title="mask B, later layers")
    return figure, (
        "Three panels. A handwritten 3 with one pixel framed: the pixels above it and to its left are tinted as seen, "
        "the rest is grey. Beside it two kernels of 5×5 taps: mask A is open above and left of the centre, "
        "mask B at the centre too."
    )


def draw_blind_spots() -> tuple[Figure, str]:
    """The receptive field of a plain stack and its blind spot, at four depths."""
    figure, axes = plots.axes(1, 4, width=8, height=2.4)
    size, row, col = (13, 17), 11, 8
    for ax, depth in zip(axes, (1, 2, 4, 8), strict=True):
        stack = masked_stack(depth, 3)
        field, blind = receptive_field(stack, row, col, size), blind_spot(stack, row, col, size)
        plots.draw_field(ax, field, row, col, blind, title=f"{depth} layer{'s' * (depth > 1)}: {blind.sum()} blind")
    return figure, (
        "Four maps of what one pixel sees through 1, 2, 4 and 8 masked 3×3 layers. The field grows upwards and to the "
        "left, while a wedge of pixels on the upper right, the blind spot, grows with it and is never seen."
    )


def draw_digits(model: PixelCNN, held_out: torch.Tensor) -> tuple[Figure, str]:
    """Real digits, digits drawn by the network, and half digits that it completed."""
    count = 12
    upper = torch.zeros(8, 8, dtype=torch.bool)
    upper[:4] = True
    half = torch.where(upper, held_out[:count], 0)
    sheet = [held_out[20 : 20 + count], naive_sample(model, count, seed=0), half]
    sheet.append(naive_sample(model, count, seed=0, known=(held_out[:count], upper)))
    names = ["real digits", "drawn", "upper halves", "completed"]
    return plots.draw_images(torch.cat([rows.cpu() for rows in sheet]), 17, count, names, scale=0.6), (
        "Four rows of small digits: twelve real ones, twelve drawn by a network pixel by pixel, "
        "twelve of which only the upper half is given, and the same twelve with the lower half completed."
    )


def draw_gated() -> tuple[Figure, str]:
    """A gated block as a diagram: two stacks, the link between them, two gates, residual, skip and label."""
    figure, ax = plots.axes(width=8, height=3.5)
    grey, above, own, label = "#555555", plots.LINES[0], plots.LINES[2], plots.LINES[4]

    def box(x, y, text, colour, shape="round,pad=0.4,rounding_size=0.2", size=10):
        style = {"boxstyle": shape, "facecolor": "white", "edgecolor": colour, "linewidth": 1.6}
        ax.text(x, y, text, ha="center", va="center", fontsize=size, bbox=style, zorder=3)

    def arrow(colour, *corners):
        ax.plot(*zip(*corners, strict=True), color=colour, linewidth=1.6, zorder=1)
        (x, y), end = corners[-2:]
        middle = (0.45 * x + 0.55 * end[0], 0.45 * y + 0.55 * end[1])
        tip = {"arrowstyle": "-|>,head_width=0.25,head_length=0.45", "color": colour, "linewidth": 1.2}
        ax.annotate("", middle, (x, y), arrowprops=tip | {"shrinkA": 0, "shrinkB": 0}, zorder=2)

    stacks = (6.0, above, "v", "rows above"), (2.0, own, "h", "own row,\nto the left")
    for y, colour, name, words in stacks:
        arrow(colour, (0.4, y), (2.6, y), (4.9, y), (6.8, y), (8.0, y))
        arrow(colour, (0.4, y), (2.0, y))
        box(2.6, y, words, colour)
        ax.text(4.2, y + 0.2, "2F", color=grey, fontsize=9, ha="center")
        arrow(label, (6.8, 4.0), (6.8, y))
        box(6.8, y, "+", grey, "circle,pad=0.1")
        for side, half in ((0.75, "tanh"), (-0.75, "σ")):
            arrow(colour, (8.0, y), (8.0, y + side), (9.2, y + side))
            arrow(colour, (9.2, y + side), (10.7, y + side), (10.7, y))
            box(9.2, y + side, half, colour)
        box(10.7, y, "×", grey, "circle,pad=0.1")
        ax.text(11.5, y + 0.2, "F", color=grey, fontsize=9, ha="center")
        for x, side in ((0.2, "right"), (17.2, "left")):
            ax.text(x, y, name, color=colour, fontsize=13, ha=side, va="center", weight="bold")
    arrow(above, (10.7, 6.0), (17.0, 6.0))
    arrow(above, (4.9, 6.0), (4.9, 3.9))
    arrow(above, (4.9, 3.9), (4.9, 2.0))
    ax.plot((10.7, 12.2), (2.0, 2.0), color=own, linewidth=1.6, zorder=1)
    arrow(own, (12.2, 2.0), (14.0, 2.0))
    arrow(own, (14.0, 2.0), (15.8, 2.0))
    arrow(own, (15.8, 2.0), (17.0, 2.0))
    arrow(own, (12.2, 2.0), (12.2, 4.0), (14.6, 4.0))
    arrow(own, (0.8, 2.0), (0.8, 0.2), (15.8, 0.2), (15.8, 2.0))
    for x, y, colour in ((4.9, 6.0, above), (12.2, 2.0, own), (0.8, 2.0, own)):
        ax.plot(x, y, "o", color=colour, markersize=5, zorder=3)
    box(4.9, 4.0, "link 1×1", above)
    box(6.8, 4.0, "label", label)
    box(4.9, 2.0, "+", grey, "circle,pad=0.1")
    box(14.0, 2.0, "1×1", own)
    box(15.8, 2.0, "+", grey, "circle,pad=0.1")
    ax.text(14.7, 4.0, "skip, to the head", color=own, va="center", fontsize=10)
    ax.text(12.2, 0.35, "residual", color=own, fontsize=10, ha="center")
    ax.text(0.4, 7.1, "vertical stack", color=above, weight="bold")
    ax.text(0.4, 3.1, "horizontal stack", color=own, weight="bold")
    ax.set(xlim=(-0.4, 17.8), ylim=(-0.1, 7.7))
    ax.set_axis_off()
    return figure, (
        "Diagram of a gated block. The vertical stack v: a convolution over rows above to twice the features, the "
        "label added, tanh times sigmoid. Before its gate a 1×1 link leads to the horizontal stack h: a convolution "
        "of the own row to the left, the link and the label added, tanh times sigmoid. What passes this gate goes to "
        "the head as a skip, and through a 1×1 back onto h by a residual."
    )


def draw_ten_classes() -> tuple[Figure, str]:
    """Digits drawn on request: three of each class, each column under the label that was asked for."""
    model, _ = load_pretrained("conditional-mnist")
    # other noise than in the notebook itself; nothing was chosen
    images = sample(model, labels=torch.eye(10).repeat(3, 1), seed=100)
    figure, ax = plots.axes(width=8, height=2.75)
    plots.draw_sheet(ax, images, model.levels, 10)
    middles = np.linspace(*ax.get_xlim(), 21)[1::2]  # of ten columns
    ax.set_xticks(middles, [str(digit) for digit in range(10)])
    ax.xaxis.tick_top()
    ax.set_title("asked for", loc="left")
    return figure, (
        "Thirty handwritten digits that the network drew on request: three in each column, under the label asked for, "
        "0 to 9."
    )


def draw_between() -> tuple[Figure, str]:
    """Digits on the way from one class to another, for four pairs, each step of the way chosen among candidates."""
    model, _ = load_pretrained("between-mnist")
    weights = [step / 10 for step in range(11)]
    # other noise than in the notebook itself; nothing was chosen by hand
    rows = [sample_between(model, a, b, weight, n=1, seed=100) for a, b in PAIRS for weight in weights]
    figure, ax = plots.axes(width=8, height=3.1)
    plots.draw_sheet(ax, torch.cat(rows), model.levels, 11)
    middles = np.linspace(*ax.get_xlim(), 23)[1::2]  # of eleven columns
    ax.set_xticks(middles, [f"{weight:g}" for weight in weights])
    ax.xaxis.tick_top()
    lines = np.linspace(*ax.get_ylim()[::-1], 9)[1::2]
    ax.set_yticks(lines, [f"{a} → {b}" for a, b in PAIRS])
    return figure, (
        "Four rows of eleven handwritten digits. From left to right a 1 becomes a 7, a 3 an 8, a 4 a 9 and a 5 a 6, in "
        "steps of a tenth; in the middle stand digits that could be either."
    )


def draw_cache() -> tuple[Figure, str]:
    """What the naive loop computes for one pixel, and what has to be computed."""
    figure, axes = plots.axes(1, 2, width=7, height=2.8)
    order, now = np.arange(12 * 14).reshape(12, 14), 5 * 14 + 7
    plots.draw_roles(axes[0], order < 0, order >= 0, 5, 7, title="naive: all features, for one pixel")
    plots.draw_roles(axes[1], order < now, order == now, 5, 7, title="cached: one, and the rest is kept")
    return figure, (
        "Two grids of features with one pixel framed. In the naive loop all are computed, green. "
        "With a cache the earlier ones are kept, blue, and a single one is computed."
    )


def draw_colour() -> tuple[Figure, str]:
    """Patches of photographs: real ones, drawn ones, and halves that were completed."""
    model, _ = load_pretrained("colour-photos")
    test = load_photo_patches(levels=model.levels).test
    known = test[[1, 6, 17, 21, 30, 38, 61, 66, 73, 78, 82, 87]]
    upper = torch.zeros(16, 16, dtype=torch.bool)
    upper[:8] = True
    # the real patches were picked by hand to show something; what is drawn was not
    sheet = [known, sample(model, 12, seed=200), torch.where(upper, known, model.levels - 1)]
    sheet.append(sample(model, 12, known=(known, upper), seed=200))
    names = ["real patches", "drawn", "upper halves", "completed"]
    return plots.draw_images(torch.cat(sheet), model.levels, 12, names, scale=0.6), (
        "Four rows of small colour patches: twelve real ones from photographs of a palace and a dahlia, twelve drawn "
        "by a network, twelve upper halves, and the same twelve with the lower half completed."
    )


def draw_surprise() -> tuple[Figure, str]:
    """Digits and what is none, cheapest first, each with its nats and with the surprise of each pixel."""
    model, _ = load_pretrained("neutral-mnist")
    test, classes = load_mnist_sample(train=False)
    kinds = {"a 1": test[classes == 1][:1], "a 4": test[classes == 4][:1], "an 8": test[classes == 8][:1]}
    strange = strange_images(test[classes == 5][:20])
    for name, kind in (
        ("blank", "blank"), ("a letter", "letters"), ("upside down", "upside down"), ("inverted", "inverted"),
        ("scrambled", "scrambled"), ("noise", "noise"),
    ):  # fmt: skip
        kinds[name] = strange[kind][17:18]
    images = quantize(torch.cat(list(kinds.values())), model.levels)
    surprise = pixel_nats(model, images)
    costs, names = surprise.flatten(1).sum(1), list(kinds)
    figure, axes = plots.axes(2, len(names), width=9, height=2.55)
    for column, index in zip(axes.T, costs.argsort().tolist(), strict=True):
        colour = plots.LINES[0] if names[index].startswith(("a 1", "a 4", "an 8")) else plots.LINES[1]
        plots.draw_sheet(column[0], images[index : index + 1], model.levels, 1)
        column[0].set_title(names[index], color=colour, fontsize=10)
        column[1].imshow(surprise[index, 0], cmap="magma", vmin=0, vmax=4)
        column[1].set(xticks=[], yticks=[])
        column[1].set_xlabel(f"{costs[index]:,.0f} nats", color=colour, fontsize=10)
    axes[1, 0].set_ylabel("surprise", fontsize=10)
    return figure, (
        "Nine images, the cheapest on the left: a blank one, then digits, with a letter and a digit upside down among "
        "them, and an inverted digit, a scrambled one and noise far above. Below each the surprise of its pixels, "
        "bright where a stroke begins or ends, and its nats."
    )


def draw_relatives() -> tuple[Figure, str]:
    """Real digits, and what three models drew, each trained with as many weights for as long."""
    models = load_measurement("relatives")["side_by_side"]
    rows = {"real": quantize(load_dataset("digits").test[:16], 16, 17)}
    rows |= {name: models[name]["by_seed"][0]["samples"][:16] for name in ("PixelCNN", "VAE", "GAN")}
    text = "Four rows of sixteen small digits: real ones, and those of a PixelCNN, of a VAE (speckled) and of a GAN."
    return plots.draw_images(torch.cat(list(rows.values())), 16, 16, list(rows), scale=0.5), text


def draw_mixup() -> tuple[Figure, str]:
    """From a 3 to an 8: two digits mixed pixel by pixel, and digits drawn for the same labels."""
    model, _ = load_pretrained("between-mnist")
    images, classes = load_mnist_sample()
    three, eight = (quantize(images[classes == one][:1], model.levels).float() for one in (3, 8))
    weights = [step / 10 for step in range(11)]
    ghosts = [torch.lerp(three, eight, weight).round().long() for weight in weights]
    drawn = [sample_between(model, 3, 8, weight, n=1, seed=100) for weight in weights]
    names = [f"{weight:g}" for weight in weights]
    return plots.draw_images(torch.cat(ghosts + drawn), model.levels, 11, ["pixels", "learned"], col_names=names), (
        "Two rows of eleven images from a 3 to an 8. Above, the two digits lie on top of each other, one fading while "
        "the other appears. Below, every image is a single digit, drawn anew: first 3s, then shapes between, then 8s."
    )


def draw_overview(model: PixelCNN) -> tuple[Figure, str]:
    """The README's picture: a mask, what a network sees through it, what it draws."""
    figure, axes = plots.axes(1, 4, width=10, height=2.7)
    plots.draw_kernel(axes[0], causal_mask(5, "A")[0, 0], title="one masked kernel")
    stack = masked_stack(5, 3)
    field, blind = receptive_field(stack, 11, 6, (13, 13)), blind_spot(stack, 11, 6, (13, 13))
    plots.draw_field(axes[1], field, 11, 6, blind, title="what five layers see")
    drawn = naive_sample(model, 25, seed=0)
    began = torch.where(torch.arange(64).view(8, 8) < 36, drawn[:1], 0)
    plots.draw_context(axes[2], began[0, 0], 17, torch.arange(64).view(8, 8) < 36, 4, 4, title="a digit on its way")
    plots.draw_sheet(axes[3], drawn, 17, cols=5, title="25 digits drawn")
    return figure, (
        "Four panels: a masked kernel of 5×5 taps, the field that five masked layers see with its blind spot, "
        "a digit half drawn, and twenty-five finished digits drawn by a small network."
    )


def masked_stack(layers: int, kernel_size: int) -> torch.nn.Sequential:
    """Masked convolutions alone, type A and then B, one channel each: all that a receptive field depends on."""
    return torch.nn.Sequential(*(MaskedConv2d("B" if i else "A", 1, 1, kernel_size) for i in range(layers)))
