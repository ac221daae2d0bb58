"""A VAE, a GAN, a transformer, a 1-D network, and how samples are compared: each against a case worked out by hand."""

import math

import pytest
import torch
from conftest import integers, refused
from torch import nn
from torch.nn import functional as F

from pixelcnn_helpers import assert_causal, fit, naive_sample, nats, sample
from pixelcnn_helpers.studies.fidelity import classes_drawn, fit_reader, nearest_distances, precision_and_coverage
from pixelcnn_helpers.studies.relatives import (
    GAN,
    VAE,
    CausalNet1d,
    GreyVAE,
    ImageTransformer,
    descend,
    fit_gan,
    gan_sample,
    vae_bound,
    vae_sample,
)

IMAGES = integers((6, 1, 8, 8), 5)


class Constant(nn.Module):
    """Returns the same values for every row of a batch."""

    def __init__(self, *values):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, x):
        return self.values.expand(len(x), -1)


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return VAE(levels=5, latent=3, width=4).eval()


@pytest.fixture
def gan():
    torch.manual_seed(0)
    return GAN(levels=5, latent=3, width=4)


# the VAE


@pytest.mark.parametrize(("mean", "log_var"), [(0.0, 0.0), (1.5, -2.0)])
def test_elbo_where_the_decoder_ignores_z(vae, mean, log_var):
    vae.encoder, vae.decoder = Constant(*[mean] * 3, *[log_var] * 3), nn.Sequential(Constant(0.0), Uniform())
    kl = 3 * (mean**2 + math.exp(log_var) - log_var - 1) / 2
    torch.testing.assert_close(vae(IMAGES), torch.full((6,), 64 * math.log(5) + kl))


class Uniform(nn.Module):
    def forward(self, z):
        return torch.zeros(len(z), 5, 8, 8)


def test_bound_falls_with_more_samples_to_the_likelihood():
    torch.manual_seed(1)
    vae = VAE(levels=3, size=(4, 4), latent=1, width=2).eval()
    images = integers((3, 1, 4, 4), 3)
    z = torch.linspace(-8, 8, 4001)[:, None]
    with torch.no_grad():
        logits = vae.decode(z).double()
    prior = -z[:, 0].double().square() / 2 - math.log(2 * math.pi) / 2
    exact = []
    for image in images:
        cost = F.cross_entropy(logits, image.expand(len(z), -1, -1, -1), reduction="none").flatten(1).sum(1)
        exact.append(-((prior - cost).logsumexp(0) + math.log(16 / 4000)))
    seeds = {1: range(600), 10: range(200), 3000: [0]}
    bounds = [
        torch.stack([vae_bound(vae, images, count, seed).mean() for seed in some]).mean()
        for count, some in seeds.items()
    ]
    assert bounds[0] > bounds[1] > bounds[2]
    assert bounds[2] == pytest.approx(torch.stack(exact).mean().item(), abs=0.02)


def test_bound_by_one_sample_is_the_negative_elbo(vae):
    many = torch.stack([vae(IMAGES) for _ in range(400)]).mean()
    ours = torch.stack([vae_bound(vae, IMAGES, seed=seed) for seed in range(400)]).mean()
    assert ours.item() == pytest.approx(many.item(), rel=0.01)


def test_vae_draws_pixels_that_are_independent_given_z(vae):
    images = vae_sample(vae, 7, seed=1)
    assert images.shape == (7, 1, 8, 8) and images.min() >= 0 and images.max() < 5
    assert torch.equal(images, vae_sample(vae, 7, seed=1)) and not torch.equal(images, vae_sample(vae, 7, seed=2))
    vae.decoder = nn.Sequential(Constant(0.0), Uniform())
    flat = vae_sample(vae, 4000).flatten(1).double()
    assert abs(torch.corrcoef(flat[:, :2].T)[0, 1]) < 0.05
    assert torch.equal(vae_sample(vae, 3, mean=True), torch.full((3, 1, 8, 8), 2))


@pytest.mark.parametrize("pixels", ["squared", "black and white"])
def test_grey_vae(pixels):
    vae = GreyVAE(levels=5, latent=3, width=4, pixels=pixels)
    before = vae(IMAGES).mean().item()
    descend(vae.parameters(), lambda batch: vae(IMAGES[batch]).mean(), len(IMAGES), steps=30, batch_size=6)
    assert vae(IMAGES).mean() < before
    means, drawn = vae.draw(4, seed=1)
    assert means.shape == drawn.shape == (4, 1, 8, 8) and drawn.max() < 5
    if pixels == "black and white":
        assert set(drawn.unique().tolist()) <= {0, 4}
    with refused(ValueError, "pixels", "squared"):
        GreyVAE(pixels="cubic")


@pytest.mark.parametrize("kind", [VAE, GAN])
def test_sizes_that_two_strides_do_not_divide(kind):
    with refused(ValueError, "size", "multiples of 4", "(8, 10)"):
        kind(size=(8, 10))


def test_bound_of_images_that_do_not_fit(vae):
    with refused(ValueError, "images", "0 … 4"):
        vae_bound(vae, IMAGES + 1)


# the GAN


@pytest.mark.parametrize("logit", [0.0, 3.0])
def test_losses_of_a_gan_by_hand(gan, logit):
    gan.discriminator = Constant(logit)
    d = 1 / (1 + math.exp(-logit))
    real = IMAGES / 4
    assert gan.discriminator_loss(real).item() == pytest.approx(-math.log(d) - math.log(1 - d), rel=1e-5)
    assert gan.generator_loss(6).item() == pytest.approx(-math.log(d), rel=1e-5)


def test_each_side_learns_from_its_own_loss(gan):
    gan.discriminator_loss(IMAGES / 4).backward()
    assert all(weight.grad is None for weight in gan.generator.parameters())
    assert all(weight.grad is not None for weight in gan.discriminator.parameters())
    gan.generator_loss(6).backward()
    assert any(weight.grad.abs().sum() > 0 for weight in gan.generator.parameters())


def test_a_generator_that_is_found_out_still_has_a_gradient(gan):
    """The saturating loss log(1 - D) would have almost none."""
    last = gan.discriminator[-1]
    nn.init.constant_(last.bias, -20.0)
    gan.generator_loss(6).backward()
    ours = sum(weight.grad.abs().sum() for weight in gan.generator.parameters())
    gan.zero_grad()
    (-F.softplus(gan.discriminator(gan.fakes(6)))).mean().backward()
    assert ours > 1e6 * sum(weight.grad.abs().sum() for weight in gan.generator.parameters())


def test_a_gan_learns_the_grey_of_its_images(gan):
    losses = fit_gan(gan, torch.full((64, 1, 8, 8), 3), steps=150)
    assert len(losses) == 150 and not gan.training
    drawn = gan_sample(gan, 20, seed=1)
    assert drawn.shape == (20, 1, 8, 8) and torch.equal(drawn, gan_sample(gan, 20, seed=1))
    assert drawn.double().mean() == pytest.approx(3, abs=0.6)


# models with the chain rule


@pytest.mark.parametrize(
    ("model", "size"),
    [(ImageTransformer(levels=5, size=(6, 5), width=8, heads=2, layers=2), (6, 5)),
     (CausalNet1d(levels=5, features=4, dilations=(1, 2), embedding=3), (1, 12))],
    ids=["transformer", "1-D"],
)  # fmt: skip
def test_causal(model, size):
    assert_causal(model, size=size)
    assert torch.equal(sample(model, 3, size=size, method="naive"), naive_sample(model, 3, size=size))
    assert torch.equal(sample(model, 3, size=size, method="guess"), naive_sample(model, 3, size=size))


def test_a_transformer_that_is_not_shifted_is_found_out():
    class Leaky(ImageTransformer):
        def logits(self, x, labels=None):
            tokens = x.flatten(2).transpose(1, 2) + self.place
            for layer in self.layers:
                tokens = layer(tokens)
            return self.head(self.norm(tokens)).transpose(1, 2).unflatten(2, self.size).unsqueeze(2)

    with pytest.raises(AssertionError):
        assert_causal(Leaky(levels=5, size=(6, 5), width=8, heads=2, layers=1), size=(6, 5))


def test_a_transformer_knows_one_size():
    with refused(ValueError, "images", "8×8 pixels"):
        ImageTransformer(levels=5)(integers((2, 1, 8, 6), 5))


def test_a_1d_network_learns_a_waveform():
    time = torch.arange(400)
    wave = ((torch.sin(time / 5) + 1) * 7.5).round().long().view(-1, 1, 1, 40)
    model = CausalNet1d(levels=16, features=16, dilations=(1, 2, 4, 8), embedding=8)
    before = nats(model, wave).mean()
    fit(model, wave, epochs=40, batch_size=5, progress=False)
    assert nats(model.cpu(), wave).mean() < 0.7 * before


# how samples are compared


def test_precision_and_coverage_by_hand():
    torch.manual_seed(0)
    real = torch.randn(200, 3)
    assert precision_and_coverage(real, real) == (1, 1)
    assert precision_and_coverage(real, real + 100) == (0, 0)
    precision, coverage = precision_and_coverage(real, real[:1].expand(200, -1))  # one mode, drawn well
    assert precision == 1 and coverage < 0.2
    assert precision_and_coverage(torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([[0.9], [30.0]]), k=1) == (
        0.5, 2 / 3,
    )  # fmt: skip
    with refused(ValueError, "k", "200"):
        precision_and_coverage(real, real, k=200)


def test_distances_to_the_nearest():
    others = torch.zeros(3, 1, 2, 2, dtype=torch.long)
    others[1] = 4
    images = torch.tensor([[[[4, 4], [4, 4]]], [[[0, 0], [0, 2]]]])
    assert nearest_distances(images, others, 5).tolist() == pytest.approx([0, 0.25])


def test_classes_that_are_drawn():
    assert classes_drawn(torch.tensor([0] * 97 + [1] * 2 + [2])) == 2


def test_a_reader_of_small_digits(digits_8x8):
    images, classes = digits_8x8
    features, head = fit_reader(images[:800], classes[:800], 17, steps=150)
    with torch.no_grad():
        right = head(features(images[800:1000].float() / 16)).argmax(1) == classes[800:1000]
    assert right.double().mean() > 0.85


@pytest.fixture(scope="module")
def digits_8x8():
    from pixelcnn_helpers import load_digits

    return load_digits()
