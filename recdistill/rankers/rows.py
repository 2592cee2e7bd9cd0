"""The rows a ranker is trained and tested on: who was shown what, when, and whether it pleased.

Shapes: n rows, m events, U users, I items. User and item numbers are those of one log, the *history*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from recdistill.contracts.log import Log
from recdistill.contracts.negatives import Negatives
from recdistill.errors import UserError
from recdistill.rankers.meetings import Meetings, PastItems

_ROUNDS = 12


@dataclass(frozen=True)
class Rows:
    """Labelled rows sorted by (user, time).

    Attributes:
        user, item: [n] int32 row numbers.
        time: [n] int64 microseconds.
        label: [n] bool, at least one positive behaviour.
        behaviours: [n] int64 number of positive behaviours.
        logged: [n] bool, false for a sampled negative.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    label: np.ndarray
    behaviours: np.ndarray
    logged: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> Rows:
        return Rows(
            self.user[rows],
            self.item[rows],
            self.time[rows],
            self.label[rows],
            self.behaviours[rows],
            self.logged[rows],
        )


def make_rows(window: Log, *, history: Log, negatives: Negatives, per_positive: int, seed: int) -> Rows:
    """Rows of a window in the history's numbering.

    ``logged`` negatives are the window's events without positive behaviour. ``sampled`` ones stand beside each positive
    at its time, and resemble it in what the base features know of user and item:

    - a positive on an item new to the user gets items new to the user, a repeated one gets items that the user has met
      before it too: "met before" cannot tell them apart, with repeated consumption or without;
    - among those, items are drawn in proportion to their positives in the window, so that popularity alone does not
      tell them apart either;
    - left out is what pleases the user then or later in this window. An item that pleased earlier in it may be drawn:
      else the negatives of a repeated positive would all be older than the window, and age would tell. Nothing after
      the window is looked at: what a training row calls negative may please the user in the test window;
    - the sets are complete: a positive with fewer than ``per_positive`` negatives after 12 draws of each is left out,
      or the share of positives would differ between new and repeated items.

    Args:
        history: the events before and in the window; later ones change nothing.

    Raises:
        UserError: the window has no positives, or no negatives.
    """
    user = history.user_ids.get_indexer(window.user_ids)[window.user].astype(np.int32)
    label = window.positive()
    rows = Rows(user, window.item, window.time, label, window.behaviour_count, np.ones(len(window), dtype=bool))
    if negatives == "sampled" and label.any():
        positive = rows.take(np.flatnonzero(label))
        rows = _sorted(_with_sampled(positive, history=history, per_positive=per_positive, seed=seed))
    if not label.any() or rows.label.all():
        kind = "negative" if label.any() else "positive"
        raise UserError(
            f"rank: a window of {len(window)} events gives no {kind} row",
            remedy="widen the split's validation and test windows, or map behaviours so that some events have none",
        )
    return rows


def _with_sampled(positive: Rows, *, history: Log, per_positive: int, seed: int) -> Rows:
    """The positives (sorted by user and time) that find all their negatives, and those."""
    items = np.int64(len(history.item_ids))
    met_before = Meetings(history)
    repeated = met_before(positive.user, positive.item, positive.time)[0] > 0
    pleasing, of_pair = np.unique(positive.user * items + positive.item, return_inverse=True)
    last = np.full(len(pleasing), np.iinfo(np.int64).min)
    np.maximum.at(last, of_pair, positive.time)
    popularity = np.bincount(positive.item, minlength=int(items))
    past = PastItems(history, weight=popularity, user=positive.user, time=positive.time)
    # Runs of one user and time, within which no item is drawn twice.
    sitting = np.concatenate([[0], np.cumsum((np.diff(positive.user) != 0) | (np.diff(positive.time) != 0))])

    rng = np.random.default_rng(seed)
    source = np.repeat(np.arange(len(positive)), per_positive)
    drawn = np.full(len(source), -1, dtype=np.int32)
    taken = np.empty(0, dtype=np.int64)
    open_ = np.arange(len(source))
    for _ in range(_ROUNDS):
        of = source[open_]
        candidate = positive.item[rng.integers(len(positive), size=len(of))]
        again = repeated[of]
        candidate[again] = past.draw(of[again], rng)
        user, key = positive.user[of], sitting[of] * items + candidate
        asked = user * items + candidate
        at = np.minimum(np.searchsorted(pleasing, asked), len(pleasing) - 1)
        pleases = (pleasing[at] == asked) & (last[at] >= positive.time[of])
        met = met_before(user, candidate, positive.time[of])[0] > 0
        kept = np.flatnonzero(np.equal(met, again) & ~pleases & ~np.isin(key, taken))
        kept = kept[np.unique(key[kept], return_index=True)[1]]
        drawn[open_[kept]] = candidate[kept]
        taken = np.concatenate([taken, key[kept]])
        open_ = np.delete(open_, kept)
    complete = np.asarray((drawn >= 0).reshape(-1, per_positive).all(axis=1))
    slots = np.flatnonzero(complete[source])
    source = source[slots]
    none = np.zeros(len(slots), dtype=bool)
    sampled = Rows(positive.user[source], drawn[slots], positive.time[source], none, none.astype(np.int64), none)
    return _concat(positive.take(np.flatnonzero(complete)), sampled)


def _concat(first: Rows, second: Rows) -> Rows:
    return Rows(
        *(
            np.concatenate([getattr(first, name), getattr(second, name)])
            for name in ("user", "item", "time", "label", "behaviours", "logged")
        )
    )


def _sorted(rows: Rows) -> Rows:
    return rows.take(np.lexsort((rows.item, rows.time, rows.user)))


def cold_items(training: Log, item_ids: pd.Index) -> np.ndarray:
    """[I] bool: items of the catalogue without any training interaction."""
    return np.bincount(training.item, minlength=len(item_ids)) == 0
