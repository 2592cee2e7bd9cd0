"""LT-n proxies of rankers: the surrogate index of the signals that each is estimated to give, and how much it errs.

Two things are estimated: what pleasing is worth, on the users whose return taught the surrogate, and how much more a
ranker pleases, on those whom it is valued on. A draw of the bootstrap takes users with all that is known of them and
fits the surrogate again (``refit``), so that intervals have both errors.

Shapes: E entries, m events, U users, R draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recdistill.lifetime.intervals import interval, user_draws
from recdistill.lifetime.policy import effective_sample_size
from recdistill.lifetime.refit import Refits
from recdistill.lifetime.signals import COLUMNS, Signals
from recdistill.lifetime.surrogate import Surrogate
from recdistill.lifetime.under_policy import under_ranker

_CHANGED = ("satisfaction", "behaviours")  # what a ranker changes of Signals
_DRAWN_NUMBERS = 1 << 21


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval over users, None where it cannot be said."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Proxies:
    """What the log says of rankers.

    Attributes:
        days: of each ranker, the mean index over the valued entries.
        gain: of each but the base, its days more than the base's.
        by_pleasing: days that one more pleasing event a look adds, behaviours moving as they do in the log.
        effective_share: effective share of the events that the base's weights leave; others' differ by ties alone.
    """

    days: dict[str, Estimate]
    gain: dict[str, Estimate]
    by_pleasing: Estimate
    effective_share: float

    @property
    def told(self) -> bool:
        """Whether the log shows that pleasing brings users back; else no sign of a gain means anything."""
        return self.by_pleasing.interval is not None and self.by_pleasing.interval[0] > 0


def estimate_proxies(
    surrogate: Surrogate,
    training: tuple[Signals, np.ndarray],
    observed: Signals,
    entry: np.ndarray,
    *,
    behaviours: np.ndarray,
    scores: Mapping[str, np.ndarray],
    base: str,
    sharpness: float,
    draws: int,
    seed: int,
) -> Proxies:
    """Value rankers by the order in which they would have put what the entries were shown.

    Memory: 100 bytes an event shown, 270 an entry of either kind, and 610 + 16 · rankers a user.

    Args:
        training: the entries and outcomes that ``surrogate`` was fitted on.
        observed: E entries that rankers are valued on.
        entry: [m] int64 entry of each event shown, -1 for an event of none.
        behaviours: [m] positive behaviours.
        scores: of each ranker, [m].
        base: the ranker that others are compared with.
        sharpness: see ``propensities.looks_by_rank``.
    """
    signals, outcome = training
    users, row = np.unique(np.concatenate([signals.user, observed.user]), return_inverse=True)
    trained, valued = row[: len(signals.user)], row[len(signals.user) :]
    index, effective = {}, 1.0

    def summed(column: np.ndarray) -> np.ndarray:
        return np.bincount(valued, weights=column, minlength=len(users))

    columns = [summed(column) for column in (np.ones(len(valued)), *observed.matrix().T)]
    for ranker, score in scores.items():
        under, weight = under_ranker(observed, entry, score=score, behaviours=behaviours, sharpness=sharpness)
        index[ranker] = float(surrogate.index(under).mean())
        if ranker == base:
            effective = effective_sample_size(weight) / len(weight)
        columns += [summed(getattr(under, name) - getattr(observed, name)) for name in _CHANGED]
    sums = np.stack(columns, axis=1)
    refits = Refits(signals.matrix(), outcome, trained, users=len(users))

    changed = [COLUMNS.index(name) for name in _CHANGED]
    a_pleasing = np.array([1.0, signals.behaviours.mean() / max(signals.satisfaction.mean(), 1e-12)])
    drawn = {ranker: np.empty(draws) for ranker in scores}
    slope = np.empty(draws)
    block = max(_DRAWN_NUMBERS // len(users), 1)
    for start, weight in user_draws(len(users), draws=draws, block=block, seed=seed):
        part = slice(start, start + len(weight))
        intercept, slopes = refits(weight)
        total = weight @ sums
        mean = total[:, 1:] / np.where(total[:, :1] > 0, total[:, :1], np.nan)
        as_shown = intercept + (slopes * mean[:, : len(COLUMNS)]).sum(axis=1)
        slope[part] = slopes[:, changed] @ a_pleasing
        more = mean[:, len(COLUMNS) :].reshape(len(weight), len(scores), len(_CHANGED))
        for at, ranker in enumerate(scores):
            drawn[ranker][part] = as_shown + (slopes[:, changed] * more[:, at]).sum(axis=1)
    fitted = surrogate.slopes()
    return Proxies(
        days={ranker: Estimate(index[ranker], interval(drawn[ranker])) for ranker in scores},
        gain={
            ranker: Estimate(index[ranker] - index[base], interval(drawn[ranker] - drawn[base]))
            for ranker in scores
            if ranker != base
        },
        by_pleasing=Estimate(float(np.array([fitted[name] for name in _CHANGED]) @ a_pleasing), interval(slope)),
        effective_share=effective,
    )
