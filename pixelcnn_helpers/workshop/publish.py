"""The list of what ships: the SHA-256 of each weights file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..checkpoint import write_atomically
from ..pretrained import SUMS, digests


def publish(path: Path) -> None:
    """Write a weights file's SHA-256 into the list beside it."""
    known = digests(path.parent) | {path.stem: hashlib.sha256(path.read_bytes()).hexdigest()}
    lines = [f"{digest}  {name}.safetensors\n" for name, digest in sorted(known.items())]
    write_atomically(path.parent / SUMS, "".join(lines))
