"""`measure reach`: how nats and samples depend on a network's receptive field."""

from __future__ import annotations

from dataclasses import asdict, replace

import torch

from ..data import quantize
from ..likelihood import nats
from ..pretrained import load_pretrained
from ..sampling import sample
from ..studies.datasets import load_dataset
from . import places
from .data import label_rows
from .evaluate import read_as_asked
from .recipes import RECIPES
from .train import network_of, trained


def measure_reach(epochs: int = 2) -> dict:
    """Train two networks of equal size, one with a field of 11 rows and columns, one with 27, and compare them.

    Measured are the nats of the test images, with the standard error of the difference, and the share of samples that
    the judge reads as asked. A training that is stopped goes on from its checkpoint the next time.
    """
    load_pretrained("judge-mnist")  # raises now if it is not there, and not after an hour
    base = RECIPES["conditional-mnist"]
    data = load_dataset(base.data)
    test = quantize(data.test, base.config["levels"])
    networks, weighed = [], []
    for dilations in ([1] * 8, base.config["dilations"]):
        recipe = replace(base, epochs=epochs, config=base.config | {"dilations": dilations})
        model = network_of(recipe)
        checkpoint = places.CHECKPOINTS / f"reach-{model.reach}.pt"
        history = trained(model, recipe, data, checkpoint)
        if history is None:
            raise KeyboardInterrupt
        model.cpu()
        weighed.append(nats(model, test, label_rows(model, data.test_classes)) / test[0].numel())
        networks.append({
            "recipe": asdict(recipe), "rows": model.reach, "seconds": round(history.seconds[-1]),
            "nats_per_pixel": weighed[-1].mean().item(), "read_as_asked": read_as_asked(model),
            "samples": sample(model, labels=torch.eye(10).repeat(2, 1)),
        })
        print({key: networks[-1][key] for key in ("rows", "seconds", "nats_per_pixel", "read_as_asked")})
    for one in networks:
        places.remove(places.CHECKPOINTS / f"reach-{one['rows']}.pt")
    gained = weighed[0] - weighed[1]
    error = gained.std().item() / len(gained) ** 0.5
    return {"epochs": epochs, "networks": networks, "gained": gained.mean().item(), "error": error}
