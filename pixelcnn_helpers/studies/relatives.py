"""A PixelCNN's relatives, each small enough for a notebook's cell: a VAE, a GAN, a causal transformer, a 1-D network.

What is no PixelCNN is trained by `descend`, a plain loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.nn import functional as F

from ..checks import check_images, check_int, check_positive, check_size, require
from ..layers import HorizontalConv2d
from ..models import AutoregressiveModel, evaluating, stores_config


def descend(
    parameters: Iterable, loss: Callable[[torch.Tensor], torch.Tensor], count: int, *, steps: int,
    batch_size: int = 64, learning_rate: float = 2e-3, seed: int = 0,
) -> list[float]:  # fmt: skip
    """Adam on `loss(batch)`, where a batch is `batch_size` random numbers below `count`; the losses of all steps.

    The learning rate falls to 0 along half a cosine.
    """
    optimizer = torch.optim.Adam(parameters, check_positive("learning_rate", learning_rate))
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, check_int("steps", steps, 1))
    draw, losses = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        value = loss(torch.randint(count, (batch_size,), generator=draw))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        falling.step()
        losses.append(value.item())
    return losses


def conv_down(channels: int, width: int, size: tuple[int, int], out: int) -> nn.Sequential:
    """Two convolutions of stride 2 and a linear layer: `(N, channels, H, W)` -> `(N, out)`."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(2 * width * (size[0] // 4) * (size[1] // 4), out),
    )  # fmt: skip


def conv_up(latent: int, width: int, size: tuple[int, int], out: int, norm: bool = True) -> nn.Sequential:
    """A linear layer and two transposed convolutions of stride 2: `(N, latent)` -> `(N, out, H, W)`.

    norm: batch norm between them.
    """
    small, normed = (size[0] // 4, size[1] // 4), nn.BatchNorm2d if norm else nn.Identity
    return nn.Sequential(
        nn.Linear(latent, 2 * width * small[0] * small[1]), nn.Unflatten(1, (2 * width, *small)),
        normed(2 * width), nn.ReLU(), nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
        normed(width), nn.ReLU(), nn.ConvTranspose2d(width, out, 4, 2, 1),
    )  # fmt: skip


class VAE(nn.Module):
    """A variational autoencoder. Its pixels are categorical over the levels, so that its bound compares with nats.

    An encoder maps an image to a Gaussian q(z|x) over `latent` numbers, a decoder maps z to the logits of all pixels.
    Given z, pixels are independent. Images are integers `(N, 1, H, W)` in `0 … levels-1`; H and W are multiples of 4.
    `forward(images)` is the negative ELBO of each image in nats, `(N,)`, by one draw of z.
    Source: Kingma and Welling 2014, Auto-Encoding Variational Bayes, arXiv 1312.6114.
    """

    def __init__(self, levels=17, size=(8, 8), latent=16, width=32):
        super().__init__()
        self.levels, self.latent, self.size = check_int("levels", levels, 2), check_int("latent", latent, 1), size
        check_multiples_of_four(size)
        self.encoder = conv_down(1, width, size, 2 * latent)
        self.decoder = conv_up(latent, width, size, levels)

    def posterior(self, images):
        """Mean and log-variance of q(z|x), each `(N, latent)`."""
        return self.encoder(images.float() * (2 / (self.levels - 1)) - 1).chunk(2, 1)

    def decode(self, z):
        """Logits `(N, levels, 1, H, W)` of the pixels, independent given z."""
        return self.decoder(z).unsqueeze(2)

    def forward(self, images):
        mean, log_var = self.posterior(images)
        z = mean + (log_var / 2).exp() * torch.randn_like(mean)
        kl = (mean.square() + log_var.exp() - log_var - 1).sum(1) / 2  # of q(z|x) from N(0, 1)
        return self.cost(z, images).flatten(1).sum(1) + kl

    def cost(self, z, images):
        """-log p(x_i|z) of each pixel, `(N, 1, H, W)`."""
        return F.cross_entropy(self.decode(z), images.long(), reduction="none")


def check_multiples_of_four(size) -> None:
    require(all(side % 4 == 0 for side in check_size(size)), "size", "be multiples of 4", size)


@torch.no_grad()
def vae_bound(model: VAE, images: torch.Tensor, samples: int = 1, seed: int = 0, batch_size: int = 100) -> torch.Tensor:
    """The importance-weighted bound on -log p(x), float64 `(N,)`: the negative ELBO for one sample, lower with more.

    Source: Burda et al. 2016, Importance Weighted Autoencoders, arXiv 1509.00519, equation 8.
    """
    check_images(images, model.levels, 1)
    generator, found = torch.Generator().manual_seed(seed), []
    with evaluating(model):
        for part in images.split(batch_size):
            mean, log_var = (value.double() for value in model.posterior(part))
            ratios = []  # log p(x, z) - log q(z|x), each (N,)
            for _ in range(check_int("samples", samples, 1)):
                noise = torch.randn(mean.shape, generator=generator, dtype=torch.float64)
                z = mean + (log_var / 2).exp() * noise
                cost = model.cost(z.float(), part).double()
                prior, posterior = -z.square().sum(1) / 2, -(noise.square() + log_var).sum(1) / 2
                ratios.append(prior - posterior - cost.flatten(1).sum(1))
            found.append(math.log(samples) - torch.stack(ratios).logsumexp(0))
    return torch.cat(found)


@torch.no_grad()
def vae_sample(model: VAE, n: int, seed: int = 0, mean: bool = False) -> torch.Tensor:
    """Images drawn by a VAE, integers `(n, 1, H, W)`; `mean` gives the expected level of each pixel, rounded."""
    generator = torch.Generator().manual_seed(seed)
    with evaluating(model):
        logits = model.decode(torch.randn(n, model.latent, generator=generator))
    shares = logits.movedim(1, -1).softmax(-1)  # (n, 1, H, W, levels)
    if mean:
        return (shares @ torch.arange(model.levels).float()).round().long()
    return torch.multinomial(shares.flatten(0, -2), 1, generator=generator).view(shares.shape[:-1])


class GreyVAE(VAE):
    """A VAE with one number per pixel, its mean grey, instead of a distribution over the levels.

    pixels: "squared" is a Gaussian around the mean with a standard deviation of `SPREAD`, the squared error; "black and
    white" is a Bernoulli draw, which greys only stand in for. Neither is a distribution over the levels, so neither
    loss compares with nats. `forward(images)` is that loss, `(N,)`.
    """

    SPREAD = 0.2

    def __init__(self, levels=17, size=(8, 8), latent=16, width=32, pixels="squared"):
        super().__init__(levels, size, latent, width)
        require(pixels in ("squared", "black and white"), "pixels", 'be "squared" or "black and white"', repr(pixels))
        self.pixels, self.decoder = pixels, conv_up(latent, width, size, 1)

    def decode(self, z):
        """The mean grey of each pixel, `(N, 1, H, W)` in 0 … 1."""
        return self.decoder(z).sigmoid()

    def cost(self, z, images):
        greys, wanted = self.decode(z), images.float() / (self.levels - 1)
        if self.pixels == "squared":
            return ((greys - wanted) / self.SPREAD).square() / 2
        return F.binary_cross_entropy(greys, wanted, reduction="none")

    @torch.no_grad()
    def draw(self, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Means and samples of the same latent numbers, rounded to levels: two of `(n, 1, H, W)`."""
        generator = torch.Generator().manual_seed(seed)
        with evaluating(self):
            greys = self.decode(torch.randn(n, self.latent, generator=generator))
        if self.pixels == "squared":
            drawn = greys + self.SPREAD * torch.randn(greys.shape, generator=generator)
        else:
            drawn = (torch.rand(greys.shape, generator=generator) < greys).float()
        return tuple((x.clamp(0, 1) * (self.levels - 1)).round().long() for x in (greys, drawn))


class GAN(nn.Module):
    """A small DCGAN: a generator from noise to images, floats in 0 … 1, and a discriminator with one logit.

    norm: batch norm in the generator; without it this one often draws the same few images whatever the noise.
    Sources: Goodfellow et al. 2014, Generative Adversarial Networks, arXiv 1406.2661; Radford et al. 2016, arXiv
    1511.06434.
    """

    def __init__(self, levels=17, size=(8, 8), latent=16, width=32, norm=True):
        super().__init__()
        self.levels, self.latent, self.size = check_int("levels", levels, 2), check_int("latent", latent, 1), size
        check_multiples_of_four(size)
        self.generator = nn.Sequential(*conv_up(latent, width, size, 1, norm), nn.Sigmoid())
        self.discriminator = conv_down(1, width, size, 1)

    def fakes(self, n: int) -> torch.Tensor:
        return self.generator(torch.randn(n, self.latent))

    def discriminator_loss(self, real):
        """-log D(x) - log(1 - D(G(z))), the mean over a batch of floats `(N, 1, H, W)` in 0 … 1."""
        fakes = self.fakes(len(real)).detach()
        on_real, on_fakes = self.discriminator(real), self.discriminator(fakes)
        return F.softplus(-on_real).mean() + F.softplus(on_fakes).mean()

    def generator_loss(self, n):
        """-log D(G(z)), the mean over n draws: the non-saturating loss."""
        return F.softplus(-self.discriminator(self.fakes(n))).mean()


def fit_gan(
    gan: GAN, images: torch.Tensor, *, steps: int, batch_size: int = 64, learning_rate: float = 2e-3, seed: int = 0
) -> list[tuple[float, float]]:
    """A step of Adam for the discriminator and one for the generator, in turn; both losses of all steps.

    images: integers `(N, 1, H, W)` in `0 … levels-1`. Afterwards the model is in evaluation mode.
    """
    check_images(images, gan.levels, 1)
    critic, artist = (
        torch.optim.Adam(side.parameters(), check_positive("learning_rate", learning_rate), betas=(0.5, 0.999))
        for side in (gan.discriminator, gan.generator)
    )
    draw, found = torch.Generator().manual_seed(seed), []
    real = images.float() / (gan.levels - 1)
    for _ in range(check_int("steps", steps, 1)):
        batch = torch.randint(len(real), (batch_size,), generator=draw)
        critics_loss = gan.discriminator_loss(real[batch])
        critic.zero_grad()
        critics_loss.backward()
        critic.step()
        artists_loss = gan.generator_loss(batch_size)
        artist.zero_grad()
        artists_loss.backward()
        artist.step()
        found.append((critics_loss.item(), artists_loss.item()))
    gan.eval()
    return found


@torch.no_grad()
def gan_sample(gan: GAN, n: int, seed: int = 0) -> torch.Tensor:
    """Images drawn by a GAN, rounded to its levels: integers `(n, 1, H, W)`."""
    noise = torch.randn(n, gan.latent, generator=torch.Generator().manual_seed(seed))
    with evaluating(gan):
        return (gan.generator(noise) * (gan.levels - 1)).round().long()


class ImageTransformer(AutoregressiveModel):
    """A causal transformer over the pixels of a one-channel image, in the order of the rows.

    Each pixel is a token: a vector for its level and one for its place. The sequence is shifted by one, so that a
    pixel's logits come from the tokens before it. size: the only `(H, W)` that it takes.
    `forward(images)` maps integers `(N, 1, H, W)` to logits `(N, levels, 1, H, W)`.
    Source: Chen et al. 2020, Generative Pretraining from Pixels (ImageGPT), section 2.
    """

    @stores_config
    def __init__(self, levels=17, size=(8, 8), width=48, heads=4, layers=3):
        super().__init__(1, levels, embedding=width)
        self.size = tuple(check_size(size))
        self.begin = nn.Parameter(torch.zeros(width))
        self.place = nn.Parameter(0.02 * torch.randn(self.size[0] * self.size[1], width))
        self.layers = nn.ModuleList(TransformerLayer(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, levels)

    def logits(self, x, labels=None):  # (N, width, H, W)
        require(tuple(x.shape[2:]) == self.size, "images", f"be of {self.size[0]}×{self.size[1]} pixels", x.shape[2:])
        tokens = x.flatten(2).transpose(1, 2)  # (N, H·W, width)
        begin = self.begin.expand(len(x), 1, -1)
        tokens = torch.cat([begin, tokens[:, :-1]], 1) + self.place
        for layer in self.layers:
            tokens = layer(tokens)
        return self.head(self.norm(tokens)).transpose(1, 2).unflatten(2, self.size).unsqueeze(2)


class TransformerLayer(nn.Module):
    """Causal self-attention and a two-layer network, each on a normalised input and added to it."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):  # (N, T, width)
        heads = self.queries_keys_values(self.before_attention(x)).unflatten(2, (3, self.heads, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # each (N, heads, T, width/heads)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(self.before_mlp(x))


class CausalNet1d(AutoregressiveModel):
    """WaveNet's idea in a few lines: dilated causal convolutions over a sequence, an image of a single row.

    `forward(images)` maps integers `(N, 1, 1, T)` to logits `(N, levels, 1, 1, T)`.
    Source: van den Oord et al. 2016, WaveNet, arXiv 1609.03499, section 2.
    """

    @stores_config
    def __init__(self, levels=64, features=32, dilations=(1, 2, 4, 8, 16, 32), embedding=16):
        super().__init__(1, levels, embedding=embedding)
        self.first = HorizontalConv2d(embedding, features, 3, first=True)
        self.layers = nn.ModuleList(HorizontalConv2d(features, 2 * features, 3, dilation=one) for one in dilations)
        self.head = nn.Conv2d(features, levels, 1)

    def logits(self, x, labels=None):
        x = self.first(x)
        for layer in self.layers:
            up, gate = layer(x).chunk(2, 1)
            x = x + up.tanh() * gate.sigmoid()
        return self.split_levels(self.head(x.relu()))
