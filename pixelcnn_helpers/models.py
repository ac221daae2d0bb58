"""The networks of the series. Each maps integer images to the logits of all their values in one pass."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from functools import wraps

import torch
from torch import nn

from .checks import check_images, check_int, check_labels, check_logits, check_size
from .layers import GatedBlock, HorizontalConv2d, MaskedConv2d, VerticalConv2d, check_kernel_size


def stores_config(init):
    """A constructor that keeps its arguments, defaults included, as `self.config`.

    `type(model)(**model.config)` then builds the same network again, with new weights.
    """
    signature = inspect.signature(init)

    @wraps(init)
    def storing_init(self, *args, **kwargs):
        init(self, *args, **kwargs)
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        _, *options = bound.arguments.items()  # without self
        self.config = dict(options)
        for name, value in options:
            if hasattr(value, "__len__") and not isinstance(value, str):  # a list, an array, a range
                self.config[name] = list(value)

    return storing_init


class AutoregressiveModel(nn.Module):
    """What every model of the series has: how images go in, and what its logits mean.

    channels, levels: the images it takes, integers `(N, channels, H, W)` in `0 … levels-1`.
    classes: how many classes its labels have; 0 for a model without labels.
    size: the `(H, W)` it was trained on, or None.

    A subclass writes `logits(x, labels)`, from scaled images to `(N, levels, C, H, W)`. `save_model` and `load_model`
    can build it again if its constructor is decorated with `stores_config`.
    """

    def __init__(self, channels: int, levels: int, classes: int = 0, embedding: int = 0):
        super().__init__()
        self.channels = check_int("channels", channels, 1)
        self.levels = check_int("levels", levels, 2)
        self.classes = check_int("classes", classes, 0)
        self.embedding = nn.Embedding(levels, embedding) if check_int("embedding", embedding, 0) else None
        self.inputs = channels * (embedding or 1)
        self.size: tuple[int, int] | None = None

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Integer images `(N, C, H, W)`, label rows `(N, classes)` or None -> logits `(N, levels, C, H, W)`."""
        check_images(images, self.levels, self.channels, values=on_cpu(images))
        check_labels(labels, len(images), self.classes, values=on_cpu(labels))
        x = self.scale(images)
        return self.logits(x, None if labels is None else labels.to(x))

    def scale(self, images: torch.Tensor) -> torch.Tensor:
        """Levels `0 … levels-1` -> floats `-1 … 1` or vectors, `(N, inputs, H, W)`, in the precision of the weights."""
        weight = next(self.parameters())
        if self.embedding is None:
            return images.to(weight.device, weight.dtype) * (2 / (self.levels - 1)) - 1
        return self.embedding(images.to(weight.device, torch.int)).permute(0, 1, 4, 2, 3).flatten(1, 2)

    def logits(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Scaled images `(N, C, H, W)` -> logits `(N, levels, C, H, W)`."""
        raise NotImplementedError

    def split_levels(self, x: torch.Tensor) -> torch.Tensor:
        """`(N, C*levels, H, W)`, the levels of one channel after those of another -> `(N, levels, C, H, W)`."""
        return x.unflatten(1, (self.channels, self.levels)).transpose(1, 2)


class PixelCNN(AutoregressiveModel):
    """The plain network: masked convolutions, first A, then B, each with batch norm and ReLU; then a 1×1 to the logits.

    features: None takes 64, in colour 60; they split evenly among the channels.
    embedding: 0 gives each level to the network as a number, otherwise as a learned vector of so many numbers.
    `forward(images, labels=None)` maps integers `(N, C, H, W)` to logits `(N, levels, C, H, W)`.
    Raises ValueError for layers < 1, levels < 2, an even kernel, or features that do not split among the channels.
    Source: the network of Thomas and Passi, "PyTorch Deep Learning Hands-On" (2019), after arXiv 1601.06759.
    """

    @stores_config
    def __init__(self, channels=1, levels=256, features=None, layers=8, kernel_size=7, embedding=0):
        super().__init__(channels, levels, embedding=embedding)
        if features is None:
            features = 64 if channels == 1 else -(-60 // channels) * channels
        check_features(features, channels)
        if check_kernel_size(kernel_size) == 1:
            raise ValueError("kernel_size must be at least 3, got 1, which sees no other pixel")
        blocks = []
        for layer in range(check_int("layers", layers, 1)):
            mask_type, width = ("A", self.inputs) if layer == 0 else ("B", features)
            # no bias, since batch norm adds a shift of its own
            conv = MaskedConv2d(mask_type, width, features, kernel_size, groups=channels, bias=False)
            blocks += [conv, nn.BatchNorm2d(features), nn.ReLU()]
        self.net = nn.Sequential(*blocks, MaskedConv2d("B", features, channels * levels, 1, groups=channels))

    def logits(self, x, labels=None):
        return self.split_levels(self.net(x))  # (N, C, H, W) -> (N, levels, C, H, W)


class GatedPixelCNN(AutoregressiveModel):
    """Two stacks of gated blocks, without a blind spot, with or without classes.

    features: of each stack; they split evenly among the channels. classes: 0 is unconditional; else
    `forward(images, labels)` takes float rows `(N, classes)` that sum to 1, mixtures included.
    dilations: one for each block, None for 1 everywhere.
    embedding: 0 gives each level to the network as a number, otherwise as a learned vector of so many numbers. A number
    is accompanied by a channel of ones, which tells the network where the image ends.

    The field reaches `first_kernel_size // 2 + kernel_size // 2 * sum(dilations)` rows up, and as many columns to each
    side (`reach`): 11 with eight blocks of 3×3 after a first 7×7, 27 with dilations 1 2 4 8 1 2 4 2.
    Raises ValueError for sizes that are too small or even, features that do not split, dilations at odds with blocks.
    Source: van den Oord et al. 2016, arXiv 1606.05328, section 2 and figure 2.
    """

    @stores_config
    def __init__(
        self, channels=1, levels=8, features=48, blocks=8, kernel_size=3, first_kernel_size=7, dilations=None,
        classes=0, embedding=0,
    ):
        super().__init__(channels, levels, classes, embedding)
        self.features = check_features(features, channels)
        check_int("blocks", blocks, 1)
        dilations = [1] * blocks if dilations is None else dilations
        if not hasattr(dilations, "__getitem__") or len(dilations) != blocks:
            raise ValueError(f"dilations must be a sequence, one for each of the {blocks} blocks, got {dilations}")
        inputs = self.inputs if embedding else 2 * channels
        self.vertical = VerticalConv2d(inputs, features, first_kernel_size, first=True)  # its bias serves both
        self.horizontal = HorizontalConv2d(inputs, features, first_kernel_size, first=True, groups=channels, bias=False)
        self.blocks = nn.ModuleList(
            GatedBlock(features, kernel_size, dilation, classes, channels, residual=block < blocks - 1)
            for block, dilation in enumerate(dilations)
        )
        self.skip = MaskedConv2d("B", blocks * features, features, 1, groups=channels)
        self.hidden = MaskedConv2d("B", features, features, 1, groups=channels)
        self.head = MaskedConv2d("B", features, channels * levels, 1, groups=channels)
        self.reach = self.vertical.reach + sum(block.reach for block in self.blocks)
        self.register_load_state_dict_pre_hook(_drop_last_residual)

    def logits(self, x, labels=None):
        x = with_ones(x) if self.embedding is None else x
        v = self.vertical(x)
        h = self.horizontal(x) + v
        skips = []
        for block in self.blocks:
            v, h, gated = block(v, h, labels)
            skips.append(gated.unflatten(1, (self.channels, -1)))  # (N, C, F/C, H, W)
        # one 1×1 over all gated features is the sum of a skip connection from each block; colours stay apart
        x = self.skip(torch.cat(skips, 2).flatten(1, 2)).relu()
        return self.split_levels(self.head(self.hidden(x).relu()))


def _drop_last_residual(model: GatedPixelCNN, state: dict, prefix: str, *_) -> None:
    """Files of version 0.1 hold a residual layer of the last block, which nothing read."""
    for name in ("weight", "mask"):
        state.pop(f"{prefix}blocks.{len(model.blocks) - 1}.residual.{name}", None)


def with_ones(x: torch.Tensor) -> torch.Tensor:
    """Each channel followed by a channel of ones: `(N, C, H, W)` -> `(N, 2C, H, W)`."""
    return torch.stack([x, torch.ones_like(x)], 2).flatten(1, 2)


def check_features(features, channels: int) -> int:
    """A number of features that splits evenly among the channels."""
    features = check_int("features", features, 1)
    if features % channels:
        raise ValueError(f"features must split evenly among {channels} channels, got {features}")
    return features


def on_cpu(values) -> bool:
    """Whether values may be looked at in a forward pass. On a GPU each look waits for it; a compiler cannot look."""
    return getattr(values, "is_cpu", True) and not torch.compiler.is_compiling()


def logits_of(model: nn.Module, images: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
    """The logits `(N, levels, C, H, W)` of any model, whose `forward` need not take labels if it has no classes."""
    rows = () if labels is None else (labels,)
    return check_logits(model(images, *rows), images, model.levels)


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Logits to compute probabilities from, for which half precision is too coarse."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@contextmanager
def evaluating(model: nn.Module):
    """Evaluation mode inside; afterwards each layer is in the mode that it was in before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes:
            module.training = training


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's weights; the CPU for a model without any."""
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))


def image_size(model: nn.Module, size=None, given: torch.Tensor | None = None) -> tuple[int, int]:
    """The `(height, width)` to draw: the one asked for, that of the given images, or the model's own."""
    if size is None:
        size = getattr(model, "size", None) if given is None else given.shape[-2:]
    if size is None:
        raise ValueError("size must be a pair (height, width), got None, and this model was not trained on any size")
    return check_size(size)
