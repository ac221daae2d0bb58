"""CIFAR-10, through torchvision: found or downloaded, and checked."""

from __future__ import annotations

import torch

from ..data import check_train
from .mnist import data_folder, open_dataset


def load_cifar10(train: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """CIFAR-10: small photographs of ten kinds of things, 50,000 to train on and 10,000 to test on.

    The files are looked for in the folder that `PIXELCNN_DATA` names (else a cache folder) and downloaded there if
    missing, 170 MB. torchvision compares them with their MD5, and downloads damaged ones again.
    Returns uint8 images `(N, 3, 32, 32)` with 256 levels and integer classes `(N,)`, airplane 0 to truck 9.
    Raises FileNotFoundError where there are neither files nor network.
    Source: A. Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
    """
    from torchvision import datasets

    check_train(train)
    where, instead = datasets.CIFAR10.base_folder, "load_photo_patches()"
    found = open_dataset(datasets.CIFAR10, data_folder(), {"train": train}, where, instead)
    images = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()  # (N, H, W, 3) -> (N, 3, H, W)
    return images, torch.tensor(found.targets)
