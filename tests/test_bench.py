"""The benchmark compares what it says it compares."""

import copy
import json
import shutil

import pytest
import torch

from pixelcnn_helpers import GatedPixelCNN, PixelCNN, assert_causal
from pixelcnn_helpers.workshop import bench as module


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small images and networks: what is timed is not the point here."""
    monkeypatch.setattr(module, "SIZE", (6, 5))
    monkeypatch.setattr(module, "COLOUR", [(2, 4, (4, 3)), (1, 16, (3, 4))])
    monkeypatch.setattr(module, "GatedPixelCNN", lambda **options: GatedPixelCNN(**{**options, "features": 6}))
    monkeypatch.setattr(module, "PixelCNN", lambda: PixelCNN(levels=4, features=6, layers=2, kernel_size=3))
    monkeypatch.setattr(module, "load_digits", lambda: (torch.randint(17, (64, 1, 8, 8)), None))


def test_masked_squares_are_the_same_network():
    torch.manual_seed(0)
    model = GatedPixelCNN(levels=4, features=6, blocks=3, dilations=[1, 2, 1]).double().eval()
    squares = module.as_masked_squares(copy.deepcopy(model))
    images = torch.randint(4, (2, 1, 9, 8))
    assert torch.allclose(model(images), squares(images), atol=1e-12)
    assert_causal(squares)
    assert not any("HorizontalConv2d" in str(type(layer)) for layer in squares.modules())


def test_sampling_table(capsys, tmp_path):
    found = module.bench("sample", batches=[1, 2], repeats=1, json_path=str(tmp_path / "bench.json"))
    assert json.loads((tmp_path / "bench.json").read_text()) == found
    colour = {"4×3×3, 4 levels": [2], "3×4×3, 16 levels": [1]}
    assert colour.keys() <= found["tables"].keys()
    for name, rows in found["tables"].items():
        assert [row["images"] for row in rows] == colour.get(name, [1, 2]), name
        assert all(value > 0 for row in rows for value in row.values())
    assert "cropped" in capsys.readouterr().out


def test_training_table(capsys):
    found = module.bench("train", repeats=1)
    assert len(found["tables"]) == 2 + bool(shutil.which("c++")) and all(rate > 0 for rate in found["tables"].values())
    assert "ratio" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [(("draw",), "what must be"), (("train", [0]), "batches must be"), (("train", [1], 0), "repeats must be")],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        module.bench(*arguments)
