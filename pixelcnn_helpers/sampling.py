"""Drawing images from a model, one value at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tqdm.auto import tqdm

from .checks import check_images, check_int, check_labels, check_logits, check_model, check_number, check_size
from .models import device_of, evaluating


@torch.no_grad()
def naive_sample(
    model, n=None, labels=None, size=None, *, seed=0, temperature=1.0, known=None, progress=False
) -> torch.Tensor:
    """Draw images the textbook way: one pass of the whole network for every value, in raster order, channels innermost.

    n: how many images; None takes the count of label rows, seeds or known images, else 1.
    labels: float rows `(n, classes)` for a model with classes. size: `(H, W)`, None takes the model's own.
    seed: image i has its own seed, `seed + i`, or `seed[i]` of a sequence, so it does not depend on the batch it is in.
    temperature: 1 draws from the model, less prefers likely levels, 0 always takes the likeliest.
    known: `(images, mask)`, integers `(n or 1, C, H, W)` and booleans that broadcast to them; values where the mask is
    true are kept. (An unknown value sees only the known ones before it in raster order.)

    Returns int64 images `(n, C, H, W)` on the model's device. The choice is Gumbel-max with noise drawn beforehand:
    `argmax(logits + temperature · noise)`.
    Raises ValueError or TypeError for arguments that do not fit the model or one another.
    """
    channels, levels, classes = check_model(model)
    given, mask = _known(known, channels, levels)
    seeds = _seeds(seed, n, labels, given)
    check_labels(labels, len(seeds), classes)
    size = _size(model, size, given)
    temperature = check_number("temperature", temperature)
    device = device_of(model)
    images, mask = (part.to(device) for part in _canvas(given, mask, (len(seeds), channels, *size)))
    rows = () if labels is None else (labels.to(device),)
    noise = gumbel_noise(seeds, levels, channels, size).to(device if device.type != "mps" else "cpu")

    with evaluating(model):
        for row in tqdm(range(size[0]), desc="sampling", unit="row", disable=not progress):
            for col in range(size[1]):
                for channel in range(channels):
                    if mask[:, channel, row, col].all():
                        continue
                    logits = check_logits(model(images, *rows), images, levels)[:, :, channel, row, col]  # (n, levels)
                    drawn = (logits + temperature * noise[:, :, channel, row, col].to(logits)).argmax(1)
                    images[:, channel, row, col] = torch.where(
                        mask[:, channel, row, col], images[:, channel, row, col], drawn
                    )
    return images


def gumbel_noise(seeds: Sequence[int], levels: int, channels: int, size: tuple[int, int]) -> torch.Tensor:
    """The noise behind each image, from its own seed: float64 `(N, levels, C, H, W)`, standard Gumbel, on the CPU.

    The level that maximises logit + noise is distributed as the softmax of the logits (Gumbel-max).
    """
    uniform = torch.stack([
        torch.rand(levels, channels, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for seed in seeds
    ])  # fmt: skip
    return -(-uniform.clamp_min_(1e-300).log()).log()


def _seeds(seed, n, labels, given) -> list[int]:
    """One seed per image, and with it the number of images."""
    many = hasattr(seed, "__len__") and not isinstance(seed, str) and getattr(seed, "ndim", 1) > 0
    rows = len(labels) if isinstance(labels, torch.Tensor) and labels.ndim > 0 else 0
    if n is None:
        n = rows or (len(seed) if many else 0) or (0 if given is None else len(given)) or 1
    n = check_int("n", n, 1)
    if rows not in (0, n):
        raise ValueError(f"n must match the rows of labels, got n={n} and {rows} rows")
    if not many:
        first = check_int("seed", seed, 0)
        return [first + i for i in range(n)]
    if len(seed) != n:
        raise ValueError(f"seed must hold one seed per image, got {len(seed)} seeds for {n} images")
    return [check_int(f"seed[{i}]", value, 0) for i, value in enumerate(seed)]


def _size(model, size, given) -> tuple[int, int]:
    if size is None:
        size = getattr(model, "size", None) if given is None else given.shape[-2:]
    if size is None:
        raise ValueError("size must be a pair (height, width), got None, and this model was not trained on any size")
    return check_size(size)


def _known(known, channels: int, levels: int):
    """The images and the mask of `known`, checked as far as they can be alone; None and None without it."""
    if known is None:
        return None, None
    try:
        given, mask = known
    except (TypeError, ValueError):
        raise ValueError(f"known must be a pair (images, mask), got {type(known).__name__}") from None
    check_images(given, levels, channels, name="known[0]")
    if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
        raise TypeError(f"known[1] must be a boolean mask, got {getattr(mask, 'dtype', type(mask).__name__)}")
    return given, mask


def _canvas(given, mask, shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Images to draw on and the boolean mask of values to keep, both `(n, C, H, W)`."""
    if given is None:
        return torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    try:
        kept = mask.cpu().expand(shape)
        return torch.where(kept, given.long().cpu().expand(shape), 0), kept
    except RuntimeError:
        got = f"images {tuple(given.shape)} and a mask {tuple(mask.shape)}"
        raise ValueError(f"known must fit the images to draw, {shape}, got {got}") from None
