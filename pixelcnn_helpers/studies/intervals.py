"""How far a mean can be trusted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy.stats import t as student

from ..checks import require


def half_width(values: Sequence[float], level: float = 0.95) -> float:
    """Half the width of the confidence interval of a mean, by Student's t, from at least two independent values."""
    require(len(values) >= 2, "values", "be at least two", len(values))
    error = statistics.stdev(values) / math.sqrt(len(values))
    return float(student.ppf((1 + level) / 2, len(values) - 1)) * error
