"""Where the commands read and write: in a checkout its own folders, otherwise the current folder."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
IN_CHECKOUT = (ROOT / "pyproject.toml").is_file() and (ROOT / "notebooks").is_dir()
CHECKPOINTS = (ROOT if IN_CHECKOUT else Path.cwd()) / "checkpoints"
