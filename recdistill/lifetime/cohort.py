"""Entries of a log with their signals, and with the outcomes that teach or judge a surrogate.

Shapes: m events, I items, E entries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recdistill.lifetime.observed import active_days_after, find_entries
from recdistill.lifetime.plan import Plan
from recdistill.lifetime.signals import Past, Signals, measure


@dataclass(frozen=True)
class Events:
    """What is read of a log.

    Attributes:
        user, item, day: [m] int.
        behaviours: [m] int number of positive behaviours.
        looks: [m] probability that the event's item was looked at; None: 1.
    """

    user: np.ndarray
    item: np.ndarray
    day: np.ndarray
    behaviours: np.ndarray
    looks: np.ndarray | None = None

    def past(self, *, users: int, until: int) -> Past:
        """What is known of the users before a day."""
        return Past(
            user=self.user, day=self.day, behaviours=self.behaviours, users=users, until=until, looks=self.looks
        )


def entries(
    events: Events, *, category: np.ndarray, past: Past, start: int, stop: int, signal_days: int
) -> tuple[np.ndarray, Signals]:
    """The users' windows of ``signal_days`` days that lie in ``[start, stop)``.

    Args:
        category: [I] int64 category of each item, ≥ 0.

    Returns:
        [m] int64 entry of each event, -1 for none; and the entries' signals.
    """
    entry, user, end = find_entries(events.user, events.day, start=start, stop=stop, signal_days=signal_days)
    signals = measure(
        entry,
        user=user,
        start=end - signal_days,
        end=end,
        past=past,
        day=events.day,
        item=events.item,
        category=category,
        behaviours=events.behaviours,
        looks=events.looks,
    )
    return entry, signals


def cohort(
    events: Events, *, category: np.ndarray, past: Past, plan: Plan, start: int, stop: int
) -> tuple[Signals, np.ndarray]:
    """Entries whose window and outcome both lie in ``[start, stop)``, and [E] their LT-n."""
    _, signals = entries(
        events, category=category, past=past, start=start, stop=stop - plan.horizon, signal_days=plan.signal_days
    )
    outcome = active_days_after(
        events.user,
        events.day,
        at_user=signals.user,
        at_day=signals.end,
        days=plan.horizon,
        last_day=plan.last_day,
    )
    return signals, outcome
