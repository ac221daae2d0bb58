"""Strange images in MNIST's format, and the area under the curve that tells them from digits."""

import numpy as np
import pytest
import torch
from conftest import integers, refused
from sklearn.metrics import roc_auc_score

from pixelcnn_helpers import Dataset, letters, load_mnist_sample
from pixelcnn_helpers.studies import strange
from pixelcnn_helpers.studies.strange import FONTS, auroc, more_strange_images, strange_images


def test_letters_have_mnists_format():
    images, classes = letters(130)
    assert images.dtype == torch.uint8 and images.shape == (130, 1, 28, 28)
    assert classes.tolist() == [*range(26)] * 5
    for image in images[:, 0].double():
        rows, cols = (image.sum(axis).nonzero() for axis in (1, 0))
        assert max(rows.max() - rows.min(), cols.max() - cols.min()) + 1 <= 20
        middle = torch.arange(28) + 0.5
        for axis in (0, 1):  # a letter far off its centre of mass is kept inside the image
            assert abs((image.sum(1 - axis) * middle).sum() / image.sum() - 14) < 1.1
    assert images.amax((1, 2, 3)).min() > 150
    assert 0.05 < (images > 127).float().mean() < 0.35


def test_letters_depend_on_the_seed_alone():
    one, same, other = letters(60, seed=3)[0], letters(60, seed=3)[0], letters(60, seed=4)[0]
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(letters(26, seed=3)[0], one[:26])
    assert len(FONTS) == 12
    firsts = letters(26 * 40)[0][::26].flatten(1)  # forty times the A
    assert len(firsts.unique(dim=0)) == 40


@pytest.mark.parametrize(("arguments", "error"), [((0,), ValueError), ((1.5,), TypeError), ((2, -1), ValueError)])
def test_bad_letters(arguments, error):
    with refused(error):
        letters(*arguments)


def test_strange_images_of_every_kind():
    digits = load_mnist_sample(False)[0][:30]
    before = digits.clone()
    kinds = strange_images(digits)
    assert len(kinds) == 10
    for name, images in kinds.items():
        assert images.dtype == torch.uint8 and images.shape == digits.shape, name
        assert not torch.equal(images, digits), name
    assert torch.equal(digits, before)
    assert torch.equal(kinds["scrambled"].flatten(1).sort(1).values, digits.flatten(1).sort(1).values)
    assert torch.equal(kinds["turned by 90°"].rot90(-1, dims=(2, 3)), digits)
    again = strange_images(digits)
    assert all(torch.equal(images, again[name]) for name, images in kinds.items())
    for bad in (integers((2, 1, 8, 8), 256), integers((2, 3, 28, 28), 256)):
        with refused(ValueError):
            strange_images(bad)


@pytest.mark.parametrize("ties", [False, True])
def test_area_as_scikit_learn_counts_it(ties):
    draw = np.random.default_rng(0)
    strange, real = draw.normal(0.5, 1, 200), draw.normal(0, 1, 300)
    if ties:
        strange, real = strange.round(), real.round()
    area, half = auroc(torch.tensor(strange), torch.tensor(real))
    expected = roc_auc_score([1] * 200 + [0] * 300, [*strange, *real])
    assert area == pytest.approx(expected)
    draws = []
    for _ in range(400):
        one, other = draw.choice(strange, 200), draw.choice(real, 300)
        draws.append(auroc(torch.tensor(one), torch.tensor(other))[0])
    assert half == pytest.approx(1.96 * np.std(draws), rel=0.15)


def test_area_at_its_ends():
    low, high = torch.arange(5.0), torch.arange(5.0) + 9
    assert auroc(high, low) == (1, 0) and auroc(low, high) == (0, 0)
    assert auroc(low, low)[0] == 0.5
    with refused(ValueError, "real", "at least two scores"):
        auroc(low, low[:1])


def test_more_kinds_where_they_can_be_had(monkeypatch, capsys):
    few = Dataset("few", 256, *[integers((5, 1, 28, 28), 256), torch.zeros(5, dtype=torch.long)] * 2)

    def load(name):
        if name == "fashion":
            raise FileNotFoundError("no network")
        return few

    monkeypatch.setattr(strange, "load_dataset", load)
    found = more_strange_images(3)
    assert list(found) == ["EMNIST letters"] and torch.equal(found["EMNIST letters"], few.test[:3])
    assert capsys.readouterr().out == "Going on without Fashion-MNIST. no network\n"
