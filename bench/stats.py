"""Medians and percentiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

__all__ = ["median", "percentile", "spread"]


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the percentile by nearest rank, or None if there are no values."""
    if not values:
        return None
    rank = max(1, math.ceil(percent / 100 * len(values)))
    return sorted(values)[rank - 1]


def spread(values: Sequence[float]) -> float:
    """Return how far the values lie apart, as a fraction of their median: 0.1 is 10 %."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0
