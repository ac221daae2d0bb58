"""Attacks stay within their bound, and do what they are for."""

import pytest
import torch
from conftest import integers, refused

from pixelcnn_helpers import GatedPixelCNN, load_mnist_sample, load_pretrained, nats, quantize
from pixelcnn_helpers.studies.attacks import evade, fgsm, pgd, relaxed_nats, rounded


@pytest.fixture(scope="module")
def judged():
    """The judge, and 100 test digits that it reads right, as floats."""
    judge, _ = load_pretrained("judge-mnist")
    images, classes = load_mnist_sample(False)
    images, classes = images[::8] / 255, classes[::8]
    with torch.no_grad():
        right = judge(images).argmax(1) == classes
    return judge, images[right][:100], classes[right][:100]


def still_right(judge, images, classes):
    with torch.no_grad():
        return (judge(images).argmax(1) == classes).float().mean().item()


@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_attacks_stay_within_their_bound_and_lower_the_accuracy(judged, attack):
    judge, images, classes = judged
    before = images.clone()
    shares = []
    for strength in (0.05, 0.15, 0.3):
        found = attack(judge, images, classes, strength)
        assert found.shape == images.shape and found.dtype == images.dtype
        assert found.min() >= 0 and found.max() <= 1
        assert (found - images).abs().max() <= strength + 1e-6
        shares.append(still_right(judge, found, classes))
    assert shares[0] > shares[1] > shares[2] and shares[2] < 0.5
    assert torch.equal(images, before)
    assert all(weight.grad is None for weight in judge.parameters()) and not judge.training


def test_many_steps_are_stronger_than_one_and_follow_the_seed(judged):
    judge, images, classes = judged
    one, many = fgsm(judge, images, classes, 0.15), pgd(judge, images, classes, 0.15)
    assert still_right(judge, many, classes) < still_right(judge, one, classes)
    assert torch.equal(many, pgd(judge, images, classes, 0.15))
    assert not torch.equal(many, pgd(judge, images, classes, 0.15, seed=1))
    assert torch.equal(fgsm(judge, images, classes, 0.0), images)


@pytest.mark.parametrize("options", [{}, {"embedding": 3}, {"channels": 3, "features": 6, "embedding": 2}])
def test_relaxed_nats_are_the_nats_on_the_levels_and_have_a_gradient(options):
    model = GatedPixelCNN(**{"levels": 5, "features": 4, "blocks": 2, "first_kernel_size": 5, **options}).eval()
    images = integers((3, model.channels, 6, 5), 5)
    x = (images.double() / 4).requires_grad_()
    model.double()
    found = relaxed_nats(model, x)
    assert torch.allclose(found, nats(model, images), rtol=1e-9)
    inside = (images.double() / 4 * 0.9 + 0.03).requires_grad_()
    (gradient,) = torch.autograd.grad(relaxed_nats(model, inside).sum(), inside)
    step = torch.zeros_like(gradient)
    step[1, 0, 2, 3] = 1e-6
    with torch.no_grad():
        slope = (relaxed_nats(model, inside + step) - relaxed_nats(model, inside - step))[1] / 2e-6
    assert slope.item() == pytest.approx(gradient[1, 0, 2, 3].item(), rel=1e-4)


def test_an_attack_on_the_guard_as_well_costs_fewer_nats(judged):
    judge, images, classes = judged
    images, classes = images[:6], classes[:6]
    guard, _ = load_pretrained("neutral-mnist")
    blind = pgd(judge, images, classes, 0.3, steps=6, levels=8)
    sly = evade(judge, guard, images, classes, 0.3, steps=12)
    assert (sly - images).abs().max() <= 0.3 + 1e-6
    assert sly.min() >= 0 and sly.max() <= 1
    wrong = [still_right(judge, rounded(found, 8) / 7, classes) < 0.5 for found in (blind, sly)]
    assert all(wrong)
    assert nats(guard, rounded(sly, 8)).mean() < nats(guard, rounded(blind, 8)).mean() / 2
    assert torch.equal(sly, evade(judge, guard, images, classes, 0.3, steps=12))
    assert all(weight.grad is None for weight in guard.parameters())


def test_an_attack_that_never_fools_leaves_the_image(judged):
    judge, images, classes = judged
    guard = GatedPixelCNN(levels=8, features=4, blocks=1).eval()
    assert torch.equal(evade(judge, guard, images[:3], classes[:3], 0.01, steps=2), images[:3])


def test_an_attack_through_rounding_survives_it(judged):
    """An attack that does not know of the rounding loses some of what it gained."""
    judge, images, classes = judged
    shares = []
    for levels in (None, 2):
        found = pgd(judge, images, classes, 0.3, steps=8, levels=levels)
        shares.append(still_right(judge, rounded(found, 2).float(), classes))
    assert shares[1] < shares[0]


def test_rounding_goes_by_the_levels_of_a_file():
    images = torch.rand(3, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rounded(images, 8), quantize((images * 255).round().to(torch.uint8), 8))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"images": torch.zeros(2, 1, 28, 28, dtype=torch.uint8)}, TypeError, "images must be floats"),
        ({"classes": torch.tensor([1])}, ValueError, "classes must have the shape (2,)"),
        ({"strength": -0.1}, ValueError, "strength"),
        ({"steps": 0}, ValueError, "steps"),
        ({"classifier": torch.nn.Linear(2, 2)}, TypeError, "classifier must be a Classifier"),
    ],
)
def test_bad_attacks(judged, change, error, words):
    arguments = {"images": torch.zeros(2, 1, 28, 28), "classes": torch.tensor([1, 2]), "strength": 0.1}
    with refused(error, words):
        pgd(**{"classifier": judged[0], **arguments, **change})
