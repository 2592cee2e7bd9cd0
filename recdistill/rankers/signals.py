"""Signals of a user's window of days: what the surrogate index of :mod:`recdistill.rankers.lifetime` reads.

Shapes: m events, U users, I items, E entries (a user with a window). Days are numbered from 1970.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recdistill.features.timeline import Timeline


@dataclass(frozen=True)
class Signals:
    """What an entry's window shows.

    Attributes:
        user: [E] int.
        end: [E] int64, the day after the window.
        active_days, events, items, breadth: [E] float64; breadth is the exponential of the entropy of the events'
            categories.
        satisfaction: [E] share of events with a positive behaviour.
        behaviours: [E] positive behaviours an event.
        prior_activity: [E] rate of active days before the window, prior_satisfaction: [E] satisfaction before it, both
            smoothed (:class:`Past`): what the user was like anyway.
    """

    user: np.ndarray
    end: np.ndarray
    active_days: np.ndarray
    events: np.ndarray
    items: np.ndarray
    breadth: np.ndarray
    satisfaction: np.ndarray
    behaviours: np.ndarray
    prior_activity: np.ndarray
    prior_satisfaction: np.ndarray

    def matrix(self) -> np.ndarray:
        """[E, 9] float64, what the surrogate reads."""
        return np.stack(
            [
                self.active_days,
                np.log1p(self.events),
                np.log1p(self.events * self.satisfaction),
                self.satisfaction,
                self.behaviours,
                np.log1p(self.items),
                self.breadth,
                self.prior_activity,
                self.prior_satisfaction,
            ],
            axis=1,
        )


class Past:
    """What is known of users before a day, smoothed towards what all users did before ``until``.

    Args:
        user, day, behaviours: [m], the events.
        users: U.
        until: no later day shapes what all users are taken to do.

    Memory: 60 bytes an event.
    """

    _DAYS = 14.0  # of the common rate that smooth a user's
    _EVENTS = 20.0

    def __init__(self, *, user: np.ndarray, day: np.ndarray, behaviours: np.ndarray, users: int, until: int) -> None:
        self._timeline = Timeline(group=user, time=day, groups=users)
        order = self._timeline.order
        user, self._day, positive = user[order], day[order], behaviours[order] > 0
        new = np.ones(len(user), dtype=bool)
        new[1:] = (user[1:] != user[:-1]) | (self._day[1:] != self._day[:-1])
        self._days = np.concatenate([[0], np.cumsum(new)])
        self._positives = np.concatenate([[0], np.cumsum(positive)])
        early = self._day < until
        first = self._day[early][np.unique(user[early], return_index=True)[1]]
        self._common_rate = float((new & early).sum() / max((until - first).sum(), 1))
        self._common_satisfaction = float(positive[early].mean()) if early.any() else 0.0

    def __call__(self, user: np.ndarray, day: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rate of active days since the user's first one, and share of positive events, strictly before each day.

        Returns:
            [q] float64 each.
        """
        begin, end = self._timeline.before(user, day)
        seen = end > begin
        span = np.where(seen, day - self._day[np.where(seen, begin, 0)], 0)
        days, positives = self._days[end] - self._days[begin], self._positives[end] - self._positives[begin]
        rate = (days + self._DAYS * self._common_rate) / (span + self._DAYS)
        satisfaction = (positives + self._EVENTS * self._common_satisfaction) / (end - begin + self._EVENTS)
        return rate, satisfaction


def measure(
    entry: np.ndarray,
    *,
    user: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    past: Past,
    day: np.ndarray,
    item: np.ndarray,
    category: np.ndarray,
    behaviours: np.ndarray,
) -> Signals:
    """Signals of entries from their events.

    Args:
        entry: [m] int64, -1 for an event of none.
        user, start, end: [E] the entries' windows, ``end`` excluded.
        day, item, behaviours: [m].
        category: [I] int64 category of each item, ≥ 0.
    """
    inside = entry >= 0
    entry, day, item, behaviours = entry[inside], day[inside], item[inside], behaviours[inside]
    count = len(user)
    events = np.bincount(entry, minlength=count).astype(np.float64)
    kinds = category[item]
    pairs, size = np.unique(entry * (kinds.max(initial=0) + 1) + kinds, return_counts=True)
    of = pairs // (kinds.max(initial=0) + 1)
    share = size / events[of]
    entropy = np.bincount(of, weights=-share * np.log(share), minlength=count)
    prior_activity, prior_satisfaction = past(user, start)
    return Signals(
        user=user,
        end=end,
        active_days=_distinct(entry, day, count),
        events=events,
        items=_distinct(entry, item, count),
        breadth=np.exp(entropy),
        satisfaction=np.bincount(entry, weights=behaviours > 0, minlength=count) / np.maximum(events, 1),
        behaviours=np.bincount(entry, weights=behaviours, minlength=count) / np.maximum(events, 1),
        prior_activity=prior_activity,
        prior_satisfaction=prior_satisfaction,
    )


def under_ranker(
    signals: Signals, entry: np.ndarray, *, logit: np.ndarray, behaviours: np.ndarray, sharpness: float
) -> Signals:
    """The signals had a ranker decided which of the shown items get the user's attention.

    The policy attends to item i of a window with probability ∝ odds_i^sharpness, odds predicted by the ranker; the log
    is taken to have attended to its items alike. Self-normalised importance weighting (Swaminathan & Joachims, NIPS
    2015) then gives satisfaction and behaviours as weighted means over the window's events; activity and diversity
    stay as they were. Equal scores give back the observed signals.

    Args:
        entry: [m] int64, -1 for an event of none; every entry has an event.
        logit, behaviours: [m].
    """
    inside = entry >= 0
    entry, behaviours = entry[inside], behaviours[inside]
    count = len(signals.user)
    scaled = sharpness * logit[inside]
    highest = np.full(count, -np.inf)
    np.maximum.at(highest, entry, scaled)
    weight = np.exp(scaled - highest[entry])
    total = np.bincount(entry, weights=weight, minlength=count)
    return replace(
        signals,
        satisfaction=np.bincount(entry, weights=weight * (behaviours > 0), minlength=count) / total,
        behaviours=np.bincount(entry, weights=weight * behaviours, minlength=count) / total,
    )


def _distinct(entry: np.ndarray, value: np.ndarray, count: int) -> np.ndarray:
    stride = np.int64(value.max(initial=0)) + 1
    pairs = np.unique(entry * stride + value)
    return np.bincount(pairs // stride, minlength=count).astype(np.float64)
