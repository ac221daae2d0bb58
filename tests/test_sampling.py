"""The textbook sampler: the right distribution, the right seeds, and nothing that depends on the batch."""

import itertools

import numpy as np
import pytest
import torch
from conftest import ConditionalToy, NetModel, integers, one_hot, refused
from scipy.stats import chisquare
from torch import nn

from pixelcnn_helpers import GatedPixelCNN, MaskedConv2d, PixelCNN, naive_sample, nats, sample
from pixelcnn_helpers.sampling import row_noise


@pytest.fixture
def model():
    return PixelCNN(levels=4, features=6, layers=2, kernel_size=3).double()


@pytest.fixture
def colour():
    return PixelCNN(3, levels=3, features=6, layers=1, kernel_size=3).double()


def test_returns_integer_images(model, colour):
    images = naive_sample(model, 3, size=(4, 5))
    assert images.shape == (3, 1, 4, 5)
    assert images.dtype == torch.int64
    assert ((images >= 0) & (images < 4)).all()
    assert naive_sample(colour, 2, size=(2, 3)).shape == (2, 3, 2, 3)
    assert naive_sample(model, size=(1, 1)).shape == (1, 1, 1, 1)


def test_takes_the_size_of_the_model(model):
    model.size = (3, 2)
    assert naive_sample(model).shape == (1, 1, 3, 2)
    assert naive_sample(model, size=(2, 2)).shape == (1, 1, 2, 2)


def test_is_the_textbook_loop(colour):
    """Written out once more, for one image: a pass for every value, channels innermost."""
    generator = torch.Generator().manual_seed(5)
    noise = [row_noise([generator], 3, 3, 3) for _ in range(2)]  # of each row (W, C, n, levels)
    image = torch.zeros(1, 3, 2, 3, dtype=torch.long)
    colour.eval()
    for row, col, channel in itertools.product(range(2), range(3), range(3)):
        score = colour(image)[0, :, channel, row, col] + 0.7 * noise[row][col, channel, 0]
        image[0, channel, row, col] = score.argmax()
    assert torch.equal(naive_sample(colour, size=(2, 3), seed=5, temperature=0.7), image)


# seeds


def test_same_seed_same_image(model):
    a, b, c = (naive_sample(model, 4, size=(4, 4), seed=seed) for seed in (7, 7, 8))
    assert torch.equal(a, b)
    assert torch.equal(a[1:], c[:3])  # image i of seed 7 is image i - 1 of seed 8
    assert len({tuple(image.flatten().tolist()) for image in a}) == 4  # no noise shared among images


def test_an_image_never_depends_on_its_batch(model):
    together = naive_sample(model, 5, size=(4, 4), seed=3)
    for i in range(5):
        assert torch.equal(naive_sample(model, 1, size=(4, 4), seed=3 + i), together[i : i + 1])


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_a_sequence_of_seeds(model, kind):
    together = naive_sample(model, 10, size=(3, 3))
    assert torch.equal(naive_sample(model, size=(3, 3), seed=kind([9, 2, 2])), together[[9, 2, 2]])
    assert torch.equal(naive_sample(model, 3, size=(3, 3), seed=range(4, 7)), together[4:7])


def test_a_seed_of_numpy_or_torch(model):
    wanted = naive_sample(model, size=(3, 3), seed=4)
    assert torch.equal(naive_sample(model, size=(3, 3), seed=np.int64(4)), wanted)
    assert torch.equal(naive_sample(model, size=(3, 3), seed=torch.tensor(4)), wanted)


def test_leaves_the_random_state_alone(model):
    state = torch.get_rng_state()
    naive_sample(model, size=(3, 3))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_noise_of_a_row_can_be_rebuilt_from_its_seed():
    """One `torch.rand(W, C, levels)` for each row, from the top, from the image's own generator."""
    generator, twin = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    other = torch.Generator().manual_seed(6)
    for _ in range(3):
        noise = row_noise([other, generator], 4, 3, 8)
        assert noise.shape == (4, 3, 2, 8)
        assert torch.allclose(noise[:, :, 1], -(-torch.rand(4, 3, 8, generator=twin).log()).log())


def test_the_noise_of_one_row_is_in_memory_at_a_time(monkeypatch):
    """All noise of 500 images of 32×32×3 at 256 levels would need 1.6 GB."""
    sizes, draw = [], torch.rand
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: sizes.append(draw(*shape, **options)) or sizes[-1])
    model = PixelCNN(channels=3, levels=4, features=3, layers=1, kernel_size=3)
    sample(model, 5, size=(6, 7))
    assert {noise.numel() for noise in sizes} == {7 * 3 * 4} and len(sizes) == 5 * 6


def test_noise_is_standard_gumbel():
    generators = [torch.Generator().manual_seed(seed) for seed in range(20)]
    noise = row_noise(generators, 100, 1, 10).flatten()
    assert noise.isfinite().all()
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.03)
    assert noise.var().item() == pytest.approx(torch.pi**2 / 6, abs=0.06)


# distribution


def frequencies(images, levels):
    """How often each image was drawn, in the order of counting."""
    index = torch.zeros(len(images), dtype=torch.long)
    for value in images.flatten(1).T:
        index = index * levels + value
    return np.bincount(index, minlength=levels ** images[0].numel())


def every_image(channels, size, levels):
    values = list(itertools.product(range(levels), repeat=channels * size[0] * size[1]))
    return torch.tensor(values).view(-1, channels, *size)


def sharpened(model, factor=3.0):
    """Larger last weights: an untrained network is nearly uniform, which would prove little."""
    last = [layer for layer in model.modules() if isinstance(layer, MaskedConv2d)][-1]
    last.weight.data *= factor
    last.bias.data *= factor
    return model


@pytest.mark.parametrize(("channels", "size", "levels"), [(1, (2, 2), 3), (2, (1, 2), 3)])
def test_distribution(channels, size, levels):
    model = sharpened(PixelCNN(channels, levels=levels, features=6, layers=2, kernel_size=3))
    drawn = frequencies(naive_sample(model, 4000, size=size), levels)
    p = (-nats(model.double(), every_image(channels, size, levels))).exp().numpy()
    assert p.max() > 3 * p.min()
    assert chisquare(drawn, 4000 * p / p.sum()).pvalue > 0.01
    assert chisquare(drawn, np.full(len(p), 4000 / len(p))).pvalue < 1e-9  # the same test refuses a wrong model


def test_distribution_of_a_soft_label():
    model, row = sharpened(ConditionalToy().double(), 6.0), torch.tensor([[0.2, 0.8, 0.0]])
    drawn = frequencies(naive_sample(model, labels=row.expand(3000, 3), size=(1, 3)), 3)
    images = every_image(1, (1, 3), 3)
    p, other = (
        (-nats(model, images, rows.expand(len(images), 3))).exp().numpy() for rows in (row, one_hot([2]))
    )
    assert chisquare(drawn, 3000 * p / p.sum()).pvalue > 0.01
    assert chisquare(drawn, 3000 * other / other.sum()).pvalue < 1e-9


def test_temperature_divides_the_logits():
    model = sharpened(PixelCNN(levels=3, features=6, layers=2, kernel_size=3).double())
    drawn = frequencies(naive_sample(model, 3000, size=(2, 2), temperature=0.5), 3)
    sharpened(model, 2.0)  # logits / 0.5
    p = (-nats(model, every_image(1, (2, 2), 3))).exp().numpy()
    assert chisquare(drawn, 3000 * p / p.sum()).pvalue > 0.01


def test_temperature_zero_takes_the_likeliest_level(model):
    images = naive_sample(model, 3, size=(4, 4), temperature=0)
    assert (images == images[:1]).all()  # no noise left
    assert torch.equal(images[:1], model.eval()(images[:1]).argmax(1))


# known pixels


def test_known_pixels_are_kept(model):
    given, mask = integers((3, 1, 4, 4), 4), torch.rand(3, 1, 4, 4) < 0.5
    images = naive_sample(model, known=(given, mask))
    assert images.shape == (3, 1, 4, 4)
    assert torch.equal(images[mask], given[mask])
    other = torch.where(mask, given, 3 - given)  # what lies under the mask must not be seen
    assert torch.equal(naive_sample(model, known=(other, mask)), images)
    assert not torch.equal(images, given)


def test_known_everywhere_returns_the_known(model):
    given = integers((2, 1, 4, 4), 4)
    assert torch.equal(naive_sample(model, known=(given, torch.ones(4, 4, dtype=torch.bool))), given)
    assert torch.equal(
        naive_sample(model, 2, size=(4, 4), known=(given, torch.zeros(1, dtype=torch.bool))),
        naive_sample(model, 2, size=(4, 4)),
    )


def test_one_known_image_is_completed_several_ways(model):
    given, mask = integers((1, 1, 6, 4), 4).to(torch.uint8), torch.zeros(6, 4, dtype=torch.bool)
    mask[:3] = True
    images = naive_sample(model, 5, known=(given, mask))
    assert images.shape == (5, 1, 6, 4)
    assert (images[:, :, :3] == given[:, :, :3]).all()
    assert len({tuple(image.flatten().tolist()) for image in images}) == 5
    assert torch.equal(images[2:3], naive_sample(model, known=(given, mask), seed=2))


def test_known_channels_in_colour(colour):
    given, mask = integers((2, 3, 3, 3), 3), torch.tensor([True, False, False]).view(3, 1, 1)  # red is known
    images = naive_sample(colour, known=(given, mask))
    assert torch.equal(images[:, 0], given[:, 0])
    assert not torch.equal(images, given)


def test_known_pixels_shape_what_comes_after_them():
    model = NetModel(MaskedConv2d("A", 1, 4, 3, bias=False))
    mask = torch.zeros(2, 4, dtype=torch.bool)
    mask[0] = True
    dark, light = (naive_sample(model, 8, known=(torch.full((1, 1, 2, 4), v), mask)) for v in (0, 3))
    assert not torch.equal(dark[:, :, 1], light[:, :, 1])


# labels


def test_labels_count_the_images_and_reach_the_model():
    model = ConditionalToy().double()
    nn.init.constant_(model.shift.weight, 0)
    model.shift.weight.data[:, 1] = 50  # class 1 saturates every feature
    rows = one_hot([0, 1, 0])
    images = naive_sample(model, labels=rows, size=(4, 4), seed=[1, 1, 1])
    assert images.shape[0] == 3
    assert torch.equal(images[0], images[2])
    assert not torch.equal(images[0], images[1])
    assert torch.equal(naive_sample(model, 3, labels=rows, size=(4, 4), seed=[1, 1, 1]), images)


# manners


def test_the_model_is_sampled_in_evaluation_mode_and_handed_back():
    model = ConditionalToy(dropout=0.5).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = one_hot([0, 2])
    images = naive_sample(model, labels=rows, size=(4, 4))
    assert all(module.training for module in model.modules())
    assert torch.equal(naive_sample(model.eval(), labels=rows, size=(4, 4)), images)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_model_is_handed_back_even_when_it_fails():
    model = NetModel(nn.Conv2d(2, 4, 1))  # two channels where there is one
    with pytest.raises(RuntimeError):
        naive_sample(model, size=(2, 2))
    assert model.training


def test_progress(model, capsys):
    naive_sample(model, size=(3, 3))
    assert capsys.readouterr() == ("", "")
    naive_sample(model, size=(3, 3), progress=True)
    assert "sampling: 100%" in capsys.readouterr().err


UNSIZED = PixelCNN(levels=3, features=2, layers=1, kernel_size=3)
PLAIN, TOY = PixelCNN(levels=3, features=2, layers=1, kernel_size=3), ConditionalToy()
PLAIN.size = TOY.size = (4, 4)
GIVEN, MASK = integers((2, 1, 4, 4), 3), torch.ones(4, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("model", "options", "error", "words"),
    [
        (UNSIZED, {}, ValueError, ("size", "(height, width)", "None")),
        (PLAIN, {"size": 4}, ValueError, ("size", "(height, width)", "got 4")),
        (PLAIN, {"size": (4, 0)}, ValueError, ("size", "at least 1", "got 0")),
        (PLAIN, {"size": (4, 4.0)}, TypeError, ("size", "integer", "float 4.0")),
        (PLAIN, {"n": 0}, ValueError, ("n must", "at least 1", "got 0")),
        (PLAIN, {"n": True}, TypeError, ("n must", "integer", "boolean True")),
        (PLAIN, {"n": 2.0}, TypeError, ("n must", "integer", "float 2.0")),
        (PLAIN, {"temperature": -0.1}, ValueError, ("temperature", "at least 0", "got -0.1")),
        (PLAIN, {"temperature": True}, TypeError, ("temperature", "number", "True")),
        (PLAIN, {"temperature": float("nan")}, ValueError, ("temperature", "finite", "nan")),
        (PLAIN, {"temperature": float("inf")}, ValueError, ("temperature", "finite", "inf")),
        (PLAIN, {"temperature": "1"}, TypeError, ("temperature", "number", "str '1'")),
        (PLAIN, {"seed": -1}, ValueError, ("seed", "at least 0", "got -1")),
        (PLAIN, {"seed": 1.5}, TypeError, ("seed", "integer", "float 1.5")),
        (PLAIN, {"seed": "12"}, TypeError, ("seed", "integer", "str '12'")),
        (PLAIN, {"n": 3, "seed": [1, 2]}, ValueError, ("seed", "one seed per image", "2 seeds for 3 images")),
        (PLAIN, {"seed": []}, ValueError, ("seed", "one seed per image", "0 seeds for 1 images")),
        (PLAIN, {"seed": [1, -2]}, ValueError, ("seed[1]", "at least 0", "got -2")),
        (PLAIN, {"labels": one_hot([0])}, ValueError, ("labels", "must be None", "Tensor")),
        (TOY, {}, ValueError, ("labels", "float rows (N, 3)", "got None")),
        (TOY, {"labels": 3}, TypeError, ("labels", "torch tensor", "int 3")),
        (TOY, {"labels": [[1.0, 0, 0]]}, TypeError, ("labels", "torch tensor", "list")),
        (TOY, {"labels": torch.tensor(1.0)}, ValueError, ("labels", "(N, 3)", "()")),
        (TOY, {"labels": torch.tensor([1, 2])}, TypeError, ("labels", "float rows (N, 3)", "int64")),
        (TOY, {"labels": one_hot([1, 2], 4)}, ValueError, ("labels", "(N, 3)", "(2, 4)")),
        (TOY, {"labels": one_hot([1])[:0]}, ValueError, ("labels", "one row per image", "0 rows")),
        (TOY, {"labels": one_hot([1]) * 2}, ValueError, ("labels", "sum to 1", "2")),
        (TOY, {"labels": one_hot([1, 2]), "n": 3}, ValueError, ("n must", "labels", "n=3", "2 rows")),
        (TOY, {"labels": one_hot([1, 2]), "seed": [1, 2, 3]}, ValueError, ("seed", "3 seeds for 2 images")),
        (PLAIN, {"known": GIVEN[0]}, ValueError, ("known", "(images, mask)", "Tensor")),
        (PLAIN, {"known": 3}, ValueError, ("known", "(images, mask)", "got 3")),
        (PLAIN, {"known": (GIVEN.float(), MASK)}, TypeError, ("known[0]", "integers 0 … 2", "float32")),
        (PLAIN, {"known": (GIVEN + 1, MASK)}, ValueError, ("known[0]", "0 … 2", "1 … 3")),
        (PLAIN, {"known": (GIVEN, MASK.float())}, TypeError, ("known[1]", "boolean", "float32")),
        (PLAIN, {"known": (GIVEN, True)}, TypeError, ("known[1]", "boolean", "bool")),
        (PLAIN, {"known": (GIVEN, MASK[:3])}, ValueError, ("known", "(2, 1, 4, 4)", "(3, 4)")),
        (PLAIN, {"known": (GIVEN, MASK), "n": 3}, ValueError, ("known", "(3, 1, 4, 4)", "(2, 1, 4, 4)")),
        (PLAIN, {"known": (GIVEN, MASK), "size": (5, 4)}, ValueError, ("known", "(2, 1, 5, 4)", "(2, 1, 4, 4)")),
        (nn.Linear(2, 2), {}, TypeError, ("model", "Linear", "no channels and no levels")),
        ("model", {}, TypeError, ("model", "torch.nn.Module", "str")),
    ],
)
def test_bad_input(model, options, error, words):
    with refused(error, *words):
        naive_sample(model, **options)


def test_a_model_of_another_layout():
    model = NetModel(nn.Conv2d(1, 4, 1))
    model.forward = lambda images: torch.zeros(len(images), 4, 4, 4)
    with refused(ValueError, "model", "(N, levels, C, H, W)", "(1, 4, 1, 4, 4)", "(1, 4, 4, 4)"):
        naive_sample(model, size=(4, 4))


def test_a_mask_may_be_a_numpy_array():
    torch.manual_seed(0)
    model, images = PixelCNN(levels=3, features=4, layers=1, kernel_size=3), torch.randint(3, (2, 1, 4, 4))
    mask = np.zeros((4, 4), bool)
    mask[:2] = True
    drawn = naive_sample(model, known=(images, mask))
    assert torch.equal(drawn[:, :, :2], images[:, :, :2])


def test_a_diverged_model_is_not_sampled():
    model = PixelCNN(levels=3, features=4, layers=1, kernel_size=3)
    model.net[0].weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="model must return finite logits"):
        naive_sample(model, size=(3, 3))


class Forbidding(nn.Module):
    """The levels 0, 2 and 3 are equally likely after an even value, level 2 alone after an odd one; 1 is impossible."""

    channels, levels, size = 1, 4, (4, 5)

    def forward(self, images):
        before = nn.functional.pad(images, (1, 0))[..., :-1]  # (N, 1, H, W)
        logits = torch.zeros(len(images), 4, *images.shape[1:])
        logits[:, 1] = -torch.inf
        logits[:, 0] = torch.where(before == 3, -torch.inf, 0.0)
        logits[:, 3] = logits[:, 0]
        return logits


@pytest.mark.parametrize("method", ["naive", "guess"])
def test_a_logit_of_minus_infinity_forbids_a_level(method):
    images = sample(Forbidding(), 20, method=method)
    assert images.unique().tolist() == [0, 2, 3]
    after = images[..., 1:][images[..., :-1] == 3]
    assert (after == 2).all() and len(after) > 50


@pytest.mark.parametrize("method", ["naive", "guess", "cached"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_does_not_round_the_noise(method, dtype):
    """All 256 levels are equally likely, so their mean is 127.5. Rounded noise has ties, and argmax takes the first."""
    model, size = PixelCNN(features=2, layers=1, kernel_size=3), (16, 16) if method != "naive" else (4, 4)
    nn.init.zeros_(model.net[-1].weight), nn.init.zeros_(model.net[-1].bias)
    images = sample(model.to(dtype), 400 if method != "naive" else 4000, size=size, method=method)
    error = ((256**2 - 1) / 12 / images.numel()) ** 0.5
    assert abs(images.double().mean().item() - 127.5) < 3 * error


def test_a_huge_temperature_is_as_good_as_uniform(model):
    images = naive_sample(model, 200, size=(3, 3), temperature=1e300)
    shares = images.flatten().bincount(minlength=4) / images.numel()
    assert (shares - 0.25).abs().max() < 0.05


@pytest.mark.parametrize("method", ["naive", "guess", "cached"])
def test_thirds_are_labels_in_half_precision_too(method):
    """Three times 1/3 in bfloat16 is 1.002."""
    model = GatedPixelCNN(levels=3, features=4, blocks=1, classes=3).bfloat16()
    assert sample(model, labels=torch.full((2, 3), 1 / 3), size=(3, 3), method=method).shape == (2, 1, 3, 3)


def test_seeds_that_torch_cannot_tell_apart_are_refused():
    model = PixelCNN(levels=3, features=4, layers=1, kernel_size=3)
    with pytest.raises(ValueError, match="seed must be below"):
        naive_sample(model, size=(3, 3), seed=2**32)
