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
from .models import AutoregressiveModel, at_least_float32, evaluating


@torch.inference_mode(False)  # with gradients, whatever mode the caller is in
def assert_causal(model, channels=None, size=None, levels=None, labels=None) -> None:
    """Test on random images that every logit depends on earlier values only, in raster order, channels innermost.

    It changes values in the input of any module from integer images to logits, and compares the logits. For an
    `AutoregressiveModel`, it also looks at gradients towards the scaled input. On small images it tests every position.
    On images as large as the kernels reach, it tests at three positions whether values from there on move the logits
    up to there. It also tests with softplus in place of ReLU, so that no dead unit hides a path.

    channels, levels: None takes the model's own (1 and 4 for a module that carries neither).
    labels: one float row `(1, classes)` for a model with classes.
    size: `(H, W)` of the only images to test. None takes 7×6, then `reach + 2` by `2·reach + 2` for the larger ones,
    where the reach is `model.reach` or the sum of its layers', at least 10 and at most 40 pixels.
    It tests a copy in evaluation mode, on the CPU, in float64, or in float32 if the module runs in no other precision.

    Raises AssertionError with a pair that leaks; also for a model that ignores all earlier pixels or, in colour, the
    earlier channels of the same pixel. Raises ValueError for a size of one pixel, and for NaN or infinite logits.
    It is a test, not a proof. It does not find leaks that reach beyond its images, leaks of single positions on the
    larger images, leaks under other labels or at rare values, and without gradients leaks as small as rounding.
    """
    channels, levels = _channels_and_levels(model, channels, levels)
    near = _Probe(model, (7, 6) if size is None else size, labels, channels, levels)
    if near.size == (1, 1):
        raise ValueError("size must be larger than one pixel, which has no earlier ones, got (1, 1)")
    differentiable = isinstance(model, AutoregressiveModel)
    every = near.positions
    found = near.changes(every[:, None] == every)
    depends = near.in_order(found, every, every, "the output at {} changes with the input at {}")
    if differentiable:
        some = every[:: 1 + len(every) ** 2 // 20_000]  # all of a small image; each of them takes a pass of its own
        found = near.gradients(some[:, None] == every) > 0
        depends[some] |= near.in_order(found, some, every, "the output at {} has a gradient towards the input at {}")
    sees = depends.any()

    if size is None:
        reach = int(min(max(_reach(model), 10), 40))
        far = _Probe(model, (reach + 2, 2 * reach + 2), labels, channels, levels)
        rows = torch.tensor([0, reach // 2 + 1, reach + 1])
        every, some = far.positions, (rows * far.size[1] + reach) * channels  # in the middle of these rows
        if getattr(model.forward, "__func__", None) is not AutoregressiveModel.forward:
            found = far.changes(some[:, None] <= every)
            sees |= far.in_order(found, every, some, "the output at {} changes with the inputs from {} on").any()
        if differentiable:
            found = far.gradients(some[:, None] >= every) > 0
            words = "an output up to {} has a gradient towards the input at {}"
            sees |= far.in_order(found, some, every, words).any()

    if not sees:
        raise AssertionError("the logits ignore all earlier pixels: is every mask closed, or a layer not connected?")
    for later in range(channels):
        for earlier in range(later):
            if not depends[later::channels, earlier::channels].diagonal().any():  # at the same pixel
                raise AssertionError(f"{near.colours[later]} ignores its own {near.colours[earlier]} everywhere")


@torch.inference_mode(False)
def receptive_field(model, row: int, col: int, size, labels=None) -> np.ndarray:
    """The pixels that the output at `(row, col)` depends on: boolean array `(H, W)`, over all channels.

    model: a model of integer images, or a stack of layers `(N, in, H, W) -> (N, out, H, W)` on floats.
    size: `(H, W)` of the image. labels: one row `(1, classes)` for a model with classes.
    It takes gradients in float64, where a closed tap gives exactly 0, at eight random inputs. A path counts if its
    ReLUs are open for one of them. A model of integer images that is no `AutoregressiveModel` has its input changed.
    Raises ValueError for NaN or infinite logits, TypeError or ValueError for other arguments that do not fit.
    """
    if isinstance(model, AutoregressiveModel) or not hasattr(model, "levels"):
        return effective_receptive_field(model, row, col, size, labels) > 0
    probe = _Probe(model, size, labels, *_channels_and_levels(model))
    pixel = probe.pixel(row, col)
    depends = probe.changes(probe.positions[:, None] == probe.positions)
    return depends[pixel].any(0).reshape(*probe.size, -1).any(2).numpy()


@torch.inference_mode(False)
def effective_receptive_field(model, row: int, col: int, size, labels=None) -> np.ndarray:
    """How strongly the output at `(row, col)` depends on each pixel: the mean size of the gradient, normalised to 1.

    A float array `(H, W)`, over all channels; all zeros if the output depends on nothing. Arguments and errors as for
    `receptive_field`, but a model of integer images must be an `AutoregressiveModel` (else TypeError).
    Source: Luo et al. 2016, Understanding the Effective Receptive Field, arXiv 1701.04128.
    """
    own = isinstance(model, AutoregressiveModel)
    probe = _Probe(model, size, labels, model.channels if own else 1)
    pixel = probe.pixel(row, col)
    inputs = [layer.in_channels for layer in model.modules() if hasattr(layer, "in_channels")]
    if own:
        inputs = [model.inputs]
    elif not inputs or hasattr(model, "levels"):
        wanted = "an AutoregressiveModel (with scale and logits) or a stack of layers"
        raise TypeError(f"model must be {wanted}, got {type(model).__name__}")
    x = 2 * torch.rand(8, inputs[0], *probe.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    with torch.no_grad(), evaluating(model):
        probe.logits(model, x)  # refuses an overflow that the copy in float64 would hide
    strength = probe.gradients(pixel.expand(8, -1), x).sum(0).reshape(*probe.size, -1).sum(2)
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
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    spans = [getattr(layer, "reach", max(layer.kernel_size) // 2 * max(layer.dilation)) for layer in layers]
    return getattr(model, "reach", sum(spans))


def _channels_and_levels(model, channels=None, levels=None) -> tuple[int, int]:
    """The channels and levels of the test images, given or the model's own."""
    own = getattr(model, "channels", None), getattr(model, "levels", None)
    channels = check_int("channels", (own[0] or 1) if channels is None else channels, 1)
    levels = check_int("levels", (own[1] or 4) if levels is None else levels, 2)
    if own[0] not in (None, channels) or own[1] not in (None, levels):
        raise ValueError(f"channels and levels must be the model's, {own[0]} and {own[1]}, got {channels} and {levels}")
    return channels, levels


class _Probe:
    """A model, the size of its images, and two ways to find what its logits depend on: `changes` and `gradients`.

    A position is the index of a value, or of its logits, in raster order, channels innermost. Groups of positions are
    boolean `(groups, positions)`. A stack of layers counts as one channel, with its features as levels.
    """

    def __init__(self, model, size, labels, channels, levels=None):
        check_module(model)
        check_labels(labels, 1, getattr(model, "classes", 0))
        self.model, self.labels, self.channels, self.levels = model, labels, channels, levels
        self.size = check_size(size)
        self.positions = torch.arange(self.size[0] * self.size[1] * channels)
        self.colours = ["red", "green", "blue"] if channels == 3 else [f"channel {c}" for c in range(channels)]

    @torch.no_grad()
    def changes(self, groups, trials=2, at_once=16) -> torch.Tensor:
        """Which logits change when all values of a group change: boolean `(positions, groups)`."""
        masks = groups.unflatten(1, (*self.size, self.channels)).permute(0, 3, 1, 2)  # (groups, C, H, W)
        generator = torch.Generator().manual_seed(0)

        def changed(module):
            found = []
            for mask in masks.split(at_once):
                base = torch.randint(self.levels, (trials, *mask.shape[1:]), generator=generator)
                steps = torch.randint(1, self.levels, (len(mask), *base.shape), generator=generator)  # never 0
                images = (base + steps * mask[:, None]) % self.levels  # (group, trials, C, H, W)
                before = self.logits(module, base)  # in a pass of its own, so that statistics of a batch are a leak
                after = self.logits(module, images.flatten(0, 1)).unflatten(0, (-1, trials))
                # another order of summation inside a convolution can explain differences below this one
                noise = 32 * torch.finfo(before.dtype).eps * before[before.isfinite()].abs().max()
                found.append(((after - before).abs() > noise).any(3).any(1))  # NaN, from two -inf, is no change
            return torch.cat(found).T.cpu()

        try:
            found = _on_copy(self.model, changed)
            if not isinstance(self.model, AutoregressiveModel):  # whose ReLUs `gradients` opens
                found |= _on_copy(self.model, changed, open_relus=True)
        except RuntimeError as error:
            if hasattr(self.model, "levels"):
                raise
            raise TypeError("model must map integer images to logits; receptive_field takes layers") from error
        return found

    def gradients(self, groups, x=None) -> torch.Tensor:
        """The size of the gradients of each group's logits towards the input at each position: `(groups, positions)`.

        x: one input for each group, floats `(groups, in, H, W)`. None takes scaled random images and opens the ReLUs.
        """
        open_relus = x is None
        if x is None:
            shape = len(groups), self.channels, *self.size
            x = self.model.scale(torch.randint(self.levels, shape, generator=torch.Generator().manual_seed(0)))

        def gradient(module):
            leaf = x.detach().cpu().double().requires_grad_()
            logits = self.logits(module, leaf)[groups]
            # random weights, so that no gradient cancels another
            weights = 0.5 + torch.rand(logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            return torch.autograd.grad(logits, leaf, weights.to(logits))[0]

        found = _on_copy(self.model, gradient, open_relus)
        check_finite(found)
        # the sum over the numbers that stand for a level, (N, C, numbers, H, W) -> (N, H, W, C) -> (N, positions)
        return found.unflatten(1, (self.channels, -1)).abs().sum(2).permute(0, 2, 3, 1).flatten(1)

    def logits(self, module, x: torch.Tensor) -> torch.Tensor:
        """The logits of integer images, or of floats that `model.logits` or layers take: `(N, positions, levels)`."""
        floats = x.is_floating_point()
        weight = next(module.parameters(), torch.zeros((), dtype=torch.float64))
        x = x.to(weight if floats else weight.device)
        # copied, since autograd refuses a label that was made in inference mode
        labels = None if self.labels is None else self.labels.to(weight, copy=True).expand(len(x), -1)
        if floats and isinstance(module, AutoregressiveModel):
            logits = module.logits(x, labels)
        else:
            logits = module(x) if labels is None else module(x, labels)
        shape = tuple(getattr(logits, "shape", ()))
        if floats and shape[-2:] != self.size:
            raise ValueError(f"model must keep the size {self.size}, got {shape[-2:]}: are layers padded?")
        if self.channels == 1 and (floats or len(shape) == 4):  # a stack's features, or logits (N, levels, H, W)
            logits = logits.reshape(shape[0], -1, 1, *shape[-2:])
            shape = tuple(logits.shape)
        if shape[:1] + shape[2:] != (len(x), self.channels, *self.size):
            got = f"{shape or type(logits).__name__} for images {tuple(x.shape)}"
            raise ValueError(f"model must return logits (N, levels, C, H, W), got {got}")
        check_finite(logits.amax(1))
        return at_least_float32(logits).permute(0, 3, 4, 2, 1).flatten(1, 3)

    def pixel(self, row, col) -> torch.Tensor:
        """The positions of one pixel, as a group: boolean `(positions,)`."""
        row, col = check_int("row", row, 0), check_int("col", col, 0)
        height, width = self.size
        if row >= height or col >= width:
            raise ValueError(f"row and col must lie inside the size {height}×{width}, got ({row}, {col})")
        return self.positions // self.channels == row * width + col

    def in_order(self, depends, outputs, inputs, words: str) -> torch.Tensor:
        """`depends`, unless an output depends on its own position or on a later one: then AssertionError."""
        leaks = (depends & (outputs[:, None] <= inputs)).nonzero()  # sorted by output
        if len(leaks):
            output, source = leaks[0]
            places = self.place(outputs[output]), self.place(inputs[source])
            raise AssertionError(f"leak: {words.format(*places)}, which is not earlier")
        return depends

    def place(self, position) -> str:
        row, col, channel = np.unravel_index(int(position), (*self.size, self.channels))
        return f"row {row}, col {col}" + (f", {self.colours[channel]}" if self.channels > 1 else "")


def _on_copy(model, run, open_relus: bool = False):
    """What `run` returns for a copy in float64; if that raises an error, for one in float32, then the model itself."""
    for dtype in (torch.float64, torch.float32):  # in float64 a closed tap changes nothing
        with suppress(Exception):
            twin = copy.deepcopy(model).cpu().to(dtype)
            with evaluating(twin), _Tested(twin, open_relus):
                return run(twin)
    with evaluating(model), _Tested(model, open_relus):
        return run(model)


class _Tested(TorchFunctionMode):
    """Keeps a module in float64 where it asks for another precision; `open_relus` puts softplus in place of ReLU."""

    def __init__(self, module, open_relus: bool):
        super().__init__()
        self.in_float64 = all(weight.dtype == torch.float64 for weight in module.parameters())
        self.open_relus = open_relus

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name, kwargs = getattr(function, "__name__", ""), kwargs or {}
        if self.open_relus and name in ("relu", "relu_"):
            return F.softplus(args[0] + 5)  # with a slope of nearly 1 around 0
        if self.in_float64:
            function = torch.Tensor.double if name in ("float", "half", "bfloat16") else function
            args = [_float64(value) for value in args]
            kwargs = {key: _float64(value) for key, value in kwargs.items()}
        return function(*args, **kwargs)


def _float64(value):
    """float64 for any type of floats; other values as they are."""
    return torch.float64 if isinstance(value, torch.dtype) and value.is_floating_point else value
