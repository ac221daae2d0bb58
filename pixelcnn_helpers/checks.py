"""Checks of arguments. Each error names the argument, what was given and what is wanted.

They stand where a user hands something over, and nowhere further inside.
"""

from __future__ import annotations

import math
import numbers
import operator

import numpy as np
import torch

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)  # the types torch computes with


def check_int(name: str, value, minimum: int) -> int:
    """`value` as an int of at least `minimum`; a boolean is refused."""
    if isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) == torch.bool:
        raise TypeError(f"{name} must be an integer, got the boolean {value}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {_described(value)}") from None
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}")
    return number


def check_number(name: str, value, minimum: float = 0.0) -> float:
    """A finite number of at least `minimum`; a boolean is refused."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {_described(value)}")
    try:
        number = float(value)
    except OverflowError:  # an integer that is larger than any float
        number = math.inf
    if not minimum <= number < math.inf:
        raise ValueError(f"{name} must be finite and at least {minimum:g}, got {value}")
    return number


def check_positive(name: str, value) -> float:
    """A finite number above 0; a boolean is refused."""
    number = check_number(name, value)
    if number == 0:
        raise ValueError(f"{name} must be above 0, got 0")
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
    """Integer images `(N, C, H, W)`, N at least 1, with values `0 … levels-1` (looked at if `values`)."""
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"{name} must be a torch tensor, got {_described(images)}")
    if images.dtype not in INTEGERS:
        fix = "models scale their input themselves"
        raise TypeError(f"{name} must hold integers 0 … {levels - 1}, got {images.dtype}; {fix}")
    if images.ndim != 4:
        raise ValueError(f"{name} must have the shape (N, C, H, W), got {tuple(images.shape)}")
    if not images.numel():
        raise ValueError(f"{name} must not be empty, got the shape {tuple(images.shape)}")
    if channels is not None and images.shape[1] != channels:
        raise ValueError(f"{name} must have {channels} channel(s), got {images.shape[1]}")
    if not values:
        return
    low, high = (int(value) for value in images.aminmax())
    if low < 0 or high >= levels:
        hint = f"; quantize(images, {levels}, source_levels=…) makes fewer levels" if high >= levels else ""
        raise ValueError(f"{name} must hold values 0 … {levels - 1}, got {low} … {high}{hint}")


def check_labels(labels, count: int, classes: int, name: str = "labels", values: bool = True) -> None:
    """Label rows `(N, classes)` for a model with classes, None for one without. With `values`: that they sum to 1."""
    if classes == 0:
        if labels is not None:
            raise ValueError(f"{name} must be None, since this model has no classes, got {_described(labels)}")
        return
    if labels is None:
        raise ValueError(f"{name} must be float rows (N, {classes}), since this model has {classes} classes, got None")
    if not isinstance(labels, torch.Tensor):
        raise TypeError(f"{name} must be a torch tensor, got {_described(labels)}")
    if not labels.is_floating_point():
        fix = f"torch.nn.functional.one_hot(labels, {classes}).float() makes them from integer classes"
        raise TypeError(f"{name} must be float rows (N, {classes}), got {labels.dtype}; {fix}")
    if labels.ndim != 2 or labels.shape[1] != classes:
        raise ValueError(f"{name} must have the shape (N, {classes}), got {tuple(labels.shape)}")
    if len(labels) != count:
        raise ValueError(f"{name} must have one row per image: got {len(labels)} rows for {count} images")
    if not values:
        return
    if not torch.isfinite(labels).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    if labels.min() < 0:
        raise ValueError(f"{name} must not be negative, got {labels.min():g}")
    sums = labels.float().sum(1)
    if (sums - 1).abs().max() > max(1e-3, torch.finfo(labels.dtype).eps):  # half precision rounds thirds by more
        raise ValueError(f"{name} must sum to 1 in every row, got a sum of {sums[(sums - 1).abs().argmax()]:g}")


def check_module(model) -> None:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {_described(model)}")


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
    if classes < 2:
        raise ValueError(f"model must have classes to {wanted}, got {type(model).__name__} with classes={classes}")
    return classes


def check_logits(logits: torch.Tensor, images: torch.Tensor, levels: int) -> torch.Tensor:
    """The logits that a model returned for images, if they are `(N, levels, C, H, W)`."""
    wanted = (len(images), levels, *images.shape[1:])
    got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if got != wanted:
        raise ValueError(f"model must return logits (N, levels, C, H, W), here {wanted}, got {got}")
    return logits


def check_finite(values: torch.Tensor) -> None:
    """Nothing that a model computed may be NaN or infinite. (The look at it waits for a GPU.)

    Where -inf forbids a level, give the largest logit of each value: NaN and +inf reach it from any level, and -inf
    means that all levels are forbidden.
    """
    if not values.isfinite().all():
        fix = "its training diverged, or its precision overflows"
        raise ValueError(f"model must return finite logits, got NaN or infinity: {fix}")


def _described(value) -> str:
    return f"{type(value).__name__} {value!r}" if isinstance(value, str | int | float) else type(value).__name__
