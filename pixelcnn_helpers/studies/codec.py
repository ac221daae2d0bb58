"""A lossless codec: a PixelCNN's probabilities and a range coder turn images into bytes and back.

A compressed file, its numbers little-endian:

    8 bytes     b"PIXELCNN"
    4 bytes     the length of the header
    header      JSON: what it takes to decode, and what the arithmetic ran on
    labels      zlib: a class for each image, or float32 rows, if the model has classes
    payload     the range coder's 32-bit words
    16 bytes    the beginning of the SHA-256 of all bytes before
"""

from __future__ import annotations

import copy
import hashlib
import json
import platform
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from itertools import product

import numpy as np
import torch

from ..caching import incremental
from ..checkpoint import digest
from ..checks import check_finite, check_images, check_labels, check_model, check_type, require
from ..models import evaluating

MAGIC, SUM = b"PIXELCNN", 16
BATCH = 64  # images that are coded together


def compress(model, images: torch.Tensor, labels: torch.Tensor | None = None) -> bytes:
    """Images as bytes, hardly more than their `nats` promise, which are 8·ln 2 nats to a byte.

    images: integers `(N, C, H, W)` in `0 … levels-1`. labels: float rows `(N, classes)` for a model with classes; the
    bytes hold them as well. Encoder and decoder must compute the same probabilities. So both go value by value, 64
    images at once, in float64, on the CPU, with one thread. What two machines compute then differs by some 1e-15, and
    the range coder rounds probabilities to 24 bits.
    Raises ValueError or TypeError for images or labels that do not fit the model, TypeError for a model without a
    cached way, ModuleNotFoundError without the package constriction.
    """
    channels, levels, classes = check_model(model, wanted="code images")
    check_images(images, levels, channels)
    check_labels(labels, len(images), classes)
    coder, category = _range_coder()
    encoder, values = coder.RangeEncoder(), images.cpu().int()

    def encode(place, probabilities):
        encoder.encode(values[place].numpy(), category, probabilities)
        return values[place].long()

    stored, one_hot = _stored(labels)
    _in_order(model, images.shape, BATCH, _restored(stored, len(images), classes, one_hot), encode)
    header = {
        "shape": list(images.shape), "levels": levels, "batch": BATCH, "labels": len(stored), "one_hot": one_hot,
        "images": digest(values), "model": digest(model.state_dict()), "machine": _machine(),
    }  # fmt: skip
    text = json.dumps(header, separators=(",", ":")).encode()
    words = encoder.get_compressed().astype("<u4").tobytes()
    data = MAGIC + len(text).to_bytes(4, "little") + text + stored + words
    return data + hashlib.sha256(data).digest()[:SUM]


def decompress(model, data: bytes) -> torch.Tensor:
    """The images that `compress` was given, int64 `(N, C, H, W)`, or an error: never others.

    Raises TypeError for what is no bytes. Raises ValueError for bytes that `compress` did not write, that were cut off
    or altered, or that another model wrote, and where this machine computes other probabilities than the one before.
    """
    _, _, classes = check_model(model, wanted="decode images")
    header, labels, words = _parts(data)
    found = digest(model.state_dict())
    require(header["model"] == found, "model", f"be the one that wrote these bytes, {header['model']}", found)
    coder, category = _range_coder()
    decoder = coder.RangeDecoder(np.frombuffer(words, "<u4").astype(np.uint32))
    images = torch.zeros(header["shape"], dtype=torch.long)

    def decode(place, probabilities):
        images[place] = torch.from_numpy(decoder.decode(category, probabilities).astype(np.int64))
        return images[place]

    rows = _restored(labels, len(images), classes, header["one_hot"])
    _in_order(model, images.shape, header["batch"], rows, decode)
    if digest(images.int()) != header["images"]:
        here = _machine()
        raise ValueError(f"data was written on {header['machine']} with other probabilities than {here} computes")
    return images


def _in_order(model, shape, batch: int, labels, code: Callable) -> None:
    """Go through images in the order of drawing, as many at once as `batch` says.

    `code(place, probabilities)` is given the index of the values, `(images, channel, row, col)`, with the probabilities
    of their levels, float64 `(n, levels)`, and returns the values, int64 `(n,)`.
    """
    count, channels, height, width = shape
    model = copy.deepcopy(model).cpu().double()
    with evaluating(model), torch.no_grad(), _one_thread():
        for first in range(0, count, batch):
            part = slice(first, min(first + batch, count))
            rows = None if labels is None else labels[part].double()
            way = incremental(model, rows, part.stop - first, (height, width))
            for row in range(height):
                way.row(row)
                for col, channel in product(range(width), range(channels)):
                    logits = way.pixel(col, channel).double()
                    check_finite(logits.amax(1))
                    values = code((part, channel, row, col), logits.softmax(1).numpy())
                    way.put(col, channel, values)


@contextmanager
def _one_thread():
    """Several threads add up in another order, and so differ in the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _range_coder():
    """constriction's range coder, and its distribution over levels, whose probabilities come with each value."""
    try:
        from constriction import stream
    except ModuleNotFoundError:
        raise ModuleNotFoundError("the codec needs the package constriction: pip install constriction") from None
    return stream.queue, stream.model.Categorical(perfect=False)


def _stored(labels: torch.Tensor | None) -> tuple[bytes, bool]:
    """Label rows as bytes, and whether each of them is a single class."""
    if labels is None:
        return b"", False
    rows = labels.cpu().float()
    one_hot = bool((rows.amax(1) == 1).all() and ((rows == 0) | (rows == 1)).all())
    values = rows.argmax(1).numpy().astype("<u4") if one_hot else rows.numpy().astype("<f4")
    return zlib.compress(values.tobytes(), 9), one_hot


def _restored(stored: bytes, count: int, classes: int, one_hot: bool) -> torch.Tensor | None:
    """The label rows, float32 `(count, classes)`."""
    if not classes:
        return None
    values = np.frombuffer(zlib.decompress(stored), "<u4" if one_hot else "<f4")
    if one_hot:
        return torch.nn.functional.one_hot(torch.from_numpy(values.astype(np.int64)), classes).float()
    return torch.from_numpy(values.astype(np.float32)).view(count, classes)


def _parts(data) -> tuple[dict, bytes, bytes]:
    """The header, the labels and the payload of a whole file."""
    check_type("data", data, bytes | bytearray | memoryview, "bytes")
    data = bytes(data)
    start = len(MAGIC) + 4
    require(data[: len(MAGIC)] == MAGIC, "data", "begin as compress writes it", repr(data[: len(MAGIC)]))
    whole = hashlib.sha256(data[:-SUM]).digest()[:SUM] == data[-SUM:]
    require(whole, "data", "be whole", f"{len(data)} bytes whose checksum differs: they were cut off or altered")
    end = start + int.from_bytes(data[len(MAGIC) : start], "little")
    header = json.loads(data[start:end])
    return header, data[end : end + header["labels"]], data[end + header["labels"] : -SUM]


def _machine() -> str:
    return f"{platform.machine()}, torch {torch.__version__}"
