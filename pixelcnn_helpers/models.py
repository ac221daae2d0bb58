"""The networks of the series. Each maps integer images to the logits of every pixel at once."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch import nn

from .checks import check_images, check_int, check_labels
from .layers import MaskedConv2d


class AutoregressiveModel(nn.Module):
    """What every model of the series carries: how images go in, and what its logits mean.

    channels, levels: the images it takes, integers `(N, channels, H, W)` in `0 … levels-1`.
    classes: how many classes its labels have; 0 for a model that takes none.
    size: the `(H, W)` it was trained on, or None.

    A subclass writes `logits(x, labels)`, from scaled images to `(N, levels, C, H, W)`.
    """

    def __init__(self, channels: int, levels: int, classes: int = 0):
        super().__init__()
        self.channels = check_int("channels", channels, 1)
        self.levels = check_int("levels", levels, 2)
        self.classes = check_int("classes", classes, 0)
        self.size: tuple[int, int] | None = None

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Integer images `(N, C, H, W)`, label rows `(N, classes)` or None -> logits `(N, levels, C, H, W)`."""
        check_images(images, self.levels, self.channels)
        check_labels(labels, len(images), self.classes)
        x = self.scale(images)
        return self.logits(x, None if labels is None else labels.to(x))

    def scale(self, images: torch.Tensor) -> torch.Tensor:
        """Levels `0 … levels-1` -> floats `-1 … 1`, on the device and in the precision of the weights."""
        weight = next(self.parameters())
        return images.to(weight.device, weight.dtype) * (2 / (self.levels - 1)) - 1

    def logits(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Scaled images `(N, C, H, W)` -> logits `(N, levels, C, H, W)`."""
        raise NotImplementedError

    def split_levels(self, x: torch.Tensor) -> torch.Tensor:
        """`(N, C*levels, H, W)`, a run of levels for each channel -> `(N, levels, C, H, W)`."""
        return x.unflatten(1, (self.channels, self.levels)).transpose(1, 2)


class PixelCNN(AutoregressiveModel):
    """The plain network: masked convolutions, first A, then B, each with batch norm and ReLU; 1×1 to the logits.

    features: 64 if None, in colour 60, since they split evenly among the channels.
    `forward(images, labels=None)` maps integers `(N, C, H, W)` to logits `(N, levels, C, H, W)`.

    Raises ValueError for layers < 1, levels < 2, an even kernel, or features that do not split among the channels.
    Source: the network of Thomas and Passi, "PyTorch Deep Learning Hands-On" (2019), after arXiv 1601.06759.
    """

    def __init__(self, channels=1, levels=256, features=None, layers=8, kernel_size=7):
        super().__init__(channels, levels)
        if features is None:
            features = 64 if channels == 1 else -(-60 // channels) * channels
        blocks = []
        for layer in range(check_int("layers", layers, 1)):
            mask_type, width = ("A", channels) if layer == 0 else ("B", features)
            blocks += [
                # batch norm adds a shift of its own, so a bias would be wasted
                MaskedConv2d(mask_type, width, features, kernel_size, groups=channels, bias=False),
                nn.BatchNorm2d(features),
                nn.ReLU(),
            ]
        self.net = nn.Sequential(*blocks, MaskedConv2d("B", features, channels * levels, 1, groups=channels))

    def logits(self, x, labels=None):
        return self.split_levels(self.net(x))  # (N, C, H, W) -> (N, levels, C, H, W)


@contextmanager
def evaluating(model: nn.Module):
    """Evaluation mode inside, and every layer handed back in the mode it came in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes:
            module.training = training


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights lie (a model without any: the CPU)."""
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))
