"""Signals of a user's window of days: what the surrogate index reads.

Shapes: m events, U users, I items, E entries (a user with a window). Days are numbered from 1970.

Satisfaction is counted by looks: an event whose item was looked at with probability .5 counts for half an event. Where
nothing is known of looks, every event is one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from recdistill.features.timeline import Timeline

COLUMNS = (
    "active_days",
    "recency",
    "log_events",
    "log_items",
    "breadth",
    "satisfaction",
    "behaviours",
    "prior_activity",
    "prior_satisfaction",
)


@dataclass(frozen=True)
class Signals:
    """What an entry's window shows.

    Attributes:
        user: [E] int.
        end: [E] int64, the day after the window.
        active_days: [E] float64, and so all that follow.
        recency: days from the last active day to ``end``, at least 1.
        events, items, breadth: breadth is the exponential of the entropy of the events' categories.
        satisfaction: events with a positive behaviour, a look.
        behaviours: positive behaviours, a look.
        prior_activity, prior_satisfaction: rate of active days and satisfaction before the window, both smoothed
            (:class:`Past`): what the user was like anyway.
    """

    user: np.ndarray
    end: np.ndarray
    active_days: np.ndarray
    recency: np.ndarray
    events: np.ndarray
    items: np.ndarray
    breadth: np.ndarray
    satisfaction: np.ndarray
    behaviours: np.ndarray
    prior_activity: np.ndarray
    prior_satisfaction: np.ndarray

    def take(self, rows: np.ndarray) -> Signals:
        """Some entries."""
        return Signals(*(getattr(self, of.name)[rows] for of in fields(self)))

    def matrix(self) -> np.ndarray:
        """[E, 9] float64 in the order of ``COLUMNS``, what the surrogate reads.

        It is linear in what a ranker changes (satisfaction, behaviours): an estimate's noise, large for a single
        entry, then averages out of a mean over entries, and does not bend it.
        """
        return np.stack(
            [
                self.active_days,
                self.recency,
                np.log1p(self.events),
                np.log1p(self.items),
                self.breadth,
                self.satisfaction,
                self.behaviours,
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
        looks: [m] probability that the event's item was looked at; None: 1.

    Memory: 70 bytes an event.
    """

    _DAYS = 14.0  # of the common rate that smooth a user's
    _LOOKS = 20.0

    def __init__(
        self,
        *,
        user: np.ndarray,
        day: np.ndarray,
        behaviours: np.ndarray,
        users: int,
        until: int,
        looks: np.ndarray | None = None,
    ) -> None:
        self._timeline = Timeline(group=user, time=day, groups=users)
        order = self._timeline.order
        user, self._day, positive = user[order], day[order], behaviours[order] > 0
        looks = np.ones(len(user)) if looks is None else looks[order]
        new = np.ones(len(user), dtype=bool)
        new[1:] = (user[1:] != user[:-1]) | (self._day[1:] != self._day[:-1])
        self._days = np.concatenate([[0], np.cumsum(new)])
        self._positives = np.concatenate([[0], np.cumsum(positive)])
        self._looks = np.concatenate([[0.0], np.cumsum(looks)])
        early = self._day < until
        first = self._day[early][np.unique(user[early], return_index=True)[1]]
        self._common_rate = float((new & early).sum() / max((until - first).sum(), 1))
        self._common_satisfaction = float(positive[early].sum() / looks[early].sum()) if early.any() else 0.0

    def __call__(self, user: np.ndarray, day: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rate of active days since the user's first one, and satisfaction, strictly before each day.

        Returns:
            [q] float64 each.
        """
        begin, end = self._timeline.before(user, day)
        seen = end > begin
        span = np.where(seen, day - self._day[np.where(seen, begin, 0)], 0)
        days, positives = self._days[end] - self._days[begin], self._positives[end] - self._positives[begin]
        looks = self._looks[end] - self._looks[begin]
        rate = (days + self._DAYS * self._common_rate) / (span + self._DAYS)
        satisfaction = (positives + self._LOOKS * self._common_satisfaction) / (looks + self._LOOKS)
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
    looks: np.ndarray | None = None,
) -> Signals:
    """Signals of entries from their events.

    Args:
        entry: [m] int64, -1 for an event of none; every entry has an event.
        user, start, end: [E] the entries' windows, ``end`` excluded.
        day, item, behaviours: [m].
        category: [I] int64 category of each item, ≥ 0.
        looks: [m] probability that the event's item was looked at; None: 1.
    """
    inside = entry >= 0
    looks = np.ones(int(inside.sum())) if looks is None else looks[inside]
    entry, day, item, behaviours = entry[inside], day[inside], item[inside], behaviours[inside]
    count = len(user)
    events = np.bincount(entry, minlength=count).astype(np.float64)
    kinds = category[item]
    pairs, size = np.unique(entry * (kinds.max(initial=0) + 1) + kinds, return_counts=True)
    of = pairs // (kinds.max(initial=0) + 1)
    share = size / events[of]
    entropy = np.bincount(of, weights=-share * np.log(share), minlength=count)
    last = np.zeros(count, dtype=np.int64)
    np.maximum.at(last, entry, day)
    prior_activity, prior_satisfaction = past(user, start)
    looked = np.bincount(entry, weights=looks, minlength=count)
    return Signals(
        user=user,
        end=end,
        active_days=_distinct(entry, day, count),
        recency=(end - last).astype(np.float64),
        events=events,
        items=_distinct(entry, item, count),
        breadth=np.exp(entropy),
        satisfaction=np.bincount(entry, weights=behaviours > 0, minlength=count) / looked,
        behaviours=np.bincount(entry, weights=behaviours, minlength=count) / looked,
        prior_activity=prior_activity,
        prior_satisfaction=prior_satisfaction,
    )


def _distinct(entry: np.ndarray, value: np.ndarray, count: int) -> np.ndarray:
    stride = np.int64(value.max(initial=0)) + 1
    pairs = np.unique(entry * stride + value)
    return np.bincount(pairs // stride, minlength=count).astype(np.float64)
