"""Measurements too long for a notebook: `python -m pixelcnn_helpers measure NAME` makes them, the notebooks show them.

Each lies in measurements/NAME.json, with what it takes to make it again.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from .. import pretrained
from ..checkpoint import write_atomically
from ..training import get_accelerator
from .hardware import hardware, versions
from .measure_ablation import measure_ablation
from .measure_between import measure_between
from .measure_blog import measure_blog
from .measure_codec import measure_codec
from .measure_colour import measure_colour
from .measure_likelihood import measure_likelihood
from .measure_mixup import measure_mixup
from .measure_optimizers import measure_optimizers
from .measure_reach import measure_reach
from .measure_records import measure_records
from .measure_relatives import measure_relatives
from .packing import packed

MAKERS = {
    "reach": measure_reach, "between": measure_between,
    "optimizers": measure_optimizers, "records": measure_records, "colour": measure_colour,
    "likelihood": measure_likelihood, "codec": measure_codec, "relatives": measure_relatives,
    "mixup": measure_mixup, "ablation": measure_ablation, "blog": measure_blog,
}


def measure(name: str, folder: Path | None = None) -> Path:
    """Make one of `MAKERS` anew and write it; seconds and hardware are those of the last start, if it was stopped.

    Raises ValueError for another name, FileNotFoundError without MNIST.
    """
    if name not in MAKERS:
        raise ValueError(f"what to measure must be one of {', '.join(MAKERS)}, got {name!r}")
    began, where = time.perf_counter(), hardware(get_accelerator().device)
    found = {"what": name, "hardware": where, "versions": versions(), **MAKERS[name]()}
    found["seconds"] = round(time.perf_counter() - began)
    path = (folder or pretrained.MEASUREMENTS) / f"{name}.json"
    write_atomically(path, json.dumps(found, indent=1, default=packed) + "\n")
    return path
