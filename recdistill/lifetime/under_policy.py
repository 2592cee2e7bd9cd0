"""The signals that a policy is estimated to give: what the surrogate index is asked about for a ranker.

Shapes: m events, E entries.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recdistill.lifetime.propensities import looks_by_rank
from recdistill.lifetime.signals import Signals


def under_ranker(
    signals: Signals, entry: np.ndarray, *, score: np.ndarray, behaviours: np.ndarray, sharpness: float
) -> tuple[Signals, np.ndarray]:
    """The signals had a ranker decided which of the shown items get the user's attention.

    The log's own looks are taken to be even, the ranker's follow the order of its scores within an entry's window
    (``propensities.looks_by_rank``) and are the importance weights: satisfaction and behaviours become the
    self-normalised weighted means of each window (``policy.snips``); activity and diversity stay as they were. Scores
    count by their order alone; equal ones give back the observed signals.

    Args:
        entry: [m] int64, -1 for an event of none; every entry has an event.
        score, behaviours: [m].

    Returns:
        the signals, and the importance weights of the events that are of an entry.
    """
    inside = entry >= 0
    of, behaviours = entry[inside], behaviours[inside]
    count = len(signals.user)
    weight = looks_by_rank(of, score[inside], sharpness=sharpness, groups=count)
    total = np.bincount(of, weights=weight, minlength=count)
    return replace(
        signals,
        satisfaction=np.bincount(of, weights=weight * (behaviours > 0), minlength=count) / total,
        behaviours=np.bincount(of, weights=weight * behaviours, minlength=count) / total,
    ), weight
