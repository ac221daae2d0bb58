"""How every notebook begins: what it runs on, and the picture of what it will build."""

from __future__ import annotations

import io
import os
from importlib.resources import files

import torch
from PIL import Image as Pillow

from .data import data_folder, profile
from .plots import put


def start(name: str) -> None:
    """Print the device, the profile and the data that notebook `name` runs with, and show its opening picture.

    Raises ValueError for a name without a picture, or a `PIXELCNN_PROFILE` that is neither "quick" nor "full".
    """
    picture = files(__package__) / "pictures" / f"{name}.png"
    if not picture.is_file():
        known = sorted(path.name.removesuffix(".png") for path in picture.parent.iterdir())
        raise ValueError(f"name must be one of {', '.join(known)}, got {name!r}")
    print(f"device   {_device()}")
    print(f"profile  {_PROFILES[profile()]}")
    print(f"data     {_data()}")
    data = picture.read_bytes()
    put(data, alt=Pillow.open(io.BytesIO(data)).info["Description"])


_PROFILES = {
    "quick": "quick: small networks, seconds of training (PIXELCNN_PROFILE=full trains on MNIST)",
    "full": "full: MNIST at 28×28 (PIXELCNN_PROFILE=quick takes seconds, with the bundled digits)",
}


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "Apple GPU" if torch.backends.mps.is_available() else f"CPU, {os.cpu_count()} cores"


def _data() -> str:
    if profile() == "quick":
        return "1,797 handwritten digits of 8×8 pixels that scikit-learn carries: no download"
    found = (data_folder() / "MNIST" / "raw" / "train-images-idx3-ubyte").exists()
    return "MNIST, found on this machine" if found else "MNIST, downloaded when first used (12 MB)"
