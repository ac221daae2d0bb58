"""Where the commands read and write: in a checkout its own folders, otherwise the current folder."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
IN_CHECKOUT = (ROOT / "pyproject.toml").is_file() and (ROOT / "notebooks").is_dir()
CHECKPOINTS = (ROOT if IN_CHECKOUT else Path.cwd()) / "checkpoints"


def remove(*checkpoints: Path) -> None:
    """Delete checkpoints, with the lock files that `fit` leaves beside them."""
    for path in checkpoints:
        for file in (path, path.with_name(path.name + ".lock")):
            file.unlink(missing_ok=True)
