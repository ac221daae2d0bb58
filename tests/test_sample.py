"""The fast samplers: pixel for pixel the textbook loop's images, and its manners."""

import gc
import itertools

import pytest
import test_sampling
import torch
from conftest import ConditionalToy, NetModel, integers, one_hot, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pixelcnn_helpers import (
    GatedBlock,
    GatedPixelCNN,
    PixelCNN,
    ShortcutPixelCNN,
    guesses,
    incremental,
    naive_sample,
    sample,
    soft_label,
)
from pixelcnn_helpers.caching import IncrementalGatedPixelCNN
from pixelcnn_helpers.studies.between import MixedClasses

FAST = ("cached", "guess")
KINDS = {
    "plain": lambda **options: PixelCNN(layers=2, kernel_size=3, **options),
    "plain with wide kernels": lambda **options: PixelCNN(layers=1, kernel_size=5, **options),
    "gated": lambda **options: GatedPixelCNN(blocks=2, first_kernel_size=5, **options),
    "gated and dilated": lambda **options: GatedPixelCNN(
        blocks=3, first_kernel_size=3, dilations=(2, 1, 3), classes=3, **options
    ),
    "gated with kernels of 1 and 5": lambda **options: GatedPixelCNN(
        blocks=1, kernel_size=5, first_kernel_size=3, classes=2, **options
    ),
    "gated with a kernel of 1": lambda **options: GatedPixelCNN(blocks=2, kernel_size=1, **options),
    "shortcut": lambda **options: ShortcutPixelCNN(blocks=2, classes=0, **options),
    "shortcut with classes": lambda **options: ShortcutPixelCNN(blocks=1, classes=3, **options),
}


def make(kind, channels=1, levels=4, seed=0):
    """A network that listens hard: large weights, batch norm that has seen batches, logits around 0 that move by 3."""
    torch.manual_seed(seed)
    model = KINDS[kind](channels=channels, levels=levels, features=4 * channels).double()
    *convs, last = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    for layer in convs:
        layer.weight.data *= 3
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, -1.5, 1.5)
            nn.init.normal_(layer.bias)
    with torch.no_grad():
        for i in range(3):
            model.train()(integers((6, channels, 5, 5), levels, i), *soft_rows(model, 6))
        rows = [row[:1].expand(6, -1) for row in soft_rows(model, 6)]
        last.bias.zero_()
        logits = model.eval()(integers((6, channels, 5, 5), levels), *rows)  # (6, levels, C, H, W)
        factor = 3 / logits.std(0).mean()
        last.weight *= factor
        last.bias -= factor * logits.mean((0, 3, 4)).T.flatten()
    return model


def soft_rows(model, n):
    """Rows that are mixtures, all different; nothing for a model without classes."""
    if model.classes == 0:
        return ()
    rows = torch.rand(n, model.classes, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.05
    return (rows / rows.sum(1, keepdim=True),)


def mask_of(what, shape):
    _, channels, height, width = shape
    if what == "all":
        return torch.ones(1, dtype=torch.bool)
    wanted = {"none": (1,), "the same for all": (height, width), "per channel": (channels, 1, 1), "per image": shape}
    return torch.rand(wanted[what], generator=torch.Generator().manual_seed(2)) < (0 if what == "none" else 0.4)


@settings(max_examples=250)
@given(
    kind=st.sampled_from(sorted(KINDS)), channels=st.sampled_from([1, 3]), levels=st.integers(2, 17),
    size=st.sampled_from([(1, 1), (1, 6), (7, 1), (2, 2), (3, 5), (6, 4), (2, 9)]), n=st.integers(1, 3),
    temperature=st.sampled_from([0, 0.7, 1]), seed=st.integers(0, 2**32 - 10),
    known=st.sampled_from([None, "none", "all", "the same for all", "per channel", "per image"]),
)
def test_equal_to_the_naive_loop(kind, channels, levels, size, n, temperature, seed, known):
    model, shape = make(kind, channels, levels, seed % 1000), (n, channels, *size)
    options = {"seed": seed, "temperature": temperature, "size": size}
    if known is not None:
        options["known"] = integers(shape, levels, 3), mask_of(known, shape)
    wanted = sample(model, n, *soft_rows(model, n), **options, method="naive")
    for method in FAST:
        assert torch.equal(sample(model, n, *soft_rows(model, n), **options, method=method), wanted), method


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_the_naive_images(kind, channels):
    """Without luck in the choice of examples: each network once, on an image larger than its field."""
    model = make(kind, channels, 5)
    rows = soft_rows(model, 2)
    wanted = naive_sample(model, 2, *rows, size=(8, 7), seed=11)
    assert wanted.unique().numel() > 2 and not torch.equal(wanted[0], wanted[1])
    for method in FAST:
        images = sample(model, 2, *rows, size=(8, 7), seed=11, method=method)
        assert torch.equal(images, wanted), method
        assert (images.shape, images.dtype) == (wanted.shape, torch.int64)


def test_naive_is_the_naive_loop():
    model = make("plain")
    assert torch.equal(sample(model, 2, size=(4, 4), method="naive"), naive_sample(model, 2, size=(4, 4)))


def test_the_share_of_other_pixels_in_float32():
    """Another order of summation may flip a level, and all that follows it: rare enough not to be seen here."""
    other = total = 0
    for kind in ("plain", "gated", "shortcut"):
        model = make(kind, levels=8).float()
        wanted = naive_sample(model, 40, size=(8, 8))
        for method in FAST:
            other += (sample(model, 40, size=(8, 8), method=method) != wanted).sum().item()
            total += wanted.numel()
    print(f"float32: {other} of {total} pixels differ")
    assert other <= total / 500


def test_the_logits_of_the_incremental_way():
    """Step by step beside the whole network, so that an error too small to move a pixel is seen."""
    for kind, channels in itertools.product(KINDS, (1, 3)):
        model = make(kind, channels)
        images, rows = integers((3, channels, 6, 5), 4), soft_rows(model, 3)
        with torch.no_grad():
            wanted = model(images, *rows)
            way = incremental(model, rows[0] if rows else None, 3, (6, 5))
            for row in range(6):
                way.row(row)
                for col, channel in itertools.product(range(5), range(channels)):
                    got = way.pixel(col, channel)
                    assert torch.allclose(got, wanted[:, :, channel, row, col], atol=1e-10), (kind, row, col, channel)
                    way.put(col, channel, images[:, channel, row, col])


# seeds and batches


@pytest.mark.parametrize("kind", ["plain", "gated and dilated", "shortcut with classes"])
@pytest.mark.parametrize("method", FAST)
def test_an_image_never_depends_on_its_batch(kind, method):
    model = make(kind)
    label = soft_rows(model, 1)
    alone = sample(model, 1, *label, size=(5, 4), seed=270, method=method)
    for n, place in ((5, 0), (5, 4), (200, 0), (200, 199)):
        many = [row.expand(n, -1) for row in label]
        together = sample(model, n, *many, size=(5, 4), seed=270 - place, method=method)
        assert torch.equal(together[place : place + 1], alone)
    scattered = sample(model, 3, *[row.expand(3, -1) for row in label], size=(5, 4), seed=[9, 270, 2], method=method)
    assert torch.equal(scattered[1:2], alone)


@pytest.mark.parametrize("method", FAST)
def test_each_image_has_its_own_label(method):
    model = make("gated and dilated")
    rows = torch.cat([soft_label({0: 1}, 3), soft_label({2: 1}, 3), soft_label({0: 0.5, 2: 0.5}, 3)])
    together = sample(model, labels=rows, size=(5, 4), seed=[3, 3, 3], method=method)
    for i in range(3):
        alone = sample(model, labels=rows[i : i + 1], size=(5, 4), seed=3, method=method)
        assert torch.equal(alone, together[i : i + 1])
    assert len({tuple(image.flatten().tolist()) for image in together}) == 3


@pytest.mark.parametrize("method", FAST)
def test_deterministic_and_quiet_about_the_random_state(method):
    model = make("gated")
    model_state = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    a, b = (sample(model, 3, size=(4, 4), seed=5, method=method) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, model_state[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_the_size_of_the_model():
    model = make("gated")
    model.size = (3, 5)
    for method in FAST:
        assert sample(model, method=method).shape == (1, 1, 3, 5)
        assert sample(model, size=(2, 2), method=method).shape == (1, 1, 2, 2)


def test_weights_changed_between_two_calls_are_seen():
    """Nothing of one call is kept for the next."""
    model = make("gated")
    first = sample(model, 4, size=(5, 5))
    with torch.no_grad():
        for weight in model.parameters():
            weight.neg_()
    second = sample(model, 4, size=(5, 5))
    assert torch.equal(second, naive_sample(model, 4, size=(5, 5))) and not torch.equal(first, second)


# guesses


@pytest.mark.parametrize("kind", ["plain", "gated", "shortcut"])
@pytest.mark.parametrize("channels", [1, 3])
def test_after_k_passes_the_first_k_values_are_right(kind, channels):
    model = make(kind, channels)
    wanted = naive_sample(model, 2, size=(4, 3))
    passes = list(guesses(model, 2, size=(4, 3)))
    assert 2 < len(passes) <= wanted[0].numel() + 1
    assert torch.equal(passes[-1], wanted) and torch.equal(passes[-2], wanted)
    for k, images in enumerate(passes, 1):
        right = (images == wanted).permute(0, 2, 3, 1).flatten(1)  # raster order, channels innermost
        assert right[:, :k].all()


def test_a_good_start_needs_fewer_passes():
    model = make("gated")
    wanted = naive_sample(model, 4, size=(6, 6))
    almost = wanted.clone()
    almost[:, :, 4, 4] = 3 - almost[:, :, 4, 4]
    cold, warm, done = (len(list(guesses(model, 4, size=(6, 6), start=start))) for start in (None, almost, wanted))
    assert done == 1 < warm < cold
    assert torch.equal(sample(model, 4, size=(6, 6), method="guess", start=almost), wanted)
    assert torch.equal(sample(model, 4, size=(6, 6), method="guess", start=almost.to(torch.uint8)), wanted)


def test_a_start_gives_way_to_what_is_known():
    model, given_, mask = make("gated"), integers((2, 1, 5, 5), 4), torch.rand(2, 1, 5, 5) < 0.4
    start = 3 - given_
    wanted, kept = naive_sample(model, known=(given_, mask)), start.clone()
    assert torch.equal(sample(model, known=(given_, mask), method="guess", start=start), wanted)
    assert torch.equal(start, kept)


def test_the_guesses_are_not_one_and_the_same_tensor():
    passes = list(guesses(make("gated"), 2, size=(4, 4)))
    assert len({images.data_ptr() for images in passes}) == len(passes)


def test_guessing_ends_even_where_the_network_leaks():
    """A pixel that answers to the one after it may flip for ever."""
    class Flip(nn.Module):
        def forward(self, x):
            nearer = x.roll(-1, 3)  # the pixel to the right, and the first for the last
            return torch.cat([nearer, -nearer], 1) * 50

    model = NetModel(Flip(), levels=2)
    model.net.register_parameter("unused", nn.Parameter(torch.zeros(1)))
    with refused(ValueError, "model", "settle", "4 passes", "assert_causal"):
        sample(model, size=(1, 3), method="guess")
    assert model.training


def test_guessing_needs_no_cached_way():
    model = ConditionalToy().double()
    rows = one_hot([0, 2])
    assert torch.equal(
        sample(model, labels=rows, size=(4, 4), method="guess"), naive_sample(model, labels=rows, size=(4, 4))
    )


# manners


@pytest.mark.parametrize("method", ("naive", *FAST))
@pytest.mark.parametrize("kind", ["shortcut", "plain"])
def test_sampled_in_evaluation_mode_and_handed_back(kind, method):
    model = make(kind).train()
    if kind == "shortcut":
        model.blocks[1].eval()  # frozen by its owner
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = sample(model, 2, size=(5, 4), method=method)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(sample(model.eval(), 2, size=(5, 4), method=method), images)


@pytest.mark.parametrize("method", ("naive", *FAST))
def test_ctrl_c_hands_the_model_back(method, monkeypatch):
    model, calls = make("gated").train(), []
    owner, name = (IncrementalGatedPixelCNN, "pixel") if method == "cached" else (GatedPixelCNN, "logits")
    original = getattr(owner, name)

    def interrupted(*arguments):
        calls.append(model.training)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        sample(model, size=(4, 4), method=method)
    assert calls == [False, False]
    assert all(module.training for module in model.modules())


def test_guesses_left_early_hand_the_model_back():
    model = make("gated").train()
    for _ in guesses(model, size=(4, 4)):
        break
    gc.collect()
    assert model.training


def test_progress(capsys):
    model = make("gated")
    passes = len(list(guesses(model, size=(3, 3))))
    for method, words in (("cached", "sampling: 100%"), ("guess", f"guessing: {passes}pass"), ("naive", "100%")):
        sample(model, size=(3, 3), method=method)
        assert capsys.readouterr() == ("", "")
        sample(model, size=(3, 3), method=method, progress=True)
        assert words in capsys.readouterr().err


def test_nothing_grows_with_repeated_calls():
    model = make("gated")

    def tensors():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    counts = []
    for _ in range(4):
        for method in FAST:
            sample(model, 2, size=(4, 4), method=method)
        counts.append(tensors())
    assert counts[-1] == counts[1]


def test_the_result_keeps_nothing_alive():
    model, given_ = make("gated"), integers((1, 1, 4, 4), 4)
    images = sample(model, 3, known=(given_, torch.ones(1, dtype=torch.bool)))
    images += 1  # and is nobody else's memory
    assert torch.equal(given_, integers((1, 1, 4, 4), 4))
    assert not images.requires_grad and images.untyped_storage().nbytes() == images.numel() * 8


# refusals


@pytest.mark.parametrize("method", FAST)
@pytest.mark.parametrize(
    ("model", "options", "error", "words"),
    next(mark for mark in test_sampling.test_bad_input.pytestmark if mark.name == "parametrize").args[1],
)
def test_bad_input_as_in_the_naive_loop(model, options, error, words, method):
    with refused(error, *words):
        sample(model, **options, method=method)


def test_logits_that_are_not_finite_are_noticed_at_the_end_of_their_row(monkeypatch):
    model, calls = make("gated"), []
    original = IncrementalGatedPixelCNN.pixel

    def pixel(self, col, channel):
        calls.append(col)
        logits = original(self, col, channel)
        logits[1, 2] = float("nan") if len(calls) == 6 else logits[1, 2]  # row 1, col 1, one level of one image
        return logits

    monkeypatch.setattr(IncrementalGatedPixelCNN, "pixel", pixel)
    with refused(ValueError, "model must return finite logits", "training diverged"):
        sample(model, 3, size=(5, 4))
    assert len(calls) == 8  # two rows of four


# subclasses


class Inherits(GatedPixelCNN):
    """It only has more to say."""

    def describe(self):
        return f"{self.features} features"


class Negated(GatedPixelCNN):
    def logits(self, x, labels=None):
        return -super().logits(x, labels)


class NegatedWithAWay(Negated):
    pass


@incremental.register(NegatedWithAWay)
class IncrementalNegated(IncrementalGatedPixelCNN):
    def pixel(self, col, channel):
        return -super().pixel(col, channel)


class NegatedBlock(GatedBlock):
    def forward(self, v, h, labels=None):
        v, h, gated = super().forward(v, h, labels)
        return -v, h, gated


def test_a_subclass_that_computes_the_same_is_drawn_by_the_cached_way():
    model = Inherits(levels=4, features=4, blocks=2, first_kernel_size=3).double()
    assert torch.equal(sample(model, 3, size=(5, 5)), naive_sample(model, 3, size=(5, 5)))
    nn.utils.parametrizations.weight_norm(model.blocks[0].vertical)  # its class is now a subclass of the layer's
    assert torch.equal(sample(model, 3, size=(5, 5)), naive_sample(model, 3, size=(5, 5)))


def test_a_subclass_that_computes_something_else_is_refused_by_the_cached_way_alone():
    model = Negated(levels=4, features=4, blocks=2, first_kernel_size=3).double()
    with refused(TypeError, "logits is not that of GatedPixelCNN", "@incremental.register(Negated)", 'method="naive"'):
        sample(model, size=(5, 5))
    wanted = sample(model, 3, size=(5, 5), method="naive")
    assert torch.equal(sample(model, 3, size=(5, 5), method="guess"), wanted)
    model.__class__ = NegatedWithAWay
    assert torch.equal(sample(model, 3, size=(5, 5)), wanted)
    model.blocks[1] = NegatedBlock(4).double()
    with refused(TypeError, "forward is not that of GatedBlock", "@incremental.register(NegatedBlock)"):
        sample(model, size=(5, 5))


def test_an_unknown_part_of_a_mixture_is_found_too():
    mixed = MixedClasses(Negated(levels=4, features=4, blocks=1, classes=3))
    with refused(TypeError, "logits is not that of GatedPixelCNN"):
        sample(mixed, labels=one_hot([0, 1]), size=(3, 3))


def test_a_model_without_a_cached_way():
    with refused(TypeError, "model", "ConditionalToy", 'method="naive"'):
        sample(ConditionalToy(), labels=one_hot([0]), size=(4, 4))


@pytest.mark.parametrize("method", ["", "Cached", None, 1, True])
def test_an_unknown_method(method):
    with refused(ValueError, "method", "'cached'", "'guess'", "'naive'", repr(method)):
        sample(make("plain"), size=(3, 3), method=method)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"method": "cached"}, ValueError, ("start", "None", "guess", "cached")),
        ({"method": "naive"}, ValueError, ("start", "None", "guess", "naive")),
        ({"start": integers((1, 1, 3, 4), 4)}, ValueError, ("start", "(2, 1, 3, 3)", "(1, 1, 3, 4)")),
        ({"start": integers((1, 1, 3, 3), 4)}, ValueError, ("start", "(2, 1, 3, 3)", "(1, 1, 3, 3)")),
        ({"start": integers((2, 3, 3, 3), 4)}, ValueError, ("start", "1 channel", "got 3")),
        ({"start": integers((2, 1, 3, 3), 4) + 1}, ValueError, ("start", "0 … 3", "1 … 4")),
        ({"start": torch.zeros(2, 1, 3, 3)}, TypeError, ("start", "integers 0 … 3", "float32")),
        ({"start": [[0]]}, TypeError, ("start", "torch tensor", "list")),
    ],
)
def test_bad_starts(options, error, words):
    with refused(error, *words):
        sample(make("plain"), 2, size=(3, 3), **{"method": "guess", "start": integers((2, 1, 3, 3), 4)} | options)
