"""Checks of what a user hands over. Each error names the argument, what is wanted and what was given."""

from __future__ import annotations

import math
import numbers
import operator

import numpy as np
import torch

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)  # the types torch computes with


def require(condition, name: str, wanted: str, got, error: type[Exception] = ValueError) -> None:
    """Raise an error "{name} must {wanted}, got {got}" unless a condition holds.

    Give a shape as it is, not in a string: torch.compile would compile again for each shape that it puts into words.
    """
    if not condition:
        raise error(f"{name} must {wanted}, got {got}")


def check_type(name: str, value, types, wanted: str) -> None:
    """`value` must be an instance of a class or of a union of classes; `wanted` says so in words."""
    require(isinstance(value, types), name, f"be {wanted}", _described(value), TypeError)


def check_int(name: str, value, minimum: int) -> int:
    """`value` as an int of at least `minimum`; a boolean is refused."""
    if isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) == torch.bool:
        raise TypeError(f"{name} must be an integer, got the boolean {value}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {_described(value)}") from None
    require(number >= minimum, name, f"be at least {minimum}", number)
    return number


def check_number(name: str, value, minimum: float = 0.0) -> float:
    """`value` as a finite float of at least `minimum`; a boolean is refused."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {_described(value)}")
    try:
        number = float(value)
    except OverflowError:  # an integer that is larger than any float
        number = math.inf
    require(minimum <= number < math.inf, name, f"be finite and at least {minimum:g}", value)
    return number


def check_positive(name: str, value) -> float:
    """`value` as a finite float above 0; a boolean is refused."""
    number = check_number(name, value)
    require(number > 0, name, "be above 0", value)
    return number


def check_two(name: str, value, wanted: str) -> tuple:
    """The two parts of a pair."""
    try:
        first, second = () if isinstance(value, set | dict) else value  # these have no order
    except (TypeError, ValueError):
        got = repr(value) if len(repr(value)) < 40 else type(value).__name__
        raise ValueError(f"{name} must be a pair {wanted}, got {got}") from None
    return first, second


def check_size(value) -> tuple[int, int]:
    """An image's `(height, width)`, both at least 1."""
    height, width = check_two("size", value, "(height, width)")
    return check_int("size[0]", height, 1), check_int("size[1]", width, 1)


def check_images(images, levels: int, channels: int | None = None, name: str = "images", values: bool = True) -> None:
    """Integer images `(N, C, H, W)`, not empty, with values `0 … levels-1` (looked at if `values`)."""
    check_type(name, images, torch.Tensor, "a torch tensor")
    got = f"{images.dtype}; models scale their input themselves"
    require(images.dtype in INTEGERS, name, f"hold integers 0 … {levels - 1}", got, TypeError)
    shape = tuple(images.shape)
    require(len(shape) == 4, name, "have the shape (N, C, H, W)", shape)
    require(images.numel() > 0, name, "not be empty", shape)
    require(channels in (None, shape[1]), name, f"have {channels} channel(s)", shape[1])
    if values:
        low, high = map(int, images.aminmax())
        fix = f"; quantize(images, {levels}, source_levels=…) makes fewer levels" if high >= levels else ""
        require(low >= 0 and high < levels, name, f"hold values 0 … {levels - 1}", f"{low} … {high}{fix}")


def check_labels(labels, count: int, classes: int, name: str = "labels", values: bool = True) -> None:
    """Float rows `(count, classes)` that sum to 1 (looked at if `values`); None for a model without classes."""
    wanted = f"be float rows (N, {classes})" if classes else "be None"
    reason = f"since this model has {classes or 'no'} classes"
    require((labels is None) == (classes == 0), name, f"{wanted}, {reason}", _described(labels))
    if labels is None:
        return
    check_type(name, labels, torch.Tensor, "a torch tensor")
    got = f"{labels.dtype}; torch.nn.functional.one_hot(labels, {classes}).float() makes them from integer classes"
    require(labels.is_floating_point(), name, wanted, got, TypeError)
    shape = tuple(labels.shape)
    require(shape[1:] == (classes,), name, f"have the shape (N, {classes})", shape)
    if len(labels) != count:
        raise ValueError(f"{name} must have one row per image, got {len(labels)} rows for {count} images")
    if values:
        require(labels.isfinite().all(), name, "be finite", "NaN or infinity")
        require(labels.min() >= 0, name, "not be negative", f"{labels.min():g}")
        sums = labels.float().sum(1)
        worst = sums[(sums - 1).abs().argmax()]
        tolerance = max(1e-3, torch.finfo(labels.dtype).eps)  # half precision rounds thirds by more
        require(abs(worst - 1) <= tolerance, name, "sum to 1 in every row", f"a sum of {worst:g}")


def check_module(model) -> None:
    check_type("model", model, torch.nn.Module, "a torch.nn.Module")


def check_model(model, wanted: str = "be asked for images") -> tuple[int, int, int]:
    """The `(channels, levels, classes)` that a model carries; they say what its logits mean."""
    check_module(model)
    missing = [name for name in ("channels", "levels") if not hasattr(model, name)]
    if missing:
        raise TypeError(f"model cannot {wanted}: {type(model).__name__} carries no {' and no '.join(missing)}")
    classes = check_int("model.classes", getattr(model, "classes", 0), 0)
    return check_int("model.channels", model.channels, 1), check_int("model.levels", model.levels, 2), classes


def check_classes(model, wanted: str = "mix") -> int:
    """How many classes a model has, at least two."""
    _, _, classes = check_model(model)
    require(classes >= 2, "model", f"have classes to {wanted}", f"{type(model).__name__} with classes={classes}")
    return classes


def check_logits(logits: torch.Tensor, images: torch.Tensor, levels: int) -> torch.Tensor:
    """The logits that a model returned for images, if they are `(N, levels, C, H, W)`."""
    wanted = (len(images), levels, *images.shape[1:])
    got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    require(got == wanted, "model", f"return logits (N, levels, C, H, W), here {wanted}", got)
    return logits


def check_finite(values: torch.Tensor) -> None:
    """What a model computed must be finite. Where -inf may forbid levels, give the largest logit over the levels.

    NaN and +inf reach that maximum from any level, -inf only if all levels are forbidden. (The look waits for a GPU.)
    """
    got = "NaN or infinity: its training diverged, or its precision overflows"
    require(values.isfinite().all(), "model", "return finite logits", got)


def _described(value) -> str:
    return f"{type(value).__name__} {value!r}" if isinstance(value, str | int | float | type) else type(value).__name__
