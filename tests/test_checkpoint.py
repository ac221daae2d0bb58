"""What survives a stop: atomic files, damaged checkpoints, NaN, locks, Ctrl-C at any line, SIGKILL at any moment.

A resumed training must end in the weights of an undisturbed one, to the last bit.
"""

import errno
import itertools
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections import Counter

import pytest
import torch
from accelerate import Accelerator
from conftest import assert_clear, integers, refused
from test_training import (
    HELD,
    IMAGES,
    LABELS,
    Failing,
    Stop,
    _on_the_cpu,  # noqa: F401, a fixture
    copied,
    done,
    flipped,
    layouts,
    python,
    quick,
    same,
    small,
    toy,
)
from torch import nn

from pixelcnn_helpers import bits_per_dim, training
from pixelcnn_helpers import checkpoint as files
from pixelcnn_helpers.checkpoint import Checkpoint, DelayedInterrupt, digest, write_atomically

HELD_LABELS = LABELS[:10]
SETTINGS = {  # the constructor of a model, and the options of `fit`
    "plain": (small, {}),
    "validation": (small, {"validation": (HELD, None)}),
    "dropout": (toy, {"labels": LABELS}),
    "augmentation": (small, {"augment": flipped}),
    "all": (toy, {"labels": LABELS, "validation": (HELD, HELD_LABELS), "augment": flipped}),
}
EPOCH = 3  # steps


def trained(setting="plain", seed=0, **options):
    """A training of a new model: the model and its history."""
    make, others = SETTINGS[setting]
    model = make(seed)
    return model, quick(model, **{**others, **options})


@pytest.fixture(scope="module")
def undisturbed(_on_the_cpu):  # noqa: F811
    """The trainings that nobody stops, of two epochs each."""
    return {setting: trained(setting) for setting in SETTINGS}


@pytest.fixture
def every_step(monkeypatch):
    """The save of every minute becomes one of every step."""
    monkeypatch.setattr(training, "SAVE_EVERY", -1)


@pytest.fixture
def ctrl_c():
    """Ctrl-C raises KeyboardInterrupt, as it does outside pytest's workers; afterwards nobody else handles it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    left = signal.signal(signal.SIGINT, before)
    assert left is signal.default_int_handler


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def step_in(path) -> int:
    return torch.load(path, weights_only=True)["step"]


def unfinished(folder) -> list:
    return list(folder.rglob("*.part"))


# files written atomically


def test_two_writers_never_leave_a_torn_file(tmp_path):
    path, stop, errors, seen = tmp_path / "file", threading.Event(), [], Counter()
    contents = [b"a" * 200_000, b"b" * 300_000]
    write_atomically(path, contents[0])

    def write(content):
        try:
            while not stop.is_set():
                write_atomically(path, content)
        except Exception as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    while seen.total() < 500 or len(seen) < 2:
        read = path.read_bytes()
        seen[contents.index(read) if read in contents else "torn"] += 1
        if errors or "torn" in seen:
            break
    stop.set()
    for writer in writers:
        writer.join()
    assert not errors
    assert seen.keys() == {0, 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("where", ["write_bytes", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, where, error):
    path, write = tmp_path / "file", pathlib.Path.write_bytes
    write_atomically(path, "old")

    def fails(file, data):
        write(file, b"ne")
        raise error

    monkeypatch.setattr(*((pathlib.Path, "write_bytes") if where == "write_bytes" else (os, "replace")), fails)
    with pytest.raises(type(error)):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_that_cannot_be_encoded_leaves_nothing(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "file", "\ud800")
    assert not list(tmp_path.iterdir())


def test_a_digest_tells_values_shapes_and_types_apart():
    x = torch.arange(6)
    others = [
        x, x.view(2, 3), x.int(), x.float(), x.flip(0), x[:5], None, (), (x, x), (x, None), [1, 2], [12], {"a": 1},
        {"a": 2}, {"b": 1}, {"a": x}, {"a": {"b": x}}, 1, 1.0, "1", True, (1, (2,)), ((1,), 2), torch.tensor(1.0),
        torch.tensor(float("nan")), torch.zeros(0), torch.zeros(0, 2), torch.zeros(2), torch.zeros(2).int(),
    ]  # fmt: skip
    found = [digest(other) for other in others]
    assert len(set(found)) == len(others)
    assert all(re.fullmatch("[0-9a-f]{12}", one) for one in found)
    assert found[0] == digest(x.clone())
    images = integers((2, 3, 4, 5), 9).float()
    assert digest(images) == digest(images.to(memory_format=torch.channels_last))
    assert digest(images[::2]) == digest(images[::2].clone().requires_grad_())
    assert digest({"a": [images, 1]}) == digest({"a": (images.clone(), 1)})


# what a checkpoint belongs to


def other_flips(images, generator):
    return flipped(images, generator).flip(2)


def frozen(seed=0):
    model = toy(seed)
    model.last.weight.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("change", "differ"),
    [
        ({"labels": LABELS.roll(1, 0)}, {"labels"}),
        ({"labels": LABELS * 0.9 + 0.1 / 3}, {"labels"}),
        ({"augment": other_flips}, {"augmentation"}),
        ({"augment": None}, {"augmentation"}),
        ({"validation": (2 - HELD, HELD_LABELS)}, {"validation images"}),
        ({"validation": (HELD.flip(3), HELD_LABELS)}, {"validation images"}),
        ({"validation": (HELD, HELD_LABELS.roll(1, 0))}, {"validation labels"}),
        ({"validation": (HELD[:5], HELD_LABELS[:5])}, {"validation", "validation images", "validation labels"}),
        ({"validation": None}, {"validation", "validation images", "validation labels"}),
        ({"images": IMAGES.flip(3)}, {"pixels", "augmentation"}),  # of the same sum
        ({"images": torch.cat([IMAGES[:20], IMAGES[20:].flip(3)])}, {"pixels"}),
        ({"images": IMAGES.view(24, 1, 4, 5)}, {"images", "pixels", "augmentation"}),
        ({"model": lambda: toy().double()}, {"precision", "layers", "labels"}),
        ({"model": frozen}, {"weights", "layers"}),
        ({"learning_rate": 0.5}, {"learning_rate"}),
        ({"learning_rate": 1e-4, "seed": 1}, {"seed", "augmentation"}),  # a lower rate is no reason
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_training(tmp_path, change, differ):
    """The message names what differs, and nothing else; neither the model nor the file is touched."""
    path = tmp_path / "model.pt"
    options = {"labels": LABELS, "validation": (HELD, HELD_LABELS), "augment": flipped, "checkpoint": path, **change}
    trained("all", checkpoint=path, callback=Stop(after=1))
    model, data = options.pop("model", toy)(), path.read_bytes()
    before = vars(model).copy(), copied(model), layouts(model)
    with pytest.raises(ValueError, match=f"^checkpoint {path} is of another training .*: delete it or name ") as caught:
        quick(model, **options)
    assert vars(model) == before[0] and same(model, before[1]) and layouts(model) == before[2]
    assert path.read_bytes() == data
    message = re.search(r"another training \((.*)\): delete", str(caught.value))[1]
    assert {re.match(r"(.*?) \S*( \d+, \d+, \d+\])? there, ", one)[1] for one in message.split("; ")} == differ


def test_the_same_values_in_other_types_are_the_same_training(tmp_path, undisturbed):
    path, resumed = tmp_path / "model.pt", toy(seed=99)
    trained("all", checkpoint=path, callback=Stop(after=1))
    options = {"validation": (HELD, HELD_LABELS), "augment": flipped, "checkpoint": path}
    quick(resumed, IMAGES.int(), LABELS.double(), **options)
    assert same(resumed, undisturbed["all"][0])


def test_a_path_stays_the_same_wherever_the_callback_goes(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    trained(checkpoint="model.pt", callback=lambda history: os.chdir(tmp_path / "elsewhere"))
    assert step_in(tmp_path / "model.pt") == 2 * EPOCH
    assert not list((tmp_path / "elsewhere").iterdir())


# NaN


class Diverging:
    """A `Trainer.step` after whose n-th call the loss or one weight is NaN; Ctrl-C is pressed there, too, if asked."""

    def __init__(self, monkeypatch, at, what, pressed=False):
        step, calls = training.Trainer.step, itertools.count(1)

        def diverges(trainer, *args):
            loss = step(trainer, *args)
            if next(calls) == at:
                if what == "loss":
                    loss = loss * float("nan")
                else:
                    list(trainer.model.parameters())[-1].data.view(-1)[-1] = float(what)
                if pressed:
                    press()
            return loss

        monkeypatch.setattr(training.Trainer, "step", diverges)


@pytest.mark.parametrize("what", ["loss", "nan", "inf"])
@pytest.mark.parametrize(
    ("at", "save_every", "pressed", "kept"),
    [(5, -1, False, 4), (5, 60, False, 3), (6, 60, False, 3), (6, -1, False, 5), (5, 60, True, 3), (6, -1, True, 5)],
    ids=["in an epoch", "before its end", "at its end", "at its end, saved", "at Ctrl-C", "at Ctrl-C, saved"],
)
def test_what_is_not_finite_never_replaces_a_checkpoint(
    tmp_path, monkeypatch, ctrl_c, what, at, save_every, pressed, kept
):
    path = tmp_path / "model.pt"
    with monkeypatch.context() as patch:
        patch.setattr(training, "SAVE_EVERY", save_every)
        Diverging(patch, at, what, pressed)
        noticed = at if save_every < 0 or pressed else 2 * EPOCH
        words = f"({path} is from before, and goes on at a lower rate)"
        with refused(FloatingPointError, f"step {noticed}: lower learning_rate {words}"):
            trained(checkpoint=path, learning_rate=0.02)
    assert step_in(path) == kept
    with refused(ValueError, "is of another training (learning_rate 0.02 there, 0.03 here)"):
        trained(checkpoint=path, learning_rate=0.03)
    model, history = trained(seed=99, checkpoint=path, learning_rate=0.01)
    assert history.steps == [EPOCH, 2 * EPOCH]
    assert all(weight.isfinite().all() for weight in model.parameters())
    with refused(ValueError, "learning_rate 0.01 there, 0.02 here"):
        trained(checkpoint=path, learning_rate=0.02)


def test_without_a_save_before_no_checkpoint_is_promised(tmp_path, monkeypatch):
    Diverging(monkeypatch, 1, "loss")
    with pytest.raises(FloatingPointError, match=r"step 3: lower learning_rate$"):
        trained(checkpoint=tmp_path / "model.pt")
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt.lock"]


def test_a_learning_rate_that_is_too_high(tmp_path):
    """A real overflow, in a model with an exponential; a lower rate goes on from the weights before it."""

    class Exponential(nn.Module):
        channels, levels = 1, 3

        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(3))

        def forward(self, images):
            return self.bias.exp().view(1, 3, 1, 1, 1).expand(len(images), 3, *images.shape[1:])

    path = tmp_path / "model.pt"
    with pytest.raises(FloatingPointError, match=re.escape(str(path))):
        quick(Exponential(), epochs=60, learning_rate=500.0, checkpoint=path)
    assert step_in(path) == EPOCH
    model = Exponential()
    history = quick(model, epochs=60, learning_rate=0.01, checkpoint=path)
    assert len(history.steps) == 60 and model.bias.isfinite().all()


# one training at a time


HOLDS = textwrap.dedent("""
    import sys
    import torch
    from pixelcnn_helpers import PixelCNN, fit

    def wait(history):
        print("trains", flush=True)
        if sys.stdin.readline() == "raise\\n":
            raise KeyError("mine")

    torch.manual_seed(0)
    model = PixelCNN(levels=3, features=6, layers=2, kernel_size=3)
    images = torch.randint(3, (24, 1, 5, 4), generator=torch.Generator().manual_seed(0))
    fit(model, images, epochs=2, batch_size=8, progress=False, checkpoint=sys.argv[1], callback=wait)
""")


@pytest.fixture(scope="module")
def holder(tmp_path_factory):
    script = tmp_path_factory.mktemp("holder") / "holds.py"
    script.write_text(HOLDS)
    return script


@pytest.mark.parametrize("end", ["ends", "raises", "is killed"])
def test_a_second_process_is_refused(tmp_path, holder, undisturbed, end):
    path, model = tmp_path / "model.pt", small(seed=99)
    before = copied(model)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, holder, path], env=environment, **pipes) as process:
        assert process.stdout.readline() == "trains\n"
        words = f"checkpoint {path} is in use by another training: name another one"
        assert_clear(lambda: quick(model, checkpoint=path), ValueError, words)
        assert same(model, before)
        if end == "is killed":
            process.kill()
        else:
            process.communicate("raise\n" if end == "raises" else "\n\n")
    quick(model, checkpoint=path)
    assert same(model, undisturbed["plain"][0])


def test_a_second_thread_is_refused(tmp_path, undisturbed):
    path, trains, goes_on, found = tmp_path / "model.pt", threading.Event(), threading.Event(), []

    def wait(history):
        trains.set()
        assert goes_on.wait(60)

    first = threading.Thread(target=lambda: found.append(trained(checkpoint=path, callback=wait)))
    first.start()
    assert trains.wait(60)
    assert_clear(lambda: trained(checkpoint=path), ValueError, str(path), "in use by another training")
    goes_on.set()
    first.join()
    assert same(found[0][0], undisturbed["plain"][0])
    assert trained(checkpoint=path)[1].steps == found[0][1].steps


def test_a_training_within_a_training_is_refused(tmp_path, monkeypatch):
    """By whatever name it calls the file."""
    path, other = tmp_path / "model.pt", tmp_path / "link.pt"
    monkeypatch.chdir(tmp_path)

    def again(history):
        if len(history.steps) == 1:
            other.symlink_to(path)
            for name in (path, "model.pt", other):
                assert_clear(lambda name=name: trained(checkpoint=name), ValueError, str(name), "in use by another")

    assert trained(checkpoint=path, callback=again)[1].steps == [EPOCH, 2 * EPOCH]


def test_whatever_raises_releases_the_lock(tmp_path, monkeypatch):
    """Also while somebody keeps the error, as notebooks keep the last one."""
    path, kept = tmp_path / "model.pt", []

    def fails(*args, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    def raises(history):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as error:
        trained(checkpoint=path, callback=raises)
    kept.append(error)
    with pytest.raises(ValueError, match="another training") as error:
        trained(checkpoint=path, seed=1, learning_rate=0.5)
    kept.append(error)
    with monkeypatch.context() as patch:
        patch.setattr(files, "NamedTemporaryFile", fails)
        with pytest.raises(ValueError, match="Permission denied") as error:
            trained(checkpoint=path)
    kept.append(error)
    assert trained(checkpoint=path)[1].steps == [EPOCH, 2 * EPOCH]


def test_what_a_killed_training_left_unfinished_is_removed(tmp_path):
    left, others = tmp_path / "a[1].pt.0123abcd.part", tmp_path / "b.pt.0123abcd.part"
    left.touch()
    others.touch()
    trained(checkpoint=tmp_path / "a[1].pt")
    assert {file.name for file in tmp_path.iterdir()} == {"a[1].pt", "a[1].pt.lock", others.name}


# damaged files


def at(state, *keys):
    for key in keys:
        state = state[key]
    return state


def without(*keys):
    def change(state):
        del at(state, *keys[:-1])[keys[-1]]

    return change


def changed(value, *keys):
    def change(state):
        at(state, *keys[:-1])[keys[-1]] = value(at(state, *keys)) if callable(value) else value

    return change


def without_second_moments(state):
    for moments in state["optimizer"]["state"].values():
        del moments["exp_avg_sq"]


DAMAGES = {
    "no second moments": without_second_moments,
    "one second moment less": without("optimizer", "state", 0, "exp_avg_sq"),
    "a moment of another shape": changed(lambda x: x[:1], "optimizer", "state", 0, "exp_avg"),
    "NaN in a moment": changed(lambda x: x * float("nan"), "optimizer", "state", 0, "exp_avg"),
    "no state of the optimiser": changed({}, "optimizer", "state"),
    "the optimiser maximises": changed(True, "optimizer", "param_groups", 0, "maximize"),
    "best of another shape": changed(lambda x: x[:1], "best", "last.weight"),
    "best lacks a weight": without("best", "last.weight"),
    "best is a list": changed([], "best"),
    "NaN in best": changed(lambda x: x * float("nan"), "best", "last.weight"),
    "NaN in the weights": changed(lambda x: x * float("nan"), "model", "last.weight"),
    "a weight of another shape": changed(lambda x: x[:1], "model", "last.weight"),
    "a weight more": changed(torch.zeros(2), "model", "more"),
    "one weight lacks": without("model", "last.weight"),
    "a field more": changed([1], "history", "more"),
    "a field less": without("history", "seconds"),
    "no history": changed(None, "history"),
    "lists of unequal length": changed([3], "history", "steps"),
    "words in the history": changed(["a", "b"], "history", "validation"),
    "a step beyond the last": changed(99, "step"),
    "a negative step": changed(-1, "step"),
    "half a step": changed(1.5, "step"),
    "NaN learned": changed(float("nan"), "learned"),
    "an entry of the future": changed(7, "since"),
    "words for seconds": changed("two", "seconds"),
    "no plan": without("plan"),
    "a plan of numbers": changed(3, "plan"),
    "a part of the plan less": without("plan", "seed"),
    "no digest": without("digest"),
    "another digest": changed("0" * 12, "digest"),
}
OTHER_VERSIONS = {  # files that another version of this package wrote, with a digest that fits
    "a field more": (DAMAGES["a field more"], "cannot be read"),
    "a field less": (DAMAGES["a field less"], "cannot be read"),
    "no since": (without("since"), "cannot be read"),
    "no plan": (without("plan"), "cannot be read"),
    "the plan has a part more": (changed(7, "plan", "size"), "is of another training (size 7 there, None here)"),
    "the plan has a part less": (without("plan", "seed"), "is of another training (seed None there, 0 here)"),
    "no learning rate": (without("plan", "learning_rate"), "is of another training (learning_rate None there, 0.002"),
}


def saved_again(path, change, with_digest=False) -> bytes:
    state = torch.load(path, weights_only=True)
    change(state)
    if with_digest:
        del state["digest"]
        state["digest"] = digest(state)
    torch.save(state, path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, _on_the_cpu):  # noqa: F811
    """The file of a training that was stopped within its second epoch."""
    path = tmp_path_factory.mktemp("stopped") / "toy.pt"
    calls = itertools.count(-1)  # the first call is not one of a step

    def augment(images, generator):
        if next(calls) == 4:
            raise KeyboardInterrupt
        return flipped(images, generator)

    trained("all", checkpoint=path, augment=augment)
    assert step_in(path) == 4
    return path.read_bytes()


def refuses(path, data, words):
    """The file is refused in one clear line; model and file stay as they are."""
    model = toy(seed=5)
    before = vars(model).copy(), copied(model), layouts(model)
    call = {"labels": LABELS, "validation": (HELD, HELD_LABELS), "augment": flipped, "checkpoint": path}
    assert_clear(lambda: quick(model, **call), ValueError, f"checkpoint {path} {words}", "delete it or name another")
    assert vars(model) == before[0] and same(model, before[1]) and layouts(model) == before[2]
    assert path.read_bytes() == data


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint(tmp_path, stopped, damage):
    path = tmp_path / "toy.pt"
    path.write_bytes(stopped)
    refuses(path, saved_again(path, DAMAGES[damage]), "cannot be read")


@pytest.mark.parametrize("version", OTHER_VERSIONS)
def test_a_checkpoint_of_another_version(tmp_path, stopped, version):
    path = tmp_path / "toy.pt"
    path.write_bytes(stopped)
    change, words = OTHER_VERSIONS[version]
    refuses(path, saved_again(path, change, with_digest=True), words)


def test_a_byte_that_changed_is_noticed_or_without_effect(tmp_path, stopped, undisturbed):
    path, noticed, draws = tmp_path / "toy.pt", 0, torch.Generator().manual_seed(0)
    for position in torch.randint(len(stopped), (60,), generator=draws).tolist():
        path.write_bytes(stopped[:position] + bytes([stopped[position] ^ 32]) + stopped[position + 1 :])
        try:
            model, _ = trained("all", seed=5, checkpoint=path)
            assert same(model, undisturbed["all"][0])
        except ValueError as error:
            assert "cannot be read" in str(error) and "\n" not in str(error)
            noticed += 1
    assert noticed > 10


# disks and folders


@pytest.mark.parametrize("where", ["write_bytes", "replace"])
@pytest.mark.parametrize("stops", [False, True])
def test_a_full_disk_stops_nothing(tmp_path, monkeypatch, capsys, undisturbed, where, stops):
    def fails(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "model.pt"
    monkeypatch.setattr(*((pathlib.Path, "write_bytes") if where == "write_bytes" else (os, "replace")), fails)
    model, history = trained(checkpoint=path, callback=Stop(after=2) if stops else None)
    assert same(model, undisturbed["plain"][0])
    assert history.steps == [EPOCH, 2 * EPOCH] and history.interrupted == stops
    line = (
        f"Checkpoint {path} could not be written ([Errno 28] No space left on device): training goes on in memory."
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [line, line]  # one for each epoch
    assert len(lines) == (4 if stops else 2)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt.lock"]


def test_a_folder_that_became_read_only(tmp_path, monkeypatch, undisturbed):
    """The lock of an earlier training can still be opened, but no new file."""

    def fails(*args, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    path, model = tmp_path / "model.pt", small(seed=99)
    trained(checkpoint=path, callback=Stop(after=1))
    before, data = copied(model), path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(files, "NamedTemporaryFile", fails)
        words = f"checkpoint {path} cannot be written ([Errno 30] Read-only file system): name another one"
        assert_clear(lambda: quick(model, checkpoint=path), ValueError, words)
    assert same(model, before) and path.read_bytes() == data
    quick(model, checkpoint=path)
    assert same(model, undisturbed["plain"][0])


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs the permissions of Unix")
def test_a_read_only_folder():
    """As another user where root runs the tests, who may write everywhere."""
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.pt"
        trained(checkpoint=path)
        path.parent.chmod(0o555)
        try:
            os.seteuid(65534 if is_root else os.geteuid())
            for name in (path, path.with_name("other.pt"), path.parent / "below" / "model.pt"):
                words = f"checkpoint {name} cannot be written", "Permission denied"
                assert_clear(lambda name=name: trained(checkpoint=name), ValueError, *words)
        finally:
            os.seteuid(0 if is_root else os.geteuid())
            path.parent.chmod(0o700)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("folder", ("folder cannot be written (it is not a file)",)),
        ("", ("cannot be written (it is not a file)",)),
        (".", ("cannot be written (it is not a file)",)),
        ("..", ("cannot be written (it is not a file)",)),
        ("/", ("cannot be written (it is not a file)",)),
        ("pipe", ("pipe cannot be written (it is not a file)",)),
        ("file/model.pt", ("cannot be written", "file")),
        ("nul\0.pt", ("cannot be written", "null")),
        ("x" * 300, ("cannot be written", "File name too long")),
        ("x" * 245, ("cannot be written", "File name too long")),  # only the name of the unfinished file is too long
        ("loop/model.pt", ("cannot be written",)),
        ("half \ud800.pt", ("cannot be written",)),
    ],
)
def test_a_path_that_cannot_be_written(tmp_path, monkeypatch, name, words):
    """It is refused at the call, before the model is touched, and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    model, there = small(), set(tmp_path.iterdir())
    before = vars(model).copy(), copied(model), layouts(model)
    with refused(ValueError, "checkpoint", "name another one", *words):
        quick(model, checkpoint=name)
    assert vars(model) == before[0] and same(model, before[1]) and layouts(model) == before[2]
    left = {file.name for file in set(tmp_path.iterdir()) - there}
    assert left <= {f"{name}.lock"}
    assert (tmp_path / "file").read_text() == "mine"


# Ctrl-C


LINES_OF = {training.__file__: "training", files.__file__: "checkpoint"}


def pressed_at(call, event=None, presses=1):
    """Make a call and press Ctrl-C at an event, that is at a line of training.py or checkpoint.py.

    Returns what the call returned (None where KeyboardInterrupt left it) and the lines that it came to.
    """
    lines, before = [], sys.gettrace()

    def trace(frame, kind, argument):
        if frame.f_code.co_filename not in LINES_OF:
            return None
        if kind == "line":
            lines.append((LINES_OF[frame.f_code.co_filename], frame.f_lineno))
            if len(lines) - 1 == event:
                for _ in range(presses):
                    press()
        return trace

    sys.settrace(trace)
    try:
        return call(), lines
    except KeyboardInterrupt:
        return None, lines
    finally:
        sys.settrace(before)


def check_history(history):
    lengths = {len(history.steps), len(history.train), len(history.seconds)}
    assert len(lengths) == 1
    assert len(history.validation) in (0, len(history.steps))
    assert history.steps == sorted(set(history.steps))
    assert history.seconds == sorted(history.seconds)


def check_resume(folder, setting, undisturbed, stopped):
    """After an interrupt all is whole: the history, the handler, the lock, the folder; a resume ends as it must."""
    path, (model, history) = folder / "model.pt", undisturbed[setting]
    if stopped is not None:
        check_history(stopped)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not unfinished(folder)
    # other weights, unless the interrupt came before the first save
    resumed, after = trained(setting, seed=99 if path.exists() else 0, checkpoint=path)
    assert same(resumed, model)
    assert not after.interrupted
    check_history(after)
    assert [step for step in after.steps if step % EPOCH == 0] == history.steps
    found = dict(zip(after.steps, after.validation, strict=False))
    assert [found[step] for step in history.steps if history.validation] == history.validation
    path.unlink()


def first_or_last(lines) -> list[int]:
    """For each line the event at which it is executed first, or last, in turns.

    A `try:` is left out: it does nothing, so no signal is handled there, and Python 3.11 does not guard it.
    """
    sources = {name: pathlib.Path(file).read_text().splitlines() for file, name in LINES_OF.items()}
    first = {line: event for event, line in reversed(list(enumerate(lines)))}
    last = {line: event for event, line in enumerate(lines)}
    executed = sorted(line for line in last if sources[line[0]][line[1] - 1].strip() != "try:")
    return [(first, last)[number % 2][line] for number, line in enumerate(executed)]


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_at_any_line(tmp_path, ctrl_c, undisturbed, presses):
    """At each line that a training executes, once, or twice in quick succession."""
    path = tmp_path / "model.pt"

    def run():
        return trained("all", checkpoint=path)[1]

    _, lines = pressed_at(run)
    path.unlink()
    events = first_or_last(lines)
    assert len(events) > 120
    for event in events[:: 4 if presses == 1 else 2]:
        history, _ = pressed_at(run, event, presses)
        check_resume(tmp_path, "all", undisturbed, history)


@pytest.mark.parametrize("when", ["in an epoch", "in the validation", "in a callback"])
def test_ctrl_c_at_any_line_that_handles_one(tmp_path, monkeypatch, ctrl_c, undisturbed, when):
    """The first one comes as a KeyboardInterrupt in the fifth step, or at the end of the first epoch."""
    path, calls, hit = tmp_path / "model.pt", Counter(), {"in an epoch": 6, "in the validation": 1, "in a callback": 1}

    def stop(*_):
        calls[when] += 1
        if calls[when] == hit[when]:
            raise KeyboardInterrupt

    def augment(*args):
        stop()
        return flipped(*args)

    def measure(*args):
        stop()
        return bits_per_dim(*args)

    options = {"in an epoch": {"augment": augment}, "in a callback": {"callback": stop}}.get(when, {})

    def run():
        calls.clear()
        with monkeypatch.context() as patch:
            if when == "in the validation":
                patch.setattr(training, "bits_per_dim", measure)
            return trained("all", checkpoint=path, **options)[1]

    handler = pathlib.Path(training.__file__).read_text().split("except KeyboardInterrupt:")[0].count("\n") + 1
    history, lines = pressed_at(run)
    assert history.interrupted
    path.unlink()
    begins = lines.index(("training", handler))
    events = [begins + event for event in first_or_last(lines[begins:])][::3]
    assert len(events) > 15
    for event in events:
        history, _ = pressed_at(run, event, presses=2)
        check_resume(tmp_path, "all", undisturbed, history)


SITES = [
    (torch.optim.AdamW, "step"), (torch.optim.AdamW, "zero_grad"), (Accelerator, "backward"),
    (Accelerator, "clip_grad_norm_"), (training.Trainer, "step"), (Accelerator, "reduce"),
    (training, "_close_entry"), (training, "bits_per_dim"), (training, "_augmented"), (training, "stalled"),
    (training, "get_accelerator"), (Checkpoint, "__init__"), (Checkpoint, "read"), (Checkpoint, "load"),
    (Checkpoint, "save"), (Checkpoint, "close"), (torch, "save"), (files, "write_atomically"), (os, "replace"),
    (nn.Module, "train"), (nn.Module, "load_state_dict"), (training, "flipped"), (training, "callback"),
]  # fmt: skip


class Sites:
    """Hooks in every function that `fit` calls; they press Ctrl-C before or after some of the calls.

    An event is a pair (when, n): before or after the n-th call of all.
    """

    def __init__(self, monkeypatch, *events):
        self.events, self.calls = events, 0
        monkeypatch.setattr(training, "flipped", flipped, raising=False)  # what the caller passes
        monkeypatch.setattr(training, "callback", lambda history: None, raising=False)
        for owner, name in SITES:
            monkeypatch.setattr(owner, name, self.hooked(getattr(owner, name)))

    def hooked(self, function):
        def hook(*args, **options):
            self.calls += 1
            number = self.calls
            for _ in range(self.events.count(("before", number))):
                press()
            found = function(*args, **options)
            for _ in range(self.events.count(("after", number))):
                press()
            return found

        return hook


def pressed_in(monkeypatch, setting, path, *events, epochs=2):
    """A training with hooks: its history, None where KeyboardInterrupt left `fit`, and the number of calls."""
    make, options = SETTINGS[setting]
    options = {**options, "epochs": epochs}
    model = make(0)
    with monkeypatch.context() as patch:
        sites = Sites(patch, *events)
        if "augment" in options:
            options = {**options, "augment": lambda *args: training.flipped(*args)}
        options = {**options, "callback": lambda history: training.callback(history), "checkpoint": path}
        try:
            return quick(model, **options), sites.calls
        except KeyboardInterrupt:
            return None, sites.calls


@pytest.mark.parametrize("setting", SETTINGS)
def test_ctrl_c_in_any_function_once_or_twice(tmp_path, monkeypatch, ctrl_c, every_step, undisturbed, setting):
    """The second one comes at once, or in one of the next calls."""
    path = tmp_path / "model.pt"
    _, calls = pressed_in(monkeypatch, setting, path)
    path.unlink()
    assert calls > 60
    for index, number in enumerate(range(1, calls + 1, 3 if setting == "all" else 7)):
        first = ("before", "after")[index % 2], number
        second = ((), (first,), (("after", number + index % 4 + 1),))[index % 3]
        history, _ = pressed_in(monkeypatch, setting, path, first, *second)
        check_resume(tmp_path, setting, undisturbed, history)


def test_ctrl_c_again_and_again(tmp_path, monkeypatch, ctrl_c):
    """A training that is stopped after every few calls goes on each time, and ends as it must."""
    path, stops = tmp_path / "model.pt", 0
    unbroken, whole = trained("all", epochs=8)
    for number in range(30, 130):
        history, _ = pressed_in(monkeypatch, "all", path, ("before", number % 20 + 30), epochs=8)
        check_history(history)
        if not history.interrupted:
            break
        stops += 1
    assert stops >= 8
    resumed, after = trained("all", seed=99, epochs=8, checkpoint=path)
    assert same(resumed, unbroken)
    assert set(whole.steps) <= set(after.steps)


def test_a_stop_at_the_end_of_an_epoch_keeps_its_best_weights(tmp_path, monkeypatch, ctrl_c):
    """The second Ctrl-C interrupts the validation of the best epoch: the resumed training returns its weights, too."""
    options = {"images": IMAGES[:8], "epochs": 6, "learning_rate": 0.05, "validation": (HELD, None)}
    make = lambda: small(0, features=24)  # noqa: E731
    unbroken, path, calls = make(), tmp_path / "model.pt", itertools.count(1)
    history = quick(unbroken, **options)
    best = history.validation.index(min(history.validation)) + 1
    assert best < 6  # later epochs are worse

    def pressed(*args):
        if next(calls) == best:
            press()
            press()
        return bits_per_dim(*args)

    with monkeypatch.context() as patch:
        patch.setattr(training, "bits_per_dim", pressed)
        assert quick(make(), checkpoint=path, **options).steps == list(range(1, best + 1))
    resumed = make()
    assert quick(resumed, checkpoint=path, **options).validation == history.validation
    assert same(resumed, unbroken)


def test_a_crash_while_a_stop_is_handled_skips_no_entry(tmp_path, monkeypatch, ctrl_c, undisturbed):
    """Ctrl-C twice in the validation at an epoch's end, then a crash: the resumed training measures that epoch."""
    path, calls = tmp_path / "model.pt", itertools.count(1)

    def crashes(*args):
        if next(calls) == 1:
            press()
            press()
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(training, "bits_per_dim", crashes)
        with pytest.raises(MemoryError):
            trained("all", checkpoint=path)
    assert step_in(path) == EPOCH
    check_resume(tmp_path, "all", undisturbed, None)


def test_a_keyboard_interrupt_within_a_step_saves_nothing(tmp_path, monkeypatch, every_step, undisturbed):
    """Another signal may raise one there; then some weights belong to this step and others to the last one."""
    path, calls = tmp_path / "model.pt", itertools.count(1)

    def step(optimizer, *_):
        if next(calls) == 5:
            next(iter(optimizer.param_groups[0]["params"])).data.mul_(2)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        real = torch.optim.AdamW.step
        patch.setattr(torch.optim.AdamW, "step", lambda *args, **options: (step(*args), real(*args, **options))[1])
        with pytest.raises(KeyboardInterrupt):
            trained("all", checkpoint=path)
    assert step_in(path) == 4
    check_resume(tmp_path, "all", undisturbed, None)


def test_ctrl_c_after_the_last_step_is_not_lost(tmp_path, monkeypatch, ctrl_c, undisturbed):
    path, model, real, closed = tmp_path / "model.pt", small(), training.tqdm.close, []

    def close(bar):
        real(bar)
        if not closed:  # the bar closes again when it is collected
            closed.append(True)
            press()

    with monkeypatch.context() as patch:
        patch.setattr(training.tqdm, "close", close)
        with pytest.raises(KeyboardInterrupt):
            quick(model, checkpoint=path)
    assert same(model, undisturbed["plain"][0])
    assert not model.training
    check_resume(tmp_path, "plain", undisturbed, None)


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_before_the_first_step(tmp_path, ctrl_c, capsys, presses):
    """The first one waits until the training begins, the second one does not."""
    model, calls = toy(), []

    def augment(images, generator):
        calls.append(len(images))
        for _ in range(presses):
            press()
        calls.append("went on")
        return images

    options = {"labels": LABELS, "augment": augment, "checkpoint": tmp_path / "model.pt"}
    if presses == 1:
        assert quick(model, **options).interrupted
        assert capsys.readouterr().out == "Stopped after 0 of 6 steps; what was learned so far is kept.\n"
    else:
        with pytest.raises(KeyboardInterrupt):
            quick(model, **options)
    assert calls == [8, "went on"][: 3 - presses]
    assert same(model, toy())


def test_ctrl_c_while_a_checkpoint_is_loaded(tmp_path, monkeypatch, ctrl_c):
    """The model then has all its weights, or none of them."""
    path, model = tmp_path / "model.pt", toy(seed=99)
    load, calls = nn.Module._load_from_state_dict, itertools.count()

    def presses(*args):
        if next(calls) == 1:
            press()
            press()
        return load(*args)

    trained("all", checkpoint=path, callback=Stop(after=1))
    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "_load_from_state_dict", presses)
        with pytest.raises(KeyboardInterrupt):
            quick(model, checkpoint=path, **SETTINGS["all"][1])
    assert same(model, torch.load(path, weights_only=True)["model"])


def test_the_best_weights_of_a_stop_are_not_those_of_an_epoch(tmp_path, monkeypatch):
    """They are returned after the stop. The resumed training does without them, as if nobody had stopped it."""
    path, weights = tmp_path / "model.pt", []

    def run(*validation, seed=0, augment=flipped, **options):
        found = iter(validation)
        monkeypatch.setattr(training, "bits_per_dim", lambda model, *_: (weights.append(copied(model)), next(found))[1])
        return trained("all", seed, augment=augment, **options)

    unbroken, _ = run(2.0, 3.0)
    assert same(unbroken, weights[0])
    stopped, history = run(2.0, 1.0, augment=Failing(KeyboardInterrupt), checkpoint=path)
    assert history.validation == [2.0, 1.0]
    assert same(stopped, weights[3]) and not same(stopped, unbroken)
    resumed, history = run(3.0, seed=99, checkpoint=path)
    assert history.validation == [2.0, 1.0, 3.0]
    assert same(resumed, unbroken)


@pytest.mark.parametrize("raises", [True, False])
def test_a_handler_of_somebody_else(tmp_path, monkeypatch, ctrl_c, undisturbed, raises):
    """It is called after the step, and decides whether the training goes on."""
    path, calls, steps, seen = tmp_path / "model.pt", itertools.count(1), [], []

    def handler(number, frame):
        seen.append((number, len(steps)))
        if raises:
            raise KeyboardInterrupt

    def clip(*args, **options):
        if next(calls) == 5:
            press()
        found = real(*args, **options)
        steps.append(1)
        return found

    real = Accelerator.clip_grad_norm_
    signal.signal(signal.SIGINT, handler)
    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "clip_grad_norm_", clip)
        model, history = trained("all", checkpoint=path)
    assert seen == [(signal.SIGINT, 5)]
    assert history.interrupted == raises
    assert signal.getsignal(signal.SIGINT) is handler
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not raises:
        assert same(model, undisturbed["all"][0])
    check_resume(tmp_path, "all", undisturbed, history)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_signal_without_a_handler_is_left_alone(ctrl_c, handler):
    signal.signal(signal.SIGINT, handler)
    found = []
    trained(callback=lambda history: found.append(signal.getsignal(signal.SIGINT)))
    assert found == [handler] * 2
    assert signal.signal(signal.SIGINT, signal.default_int_handler) is handler


def test_another_thread_changes_no_handler(ctrl_c, undisturbed):
    found = []

    def run():
        found.append(trained(callback=lambda history: found.append(signal.getsignal(signal.SIGINT)))[0])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found[:2] == [signal.default_int_handler] * 2
    assert same(found[2], undisturbed["plain"][0])


def test_the_second_ctrl_c_acts_at_once_but_never_inside_held(ctrl_c):
    with DelayedInterrupt() as interrupt:
        with interrupt.held():
            pass
        interrupt.act()
        press()
        with pytest.raises(KeyboardInterrupt):
            interrupt.act()
        interrupt.act()  # it acts once
        with pytest.raises(KeyboardInterrupt):
            press()
        done = []
        with pytest.raises(KeyboardInterrupt), interrupt.held():
            press()
            done.append(True)
        assert done
    with pytest.raises(KeyboardInterrupt), DelayedInterrupt():
        press()
    with pytest.raises(KeyError), DelayedInterrupt():
        press()
        press()  # as inside `held`, until the first one ends
        raise KeyError


def test_ctrl_c_from_another_thread(tmp_path, ctrl_c, undisturbed):
    """At moments that no test chose."""
    import _thread

    path, stops = tmp_path / "model.pt", 0
    for number in range(20):
        ready = threading.Event()
        timer = threading.Thread(target=lambda ready=ready: (ready.wait(), _thread.interrupt_main()))
        calls = itertools.count(1)

        def augment(*args, calls=calls, ready=ready, number=number):
            if next(calls) == number % 7 + 1:
                ready.set()
            return flipped(*args)

        timer.start()
        _, history = trained("all", checkpoint=path, augment=augment)
        timer.join()
        stops += history.interrupted
        check_resume(tmp_path, "all", undisturbed, history)
    assert stops == 20


# SIGKILL


KILLS = textwrap.dedent("""
    import os, pathlib, random, signal, sys, time
    sys.path.insert(0, sys.argv[1])
    import torch
    from accelerate import Accelerator
    from pixelcnn_helpers import training
    from test_training import HELD, LABELS, flipped, quick, same, toy

    training.SAVE_EVERY = -1
    path, draws, kills, steps = pathlib.Path(sys.argv[2]), random.Random(0), 0, []
    options = {"labels": LABELS, "validation": (HELD, LABELS[:10]), "augment": flipped, "epochs": 100}

    def run(seed=0, **others):
        model = toy(seed)
        return model, quick(model, **options, **others)

    unbroken, whole = run()
    for _ in range(24):
        child = os.fork()
        if child == 0:
            run(seed=99 if path.exists() else 0, checkpoint=path)
            os._exit(0)
        time.sleep(draws.uniform(0.02, 0.15))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        kills += os.WIFSIGNALED(status)
        if path.exists():
            steps.append(torch.load(path, weights_only=True)["step"])
    resumed, history = run(seed=99, checkpoint=path)
    assert same(resumed, unbroken)
    assert history.steps == whole.steps and history.validation == whole.validation and history.train == whole.train
    assert not list(path.parent.glob("*.part"))
    print(kills, len(set(steps)), steps)
""")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_it_goes_on(tmp_path):
    script = tmp_path / "kills.py"
    script.write_text(KILLS)
    kills, moments, *_ = done(python(script, pathlib.Path(__file__).parent, tmp_path / "model.pt")).split()
    assert int(kills) >= 12
    assert int(moments) >= 6
