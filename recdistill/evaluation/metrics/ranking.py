"""Metrics of scores or probabilities against yes/no labels.

Shapes: n rows.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve (NaN where one class is missing)."""
    if len(np.unique(labels)) < 2:
        return float("nan")
    return float(roc_auc_score(labels, scores))


def gauc(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> float:
    """Mean AUC within groups (users), weighted by their rows (Zhu et al., arXiv 1706.06978, section 6.3).

    Groups with one class only are left out.
    """
    order = np.argsort(groups, kind="stable")
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    parts = [part for part in np.split(order, cuts) if len(np.unique(labels[part])) == 2]
    if not parts:
        return float("nan")
    return float(np.average([auc(labels[part], scores[part]) for part in parts], weights=[len(part) for part in parts]))


def logloss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative log likelihood, in nats."""
    return float(log_loss(labels, probabilities, labels=[0, 1]))


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, *, bins: int = 10) -> float:
    """Expected calibration error over equal-width bins (Guo et al., ICML 2017, eq. 3)."""
    place = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, weights=probabilities - labels, minlength=bins)
    return float(np.abs(gap).sum() / len(labels)) if len(labels) else float("nan")
