"""Colour: images without a download, and networks that order the channels of a pixel wrongly or not at all."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from ..checks import check_images, check_int, require
from ..data import quantize
from ..likelihood import pixel_nats
from ..models import AutoregressiveModel, GatedPixelCNN, stores_config
from .datasets import Dataset

PHOTOS = ("china.jpg", "flower.jpg")
COLUMNS = {"train": ((0, 120), (200, 264)), "validation": ((272, 320),), "test": ((128, 192),)}  # of 320
TRAIN, VALIDATION = 7500, 500  # patches


def load_photo_patches(size: int = 16, levels: int = 8, seed: int = 0) -> Dataset:
    """Patches of the two photographs that scikit-learn carries, a palace and a flower: no download, no network.

    Each photograph is halved to 213×320 pixels, so that a patch shows more than texture, and cut into parts by column,
    with strips of eight columns between them that nobody sees:

        0 … 119 training | 128 … 191 test | 200 … 263 training | 272 … 319 validation

    The test patches tile their part, row by row. The 8,000 training patches lie at random places; the last 500 of them
    come from the validation part, so that they can be held out. Classes: the photograph, 0 or 1.
    size: of a patch, up to 48. levels: of each channel. seed: of the random places.
    Returns uint8 images `(N, 3, size, size)` with values `0 … levels-1`. Raises ValueError for sizes out of range.
    Source: china.jpg by danielbuechele, flower.jpg by vultilion, both under CC BY 2.0, from scikit-learn.
    """
    size, seed = check_int("size", size, 1), check_int("seed", seed, 0)
    require(size <= 48, "size", "be at most 48, the width of the narrowest part", size)
    generator = torch.Generator().manual_seed(seed)
    photos = [quantize(photo[None], levels)[0] for photo in photographs()]  # (3, H, W)
    train = []
    for part, count in (("train", TRAIN), ("validation", VALIDATION)):
        places = [patches(photo, COLUMNS[part], size, step=1) for photo in photos]  # one patch for each place
        chosen = [one[torch.randint(len(one), (count // len(photos),), generator=generator)] for one in places]
        train.append(torch.stack(chosen, 1).flatten(0, 1))  # the photographs take turns
    test = torch.cat([patches(photo, COLUMNS["test"], size, step=size) for photo in photos])
    train, photo = torch.cat(train), torch.arange(len(photos))
    classes = photo.repeat(len(train) // len(photos)), photo.repeat_interleave(len(test) // len(photos))
    return Dataset("patches of two photographs", levels, train, classes[0], test, classes[1])


def photographs() -> list[torch.Tensor]:
    """The two photographs, halved: uint8 `(3, 213, 320)`."""
    from sklearn.datasets import load_sample_image  # takes a second to import

    halved = [Image.fromarray(load_sample_image(name)).reduce(2) for name in PHOTOS]
    return [torch.from_numpy(np.array(photo)[:213]).permute(2, 0, 1).contiguous() for photo in halved]


def patches(photo: torch.Tensor, columns, size: int, step: int) -> torch.Tensor:
    """All patches `(N, C, size, size)` of some columns of a photograph `(C, H, W)`, row by row, `step` pixels apart."""
    parts = [photo[:, :, first:end].unfold(1, size, step).unfold(2, size, step) for first, end in columns]
    return torch.cat([part.flatten(1, 2).transpose(0, 1) for part in parts])


def relit(images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Each photograph's patch mirrored or not, brighter or darker by a quarter, and tinted by a twentieth, at random.

    images: integers `(N, C, H, W)` of 256 levels; returns the same type and shape.
    """
    check_images(images, 256)
    count, where = len(images), {"device": images.device, "generator": generator}
    mirrored = torch.rand(count, 1, 1, 1, **where) < 0.5
    gain = 0.75 + 0.5 * torch.rand(count, 1, 1, 1, **where)
    tint = 0.95 + 0.1 * torch.rand(count, images.shape[1], 1, 1, **where)
    shift = 40 * torch.rand(count, 1, 1, 1, **where) - 20
    images = torch.where(mirrored, images.flip(3), images)
    return (images * gain * tint + shift).round().clamp(0, 255).to(images.dtype)


def colour_digits(images, classes, levels: int = 8, seed: int = 0, source_levels: int = 256) -> torch.Tensor:
    """Grey digits in coloured ink on coloured paper, so that a wrong colour is visible.

    The class decides the hue of the paper, up to a small random shift: the ten hues lie evenly on the colour circle.
    The paper is pale. The ink has the opposite hue and is dark. A grey level mixes the two, in all channels alike.
    images: integers `(N, 1, H, W)` in `0 … source_levels-1`, 17 of the bundled digits, 256 of MNIST; classes: integers
    `(N,)` in 0 … 9. levels: of each channel. seed: of the shifts, one for each image.
    Returns uint8 `(N, 3, H, W)` with values `0 … levels-1`. Raises ValueError for values or classes out of range.
    """
    check_images(images, check_int("source_levels", source_levels, 2), 1)
    require(isinstance(classes, torch.Tensor), "classes", "be a tensor", type(classes).__name__, TypeError)
    require(classes.shape == images.shape[:1], "classes", f"have the shape ({len(images)},)", tuple(classes.shape))
    in_range = not classes.is_floating_point() and bool(((classes >= 0) & (classes < 10)).all())
    require(in_range, "classes", "be integers in 0 … 9", classes.unique().tolist())
    generator = torch.Generator().manual_seed(check_int("seed", seed, 0))
    shift = (torch.rand(len(images), generator=generator) - 0.5) * 0.06
    hues = (classes.cpu() / 10 + shift).tolist()
    paper, ink = (  # (N, 3, 1, 1)
        torch.tensor([colorsys.hsv_to_rgb(hue + turn, saturation, value) for hue in hues]).view(-1, 3, 1, 1)
        for turn, saturation, value in ((0, 0.4, 1), (0.5, 1, 0.55))
    )
    share = images.cpu() / (source_levels - 1)  # of ink, (N, 1, H, W)
    colours = torch.lerp(paper, ink, share)  # (N, 3, H, W)
    return quantize((colours * 255).round().to(torch.uint8), levels).to(images.device)


class SeparateChannels(AutoregressiveModel):
    """Three networks, one for each channel, blind to the other two. It draws and scores; the colours do not agree.

    features, blocks and further options: of each `GatedPixelCNN`. The vectors of the levels are the same for all.
    """

    @stores_config
    def __init__(self, channels=3, levels=8, embedding=8, **options):
        super().__init__(channels, levels, embedding=embedding)
        self.networks = nn.ModuleList(headless(levels, embedding, **options) for _ in range(channels))

    def logits(self, x, labels=None):
        parts = x.chunk(self.channels, 1)  # C of (N, embedding, H, W)
        return torch.cat([network.logits(part) for network, part in zip(self.networks, parts, strict=True)], 2)


class BlindToOwnPixel(AutoregressiveModel):
    """One network that sees all channels of the earlier pixels, and none of its own: no order within a pixel.

    Options as for `GatedPixelCNN`, which is built for one channel: without groups, each logit sees all that any sees.
    """

    @stores_config
    def __init__(self, channels=3, levels=8, embedding=8, **options):
        super().__init__(channels, levels, embedding=embedding)
        self.network = headless(channels * levels, channels * embedding, **options)

    def logits(self, x, labels=None):
        return self.split_levels(self.network.logits(x)[:, :, 0])  # (N, C·levels, H, W) -> (N, levels, C, H, W)


def headless(levels: int, inputs: int, **options) -> GatedPixelCNN:
    """A one-channel network that is given vectors of `inputs` numbers at each pixel, in place of its own."""
    network = GatedPixelCNN(levels=levels, embedding=inputs, **options)
    network.embedding = nn.Identity()
    return network


def without_group_mask(model: GatedPixelCNN) -> GatedPixelCNN:
    """The wrong network, in place: its 1×1 convolution `hidden` mixes the colours of a pixel, so red sees its blue."""
    model.hidden.mask.fill_(1)
    return model


def channel_bits(model, images: torch.Tensor, labels=None) -> torch.Tensor:
    """Bits of each channel, the mean over the pixels of an image: float32 `(N, C)`."""
    return pixel_nats(model, images, labels).mean((2, 3)) / math.log(2)


class LogisticMixture(nn.Module):
    """A head for many levels: the parameters of a few logistic distributions, and the probability of each level.

    Three numbers for each of `mixtures`: its weight, its mean and the logarithm of its scale, both on the scale
    -1 … 1 of the levels. A level has the probability that falls between the halfway marks to its neighbours; the lowest
    and the highest level also get what lies beyond them.
    `forward` maps features `(N, features, H, W)` to log-probabilities `(N, levels, H, W)`, which serve as logits.
    Source: Salimans et al. 2017, PixelCNN++, arXiv 1701.05517, section 2.1.
    """

    def __init__(self, features: int, levels: int, mixtures: int):
        super().__init__()
        self.levels = levels
        self.parameters_of = nn.Linear(features, 3 * mixtures)
        self.parameters_of.bias.data[mixtures : 2 * mixtures] = torch.linspace(-1, 1, mixtures + 2)[1:-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.parameters_of(x.movedim(1, -1)).float()  # (N, H, W, 3·K)
        weight, mean, scale = x.unflatten(-1, (3, -1)).unbind(-2)  # each (N, H, W, K)
        marks = (torch.arange(1, self.levels, device=x.device) - 0.5) * 2 / (self.levels - 1) - 1
        z = (marks[:, None] - mean[..., None, :]) * (-scale.clamp(min=-7))[..., None, :].exp()  # (N, H, W, levels-1, K)
        below = F.pad(z.sigmoid(), (0, 0, 1, 0))
        below = F.pad(below, (0, 0, 0, 1), value=1)  # of all that lies below each mark, 0 … 1
        shares = (below.diff(dim=-2) * weight.softmax(-1)[..., None, :]).sum(-1)  # (N, H, W, levels)
        return (shares + 1e-7).log().movedim(-1, 1)


def with_logistic_head(model: GatedPixelCNN, mixtures: int) -> GatedPixelCNN:
    """A one-channel network, in place, whose softmax head is replaced by a `LogisticMixture`."""
    model.head = LogisticMixture(model.features, model.levels, mixtures)
    return model
