"""Likelihoods of MNIST, ours beside others', with how each was obtained."""

from __future__ import annotations

import torch

from ..layers import HorizontalConv2d, MaskedConv2d
from ..pretrained import load_pretrained

COLUMNS = ("network", "pixels", "test images", "weights", "epochs", "trained on", "weights chosen on", "source")
FIXED, AFRESH, GREY = "binary, fixed file", "binary, drawn afresh", "256 levels"
UNKNOWN = "not stated"
OORD = "arXiv 1601.06759"
GENERATIVE = "pytorch-generative, README"
OTHERS = [
    ("PixelCNN", FIXED, "81.30 nats", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, OORD),
    ("PixelRNN (diagonal BiLSTM)", FIXED, "79.20 nats", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, OORD),
    ("PixelCNN", AFRESH, "81.45 nats", UNKNOWN, "457", UNKNOWN, "the test images", GENERATIVE),
    ("Gated PixelCNN", AFRESH, "81.50 nats", UNKNOWN, "457", UNKNOWN, "the test images", GENERATIVE),
    ("ImageGPT", AFRESH, "79.17 nats", UNKNOWN, "457", UNKNOWN, "the test images", GENERATIVE),
    ("PixelSNAIL", AFRESH, "78.61 nats", UNKNOWN, "457", UNKNOWN, "the test images", GENERATIVE),
    ("LMConv, mean of 8 orders", AFRESH, "77.56 nats", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, "LMConv, README"),
    ("Gated PixelCNN", GREY, "0.808 bits/dim", "852,160", "up to 150", "a GPU", "held-out images", "UvA no. 12"),
]
OURS = {"gated-binary-mnist": AFRESH, "gated-mnist": GREY, "pixelcnn-mnist": GREY}


def records() -> list[dict[str, str]]:
    """The table as rows, by pixels, the best first: each maps `COLUMNS` to text. Ours are read from their cards."""
    rows = [dict(zip(COLUMNS, other, strict=True)) for other in OTHERS]
    for name, pixels in OURS.items():
        model, card = load_pretrained(name)
        test = card["test"]
        reached = f"{test['bits_per_dim']:.3f} bits/dim" if pixels == GREY else f"{test['nats_per_image']:.2f} nats"
        machine = f"{card['seconds'] / 60:.0f} min, {card['hardware']}"
        values = (
            f"ours: {name}", pixels, reached, f"{live_weights(model):,}", str(card["epochs_trained"]), machine,
            f"{card['held_out']:,} held-out training images", "this package",
        )  # fmt: skip
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    order = [FIXED, AFRESH, GREY]
    return sorted(rows, key=lambda row: (order.index(row["pixels"]), float(row["test images"].split()[0])))


def records_markdown() -> str:
    """The table for the README."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(row.values() for row in records())]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@torch.no_grad()
def live_weights(model) -> int:
    """How many weights a network uses: all but those under the closed taps of its masks."""
    masked = [layer for layer in model.modules() if isinstance(layer, MaskedConv2d | HorizontalConv2d)]
    closed = sum(int((layer.mask == 0).sum()) for layer in masked if hasattr(layer, "mask"))
    return sum(weight.numel() for weight in model.parameters()) - closed
