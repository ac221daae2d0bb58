"""What an output depends on: a test that nothing leaks, receptive fields, blind spots."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from .checks import check_int, check_labels, check_size
from .models import AutoregressiveModel, device_of, evaluating

COLOURS = ("red", "green", "blue")


def assert_causal(model, channels=None, size=(7, 6), levels=None, labels=None) -> None:
    """Test on small images that every logit depends on earlier values only, in raster order, channels innermost.

    The first test, for any module that maps integer images to logits, changes one value at a time and looks which
    logits change. The second, for an `AutoregressiveModel`, looks at gradients towards the scaled input.

    channels, levels: None takes the model's own (1 and 4 for a module that carries neither).
    size: `(H, W)` of the test images. A leak that reaches further than the image is not found.
    labels: one float row `(1, classes)` for a model with classes.
    Raises AssertionError with the first pair that leaks; also for a model that ignores all earlier pixels, and for a
    colour model that ignores the earlier channels of the same pixel (green its own red). Raises ValueError for a size
    of one pixel.
    """
    channels, levels, size = _shape(model, channels, levels, size)
    if size == (1, 1):
        raise ValueError("size must be larger than one pixel, which has no earlier ones, got (1, 1)")
    check_labels(labels, 1, getattr(model, "classes", 0))
    depends = _by_perturbation(model, channels, levels, size, labels)  # (positions, positions)
    _assert_order(depends, channels, size, "changes with")
    if isinstance(model, AutoregressiveModel):
        _assert_order(_by_gradient(model, channels, levels, size, labels), channels, size, "has a gradient towards")
    if not depends.any():
        raise AssertionError("the logits ignore all earlier pixels: is every mask closed, or a layer not connected?")
    for later in range(1, channels):
        for earlier in range(later):  # an earlier channel of the same pixel
            if not depends[later::channels, earlier::channels].diagonal().any():
                names = _colour(later, channels), _colour(earlier, channels)
                raise AssertionError("{} ignores its own {} everywhere".format(*names))


def receptive_field(model, row: int, col: int, size, labels=None) -> np.ndarray:
    """The pixels that the output at `(row, col)` depends on: boolean array `(H, W)`, over all channels.

    model: a model of integer images, or a stack of layers `(N, in, H, W) -> (N, out, H, W)` on floats.
    size: `(H, W)` of the image. labels: one row `(1, classes)` for a model with classes.
    It is computed from gradients in float64, where a closed tap gives exactly 0, at eight random inputs. A path counts
    if its ReLUs are open for one of them.
    A model of integer images that is no `AutoregressiveModel` is tested by changing its input instead.
    """
    if hasattr(model, "levels") and not isinstance(model, AutoregressiveModel):
        row, col, size = _position(row, col, size)
        channels, levels, size = _shape(model, None, None, size)
        check_labels(labels, 1, getattr(model, "classes", 0))
        depends = _by_perturbation(model, channels, levels, size, labels)
        depends = depends.unflatten(1, (*size, channels)).unflatten(0, (*size, channels))  # (H, W, C, H, W, C)
        return depends[row, col].any(0).any(-1).numpy()
    return effective_receptive_field(model, row, col, size, labels) > 0


def effective_receptive_field(model, row: int, col: int, size, labels=None) -> np.ndarray:
    """How strongly the output at `(row, col)` depends on each pixel: the mean size of the gradient, normalised to 1.

    A float array `(H, W)`, over all channels; all zeros if the output depends on nothing. Arguments as for
    `receptive_field`, but a model of integer images must be an `AutoregressiveModel` (else TypeError).
    Source: Luo et al. 2016, Understanding the Effective Receptive Field, arXiv 1701.04128.
    """
    row, col, size = _position(row, col, size)
    check_labels(labels, 1, getattr(model, "classes", 0))
    twin, forward, channels = _differentiable(model, labels)
    inputs = torch.rand(8, channels, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    inputs = inputs.requires_grad_()
    with evaluating(twin):
        outputs = forward(inputs)
        if tuple(outputs.shape[-2:]) != size:
            raise ValueError(f"model must keep the size {size}, got {tuple(outputs.shape[-2:])}: are layers padded?")
        outputs = outputs[..., row, col]  # (8, …)
        (gradient,) = torch.autograd.grad((outputs * _random_weights(outputs)).sum(), inputs)
    strength = gradient.abs().sum((0, 1))
    return (strength / strength.sum().clamp_min(1e-300)).numpy()


def blind_spot(model, row: int, col: int, size, labels=None) -> np.ndarray:
    """Earlier pixels within reach of the kernels on which the output at `(row, col)` still does not depend.

    A boolean array `(H, W)`. Within reach is a box around the pixel: the sum of all layers' `reach`, or the model's
    own `reach` where layers run side by side. Arguments as for `receptive_field`.
    """
    row, col, size = _position(row, col, size)
    rows, cols = np.indices(size)
    earlier = (rows < row) | ((rows == row) & (cols < col))
    reach = _reach(model)
    box = (abs(rows - row) <= reach) & (abs(cols - col) <= reach)
    return earlier & box & ~receptive_field(model, row, col, size, labels)


def _reach(model) -> int:
    """How many pixels a model's kernels span to each side, if its layers follow one another."""
    if hasattr(model, "reach"):
        return model.reach
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    return sum(getattr(layer, "reach", max(layer.kernel_size) // 2 * max(layer.dilation)) for layer in layers)


def _shape(model, channels, levels, size) -> tuple[int, int, tuple[int, int]]:
    """The channels, levels and size of the test images."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    own_channels, own_levels = getattr(model, "channels", None), getattr(model, "levels", None)
    channels = check_int("channels", (own_channels or 1) if channels is None else channels, 1)
    levels = check_int("levels", (own_levels or 4) if levels is None else levels, 2)
    if own_channels not in (None, channels) or own_levels not in (None, levels):
        raise ValueError(
            f"channels and levels must be the model's, {own_channels} and {own_levels}, got {channels} and {levels}"
        )
    return channels, levels, check_size(size)


def _position(row, col, size) -> tuple[int, int, tuple[int, int]]:
    height, width = check_size(size)
    row, col = check_int("row", row, 0), check_int("col", col, 0)
    if row >= height or col >= width:
        raise ValueError(f"row and col must lie inside the size {height}×{width}, got ({row}, {col})")
    return row, col, (height, width)


@torch.no_grad()
def _by_perturbation(model, channels, levels, size, labels, trials=4, at_once=16) -> torch.Tensor:
    """Which logits change when one value of a random image changes: boolean `(outputs, inputs)` in raster order."""
    positions = size[0] * size[1] * channels
    generator, device = torch.Generator().manual_seed(0), device_of(model)
    base = torch.randint(levels, (trials, positions), generator=generator)
    steps = torch.randint(1, levels, (positions, trials), generator=generator)  # never back to the same level

    def logits_of(flat):  # (N, positions), raster order, channels innermost -> (N, positions, levels)
        images = flat.unflatten(1, (*size, channels)).permute(0, 3, 1, 2).contiguous().to(device)
        try:
            logits = model(images) if labels is None else model(images, labels.to(device).expand(len(images), -1))
        except RuntimeError as error:
            if hasattr(model, "levels"):
                raise
            raise TypeError("model must map integer images to logits; receptive_field takes layers") from error
        if logits.ndim == 4 and channels == 1:
            logits = logits.unsqueeze(2)  # (N, levels, H, W), as some write it
        if logits.shape[:1] + logits.shape[2:] != images.shape:
            got = f"{tuple(logits.shape)} for images {tuple(images.shape)}"
            raise ValueError(f"model must return logits (N, levels, C, H, W), got {got}")
        return logits.permute(0, 3, 4, 2, 1).flatten(1, 3)

    columns = []
    with evaluating(model):
        reference = logits_of(base)
        if not reference.isfinite().all():
            raise ValueError("model must return finite logits, got NaN or infinity, which hide what depends on what")
        # another order of summation inside a convolution can explain differences below this one
        noise = 32 * torch.finfo(reference.dtype).eps * reference.abs().max()
        for group in torch.arange(positions).split(at_once):
            changed = base.repeat(len(group), 1, 1)  # (group, trials, positions)
            here = torch.arange(len(group))
            changed[here, :, group] = (changed[here, :, group] + steps[group]) % levels
            logits = logits_of(changed.flatten(0, 1)).unflatten(0, (len(group), trials))
            differences = (logits - reference).abs().amax((1, 3))  # (group, positions)
            columns.append((differences > noise).cpu())
    return torch.cat(columns).T


def _by_gradient(model, channels, levels, size, labels) -> torch.Tensor:
    """Towards which scaled values each logit has a gradient: boolean `(outputs, inputs)` in raster order."""
    twin, forward, _ = _differentiable(model, labels)
    positions = size[0] * size[1] * channels
    images = torch.randint(levels, (1, channels, *size), generator=torch.Generator().manual_seed(0))
    inputs = twin.scale(images).repeat(positions, 1, 1, 1).requires_grad_()
    with evaluating(twin):
        outputs = forward(inputs).permute(0, 3, 4, 2, 1).flatten(1, 3)  # (N, positions, levels)
        own = outputs[torch.arange(positions), torch.arange(positions)]  # image i is for position i
        (gradient,) = torch.autograd.grad((own * _random_weights(own)).sum(), inputs)
    return gradient.permute(0, 2, 3, 1).flatten(1) != 0


def _differentiable(model, labels):
    """A float64 copy of a model or a stack of layers on the CPU, its forward pass on floats, and its channels."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    first = next((layer for layer in model.modules() if hasattr(layer, "in_channels")), None)
    of_model = isinstance(model, AutoregressiveModel)
    if not of_model and (first is None or hasattr(model, "levels")):
        wanted = "an AutoregressiveModel (with scale and logits) or a stack of layers"
        raise TypeError(f"model must be {wanted}, got {type(model).__name__}")
    twin = copy.deepcopy(model).cpu().double()  # Apple's GPU has no float64
    if not of_model:
        return twin, twin, first.in_channels
    row = None if labels is None else labels.cpu().double()
    return twin, lambda x: twin.logits(x, None if row is None else row.expand(len(x), -1)), model.channels


def _random_weights(outputs: torch.Tensor) -> torch.Tensor:
    """Random weights for a sum of outputs, so that its parts do not cancel."""
    return torch.rand(outputs.shape, generator=torch.Generator().manual_seed(1), dtype=outputs.dtype) + 0.5


def _assert_order(depends: torch.Tensor, channels: int, size, verb: str) -> None:
    """Raise AssertionError for the first output that depends on its own position or on a later one."""
    leaks = depends.triu().nonzero()  # (output, input), sorted
    if len(leaks):
        output, source = (_place(int(index), channels, size) for index in leaks[0])
        raise AssertionError(f"leak: the output at {output} {verb} the input at {source}, which is not earlier")


def _place(index: int, channels: int, size) -> str:
    pixel, channel = divmod(index, channels)
    row, col = divmod(pixel, size[1])
    return f"row {row}, col {col}" + (f", {_colour(channel, channels)}" if channels > 1 else "")


def _colour(channel: int, channels: int) -> str:
    return COLOURS[channel] if channels == 3 else f"channel {channel}"
