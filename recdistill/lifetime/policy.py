"""Policy value: what an order other than the log's would have been worth, per look, on the log's impressions.

Shapes: n rows (an item shown), with of each row

    reward      what it gave, 0 where it was not looked at
    target      look that the policy would have given it
    propensity  look that the log was to give it, before chance set its position
    look        look that the log gave it where it came to stand; the propensity, where the position is not chance

A policy's value is the reward that a look brings, Σ target · merit / Σ target, merit the reward if looked at; since
reward = look · merit on average, ``target / propensity`` weighs rewards without bias (importance weighting). What the
estimators cannot see is an item that the log did not show: they value an *order of what was shown*. A log's own ranker
chose what is there, so that a ranker which errs independently of it looks better than it is unless all that is ranked
is shown, or the page was drawn at random (``propensities.look_of_random_subset``).
"""

from __future__ import annotations

import numpy as np


def importance_weights(target: np.ndarray, propensity: np.ndarray, *, clip: float) -> np.ndarray:
    """[n] ``target / propensity``, at most ``clip``: less variance for some bias towards what the log did."""
    return np.minimum(target / propensity, clip)


def effective_sample_size(weight: np.ndarray) -> float:
    """(Σ w)² / Σ w²: how many evenly weighted rows would err as much (Kish, 1965)."""
    return float(weight.sum() ** 2 / (weight**2).sum()) if weight.any() else 0.0


def snips(reward: np.ndarray, *, weight: np.ndarray, look: np.ndarray) -> float:
    """Self-normalised importance weighting (Swaminathan and Joachims, NIPS 2015): Σ w · reward / Σ w · look.

    The weighted looks normalise, so that neither clipping nor a lucky draw of positions changes the value of a log in
    which everything pleases alike. NaN without a look.
    """
    looked = float((weight * look).sum())
    return float((weight * reward).sum()) / looked if looked > 0 else np.nan


def doubly_robust(
    reward: np.ndarray, *, merit: np.ndarray, target: np.ndarray, weight: np.ndarray, look: np.ndarray
) -> float:
    """A model's value of the policy, and importance weighting of what the model got wrong.

    Σ target · merit / Σ target + Σ w · (reward − look · merit) / Σ w · look (Dudík, Langford, Li, ICML 2011; with looks
    that the log does not show: Oosterhuis, TOIS 2023). Right if the propensities or the merits are. Where the
    propensity is ``look`` and nothing is clipped, the merits cancel and it equals :func:`snips`: the gain is where
    positions are chance.

    Args:
        merit: [n] predicted reward if looked at.
    """
    mass = float(target.sum())
    if mass <= 0:
        return np.nan
    return float((target * merit).sum()) / mass + snips(reward - look * merit, weight=weight, look=look)
