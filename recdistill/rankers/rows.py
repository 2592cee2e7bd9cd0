"""The rows a ranker is trained and tested on: who was shown what, when, and whether it pleased.

Shapes: n rows, m events, U users, I items. User and item numbers are those of one log, the *history*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from recdistill.contracts.log import Log
from recdistill.errors import UserError

Negatives = Literal["logged", "sampled"]
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


def negatives_of(*logs: Log, min_share: float) -> Negatives:
    """Whether the logs have enough events without positive behaviour to serve as the negatives."""
    share = np.concatenate([log.behaviours == 0 for log in logs]).mean()
    return "logged" if share >= min_share else "sampled"


def make_rows(window: Log, *, history: Log, negatives: Negatives, per_positive: int, seed: int) -> Rows:
    """Rows of a window in the history's numbering.

    ``logged`` negatives are the window's events without positive behaviour. ``sampled`` ones stand beside each
    positive at its time: items drawn in proportion to their positives in the window (so popularity alone does not
    tell them apart), among those the user has no event with anywhere in the log; one that fails 12 times is left out.

    Raises:
        UserError: the window has no positives, or no negatives.
    """
    user = history.user_ids.get_indexer(window.user_ids)[window.user].astype(np.int32)
    label = window.positive()
    rows = Rows(user, window.item, window.time, label, window.behaviour_count, np.ones(len(window), dtype=bool))
    if negatives == "sampled":
        positive = rows.take(np.flatnonzero(label))
        rows = _sorted(_concat(positive, _sample(positive, history=history, per_positive=per_positive, seed=seed)))
    if not rows.label.any() or rows.label.all():
        kind = "positive" if not rows.label.any() else "negative"
        raise UserError(
            f"rank: a window of {len(rows)} rows has no {kind} row",
            remedy="widen the split's validation and test windows, or map behaviours so that some events have none",
        )
    return rows


def _sample(positive: Rows, *, history: Log, per_positive: int, seed: int) -> Rows:
    items = np.int64(len(history.item_ids))
    seen = np.unique(history.user * items + history.item)
    rng = np.random.default_rng(seed)
    source = np.repeat(np.arange(len(positive)), per_positive)
    drawn = np.full(len(source), -1, dtype=np.int32)
    taken = np.empty(0, dtype=np.int64)
    open_ = np.arange(len(source))
    for _ in range(_ROUNDS):
        candidate = positive.item[rng.integers(len(positive), size=len(open_))]
        key = positive.user[source[open_]] * items + candidate
        at = np.minimum(np.searchsorted(seen, key), len(seen) - 1)
        # A pair is drawn once: the first slot that asks for it keeps it.
        first = np.zeros(len(key), dtype=bool)
        first[np.unique(key, return_index=True)[1]] = True
        good = (seen[at] != key) & first & ~np.isin(key, taken)
        drawn[open_[good]] = candidate[good]
        taken = np.concatenate([taken, key[good]])
        open_ = open_[~good]
    kept = np.flatnonzero(drawn >= 0)
    source = source[kept]
    none = np.zeros(len(kept), dtype=bool)
    return Rows(
        positive.user[source], drawn[kept], positive.time[source], none, np.zeros(len(kept), dtype=np.int64), none
    )


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
