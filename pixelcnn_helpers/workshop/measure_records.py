"""`measure records`: minutes that a training takes to a fixed likelihood, in a dated log."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime

from .. import pretrained
from ..data import quantize
from ..likelihood import nats
from ..pretrained import load_measurement
from ..studies.datasets import load_dataset
from ..training import get_accelerator
from . import places
from .data import label_rows
from .hardware import hardware, versions
from .recipes import RECIPES
from .train import network_of, trained

TARGET = 0.2106  # nats per pixel on the 2,000 held-out training images
EPOCHS = 2  # fixed beforehand, since the schedule of the learning rate depends on it


def measure_records() -> dict:
    """Train `conditional-mnist` for so many epochs, and append what it took and reached to the log.

    The minutes include compiling and the validation after each epoch. A training that is stopped goes on from its
    checkpoint the next time.
    """
    recipe = replace(RECIPES["conditional-mnist"], epochs=EPOCHS)
    data, model = load_dataset(recipe.data), network_of(recipe)
    checkpoint = places.CHECKPOINTS / "records.pt"
    history = trained(model, recipe, data, checkpoint)
    if history is None:
        raise KeyboardInterrupt
    where = hardware(get_accelerator().device)
    held = quantize(data.train[-recipe.held_out :], recipe.config["levels"], data.levels)
    found = nats(model.cpu(), held, label_rows(model, data.train_classes[-recipe.held_out :])) / held[0].numel()
    record = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}", "recipe": asdict(recipe), "seed": recipe.seed, "hardware": where,
        "versions": versions(), "images": history.steps[-1] * recipe.batch_size,
        "minutes": round(history.seconds[-1] / 60, 1), "nats_per_pixel": found.mean().item(),
    }
    before = load_measurement("records")["records"] if (pretrained.MEASUREMENTS / "records.json").exists() else []
    places.remove(checkpoint)
    return {"target": TARGET, "records": [*before, record]}


def told(log: dict) -> str:
    """The log as a table, one line for each record."""
    lines = [f"minutes to {log['target']} nats per pixel on 2,000 held-out images", ""]
    lines += [f"{'date':<10}  {'optimizer':<9}  {'batch':>5}  {'images':>7}  {'minutes':>7}  {'reached':>7}  machine"]
    for one in log["records"]:
        recipe = one["recipe"]
        lines.append(
            f"{one['date']:<10}  {recipe.get('optimizer', 'adamw'):<9}  {recipe['batch_size']:>5}  {one['images']:>7,}"
            f"  {one['minutes']:>7.1f}  {one['nats_per_pixel']:>7.4f}  {one['hardware']}"
        )
    return "\n".join(lines)
