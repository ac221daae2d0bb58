"""Does a classifier know when it does not know? Risk against coverage, and calibration."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..checks import check_int, require


def risk_by_coverage(confidence: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The share of wrong answers among the k most confident ones, for k = 1 … N: float64 `(N,)`.

    confidence: any score `(N,)`, higher for answers that are kept longer; equal ones share their errors evenly.
    right: whether each answer is right, `(N,)`. The last entry is the plain error rate.
    Source: El-Yaniv and Wiener 2010, JMLR 11.
    """
    _check(confidence, right)
    values, counts = (-confidence.double()).unique(return_counts=True, return_inverse=True)[1:]
    wrong = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, values, (~right.bool()).double())
    errors = (wrong / counts).repeat_interleave(counts)  # in the order of falling confidence
    return errors.cumsum(0) / torch.arange(1, len(errors) + 1)


@dataclass
class Calibration:
    """Bins of equal width between 0 and 1: how many answers fall into each, their mean confidence, the share right.

    error: the expected calibration error, the mean distance between the two, weighted by the counts.
    """

    counts: torch.Tensor
    confidence: torch.Tensor
    right: torch.Tensor
    error: float


def calibration(confidence: torch.Tensor, right: torch.Tensor, bins: int = 15) -> Calibration:
    """Are answers that are given with a probability of 0.8 right eight times in ten?

    confidence: probabilities `(N,)` in 0 … 1; right: whether each answer is right, `(N,)`. Empty bins hold zeros.
    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv 1706.04599, section 2.
    """
    _check(confidence, right)
    bins, confidence = check_int("bins", bins, 1), confidence.double()
    low, high = (value.item() for value in confidence.aminmax())
    require(low >= 0 and high <= 1 + 1e-6, "confidence", "hold probabilities in 0 … 1", f"{low:g} … {high:g}")
    places = (confidence * bins).ceil().long().clamp(1, bins) - 1  # 0.8 belongs to the bin that ends there
    counts = places.bincount(minlength=bins)
    sums = (places.bincount(values.double(), minlength=bins) for values in (confidence, right))
    confidence, right = (total / counts.clamp(min=1) for total in sums)
    error = (counts * (confidence - right).abs()).sum() / counts.sum()
    return Calibration(counts, confidence, right, error.item())


def _check(confidence, right) -> None:
    for name, values in (("confidence", confidence), ("right", right)):
        require(isinstance(values, torch.Tensor), name, "be a tensor", type(values).__name__, TypeError)
        require(values.ndim == 1 and len(values), name, "have the shape (N,), N at least 1", tuple(values.shape))
    require(len(confidence) == len(right), "right", f"have the shape ({len(confidence)},)", tuple(right.shape))
    require(bool(confidence.isfinite().all()), "confidence", "be finite", "values that are not")
