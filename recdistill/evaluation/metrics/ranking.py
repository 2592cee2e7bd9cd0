"""Metrics of probabilities against yes/no labels; those of a ranker's scores are in :mod:`recdistill.rankers.metrics`.

Shapes: n rows.
"""

from __future__ import annotations

import numpy as np


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, *, bins: int = 10) -> float:
    """Expected calibration error over equal-width bins (Guo et al., ICML 2017, eq. 3)."""
    place = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, weights=probabilities - labels, minlength=bins)
    return float(np.abs(gap).sum() / len(labels)) if len(labels) else float("nan")
