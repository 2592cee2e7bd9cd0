"""Sequence-to-item questions: a query drawn from a user's past, and the item that came next.

Shapes: C cases, I items, U users, L query length, P (case, past event) pairs of one chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recdistill.contracts.log import Log
from recdistill.retrieval.hashing import hash_ids, mix

# agree(target rows [P], past item rows [P]) -> [P] bool: may this past item speak for this target?
Agree = Callable[[np.ndarray, np.ndarray], np.ndarray]

_PAIRS_PER_CHUNK = 2_000_000


@dataclass(frozen=True)
class Cases:
    """Questions over one catalogue, sorted by (user, target's time, target).

    Attributes:
        item_ids: [I] ids; ``target``, ``query`` and ``exclude_items`` index them.
        user: [C] rows of ``user_ids``.
        user_ids: [U] ids.
        target: [C] the item asked for.
        query: [C, L] past items, oldest first, padded with -1 behind.
        exclude_offsets: [C + 1] case c excludes ``exclude_items[exclude_offsets[c]:exclude_offsets[c + 1]]``.
        exclude_items: [E] items that may not be answers, ascending and unique in a case, never its target.
        time: [C] the target's time, microseconds since 1970, UTC: when the question is put.
        query_time: [C, L] int64: when each past item was met, microseconds since 1970, UTC; 0 where padded.
    """

    item_ids: pd.Index
    user: np.ndarray
    user_ids: pd.Index
    target: np.ndarray
    query: np.ndarray
    exclude_offsets: np.ndarray
    exclude_items: np.ndarray
    time: np.ndarray
    query_time: np.ndarray

    def __len__(self) -> int:
        return len(self.target)

    def take(self, rows: np.ndarray) -> Cases:
        """Some of the cases ([C] bool mask or row numbers), in the order given."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        offsets, members = take_ragged(self.exclude_offsets, rows)
        return Cases(
            self.item_ids,
            self.user[rows],
            self.user_ids,
            self.target[rows],
            self.query[rows],
            offsets,
            self.exclude_items[members],
            self.time[rows],
            self.query_time[rows],
        )


def seq2item_cases(
    history: Log,
    targets: Log,
    *,
    length: int = 10,
    last: int = 100,
    max_targets: int = 30,
    min_positive: int = 1,
    min_history: int = 1,
    seed: int,
    agree: Agree | None = None,
    exclude_history: bool = True,
) -> Cases:
    """Ask for positives of the target window, given positives strictly earlier in time (METHOD 5, seq2item).

    A draw depends on (seed, user id, item id, target id) alone: neither the order of rows nor other users change it.
    The target itself is never a query item. Memory: 12 bytes per (case, excluded item), 60 MB for pairs at once.

    Args:
        history: all events a query may draw on, the target window included; the same catalogue as ``targets``.
        targets: events of the target window.
        length: query items a case, drawn at random without repetition.
        last: the pool is the user's last so many positive events strictly before the target.
        max_targets: targets a user, drawn at random; an item met several times counts once, the first time.
        min_positive: positive behaviours that make an event positive.
        min_history: strictly earlier positives a target needs to be asked for.
        seed: of both draws.
        agree: keep only those past items of the pool that agree with the target (filtered seq2item).
        exclude_history: take everything the user met strictly before the target out of the candidates, and do not ask
            for a target met before: it would stand among fewer rivals than any other, and be one that was trained on.

    Returns:
        Cases; those without any query item (all past items disagree, or are the target) are dropped.

    Raises:
        ValueError: the two logs number different catalogues.
    """
    if not history.item_ids.equals(targets.item_ids):
        raise ValueError("history and targets must number the same items")
    item_hash = hash_ids(history.item_ids)
    user_hash = hash_ids(history.user_ids)
    clock = np.unique(history.time)
    positives = history.take(_past_order(history, user_hash, item_hash, min_positive, seed))
    user, target, time = _targets(history, targets, min_positive)
    if exclude_history:
        new = ~_met_before(history, user, target, time)
        user, target, time = user[new], target[new], time[new]
    end = _count_before(positives, clock, user, time)
    askable = np.flatnonzero(end - positives.starts[user] >= min_history)
    draw = mix(seed, user_hash[user[askable]], item_hash[target[askable]])
    order = np.lexsort((draw, user[askable]))
    drawn = np.sort(askable[order[positions(user[askable[order]]) < max_targets]])
    user, target, time, end = user[drawn], target[drawn], time[drawn], end[drawn]
    start = np.maximum(end - last, positives.starts[user])
    query, query_time = np.full((len(target), length), -1, dtype=np.int64), np.zeros((len(target), length), np.int64)
    for chunk in _chunks(end - start):
        case, row = _ragged(start[chunk], end[chunk])
        case += chunk.start
        item = positives.item[row].astype(np.int64)
        keep = item != target[case]
        if agree is not None:
            keep[keep] = agree(target[case[keep]], item[keep])
        case, row, item = case[keep], row[keep], item[keep]
        draw = mix(seed, user_hash[user[case]], item_hash[target[case]], item_hash[item])
        _fill(query, query_time, case, row, item, positives.time[row], draw)
    asked = query[:, 0] >= 0
    user, target, time, query, query_time = user[asked], target[asked], time[asked], query[asked], query_time[asked]
    if exclude_history:
        offsets, items = _excluded(history, clock, user, target, time)
    else:
        offsets, items = np.zeros(len(target) + 1, dtype=np.int64), np.empty(0, dtype=np.int32)
    return Cases(history.item_ids, user, history.user_ids, target, query, offsets, items, time, query_time)


def _targets(history: Log, targets: Log, min_positive: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User rows (of the history), positive items and the time of their first event, sorted by (user, time, item)."""
    kept = targets.take(targets.positive(min_positive))
    user = history.user_ids.get_indexer(targets.user_ids)[kept.user]
    known = user >= 0  # whoever has no history cannot be asked
    user, target, time = user[known].astype(np.int64), kept.item[known].astype(np.int64), kept.time[known]
    order = np.lexsort((time, target, user))
    user, target, time = user[order], target[order], time[order]
    first = np.ones(len(user), dtype=bool)
    first[1:] = (user[1:] != user[:-1]) | (target[1:] != target[:-1])
    user, target, time = user[first], target[first], time[first]
    order = np.lexsort((target, time, user))
    return user[order], target[order], time[order]


def _met_before(history: Log, user: np.ndarray, target: np.ndarray, time: np.ndarray) -> np.ndarray:
    """[C] bool: the user met the item strictly earlier, positive about it or not."""
    width = len(history.item_ids)
    keys = history.user.astype(np.int64) * width + history.item
    order = np.lexsort((history.time, keys))
    met, first = np.unique(keys[order], return_index=True)
    place = np.searchsorted(met, user * width + target).clip(max=max(len(met) - 1, 0))
    return np.asarray((met[place] == user * width + target) & (history.time[order][first][place] < time))


def _past_order(history: Log, user_hash: np.ndarray, item_hash: np.ndarray, min_positive: int, seed: int) -> np.ndarray:
    """Positive events' rows by (user, time), equal times in a seeded random order: the file's would leak ids."""
    rows = np.flatnonzero(history.positive(min_positive))
    tie = mix(seed, item_hash[history.item[rows]], user_hash[history.user[rows]])
    return np.asarray(rows[np.lexsort((tie, history.time[rows], history.user[rows]))])


def _count_before(log: Log, clock: np.ndarray, user: np.ndarray, time: np.ndarray) -> np.ndarray:
    """[C] the first row of the log at or behind (user, time): the user's rows before it are strictly earlier."""
    width = len(clock) + 1
    keys = log.user.astype(np.int64) * width + np.searchsorted(clock, log.time)
    return np.asarray(np.searchsorted(keys, user * width + np.searchsorted(clock, time)))


def _fill(
    query: np.ndarray,
    query_time: np.ndarray,
    case: np.ndarray,
    row: np.ndarray,
    item: np.ndarray,
    time: np.ndarray,
    draw: np.ndarray,
) -> None:
    """Write each case's ``length`` lowest draws into ``query``, oldest first; an item's latest event stands for it."""
    order = np.lexsort((-row, item, draw, case))
    case, row, item, time = case[order], row[order], item[order], time[order]
    latest = np.ones(len(case), dtype=bool)
    latest[1:] = (case[1:] != case[:-1]) | (item[1:] != item[:-1])
    case, row, item, time = case[latest], row[latest], item[latest], time[latest]
    drawn = positions(case) < query.shape[1]
    case, row, item, time = case[drawn], row[drawn], item[drawn], time[drawn]
    order = np.lexsort((row, case))
    case, item, time = case[order], item[order], time[order]
    place = positions(case)
    query[case, place], query_time[case, place] = item, time


def _excluded(
    history: Log, clock: np.ndarray, user: np.ndarray, target: np.ndarray, time: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    end = _count_before(history, clock, user, time)
    start = history.starts[user]
    width = len(history.item_ids)
    cases, items = [], []
    for chunk in _chunks(end - start):
        case, row = _ragged(start[chunk], end[chunk])
        case += chunk.start
        item = history.item[row].astype(np.int64)
        other = item != target[case]
        pairs = np.unique(case[other] * width + item[other])
        cases.append(np.bincount(pairs // width - chunk.start, minlength=chunk.stop - chunk.start))
        items.append((pairs % width).astype(np.int32))
    counts = np.concatenate(cases) if cases else np.zeros(0, dtype=np.int64)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])
    return offsets, np.concatenate(items) if items else np.empty(0, dtype=np.int32)


def _chunks(sizes: np.ndarray) -> list[slice]:
    """Consecutive slices of the cases with about ``_PAIRS_PER_CHUNK`` pairs each."""
    if not len(sizes):
        return []
    part = (np.cumsum(sizes) - sizes) // _PAIRS_PER_CHUNK
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.flatnonzero(np.diff(part)) + 1])
    ends = np.append(starts[1:], len(sizes))
    return [slice(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def _ragged(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expand ranges: for every i and every row of ``start[i]:end[i]``, the pair (i, row)."""
    sizes = end - start
    index = np.repeat(np.arange(len(sizes)), sizes)
    offset = np.cumsum(sizes) - sizes
    return index, np.arange(len(index)) - offset[index] + start[index]


def take_ragged(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose rows of a ragged array.

    Args:
        offsets: [n + 1] row i's members are ``offsets[i]:offsets[i + 1]``.
        rows: [m] row numbers.

    Returns:
        [m + 1] the chosen rows' offsets, and the places of their members.
    """
    _, members = _ragged(offsets[rows], offsets[rows + 1])
    sizes = offsets[rows + 1] - offsets[rows]
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)]), members


def positions(group: np.ndarray) -> np.ndarray:
    """[n] each row's place, from 0, in its run of equal ``group`` values."""
    if not len(group):
        return np.empty(0, dtype=np.int64)
    new = np.ones(len(group), dtype=bool)
    new[1:] = group[1:] != group[:-1]
    starts = np.flatnonzero(new)
    return np.asarray(np.arange(len(group)) - starts[np.cumsum(new) - 1])
