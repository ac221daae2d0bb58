"""Hostile calls of the layers, models, samplers, likelihoods and tests of causality: each ends in one clear line."""

import math

import numpy as np
import pytest
import torch
from conftest import ConditionalToy, assert_clear, integers, one_hot
from torch import nn

from pixelcnn_helpers import (
    GatedBlock,
    GatedPixelCNN,
    HorizontalConv2d,
    MaskedConv2d,
    PixelCNN,
    ShortcutPixelCNN,
    VerticalConv2d,
    assert_causal,
    bits_per_dim,
    blind_spot,
    causal_mask,
    class_posterior,
    effective_receptive_field,
    guesses,
    incremental,
    marginal_bits_per_dim,
    naive_sample,
    nats,
    pixel_nats,
    receptive_field,
    sample,
    uniform_bits_per_dim,
)
from pixelcnn_helpers.models import AutoregressiveModel

NAN, INF = math.nan, math.inf


def sized(model, size=(4, 4)):
    model.size = size
    return model.eval()


def plain(**options):
    return sized(PixelCNN(**{"levels": 3, "features": 4, "layers": 2, "kernel_size": 3} | options))


def gated(**options):
    return sized(GatedPixelCNN(**{"levels": 3, "features": 4, "blocks": 2, "first_kernel_size": 3} | options))


class Own(nn.Module):
    """A model of somebody else, with whatever attributes and outputs."""

    def __init__(self, forward, channels=1, levels=3, **others):
        super().__init__()
        self.channels, self.levels, self.forward = channels, levels, forward
        for name, value in others.items():
            setattr(self, name, value)


def logits_of(value):
    """Logits of the right shape that are all one value."""
    return lambda images, labels=None: torch.full((len(images), 3, *images.shape[1:]), value)


def answers_to_the_right(images):
    """Each value is 1 where the next one, or the first after the last, is 0, and otherwise 0: it flips for ever."""
    nearer = images.roll(-1, 3) * 100.0 - 50
    return torch.stack([nearer, -nearer, torch.full_like(nearer, -100)], 1)


def nan_variance():
    model = plain()
    model.net[1].running_var[0] = NAN
    return model


def times(model, factor):
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(factor)
    return model


class OtherForward(GatedPixelCNN):
    def forward(self, images, labels=None):
        return -super().forward(images, labels)


class OtherLogits(PixelCNN):
    def logits(self, x, labels=None):
        return -super().logits(x)


class OtherBlock(GatedBlock):
    def forward(self, v, h, labels=None):
        v, h, gated = super().forward(v, h, labels)
        return v, -h, gated


def other_block():
    model = gated()
    model.blocks[0] = OtherBlock(4)
    return model


def rewired(model):
    """A forward that was written over in the object itself."""
    forward = model.forward
    model.forward = lambda images, labels=None: -forward(images)
    return model


UNSIZED = PixelCNN(levels=3, features=2, layers=1, kernel_size=3)
PLAIN, GATED, COND, COLOUR = plain(), gated(), gated(classes=3), plain(channels=3, features=6)
TOY = sized(ConditionalToy())
GOOD, ROWS, MASK = integers((2, 1, 4, 4), 3), one_hot([0, 1]), torch.ones(4, 4, dtype=torch.bool)
LAYER = MaskedConv2d("A", 1, 1, 3)
NO_LEVELS = nn.Linear(2, 2)
DIVERGED = ("model must return finite logits", "NaN or infinity", "training diverged")
LAYOUT = "model must return logits (N, levels, C, H, W)"
CACHED = ("model has no cached way", 'method="naive" or "guess"')

LAYERS = [
    ("mask, even kernel", lambda: causal_mask(4, "A"), ValueError, "kernel_size must be odd", "got 4"),
    ("mask, kernel 0", lambda: causal_mask(0, "A"), ValueError, "kernel_size must be at least 1, got 0"),
    ("mask, negative kernel", lambda: causal_mask(-3, "A"), ValueError, "kernel_size must be at least 1, got -3"),
    ("mask, float kernel", lambda: causal_mask(3.0, "A"), TypeError, "kernel_size must be an integer, got float 3.0"),
    ("mask, boolean kernel", lambda: causal_mask(True, "A"), TypeError, "kernel_size", "boolean True"),
    ("mask, boolean tensor", lambda: causal_mask(torch.tensor(True), "A"), TypeError, "kernel_size", "boolean"),
    ("mask, boolean array", lambda: causal_mask(np.True_, "A"), TypeError, "kernel_size must be an integer"),
    ("mask, kernel None", lambda: causal_mask(None, "A"), TypeError, "kernel_size must be an integer, got NoneType"),
    ("mask, kernel a pair", lambda: causal_mask((3, 3), "A"), TypeError, "kernel_size must be an integer, got tuple"),
    ("mask, kernel NaN", lambda: causal_mask(NAN, "A"), TypeError, "kernel_size must be an integer, got float nan"),
    ("mask, type C", lambda: causal_mask(3, "C"), ValueError, 'mask_type must be "A" or "B"', "'C'"),
    ("mask, type None", lambda: causal_mask(3, None), ValueError, 'mask_type must be "A" or "B"', "None"),
    ("mask, type a list", lambda: causal_mask(3, ["A"]), ValueError, 'mask_type must be "A" or "B"', "['A']"),
    ("mask, type an array", lambda: causal_mask(3, np.array(["A", "B"])), ValueError, 'mask_type must be "A" or "B"'),
    ("mask, no channels", lambda: causal_mask(3, "A", 0), ValueError, "in_channels must be at least 1, got 0"),
    ("mask, float channels", lambda: causal_mask(3, "A", 1, 2.0), TypeError, "out_channels must be an integer"),
    ("mask, no groups", lambda: causal_mask(3, "A", 3, 3, 0), ValueError, "groups must be at least 1, got 0"),
    ("mask, groups None", lambda: causal_mask(3, "A", 3, 3, None), TypeError, "groups must be an integer"),
    ("mask, uneven groups", lambda: causal_mask(3, "A", 3, 4, 3), ValueError, "out_channels must split evenly into 3"),
    ("masked, swapped", lambda: MaskedConv2d(1, 4, "A", 3), ValueError, 'mask_type must be "A" or "B", got 1'),
    ("masked, channels None", lambda: MaskedConv2d("A", None, 4, 3), TypeError, "in_channels must be an integer"),
    ("masked, dilation 0", lambda: MaskedConv2d("A", 1, 4, 3, dilation=0), ValueError, "dilation must be at least 1"),
    ("masked, dilation a pair", lambda: MaskedConv2d("A", 1, 4, 3, dilation=(1, 1)), TypeError, "dilation", "tuple"),
    ("masked, boolean dilation", lambda: MaskedConv2d("A", 1, 4, 3, dilation=True), TypeError, "dilation", "boolean"),
    ("masked, groups as in nn.Conv2d", lambda: MaskedConv2d("A", 1, 4, 3, 2), ValueError, "in_channels", "2 groups"),
    ("vertical, even kernel", lambda: VerticalConv2d(1, 4, 2), ValueError, "kernel_size must be odd"),
    ("vertical, empty", lambda: VerticalConv2d(1, 4, 1, True), ValueError, "kernel_size must be at least 3 in a first"),
    ("vertical, a mask type", lambda: VerticalConv2d(1, 4, 3, "A"), TypeError, "first must be True or False, got 'A'"),
    ("vertical, first None", lambda: VerticalConv2d(1, 4, 3, None), TypeError, "first must be True or False, got None"),
    ("vertical, no channels", lambda: VerticalConv2d(0, 4, 3), ValueError, "in_channels must be at least 1, got 0"),
    ("vertical, float channels", lambda: VerticalConv2d(1, 4.0, 3), TypeError, "out_channels must be an integer"),
    ("horizontal, a mask type", lambda: HorizontalConv2d(1, 4, 3, "B"), TypeError, "first must be True or False"),
    ("horizontal, first 1", lambda: HorizontalConv2d(1, 4, 3, 1), TypeError, "first must be True or False, got 1"),
    ("horizontal, kernel None", lambda: HorizontalConv2d(1, 4, None), TypeError, "kernel_size must be an integer"),
    ("horizontal, dilation 1.5", lambda: HorizontalConv2d(1, 4, 3, dilation=1.5), TypeError, "dilation", "float 1.5"),
    ("horizontal, uneven groups", lambda: HorizontalConv2d(3, 4, 3, groups=3), ValueError, "out_channels", "3 groups"),
    ("block, no features", lambda: GatedBlock(0), ValueError, "features must be at least 1, got 0"),
    ("block, features None", lambda: GatedBlock(None), TypeError, "features must be an integer, got NoneType"),
    ("block, classes -1", lambda: GatedBlock(4, classes=-1), ValueError, "classes must be at least 0, got -1"),
    ("block, classes None", lambda: GatedBlock(4, classes=None), TypeError, "classes must be an integer"),
    ("block, uneven groups", lambda: GatedBlock(4, groups=3), ValueError, "3 groups", "got 4"),
    ("block, dilation 0", lambda: GatedBlock(4, dilation=0), ValueError, "dilation must be at least 1, got 0"),
]

MODELS = [
    ("base, levels 1", lambda: AutoregressiveModel(1, 1), ValueError, "levels must be at least 2, got 1"),
    ("base, classes -1", lambda: AutoregressiveModel(1, 2, -1), ValueError, "classes must be at least 0, got -1"),
    ("base, channels None", lambda: AutoregressiveModel(None, 2), TypeError, "channels must be an integer"),
    ("plain, channels 0", lambda: PixelCNN(0), ValueError, "channels must be at least 1, got 0"),
    ("plain, channels None", lambda: PixelCNN(None), TypeError, "channels must be an integer, got NoneType"),
    ("plain, boolean channels", lambda: PixelCNN(True), TypeError, "channels must be an integer", "boolean True"),
    ("plain, levels 1", lambda: PixelCNN(levels=1), ValueError, "levels must be at least 2, got 1"),
    ("plain, levels 256.0", lambda: PixelCNN(levels=256.0), TypeError, "levels must be an integer, got float 256.0"),
    ("plain, levels '256'", lambda: PixelCNN(levels="256"), TypeError, "levels must be an integer, got str '256'"),
    ("plain, features 0", lambda: PixelCNN(features=0), ValueError, "features must be at least 1, got 0"),
    ("plain, features uneven", lambda: PixelCNN(3, features=64), ValueError, "features must split evenly among 3"),
    ("plain, features a list", lambda: PixelCNN(features=[64]), TypeError, "features must be an integer, got list"),
    ("plain, layers 0", lambda: PixelCNN(layers=0), ValueError, "layers must be at least 1, got 0"),
    ("plain, layers None", lambda: PixelCNN(layers=None), TypeError, "layers must be an integer"),
    ("plain, kernel 1", lambda: PixelCNN(kernel_size=1), ValueError, "kernel_size must be at least 3, got 1"),
    ("plain, kernel 2", lambda: PixelCNN(kernel_size=2), ValueError, "kernel_size must be odd"),
    ("plain, kernel a pair", lambda: PixelCNN(kernel_size=(7, 7)), TypeError, "kernel_size", "got tuple"),
    ("gated, levels NaN", lambda: GatedPixelCNN(levels=NAN), TypeError, "levels must be an integer, got float nan"),
    ("gated, features -1", lambda: GatedPixelCNN(features=-1), ValueError, "features must be at least 1, got -1"),
    ("gated, features uneven", lambda: GatedPixelCNN(3, features=64), ValueError, "features must split evenly"),
    ("gated, blocks 0", lambda: GatedPixelCNN(blocks=0), ValueError, "blocks must be at least 1, got 0"),
    ("gated, blocks None", lambda: GatedPixelCNN(blocks=None), TypeError, "blocks must be an integer"),
    ("gated, boolean blocks and one dilation", lambda: GatedPixelCNN(blocks=True, dilations=[1]), TypeError,
     "blocks must be an integer", "boolean True"),
    ("gated, float blocks and two dilations", lambda: GatedPixelCNN(blocks=2.0, dilations=[1, 1]), TypeError,
     "blocks must be an integer, got float 2.0"),
    ("gated, no blocks and no dilations", lambda: GatedPixelCNN(blocks=0, dilations=[]), ValueError,
     "blocks must be at least 1, got 0"),
    ("gated, too few dilations", lambda: GatedPixelCNN(dilations=[1]), ValueError, "one for each of the 8 blocks"),
    ("gated, a single dilation", lambda: GatedPixelCNN(dilations=2), ValueError, "one for each of the 8 blocks"),
    ("gated, a set of dilations", lambda: GatedPixelCNN(blocks=2, dilations={4, 1}), ValueError, "must be a sequence"),
    ("gated, dilations as text", lambda: GatedPixelCNN(blocks=2, dilations="12"), TypeError, "dilation", "str '1'"),
    ("gated, dilation NaN", lambda: GatedPixelCNN(blocks=2, dilations=[1, NAN]), TypeError, "dilation must be an int"),
    ("gated, even first kernel", lambda: GatedPixelCNN(first_kernel_size=4), ValueError, "kernel_size must be odd"),
    ("gated, first kernel 1", lambda: GatedPixelCNN(first_kernel_size=1), ValueError, "kernel_size must be at least 3"),
    ("gated, classes 1.5", lambda: GatedPixelCNN(classes=1.5), TypeError, "classes must be an integer, got float 1.5"),
    ("gated, classes None", lambda: GatedPixelCNN(classes=None), TypeError, "classes must be an integer"),
    ("shortcut, blocks 0", lambda: ShortcutPixelCNN(blocks=0), ValueError, "blocks must be at least 1, got 0"),
    ("shortcut, dropout 1", lambda: ShortcutPixelCNN(dropout=1), ValueError, "dropout must be below 1, got 1"),
    ("shortcut, dropout NaN", lambda: ShortcutPixelCNN(dropout=NAN), ValueError, "dropout must be finite"),
    ("model, images None", lambda: PLAIN(None), TypeError, "images must be a torch tensor, got NoneType"),
    ("model, float images", lambda: PLAIN(GOOD.float()), TypeError, "images must hold integers 0 … 2"),
    ("model, labels it has not", lambda: PLAIN(GOOD, ROWS), ValueError, "labels must be None"),
    ("model, labels missing", lambda: COND(GOOD), ValueError, "labels must be float rows (N, 3)"),
    ("model, label NaN", lambda: COND(GOOD, ROWS * NAN), ValueError, "labels must be finite"),
]

SAMPLING = [
    ("sample, model None", lambda: sample(None), TypeError, "model must be a torch.nn.Module, got NoneType"),
    ("sample, model a name", lambda: sample("gated-mnist"), TypeError, "model must be a torch.nn.Module", "gated"),
    ("sample, model a list", lambda: sample([PLAIN]), TypeError, "model must be a torch.nn.Module, got list"),
    ("sample, model a class", lambda: sample(PixelCNN), TypeError, "model must be a torch.nn.Module, got type"),
    ("sample, no levels", lambda: sample(NO_LEVELS), TypeError, "carries no channels and no levels"),
    ("sample, levels None", lambda: sample(Own(logits_of(0.0), levels=None), size=(2, 2)), TypeError,
     "model.levels must be an integer, got NoneType"),
    ("sample, levels 3.0", lambda: naive_sample(Own(logits_of(0.0), levels=3.0), size=(2, 2)), TypeError,
     "model.levels must be an integer, got float 3.0"),
    ("sample, channels '1'", lambda: naive_sample(Own(logits_of(0.0), channels="1"), size=(2, 2)), TypeError,
     "model.channels must be an integer, got str '1'"),
    ("sample, classes None", lambda: naive_sample(Own(logits_of(0.0), classes=None), size=(2, 2)), TypeError,
     "model.classes must be an integer, got NoneType"),
    ("sample, no size", lambda: sample(UNSIZED), ValueError, "size must be a pair (height, width), got None"),
    ("sample, size of the model a number", lambda: sample(sized(plain(), 4)), ValueError, "size must be a pair"),
    ("sample, size 0", lambda: sample(PLAIN, size=(0, 3)), ValueError, "size[0] must be at least 1, got 0"),
    ("sample, size -1", lambda: sample(PLAIN, size=(3, -1)), ValueError, "size[1] must be at least 1, got -1"),
    ("sample, size None", lambda: sample(PLAIN, size=(None, 3)), TypeError, "size[0] must be an integer"),
    ("sample, size 3.0", lambda: sample(PLAIN, size=(3, 3.0)), TypeError, "size[1] must be an integer"),
    ("sample, size of one", lambda: sample(PLAIN, size=(3,)), ValueError, "size must be a pair"),
    ("sample, size of three", lambda: sample(PLAIN, size=(1, 3, 3)), ValueError, "size must be a pair"),
    ("sample, size a number", lambda: sample(PLAIN, size=3), ValueError, "size must be a pair", "got 3"),
    ("sample, size a set", lambda: sample(PLAIN, size={3, 4}), ValueError, "size must be a pair"),
    ("sample, size booleans", lambda: sample(PLAIN, size=(True, 3)), TypeError, "size[0]", "boolean True"),
    ("sample, n 0", lambda: sample(PLAIN, 0), ValueError, "n must be at least 1, got 0"),
    ("sample, n -2", lambda: sample(PLAIN, -2), ValueError, "n must be at least 1, got -2"),
    ("sample, n 2.0", lambda: sample(PLAIN, 2.0), TypeError, "n must be an integer, got float 2.0"),
    ("sample, n True", lambda: sample(PLAIN, True), TypeError, "n must be an integer", "boolean True"),
    ("sample, n a boolean tensor", lambda: sample(PLAIN, torch.tensor(True)), TypeError, "n must be an integer"),
    ("sample, n '2'", lambda: sample(PLAIN, "2"), TypeError, "n must be an integer, got str '2'"),
    ("sample, n a size", lambda: sample(PLAIN, (4, 4)), TypeError, "n must be an integer, got tuple"),
    ("sample, n beyond all seeds", lambda: sample(PLAIN, 2**40), ValueError, "seed must be below 2**32"),
    ("sample, seed -1", lambda: sample(PLAIN, seed=-1), ValueError, "seed must be at least 0, got -1"),
    ("sample, seed 1.5", lambda: sample(PLAIN, seed=1.5), TypeError, "seed must be an integer, got float 1.5"),
    ("sample, seed None", lambda: sample(PLAIN, seed=None), TypeError, "seed must be an integer, got NoneType"),
    ("sample, seed True", lambda: sample(PLAIN, seed=True), TypeError, "seed must be an integer", "boolean True"),
    ("sample, seed '12'", lambda: sample(PLAIN, seed="12"), TypeError, "seed must be an integer, got str '12'"),
    ("sample, seed bytes", lambda: sample(PLAIN, seed=b"12"), TypeError, "seed must be an integer, got bytes"),
    ("sample, seed a set", lambda: sample(PLAIN, seed={3, 1}), TypeError, "seed must be an integer, got set"),
    ("sample, seed a dict", lambda: sample(PLAIN, seed={3: 1}), TypeError, "seed must be an integer, got dict"),
    ("sample, seed a generator", lambda: sample(PLAIN, seed=torch.Generator()), TypeError, "seed", "got Generator"),
    ("sample, seed huge", lambda: sample(PLAIN, seed=2**32), ValueError, "seed must be below 2**32"),
    ("sample, last seed huge", lambda: sample(PLAIN, 2, seed=2**32 - 1), ValueError, "seed must be below 2**32"),
    ("sample, seed 10**30", lambda: sample(PLAIN, seed=10**30), ValueError, "seed must be below 2**32"),
    ("sample, no seeds", lambda: sample(PLAIN, seed=[]), ValueError, "seed must hold one seed per image"),
    ("sample, seeds too few", lambda: sample(PLAIN, 3, seed=[1, 2]), ValueError, "2 seeds for 3 images"),
    ("sample, negative seed", lambda: sample(PLAIN, seed=[1, -2]), ValueError, "seed[1] must be at least 0, got -2"),
    ("sample, float seeds", lambda: sample(PLAIN, seed=np.array([1.0])), TypeError, "seed[0] must be an integer"),
    ("sample, seeds of two dimensions", lambda: sample(PLAIN, seed=torch.ones(2, 2).long()), TypeError, "seed[0]"),
    ("sample, boolean seeds", lambda: sample(PLAIN, seed=torch.tensor([True, False])), TypeError, "seed[0]", "boolean"),
    ("sample, temperature -1", lambda: sample(PLAIN, temperature=-1), ValueError, "temperature must be finite and at"),
    ("sample, temperature NaN", lambda: sample(PLAIN, temperature=NAN), ValueError, "temperature must be finite"),
    ("sample, temperature inf", lambda: sample(PLAIN, temperature=INF), ValueError, "temperature must be finite"),
    ("sample, temperature 10**400", lambda: sample(PLAIN, temperature=10**400), ValueError, "temperature must be fin"),
    ("sample, temperature None", lambda: sample(PLAIN, temperature=None), TypeError, "temperature must be a number"),
    ("sample, temperature True", lambda: sample(PLAIN, temperature=True), TypeError, "temperature must be a number"),
    ("sample, temperature '1'", lambda: sample(PLAIN, temperature="1"), TypeError, "temperature must be a number"),
    ("sample, temperature complex", lambda: sample(PLAIN, temperature=1j), TypeError, "temperature must be a number"),
    ("sample, temperature a tensor", lambda: sample(PLAIN, temperature=torch.ones(2)), TypeError, "temperature", "T"),
    ("sample, method None", lambda: sample(PLAIN, method=None), ValueError, "method must be one of 'cached'", "None"),
    ("sample, method 'fast'", lambda: sample(PLAIN, method="fast"), ValueError, "method must be one of", "'fast'"),
    ("sample, method a list", lambda: sample(PLAIN, method=["naive"]), ValueError, "method must be one of"),
    ("sample, start and cached", lambda: sample(PLAIN, start=GOOD), ValueError, "start must be None, except with"),
    ("sample, start a list", lambda: sample(PLAIN, method="guess", start=[1]), TypeError, "start must be a torch ten"),
    ("sample, start float", lambda: sample(PLAIN, 2, method="guess", start=GOOD / 2), TypeError, "start must hold int"),
    ("sample, start too bright", lambda: sample(PLAIN, 2, method="guess", start=GOOD + 1), ValueError, "start", "1 …"),
    ("sample, start of one", lambda: sample(PLAIN, method="guess", start=GOOD), ValueError, "start must have the"),
    ("sample, labels it has not", lambda: sample(PLAIN, labels=ROWS), ValueError, "labels must be None"),
    ("sample, labels missing", lambda: sample(COND), ValueError, "labels must be float rows (N, 3)", "got None"),
    ("sample, labels a class", lambda: sample(COND, labels=3), TypeError, "labels must be a torch tensor, got int 3"),
    ("sample, labels a list", lambda: sample(COND, labels=[[1.0, 0, 0]]), TypeError, "labels must be a torch tensor"),
    ("sample, labels an array", lambda: sample(COND, labels=np.eye(3)), TypeError, "labels must be a torch tensor"),
    ("sample, labels integers", lambda: sample(COND, labels=torch.tensor([1])), TypeError, "labels", "one_hot"),
    ("sample, labels booleans", lambda: sample(COND, labels=ROWS > 0), TypeError, "labels must be float rows"),
    ("sample, labels complex", lambda: sample(COND, labels=ROWS + 0j), TypeError, "labels must be float rows"),
    ("sample, label a single row", lambda: sample(COND, labels=ROWS[0]), ValueError, "labels must have the shape"),
    ("sample, labels of 4 classes", lambda: sample(COND, labels=one_hot([1], 4)), ValueError, "labels must have the s"),
    ("sample, no label rows", lambda: sample(COND, labels=ROWS[:0]), ValueError, "labels must have one row per image"),
    ("sample, labels NaN", lambda: sample(COND, labels=ROWS * NAN), ValueError, "labels must be finite"),
    ("sample, labels infinite", lambda: sample(COND, labels=ROWS * INF), ValueError, "labels must be finite"),
    ("sample, labels negative", lambda: sample(COND, labels=1 - 2 * ROWS), ValueError, "labels must not be negative"),
    ("sample, labels sum to 2", lambda: sample(COND, labels=ROWS * 2), ValueError, "labels must sum to 1"),
    ("sample, labels of another count", lambda: sample(COND, 3, labels=ROWS), ValueError, "n=3 and 2 rows"),
    ("sample, known a tensor", lambda: sample(PLAIN, known=GOOD[:1]), ValueError, "known must be a pair"),
    ("sample, known without a mask", lambda: sample(PLAIN, known=(GOOD, None)), TypeError, "known[1] must be a bool"),
    ("sample, known without images", lambda: sample(PLAIN, known=(None, MASK)), TypeError, "known[0] must be a torch"),
    ("sample, known an array", lambda: sample(PLAIN, known=(GOOD.numpy(), MASK)), TypeError, "known[0] must be a tor"),
    ("sample, known float", lambda: sample(PLAIN, known=(GOOD.float(), MASK)), TypeError, "known[0] must hold int"),
    ("sample, known too bright", lambda: sample(PLAIN, known=(GOOD + 1, MASK)), ValueError, "known[0]", "0 … 2"),
    ("sample, known colour", lambda: sample(PLAIN, known=(GOOD.expand(2, 3, 4, 4), MASK)), ValueError, "1 channel(s)"),
    ("sample, mask of integers", lambda: sample(PLAIN, known=(GOOD, MASK.int())), TypeError, "known[1] must be a boo"),
    ("sample, mask a list", lambda: sample(PLAIN, known=(GOOD, [[True]])), TypeError, "known[1] must be a boolean"),
    ("sample, mask of 3 rows", lambda: sample(PLAIN, known=(GOOD, MASK[:3])), ValueError, "known must fit the images"),
    ("sample, known of another count", lambda: sample(PLAIN, 3, known=(GOOD, MASK)), ValueError, "known must fit"),
    ("sample, known of another size", lambda: sample(PLAIN, size=(5, 5), known=(GOOD, MASK)), ValueError, "known must"),
    ("sample, logits a tuple", lambda: naive_sample(Own(lambda x: (x, x)), size=(2, 2)), ValueError, LAYOUT, "tuple"),
    ("sample, logits None", lambda: naive_sample(Own(lambda x: None), size=(2, 2)), ValueError, LAYOUT, "NoneType"),
    ("sample, logits flat", lambda: naive_sample(Own(lambda x: x / 2), size=(2, 2)), ValueError, LAYOUT, "(1, 1, 2"),
    ("sample, a leak", lambda: sample(Own(answers_to_the_right), size=(1, 3), method="guess"), ValueError,
     "model did not settle", "assert_causal"),
    ("sample, unknown to the cached way", lambda: sample(TOY, labels=ROWS), TypeError, *CACHED, "ConditionalToy"),
    ("sample, a subclass with another forward", lambda: sample(sized(OtherForward(blocks=1))), TypeError, *CACHED,
     "forward is not that of GatedPixelCNN", "@incremental.register(OtherForward)"),
    ("sample, a subclass with other logits", lambda: sample(sized(OtherLogits(layers=1))), TypeError, *CACHED,
     "logits is not that of PixelCNN", "@incremental.register(OtherLogits)"),
    ("sample, a block with another forward", lambda: sample(other_block()), TypeError, *CACHED,
     "forward is not that of GatedBlock", "@incremental.register(OtherBlock)"),
    ("sample, a forward written over", lambda: sample(rewired(gated())), TypeError, *CACHED, "forward"),
    ("sample, another activation", lambda: sample(tanh_for_relu()), TypeError, *CACHED, "Tanh"),
    ("guesses, n 0", lambda: list(guesses(PLAIN, 0)), ValueError, "n must be at least 1, got 0"),
    ("guesses, model None", lambda: list(guesses(None)), TypeError, "model must be a torch.nn.Module"),
    ("guesses, start None of known", lambda: list(guesses(PLAIN, known=None, start=GOOD)), ValueError, "start"),
    ("guesses, temperature NaN", lambda: list(guesses(PLAIN, temperature=NAN)), ValueError, "temperature"),
    ("naive_sample, labels NaN", lambda: naive_sample(COND, labels=ROWS * NAN), ValueError, "labels must be finite"),
    ("naive_sample, seed -1", lambda: naive_sample(PLAIN, seed=-1), ValueError, "seed must be at least 0"),
    ("incremental, model None", lambda: incremental(None, None, 1, (3, 3)), TypeError, *CACHED, "NoneType"),
    ("incremental, a class", lambda: incremental(PixelCNN, None, 1, (3, 3)), TypeError, *CACHED, "type"),
    ("incremental, unknown", lambda: incremental(nn.ReLU(), None, 1, (3, 3)), TypeError, *CACHED, "ReLU"),
    ("incremental, n 0", lambda: incremental(PLAIN, None, 0, (3, 3)), ValueError, "n must be at least 1, got 0"),
    ("incremental, n None", lambda: incremental(PLAIN, None, None, (3, 3)), TypeError, "n must be an integer"),
    ("incremental, size 3", lambda: incremental(PLAIN, None, 1, 3), ValueError, "size must be a pair"),
    ("incremental, size None", lambda: incremental(PLAIN, None, 1, None), ValueError, "size must be a pair"),
    ("incremental, labels missing", lambda: incremental(COND, None, 2, (3, 3)), ValueError, "labels must be float row"),
    ("incremental, labels it has not", lambda: incremental(GATED, ROWS, 2, (3, 3)), ValueError, "labels must be None"),
    ("incremental, labels of another count", lambda: incremental(COND, ROWS, 3, (3, 3)), ValueError, "labels must ha"),
    ("incremental, labels integers", lambda: incremental(COND, ROWS.long(), 2, (3, 3)), TypeError, "labels must be fl"),
    ("incremental, a subclass", lambda: incremental(OtherLogits(layers=1), None, 1, (3, 3)), TypeError, *CACHED),
]  # fmt: skip

LIKELIHOODS = [
    ("nats, model None", lambda: nats(None, GOOD), TypeError, "model must be a torch.nn.Module, got NoneType"),
    ("nats, no levels", lambda: nats(NO_LEVELS, GOOD), TypeError, "model cannot weigh images", "no channels"),
    ("nats, levels '3'", lambda: nats(Own(logits_of(0.0), levels="3"), GOOD), TypeError, "model.levels must be an int"),
    ("nats, images None", lambda: nats(PLAIN, None), TypeError, "images must be a torch tensor, got NoneType"),
    ("nats, images a list", lambda: nats(PLAIN, GOOD.tolist()), TypeError, "images must be a torch tensor, got list"),
    ("nats, images an array", lambda: nats(PLAIN, GOOD.numpy()), TypeError, "images must be a torch tensor"),
    ("nats, images float", lambda: nats(PLAIN, GOOD.float()), TypeError, "images must hold integers 0 … 2"),
    ("nats, images boolean", lambda: nats(PLAIN, GOOD > 0), TypeError, "images must hold integers 0 … 2"),
    ("nats, images NaN", lambda: nats(PLAIN, GOOD * NAN), TypeError, "images must hold integers 0 … 2"),
    ("nats, images of three dimensions", lambda: nats(PLAIN, GOOD[0]), ValueError, "images must have the shape"),
    ("nats, no images", lambda: nats(PLAIN, GOOD[:0]), ValueError, "images must not be empty"),
    ("nats, no pixels", lambda: nats(PLAIN, GOOD[..., :0]), ValueError, "images must not be empty"),
    ("nats, images in colour", lambda: nats(PLAIN, GOOD.expand(2, 3, 4, 4)), ValueError, "images must have 1 channel"),
    ("nats, images too bright", lambda: nats(PLAIN, GOOD + 1), ValueError, "images must hold values 0 … 2", "quantize"),
    ("nats, images negative", lambda: nats(PLAIN, GOOD - 1), ValueError, "images must hold values 0 … 2", "-1"),
    ("nats, labels it has not", lambda: nats(PLAIN, GOOD, ROWS), ValueError, "labels must be None"),
    ("nats, labels missing", lambda: nats(COND, GOOD), ValueError, "labels must be float rows (N, 3)"),
    ("nats, labels of another count", lambda: nats(COND, GOOD, ROWS[:1]), ValueError, "1 rows for 2 images"),
    ("nats, labels NaN", lambda: nats(COND, GOOD, ROWS * NAN), ValueError, "labels must be finite"),
    ("nats, labels integers", lambda: nats(COND, GOOD, ROWS.long()), TypeError, "labels must be float rows"),
    ("nats, batch size 0", lambda: nats(PLAIN, GOOD, batch_size=0), ValueError, "batch_size must be at least 1, got 0"),
    ("nats, batch size 2.5", lambda: nats(PLAIN, GOOD, batch_size=2.5), TypeError, "batch_size must be an integer"),
    ("nats, batch size True", lambda: nats(PLAIN, GOOD, batch_size=True), TypeError, "batch_size", "boolean True"),
    ("nats, batch size as labels", lambda: nats(PLAIN, GOOD, 16), ValueError, "labels must be None", "int 16"),
    ("nats, logits a tuple", lambda: nats(Own(lambda x: (x,)), GOOD), ValueError, LAYOUT, "got tuple"),
    ("nats, logits flat", lambda: nats(Own(lambda x: x / 2), GOOD), ValueError, LAYOUT, "(2, 1, 4, 4)"),
    ("pixel_nats, images float", lambda: pixel_nats(PLAIN, GOOD.float()), TypeError, "images must hold integers"),
    ("pixel_nats, model a list", lambda: pixel_nats([PLAIN], GOOD), TypeError, "model must be a torch.nn.Module"),
    ("pixel_nats, batch size -1", lambda: pixel_nats(PLAIN, GOOD, None, -1), ValueError, "batch_size must be at least"),
    ("bits_per_dim, images None", lambda: bits_per_dim(PLAIN, None), TypeError, "images must be a torch tensor"),
    ("bits_per_dim, no images", lambda: bits_per_dim(PLAIN, GOOD[:0]), ValueError, "images must not be empty"),
    ("bits_per_dim, labels sum to 2", lambda: bits_per_dim(COND, GOOD, ROWS * 2), ValueError, "labels must sum to 1"),
    ("posterior, images None", lambda: class_posterior(COND, None), TypeError, "images must be a torch tensor"),
    ("posterior, images a list", lambda: class_posterior(COND, [1]), TypeError, "images must be a torch tensor"),
    ("posterior, images a number", lambda: class_posterior(COND, 5), TypeError, "images must be a torch tensor"),
    ("posterior, images of no dimension", lambda: class_posterior(COND, torch.tensor(1)), ValueError, "images must"),
    ("posterior, no images", lambda: class_posterior(COND, GOOD[:0]), ValueError, "images must not be empty"),
    ("posterior, no classes", lambda: class_posterior(PLAIN, GOOD), ValueError, "model must have classes to choose"),
    ("posterior, model None", lambda: class_posterior(None, GOOD), TypeError, "model must be a torch.nn.Module"),
    ("posterior, classes '3'", lambda: class_posterior(Own(logits_of(0.0), classes="3"), GOOD), TypeError,
     "model.classes must be an integer, got str '3'"),
    ("posterior, labels as batch size", lambda: class_posterior(COND, GOOD, ROWS), TypeError, "batch_size must be an"),
    ("posterior, impossible images", lambda: class_posterior(forbidding(0, classes=3), GOOD), ValueError,
     "images must be possible under some class"),
    ("uniform, levels 1", lambda: uniform_bits_per_dim(1), ValueError, "levels must be at least 2, got 1"),
    ("uniform, levels None", lambda: uniform_bits_per_dim(None), TypeError, "levels must be an integer, got NoneType"),
    ("uniform, levels 256.0", lambda: uniform_bits_per_dim(256.0), TypeError, "levels must be an integer"),
    ("uniform, levels NaN", lambda: uniform_bits_per_dim(NAN), TypeError, "levels must be an integer"),
    ("uniform, levels True", lambda: uniform_bits_per_dim(True), TypeError, "levels must be an integer", "boolean"),
    ("marginal, train None", lambda: marginal_bits_per_dim(None, GOOD, 3), TypeError, "train must be a torch tensor"),
    ("marginal, train float", lambda: marginal_bits_per_dim(GOOD / 2, GOOD, 3), TypeError, "train must hold integers"),
    ("marginal, no train", lambda: marginal_bits_per_dim(GOOD[:0], GOOD, 3), ValueError, "train must not be empty"),
    ("marginal, images None", lambda: marginal_bits_per_dim(GOOD, None, 3), TypeError, "images must be a torch tensor"),
    ("marginal, images too bright", lambda: marginal_bits_per_dim(GOOD, GOOD + 1, 3), ValueError, "images", "0 … 2"),
    ("marginal, other size", lambda: marginal_bits_per_dim(GOOD, GOOD[..., :3], 3), ValueError, "shape of train"),
    ("marginal, levels None", lambda: marginal_bits_per_dim(GOOD, GOOD, None), TypeError, "levels must be an integer"),
    ("marginal, levels 2", lambda: marginal_bits_per_dim(GOOD, GOOD, 2), ValueError, "train must hold values 0 … 1"),
]  # fmt: skip

CAUSALITY = [
    ("causal, model None", lambda: assert_causal(None), TypeError, "model must be a torch.nn.Module, got NoneType"),
    ("causal, a function", lambda: assert_causal(lambda x: x), TypeError, "model must be a torch.nn.Module"),
    ("causal, a list of layers", lambda: assert_causal([LAYER]), TypeError, "torch.nn.Module, got list"),
    ("causal, a layer", lambda: assert_causal(LAYER), TypeError, "model must map integer images to logits"),
    ("causal, channels 0", lambda: assert_causal(Own(logits_of(0.0), None, None), 0), ValueError, "channels must"),
    ("causal, channels '1'", lambda: assert_causal(PLAIN, "1"), TypeError, "channels must be an integer, got str '1'"),
    ("causal, channels True", lambda: assert_causal(PLAIN, True), TypeError, "channels", "boolean True"),
    ("causal, other channels", lambda: assert_causal(PLAIN, 3), ValueError, "channels and levels must be the model's"),
    ("causal, other levels", lambda: assert_causal(PLAIN, levels=4), ValueError, "channels and levels must be the mod"),
    ("causal, levels 1", lambda: assert_causal(PLAIN, levels=1), ValueError, "levels must be at least 2, got 1"),
    ("causal, levels 2.5", lambda: assert_causal(PLAIN, levels=2.5), TypeError, "levels must be an integer"),
    ("causal, size 7", lambda: assert_causal(PLAIN, size=7), ValueError, "size must be a pair", "got 7"),
    ("causal, size 0", lambda: assert_causal(PLAIN, size=(0, 3)), ValueError, "size[0] must be at least 1, got 0"),
    ("causal, size empty", lambda: assert_causal(PLAIN, size=()), ValueError, "size must be a pair"),
    ("causal, size of one pixel", lambda: assert_causal(PLAIN, size=(1, 1)), ValueError, "size must be larger"),
    ("causal, labels missing", lambda: assert_causal(COND), ValueError, "labels must be float rows (N, 3)"),
    ("causal, labels NaN", lambda: assert_causal(COND, labels=ROWS[:1] * NAN), ValueError, "labels must be finite"),
    ("causal, two labels", lambda: assert_causal(COND, labels=ROWS), ValueError, "2 rows for 1 images"),
    ("causal, labels it has not", lambda: assert_causal(PLAIN, labels=ROWS[:1]), ValueError, "labels must be None"),
    ("causal, logits a tuple", lambda: assert_causal(Own(lambda x: (x,))), ValueError, LAYOUT, "got tuple"),
    ("causal, logits flat", lambda: assert_causal(Own(lambda x: x[:, 0] / 2)), ValueError, LAYOUT, "(2, 7, 6)"),
    ("field, model None", lambda: receptive_field(None, 0, 0, (4, 4)), TypeError, "model must be a torch.nn.Module"),
    ("field, a list", lambda: receptive_field([LAYER], 0, 0, (4, 4)), TypeError, "model must be a torch.nn.Module"),
    ("field, no layers", lambda: receptive_field(nn.ReLU(), 0, 0, (4, 4)), TypeError, "a stack of layers", "ReLU"),
    ("field, row None", lambda: receptive_field(PLAIN, None, 0, (4, 4)), TypeError, "row must be an integer"),
    ("field, row -1", lambda: receptive_field(PLAIN, -1, 0, (4, 4)), ValueError, "row must be at least 0, got -1"),
    ("field, row outside", lambda: receptive_field(PLAIN, 4, 0, (4, 4)), ValueError, "must lie inside the size 4×4"),
    ("field, column 1.0", lambda: receptive_field(PLAIN, 0, 1.0, (4, 4)), TypeError, "col must be an integer"),
    ("field, column True", lambda: receptive_field(PLAIN, 0, True, (4, 4)), TypeError, "col", "boolean True"),
    ("field, size None", lambda: receptive_field(PLAIN, 0, 0, None), ValueError, "size must be a pair", "None"),
    ("field, size 0", lambda: receptive_field(PLAIN, 0, 0, (0, 4)), ValueError, "size[0] must be at least 1"),
    ("field, labels missing", lambda: receptive_field(COND, 0, 0, (4, 4)), ValueError, "labels must be float rows"),
    ("field, labels of layers", lambda: receptive_field(LAYER, 0, 0, (4, 4), ROWS), ValueError, "labels must be None"),
    ("field, a layer that shrinks", lambda: receptive_field(nn.Conv2d(1, 1, 3), 0, 0, (4, 4)), ValueError, "keep"),
    ("field, layers that flatten", lambda: receptive_field(nn.Sequential(LAYER, nn.Flatten(0)), 0, 0, (4, 4)),
     ValueError, "model must keep the size (4, 4)"),
    ("field, layers that return a tuple", lambda: receptive_field(nn.LSTM(4, 4), 0, 0, (4, 4)), TypeError,
     "a stack of layers", "LSTM"),
    ("field, own model of tuples", lambda: receptive_field(Own(lambda x: (x,)), 0, 0, (4, 4)), ValueError, LAYOUT),
    ("effective field, model None", lambda: effective_receptive_field(None, 0, 0, (4, 4)), TypeError, "model must be"),
    ("effective field, own model", lambda: effective_receptive_field(Own(logits_of(0.0)), 0, 0, (4, 4)), TypeError,
     "with scale and logits", "Own"),
    ("effective field, column outside", lambda: effective_receptive_field(PLAIN, 0, 9, (4, 4)), ValueError, "inside"),
    ("effective field, label NaN", lambda: effective_receptive_field(COND, 0, 0, (4, 4), ROWS[:1] * NAN), ValueError,
     "labels must be finite"),
    ("blind spot, model a number", lambda: blind_spot(5, 0, 0, (4, 4)), TypeError, "model must be a torch.nn.Module"),
    ("blind spot, model None", lambda: blind_spot(None, 0, 0, (4, 4)), TypeError, "model must be a torch.nn.Module"),
    ("blind spot, row '0'", lambda: blind_spot(PLAIN, "0", 0, (4, 4)), TypeError, "row must be an integer"),
    ("blind spot, size 4", lambda: blind_spot(PLAIN, 0, 0, 4), ValueError, "size must be a pair"),
    ("blind spot, labels missing", lambda: blind_spot(COND, 1, 1, (4, 4)), ValueError, "labels must be float rows"),
]  # fmt: skip


def tanh_for_relu():
    model = plain()
    model.net[2] = nn.Tanh()
    return model


def forbidding(level, **others):
    """A model for which one level is impossible, and the others equally likely."""

    def forward(images, labels=None):
        logits = torch.zeros(len(images), 3, *images.shape[1:])
        logits[:, level] = -INF
        return logits

    return Own(forward, **others)


DIVERGED_MODELS = {
    "NaN in a running variance": nan_variance,
    "NaN in a weight": lambda: times(plain(), NAN),
    "weights times 1e25": lambda: times(plain(), 1e25),
    "gated weights times 1e25": lambda: times(gated(), 1e25),
    "logits NaN": lambda: Own(logits_of(NAN)),
    "logits +inf": lambda: Own(logits_of(INF)),
    "all levels -inf": lambda: Own(logits_of(-INF)),
}
USES = {
    "naive": lambda model: naive_sample(model, size=(3, 3)),
    "cached": lambda model: sample(model, size=(3, 3)),
    "guess": lambda model: sample(model, size=(3, 3), method="guess"),
    "guesses": lambda model: list(guesses(model, size=(3, 3))),
    "nats": lambda model: nats(model, GOOD),
    "pixel_nats": lambda model: pixel_nats(model, GOOD),
    "bits_per_dim": lambda model: bits_per_dim(model, GOOD),
    "receptive_field": lambda model: receptive_field(model, 2, 2, (4, 4)),
    "effective_receptive_field": lambda model: effective_receptive_field(model, 2, 2, (4, 4)),
    "blind_spot": lambda model: blind_spot(model, 2, 2, (4, 4)),
}
DIVERGENCE = [
    (f"{use}, {name}", lambda make=make, call=call: call(make()), ValueError, *DIVERGED)
    for name, make in DIVERGED_MODELS.items()
    for use, call in USES.items()
    # a module of somebody else has no cached way and no gradient towards scaled images
    if isinstance(make(), AutoregressiveModel) or use not in ("cached", "effective_receptive_field")
] + [
    ("posterior, weights times 1e25", lambda: class_posterior(times(gated(classes=3), 1e25), GOOD), ValueError,
     *DIVERGED),
    ("causal, NaN in a running variance", lambda: assert_causal(nan_variance()), ValueError, *DIVERGED),
    ("causal, logits NaN", lambda: assert_causal(Own(logits_of(NAN))), ValueError, *DIVERGED),
]  # fmt: skip

TABLE = LAYERS + MODELS + SAMPLING + LIKELIHOODS + CAUSALITY + DIVERGENCE


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_hostile_call(row):
    _, call, error, *words = row
    assert_clear(call, error, *words)


def test_the_table_names_every_call_once():
    names = [row[0] for row in TABLE]
    assert len(set(names)) == len(names) > 250
