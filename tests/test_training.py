"""fit: what it learns, what it keeps, how it stops and goes on, alone and in two processes."""

import copy
import io
import math
import os
import pathlib
import platform
import random
import shutil
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ConditionalToy, assert_clear, integers, one_hot, refused
from torch import nn

from pixelcnn_helpers import (
    GatedPixelCNN,
    History,
    PixelCNN,
    bits_per_dim,
    fit,
    quantize,
    training,
    uniform_bits_per_dim,
)
from pixelcnn_helpers.training import NoCompiler, Trainer
from pixelcnn_helpers.workshop.hardware import hardware

IMAGES, HELD = integers((24, 1, 5, 4), 3), integers((10, 1, 5, 4), 3, seed=1)
LABELS = one_hot(torch.arange(24) % 3)


@pytest.fixture(scope="module", autouse=True)
def _on_the_cpu():
    """The tests compare weights bit by bit, which not every GPU reproduces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        yield


def small(seed=0, **options):
    torch.manual_seed(seed)
    return PixelCNN(**{"levels": 3, "features": 6, "layers": 2, "kernel_size": 3, **options})


def toy(seed=0, dropout=0.5):
    torch.manual_seed(seed)
    return ConditionalToy(dropout=dropout)


def quick(model, images=IMAGES, labels=None, **options):
    return fit(model, images, labels, **{"epochs": 2, "batch_size": 8, "progress": False, **options})


def same(a, b) -> bool:
    """Whether two models, or their states, are the same to the last bit."""
    a, b = (x.state_dict() if isinstance(x, nn.Module) else x for x in (a, b))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def copied(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def layouts(model):
    """How each weight lies in memory."""
    return [weight.stride() for weight in model.parameters()]


class Stop:
    """A callback that presses Ctrl-C after so many epochs."""

    def __init__(self, after):
        self.after = after

    def __call__(self, history):
        if len(history.steps) == self.after:
            raise KeyboardInterrupt


def flipped(images, generator):
    flip = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
    return torch.where(flip, images.flip(3), images)


class Failing:
    """An augmentation that raises in the fifth step, within the second epoch.

    before: how often `fit` calls it before the first step: once if there is a checkpoint, to know it again.
    """

    def __init__(self, error, before=1):
        self.error, self.calls = error, -before

    def __call__(self, images, generator):
        self.calls += 1
        if self.calls == 5:
            raise self.error
        return flipped(images, generator)


# learning


def test_learns_a_tiny_set_by_heart():
    images = integers((4, 1, 6, 6), 4)
    model = PixelCNN(levels=4, features=32, layers=2, kernel_size=5)
    history = fit(model, images, steps=200, batch_size=4, learning_rate=0.01, progress=False)
    assert history.train[0] > 1.0
    assert bits_per_dim(model, images) < 0.2 < uniform_bits_per_dim(4)


def test_learns_a_tiny_set_in_colour():
    images = integers((4, 3, 4, 4), 3)
    model = PixelCNN(3, levels=3, features=24, layers=2, kernel_size=3)
    fit(model, images, steps=150, batch_size=4, learning_rate=0.01, progress=False)
    assert bits_per_dim(model, images) < 0.5


def test_learns_what_labels_mean():
    """Class 0 is dark, class 1 light: with labels there is nothing left to guess."""
    classes = torch.arange(16) % 2
    images = (2 * classes.view(-1, 1, 1, 1)).expand(-1, 1, 4, 4)
    model = ConditionalToy()
    fit(model, images, one_hot(classes), steps=150, learning_rate=0.03, progress=False)
    assert bits_per_dim(model, images, one_hot(classes)) < 0.1
    assert bits_per_dim(model, images[:, :, :1, :1], one_hot(1 - classes)) > 2


def test_history():
    model = small()
    history = quick(model, epochs=3, validation=(HELD, None))
    assert isinstance(history, History)
    assert history.steps == [3, 6, 9]
    assert len(history.train) == len(history.validation) == len(history.seconds) == 3
    assert all(math.isfinite(value) for value in history.train + history.validation)
    assert history.seconds == sorted(history.seconds)
    assert history.seconds[0] > 0
    assert history.interrupted is False
    part = quick(small(), epochs=None, steps=4)
    assert part.steps == [3, 4]  # the last entry is a part of an epoch
    assert part.validation == []


def test_train_is_the_mean_loss_of_the_steps_in_bits():
    """A learning rate of nearly 0 leaves the weights as they are, so one pass gives the same value."""
    model = small()
    history = quick(model, epochs=1, learning_rate=1e-30, batch_size=24)
    losses = nn.functional.cross_entropy(small().train()(IMAGES), IMAGES)
    assert history.train[0] == pytest.approx(losses.item() / math.log(2), rel=2e-2)  # bfloat16 on some machines


def test_the_last_images_of_an_epoch_make_no_batch_of_their_own():
    assert quick(small(), epochs=1, batch_size=7).steps == [3]
    assert quick(small(), epochs=2, batch_size=1000).steps == [1, 2]  # nor is a batch larger than the set


def test_the_model_afterwards():
    model = small()
    assert model.training
    quick(model)
    assert not model.training
    assert model.size == (5, 4)
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
    plain = vars(small())
    assert vars(model).keys() == plain.keys()  # nothing of Accelerate's is left on it


def test_images_of_any_integer_type_and_float_labels_of_any():
    a, b = small(), small()
    quick(a)
    quick(b, IMAGES.to(torch.uint8))
    assert same(a, b)
    rows = one_hot(torch.arange(24) % 3)
    c, d = toy(), toy()
    quick(c, labels=rows)
    quick(d, labels=rows.double())
    assert same(c, d)


def test_more_levels_than_a_byte_holds():
    images = integers((4, 1, 2, 2), 300)
    assert quick(PixelCNN(levels=300, features=4, layers=1, kernel_size=3), images, epochs=1).steps == [1]


def test_the_images_are_not_touched():
    images, held, labels = IMAGES.clone(), HELD.clone(), one_hot(torch.arange(24) % 3)
    quick(toy(), images, labels, validation=(held, labels[:10]), augment=lambda x, _: x.zero_())
    assert torch.equal(images, IMAGES)
    assert torch.equal(held, HELD)


def test_same_seed_same_weights():
    models = [toy() for _ in range(3)]
    for model, seed in zip(models, (5, 5, 6), strict=True):
        torch.rand(3)  # whatever the caller drew before
        quick(model, labels=one_hot(torch.arange(24) % 3), seed=seed)
    assert same(models[0], models[1])
    assert not same(models[0], models[2])


@pytest.mark.parametrize("seed", [2**32 + 1, 2**63, 10**30])
def test_large_seeds(seed):
    assert quick(small(), epochs=1, seed=seed).steps == [3]


def test_the_random_state_is_left_alone():
    model = toy()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    quick(model, labels=one_hot(torch.arange(24) % 3), augment=lambda x, g: x.roll(int(torch.randint(5, (1,))), 2))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()


def test_the_bar_shows_images(capsys):
    fit(small(), IMAGES, epochs=2, batch_size=8)
    shown = capsys.readouterr().err
    assert "training: 100%" in shown
    assert "48/48" in shown  # 6 steps of 8 images
    assert "img/s" in shown
    quick(small())
    assert capsys.readouterr() == ("", "")


def test_the_bar_shows_the_loss(capsys, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(training.time, "perf_counter", lambda: float(next(clock)))  # every step takes seconds
    fit(small(), IMAGES, epochs=2, batch_size=8)
    assert "bits/dim" in capsys.readouterr().err


def test_the_learning_rate_warms_up_and_falls_to_zero():
    rates = [training.schedule(step, 100) for step in range(100)]
    assert rates[:5] == sorted(rates[:5])
    assert max(rates) == rates[4] == 1
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert [rates[-2], rates[-1]] == pytest.approx([2 / 95, 1 / 95])  # the next one would be 0
    assert training.schedule(0, 1) == 1


# one step


def test_a_plain_step_is_the_textbook_one():
    """With fast=False, three steps of a `Trainer` are those of a loop written out in float32."""
    model, textbook = small(), small()
    trainer = Trainer(model, 0.01, weight_decay=0.1, fast=False)
    optimizer = torch.optim.AdamW(textbook.parameters(), weight_decay=0.1)
    for share in (1.0, 0.5, 0.25):
        loss = nn.functional.cross_entropy(textbook(IMAGES), IMAGES)
        optimizer.param_groups[0]["lr"] = 0.01 * share
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(textbook.parameters(), 1.0)
        optimizer.step()
        found = trainer.step(share, IMAGES, IMAGES)
        assert torch.equal(found, loss.detach()) and not found.requires_grad
    assert same(model, textbook)
    assert layouts(model) == layouts(textbook) == layouts(small())


@pytest.mark.parametrize("fast", [True, False])
def test_a_step_clips_the_gradient_to_norm_1(fast):
    model = small()
    model.net[-1].weight.data.mul_(1000)
    nn.functional.cross_entropy(model(IMAGES), IMAGES).backward()
    norms = [torch.stack([weight.grad.norm() for weight in model.parameters()]).norm()]
    Trainer(model, 0.01, fast=fast).step(1.0, IMAGES, IMAGES)  # its gradients are left on the model
    norms.append(torch.stack([weight.grad.norm() for weight in model.parameters()]).norm())
    assert norms[0] > 10
    assert norms[1].item() == pytest.approx(1.0, abs=1e-4)


def test_a_trainer_leaves_no_mark_on_the_model():
    """During a training too the model itself computes in float32; only the wrapper of a step has another precision."""
    plain, seen = vars(small()).keys(), []

    def look(history):
        seen.append((vars(model).keys() == plain, model(IMAGES).dtype, model.net[0](IMAGES.float()).dtype))

    model = small()
    quick(model, callback=look)
    assert seen == [(True, torch.float32, torch.float32)] * 2


# what it keeps, and when it stops


def test_the_best_weights_are_kept():
    """Learning noise by heart makes the validation worse and worse: the first weights are the best."""
    found, model = [], small(features=24)
    history = quick(
        model, IMAGES[:8], epochs=12, learning_rate=0.05, validation=(HELD, None),
        callback=lambda history: found.append(copied(model)),
    )  # fmt: skip
    best = history.validation.index(min(history.validation))
    assert best < 11
    assert same(model, found[best])
    assert bits_per_dim(model, HELD) == pytest.approx(min(history.validation), rel=1e-2)  # measured in bfloat16 on some


def test_without_validation_the_last_weights_are_kept():
    found, model = [], small()
    quick(model, callback=lambda history: found.append(copied(model)))
    assert same(model, found[-1])


def test_patience_stops():
    history = quick(
        small(features=24), IMAGES[:8], epochs=60, learning_rate=0.05, validation=(HELD, None), patience=2
    )
    assert len(history.steps) < 60
    found = history.validation
    best = found.index(min(found))
    assert len(found) == best + 3  # the best, and two that were not better
    assert not history.interrupted


@pytest.mark.parametrize(
    ("found", "patience", "stalled"),
    [
        ([], 1, False), ([2.0], 1, False), ([2.0, 1.0], 1, False), ([1.0, 2.0], 1, True), ([1.0, 1.0], 1, True),
        ([1.0, 2.0], 2, False), ([1.0, 2.0, 2.0], 2, True), ([1.0, 2.0, 0.5], 2, False), ([1.0, 2.0], None, False),
    ],
)  # fmt: skip
def test_patience_counts_epochs_without_a_better_one(found, patience, stalled):
    assert training.stalled(found, patience) is stalled


def test_augment_redraws_every_batch():
    seen = []

    def black(images, generator):
        assert isinstance(generator, torch.Generator)
        assert images.shape == (8, 1, 5, 4)
        assert images.dtype == torch.int64
        seen.append(torch.rand(1, generator=generator, device=images.device).item())
        return torch.zeros_like(images, dtype=torch.uint8)

    model = small()
    quick(model, epochs=30, learning_rate=0.02, augment=black)
    assert len(set(seen)) == 90  # a draw of its own for every step
    assert bits_per_dim(model, torch.zeros_like(HELD)) < 0.2
    assert bits_per_dim(model, HELD) > 2  # nothing but black was ever seen


@pytest.mark.parametrize(
    ("augment", "error", "words"),
    [
        (lambda x, g: x / 2 - 1, TypeError, ("augment", "integers 0 … 2", "float32")),
        (lambda x, g: x + 1, ValueError, ("augment", "0 … 2", "2 … 3")),
        (lambda x, g: None, TypeError, ("augment", "torch tensor", "NoneType")),
    ],
)
def test_what_augment_returns_is_checked(augment, error, words):
    model = small()
    with refused(error, *words):
        quick(model, IMAGES.clamp_min(1), augment=augment)
    assert not model.training


def test_augment_may_be_given_more_levels_than_the_model_has():
    """Grey images of which a network of two levels sees a threshold, another one every time."""
    seen, greys = [], integers((24, 1, 5, 4), 256).to(torch.uint8)

    def threshold(images, generator):
        seen.append(images)
        return (images > torch.randint(1, 255, (1,), generator=generator).item()).to(torch.uint8)

    model = small(levels=2)
    held = (quantize(HELD, 2, 3), None)
    history = quick(model, greys, augment=threshold, validation=held)
    assert history.steps == [3, 6]
    assert torch.equal(torch.cat(seen[:3]).flatten().sort().values, greys.flatten().long().sort().values)
    assert model.size == (5, 4)


@pytest.mark.parametrize(
    ("images", "augment", "words"),
    [
        (integers((24, 1, 5, 4), 256), None, ("images", "0 … 2", "quantize(images, 3")),
        (integers((24, 1, 5, 4), 257), flipped, ("images", "0 … 255", "0 … 256")),
        (integers((24, 1, 5, 4), 256), flipped, ("what augment returns", "0 … 2", "quantize(images, 3")),
        (IMAGES - 1, flipped, ("images", "0 … 255", "-1 … 1")),
    ],
)
def test_levels_that_are_too_many(images, augment, words):
    model = small()
    with refused(ValueError, *words):
        quick(model, images, augment=augment)
    assert same(model, small())


def test_callback_sees_the_history_after_every_epoch():
    seen = []
    history = quick(small(), epochs=3, callback=lambda history: seen.append((history, list(history.steps))))
    assert [steps for _, steps in seen] == [[3], [3, 6], [3, 6, 9]]
    assert all(given is history for given, _ in seen)


def test_a_model_of_somebody_else():
    """Not ours, no size, no classes, logits in the right layout: enough to be trained."""

    class Other(nn.Module):
        channels, levels = 1, 3

        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(3))

        def forward(self, images):
            return self.bias.view(1, 3, 1, 1, 1).expand(len(images), 3, *images.shape[1:])

    model = Other()
    fit(model, torch.full((8, 1, 3, 3), 2), steps=60, learning_rate=0.1, progress=False)
    assert model.bias.argmax() == 2
    assert not hasattr(model, "size")


# compiled


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "c++", "clang++"))), reason="no C++ compiler")
def test_compiled_it_learns_the_same():
    plain, compiled = (PixelCNN(levels=3, features=2, layers=1, kernel_size=3) for _ in range(2))
    compiled.load_state_dict(plain.state_dict())
    histories = [quick(model, IMAGES[:8], compile=compile) for model, compile in ((plain, False), (compiled, True))]
    assert histories[1].train == pytest.approx(histories[0].train, rel=1e-2)  # bfloat16 on some machines
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, rtol=0, atol=5e-3)
    assert vars(compiled).keys() == vars(plain).keys()  # the wrapper was compiled, not the model itself


@pytest.mark.parametrize("lazy", [True, False])
def test_without_a_compiler_nothing_is_touched(tmp_path, monkeypatch, lazy):
    """Whether torch notices when it is asked to compile, or only when the first image comes."""

    def fails(*args):
        raise FileNotFoundError("g++")

    model, path = small(), tmp_path / "model.pt"
    before, weights, strides = dict(vars(model)), copied(model), layouts(model)
    monkeypatch.setattr(torch, "compile", (lambda module: fails) if lazy else fails)
    with refused(NoCompiler, "C++ compiler", "g++", "FileNotFoundError", "install one", "compile=False"):
        quick(model, compile=True, checkpoint=path)
    assert vars(model) == before
    assert same(model, weights)
    assert layouts(model) == strides
    assert model.training
    assert not path.exists()
    assert issubclass(NoCompiler, RuntimeError)
    assert quick(model).steps == [3, 6]  # compile=False is of use


@pytest.mark.parametrize("kind", ["plain", "toy", "gated"])
def test_the_loss_is_compiled_as_one_graph(monkeypatch, kind):
    """With labels and dropout, too. A look at values inside `forward` would break the graph."""
    graphs, compile = [], torch.compile

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    def compiled(module):
        return compile(module, backend=backend, fullgraph=True)

    make = {"plain": small, "toy": toy, "gated": lambda: GatedPixelCNN(levels=3, features=4, blocks=2, classes=3)}[kind]
    labels = None if kind == "plain" else LABELS
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = make()
    plain = copy.deepcopy(model)
    monkeypatch.setattr(torch, "compile", compiled)
    history = quick(model, labels=labels, compile=True)
    assert len(graphs) == 2  # one of the check for a compiler, one of the loss
    assert history.train == pytest.approx(quick(plain, labels=labels).train, rel=1e-2)


# modes of torch, weights and gradients


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_without_gradients_change_nothing(tmp_path, mode):
    """Not even where the images and labels were made in such a mode; the mode stays as it was."""
    plain, model, path = toy(), toy(), tmp_path / "model.pt"
    options = {"epochs": 3, "validation": (HELD, LABELS[:10])}
    history = quick(plain, IMAGES, LABELS, augment=flipped, **options)
    with mode():
        images, labels = IMAGES.to(torch.uint8), LABELS.clone()
        held = {**options, "validation": (HELD.clone(), labels[:10])}
        quick(model, images, labels, augment=flipped, checkpoint=path, callback=Stop(after=1), **held)
        found = quick(model, images, labels, augment=flipped, checkpoint=path, **held)
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert same(model, plain)
    assert found.train == history.train and found.validation == history.validation
    assert not any(value.is_inference() for value in model.state_dict().values())
    quick(model, IMAGES, LABELS)  # its weights can still be trained


def test_frozen_weights_stay_and_the_others_are_trained(tmp_path):
    def make(seed=0):
        model = toy(seed)
        model.first.requires_grad_(False)
        return model

    model, resumed, path = make(), make(seed=99), tmp_path / "model.pt"
    model.first.weight.grad = torch.ones_like(model.first.weight)  # of an earlier training
    quick(model, labels=LABELS)
    quick(make(), labels=LABELS, checkpoint=path, callback=Stop(after=1))
    quick(resumed, labels=LABELS, checkpoint=path)
    changed = {name for name, value in toy().state_dict().items() if not torch.equal(value, model.state_dict()[name])}
    assert changed == {"shift.weight", "shift.bias", "last.weight", "last.bias"}
    assert same(resumed, model)


def test_labels_that_carry_a_gradient():
    plain, model = toy(), toy()
    labels = LABELS.clone().requires_grad_()
    quick(plain, labels=LABELS)
    quick(model, labels=labels * 1, validation=(HELD, labels[:10]), epochs=2)
    quick(model, labels=labels)
    assert labels.grad is None


def test_double_precision():
    model = toy().double()
    assert quick(model, labels=LABELS, validation=(HELD, LABELS[:10])).steps == [3, 6]
    assert all(weight.dtype == torch.float64 for weight in model.parameters())


@pytest.mark.parametrize("raises", [False, True])
def test_the_random_state_of_apples_gpus_is_left_alone(monkeypatch, raises):
    state = [torch.tensor([1, 2])]
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: state[0].clone())
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda new: state.__setitem__(0, new))
    here = torch.get_rng_state()
    with nullcontext() if not raises else pytest.raises(KeyError), training.same_randomness_after(torch.device("mps")):
        torch.rand(3)
        state[0] = torch.tensor([3, 4])
        if raises:
            raise KeyError
    assert torch.equal(state[0], torch.tensor([1, 2]))
    assert torch.equal(torch.get_rng_state(), here)


# Ctrl-C


def test_ctrl_c_in_a_callback_keeps_what_was_learned(capsys):
    whole, stopped, found = small(), small(), []
    quick(whole, epochs=4, callback=lambda history: found.append(copied(whole)))
    history = quick(stopped, epochs=4, callback=Stop(after=2))
    assert history.interrupted
    assert history.steps == [3, 6]
    assert same(stopped, found[1])
    assert capsys.readouterr().out == "Stopped after 6 of 12 steps; what was learned so far is kept.\n"
    assert not stopped.training
    assert stopped.size == (5, 4)
    assert vars(stopped).keys() == vars(small()).keys()  # nothing of Accelerate's is left on it after a stop


def test_ctrl_c_within_an_epoch_writes_an_entry():
    history = quick(small(), epochs=4, augment=Failing(KeyboardInterrupt, before=0), validation=(HELD, None))
    assert history.steps == [3, 4]
    assert len(history.train) == len(history.validation) == len(history.seconds) == 2
    assert history.interrupted


def test_ctrl_c_while_validating_writes_the_entry_once(monkeypatch):
    calls = []

    def pressed(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return bits_per_dim(*args)

    monkeypatch.setattr(training, "bits_per_dim", pressed)
    history = quick(small(), epochs=4, validation=(HELD, None))
    assert history.steps == [3, 6]
    assert len(history.train) == len(history.validation) == len(history.seconds) == 2
    assert history.interrupted


def test_an_error_in_a_callback_is_the_callers_but_the_model_is_whole():
    def fails(history):
        raise KeyError("mine")

    model = small()
    with pytest.raises(KeyError, match="mine"):
        quick(model, callback=fails)
    assert vars(model).keys() == vars(small()).keys()
    assert not same(model, small())


# checkpoints


OPTIONS = {"epochs": 4, "validation": (HELD, LABELS[:10]), "augment": flipped}


@pytest.fixture(scope="module")
def whole():
    """A training with dropout, augmentation and validation that nobody stopped."""
    model = toy()
    history = quick(model, labels=LABELS, **OPTIONS)
    return model, history


def test_resumed_between_epochs_it_ends_in_the_same_weights(tmp_path, whole):
    path, resumed = tmp_path / "deep" / "toy.pt", toy(seed=99)
    quick(toy(), labels=LABELS, checkpoint=path, callback=Stop(after=2), **OPTIONS)
    history = quick(resumed, labels=LABELS, checkpoint=str(path), **OPTIONS)
    assert same(resumed, whole[0])
    assert history.steps == whole[1].steps
    assert history.train == whole[1].train
    assert history.validation == whole[1].validation
    assert history.seconds == sorted(history.seconds)
    assert not history.interrupted


def test_resumed_within_an_epoch_it_ends_in_the_same_weights(tmp_path, monkeypatch):
    """A crash, not a Ctrl-C: what counts is the save of every minute, here of every step."""
    monkeypatch.setattr(training, "SAVE_EVERY", -1)
    path, resumed, unbroken = tmp_path / "toy.pt", toy(seed=99), toy()
    options = {"epochs": 4, "labels": LABELS}
    whole = quick(unbroken, augment=flipped, **options)

    with pytest.raises(MemoryError):
        quick(toy(), augment=Failing(MemoryError), checkpoint=path, **options)
    assert torch.load(path, weights_only=True)["step"] == 4
    history = quick(resumed, augment=flipped, checkpoint=path, **options)
    assert same(resumed, unbroken)
    assert history.steps == [3, 6, 9, 12]
    assert history.train == whole.train  # the steps before the crash count


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_seconds_go_on_from_where_it_was_stopped(tmp_path, monkeypatch, error):
    """On a machine that is a thousand times as fast as the first one."""
    now, path = [0.0], tmp_path / "toy.pt"

    def clock(tick):
        def look():
            now[0] += tick
            return now[0]

        return look

    with monkeypatch.context() as patch:
        patch.setattr(training.time, "perf_counter", clock(100.0))
        with pytest.raises(MemoryError) if error is MemoryError else nullcontext():
            quick(toy(), labels=LABELS, epochs=4, augment=Failing(error), checkpoint=path)
        spent = torch.load(path, weights_only=True)["seconds"]
        patch.setattr(training.time, "perf_counter", clock(0.1))
        history = quick(toy(), labels=LABELS, epochs=4, augment=flipped, checkpoint=path)
    assert history.seconds == sorted(history.seconds)
    assert history.seconds[0] <= spent
    later = [one for step, one in zip(history.steps, history.seconds, strict=True) if step > 4]
    assert all(spent < one < spent + 10 for one in later)


def test_resumed_after_ctrl_c_within_an_epoch(tmp_path):
    path, resumed, unbroken = tmp_path / "toy.pt", toy(seed=99), toy()
    options = {"epochs": 4, "labels": LABELS}
    quick(unbroken, augment=flipped, **options)
    quick(toy(), augment=Failing(KeyboardInterrupt), checkpoint=path, **options)
    history = quick(resumed, augment=flipped, checkpoint=path, **options)
    assert same(resumed, unbroken)
    assert history.steps == [3, 4, 6, 9, 12]


def test_what_a_checkpoint_holds(tmp_path):
    path, model = tmp_path / "toy.pt", toy()
    history = quick(model, labels=LABELS, checkpoint=path, **OPTIONS)
    state = torch.load(path, weights_only=True)
    assert state.keys() == {
        "plan", "step", "seconds", "learned", "since", "model", "optimizer", "history", "best", "digest"
    }  # fmt: skip
    assert state["step"] == state["since"] == 12 and state["learned"] == 0
    assert state["seconds"] >= history.seconds[-1]
    assert History(**state["history"]) == history
    assert same(state["best"], model.state_dict())
    assert state["model"].keys() == model.state_dict().keys()  # the names of the model itself, not of a wrapper


def test_a_finished_training_is_not_repeated(tmp_path, whole):
    path, again = tmp_path / "toy.pt", toy(seed=99)
    quick(toy(), labels=LABELS, checkpoint=path, **OPTIONS)
    history = quick(again, labels=LABELS, checkpoint=path, callback=lambda history: pytest.fail("trained"), **OPTIONS)
    assert same(again, whole[0])
    assert history.validation == whole[1].validation


def test_a_second_training_starts_afresh(tmp_path):
    """The first one leaves no mark, neither on the model nor in Accelerate."""
    model = small()
    quick(model)
    twin = small()
    twin.load_state_dict(model.state_dict())
    quick(model, seed=1)
    quick(twin, seed=1)
    assert same(model, twin)


def test_numbers_of_numpy_can_be_saved_and_resumed(tmp_path):
    options = {"learning_rate": np.float64(1e-3), "seed": np.int64(3), "checkpoint": tmp_path / "model.pt"}
    quick(small(), epochs=np.int64(2), batch_size=np.int64(8), callback=Stop(after=1), **options)
    assert quick(small(), **options).steps == [3, 6]


def test_a_disk_that_is_full_for_a_while_leaves_the_old_checkpoint(tmp_path, monkeypatch, capsys):
    path, write, trained, unbroken = tmp_path / "model.pt", pathlib.Path.write_bytes, small(), small()
    saves, kept = [], []
    quick(unbroken, epochs=3)

    def fills(file, data):
        saves.append(file)
        if len(saves) == 2:
            write(file, data[: len(data) // 2])
            raise OSError("disk full")
        write(file, data)

    def look(history):
        kept.append(path.read_bytes())
        assert not list(tmp_path.glob("*.part"))

    monkeypatch.setattr(pathlib.Path, "write_bytes", fills)
    assert quick(trained, epochs=3, checkpoint=path, callback=look).steps == [3, 6, 9]
    out = capsys.readouterr().out
    assert out == f"Checkpoint {path} could not be written (disk full): training goes on in memory.\n"
    assert same(trained, unbroken)
    assert torch.load(io.BytesIO(kept[0]), weights_only=True)["step"] == 3
    assert kept[0] == kept[1] != kept[2]
    path.write_bytes(kept[1])  # as if it had crashed after the second epoch
    resumed = small(seed=99)
    assert quick(resumed, epochs=3, checkpoint=path).steps == [3, 6, 9]
    assert same(resumed, unbroken)
    assert {file.name for file in tmp_path.iterdir()} == {"model.pt", "model.pt.lock"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 3}, ("steps 6 there, 9 here",)),
        ({"batch_size": 6}, ("batch_size 8 there, 6 here", "steps 6 there, 8 here")),
        ({"learning_rate": 0.5}, ("learning_rate 0.002 there, 0.5 here",)),
        ({"seed": 4}, ("seed 0 there, 4 here",)),
        ({"images": IMAGES[:23]}, ("images [24, 1, 5, 4] there, [23, 1, 5, 4] here",)),
        ({"images": 2 - IMAGES}, ("pixels",)),
        ({"validation": (HELD, None)}, ("validation 0 there, 10 here",)),
        ({"model": small(features=8)}, ("weights",)),
        ({"model": ConditionalToy(), "labels": LABELS}, ("model PixelCNN there, ConditionalToy here",)),
    ],
)
def test_a_checkpoint_of_another_training(tmp_path, options, words):
    path = tmp_path / "model.pt"
    quick(small(), checkpoint=path)
    options = {"model": small(), **options}
    before = copied(options["model"])
    with refused(ValueError, "checkpoint", "model.pt", "another training", *words):
        quick(options["model"], checkpoint=path, **{k: v for k, v in options.items() if k != "model"})
    assert same(options["model"], before)


def test_a_checkpoint_of_a_network_of_as_many_weights(tmp_path):
    """With other dilations, the same weights mean another thing."""
    near, far = (GatedPixelCNN(levels=3, features=4, blocks=1, dilations=[dilation]) for dilation in (1, 2))
    quick(near, checkpoint=tmp_path / "model.pt")
    with refused(ValueError, "another training", "'dilations': [1]", " there, ", "'dilations': [2]", " here"):
        quick(far, checkpoint=tmp_path / "model.pt")


@pytest.mark.parametrize("damage", ["empty", "half", "words", "other", "reshaped", "missing", "older"])
def test_a_damaged_checkpoint(tmp_path, damage):
    path = tmp_path / "model.pt"
    quick(small(), checkpoint=path)
    data, state = path.read_bytes(), torch.load(path, weights_only=True)
    path.unlink()
    if damage == "other":
        torch.save({"state_dict": {}}, path)
    elif damage == "reshaped":
        torch.save({**state, "model": small(features=3).state_dict()}, path)
    elif damage == "missing":
        torch.save({k: v for k, v in state.items() if k != "optimizer"}, path)
    elif damage == "older":  # before the seconds were kept
        torch.save({k: v for k, v in state.items() if k not in ("seconds", "learned", "since")}, path)
    else:
        path.write_bytes({"empty": b"", "half": data[: len(data) // 2], "words": b"not a checkpoint"}[damage])
    with refused(ValueError, "checkpoint", "model.pt", "cannot be read", "delete it"):
        quick(small(), checkpoint=path)


# what computes


def test_hardware_in_words(monkeypatch):
    threads = f", {torch.get_num_threads()} thread" + "s" * (torch.get_num_threads() > 1)
    assert hardware().endswith(threads)
    assert hardware() == hardware(torch.device("cpu"))
    monkeypatch.setattr(pathlib.Path, "is_file", lambda path: False)  # anything but Linux
    for processor, name in (("Chip 9", "Chip 9"), ("", platform.machine())):
        monkeypatch.setattr(platform, "processor", lambda told=processor: told)
        assert hardware() == name + threads
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device}")
    assert hardware(torch.device("cuda", 1)) == "GPU cuda:1"


# bad input


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"epochs": None}, ValueError, ("epochs", "steps", "exactly one", "None")),
        ({"steps": 3}, ValueError, ("epochs", "steps", "exactly one", "epochs=2 and steps=3")),
        ({"epochs": 0}, ValueError, ("epochs", "at least 1", "got 0")),
        ({"epochs": 1.5}, TypeError, ("epochs", "integer", "float 1.5")),
        ({"epochs": None, "steps": -1}, ValueError, ("steps", "at least 1", "got -1")),
        ({"batch_size": 0}, ValueError, ("batch_size", "at least 1", "got 0")),
        ({"learning_rate": 0}, ValueError, ("learning_rate", "above 0", "got 0")),
        ({"learning_rate": -1.0}, ValueError, ("learning_rate", "at least 0", "got -1.0")),
        ({"learning_rate": float("nan")}, ValueError, ("learning_rate", "finite", "nan")),
        ({"learning_rate": True}, TypeError, ("learning_rate", "number", "True")),
        ({"seed": -1}, ValueError, ("seed", "at least 0", "got -1")),
        ({"patience": 2}, ValueError, ("patience", "validation", "patience=2")),
        ({"patience": 0, "validation": (HELD, None)}, ValueError, ("patience", "at least 1", "got 0")),
        ({"validation": HELD}, ValueError, ("validation", "(images, labels)", "Tensor")),
        ({"validation": (HELD[0], None)}, ValueError, ("validation[0]", "(N, C, H, W)", "(1, 5, 4)")),
        ({"validation": (HELD + 1, None)}, ValueError, ("validation[0]", "0 … 2", "1 … 3")),
        ({"validation": (HELD, LABELS[:10])}, ValueError, ("validation[1]", "must be None", "Tensor")),
        ({"images": IMAGES[0]}, ValueError, ("images", "(N, C, H, W)", "(1, 5, 4)")),
        ({"images": IMAGES / 2}, TypeError, ("images", "integers 0 … 2", "float32")),
        ({"images": IMAGES + 1}, ValueError, ("images", "0 … 2", "1 … 3")),
        ({"images": IMAGES[:0]}, ValueError, ("images", "empty", "(0, 1, 5, 4)")),
        ({"labels": LABELS}, ValueError, ("labels", "must be None", "Tensor")),
        ({"model": ConditionalToy()}, ValueError, ("labels", "float rows (N, 3)", "None")),
        ({"model": ConditionalToy(), "labels": LABELS[:5]}, ValueError, ("labels", "5 rows for 24 images")),
        ({"model": nn.Linear(2, 2)}, TypeError, ("model", "be trained", "Linear", "no channels and no levels")),
        ({"model": None}, TypeError, ("model", "torch.nn.Module", "NoneType")),
    ],
)
def test_bad_input(options, error, words):
    """It is refused before the model is moved or changed."""
    options = {"model": small(), **options}
    model = options["model"]
    before = None if model is None else (vars(model).copy(), copied(model), layouts(model))
    with refused(error, *words):
        quick(**options)
    if model is not None:
        assert vars(model) == before[0]
        assert same(model.state_dict(), before[1])
        assert layouts(model) == before[2]


# other processes


def python(*words, **environment):
    return subprocess.Popen(
        [sys.executable, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **environment},
    )  # fmt: skip


def done(process):
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out[-2000:]
    return out


@pytest.mark.parametrize(
    ("gpu", "has_bf16", "cpu_only", "precision"),
    [(True, True, "no", "bf16"), (True, False, "no", "fp16"), (True, False, "yes", None), (False, False, "no", None)],
)
def test_precision_is_what_the_processor_is_fast_in(monkeypatch, gpu, has_bf16, cpu_only, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_bf16)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", cpu_only)
    assert training._precision() in ([precision] if precision else ["bf16", "no"])


def test_precision_is_what_the_environment_says(tmp_path):
    """And a second training of the same model computes in it too."""
    script = tmp_path / "precision.py"
    script.write_text(textwrap.dedent("""
        import torch
        from pixelcnn_helpers import PixelCNN, fit
        torch.manual_seed(0)
        model, seen = PixelCNN(levels=3, features=8, layers=1, kernel_size=3), []
        model.net[0].register_forward_hook(lambda layer, args, out: seen.append((layer.training, out.dtype)))
        images = torch.zeros(8, 1, 4, 4, dtype=torch.long)
        for _ in range(2):
            history = fit(model, images, steps=20, learning_rate=0.05, validation=(images, None), progress=False)
            assert {training for training, _ in seen} == {True, False}  # in the steps and in the validation
            print(*sorted({str(kind) for _, kind in seen}), {weight.dtype for weight in model.parameters()})
            seen.clear()
        assert model(images).dtype == torch.float32 and history.train[-1] < 0.2, history.train
    """))
    running = {name: python(script, ACCELERATE_MIXED_PRECISION=name) for name in ("bf16", "no")}
    for name, process in running.items():
        kind = {"bf16": "torch.bfloat16", "no": "torch.float32"}[name]
        assert done(process).splitlines() == [f"{kind} {{torch.float32}}"] * 2


def test_two_processes(tmp_path):
    """Each sees its share of the images; both end in equal weights, batch norm included, also after a resume."""
    script = tmp_path / "two.py"
    script.write_text(textwrap.dedent("""
        import os, pathlib, sys
        import torch
        from pixelcnn_helpers import PixelCNN, bits_per_dim, fit, training
        folder, rank = pathlib.Path(sys.argv[1]), os.environ["RANK"]
        training.bits_per_dim = lambda *args: bits_per_dim(*args) + int(rank)  # the two measure different values
        images = torch.randint(3, (40, 1, 5, 4), generator=torch.Generator().manual_seed(0))

        def train(seed, **options):
            torch.manual_seed(seed + int(rank))  # each starts from other weights; those of the first process are used
            model, seen = PixelCNN(levels=3, features=8, layers=2, kernel_size=3), []
            history = fit(model, images[:32], epochs=4, batch_size=8, validation=(images[32:], None), patience=3,
                          learning_rate=0.02, augment=lambda x, _: (seen.append(x), x)[1], **options)
            return {"state": model.state_dict(), "steps": history.steps, "validation": history.validation,
                    "train": history.train, "seen": torch.cat(seen)}

        def stop(history):
            if len(history.steps) == 2:
                raise KeyboardInterrupt

        whole = train(0)
        train(0, checkpoint=folder / "two.pt", callback=stop)
        torch.save({"whole": whole, "resumed": train(7, checkpoint=folder / "two.pt")}, folder / f"{rank}.pt")
    """))
    run = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2)
    out = done(python(*run, script, tmp_path, ACCELERATE_MIXED_PRECISION="no"))
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    seen = torch.cat([first["whole"]["seen"][:16], second["whole"]["seen"][:16]])  # the first epoch
    assert len(seen.flatten(1).unique(dim=0)) == 32
    assert out.count("training:   0%") == 2  # of three trainings two began at 0: one bar each, not one for each process
    for name in ("whole", "resumed"):
        assert first[name]["steps"] == [4, 8, 12, 16]
        assert same(first[name]["state"], second[name]["state"])
        for figures in ("steps", "validation", "train"):
            assert first[name][figures] == second[name][figures]
    assert same(first["whole"]["state"], first["resumed"]["state"])


def test_fewer_images_than_processes(monkeypatch):
    device = torch.device("cpu")
    crowd = SimpleNamespace(
        device=device, num_processes=25, process_index=0, wait_for_everyone=lambda: None, autocast=nullcontext
    )
    monkeypatch.setattr(training, "get_accelerator", lambda: crowd)
    model = small()
    assert_clear(lambda: quick(model), ValueError, "images must be one at least for each of 25 processes, got 24")
    assert same(model, small())


def test_a_training_that_diverges_says_so_and_keeps_the_best_weights():
    torch.manual_seed(0)
    images = torch.randint(3, (16, 1, 4, 4))
    model = PixelCNN(levels=3, features=4, layers=2, kernel_size=3)

    def spoil(history):
        model.net[0].weight.data.fill_(float("nan"))

    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        fit(model, images, epochs=3, validation=(images, None), callback=spoil, progress=False)
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_augment_must_keep_the_shape():
    model = PixelCNN(levels=3, features=4, layers=1, kernel_size=3)
    with pytest.raises(ValueError, match=r"augment returns must have the shape \(4, 1, 3, 3\), got \(1, 1, 3, 3\)"):
        fit(model, torch.zeros(8, 1, 3, 3, dtype=torch.long), steps=1, batch_size=4, augment=lambda x, _: x[:1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks the C library of Linux")
def test_kept_memory_is_not_fetched_again():
    code = """if 1:
        import resource, sys, torch
        from pixelcnn_helpers.workshop.hardware import keep_memory
        if sys.argv[1:]:
            keep_memory()
        x = torch.ones(2**24)
        x + 1
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(100):
            x + 1
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"""
    fetched = [
        int(subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True).stdout)
        for words in ([], ["keep"])
    ]
    assert fetched[1] < fetched[0] / 10
