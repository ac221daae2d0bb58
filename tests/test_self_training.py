"""Self-training: what is kept of what a network draws, the copies of it, and the rounds."""

import copy

import pytest
import torch
from conftest import BrightnessReader, integers, one_hot, refused

from pixelcnn_helpers import History, nats
from pixelcnn_helpers.studies.between import leanings, steady_reading
from pixelcnn_helpers.workshop import self_training
from pixelcnn_helpers.workshop.self_training import Sieve, append, files_of_rounds, moved_copies, self_taught, softened

IMAGES, CLASSES = integers((12, 1, 28, 28), 3).to(torch.uint8), torch.arange(12) % 3
LABELS = one_hot(CLASSES)


@pytest.fixture
def reader():
    return BrightnessReader().eval()


@pytest.fixture
def sieve(large, reader):
    return Sieve(large, reader, IMAGES, LABELS)


@pytest.fixture
def quick(large, reader, tmp_path, monkeypatch):
    """One call of `self_taught` with everything small."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(self_training, "PAIRS", ((0, 1),))
    monkeypatch.setattr(self_training, "AT_ONCE", 16)
    options = {"epochs": 1, "batch_size": 4, "progress": False, "validation": (IMAGES, LABELS)}

    def call(model=large, rounds=2, **changes):
        model = copy.deepcopy(model)
        with torch.random.fork_rng():
            history = self_taught(
                model, reader, IMAGES, LABELS, rounds=rounds, wanted=6, checkpoint=tmp_path / "tiny.pt",
                **(options | changes),
            )
        return model, history

    return call


def test_what_is_kept_is_undecided_and_likely(sieve, large, reader, monkeypatch):
    monkeypatch.setattr(self_training, "AT_ONCE", 16)
    limit = sieve.nats[CLASSES < 2].quantile(0.95)
    images, readings = sieve.undecided(large, 0, 1, 10, seed=3)
    assert images.dtype == torch.uint8 and 0 < len(images) <= 10
    torch.testing.assert_close(readings, steady_reading(reader, images, 3))
    leaning, on_pair, _ = leanings(readings, 0, 1)
    assert on_pair.min() > 0.9 and leaning.min() > 0.1 and leaning.max() < 0.9
    either = torch.stack([nats(large, images, one_hot([c]).expand(len(images), -1)) for c in (0, 1)]).amin(0)
    assert either.max() <= limit
    again, _ = sieve.undecided(large, 0, 1, 10, seed=3)
    assert torch.equal(again, images)


def test_blots_are_let_go(sieve, large):
    sieve.nats = torch.zeros_like(sieve.nats)  # nothing is as likely as that
    images, readings = sieve.undecided(large, 0, 1, 3, seed=3)
    assert images.shape == (0, 1, 28, 28) and readings.shape == (0, 3)


def test_nobody_draws_for_ever(sieve, large, monkeypatch):
    asked = []
    monkeypatch.setattr(self_training, "AT_ONCE", 8)
    monkeypatch.setattr(self_training, "sample", lambda *_, labels, **__: asked.append(labels) or IMAGES[:8] * 0)
    images, _ = sieve.undecided(large, 0, 1, 3, seed=3)
    assert len(images) == 0 and len(asked) == -(-3 * self_training.MOST // 8)
    rows = torch.cat(asked)
    assert rows[:, 2].max() == 0 and torch.allclose(rows.sum(1), torch.ones(len(rows)))
    assert rows[:, 1].min() >= 0.25 and rows[:, 1].max() <= 0.75 and rows[:, 1].std() > 0.1


def test_pairs_of_the_series_are_wanted_more(sieve, large, monkeypatch, tmp_path):
    monkeypatch.setattr(self_training, "PAIRS", ((0, 2),))
    asked, none = [], (IMAGES[:0], torch.zeros(0, 3))
    monkeypatch.setattr(sieve, "undecided", lambda _, *words: asked.append(words) or none)
    sieve.all_pairs(large, 25, 4, tmp_path / "drawn.safetensors")
    assert [words[:3] for words in asked] == [(0, 1, 3), (0, 2, 25), (1, 2, 3)]
    assert len({words[3] for words in asked}) == 3


def test_what_was_drawn_before_a_stop_is_kept_pair_by_pair(sieve, large, monkeypatch, tmp_path):
    asked, path = [], tmp_path / "drawn.safetensors"

    def draw(model, a, b, wanted, seed):
        asked.append((a, b))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return IMAGES[a : a + 1], torch.eye(3)[[b]]

    monkeypatch.setattr(sieve, "undecided", draw)
    with pytest.raises(KeyboardInterrupt):
        sieve.all_pairs(large, 25, 4, path)
    images, readings = sieve.all_pairs(large, 25, 4, path)
    assert asked == [(0, 1), (0, 2), (0, 2), (1, 2)]
    assert torch.equal(images, IMAGES[[0, 0, 1]]) and readings.argmax(1).tolist() == [1, 2, 2]


def test_a_class_without_real_images(large, reader):
    with refused(ValueError, "held_out must leave images of every class", "got none of [2]"):
        Sieve(large, reader, IMAGES[CLASSES < 2], LABELS[CLASSES < 2])


def test_copies_are_moved_and_read_anew(reader):
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    images[0, :, 6:22, 8:20], images[1, :, 5:23, 5:23] = 2, 2
    readings = steady_reading(reader, images, 3)
    copies, labels = moved_copies(images, readings, reader, 3, 30, torch.Generator().manual_seed(0))
    assert copies.shape == (30, 1, 28, 28) and labels.shape == (30, 3)
    torch.testing.assert_close(labels, steady_reading(reader, copies, 3))
    assert len(torch.unique(copies, dim=0)) > 10
    assert set(copies.flatten(1).sum(1).tolist()) == {2 * 16 * 12, 2 * 18 * 18}  # moved, not cut
    where = copies[:, 0].nonzero()
    assert where[:, 1:].min() >= 3 and where[:, 1:].max() <= 24


def test_copies_that_are_decided_are_left_out(reader, monkeypatch):
    images = torch.ones(2, 1, 28, 28, dtype=torch.uint8)
    undecided = torch.tensor([[0.5, 0.5, 0.0]] * 2)

    def read(_, images, levels):  # what was moved is decided
        moved = images.flatten(1).sum(1) < 784
        return torch.where(moved[:, None], torch.tensor([1.0, 0.0, 0.0]), undecided[0])

    monkeypatch.setattr(self_training, "steady_reading", read)
    copies, labels = moved_copies(images, undecided, reader, 3, 9, torch.Generator().manual_seed(0))
    assert (copies == 1).all() and (labels == 0.5).sum() == 18


def test_nothing_to_copy(reader):
    with refused(ValueError, "drew nothing that the teacher cannot decide", "wanted"):
        moved_copies(IMAGES[:0], torch.zeros(0, 3), reader, 3, 4, torch.Generator())


def test_rounds(quick, large, tmp_path, capsys):
    model, history = quick()
    assert [len(values) for values in (history.steps, history.train, history.validation, history.seconds)] == [2] * 4
    assert history.steps == [3, 6] and history.seconds[0] < history.seconds[1]
    assert "round 2: " in capsys.readouterr().out
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), large.parameters(), strict=True))
    assert sorted(file.name for file in files_of_rounds(tmp_path / "tiny.pt")) == [
        "tiny.drawn-1.safetensors", "tiny.drawn-2.safetensors", "tiny.round-1.pt", "tiny.round-2.pt",
    ]  # fmt: skip


def test_a_stopped_training_does_nothing_twice(quick, tmp_path, monkeypatch):
    wanted, _ = quick()
    for file in files_of_rounds(tmp_path / "tiny.pt"):
        file.unlink()
    quick(rounds=1)
    (tmp_path / "tiny.pt").touch()  # of another kind, and left alone
    draws, steps, draw, step = [], [], self_training.sample, torch.optim.AdamW.step
    monkeypatch.setattr(self_training, "sample", lambda *args, **options: draws.append(1) or draw(*args, **options))
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *args, **options: steps.append(1) or step(*args, **options))
    model, history = quick(rounds=1)
    assert not draws and not steps and len(history.steps) == 1
    model, history = quick()
    assert draws and len(steps) == 3 and len(history.steps) == 2
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), wanted.parameters(), strict=True))


def test_an_interrupted_round_ends_it(quick):
    def stop(history):
        raise KeyboardInterrupt

    _, history = quick(callback=stop)
    assert history is None


def test_interrupted_while_it_draws(quick, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(self_training, "sample", stop)
    _, history = quick()
    assert history is None


def test_softened_labels_show_doubts(reader):
    images = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    hard, soft = (softened(reader, images, 3, temperature) for temperature in (1.0, 4.0))
    assert hard[0].tolist() == pytest.approx([0.99, 0.01, 0.0], abs=1e-3)
    assert soft[0, 0] < 0.75 and soft[0, 1] > 0.2
    assert soft.sum().item() == pytest.approx(1)


def test_histories_in_a_row():
    whole = History([2, 4], [3.0, 2.0], [3.1, 2.1], [1.0, 2.0])
    append(whole, History([5], [1.0], [1.1], [4.0]))
    assert whole == History([2, 4, 9], [3.0, 2.0, 1.0], [3.1, 2.1, 1.1], [1.0, 2.0, 6.0])
