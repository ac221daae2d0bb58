"""Data: the bundled digits, tiny files in torchvision's layout, and every way in which MNIST can be missing."""

import gzip
import hashlib
import math
import pathlib
import socket
import struct
import time

import numpy as np
import pytest
import torch
from conftest import integers, refused

from pixelcnn_helpers import (
    Dataset,
    load_digits,
    load_mnist,
    load_mnist_sample,
    load_profile_data,
    profile,
    quantize,
    soft_label,
)
from pixelcnn_helpers.data import SAMPLE
from pixelcnn_helpers.studies.datasets import bernoulli, load_dataset, mutated, rotated
from pixelcnn_helpers.studies.mnist import data_folder

REAL = pathlib.Path(__file__).parents[2] / "shared" / "data"
NAMES = {"mnist": "MNIST", "fashion": "FashionMNIST", "emnist-letters": "EMNIST"}


def write_idx(path, array):
    """An array of bytes in the format of MNIST's files: a magic number, the shape, the values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes())


def write_files(folder, variant, train=6, test=4):
    """Tiny files of a variant; returns the images and labels as they are stored."""
    stored, draw = {}, np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        images = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10 + (variant == "emnist-letters")).astype(np.uint8)
        prefix = f"emnist-letters-{part}" if variant == "emnist-letters" else {"train": "train", "test": "t10k"}[part]
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            write_idx(folder / NAMES[variant] / "raw" / f"{prefix}-{kind}-ubyte", array)
        stored[part] = images, labels
    return stored


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PIXELCNN_DATA", str(tmp_path))
    return tmp_path


# digits


def test_digits():
    images, classes = load_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == torch.uint8
    assert (images.min(), images.max()) == (0, 16)
    assert classes.shape == (1797,)
    assert classes.dtype == torch.int64
    assert classes.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert images[0, 0, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]  # a zero, upright
    assert images.is_contiguous()


def test_digits_need_no_network(offline):
    load_digits()
    assert not offline


# MNIST and its sisters


@pytest.mark.parametrize("variant", ["mnist", "fashion"])
def test_mnist(folder, offline, variant):
    stored = write_files(folder, variant)
    for train, part in ((True, "train"), (False, "test")):
        images, classes = load_mnist(train, variant)
        assert images.dtype == torch.uint8
        assert classes.dtype == torch.int64
        assert np.array_equal(images[:, 0].numpy(), stored[part][0])
        assert np.array_equal(classes.numpy(), stored[part][1])
    assert not offline


def test_letters_come_upright_and_counted_from_zero(folder, offline):
    """EMNIST stores its letters on their side (rows and columns exchanged) and counts A as 1."""
    stored = write_files(folder, "emnist-letters")
    images, classes = load_mnist(train=True, variant="emnist-letters")
    assert images.shape == (6, 1, 28, 28)
    assert np.array_equal(images[:, 0].numpy(), stored["train"][0].transpose(0, 2, 1))
    assert images.is_contiguous()
    assert classes.tolist() == [0, 1, 2, 3, 4, 5]
    assert len(load_mnist(False, "emnist-letters")[0]) == 4
    assert not offline


def test_defaults_are_the_training_images_of_mnist(folder, offline):
    write_files(folder, "mnist")
    images, _ = load_mnist()
    assert images.shape == (6, 1, 28, 28)


def test_images_may_be_written_to(folder, offline):
    write_files(folder, "mnist")
    images, _ = load_mnist()
    images += 1  # their own memory, not the file's


@pytest.mark.parametrize("variant", NAMES)
@pytest.mark.parametrize("train", [True, False])
def test_missing_files_without_network(folder, offline, capsys, variant, train):
    started, timeout = time.perf_counter(), socket.getdefaulttimeout()
    with refused(FileNotFoundError, NAMES[variant], str(folder), "PIXELCNN_DATA", "load_digits()", "online"):
        load_mnist(train, variant)
    assert time.perf_counter() - started < 5
    assert offline  # it did try
    assert socket.getdefaulttimeout() == timeout
    assert capsys.readouterr().out == ""


def test_one_missing_file_without_network(folder, offline):
    write_files(folder, "mnist")
    (folder / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    with refused(FileNotFoundError, "MNIST", "PIXELCNN_DATA"):
        load_mnist()


@pytest.mark.parametrize("error", [EOFError, ConnectionResetError, RuntimeError, ValueError])
def test_downloads_that_break(folder, monkeypatch, error):
    from torchvision.datasets import MNIST

    def download(self):
        raise error("in the middle\nof a file")

    monkeypatch.setattr(MNIST, "download", download)
    with refused(FileNotFoundError, "could not be downloaded", error.__name__):
        load_mnist()


def test_a_download_is_used(folder, monkeypatch):
    from torchvision.datasets import MNIST

    timeouts = []

    def download(self):
        timeouts.append(socket.getdefaulttimeout())
        write_files(folder, "mnist")

    monkeypatch.setattr(MNIST, "download", download)
    assert load_mnist()[0].shape == (6, 1, 28, 28)
    assert timeouts == [20]  # a network that swallows packets is not waited for
    assert socket.getdefaulttimeout() is None


DAMAGES = {
    "half": lambda data: data[: len(data) // 2],
    "header": lambda data: data[:6],
    "empty": lambda data: b"",
    "garbage": lambda data: b"<!DOCTYPE html><title>404</title>" * 20,
    "long": lambda data: data + b"more",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["images-idx3", "labels-idx1"])
@pytest.mark.parametrize("variant", ["mnist", "emnist-letters"])
def test_damaged_files(folder, offline, variant, kind, damage):
    write_files(folder, variant)
    (file,) = (folder / NAMES[variant] / "raw").glob(f"*train-{kind}-ubyte")
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    with refused(ValueError, str(file.parent), "cannot be read", "delete"):
        load_mnist(variant=variant)
    assert not offline


def test_images_and_labels_of_different_length(folder, offline):
    write_files(folder, "mnist")
    write_idx(folder / "MNIST/raw/train-labels-idx1-ubyte", np.zeros(5, np.uint8))
    with refused(ValueError, "they hold 6 images and 5 labels", "delete"):
        load_mnist()


def test_an_unknown_variant(folder, offline):
    with refused(ValueError, "variant", "'mnist', 'fashion', 'emnist-letters'", "'kmnist'"):
        load_mnist(variant="kmnist")


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("PIXELCNN_DATA", "~/images")
    assert data_folder() == pathlib.Path.home() / "images"
    for unset in (lambda: monkeypatch.setenv("PIXELCNN_DATA", ""), lambda: monkeypatch.delenv("PIXELCNN_DATA")):
        unset()
        assert data_folder() == pathlib.Path.home() / ".cache" / "pixelcnn"


FILES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


def pack(folder, monkeypatch, names=FILES):
    """Put archives in the place of these files, and let torchvision take them for those that it knows."""
    from torchvision.datasets import MNIST

    raw, known = folder / "MNIST" / "raw", []
    for name in FILES:
        packed = gzip.compress((raw / name).read_bytes())
        known.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))
        if name in names:
            (raw / f"{name}.gz").write_bytes(packed)
            (raw / name).unlink()
    monkeypatch.setattr(MNIST, "resources", known)


def test_archives_are_unpacked_without_network(folder, offline, monkeypatch):
    stored = write_files(folder, "mnist")
    pack(folder, monkeypatch)
    assert np.array_equal(load_mnist()[0][:, 0].numpy(), stored["train"][0])
    assert not offline


def test_one_archive_among_three_files_is_not_enough_without_network(folder, offline, monkeypatch):
    """torchvision downloads the archives of the other three."""
    write_files(folder, "mnist")
    pack(folder, monkeypatch, FILES[:1])
    with refused(FileNotFoundError, "could not be downloaded", str(folder)):
        load_mnist()
    assert offline


real = pytest.mark.skipif(not (REAL / "MNIST" / "raw").is_dir(), reason="no MNIST beside the repository")


@real
def test_the_real_mnist(monkeypatch, offline):
    monkeypatch.setenv("PIXELCNN_DATA", str(REAL))
    images, classes = load_mnist()
    assert images.shape == (60000, 1, 28, 28)
    assert images.double().mean().item() == pytest.approx(0.1307 * 255, rel=1e-3)
    assert classes.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert classes[:5].tolist() == [5, 0, 4, 1, 9]
    assert load_mnist(train=False)[0].shape == (10000, 1, 28, 28)


# the sample of MNIST that ships


@pytest.mark.parametrize("train", [True, False])
def test_the_sample(train):
    images, classes = load_mnist_sample(train)
    assert (images.shape, images.dtype) == ((1000, 1, 28, 28), torch.uint8)
    assert (classes.shape, classes.dtype) == ((1000,), torch.int64)
    assert images.is_contiguous()
    assert (images.min(), images.max()) == (0, 255)
    assert classes.bincount().tolist() == [100] * 10
    assert not torch.equal(classes, classes.sort().values)  # in MNIST's own order, all classes from the beginning on
    assert classes[:100].unique().tolist() == list(range(10))
    assert len(images.flatten(1).unique(dim=0)) == 1000


def test_the_two_parts_of_the_sample_are_different_digits():
    parts = [load_mnist_sample(train)[0].flatten(1) for train in (True, False)]
    assert len(torch.cat(parts).unique(dim=0)) == 2000
    assert torch.equal(load_mnist_sample()[0].flatten(1), parts[0])


@real
@pytest.mark.parametrize("train", [True, False])
def test_the_sample_is_the_beginning_of_each_class_of_mnist(monkeypatch, train):
    monkeypatch.setenv("PIXELCNN_DATA", str(REAL))
    images, classes = load_mnist(train)
    first = torch.zeros(len(classes), dtype=torch.bool)
    for digit in range(10):
        first[(classes == digit).nonzero()[:100, 0]] = True
    sample_images, sample_classes = load_mnist_sample(train)
    assert torch.equal(sample_images, images[first])
    assert torch.equal(sample_classes, classes[first])


def test_the_files_of_the_sample_are_small_and_name_their_licence():
    assert {file.name for file in SAMPLE.iterdir()} == {"train.png", "test.png", "LICENSE.md"}
    assert sum((SAMPLE / name).stat().st_size for name in ("train.png", "test.png")) <= 600_000
    text = (SAMPLE / "LICENSE.md").read_text(encoding="utf-8")
    for words in ("MNIST", "LeCun", "Cortes", "Burges", "Attribution-ShareAlike 3.0", "licenses/by-sa/3.0"):
        assert words in text


def test_the_sample_needs_no_network_and_no_home(monkeypatch, offline):
    monkeypatch.setenv("PIXELCNN_DATA", "")

    def no_home(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "expanduser", no_home)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.delenv(name, raising=False)
    data = load_dataset("mnist-sample")
    assert str(data) == "sample of MNIST: 1,000 training and 1,000 test images of 28×28 pixels, 256 grey levels"
    assert not offline
    with refused(ValueError, "PIXELCNN_DATA must name a folder", "no home"):
        load_mnist()


# levels


@pytest.mark.parametrize("levels", [2, 3, 4, 16, 17, 100, 255, 256, 1000])
@pytest.mark.parametrize("source_levels", [2, 17, 256])
def test_quantize_rounds_to_even_steps(levels, source_levels):
    images = torch.arange(source_levels).view(1, 1, 1, -1)
    found = quantize(images, levels, source_levels)
    assert found.shape == images.shape
    exact = images.double() * (levels - 1) / (source_levels - 1)
    assert ((found - exact).abs() <= 0.5 + 1e-9).all()  # the nearest step
    halves = (exact - exact.floor() - 0.5).abs() < 1e-9
    assert torch.equal(found[~halves].long(), exact[~halves].round().long())
    assert torch.equal(found[halves].long(), exact[halves].ceil().long())  # halves go up, everywhere
    assert (found.min(), found.max()) == (0, levels - 1)
    assert found.dtype == (torch.uint8 if levels <= 256 else torch.int64)


def test_quantize_to_two_levels():
    images = torch.tensor([[[[0, 127, 128, 255]]]], dtype=torch.uint8)
    assert quantize(images, 2).flatten().tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_quantize_at_all_levels_changes_nothing(dtype):
    images = integers((3, 2, 5, 4), 256).to(dtype)
    before = images.clone()
    assert torch.equal(quantize(images, 256), images.to(torch.uint8))
    assert torch.equal(images, before)


def test_quantize_there_and_back():
    images = integers((3, 1, 5, 4), 17)
    assert torch.equal(quantize(quantize(images, 256, 17), 17), images)


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((integers((1, 1, 2, 2), 4), 1), ValueError, ("levels", "at least 2", "got 1")),
        ((integers((1, 1, 2, 2), 4), True), TypeError, ("levels", "integer", "boolean")),
        ((integers((1, 1, 2, 2), 4), 4, 1), ValueError, ("source_levels", "at least 2", "got 1")),
        ((torch.tensor([[[[0, 20]]]]), 4, 17), ValueError, ("images", "0 … 16", "0 … 20")),
        ((torch.zeros(1, 1, 2, 2), 4), TypeError, ("images", "integers 0 … 255", "float32")),
        ((integers((2, 2), 4), 4), ValueError, ("images", "(N, C, H, W)", "(2, 2)")),
        ((np.zeros((1, 1, 2, 2), np.uint8), 4), TypeError, ("images", "torch tensor", "ndarray")),
    ],
)
def test_bad_input(args, error, words):
    with refused(error, *words):
        quantize(*args)


# turned, and drawn in black and white


def turned_by(monkeypatch, share):
    """`rotated` with every random angle at this share of the way from -degrees to degrees."""
    monkeypatch.setattr(torch, "rand", lambda n, **options: torch.full((n,), float(share)))
    return rotated


@pytest.mark.parametrize("size", [1, 5, 8, 28])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_turned_by_nothing(size, dtype):
    images = integers((3, 2, size, size), 256).to(dtype)
    found = rotated(images, 0)
    assert found.dtype == dtype
    assert torch.equal(found, images)


@pytest.mark.parametrize("size", [5, 8, 28])
@pytest.mark.parametrize(("degrees", "quarters"), [(90, 1), (180, 2), (270, 3), (360, 4)])
def test_turned_by_right_angles(monkeypatch, size, degrees, quarters):
    images = integers((3, 2, size, size), 256)
    up, down = (turned_by(monkeypatch, share)(images, degrees) for share in (1, 0))
    assert torch.equal(up, images.rot90(quarters, (2, 3)))
    assert torch.equal(down, images.rot90(-quarters, (2, 3)))


def test_angles_are_spread_evenly_and_each_image_has_its_own():
    """Measured on a spot away from the centre: its direction from there."""
    images = torch.zeros(2000, 1, 29, 29, dtype=torch.uint8)
    images[:, :, 13:16, 23:26] = 255  # ten pixels to the right of the centre
    images, rows = rotated(images, 30, torch.Generator().manual_seed(0)).double()[:, 0], torch.arange(29) - 14.0
    across, up = (images * rows).sum((1, 2)), -(images * rows[:, None]).sum((1, 2))
    angles = torch.atan2(up, across).rad2deg()
    assert -30.5 < angles.min() < -29 < 29 < angles.max() < 30.5
    counts = angles.histc(6, -30, 30)
    assert ((counts / 2000 - 1 / 6).abs() < 0.03).all()
    assert ((across**2 + up**2).sqrt() / images.sum((1, 2)) - 10).abs().max() < 0.1  # neither nearer nor farther


def test_what_comes_in_is_black_and_the_images_are_left_alone(monkeypatch):
    images = torch.full((1, 1, 8, 8), 255)
    found = turned_by(monkeypatch, 1)(images, 45)
    assert found[0, 0, [0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0, 0, 0, 0]
    assert found[0, 0, 2:6, 2:6].min() == 255
    assert images.min() == 255


@pytest.mark.parametrize("draw", [lambda x, g=None: rotated(x, 30, g), bernoulli])
def test_a_generator_repeats_what_was_drawn(draw):
    images = integers((5, 1, 8, 8), 256)
    found = [draw(images, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    torch.manual_seed(3)
    assert torch.equal(draw(images), found[0])


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((integers((1, 1, 4, 5), 4), 10), ValueError, ("images", "square", "4×5")),
        ((integers((1, 1, 4, 4), 4), -10), ValueError, ("degrees", "at least 0", "got -10")),
        ((integers((1, 1, 4, 4), 4), math.inf), ValueError, ("degrees", "finite", "inf")),
        ((integers((1, 1, 4, 4), 4), "10"), TypeError, ("degrees", "number", "str '10'")),
        ((torch.rand(1, 1, 4, 4), 10), TypeError, ("images", "integers", "float32")),
        ((integers((4, 4), 4), 10), ValueError, ("images", "(N, C, H, W)", "(4, 4)")),
    ],
)
def test_what_cannot_be_turned(args, error, words):
    with refused(error, *words):
        rotated(*args)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_bernoulli(dtype):
    levels = torch.tensor([0, 1, 64, 128, 254, 255])
    found = bernoulli(levels.to(dtype).view(1, 1, 1, -1).expand(20000, 1, 2, 6), torch.Generator().manual_seed(0))
    assert (found.dtype, found.shape) == (torch.uint8, (20000, 1, 2, 6))
    share, wanted = found.double().mean((0, 1, 2)), levels / 255
    assert (share[0], share[-1]) == (0, 1)
    assert ((share - wanted).abs() <= 4 * (wanted * (1 - wanted) / 40000).sqrt()).all()
    assert 0 < share[1] < share[-2] < 1


def test_mutated_values_are_uniform_and_so_many():
    images = torch.full((50, 1, 28, 28), 3, dtype=torch.uint8)
    found = mutated(images, 0.5, 8, torch.Generator().manual_seed(0))
    assert found.dtype == torch.uint8 and found.shape == images.shape
    shares = found.flatten().bincount(minlength=8) / found.numel()
    expected = torch.full((8,), 0.5 / 8)
    expected[3] += 0.5
    assert torch.allclose(shares, expected, atol=0.01)
    assert torch.equal(mutated(images, 0, 8), images)
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match="share must be"):
            mutated(images, share, 8)


def test_bernoulli_wants_grey_levels():
    with refused(TypeError, "images", "integers 0 … 255", "float32"):
        bernoulli(torch.rand(1, 1, 2, 2))
    with refused(ValueError, "images", "0 … 255", "0 … 256"):
        bernoulli(torch.tensor([[[[0, 256]]]]))


# data sets


def test_the_digits_as_a_data_set(monkeypatch, offline):
    monkeypatch.setenv("PIXELCNN_PROFILE", "quick")
    data, other = load_dataset("digits"), load_profile_data()
    assert data.name == "bundled digits"
    for part in ("train", "train_classes", "test", "test_classes"):
        assert torch.equal(getattr(data, part), getattr(other, part))
    assert not offline


@pytest.mark.parametrize("variant", NAMES)
def test_mnist_and_its_sisters_as_data_sets(folder, offline, variant):
    write_files(folder, variant)
    data = load_dataset(variant)
    assert str(data) == f"{NAMES[variant]}: 6 training and 4 test images of 28×28 pixels, 256 grey levels"
    for train, images, classes in ((True, data.train, data.train_classes), (False, data.test, data.test_classes)):
        wanted = load_mnist(train, variant)
        assert torch.equal(images, wanted[0])
        assert torch.equal(classes, wanted[1])
    assert not offline


def test_a_data_set_that_is_not_there(folder, offline):
    with refused(FileNotFoundError, "MNIST", "PIXELCNN_DATA"):
        load_dataset("mnist")
    with refused(ValueError, "name", "'digits', 'mnist-sample', 'mnist', 'fashion', 'emnist-letters'", "'kmnist'"):
        load_dataset("kmnist")


# profiles


def test_profile(monkeypatch):
    for name in ("quick", "full"):
        monkeypatch.setenv("PIXELCNN_PROFILE", name)
        assert profile() == name
    monkeypatch.setenv("PIXELCNN_PROFILE", "fast")
    with refused(ValueError, "PIXELCNN_PROFILE", '"quick" or "full"', "'fast'"):
        profile()


@pytest.mark.parametrize(("gpu", "name"), [(True, "full"), (False, "quick")])
@pytest.mark.parametrize("unset", [True, False])
def test_the_profile_of_a_machine(monkeypatch, gpu, name, unset):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setenv("PIXELCNN_PROFILE", "")
    if unset:
        monkeypatch.delenv("PIXELCNN_PROFILE")
    assert profile() == name


def test_quick_profile(monkeypatch, folder, offline, capsys):
    monkeypatch.setenv("PIXELCNN_PROFILE", "quick")
    data = load_profile_data()
    assert (data.levels, data.train.shape, data.test.shape) == (17, (1497, 1, 8, 8), (300, 1, 8, 8))
    assert (len(data.train_classes), len(data.test_classes)) == (1497, 300)
    assert str(data) == "bundled digits: 1,497 training and 300 test images of 8×8 pixels, 17 grey levels"
    images, classes = load_digits()
    together = {(tuple(i.flatten().tolist()), int(c)) for i, c in zip(images, classes, strict=True)}
    for part, of in ((data.train, data.train_classes), (data.test, data.test_classes)):
        assert {(tuple(i.flatten().tolist()), int(c)) for i, c in zip(part, of, strict=True)} <= together
    assert torch.cat([data.train, data.test]).long().sum() == images.long().sum()  # each image once
    assert data.test_classes.bincount().min() > 15  # shuffled, so that every class is held out
    assert torch.equal(load_profile_data().train, data.train)
    assert not offline
    assert capsys.readouterr() == ("", "")


def test_full_profile(monkeypatch, folder, offline, capsys):
    monkeypatch.setenv("PIXELCNN_PROFILE", "full")
    stored = write_files(folder, "mnist")
    data = load_profile_data()
    assert str(data) == "MNIST: 6 training and 4 test images of 28×28 pixels, 256 grey levels"
    assert np.array_equal(data.test[:, 0].numpy(), stored["test"][0])
    assert data.test_classes.tolist() == [0, 1, 2, 3]
    assert capsys.readouterr() == ("", "")


def test_full_profile_without_mnist_goes_on_with_the_digits(monkeypatch, folder, offline, capsys):
    monkeypatch.setenv("PIXELCNN_PROFILE", "full")
    data = load_profile_data(levels=4)
    assert (data.name, data.levels, data.train.shape) == ("bundled digits", 4, (1497, 1, 8, 8))
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert all(words in said for words in ("bundled digits", "PIXELCNN_DATA", str(folder)))


@pytest.mark.parametrize("name", ["quick", "full"])
def test_a_page_may_ask_for_the_sample_of_mnist(monkeypatch, folder, offline, capsys, name):
    """In the full profile it takes the place of an MNIST that cannot be had."""
    monkeypatch.setenv("PIXELCNN_PROFILE", name)
    data = load_profile_data(levels=4, quick="mnist-sample")
    assert (data.name, data.levels, data.train.shape) == ("sample of MNIST", 4, (1000, 1, 28, 28))
    assert torch.equal(data.test, quantize(load_mnist_sample(False)[0], 4))
    assert ("the sample of MNIST" in capsys.readouterr().out) == (name == "full")
    with refused(ValueError, "quick must be one of 'digits', 'mnist-sample', 'photos'", "'mnist'"):
        load_profile_data(quick="mnist")


def test_full_profile_with_damaged_files_says_so(monkeypatch, folder, offline):
    """Not the digits in silence: these files can be mended."""
    monkeypatch.setenv("PIXELCNN_PROFILE", "full")
    write_files(folder, "mnist")
    (folder / "MNIST/raw/t10k-images-idx3-ubyte").write_bytes(b"")
    with refused(ValueError, "MNIST", "cannot be read"):
        load_profile_data()


@pytest.mark.parametrize("levels", [2, 4, 256])
def test_levels_of_the_profile_data(monkeypatch, levels):
    monkeypatch.setenv("PIXELCNN_PROFILE", "quick")
    data = load_profile_data(levels)
    assert data.levels == levels
    assert (data.train.max(), data.test.max()) == (levels - 1, levels - 1)
    assert torch.equal(data.train, quantize(load_profile_data().train, levels, 17))
    assert f"{levels} grey levels" in str(data)
    with refused(ValueError, "levels", "at least 2", "got 1"):
        load_profile_data(1)


def test_dataset_tells_its_size():
    images, classes = integers((3, 1, 2, 5), 4), integers((3,), 2)
    data = Dataset("mine", 4, images, classes, images[:1], classes[:1])
    assert str(data) == "mine: 3 training and 1 test images of 2×5 pixels, 4 grey levels"


# soft labels


def test_soft_label():
    row = soft_label({1: 0.3, 7: 0.7}, classes=10)
    assert (row.shape, row.dtype) == ((1, 10), torch.float32)
    assert torch.allclose(row, torch.tensor([[0, 0.3, 0, 0, 0, 0, 0, 0.7, 0, 0]]))
    assert torch.equal(soft_label({2: 1}, 3), torch.tensor([[0.0, 0, 1]]))
    assert torch.equal(soft_label({0: 1.0, 2: 0.0}, 3), torch.tensor([[1.0, 0, 0]]))
    assert torch.equal(soft_label({np.int64(1): np.float32(0.25), 0: 0.75}, np.int64(2)), torch.tensor([[0.75, 0.25]]))


def test_soft_label_forgives_rounding_alone():
    assert soft_label(dict.fromkeys(range(10), 0.1), 10).sum().item() == pytest.approx(1)
    assert soft_label(dict.fromkeys(range(3), np.float32(1) / np.float32(3)), 3).shape == (1, 3)
    with refused(ValueError, "weights", "sum to 1", "0.999"):
        soft_label({0: 0.999}, 2)


@pytest.mark.parametrize(
    ("weights", "classes", "error", "words"),
    [
        ({1: 0.3, 7: 0.6}, 10, ValueError, ("weights", "sum to 1", "got 0.9", "{1: 0.3, 7: 0.6}")),
        ({1: 2, 7: 2}, 10, ValueError, ("weights", "sum to 1", "got 4")),
        ({}, 10, ValueError, ("weights", "sum to 1", "got 0")),
        ({1: 0.0}, 10, ValueError, ("weights", "sum to 1", "got 0")),
        ({10: 1.0}, 10, ValueError, ("weights", "0 … 9", "got 10")),
        ({-1: 1.0}, 10, ValueError, ("weights", "at least 0", "got -1")),
        ({1.5: 1.0}, 10, TypeError, ("weights", "integer", "float 1.5")),
        ({"1": 1.0}, 10, TypeError, ("weights", "integer", "str '1'")),
        ({True: 1.0}, 10, TypeError, ("weights", "integer", "boolean True")),
        ({1: -0.5, 7: 1.5}, 10, ValueError, ("weights[1]", "at least 0", "got -0.5")),
        ({1: math.nan, 7: 1.0}, 10, ValueError, ("weights[1]", "finite", "nan")),
        ({7: math.inf}, 10, ValueError, ("weights[7]", "finite", "inf")),
        ({7: "1"}, 10, TypeError, ("weights[7]", "number", "str '1'")),
        ({7: True}, 10, TypeError, ("weights[7]", "number", "bool")),
        ([0.5, 0.5], 2, TypeError, ("weights", "{class: weight}", "list")),
        (None, 2, TypeError, ("weights", "{class: weight}", "NoneType")),
        ({0: 1.0}, 0, ValueError, ("classes", "at least 1", "got 0")),
        ({0: 1.0}, 2.0, TypeError, ("classes", "integer", "float 2.0")),
    ],
)
def test_bad_soft_labels(weights, classes, error, words):
    with refused(error, *words):
        soft_label(weights, classes)


def test_a_label_is_float32_whatever_torchs_default():
    torch.set_default_dtype(torch.float64)
    try:
        assert soft_label({1: 1.0}, 3).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
