"""`measure codec`: how short digits become, by networks and by the usual compressors."""

from __future__ import annotations

import bz2
import io
import lzma
import math
import statistics
import time
import zlib
from functools import partial

import numpy as np
import torch
from PIL import Image

from ..data import load_mnist_sample, quantize
from ..likelihood import nats
from ..pretrained import load_pretrained
from ..studies.codec import BATCH, compress, decompress
from ..studies.datasets import bernoulli
from ..studies.scores import png
from .data import label_rows
from .resumable import Runs

NETWORKS = {
    2: ["gated-binary-mnist"], 8: ["neutral-mnist", "conditional-mnist"], 256: ["gated-mnist", "pixelcnn-mnist"]
}  # fmt: skip
ALONE = 20  # images that get a file of their own


def measure_codec() -> dict:
    """The 1,000 test digits of the sample that ships, at 2, 8 and 256 levels; two levels are drawn as Bernoulli(x/255).

    Each network's bytes are decoded again and compared.
    """
    images, classes = load_mnist_sample(train=False)
    runs, tables = Runs("codec"), {}
    for levels, names in NETWORKS.items():
        seen = bernoulli(images, torch.Generator().manual_seed(0)) if levels == 2 else quantize(images, levels)
        tables[str(levels)] = {
            "networks": {name: runs.result(name, partial(one_network, name, seen, classes)) for name in names},
            "others": {name: usual(name, seen, levels) for name in COMPRESSORS},
        }
    runs.remove()
    return {"images": len(images), "batch": BATCH, "levels": tables}


def one_network(name: str, images: torch.Tensor, classes: torch.Tensor) -> dict:
    """Bytes of all images in one file, mean bytes of a file of one image; what the nats promise; seconds."""
    model, _ = load_pretrained(name)
    labels = label_rows(model, classes)
    began = time.perf_counter()
    data = compress(model, images, labels)
    middle = time.perf_counter()
    if not torch.equal(decompress(model, data), images.long()):
        raise AssertionError(f"{name}: other images came back")
    ended = time.perf_counter()
    ones = (slice(i, i + 1) for i in range(min(ALONE, len(images))))
    alone = [len(compress(model, images[one], None if labels is None else labels[one])) for one in ones]
    print(f"{name}: {len(data) / len(images):.2f} bytes per image", flush=True)
    return {
        "bytes": len(data), "one_alone": statistics.mean(alone),
        "ideal": nats(model, images, labels).sum().item() / (8 * math.log(2)),
        "seconds": middle - began, "seconds_back": ended - middle,
    }  # fmt: skip


COMPRESSORS = {
    "zlib": partial(zlib.compress, level=9), "bz2": bz2.compress,
    "lzma": partial(lzma.compress, preset=6 | lzma.PRESET_EXTREME), "PNG": None, "WebP": None,
}  # fmt: skip


def usual(name: str, images: torch.Tensor, levels: int) -> dict:
    """Bytes by a usual compressor: the sum over images on their own, and all of them as one piece.

    One piece is the images after one another; for PNG and WebP a sheet, one image below the other. zlib, bz2 and lzma
    get a byte to a pixel, or as many pixels into a byte as fit, whichever comes out shorter.
    """
    sheet = images.flatten(0, 2)[None]  # (1, N·H, W)
    if name == "PNG":
        return {"alone": sum(len(png(image, levels)) for image in images), "together": len(png(sheet, levels))}
    if name == "WebP":
        return {"alone": sum(len(webp(image, levels)) for image in images), "together": len(webp(sheet, levels))}
    shortest = [
        min(len(COMPRESSORS[name](form)) for form in (one.numpy().tobytes(), in_few_bits(one, levels)))
        for one in (*images, images)
    ]
    return {"alone": sum(shortest[:-1]), "together": shortest[-1]}


def in_few_bits(images: torch.Tensor, levels: int) -> bytes:
    """Values of at most 2, 4 or 16 levels, eight, four or two to a byte; more levels stay a byte each."""
    values = images.numpy().reshape(-1).astype(np.uint8)
    bits = next(bits for bits in (1, 2, 4, 8) if levels <= 2**bits)
    if bits == 8:
        return values.tobytes()
    return np.packbits(np.unpackbits(values[:, None], axis=1)[:, 8 - bits :]).tobytes()


def webp(image: torch.Tensor, levels: int) -> bytes:
    """An image `(1, H, W)` as lossless WebP, in parts where it is higher than the format allows."""
    greys, parts = quantize(image[None], 256, levels)[0, 0].numpy(), []
    for top in range(0, len(greys), 16_380):
        buffer = io.BytesIO()
        part = Image.fromarray(greys[top : top + 16_380]).convert("RGB")
        part.save(buffer, "WEBP", lossless=True, quality=100, method=6)
        parts.append(buffer.getvalue())
    return b"".join(parts)
