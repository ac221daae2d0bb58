"""How every notebook begins: its profile and data, what it runs on, and the picture of what it will build."""

from __future__ import annotations

import io
import os
from importlib.resources import files

import matplotlib
import torch
from PIL import Image as Pillow

from ..data import quantize
from ..studies.datasets import Dataset, load_dataset
from ..studies.mnist import data_folder
from .plots import STYLE, put


def start(name: str) -> None:
    """Print the device, the profile and the data that notebook `name` runs with, and show its opening picture.

    From here on matplotlib draws in the style of the series, also what a notebook draws by itself.
    Raises ValueError for a name without a picture, a damaged picture, or a `PIXELCNN_PROFILE` that is neither "quick"
    nor "full".
    """
    pictures = files(__package__) / "pictures"
    known = sorted(path.name.removesuffix(".png") for path in pictures.iterdir())
    if name not in known:
        raise ValueError(f"name must be one of {', '.join(known)}, got {name!r}")
    picture = pictures / f"{name}.png"
    data = picture.read_bytes()
    try:
        with Pillow.open(io.BytesIO(data)) as image:
            image.load()
            alt = image.info["Description"]
    except Exception as error:  # Pillow stumbles over a damaged file in many ways
        raise ValueError(f"{picture} is damaged ({type(error).__name__}): install the package again") from None
    print(f"device   {_device()}")
    print(f"profile  {_PROFILES[profile()]}")
    print(f"data     {_data()}")
    matplotlib.rcParams.update(STYLE)
    put(data, alt)


_PROFILES = {
    "quick": "quick: small networks, seconds of training (PIXELCNN_PROFILE=full trains on MNIST)",
    "full": "full: MNIST at 28×28 (PIXELCNN_PROFILE=quick takes seconds, with the digits that ship)",
}


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "Apple GPU" if torch.backends.mps.is_available() else f"CPU, {os.cpu_count()} cores"


def _data() -> str:
    if profile() == "quick":
        return "digits of 8×8 pixels and photographs from scikit-learn, 2,000 digits of MNIST that ship: no download"
    raw = data_folder() / "MNIST" / "raw"
    names = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    # torchvision unpacks its archives where all four are there
    found = any(all((raw / (name + ending)).is_file() for name in names) for ending in ("", ".gz"))
    return "MNIST, found on this machine" if found else "MNIST, downloaded when first used (12 MB)"


def profile() -> str:
    """`"quick"` or `"full"`: `PIXELCNN_PROFILE`, else full where there is a GPU. ValueError for another word."""
    chosen = os.environ.get("PIXELCNN_PROFILE") or ("full" if torch.cuda.is_available() else "quick")
    if chosen not in ("quick", "full"):
        raise ValueError(f'PIXELCNN_PROFILE must be "quick" or "full", got {chosen!r}')
    return chosen


def load_profile_data(levels: int | None = None, quick: str = "digits") -> Dataset:
    """What the notebooks train on: data that ships in the quick profile, MNIST or CIFAR-10 in the full one.

    levels: None keeps the data's own, 17 or 256. quick: "digits", the bundled 8×8 ones; "mnist-sample", 2,000 digits of
    MNIST; or "photos", patches of two photographs, whose full counterpart is CIFAR-10.
    Without these and without network the full profile says so in one line and goes on with the quick one's.
    """
    names = {"digits": "the bundled digits", "mnist-sample": "the sample of MNIST", "photos": "the two photographs"}
    if not isinstance(quick, str) or quick not in names:
        raise ValueError(f"quick must be one of {', '.join(map(repr, names))}, got {quick!r}")
    if profile() == "full":
        try:
            return _with_levels(load_dataset("cifar10" if quick == "photos" else "mnist"), levels)
        except FileNotFoundError as error:
            print(f"Going on with {names[quick]}. {error}")
    return _with_levels(load_dataset(quick), levels)


def _with_levels(data: Dataset, levels: int | None) -> Dataset:
    if levels is not None and levels != data.levels:
        data.train, data.test = (quantize(images, levels, data.levels) for images in (data.train, data.test))
        data.levels = levels
    return data
