"""Results that a stopped measurement does not lose."""

from __future__ import annotations

import json
from collections.abc import Callable

from ..checkpoint import write_atomically
from . import places
from .packing import packed


class Runs:
    """The results of a measurement's runs, each under its own key, in checkpoints/NAME.json.

    A run that is there already is not done again. `remove` deletes the file, once the measurement is complete.
    """

    def __init__(self, name: str):
        self.path = places.CHECKPOINTS / f"{name}.json"
        self.found = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}

    def result(self, key: str, work: Callable[[], object]):
        """What `work()` returned for this key, as JSON (images are `packed`); a new result is written at once."""
        if key not in self.found:
            text = json.dumps(self.found | {key: work()}, default=packed)
            write_atomically(self.path, text)
            self.found = json.loads(text)
        return self.found[key]

    def remove(self) -> None:
        places.remove(self.path)
