"""The signals that a policy is estimated to give: what the surrogate index is asked about for a ranker.

Shapes: m events, E entries.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recdistill.lifetime.policy import importance_weights
from recdistill.lifetime.propensities import softmax_looks
from recdistill.lifetime.signals import Signals


def under_ranker(
    signals: Signals, entry: np.ndarray, *, logit: np.ndarray, behaviours: np.ndarray, sharpness: float, clip: float
) -> tuple[Signals, np.ndarray]:
    """The signals had a ranker decided which of the shown items get the user's attention.

    Looks are by softmax within an entry's window, the log's own are even (``propensities``). Satisfaction and
    behaviours become the self-normalised importance-weighted means of each window (``policy.snips``); activity and
    diversity stay as they were. Equal scores give back the observed signals.

    Args:
        entry: [m] int64, -1 for an event of none; every entry has an event.
        logit, behaviours: [m].

    Returns:
        the signals, and the importance weights of the events that are of an entry.
    """
    inside = entry >= 0
    of, behaviours = entry[inside], behaviours[inside]
    count = len(signals.user)
    target = softmax_looks(of, logit[inside], sharpness=sharpness, groups=count)
    weight = importance_weights(target, np.ones(len(target)), clip=clip)
    total = np.bincount(of, weights=weight, minlength=count)
    return replace(
        signals,
        satisfaction=np.bincount(of, weights=weight * (behaviours > 0), minlength=count) / total,
        behaviours=np.bincount(of, weights=weight * behaviours, minlength=count) / total,
    ), weight
