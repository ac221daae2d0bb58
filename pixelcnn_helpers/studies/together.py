"""A PixelCNN together with other models: over the codes of a VQ-VAE, as decoder of learned classes, under a critic."""

from __future__ import annotations

import math

import torch
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn import functional as F

from ..checks import check_images, check_int, check_number, require
from ..models import GatedPixelCNN, evaluating, stores_config
from .relatives import check_multiples_of_four, conv_down, descend


class VQVAE(nn.Module):
    """An autoencoder whose code is a small image of integers: 28×28 pixels become 7×7 codes.

    The encoder gives a vector for each place, which is replaced by the nearest of `codes` learned vectors. Gradients
    pass that step as if it changed nothing (straight-through). The decoder gives logits of all pixels, independent
    given the codes. Images are integers `(N, 1, H, W)` in `0 … levels-1`; H and W are multiples of 4.
    `forward(images)` is the loss of each image in nats, `(N,)`: the pixels', plus how far vectors are from their codes.
    Source: van den Oord et al. 2017, Neural Discrete Representation Learning, arXiv 1711.00937, equation 3.
    """

    @stores_config
    def __init__(self, levels=8, codes=32, width=32, depth=8, commitment=0.25):
        super().__init__()
        self.levels, self.codes = check_int("levels", levels, 2), check_int("codes", codes, 2)
        self.commitment, self.classes = check_number("commitment", commitment), 0  # no labels
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(2 * width, depth, 1),
        )
        self.book = nn.Embedding(codes, depth)
        self.decoder = nn.Sequential(
            nn.Conv2d(depth, 2 * width, 3, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(width, levels, 4, 2, 1),
        )

    def vectors(self, images):
        """The encoder's vector at each place, `(N, depth, H/4, W/4)`."""
        return self.encoder(images.float() * (2 / (self.levels - 1)) - 1)

    def nearest(self, vectors):
        """The nearest code at each place, integers `(N, 1, H/4, W/4)`."""
        distances = (vectors.movedim(1, -1)[..., None, :] - self.book.weight).square().sum(-1)  # (N, h, w, codes)
        return distances.argmin(-1)[:, None]

    def look_up(self, codes):
        """The vectors of codes: `(N, 1, h, w)` -> `(N, depth, h, w)`."""
        return self.book(codes[:, 0]).movedim(-1, 1)

    def forward(self, images):
        vectors = self.vectors(images)
        chosen = self.look_up(self.nearest(vectors))
        through = vectors + (chosen - vectors).detach()  # the value of `chosen`, the gradient of `vectors`
        cost = F.cross_entropy(self.decoder(through).unsqueeze(2), images.long(), reduction="none")
        to_vectors = (chosen - vectors.detach()).square()  # codes move to the vectors
        to_codes = self.commitment * (vectors - chosen.detach()).square()
        return cost.flatten(1).sum(1) + (to_vectors + to_codes).flatten(1).sum(1)

    @torch.no_grad()
    def encode(self, images, batch_size: int = 500):
        """Images -> their codes, integers `(N, 1, H/4, W/4)`."""
        check_images(images, self.levels, 1)
        check_multiples_of_four(images.shape[2:])
        with evaluating(self):
            return torch.cat([self.nearest(self.vectors(part)) for part in images.split(batch_size)])

    @torch.no_grad()
    def decode(self, codes, batch_size: int = 500):
        """Codes `(N, 1, h, w)` -> logits `(N, levels, 1, 4h, 4w)` of the pixels."""
        check_images(codes, self.codes, 1, name="codes")
        with evaluating(self):
            return torch.cat([self.decoder(self.look_up(part.long())) for part in codes.split(batch_size)]).unsqueeze(2)


def expected_levels(logits: torch.Tensor) -> torch.Tensor:
    """The expected level of each pixel, rounded: logits `(N, levels, C, H, W)` -> integers `(N, C, H, W)`."""
    levels = torch.arange(logits.shape[1], dtype=logits.dtype)
    return torch.einsum("nlchw,l->nchw", logits.softmax(1), levels).round().long()


@torch.no_grad()
def pixel_cost(model: VQVAE, images: torch.Tensor) -> torch.Tensor:
    """Nats of the pixels given their codes, float64 `(N,)`. Those of the codes themselves come on top."""
    logits = model.decode(model.encode(images)).double()
    return F.cross_entropy(logits, images.long(), reduction="none").flatten(1).sum(1)


def fit_vqvae(
    model: VQVAE, images: torch.Tensor, *, steps: int, batch_size: int = 64, learning_rate: float = 2e-3, seed: int = 0
) -> list[float]:
    """Train a VQ-VAE in place by `descend`; the losses of all steps.

    The codes begin at vectors of the encoder. Every 50 steps in the first half, codes that the batch does not use are
    moved onto vectors of it, since a code that is nearest to nothing has no gradient.
    """
    check_images(images, model.levels, 1)
    draw, step = torch.Generator().manual_seed(seed), iter(range(steps))

    def loss(batch):
        batch, now = images[batch], next(step)
        if now % 50 == 0 and now <= steps // 2:
            with torch.no_grad():
                vectors = model.vectors(batch)
                unused = model.nearest(vectors).flatten().bincount(minlength=model.codes) == 0
                moved = unused if now else torch.ones_like(unused)
                vectors = vectors.movedim(1, -1).flatten(0, 2)
                new = torch.randint(len(vectors), (model.codes,), generator=draw)
                model.book.weight[moved] = vectors[new][moved]
        return model(batch).mean()

    try:
        return descend(
            model.parameters(), loss, len(images), steps=steps, batch_size=batch_size, learning_rate=learning_rate,
            seed=seed,
        )  # fmt: skip
    finally:
        model.eval()


class LearnedClasses(nn.Module):
    """A PixelCNN that decodes classes which nobody named: an encoder gives q(k|x), the decoder p(x|k), k uniform.

    decoder: a `GatedPixelCNN` with K classes. size: the `(H, W)` of images, multiples of 4.
    free: so many nats of what the code tells about the image cost nothing in training.
    `forward(images)` is the mean negative ELBO of a batch in nats, a scalar, less what is free. The sum over the
    classes is exact, no class is drawn.
    Sources: Chen et al. 2017, Variational Lossy Autoencoder, arXiv 1611.02731 (why a strong decoder ignores its code);
    Hoffman and Johnson 2016, ELBO surgery (the two parts of the divergence); Kingma et al. 2016, arXiv 1606.04934,
    appendix C.8 (free bits).
    """

    def __init__(self, decoder: GatedPixelCNN, size=(8, 8), width=16, free=0.0):
        super().__init__()
        check_multiples_of_four(size)
        self.decoder, self.classes, self.free = decoder, check_int("classes", decoder.classes, 2), free
        self.encoder = conv_down(1, width, size, self.classes)

    def log_posterior(self, images):
        """log q(k|x), `(N, K)`."""
        return self.encoder(images.float() * (2 / (self.decoder.levels - 1)) - 1).log_softmax(1)

    def costs(self, images):
        """Nats of each image under each class, `(N, K)`."""
        rows = torch.eye(self.classes).repeat(len(images), 1)  # (N·K, K)
        repeated = images.repeat_interleave(self.classes, 0)
        cost = F.cross_entropy(self.decoder(repeated, rows), repeated.long(), reduction="none")
        return cost.flatten(1).sum(1).view(-1, self.classes)

    def forward(self, images):
        log_q = self.log_posterior(images)
        told, uneven = divergence(log_q)
        return (log_q.exp() * self.costs(images)).sum(1).mean() + told.clamp(min=self.free) + uneven


def divergence(log_q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean divergence of q(k|x), given as logarithms `(N, K)`, from a uniform prior, in its two parts, in nats.

    What k tells about x, their mutual information; and how far the mean of q is from uniform.
    """
    mean = log_q.exp().mean(0)
    negative_entropy = torch.special.xlogy(mean, mean).sum()
    told = (log_q.exp() * log_q).sum(1).mean() - negative_entropy
    return told, negative_entropy + math.log(log_q.shape[1])


def fit_learned_classes(
    model: LearnedClasses, images: torch.Tensor, *, steps: int, batch_size: int = 32, learning_rate: float = 2e-3,
    seed: int = 0,
) -> list[float]:  # fmt: skip
    """Train encoder and decoder together, in place; the losses of all steps."""
    check_images(images, model.decoder.levels, 1)
    try:
        return descend(
            model.parameters(), lambda batch: model(images[batch]), len(images), steps=steps, batch_size=batch_size,
            learning_rate=learning_rate, seed=seed,
        )  # fmt: skip
    finally:
        model.eval()


@torch.no_grad()
def use_of_classes(model: LearnedClasses, images: torch.Tensor, classes: torch.Tensor, batch_size: int = 50) -> dict:
    """Whether the decoder uses its learned classes, in nats per image, and how far they agree with the true ones.

    own: under the code of the image; other: under the codes of other images, in random order; bound: the negative ELBO;
    told: what the code tells about the image, the mutual information of k and x under q; used: how many classes are the
    likeliest of some image; agreement: the share of images whose likeliest k is the one that suits their true class, by
    the best pairing of learned and true classes.
    """
    with evaluating(model):
        log_q = torch.cat([model.log_posterior(part) for part in images.split(batch_size)]).double()
        costs = torch.cat([model.costs(part) for part in images.split(batch_size)]).double()
    q, (told, uneven) = log_q.exp(), divergence(log_q)
    shuffled = q[torch.randperm(len(q), generator=torch.Generator().manual_seed(0))]
    own = (q * costs).sum(1).mean()
    likeliest = q.argmax(1)
    pairs = torch.zeros(model.classes, int(classes.max()) + 1)
    pairs.index_put_((likeliest, classes), torch.ones(len(classes)), accumulate=True)
    matched = linear_sum_assignment(pairs.numpy(), maximize=True)
    return {
        "own": own.item(), "other": (shuffled * costs).sum(1).mean().item(), "bound": (own + told + uneven).item(),
        "told": told.item(), "used": len(likeliest.unique()), "agreement": pairs[matched].sum().item() / len(classes),
    }  # fmt: skip


def chosen_by(critic: torch.Tensor, keep: int, seed: int = 0) -> torch.Tensor:
    """So many samples drawn without replacement, with weights exp(critic): their places, `(keep,)`.

    critic: for each sample a discriminator's logit `(N,)`. Trained to tell real images from samples, it is log p(x) of
    real images less that of samples; with these weights, samples become like real images. Drawn by Gumbel noise.
    Sources: Azadi et al. 2019, Discriminator Rejection Sampling, arXiv 1810.06758; Kool et al. 2019, arXiv 1903.06059
    (top k of logits with Gumbel noise).
    """
    require(critic.ndim == 1, "critic", "be one logit for each sample, (N,)", tuple(critic.shape))
    require(0 < check_int("keep", keep, 1) <= len(critic), "keep", f"be 1 … {len(critic)}", keep)
    uniform = torch.rand(len(critic), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (critic.double() - (-uniform.log()).log()).topk(keep).indices
