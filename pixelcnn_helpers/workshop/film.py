"""The README's film of the page in use, by `python -m pixelcnn_helpers page --film`: Chromium plays the scenes."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.colors import to_hex, to_rgb
from PIL import Image, ImageColor, PngImagePlugin

from ..checkpoint import write_atomically
from ..page import plots

SIZE, SHOWN = (1040, 712), (780, 534)  # of the window, and of the film
COLOURS = 72
DESCRIPTION = (
    "The page in use. A slider moves from 1 to 7, then from 8 to 3, while a large digit and nine small ones follow it "
    "and bars show how a judge reads the large one. Then the digit is drawn row by row, and a click shows what the "
    "network sees at one pixel and how likely it finds each grey. At last somebody draws the upper half of a digit, "
    "and the network completes it as each of the ten digits."
)


def find_chromium() -> str | None:
    """Where Chromium is on this machine."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for path in map(shutil.which, names) if path), None)


def write_film(page: Path) -> Path:
    """Write `between.png`, an animated PNG, beside the page.

    Raises ValueError without Chromium or without Playwright, which drives it.
    """
    executable = find_chromium()
    if executable is None:
        raise ValueError("the film needs chromium, chromium-browser or google-chrome: install one of them")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise ValueError("the film needs Playwright: pip install playwright, or pip install -e .[test]") from None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable)
        tab = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, color_scheme="light")
        tab.goto(page.as_uri())
        shots = [(milliseconds, tab.screenshot()) for milliseconds in _scenes(tab)]
        browser.close()
    path, buffer, text = page.with_suffix(".png"), io.BytesIO(), PngImagePlugin.PngInfo()
    text.add_itxt("Description", DESCRIPTION)
    frames = [Image.open(io.BytesIO(shot)).convert("RGB").resize(SHOWN, Image.Resampling.LANCZOS) for _, shot in shots]
    palette = _palette(frames)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    durations = [milliseconds for milliseconds, _ in shots]
    options = {"save_all": True, "append_images": others, "duration": durations, "loop": 0, "optimize": True}
    first.save(buffer, "PNG", pnginfo=text, **options)
    write_atomically(path, buffer.getvalue())
    print(f"{path.name}: {len(shots)} frames, {path.stat().st_size / 1024:.0f} KB")
    return path


def _palette(frames: list[Image.Image]) -> Image.Image:
    """One palette for all frames: greys and the colours of the series, however few pixels have them, and the other
    colours that the frames need most."""
    greys = [f"#{value:02x}{value:02x}{value:02x}" for value in range(0, 256, 15)]
    blue = np.array(to_rgb(plots.SEEN))
    tints = [to_hex((0.45 + 0.55 * share) * blue) for share in np.linspace(0, 1, 8)]  # of seen pixels
    colours = [plots.SEEN, plots.HERE, *plots.CLASSES, *greys, *tints]
    chosen = frames[:: max(1, len(frames) // 6)]
    sheet = Image.new("RGB", (SHOWN[0], SHOWN[1] * len(chosen)))
    for index, frame in enumerate(chosen):
        sheet.paste(frame, (0, SHOWN[1] * index))
    others = sheet.quantize(COLOURS - len(colours)).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette([*(part for colour in colours for part in ImageColor.getrgb(colour)), *others])
    return palette


def _scenes(tab) -> Iterator[int]:
    """Use the page; wherever it should be photographed, yield the milliseconds for which that is shown."""

    def settle(*parts: str) -> None:
        for part in parts:
            tab.locator(f"{part}[aria-busy=false]").wait_for(state="attached")
        tab.wait_for_timeout(150)  # bars move for a moment

    def show(section: str, above: int = 16) -> None:
        tab.locator(section).evaluate("(it, above) => window.scrollTo(0, it.offsetTop - above)", above)

    def weigh(weight: float) -> None:
        tab.locator("#weight").fill(f"{weight:.2f}")
        settle("#large", "#more")

    settle("#large", "#more", "#finished")
    show("#mix")
    yield 2000
    for weight in (0.35, 0.2, 0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1):
        weigh(weight)
        yield 300
    tab.locator("#pairs button").nth(1).click()
    for weight in (1, 0.8, 0.6, 0.5, 0.4, 0.2, 0):
        weigh(weight)
        yield 300
    weigh(0.4)

    show("#inside")
    tab.locator("#slow").press("Home")
    tab.locator("#play").click()
    for _ in range(7):
        tab.wait_for_timeout(450)
        yield 250
    slow = tab.locator("#slow")
    side = slow.bounding_box()["width"] / 28
    slow.click(position={"x": 15.5 * side, "y": 13.5 * side})
    settle()
    yield 2500

    show("#half")
    tab.locator("#clear").click()
    settle("#finished")
    yield 600
    box = tab.locator("#draft").bounding_box()
    points = [(9, 9), (7, 11), (6, 14), (7, 17), (9, 18.5), (11, 18), (13, 16), (14.5, 14)]
    for index, (row, col) in enumerate(points):
        tab.mouse.move(box["x"] + col * box["width"] / 28, box["y"] + row * box["width"] / 28, steps=6)
        if index == 0:
            tab.mouse.down()
        elif index % 2:
            yield 250
    tab.mouse.up()
    settle("#finished")
    yield 3500
