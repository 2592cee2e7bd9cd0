"""How far two trainings may differ by chance that were asked the same questions.

A figure is a mean over questions, several of them a unit's (a user's), and other units would have given another mean.
To first order it moves by the mean of the units' influences (Hampel, JASA 1974; for a ratio of sums: Cochran, Sampling
Techniques, 1977, chapter 6), and the difference of two figures by the mean of the units' differences.

Shapes: C questions, U units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# Of one figure, an array [U] a sample of units; the samples count as independent.
Influences = Sequence[np.ndarray]


def ratio_influences(hits: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """[U] of mean 0: each unit's influence on the mean of all questions' hits.

    Args:
        hits: [C]; unit: [C] whose question each is.
    """
    units, row = np.unique(unit, return_inverse=True)
    total, asked = np.bincount(row, weights=hits), np.bincount(row)
    return np.asarray((total - hits.mean() * asked) * (len(units) / len(hits)))


def standard_error(first: Influences, second: Influences) -> float | None:
    """Of the difference of two figures of the same questions, paired by unit; None where a single unit was asked."""
    differences = [one - other for one, other in zip(first, second, strict=True)]
    if any(len(of) < 2 for of in differences):
        return None
    return math.sqrt(sum(float(of.var(ddof=1)) / len(of) for of in differences))
