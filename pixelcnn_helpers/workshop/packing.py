"""Images inside a JSON file."""

from __future__ import annotations

import torch

from ..checks import check_images


def packed(images: torch.Tensor) -> dict:
    """Integer images of at most 16 levels as JSON: their shape, and a letter of hexadecimal for each pixel."""
    check_images(images, 16)
    return {"shape": list(images.shape), "pixels": "".join(f"{value:x}" for value in images.flatten().tolist())}
