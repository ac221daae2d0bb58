"""Files that are whole or not there: written beside their place, and moved there when they are finished."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file, its folders too, so that whatever stops it leaves the old one as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    try:
        unfinished.write_bytes(data if isinstance(data, bytes) else data.encode())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
