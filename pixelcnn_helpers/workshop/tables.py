"""The README's tables of networks and of likelihoods, written from the cards: `python -m pixelcnn_helpers tables`."""

from __future__ import annotations

import math
from pathlib import Path

from ..checkpoint import write_atomically
from ..pretrained import load_pretrained
from ..studies.records import records_markdown

NETWORKS = {  # what each is, in the order of the table
    "conditional-mnist": "two stacks, 8 grey levels, ten classes",
    "between-mnist": "`conditional-mnist`, self-taught to draw between classes",
    "shortcut-mnist": "the blog's network, mended: 8 levels, ten classes",
    "neutral-mnist": "two stacks, 8 levels, no classes: it weighs what others drew",
    "background-mnist": "the same, on digits of which a fifth of the pixels is drawn anew",
    "pixelcnn-mnist": "the article's network, 256 grey levels",
    "gated-mnist": "two stacks, 256 grey levels",
    "gated-binary-mnist": "two stacks in black and white, pixels drawn as Bernoulli(x/255)",
    "colour-photos": "two stacks in colour, 8 levels of each channel, on two photographs",
    "vqvae-mnist": "an autoencoder: 28×28 pixels of 8 levels become 7×7 codes of 32",
    "codes-mnist": "two stacks over these codes, ten classes",
    "judge-mnist": "a plain convolutional classifier, which only ever judges samples",
    "teacher-mnist": "a residual classifier",
}


def write_tables(root: Path) -> None:
    """Replace both tables in README.md; each begins with its header, and ends at an empty line."""
    path = root / "README.md"
    text = path.read_text(encoding="utf-8")
    for table in (networks_markdown(), records_markdown()):
        begin = text.index(table.splitlines()[0])
        text = text[:begin] + table + text[text.index("\n\n", begin) :]
    write_atomically(path, text)


def networks_markdown() -> str:
    lines = ["| name | network | on the test images, MNIST's where nothing else is said |", "| --- | --- | --- |"]
    for name, what in NETWORKS.items():
        _, card = load_pretrained(name)
        lines.append(f"| `{name}` | {what} | {reached(card)} |")
    return "\n".join(lines)


def reached(card: dict) -> str:
    """What a card says under "test", in words."""
    test = card["test"]
    if "accuracy" in test:
        return f"{100 * test['accuracy']['8']:.2f} % right at 8 levels"
    if card["data"] == "photos":
        return f"{test['bits_per_dim']:.3f} bits/dim"
    if card["data"] == "mnist-codes":
        bayes = f"{100 * test['bayes_accuracy']:.1f} % right by Bayes' rule"
        most = math.log(card["config"]["levels"])
        return f"{test['nats_per_pixel']:.3f} nats per code of at most {most:.3f}; {bayes}"
    found = [f"{test['nats_per_pixel']:.4f} nats per pixel"]
    if "codes_used" in test:
        found[0] += ", given the codes"
    if card["config"].get("levels") == 256:
        found[0] += f", that is {test['bits_per_dim']:.3f} bits/dim"
    if card["drawn"]:
        found[0] += f", that is {test['nats_per_image']:.1f} nats"
    if "read_as_asked" in test:
        found.append(f"{100 * test['read_as_asked']:.1f} % of samples read as asked")
        found.append(f"{100 * test['bayes_accuracy']:.1f} % right by Bayes' rule")
    if "truly_between" in test:
        shares = test["truly_between"].values()
        found.append(f"at one half {100 * min(shares):.0f} to {100 * max(shares):.0f} % truly between")
    return "; ".join(found)
