"""Logs made in memory, and the questions asked of them done the slow way."""

from __future__ import annotations

import numpy as np
import pandas as pd

from recdistill.contracts.log import Log

Event = tuple[object, object, int, int]  # user, item, time, behaviour bits


def make_log(events: list[Event], item_ids: list[object], *, user_ids: list[object] | None = None) -> Log:
    """A log over a given catalogue, sorted by (user, time), the order of ``events`` kept among equals."""
    users = pd.Index(sorted({event[0] for event in events}) if user_ids is None else user_ids)
    items = pd.Index(item_ids)
    user = users.get_indexer([event[0] for event in events]).astype(np.int32)
    item = items.get_indexer([event[1] for event in events]).astype(np.int32)
    time = np.array([event[2] for event in events], dtype=np.int64)
    bits = np.array([event[3] for event in events], dtype=np.int32)
    order = np.lexsort((time, user))
    value = np.full(len(events), np.nan, dtype=np.float32)
    return Log(users, items, user[order], item[order], time[order], bits[order], ("finish", "like"), value)
