"""The pictures that are made ahead: each notebook's opening picture and the README's, by `make figures`.

Every picture is drawn by the package itself and carries its description, which the notebooks use as alt text.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, PngImagePlugin

from . import plots
from .data import load_digits
from .layers import MaskedConv2d
from .masks import causal_mask
from .models import PixelCNN
from .receptive_field import blind_spot, receptive_field
from .sampling import naive_sample
from .training import fit

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Draw every picture anew, about half a minute on two CPU cores."""
    model, held_out = trained_network()
    pictures = ROOT / "pixelcnn_helpers" / "pictures"
    save(pictures / "01_masks.png", *draw_masks())
    save(pictures / "02_blind_spot.png", *draw_blind_spots())
    save(pictures / "03_pixelcnn.png", *draw_digits(model, held_out))
    save(ROOT / "figures" / "pixelcnn.png", *draw_overview(model))


def save(path: Path, figure: Figure, description: str) -> None:
    """Write a figure with its description inside, in few colours, so that it stays small."""
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(plots.png(figure))
    text = PngImagePlugin.PngInfo()
    text.add_itxt("Description", description)
    with Image.open(unfinished) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True, pnginfo=text)
    unfinished.unlink()
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.0f} KB")


def trained_network() -> tuple[PixelCNN, torch.Tensor]:
    """A small plain PixelCNN trained on the bundled digits, and the digits held out, `(300, 1, 8, 8)`."""
    images = load_digits()[0]
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    torch.manual_seed(0)
    model = PixelCNN(levels=17, features=32, layers=6, kernel_size=5)
    fit(model, images[:1497], epochs=16, batch_size=32, learning_rate=3e-3, validation=(images[1497:], None))
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
