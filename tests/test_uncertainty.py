"""Risk against coverage, and calibration."""

import pytest
import torch
from conftest import refused

from pixelcnn_helpers.studies.uncertainty import calibration, risk_by_coverage


def test_risk_by_hand():
    confidence = torch.tensor([0.9, 0.2, 0.7, 0.5])
    right = torch.tensor([True, False, False, True])
    assert risk_by_coverage(confidence, right).tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert risk_by_coverage(10 * confidence - 50, right).tolist() == risk_by_coverage(confidence, right).tolist()


def test_equal_confidences_share_their_errors():
    confidence, right = torch.tensor([0.9, 0.5, 0.5, 0.5, 0.5]), torch.tensor([True, True, False, False, True])
    found = risk_by_coverage(confidence, right)
    assert found.tolist() == pytest.approx([0, 0.5 / 2, 1 / 3, 1.5 / 4, 2 / 5])
    assert torch.equal(found, risk_by_coverage(confidence.flip(0), right.flip(0)))


def test_a_confidence_that_knows_beats_one_that_does_not():
    right = torch.rand(2000, generator=torch.Generator().manual_seed(0)) < 0.8
    chance = torch.rand(2000, generator=torch.Generator().manual_seed(1))
    knows, ignorant = risk_by_coverage(right + chance / 9, right), risk_by_coverage(chance, right)
    assert knows[:1500].max() == 0 and ignorant.mean() == pytest.approx(0.2, abs=0.03)
    assert knows[-1] == ignorant[-1] == pytest.approx((~right).double().mean())


def test_calibration_by_hand():
    confidence = torch.tensor([0.95, 0.85, 0.55, 0.55], dtype=torch.float64)
    found = calibration(confidence, torch.tensor([True, True, True, False]), bins=2)
    assert found.counts.tolist() == [0, 4]
    assert found.confidence.tolist() == pytest.approx([0, 0.725]) and found.right.tolist() == [0, 0.75]
    assert found.error == pytest.approx(0.025)
    found = calibration(confidence, torch.tensor([True, True, True, False]), bins=10)
    assert found.counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 1, 1]
    assert found.error == pytest.approx((2 * 0.05 + 0.15 + 0.05) / 4)


def test_an_edge_belongs_to_the_bin_that_ends_there():
    found = calibration(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([True, True, True]), bins=2)
    assert found.counts.tolist() == [2, 1]


def test_calibrated_answers_have_a_small_error_and_boasts_a_large_one():
    draw = torch.Generator().manual_seed(0)
    confidence = 0.5 + torch.rand(20_000, generator=draw) / 2
    right = torch.rand(20_000, generator=draw) < confidence
    assert calibration(confidence, right).error < 0.02
    assert calibration(torch.ones(20_000), right).error == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("measure", [risk_by_coverage, calibration])
def test_bad_answers(measure):
    good, right = torch.tensor([0.5, 0.9]), torch.tensor([True, False])
    with refused(ValueError, "right must have the shape (2,)"):
        measure(good, right[:1])
    with refused(ValueError, "confidence must have the shape (N,)"):
        measure(good[:0], right[:0])
    with refused(TypeError, "confidence must be a tensor"):
        measure([0.5, 0.9], right)
    with refused(ValueError, "confidence must be finite"):
        measure(good * torch.nan, right)
    with refused(ValueError, "probabilities"):
        calibration(good + 1, right)
