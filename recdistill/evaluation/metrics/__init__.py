"""Metrics: pure functions that return a float, each with its direction declared here."""

from __future__ import annotations

import re
from typing import Literal

from recdistill.evaluation.metrics.retrieval import mrr, ndcg_at_k, recall_at_k
from recdistill.evaluation.metrics.structure import (
    bijective_accuracy,
    kendall_tau,
    nmi,
    overlap_coefficient,
    topk_overlap,
)

__all__ = [
    "DIRECTIONS",
    "Direction",
    "bijective_accuracy",
    "direction",
    "kendall_tau",
    "mrr",
    "ndcg_at_k",
    "nmi",
    "overlap_coefficient",
    "recall_at_k",
    "topk_overlap",
]

Direction = Literal["higher", "lower"]

# Which way is better, by the name in metric records without suffixes for cutoff, candidates, level and difference.
DIRECTIONS: dict[str, Direction] = {
    "recall": "higher",
    "ndcg": "higher",
    "mrr": "higher",
    "auc": "higher",
    "auc_matched": "higher",  # random targets drawn as often as true ones
    "gauc": "higher",
    "gauc_by_user": "higher",
    "logloss": "lower",
    "ece": "lower",
    "calibration_gap": "lower",  # |predicted / observed positives - 1|
    "nmi": "higher",
    "nmi_labels": "higher",
    "kendall_tau": "higher",
    "topk_overlap": "higher",
    "bijective_accuracy": "higher",
    "overlap_coefficient": "lower",
    "frontier_area": "higher",
    # of the downstream stage's surrogate index
    "lt7_proxy": "higher",
    "lt30_proxy": "higher",
    "r2": "higher",
}

_SUFFIX = re.compile(r"(_at_(\d+|k))?(_among_cold|_share_\d+|_levelled)?(_delta)?$")


def direction(metric: str) -> Direction:
    """Which way is better, of a metric as records name it, e.g. ``recall_at_25_among_cold``.

    Raises:
        KeyError: the metric is not classified.
    """
    return DIRECTIONS[_SUFFIX.sub("", metric)]
