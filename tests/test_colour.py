"""Colour: patches of photographs, coloured digits, CIFAR-10, networks with and without an order, another head."""

import hashlib
import math
import pickle
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import integers, refused
from torch.nn import functional as F
from torchvision import datasets as torchvision_sets

from pixelcnn_helpers import (
    GatedPixelCNN,
    assert_causal,
    bits_per_dim,
    colour_digits,
    fit,
    load_cifar10,
    load_digits,
    load_model,
    load_photo_patches,
    load_profile_data,
    naive_sample,
    nats,
    quantize,
    sample,
    save_model,
)
from pixelcnn_helpers.studies.colour import (
    BlindToOwnPixel,
    LogisticMixture,
    SeparateChannels,
    channel_bits,
    with_logistic_head,
)
from pixelcnn_helpers.studies.datasets import COLUMNS, VALIDATION, load_dataset, patches, photographs, relit

TINY = {"features": 6, "blocks": 2, "first_kernel_size": 5, "levels": 4}


# photographs


@pytest.fixture(scope="module")
def photos():
    return load_photo_patches(levels=256)


def places(images, size=16):
    """Where each image lies in the photographs: (photograph, row, column), a set for each image."""
    found = {}
    for number, photo in enumerate(photographs()):
        every = patches(photo, [(0, photo.shape[2])], size, step=1)
        across = photo.shape[2] - size + 1
        for place, patch in enumerate(every.flatten(1).numpy()):
            found.setdefault(patch.tobytes(), []).append((number, *divmod(place, across)))
    return [found[image.tobytes()] for image in images.flatten(1).numpy()]


def test_patches_come_from_parts_that_do_not_overlap(photos):
    """Each patch is looked for in the whole photographs; all places where it lies are in its own part."""
    parts = {
        "train": (photos.train[:-VALIDATION:40], photos.train_classes[:-VALIDATION:40]),
        "validation": (photos.train[-VALIDATION::5], photos.train_classes[-VALIDATION::5]),
        "test": (photos.test, photos.test_classes),
    }
    for part, (images, classes) in parts.items():
        for found, photo in zip(places(images), classes.tolist(), strict=True):
            inside = [
                place for place in found
                if place[0] == photo and any(first <= place[2] and place[2] + 16 <= end for first, end in COLUMNS[part])
            ]  # fmt: skip
            assert inside, (part, found)
    columns = sorted((*ends, part) for part, runs in COLUMNS.items() for ends in runs)
    for (_, end, before), (first, _, after) in pairwise(columns):
        assert before != after and first - end >= 8  # a strip that nobody sees


def test_the_test_patches_tile_their_part(photos):
    first, end = COLUMNS["test"][0]
    for number, photo in enumerate(photographs()):
        tiles = photos.test[photos.test_classes == number].view(13, 4, 3, 16, 16)  # rows, columns
        assert torch.equal(tiles.permute(2, 0, 3, 1, 4).reshape(3, 208, 64), photo[:, :208, first:end])


def test_patches_have_the_sizes_and_levels_asked_for(photos):
    assert (photos.name, photos.levels) == ("patches of two photographs", 256)
    assert str(photos).endswith("8,000 training and 104 test images of 16×16 pixels, 256 levels of each colour")
    assert photos.train.shape == (8000, 3, 16, 16) and photos.test.shape == (104, 3, 16, 16)
    assert photos.train.dtype == torch.uint8
    assert photos.train_classes.bincount().tolist() == [4000, 4000]
    few = load_photo_patches(size=16, levels=8)
    assert torch.equal(few.train, quantize(photos.train, 8)) and torch.equal(few.test, quantize(photos.test, 8))
    small = load_photo_patches(size=8)
    assert small.train.shape == (8000, 3, 8, 8) and small.test.shape == (2 * 26 * 8, 3, 8, 8)
    assert load_photo_patches(size=48).test.shape == (2 * 4, 3, 48, 48)
    assert torch.equal(load_dataset("photos").test, photos.test)


def test_patches_depend_on_the_seed_alone(photos):
    torch.manual_seed(1)
    again, other = load_photo_patches(levels=256), load_photo_patches(levels=256, seed=1)
    assert torch.equal(again.train, photos.train)
    assert not torch.equal(other.train, photos.train) and torch.equal(other.test, photos.test)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"size": 49}, ValueError, ("size", "at most 48", "got 49")),
        ({"size": 0}, ValueError, ("size", "at least 1")),
        ({"size": 16.0}, TypeError, ("size", "integer")),
        ({"levels": 1}, ValueError, ("levels", "at least 2")),
        ({"seed": -1}, ValueError, ("seed", "at least 0")),
    ],
)
def test_bad_patches(arguments, error, words):
    with refused(error, *words):
        load_photo_patches(**arguments)


def test_relit_patches_keep_their_values_in_range_and_follow_the_generator(photos):
    images = photos.train[:200]
    first, again = (relit(images, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again) and first.dtype == torch.uint8 and first.shape == images.shape
    change = first.float().mean((1, 2, 3)) / images.float().mean((1, 2, 3)).clamp(min=1)
    assert change.min() < 0.85 and change.max() > 1.15
    ramp = torch.arange(16).expand(100, 1, 16, 16) * 10 + 40  # darker on the left
    turned = relit(ramp, torch.Generator().manual_seed(0)).diff(dim=3).sum((1, 2, 3)) < 0
    assert 30 < turned.sum() < 70  # mirrored
    with refused(TypeError, "generator"):
        relit(images, 3)


# digits


def test_coloured_digits_show_the_class_in_both_colours():
    images, classes = load_digits()
    found = colour_digits(images, classes, levels=256, source_levels=17)
    assert found.shape == (1797, 3, 8, 8) and found.dtype == torch.uint8
    paper = torch.stack([image[:, grey[0] == 0].float().mean(1) for image, grey in zip(found, images, strict=True)])
    for digit in range(10):
        of_digit = paper[classes == digit]
        others = paper[classes == (digit + 5) % 10]
        assert of_digit.std(0).max() < 15 < (of_digit.mean(0) - others.mean(0)).norm()
    ink = found.movedim(1, -1)[images[:, 0] == 16].float()  # where the ink is undiluted
    assert ink.max() < 145 < paper.min()


def test_a_grey_level_mixes_all_channels_alike():
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    found = colour_digits(ramp, torch.tensor([3]), levels=256)[0].float().flatten(1)  # (3, 256)
    for channel in found:
        straight = torch.linspace(channel[0], channel[-1], 256)
        assert (channel - straight).abs().max() <= 1.01
    assert torch.equal(colour_digits(ramp, torch.tensor([3])), quantize(found.view(1, 3, 16, 16).byte(), 8))


def test_coloured_digits_depend_on_the_seed():
    images, classes = load_digits()
    one, same, other = (colour_digits(images, classes, seed=seed, source_levels=17) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert one.max() == 7


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"images": torch.zeros(2, 3, 4, 4, dtype=torch.uint8)}, ValueError, ("images",)),
        ({"classes": torch.tensor([1])}, ValueError, ("classes", "shape (2,)", "(1,)")),
        ({"classes": torch.tensor([1, 10])}, ValueError, ("classes", "0 … 9", "[1, 10]")),
        ({"classes": torch.tensor([1.0, 2.0])}, ValueError, ("classes", "integers")),
        ({"classes": [1, 2]}, TypeError, ("classes", "tensor", "list")),
        ({"source_levels": 1}, ValueError, ("source_levels", "at least 2")),
        ({"source_levels": 3}, ValueError, ("images",)),
    ],
)
def test_bad_coloured_digits(change, error, words):
    arguments = {"images": torch.full((2, 1, 4, 4), 3, dtype=torch.uint8), "classes": torch.tensor([1, 2])} | change
    with refused(error, *words):
        colour_digits(**arguments)


# CIFAR-10


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A tiny CIFAR-10 in torchvision's layout: five training files of two images, one test file."""
    monkeypatch.setenv("PIXELCNN_DATA", str(tmp_path))
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    draw, stored, sums = np.random.default_rng(0), {}, {}
    for name in [f"data_batch_{part}" for part in range(1, 6)] + ["test_batch"]:
        stored[name] = draw.integers(0, 256, (2, 3072), dtype=np.uint8), [3, 9]
        (folder / name).write_bytes(pickle.dumps({"data": stored[name][0], "labels": stored[name][1]}))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    names = pickle.dumps({"label_names": list("abcdefghij")})
    (folder / "batches.meta").write_bytes(names)
    kind = torchvision_sets.CIFAR10
    monkeypatch.setattr(kind, "train_list", [[name, sums[name]] for name in sums if name != "test_batch"])
    monkeypatch.setattr(kind, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": hashlib.md5(names).hexdigest()})
    return folder, stored


def test_cifar10_through_torchvision(cifar, monkeypatch):
    _, stored = cifar
    images, classes = load_cifar10()
    assert images.dtype == torch.uint8 and images.shape == (10, 3, 32, 32) and classes.tolist() == [3, 9] * 5
    assert torch.equal(images[2:4].flatten(1), torch.from_numpy(stored["data_batch_2"][0]))
    assert load_cifar10(train=False)[0].shape == (2, 3, 32, 32)
    monkeypatch.setenv("PIXELCNN_PROFILE", "full")
    data = load_profile_data(8, quick="photos")
    assert str(data) == "CIFAR-10: 10 training and 2 test images of 32×32 pixels, 8 levels of each colour"
    assert torch.equal(data.train, quantize(images, 8))


def test_without_cifar10_the_photographs_serve(tmp_path, monkeypatch, capsys, offline):
    monkeypatch.setenv("PIXELCNN_DATA", str(tmp_path))
    with refused(FileNotFoundError, "CIFAR10 is not in", "cifar-10-batches-py", "load_photo_patches()"):
        load_cifar10()
    monkeypatch.setenv("PIXELCNN_PROFILE", "full")
    assert load_profile_data(8, quick="photos").train.shape == (8000, 3, 16, 16)
    assert "Going on with the two photographs. CIFAR10 is not in" in capsys.readouterr().out


def test_a_damaged_cifar10_is_downloaded_again(cifar, tmp_path, monkeypatch, offline):
    folder, _ = cifar
    (folder / "data_batch_3").write_bytes(b"cut off")
    with refused(FileNotFoundError, "CIFAR10 is not in"):
        load_cifar10()


# the order


@pytest.mark.parametrize("options", [{}, {"embedding": 3}], ids=["numbers", "vectors"])
def test_green_sees_its_own_red_and_blue_both(options):
    torch.manual_seed(0)
    model = GatedPixelCNN(channels=3, **TINY, **options)
    assert_causal(model)
    model.hidden.mask.fill_(1)  # the wrong network: a 1×1 that mixes the colours of a pixel
    with refused(AssertionError, "leak"):
        assert_causal(model)


@pytest.mark.parametrize("kind", [SeparateChannels, BlindToOwnPixel])
def test_a_network_without_order_is_refused(kind):
    torch.manual_seed(0)
    with refused(AssertionError, "green ignores its own red everywhere"):
        assert_causal(kind(**TINY))


def changed_logits(model):
    """Whether the logits of a pixel's channels change with those of the pixel before and with its own, `(2, 3, 3)`."""
    images, found = integers((1, 3, 5, 5), 4), torch.zeros(2, 3, 3, dtype=torch.bool)
    model.double().eval()
    with torch.no_grad():
        before = model(images)[0, :, :, 2, 2]  # (levels, C)
        for place, col in enumerate((1, 2)):
            for channel in range(3):
                other = images.clone()
                other[0, channel, 2, col] = (other[0, channel, 2, col] + 1) % 4
                found[place, :, channel] = (model(other)[0, :, :, 2, 2] != before).any(0)
    return found


def test_what_each_network_sees():
    torch.manual_seed(0)
    everything, nothing, own = torch.ones(3, 3), torch.zeros(3, 3), torch.eye(3)
    wide = TINY | {"features": 24}  # so that a dead unit hides nothing
    for model, earlier, here in (
        (SeparateChannels(**wide), own, nothing),
        (BlindToOwnPixel(**wide), everything, nothing),
        (GatedPixelCNN(channels=3, embedding=3, **wide), everything, everything.tril(-1)),
    ):
        found = changed_logits(model)
        assert torch.equal(found[0], earlier.bool()), type(model)
        assert torch.equal(found[1], here.bool()), type(model)


@pytest.mark.parametrize("kind", [SeparateChannels, BlindToOwnPixel])
def test_networks_without_order_draw_learn_and_are_stored(kind, tmp_path):
    torch.manual_seed(0)
    model = kind(embedding=3, **TINY)
    images = integers((16, 3, 5, 4), 4)
    history = fit(model, images, epochs=2, batch_size=4, progress=False)
    assert history.train[-1] < history.train[0]
    drawn = sample(model, 3, method="guess")
    assert torch.equal(drawn, naive_sample(model, 3))
    save_model(model, tmp_path / "m.safetensors", {})
    again, _ = load_model(tmp_path / "m.safetensors", kind(embedding=3, **TINY))
    assert torch.allclose(again(images), model(images), atol=1e-5)


def test_bits_of_the_channels_add_up():
    torch.manual_seed(0)
    model, images = GatedPixelCNN(channels=3, **TINY).eval(), integers((5, 3, 6, 5), 4)
    bits = channel_bits(model, images)
    assert bits.shape == (5, 3)
    assert torch.allclose(bits.double().mean(1) * 90 * math.log(2), nats(model, images), rtol=1e-5)


# another head


@pytest.mark.parametrize("levels", [2, 5, 256])
def test_a_logistic_mixture_gives_each_level_what_falls_between_its_marks(levels):
    torch.manual_seed(0)
    head, x = LogisticMixture(6, levels, 3), torch.randn(2, 6, 3, 4)
    found = head(x)
    assert found.shape == (2, levels, 3, 4)
    assert torch.allclose(found.exp().sum(1), torch.ones(2, 3, 4), atol=1e-4)
    weight, mean, scale = head.parameters_of(x[0, :, 1, 2]).view(3, 3).double()
    marks = ((torch.arange(1, levels, dtype=torch.float64) - 0.5) * 2 / (levels - 1) - 1).view(-1, 1)
    below = torch.sigmoid((marks - mean) / scale.exp()) @ weight.softmax(0)
    below = torch.cat([torch.zeros(1), below, torch.ones(1)]).double()
    assert torch.allclose(found[0, :, 1, 2].double().exp(), below.diff(), atol=1e-5)


def test_extreme_scales_stay_finite():
    head = LogisticMixture(1, 256, 2)
    for value in (1e4, -1e4):
        x = torch.full((1, 1, 1, 1), value, requires_grad=True)
        out = head(x)
        out.sum().backward()
        assert out.isfinite().all() and x.grad.isfinite().all()
        assert all(weight.grad.isfinite().all() for weight in head.parameters())


def test_a_network_with_a_logistic_head_is_causal_and_learns():
    torch.manual_seed(0)
    model = with_logistic_head(GatedPixelCNN(levels=16, features=6, blocks=2, first_kernel_size=5), 2)
    assert_causal(model)
    images = F.interpolate(integers((40, 1, 3, 3), 16).float(), size=(6, 6), mode="bilinear").long()
    before = bits_per_dim(model, images)
    fit(model, images, epochs=8, batch_size=8, learning_rate=5e-3, progress=False)
    assert bits_per_dim(model, images) < before - 0.3
    assert torch.equal(sample(model, 2, method="guess"), naive_sample(model, 2))


# drawing


@pytest.mark.parametrize("levels", [8, 256])
def test_colour_is_drawn_exactly(levels):
    """Cached as naive, with vectors and with known upper halves."""
    torch.manual_seed(0)
    model = GatedPixelCNN(channels=3, levels=levels, features=12, blocks=3, dilations=[1, 2, 1], embedding=4).double()
    images, upper = integers((3, 3, 8, 7), levels), torch.zeros(8, 7, dtype=torch.bool)
    upper[:4] = True
    for known in (None, (images, upper)):
        drawn = sample(model, 3, size=(8, 7), known=known)
        assert torch.equal(drawn, naive_sample(model, 3, size=(8, 7), known=known))
    assert torch.equal(drawn[:, :, :4], images[:, :, :4])


def test_256_patches_take_less_than_a_gibibyte():
    """In a process of its own, whose peak memory is measured before and after."""
    code = """
import resource, torch
from pixelcnn_helpers import GatedPixelCNN, sample
torch.set_num_threads(1)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # GiB
model = GatedPixelCNN(channels=3, levels=8, features=48, blocks=8, embedding=8)
sample(model, 1, size=(16, 16))
before = peak()
sample(model, 256, size=(16, 16))
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1
