"""The optimiser: which weights Muon moves, how far, and that closed taps stay out of it."""

import copy

import pytest
import torch
from conftest import refused
from test_training import IMAGES, Stop, copied, quick, same, small

from pixelcnn_helpers import GatedPixelCNN, PixelCNN, ShortcutPixelCNN, fit, load_digits
from pixelcnn_helpers.muon import Muon, hidden_kernels, orthogonal


@pytest.mark.parametrize("shape", [(5, 5), (4, 30), (30, 4), (1, 7)])
def test_orthogonal_brings_all_singular_values_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal(matrix)
    assert found.shape == shape
    assert torch.linalg.svdvals(found).sub(1).abs().max() < 0.35
    inside = u.T @ found @ v.T  # diagonal, since the directions are those of the matrix
    assert torch.allclose(inside, inside.diagonal().diag(), atol=1e-4)
    assert inside.diagonal().min() > 0.65


def test_orthogonal_of_nothing_is_nothing():
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


@pytest.mark.parametrize("model", [
    GatedPixelCNN(levels=5, features=6, blocks=2, classes=3),
    GatedPixelCNN(levels=5, features=6, blocks=2, embedding=4),
    GatedPixelCNN(channels=3, levels=5, features=12, blocks=2), PixelCNN(levels=5, features=6, layers=3, kernel_size=3),
    ShortcutPixelCNN(levels=5, features=6, blocks=2),
])  # fmt: skip
def test_muon_moves_the_kernels_between_features(model):
    chosen = {id(kernel) for kernel in hidden_kernels(model)}
    names = {name for name, weight in model.named_parameters() if id(weight) in chosen}
    layers = dict(model.named_modules())
    first = {"vertical.weight", "horizontal.weight", "first.weight", "net.0.weight"}
    last = {"head.weight", f"net.{len(getattr(model, 'net', [])) - 1}.weight"}
    convolutions = {f"{name}.weight" for name, layer in layers.items() if isinstance(layer, torch.nn.Conv2d)}
    assert names == convolutions - first - last


def test_one_step_as_written_out():
    """A kernel twice as tall as it is wide moves by √2 times the rate, along its orthogonal momentum."""
    kernel, bias = (torch.nn.Parameter(torch.zeros(shape)) for shape in ((8, 4, 1, 1), (3,)))
    kernel.data += 3  # its decay takes away half
    optimizer = Muon([bias, kernel], [kernel], learning_rate=0.5, weight_decay=0.0, decay=0.1)
    for group in optimizer.param_groups:
        group["lr"] = 0.5 * group["ratio"]
    gradient = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    kernel.grad, bias.grad = gradient.view(8, 4, 1, 1).clone(), torch.ones(3)
    optimizer.step()
    assert torch.allclose(kernel.detach().view(8, 4), 1.5 - 5 * 2**0.5 * orthogonal(gradient), atol=1e-4)
    assert torch.allclose(bias.detach(), torch.full((3,), -0.5), atol=1e-4)  # Adam's first step


def test_without_kernels_it_is_adamw():
    model, images = small(), IMAGES
    other = copy.deepcopy(model)
    optimizers = Muon(model.parameters(), [], 0.01, 0.1), torch.optim.AdamW(other.parameters(), 0.01, weight_decay=0.1)
    for _ in range(3):
        for network, optimizer in zip((model, other), optimizers, strict=True):
            torch.nn.functional.cross_entropy(network(images), images).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert same(model, other.state_dict())


def test_closed_taps_only_decay():
    """The orthogonal step leaves them out, since their gradient is 0: it is as good as that of the open taps alone."""
    model = small()
    before = copied(model)
    quick(model, epochs=3)
    moved = 0
    for name, layer in model.named_modules():
        if hasattr(layer, "mask") and layer.weight is not model.net[0].weight:
            closed = layer.mask == 0
            kept = layer.weight.detach() / before[f"{name}.weight"]  # the share of each weight
            moved += int((kept[~closed] != 1).sum())
            if layer.weight.shape[2] > 1 and any(layer.weight is kernel for kernel in hidden_kernels(model)):
                assert torch.allclose(kept[closed], kept[closed][0]) and 0.5 < kept[closed][0] < 1
    assert moved


def test_it_learns_faster_than_adamw():
    images, found = load_digits()[0][:800], {}
    for optimizer in ("adamw", "muon"):
        torch.manual_seed(0)
        model = GatedPixelCNN(levels=17, features=16, blocks=3)
        found[optimizer] = fit(model, images, epochs=4, batch_size=16, optimizer=optimizer, progress=False).train[-1]
    assert found["muon"] < found["adamw"] - 0.1  # bits/dim


@pytest.mark.parametrize("value", ["sgd", None, ["muon"]])
def test_an_unknown_optimizer(value):
    with refused(ValueError, "optimizer must be one of 'muon', 'adamw'", repr(value)):
        quick(small(), optimizer=value)


def test_a_checkpoint_of_another_optimizer(tmp_path):
    path = tmp_path / "model.pt"
    quick(small(), checkpoint=path, callback=Stop(after=1))
    with refused(ValueError, "optimizer muon there, adamw here"):
        quick(small(), checkpoint=path, optimizer="adamw")
