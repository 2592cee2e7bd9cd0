"""The base features every ranker has: how popular the item is, how active and how generous the user.

Shapes: n rows, m events.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recdistill.contracts.log import Log
from recdistill.features.timeline import Timeline
from recdistill.rankers.meetings import Meetings
from recdistill.rankers.rows import Rows

_DAY = 86_400_000_000  # microseconds


def base_features(rows: Rows, *, history: Log, training: Log, smoothing: float, live: bool = False) -> np.ndarray:
    """[n, 12] float32 counters from events strictly before each row.

    The item's counters read the ``training`` interactions, so a cold item has none, as on its first day; ``live`` ones
    read all of the ``history``, as the user's do, so that an item that was new to training is known by how its first
    impressions went. For each of the two: log(1 + events), log(1 + positives),
    positive rate smoothed towards the global one, smoothed mean ``value`` less the global mean (0 where the log has
    no values), and log(1 + days) since the item's first or the user's last event (NaN without one). Last, log(1 +
    events) and log(1 + positives) of this user with this very item: without them any vectors, random ones too, would
    seem to help by telling that the item is in the user's history. The global rate and mean are those of ``training``:
    the whole history's would know the rows' own labels.

    Args:
        training: in the same item numbering as the history; it ends before the rows begin.
        smoothing: events at the global rate that are added to each rate and mean.
        live: whether the item's counters go on after training.

    Memory: 150 bytes an event.
    """
    counted = history if live else training
    of_item = _Counter(counted.item, counted, len(counted.item_ids), smoothing, typical=training)
    of_user = _Counter(history.user, history, len(history.user_ids), smoothing, typical=training)
    item, item_first, _ = of_item(rows.item, rows.time)
    user, _, user_last = of_user(rows.user, rows.time)
    days = [np.log1p((rows.time - since) / _DAY) for since in (item_first, user_last)]
    again = [np.log1p(count) for count in Meetings(history)(rows.user, rows.item, rows.time)]
    return np.stack([*item, days[0], *user, days[1], *again], axis=1).astype(np.float32)


class _Counter:
    def __init__(self, group: np.ndarray, log: Log, groups: int, smoothing: float, *, typical: Log) -> None:
        self._timeline = Timeline(group=group, time=log.time, groups=groups)
        order = self._timeline.order
        self._time = log.time[order].astype(np.float64)
        known = np.isfinite(log.value)
        rated = typical.value[np.isfinite(typical.value)]
        self._rate = float(typical.positive().mean()) if len(typical) else 0.0
        mean = float(rated.mean(dtype=np.float64)) if len(rated) else 0.0
        deviation = np.where(known, log.value - mean, 0.0)
        self._sums = [
            np.concatenate([[0.0], np.cumsum(values[order], dtype=np.float64)])
            for values in (log.positive(), known, deviation)
        ]
        self._smoothing = smoothing

    def __call__(self, group: np.ndarray, time: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        begin, end = self._timeline.before(group, time)
        events = end - begin
        positives, values, deviation = (sums[end] - sums[begin] for sums in self._sums)
        smooth = self._smoothing
        rate = (positives + smooth * self._rate) / np.maximum(events + smooth, 1e-9)
        value = deviation / np.maximum(values + smooth, 1e-9)
        columns = [np.log1p(events), np.log1p(positives), rate, value]
        some = events > 0
        time_or_none = np.append(self._time, np.nan)
        first = np.where(some, time_or_none[np.where(some, begin, -1)], np.nan)
        last = np.where(some, time_or_none[np.where(some, end - 1, -1)], np.nan)
        return columns, first, last


class Standardiser:
    """Zero mean and unit variance on the training rows; beyond five standard deviations clipped, unknown is 0.

    The columns of a block (the components of one embedding) share a scale that gives the block as a whole unit
    variance: trailing components stay small, and a wide block does not drown the single features. A column with
    unknown values gets a second one beside it that says so; a block gets one for all.
    """

    def __init__(self, training: np.ndarray, *, blocks: Sequence[int]) -> None:
        """Learn from [n, c] float32 rows, NaN where unknown.

        Args:
            blocks: widths of the blocks that the c columns divide into, in order.
        """
        known = np.isfinite(training)
        count = np.maximum(known.sum(axis=0), 1)
        values = np.where(known, training, 0).astype(np.float64)
        self._mean = values.sum(axis=0) / count
        variance = (np.where(known, values - self._mean, 0) ** 2).sum(axis=0) / count
        starts = np.concatenate([[0], np.cumsum(blocks)[:-1]]).astype(np.int64)
        total = np.repeat(np.add.reduceat(variance, starts), blocks)
        self._scale = np.where(total > 1e-12, np.sqrt(total), 1.0)
        self._gaps = starts[~known.all(axis=0)[starts]]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """[n, c + blocks with gaps] float32."""
        known = np.isfinite(rows)
        scaled = np.clip((np.where(known, rows, self._mean) - self._mean) / self._scale, -5, 5)
        return np.concatenate([scaled, ~known[:, self._gaps]], axis=1).astype(np.float32)
