"""Learned mixup: what each step does to a batch, which images a draw of labels takes, and what is drawn for them."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pixelcnn_helpers import GatedPixelCNN, load_mnist_sample, sample
from pixelcnn_helpers.studies import attacks, mixup
from pixelcnn_helpers.studies.judges import ConvClassifier

TINY = {"features": 4, "blocks": 1, "first_kernel_size": 3}


def batch(count=6, seed=0):
    x = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return x, F.one_hot(torch.arange(count) % 3, 3).float()


def draws(seed=0):
    return np.random.default_rng(seed)


# which images are labelled


def test_draws_of_labels_share_no_image_and_hold_a_fifth_back():
    classes = torch.arange(200) % 10
    images = torch.arange(200).view(-1, 1, 1, 1)  # each is known by its only pixel
    found = [mixup.draw_labelled(images, classes, 5, draw) for draw in range(4)]
    seen = torch.cat([part.flatten() for one in found for part in (one.train, one.validation)])
    assert sorted(seen.tolist()) == list(range(200))  # 4 draws of 5 of each class: every image once
    for one in found:
        assert one.classes.bincount().tolist() == [4] * 10 and one.validation_classes.bincount().tolist() == [1] * 10
        assert torch.equal(one.train.flatten() % 10, one.classes)
        assert torch.equal(one.validation.flatten() % 10, one.validation_classes)


def test_after_the_last_group_draws_begin_again_in_another_order():
    classes, images = torch.arange(100) % 10, torch.arange(100).view(-1, 1, 1, 1)
    first, third = (mixup.draw_labelled(images, classes, 5, draw) for draw in (0, 2))
    again = mixup.draw_labelled(images, classes, 5, 0)
    assert torch.equal(first.train, again.train)
    assert sorted(first.train.tolist()) != sorted(third.train.tolist())


def test_draw_labelled_refuses_more_than_there_are():
    classes = torch.arange(60) % 10
    with pytest.raises(ValueError, match="per_class must be at most 6, the images of the rarest class, got 7"):
        mixup.draw_labelled(torch.zeros(60, 1, 8, 8), classes, 7)
    with pytest.raises(ValueError, match="per_class"):
        mixup.draw_labelled(torch.zeros(60, 1, 8, 8), classes, 4)


# what the steps do


def test_pixel_mixup_mixes_images_and_labels_by_the_same_weights():
    x, rows = batch()
    marked = torch.cat([x, rows[:, :, None, None].expand(-1, -1, 8, 8)], 1)  # the label rides along as channels
    mixed, labels = mixup.pixel_mixup(1.0)(marked, rows, draws())
    torch.testing.assert_close(mixed[:, 1:, 0, 0], labels)
    torch.testing.assert_close(labels.sum(1), torch.ones(6))
    assert not torch.equal(mixed[:, :1], x)


def test_pixel_mixup_of_a_tiny_alpha_changes_nothing_or_everything():
    x, rows = batch(60)
    mixed, _ = mixup.pixel_mixup(1e-4)(x, rows, draws())
    nearest = torch.cdist(mixed.flatten(1), x.flatten(1)).amin(1)
    assert (nearest < 0.01).all()  # the weight is 0 or 1


def test_drawn_from_replaces_the_share_and_keeps_images_with_their_labels():
    x, rows = batch(8)
    pool = torch.arange(30.0).view(-1, 1, 1, 1).expand(-1, 1, 8, 8) + 10
    labels = F.one_hot(torch.arange(30) % 3, 3).float()
    for share, count in ((0.0, 0), (0.25, 2), (1.0, 8)):
        new, new_rows = mixup.drawn_from(pool, labels, share)(x, rows, draws())
        assert torch.equal(new[count:], x[count:]) and torch.equal(new_rows[count:], rows[count:])
        known = (new[:count, 0, 0, 0] - 10).long()
        assert (known >= 0).all() and torch.equal(new_rows[:count], labels[known])
    with pytest.raises(ValueError, match="share must be in 0 … 1, got 2"):
        mixup.drawn_from(pool, labels, 2)
    with pytest.raises(ValueError, match="rows must be one for each of 30 images, got 29"):
        mixup.drawn_from(pool, labels[1:])


def test_shifts_and_rotations_of_no_strength_change_nothing():
    x, rows = batch()
    same, labels = mixup.shifts_and_rotations(0)(x, rows, draws())
    torch.testing.assert_close(same, x, atol=1e-5, rtol=0)
    assert labels is rows
    other, _ = mixup.shifts_and_rotations()(x, rows, draws())
    assert (other - x).abs().amax((1, 2, 3)).min() > 0.01


@pytest.mark.parametrize("step", [mixup.pixel_mixup(), mixup.shifts_and_rotations(), mixup.drawn_from(*batch(9), 0.5)])
def test_the_same_seed_gives_the_same_batch(step):
    x, rows = batch()
    first, again, other = (step(x, rows, draws(seed)) for seed in (0, 0, 1))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])


def test_bad_numbers_are_refused():
    for make in (mixup.pixel_mixup, mixup.shifts_and_rotations, lambda value: mixup.mixed_rows(3, alpha=value)):
        with pytest.raises(ValueError):
            make(-1.0)


# classifiers


def test_a_classifier_learns_from_soft_rows_and_repeats_itself():
    x, rows = batch(30)
    x = x * 0.3 + 0.7 * (torch.arange(30) % 3 / 2).view(-1, 1, 1, 1)
    soft = torch.lerp(rows, torch.full_like(rows, 1 / 3), 0.3)
    nets = [mixup.fit_few(mixup.small_classifier((8, 8), 3), x, soft, updates=60, seed=1) for _ in range(2)]
    assert all(map(torch.equal, nets[0].state_dict().values(), nets[1].state_dict().values()))
    assert torch.equal(mixup.answers(nets[0], x).argmax(1), rows.argmax(1))
    assert mixup.answers(nets[0], x).exp().amax(1).mean() < 0.95  # it learned that nothing is certain


def test_scores_of_one_who_knows_and_of_one_who_guesses():
    images = (torch.arange(40) % 10 / 9).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    classes = torch.arange(40) % 10

    class Knows(torch.nn.Module):
        def forward(self, x):
            return -50 * (x.mean((1, 2, 3))[:, None] - torch.arange(10) / 9).abs()

    class Guesses(torch.nn.Module):
        def forward(self, x):
            return x.sum((1, 2, 3))[:, None] * 0 * torch.ones(10)

    knows, guesses = mixup.scores(Knows(), images, classes), mixup.scores(Guesses(), images, classes)
    assert knows["accuracy"] == 1 and knows.keys() == {"accuracy", "nll", "ece"}
    assert abs(guesses["nll"] - np.log(10)) < 1e-5 and guesses["ece"] < 1e-6 and guesses["accuracy"] == 0.1
    changed = mixup.disturbed(Knows(), images, classes)
    assert changed["attacked"] < 0.2 and changed.keys() == {"noise", "occluded", "attacked"}


def test_the_attack_is_fgsm():
    torch.manual_seed(0)
    net, images, classes = ConvClassifier(width=4).eval(), torch.rand(5, 1, 28, 28), torch.arange(5)
    expected = attacks.fgsm(net, images, classes, mixup.STRENGTH)
    torch.testing.assert_close(mixup.attacked(net, images, classes), expected)


def test_occlusion_covers_a_square_in_each_image():
    covered = mixup.occluded(torch.ones(50, 1, 28, 28), torch.Generator().manual_seed(0)) == 0
    assert (covered.sum((1, 2, 3)) == mixup.PATCH**2).all()
    assert (covered.any(2).sum(-1) == mixup.PATCH).all() and (covered.any(3).sum(-1) == mixup.PATCH).all()
    assert len(covered.flatten(1).unique(dim=0)) > 30


# generators


def test_mixed_rows_name_two_classes():
    rows = mixup.mixed_rows(500, 10, seed=3)
    assert torch.allclose(rows.sum(1), torch.ones(500)) and ((rows > 0).sum(1) <= 2).all()
    assert rows.amax(1).min() >= 0.5 and (rows.mean(0) - 0.1).abs().max() < 0.03
    assert torch.equal(rows, mixup.mixed_rows(500, 10, seed=3))
    assert mixup.single_rows(20).sum(0).tolist() == [2] * 10


def test_draw_gives_each_image_its_own_seed(monkeypatch):
    torch.manual_seed(0)
    model = GatedPixelCNN(levels=4, classes=3, **TINY).eval()
    model.size, rows = (8, 8), mixup.mixed_rows(5, 3)
    monkeypatch.setattr(mixup, "AT_ONCE", 2)
    assert torch.equal(mixup.draw(model, rows, seed=7), sample(model, labels=rows, seed=7))


def test_candidates_are_never_further_from_their_label_than_the_first():
    torch.manual_seed(0)
    model = GatedPixelCNN(levels=4, classes=3, **TINY).eval()
    model.size, rows, net = (8, 8), mixup.mixed_rows(12, 3), mixup.small_classifier((8, 8), 3).eval()

    def away(images):
        return (mixup.answers(net, images.float() / 3).exp() - rows).abs().sum(1)

    first, best = mixup.draw_nearest(model, rows, net, 1), mixup.draw_nearest(model, rows, net, 5)
    assert torch.equal(first, mixup.draw(model, rows))
    assert (away(best) <= away(first)).all() and (away(best) < away(first)).any()


def few_images():
    few = mixup.draw_labelled(*load_mnist_sample(), 5)
    return few.train, F.one_hot(few.classes, 10).float()


def test_the_open_generator_begins_as_the_pretrained_one(monkeypatch):
    torch.manual_seed(0)
    pretrained = GatedPixelCNN(levels=4, embedding=4, **TINY)
    begun = {}

    def fit(model, images, rows, **options):
        begun.update({name: weight.clone() for name, weight in model.state_dict().items()})

    monkeypatch.setattr(mixup, "fit", fit)
    mixup.fit_generator(*few_images(), 4, steps=3, pretrained=pretrained)
    known = pretrained.state_dict()
    for name, weight in begun.items():
        assert "condition" in name or torch.equal(weight, known[name]), name


def test_the_closed_generator_repeats_itself_and_learns_from_moved_images():
    first, again, other = (mixup.fit_generator(*few_images(), 4, steps=3, config=TINY, seed=seed) for seed in (2, 2, 3))
    assert all(map(torch.equal, first.state_dict().values(), again.state_dict().values()))
    assert not torch.equal(first.head.weight, other.head.weight)
    assert first.classes == 10 and first.levels == 4 and first.size == (28, 28)


def test_a_pretrained_network_that_does_not_fit_is_refused():
    for network in (GatedPixelCNN(levels=4, **TINY), GatedPixelCNN(levels=8, classes=10, **TINY)):
        with pytest.raises(ValueError, match="pretrained must have 8 levels and no classes"):
            mixup.fit_generator(*few_images(), 8, steps=1, pretrained=network)
