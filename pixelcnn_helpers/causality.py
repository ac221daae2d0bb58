"""What an output depends on: a test that nothing leaks, receptive fields, blind spots."""

from __future__ import annotations

import copy
from contextlib import suppress

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .checks import check_finite, check_int, check_labels, check_module, check_size
from .models import AutoregressiveModel, at_least_float32, device_of, evaluating

COLOURS = ("red", "green", "blue")
SMALL = (7, 6)  # the images on which `assert_causal` tests every position
LEAST, MOST = 10, 40  # pixels that the kernels are taken to reach, at least and at most, on the larger images


@torch.inference_mode(False)  # with gradients, whatever mode the caller is in
def assert_causal(model, channels=None, size=None, levels=None, labels=None) -> None:
    """Test on random images that every logit depends on earlier values only, in raster order, channels innermost.

    For any module that maps integer images to logits, it changes one value after the other and looks which logits
    change. For an `AutoregressiveModel`, it also looks at gradients towards the scaled input. Both test every position
    of small images. On images as large as the kernels reach, both test three positions: whether values from there on
    move the logits up to there. Softplus takes the place of ReLU, too, so that no dead unit hides a path.

    channels, levels: None takes the model's own (1 and 4 for a module that carries neither).
    size: `(H, W)` of the only images to test. None takes 7×6, then `reach + 2` by `2·reach + 2` for the larger ones,
    where the reach is `model.reach` or the sum of its layers', at least 10 and at most 40 pixels.
    labels: one float row `(1, classes)` for a model with classes.

    It tests a copy in evaluation mode, on the CPU, in float64, or in float32 if the module runs in no other precision.
    It is a test, not a proof. It does not find leaks that reach beyond its images, leaks of single positions on the
    larger images, leaks under other labels or at rare values, and without gradients leaks as small as rounding.

    Raises AssertionError with a pair that leaks; also for a model that ignores all earlier pixels, and for a
    colour model that ignores the earlier channels of the same pixel (green its own red). Raises ValueError for a size
    of one pixel, and for logits that are NaN or infinite.
    """
    channels, levels, small = _shape(model, channels, levels, SMALL if size is None else size)
    if small == (1, 1):
        raise ValueError("size must be larger than one pixel, which has no earlier ones, got (1, 1)")
    check_labels(labels, 1, getattr(model, "classes", 0))
    differentiable = isinstance(model, AutoregressiveModel)
    every = torch.arange(small[0] * small[1] * channels)

    depends = _by_perturbation(model, channels, levels, small, labels)
    _assert_order(depends, every, every, channels, small, "the output at {} changes with the input at {}")
    if differentiable:
        some = every[:: 1 + len(every) ** 2 // 20_000]  # all of a small image; each of them takes a pass of its own
        found = _by_gradient(model, channels, levels, small, labels, some)
        _assert_order(found, some, every, channels, small, "the output at {} has a gradient towards the input at {}")
        depends[some] |= found
    sees = depends.any()

    if size is None:
        reach = int(min(max(_reach(model), LEAST), MOST))
        large = reach + 2, 2 * reach + 2
        every = torch.arange(large[0] * large[1] * channels)
        rows = torch.tensor([0, large[0] // 2, large[0] - 1])
        some = (rows * large[1] + reach) * channels  # in the middle of each of these rows
        if getattr(model.forward, "__func__", None) is not AutoregressiveModel.forward:
            found = _by_perturbation(model, channels, levels, large, labels, some)
            _assert_order(found, every, some, channels, large, "the output at {} changes with the inputs from {} on")
            sees |= found.any()
        if differentiable:
            found = _by_gradient(model, channels, levels, large, labels, some, up_to=True)
            words = "an output up to {} has a gradient towards the input at {}"
            _assert_order(found, some, every, channels, large, words)
            sees |= found.any()

    if not sees:
        raise AssertionError("the logits ignore all earlier pixels: is every mask closed, or a layer not connected?")
    for later in range(1, channels):
        for earlier in range(later):  # an earlier channel of the same pixel
            if not depends[later::channels, earlier::channels].diagonal().any():
                names = _colour(later, channels), _colour(earlier, channels)
                raise AssertionError("{} ignores its own {} everywhere".format(*names))


@torch.inference_mode(False)
def receptive_field(model, row: int, col: int, size, labels=None) -> np.ndarray:
    """The pixels that the output at `(row, col)` depends on: boolean array `(H, W)`, over all channels.

    model: a model of integer images, or a stack of layers `(N, in, H, W) -> (N, out, H, W)` on floats.
    size: `(H, W)` of the image. labels: one row `(1, classes)` for a model with classes.
    It is computed from gradients in float64, where a closed tap gives exactly 0, at eight random inputs. A path counts
    if its ReLUs are open for one of them.
    A model of integer images that is no `AutoregressiveModel` is tested by changing its input instead.
    Raises ValueError for a model whose logits are NaN or infinite, TypeError or ValueError for other arguments that do
    not fit.
    """
    if hasattr(model, "levels") and not isinstance(model, AutoregressiveModel):
        row, col, size = _position(row, col, size)
        channels, levels, size = _shape(model, None, None, size)
        check_labels(labels, 1, getattr(model, "classes", 0))
        depends = _by_perturbation(model, channels, levels, size, labels)
        depends = depends.unflatten(1, (*size, channels)).unflatten(0, (*size, channels))  # (H, W, C, H, W, C)
        return depends[row, col].any(0).any(-1).numpy()
    return effective_receptive_field(model, row, col, size, labels) > 0


@torch.inference_mode(False)
def effective_receptive_field(model, row: int, col: int, size, labels=None) -> np.ndarray:
    """How strongly the output at `(row, col)` depends on each pixel: the mean size of the gradient, normalised to 1.

    A float array `(H, W)`, over all channels; all zeros if the output depends on nothing. Arguments and errors as for
    `receptive_field`, but a model of integer images must be an `AutoregressiveModel` (else TypeError).
    Source: Luo et al. 2016, Understanding the Effective Receptive Field, arXiv 1701.04128.
    """
    row, col, size = _position(row, col, size)
    channels = _float_channels(model)
    check_labels(labels, 1, getattr(model, "classes", 0))
    inputs = torch.rand(8, channels, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    with torch.no_grad(), evaluating(model):
        outputs = _on_floats(model, inputs, labels)
        if tuple(outputs.shape[-2:]) != size:
            raise ValueError(f"model must keep the size {size}, got {tuple(outputs.shape[-2:])}: are layers padded?")
        check_finite(outputs.amax(1))  # a copy in float64 could hide it
    gradient = _gradient(model, inputs, labels, lambda outputs: outputs[..., row, col])
    strength = gradient.abs().sum((0, 1))
    return (strength / strength.sum().clamp_min(1e-300)).numpy()


def blind_spot(model, row: int, col: int, size, labels=None) -> np.ndarray:
    """Earlier pixels within reach of the kernels on which the output at `(row, col)` still does not depend.

    A boolean array `(H, W)`. Within reach is a box around the pixel: the sum of all layers' `reach`, or the model's
    own `reach` where layers run side by side. Arguments and errors as for `receptive_field`.
    """
    field = receptive_field(model, row, col, size, labels)
    rows, cols = np.indices(field.shape)
    earlier = (rows < row) | ((rows == row) & (cols < col))
    reach = _reach(model)
    return earlier & (abs(rows - row) <= reach) & (abs(cols - col) <= reach) & ~field


def _reach(model) -> int:
    """How many pixels a model's kernels span to each side, if its layers follow one another."""
    if hasattr(model, "reach"):
        return model.reach
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    return sum(getattr(layer, "reach", max(layer.kernel_size) // 2 * max(layer.dilation)) for layer in layers)


def _shape(model, channels, levels, size) -> tuple[int, int, tuple[int, int]]:
    """The channels, levels and size of the test images."""
    check_module(model)
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


def _float_channels(model) -> int:
    """The channels of the floats that a model's `logits` or a stack of layers takes."""
    check_module(model)
    if isinstance(model, AutoregressiveModel):
        return model.inputs
    first = next((layer for layer in model.modules() if hasattr(layer, "in_channels")), None)
    if first is None or hasattr(model, "levels"):
        wanted = "an AutoregressiveModel (with scale and logits) or a stack of layers"
        raise TypeError(f"model must be {wanted}, got {type(model).__name__}")
    return first.in_channels


def _twin(model, run):
    """A copy on the CPU in float64, where a closed tap changes nothing; in float32 or the model itself if it must be.

    `run(copy)` tells, by raising no error, that a copy works.
    """
    for dtype in (torch.float64, torch.float32):
        with suppress(Exception), torch.no_grad():
            twin = copy.deepcopy(model).cpu().to(dtype)
            with evaluating(twin), _Tested(twin):
                run(twin)
            return twin
    return model


class _Tested(TorchFunctionMode):
    """The context to run such a copy in. A copy in float64 stays there, also where it asks for another precision.

    With `open_relus` a softplus takes the place of every ReLU, so that no dead unit hides a path.
    """

    def __init__(self, twin, open_relus: bool = False):
        super().__init__()
        self.in_float64, self.open_relus = _dtype(twin) == torch.float64, open_relus

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name, kwargs = getattr(function, "__name__", ""), kwargs or {}
        if self.open_relus and name in ("relu", "relu_"):
            return F.softplus(args[0] + 5)  # with a slope of nearly 1 around 0
        if self.in_float64 and name in ("float", "half", "bfloat16"):
            return args[0].double()
        if self.in_float64:
            args = [_float64(value) for value in args]
            kwargs = {key: _float64(value) for key, value in kwargs.items()}
        return function(*args, **kwargs)


def _float64(value):
    """float64 for any type of floats; other values as they are."""
    return torch.float64 if isinstance(value, torch.dtype) and value.is_floating_point else value


def _dtype(module) -> torch.dtype:
    return next((weight.dtype for weight in module.parameters()), torch.float64)


@torch.no_grad()
def _by_perturbation(model, channels, levels, size, labels, onwards=None, trials=2, at_once=16) -> torch.Tensor:
    """Which logits change when a value of a random image changes: boolean `(outputs, inputs)` in raster order.

    onwards: positions. Instead of one value, all values from each of these on are changed: `(outputs, len(onwards))`.
    """
    index = torch.arange(size[0] * size[1] * channels)
    changes = index == index[:, None] if onwards is None else index >= onwards[:, None]
    generator = torch.Generator().manual_seed(0)

    def logits_of(module, flat):  # (N, positions), raster order, channels innermost -> (N, positions, levels)
        images = flat.unflatten(1, (*size, channels)).permute(0, 3, 1, 2).contiguous().to(device_of(module))
        rows = () if labels is None else (labels.to(images.device, _dtype(module)).expand(len(images), -1),)
        logits = module(images, *rows)
        if not isinstance(logits, torch.Tensor):
            raise ValueError(f"model must return logits (N, levels, C, H, W), got {type(logits).__name__}")
        if logits.ndim == 4 and channels == 1:
            logits = logits.unsqueeze(2)  # (N, levels, H, W), as some write it
        if logits.shape[:1] + logits.shape[2:] != images.shape:
            got = f"{tuple(logits.shape)} for images {tuple(images.shape)}"
            raise ValueError(f"model must return logits (N, levels, C, H, W), got {got}")
        check_finite(logits.amax(1))
        logits = at_least_float32(logits)
        return logits.clamp_min(torch.finfo(logits.dtype).min).permute(0, 3, 4, 2, 1).flatten(1, 3)

    def moved(module, group):  # changes of a group of inputs, (group, positions) -> of the outputs, the same
        base = torch.randint(levels, (trials, len(index)), generator=generator)
        reference = logits_of(module, base)
        steps = torch.randint(1, levels, (len(group), *base.shape), generator=generator)  # never to the same level
        changed = (base + steps * group[:, None]) % levels  # (group, trials, positions)
        logits = logits_of(module, changed.flatten(0, 1)).unflatten(0, (len(group), trials))
        # another order of summation inside a convolution can explain differences below this one
        limits = torch.finfo(reference.dtype)
        noise = 32 * limits.eps * reference[reference > limits.min].abs().max()
        return ((logits - reference).abs().amax((1, 3)) > noise).cpu()

    twin = _twin(model, lambda twin: logits_of(twin, torch.zeros(1, len(index), dtype=torch.long)))
    found = torch.zeros_like(changes)
    for open_relus in (False,) if isinstance(model, AutoregressiveModel) else (False, True):  # that has gradients
        try:
            with evaluating(twin), _Tested(twin, open_relus):
                found |= torch.cat([moved(twin, group) for group in changes.split(at_once)])
        except RuntimeError as error:
            if hasattr(model, "levels"):
                raise
            raise TypeError("model must map integer images to logits; receptive_field takes layers") from error
    return found.T


def _by_gradient(model, channels, levels, size, labels, positions, up_to=False) -> torch.Tensor:
    """Towards which scaled values there is a gradient: boolean `(len(positions), inputs)` in raster order.

    Row k is for the logits at `positions[k]`, with `up_to` for all logits up to there; each row has its own image.
    """
    images = torch.randint(levels, (len(positions), channels, *size), generator=torch.Generator().manual_seed(0))
    inputs = model.scale(images)
    index = torch.arange(size[0] * size[1] * channels)
    wanted = index <= positions[:, None] if up_to else index == positions[:, None]
    gradient = _gradient(model, inputs, labels, lambda x: x.permute(0, 3, 4, 2, 1).flatten(1, 3)[wanted], True)
    gradient = gradient.unflatten(1, (channels, -1)).abs().sum(2)  # over the numbers that stand for a level
    return gradient.permute(0, 2, 3, 1).flatten(1).cpu() != 0


def _on_floats(module, x: torch.Tensor, labels) -> torch.Tensor:
    """What a model's `logits` or a stack of layers makes of floats `(N, C, H, W)`."""
    x = x.to(next(module.parameters(), x))
    if not isinstance(module, AutoregressiveModel):
        return module(x)
    # copied, since autograd refuses a label that was made in inference mode
    return module.logits(x, None if labels is None else labels.to(x, copy=True).expand(len(x), -1))


def _gradient(model, x: torch.Tensor, labels, choose, open_relus: bool = False) -> torch.Tensor:
    """The gradient of a random weighting of the chosen outputs, so that none cancels another; as `x`."""
    twin = _twin(model, lambda twin: _on_floats(twin, x[:1], labels))
    x = x.detach().to(next(twin.parameters(), x)).requires_grad_()
    with evaluating(twin), _Tested(twin, open_relus):
        outputs = choose(_on_floats(twin, x, labels))
    weights = torch.rand(outputs.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.5
    (gradient,) = torch.autograd.grad((outputs * weights.to(outputs)).sum(), x)
    check_finite(gradient)
    return gradient


def _assert_order(depends: torch.Tensor, outputs, inputs, channels: int, size, words: str) -> None:
    """Raise AssertionError for the first output that depends on its own position or on a later one."""
    leaks = (depends & (outputs[:, None] <= inputs)).nonzero()  # sorted by output
    if len(leaks):
        output, source = leaks[0].tolist()
        places = (_place(int(index), channels, size) for index in (outputs[output], inputs[source]))
        raise AssertionError(f"leak: {words.format(*places)}, which is not earlier")


def _place(index: int, channels: int, size) -> str:
    pixel, channel = divmod(index, channels)
    row, col = divmod(pixel, size[1])
    return f"row {row}, col {col}" + (f", {_colour(channel, channels)}" if channels > 1 else "")


def _colour(channel: int, channels: int) -> str:
    return COLOURS[channel] if channels == 3 else f"channel {channel}"
