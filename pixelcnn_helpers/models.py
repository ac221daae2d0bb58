"""The networks of the series. Each maps integer images to the logits of every pixel at once."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch import nn

from .checks import check_images, check_int, check_kernel_size, check_labels, check_number
from .layers import GatedBlock, HorizontalConv2d, MaskedConv2d, VerticalConv2d, gate
from .walks import Pointwise, by_pixel, folded


class AutoregressiveModel(nn.Module):
    """What every model of the series carries: how images go in, and what its logits mean.

    channels, levels: the images it takes, integers `(N, channels, H, W)` in `0 … levels-1`.
    classes: how many classes its labels have; 0 for a model that takes none.
    size: the `(H, W)` it was trained on, or None.
    config: the arguments that build the same network again, for `save_model`.

    A subclass writes `logits(x, labels)`, from scaled images to `(N, levels, C, H, W)`.
    """

    def __init__(self, channels: int, levels: int, classes: int = 0):
        super().__init__()
        self.channels = check_int("channels", channels, 1)
        self.levels = check_int("levels", levels, 2)
        self.classes = check_int("classes", classes, 0)
        self.size: tuple[int, int] | None = None
        self.config: dict = {}

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Integer images `(N, C, H, W)`, label rows `(N, classes)` or None -> logits `(N, levels, C, H, W)`."""
        # on a GPU a look at the values would wait for it at every step: `fit`, `nats` and `sample` have looked before
        check_images(images, self.levels, self.channels, values=images_on_cpu(images))
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
        check_features(features, channels)
        if check_kernel_size(kernel_size) == 1:
            raise ValueError("kernel_size must be at least 3, got 1, which sees no other pixel")
        self.config = {
            "channels": channels, "levels": levels, "features": features, "layers": layers, "kernel_size": kernel_size,
        }
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

    def walk(self, labels, n: int, size: tuple[int, int]) -> PixelCNNWalk:
        """The same network, pixel by pixel; `labels` is None."""
        return PixelCNNWalk(self, n, size)


class PixelCNNWalk:
    """A `PixelCNN` that draws. `row`, then for each value `pixel` and `put`: so walks `sample`."""

    def __init__(self, model: PixelCNN, n, size):
        *convs, last = (layer for layer in model.net if isinstance(layer, MaskedConv2d))
        norms = [layer for layer in model.net if isinstance(layer, nn.BatchNorm2d)]
        self.layers = [conv.walk(n, size, *folded(norm)) for conv, norm in zip(convs, norms, strict=True)]
        self.last, self.features = last.walk_pointwise(), last.weight.new_zeros(n, last.in_channels)
        self.own = self.features.chunk(model.channels, 1)

    def row(self, row: int) -> None:
        for layer in self.layers:
            layer.row(row)

    def put(self, col: int, channel: int, x: torch.Tensor) -> None:
        self.layers[0].here[col][:, channel] = x

    def pixel(self, col: int, channel: int) -> torch.Tensor:
        """Logits of one value of every image, `(N, levels)`."""
        outputs = [layer.own[col] for layer in self.layers[1:]] + [self.own]
        for layer, output in zip(self.layers, outputs, strict=True):
            layer.pixel(col, channel, out=output[channel]).relu_()
        return self.last.pixel(self.features, channel)


class GatedPixelCNN(AutoregressiveModel):
    """Two stacks of gated blocks without a blind spot, with or without classes.

    features: of each stack; they split evenly among the channels. classes: 0 is unconditional, else
    `forward(images, labels)` takes float rows `(N, classes)` that sum to 1, mixtures included.
    dilations: one for each block, 1 for all if None; then their number is the number of blocks.
    A channel of ones tells the network where the image ends, since all around it are zeros.

    The field reaches `first_kernel_size // 2 + kernel_size // 2 * sum(dilations)` rows up, and as many columns to both
    sides (`reach`): 11 with eight blocks of 3×3 after a first 7×7, 27 with dilations 1 2 4 8 1 2 4 2.
    Raises ValueError for sizes that are too small or even, features that do not split, dilations at odds with blocks.
    Source: van den Oord et al. 2016, arXiv 1606.05328, section 2 and figure 2.
    """

    def __init__(
        self, channels=1, levels=8, features=48, blocks=8, kernel_size=3, first_kernel_size=7, dilations=None,
        classes=0,
    ):
        super().__init__(channels, levels, classes)
        blocks = check_int("blocks", blocks, 1)
        dilations = [1] * blocks if dilations is None else dilations
        if not hasattr(dilations, "__len__") or len(dilations) != blocks:
            raise ValueError(f"dilations must be one for each of the {blocks} blocks, got {dilations}")
        self.features = check_features(features, channels)
        self.config = {
            "channels": channels, "levels": levels, "features": features, "blocks": blocks, "kernel_size": kernel_size,
            "first_kernel_size": first_kernel_size, "dilations": list(dilations), "classes": classes,
        }
        self.vertical = VerticalConv2d(2 * channels, features, first_kernel_size, first=True)
        # the vertical one brings a bias, added to this one's output
        self.horizontal = HorizontalConv2d(
            2 * channels, features, first_kernel_size, first=True, groups=channels, bias=False
        )
        self.blocks = nn.ModuleList(
            GatedBlock(features, kernel_size, dilation, classes, channels) for dilation in dilations
        )
        self.skip = MaskedConv2d("B", blocks * features, features, 1, groups=channels)
        self.hidden = MaskedConv2d("B", features, features, 1, groups=channels)
        self.head = MaskedConv2d("B", features, channels * levels, 1, groups=channels)
        self.reach = self.vertical.reach + sum(block.reach for block in self.blocks)

    def logits(self, x, labels=None):
        x = torch.stack([x, torch.ones_like(x)], 2).flatten(1, 2)  # (N, 2C, H, W): each channel with its ones
        v = self.vertical(x)
        h, passed = self.horizontal(x) + v, []
        for block in self.blocks:
            v, h, gated = block(v, h, labels)
            passed.append(gated.unflatten(1, (self.channels, -1)))
        # one 1×1 over all gates at once is the sum of a skip connection from each; colours stay apart
        x = self.skip(torch.cat(passed, 2).flatten(1, 2)).relu()
        return self.split_levels(self.head(self.hidden(x).relu()))

    def walk(self, labels, n: int, size: tuple[int, int]) -> GatedPixelCNNWalk:
        """The same network: its vertical stack row by row, its horizontal one pixel by pixel."""
        return GatedPixelCNNWalk(self, labels, n, size)


class GatedPixelCNNWalk:
    """A `GatedPixelCNN` that draws. `row`, then for each value `pixel` and `put`: so walks `sample`."""

    def __init__(self, model: GatedPixelCNN, labels, n, size):
        self.groups = model.channels
        self.rows, self.line = model.vertical.walk(n, size), model.horizontal.walk(n, size[1])
        self.rows.kept[:, 1::2, self.rows.reach :] = 1  # the channels of ones
        self.line.image[:, :, 1::2] = 1
        self.blocks = [block.walk(labels, n, size) for block in model.blocks]
        self.skip, self.hidden, self.head = (
            layer.walk_pointwise() for layer in (model.skip, model.hidden, model.head)
        )
        new, part = model.head.weight.new_zeros, model.features // self.groups
        # what passes the gates is kept block by block here, while the whole network sorts it by colour first
        self.passed = new(n, len(self.blocks) * model.features)
        self.skip.weights = [
            weight.unflatten(0, (self.groups, -1, part)).transpose(0, 1).flatten(0, 2).contiguous()
            for weight in self.skip.weights
        ]
        self.of_block = self.passed.chunk(len(self.blocks), 1)
        self.own = [passed.chunk(self.groups, 1) for passed in self.of_block]
        self.x, self.y = new(n, model.features), new(n, model.features)
        self.own_x, self.own_y = self.x.chunk(self.groups, 1), self.y.chunk(self.groups, 1)

    def row(self, row: int) -> None:
        if row > 0:
            self.rows.put(row - 1, self.line.row())
        v = self.rows.row(row)
        self.above = by_pixel(v, self.groups)
        for block in self.blocks:
            v = block.row(row, v)

    def put(self, col: int, channel: int, x: torch.Tensor) -> None:
        self.line.here[col][:, 2 * channel] = x

    def pixel(self, col: int, channel: int) -> torch.Tensor:
        """Logits of one value of every image, `(N, levels)`."""
        inputs = [block.line.own[col][channel] for block in self.blocks]
        self.line.pixel(col, channel, self.above[channel][col], out=inputs[0])
        for i, block in enumerate(self.blocks):
            block.pixel(col, channel, out=self.own[i][channel])
            if i + 1 < len(self.blocks):  # nobody reads the last one's residual
                block.residual.pixel(self.of_block[i], channel, add=inputs[i], out=inputs[i + 1])
        self.skip.pixel(self.passed, channel, out=self.own_x[channel]).relu_()
        self.hidden.pixel(self.x, channel, out=self.own_y[channel]).relu_()
        return self.head.pixel(self.y, channel)


class GatedResidual(nn.Module):
    """The blog's block: masked 3×3 to twice the features, the label added, tanh ⊙ σ, batch norm, residual.

    With `shortcut` it also receives features of the network's first half: through a 1×1 with batch norm to twice the
    features, averaged with its own. `forward(x, labels=None, earlier=None)` keeps the shape `(N, features, H, W)`.
    Source: J. Taylor, conditional-pixelcnn (2018), where `squeeze(x)` for `squeeze(aux)` left the shortcut empty.
    """

    def __init__(self, features, classes=0, groups=1, shortcut=False):
        super().__init__()
        self.groups = groups
        self.conv = MaskedConv2d("B", features, 2 * features, 3, groups=groups)
        self.condition = nn.Linear(classes, 2 * features) if classes else None
        self.shortcut = MaskedConv2d("B", features, 2 * features, 1, groups=groups, bias=False) if shortcut else None
        self.shortcut_norm = nn.BatchNorm2d(2 * features) if shortcut else None
        self.norm = nn.BatchNorm2d(features)

    def forward(self, x, labels=None, earlier=None):
        z = self.conv(x)  # (N, 2F, H, W)
        if earlier is not None:
            z = (z + self.shortcut_norm(self.shortcut(earlier))) / 2
        if labels is not None:
            z = z + self.condition(labels)[:, :, None, None]
        return x + self.norm(gate(z, self.groups))

    def walk(self, labels, n: int, size: tuple[int, int]) -> GatedResidualWalk:
        """The same block, pixel by pixel."""
        return GatedResidualWalk(self, labels, n, size)


class GatedResidualWalk:
    """A `GatedResidual` that draws: `row`, then `pixel` for each group of features."""

    def __init__(self, block: GatedResidual, labels, n, size):
        features, groups = block.norm.num_features, block.groups
        half = torch.full_like(block.norm.weight, 0.5).repeat(2) if block.shortcut else None
        self.conv = block.conv.walk(n, size, half, None if half is None else torch.zeros_like(half))
        self.shortcut = None
        if block.shortcut is not None:
            scale, shift = folded(block.shortcut_norm)
            weight = (block.shortcut.weight * block.shortcut.mask)[:, :, 0, 0]
            self.shortcut = Pointwise(weight * scale[:, None] / 2, shift / 2, groups)
        condition = block.conv.weight.new_zeros(1, 2 * features) if labels is None else block.condition(labels)
        self.condition = condition.chunk(groups, 1)
        self.norm = [part.chunk(groups) for part in folded(block.norm)]

    def row(self, row: int) -> None:
        self.conv.row(row)

    def pixel(self, col: int, group: int, x: torch.Tensor, earlier: torch.Tensor | None) -> torch.Tensor:
        """One group of the output at a pixel, from that group of the input `x` and all `earlier` features there."""
        z = self.conv.pixel(col, group)
        if self.shortcut is not None:
            z = z + self.shortcut.pixel(earlier, group)
        scale, shift = self.norm[0][group], self.norm[1][group]
        return x + torch.addcmul(shift, gate(z + self.condition[group]), scale)


class ShortcutPixelCNN(AutoregressiveModel):
    """The blog's network, mended: one masked stack of gated residual blocks with shortcuts between its two halves.

    Input and a channel of ones; masked 7×7 of type A with batch norm and ReLU; `blocks - 1` blocks up, `blocks` down,
    where the i-th from the start hands its features to the i-th from the end; one block more, dropout of whole channels
    and a 1×1 to the logits. Its field ends 2 · blocks + 3 rows up, 15 with six, and it has a blind spot.
    classes: 0 is unconditional. features split evenly among the channels. dropout: 0 up to, but not including, 1.
    Source: J. Taylor, "Conditional PixelCNNs" and its code, conditional-pixelcnn (2018).
    """

    def __init__(self, channels=1, levels=8, features=64, blocks=6, classes=10, dropout=0.5):
        super().__init__(channels, levels, classes)
        self.half = check_int("blocks", blocks, 1)
        check_features(features, channels)
        if check_number("dropout", dropout) >= 1:
            raise ValueError(f"dropout must be below 1, got {dropout}")
        self.config = {
            "channels": channels, "levels": levels, "features": features, "blocks": blocks, "classes": classes,
            "dropout": dropout,
        }
        self.first = MaskedConv2d("A", 2 * channels, features, 7, groups=channels)
        self.norm = nn.BatchNorm2d(features)
        shortcuts = [False] * (blocks - 1) + [True] * blocks + [False]
        self.blocks = nn.ModuleList(GatedResidual(features, classes, channels, shortcut) for shortcut in shortcuts)
        self.dropout = nn.Dropout2d(dropout)
        self.head = MaskedConv2d("B", features, channels * levels, 1, groups=channels)

    def logits(self, x, labels=None):
        x = torch.stack([x, torch.ones_like(x)], 2).flatten(1, 2)  # (N, 2C, H, W): each channel with its ones
        x, earlier = self.norm(self.first(x)).relu(), []
        for i, block in enumerate(self.blocks):
            if i < self.half:
                earlier.append(x)  # the first half's features, the last of them taken first
            x = block(x, labels, earlier.pop() if block.shortcut is not None else None)
        return self.split_levels(self.head(self.dropout(x)))

    def walk(self, labels, n: int, size: tuple[int, int]) -> ShortcutPixelCNNWalk:
        """The same network, pixel by pixel."""
        return ShortcutPixelCNNWalk(self, labels, n, size)


class ShortcutPixelCNNWalk:
    """A `ShortcutPixelCNN` that draws. `row`, then for each value `pixel` and `put`: so walks `sample`."""

    def __init__(self, model: ShortcutPixelCNN, labels, n, size):
        self.groups, self.half = model.channels, model.half
        self.first = model.first.walk(n, size, *folded(model.norm))
        self.first.line.image[:, :, 1::2] = 1  # the channels of ones
        self.blocks = [block.walk(labels, n, size) for block in model.blocks]
        self.head, self.features = model.head.walk_pointwise(), model.head.weight.new_zeros(n, model.head.in_channels)
        self.own = self.features.chunk(self.groups, 1)

    def row(self, row: int) -> None:
        self.first.row(row)
        for block in self.blocks:
            block.row(row)

    def put(self, col: int, channel: int, x: torch.Tensor) -> None:
        self.first.here[col][:, 2 * channel] = x

    def pixel(self, col: int, channel: int) -> torch.Tensor:
        """Logits of one value of every image, `(N, levels)`."""
        x, earlier = self.first.pixel(col, channel).relu_(), []
        for i, block in enumerate(self.blocks):
            block.conv.own[col][channel].copy_(x)
            if i < self.half:
                earlier.append(block.conv.here[col])
            x = block.pixel(col, channel, x, earlier.pop() if block.shortcut is not None else None)
        self.own[channel].copy_(x)
        return self.head.pixel(self.features, channel)


def check_features(features, channels: int) -> int:
    """A number of features that splits evenly among the channels."""
    features = check_int("features", features, 1)
    if features % channels:
        raise ValueError(f"features must split evenly among {channels} channels, got {features}")
    return features


def images_on_cpu(images) -> bool:
    return getattr(images, "is_cpu", True) and not torch.compiler.is_compiling()


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
