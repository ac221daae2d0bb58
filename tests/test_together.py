"""A VQ-VAE, learned classes and a critic: each against a case worked out by hand."""

import math

import pytest
import torch
from conftest import integers, refused
from torch import nn
from torch.nn import functional as F

from pixelcnn_helpers import GatedPixelCNN, fit, load_digits, sample
from pixelcnn_helpers.studies.together import (
    VQVAE,
    LearnedClasses,
    chosen_by,
    divergence,
    expected_levels,
    fit_learned_classes,
    fit_vqvae,
    pixel_cost,
    use_of_classes,
)

IMAGES = integers((6, 1, 8, 8), 5)


@pytest.fixture
def vqvae():
    torch.manual_seed(0)
    return VQVAE(levels=5, codes=7, width=4, depth=3)


@pytest.fixture
def learned():
    torch.manual_seed(0)
    return LearnedClasses(GatedPixelCNN(levels=5, features=4, blocks=1, classes=3), width=4)


# codes


def test_codes_are_a_small_image_of_integers(vqvae):
    codes = vqvae.encode(IMAGES)
    assert codes.shape == (6, 1, 2, 2) and not codes.is_floating_point() and codes.max() < 7
    assert vqvae.decode(codes).shape == (6, 5, 1, 8, 8)
    assert torch.equal(vqvae.encode(IMAGES, batch_size=4), codes)


def test_a_code_is_the_nearest_to_its_own_vector(vqvae):
    codes = integers((4, 1, 3, 3), 7)
    assert torch.equal(vqvae.nearest(vqvae.look_up(codes)), codes)


def test_gradients_pass_straight_through(vqvae):
    """The encoder gets the gradient that the chosen vectors would get, and that of its distance from them."""
    vectors = vqvae.vectors(IMAGES).detach().requires_grad_()
    vqvae.vectors = lambda images: vectors
    vqvae(IMAGES).sum().backward()
    chosen = vqvae.look_up(vqvae.nearest(vectors)).detach().requires_grad_()
    F.cross_entropy(vqvae.decoder(chosen).unsqueeze(2), IMAGES.long(), reduction="sum").backward()
    torch.testing.assert_close(vectors.grad, chosen.grad + 2 * 0.25 * (vectors - chosen).detach())


def test_codes_move_towards_the_vectors_that_chose_them(vqvae):
    vectors = vqvae.vectors(IMAGES).detach()
    vqvae(IMAGES).sum().backward()
    codes = vqvae.nearest(vectors)[:, 0]
    wanted = torch.zeros_like(vqvae.book.weight)
    for code in range(7):
        wanted[code] = (2 * (vqvae.book.weight[code] - vectors.movedim(1, -1)[codes == code])).sum(0)
    torch.testing.assert_close(vqvae.book.weight.grad, wanted.detach())


def test_a_vqvae_learns_and_uses_its_codes():
    images = load_digits()[0][:400]
    torch.manual_seed(0)
    model = VQVAE(levels=17, codes=16, width=8, depth=4)
    losses = fit_vqvae(model, images, steps=200)
    assert len(losses) == 200 and not model.training
    assert sum(losses[-20:]) < sum(losses[:20]) / 1.5
    assert len(model.encode(images).unique()) > 8
    assert pixel_cost(model, images).mean() < 64 * math.log(17)


def test_a_pixelcnn_over_codes_is_one_like_any_other(vqvae):
    codes = vqvae.encode(integers((40, 1, 8, 8), 5))
    prior = GatedPixelCNN(levels=7, features=4, blocks=1, first_kernel_size=3, embedding=4)
    fit(prior, codes, epochs=1, progress=False)
    drawn = sample(prior.cpu(), 3)
    assert drawn.shape == (3, 1, 2, 2)
    assert expected_levels(vqvae.decode(drawn)).shape == (3, 1, 8, 8)


def test_expected_levels():
    logits = torch.tensor([0.5, 0.0, 0.5]).log().view(1, 3, 1, 1, 1)
    assert expected_levels(logits).item() == 1


@pytest.mark.parametrize(("change", "words"), [
    ({"images": IMAGES + 1}, ("images", "0 … 4")), ({"images": IMAGES[..., :6]}, ("size", "multiples of 4")),
])  # fmt: skip
def test_images_that_a_vqvae_does_not_take(vqvae, change, words):
    with refused(ValueError, *words):
        vqvae.encode(**change)


def test_codes_that_a_vqvae_does_not_have(vqvae):
    with refused(ValueError, "codes", "0 … 6"):
        vqvae.decode(torch.full((1, 1, 2, 2), 7))


# learned classes


def test_the_loss_is_the_negative_elbo(learned):
    log_q, costs = learned.log_posterior(IMAGES), learned.costs(IMAGES)
    wanted = (log_q.exp() * (costs + log_q + math.log(3))).sum(1).mean()
    torch.testing.assert_close(learned(IMAGES), wanted)


def test_under_the_true_posterior_the_bound_is_the_likelihood(learned):
    costs = learned.costs(IMAGES).detach()
    learned.log_posterior = lambda images: (-costs).log_softmax(1)
    exact = math.log(3) - (-costs).logsumexp(1)
    torch.testing.assert_close(learned(IMAGES), exact.mean())


def test_costs_are_nats_under_each_class(learned):
    costs = learned.costs(IMAGES)
    for k, row in enumerate(torch.eye(3)):
        logits = learned.decoder(IMAGES, row.expand(6, -1))
        wanted = F.cross_entropy(logits, IMAGES.long(), reduction="none").flatten(1).sum(1)
        torch.testing.assert_close(costs[:, k], wanted)


@pytest.mark.parametrize(("q", "told", "uneven"), [
    ([[0.25] * 4] * 4, 0, 0),
    (torch.eye(4).tolist(), math.log(4), 0),
    ([[1.0, 0, 0, 0]] * 4, 0, math.log(4)),
])  # fmt: skip
def test_the_two_parts_of_the_divergence(q, told, uneven):
    parts = divergence(torch.tensor(q).clamp(min=1e-30).log())
    assert [part.item() for part in parts] == pytest.approx([told, uneven], abs=1e-5)


def test_what_is_free_has_no_gradient(learned):
    learned.free = 5.0
    loss = learned(IMAGES)
    loss.backward()
    with_free = [weight.grad.clone() for weight in learned.encoder.parameters()]
    learned.zero_grad()
    log_q = learned.log_posterior(IMAGES)
    ((log_q.exp() * learned.costs(IMAGES)).sum(1).mean() + divergence(log_q)[1]).backward()
    for got, weight in zip(with_free, learned.encoder.parameters(), strict=True):
        torch.testing.assert_close(got, weight.grad)


def test_use_of_classes_that_are_the_true_ones(learned):
    classes = torch.tensor([0, 1, 2, 2, 1, 0])
    learned.log_posterior = lambda images: F.one_hot((classes + 1) % 3, 3).double().clamp(min=1e-30).log()
    found = use_of_classes(learned, IMAGES, classes)
    assert found["agreement"] == 1 and found["used"] == 3
    assert found["told"] == pytest.approx(math.log(3))
    assert found["bound"] == pytest.approx(found["own"] + math.log(3))


def test_learning_classes_lowers_the_bound(learned):
    before = use_of_classes(learned, IMAGES, torch.zeros(6, dtype=torch.long))
    losses = fit_learned_classes(learned, IMAGES, steps=20, batch_size=6)
    after = use_of_classes(learned, IMAGES, torch.zeros(6, dtype=torch.long))
    assert len(losses) == 20 and after["bound"] < before["bound"]


def test_a_decoder_needs_classes():
    with refused(ValueError, "classes", "at least 2"):
        LearnedClasses(GatedPixelCNN(levels=5, features=4, blocks=1))


# the critic


def test_samples_are_chosen_by_their_weight():
    logits = torch.tensor([0.0, math.log(3.0), -50.0])
    first = torch.tensor([chosen_by(logits, 1, seed).item() for seed in range(2000)])
    shares = first.bincount(minlength=3) / 2000
    assert shares.tolist() == pytest.approx([0.25, 0.75, 0], abs=0.03)


def test_no_sample_is_chosen_twice():
    places = chosen_by(torch.randn(50), 50, seed=1)
    assert places.sort().values.tolist() == list(range(50))


def test_a_constant_critic_changes_nothing():
    assert torch.equal(chosen_by(torch.zeros(9), 4, 3), chosen_by(torch.ones(9), 4, 3))


@pytest.mark.parametrize(("critic", "keep", "words"), [
    (torch.zeros(3, 1), 1, ("critic", "(N,)", "(3, 1)")), (torch.zeros(3), 4, ("keep", "1 … 3", "4")),
])  # fmt: skip
def test_what_cannot_be_chosen(critic, keep, words):
    with refused(ValueError, *words):
        chosen_by(critic, keep)


def test_modules_are_left_in_their_mode(vqvae):
    vqvae.train()
    vqvae.encode(IMAGES)
    assert vqvae.training and isinstance(vqvae, nn.Module)
