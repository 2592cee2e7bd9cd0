"""Targets of each user and, for each, the earlier positives a query may draw on.

Shapes: T targets, M (target, candidate) entries of one block, n events of the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recdistill.contracts.log import Log


@dataclass(frozen=True)
class Block:
    """Candidates of some targets, flat.

    Attributes:
        targets: [T'] rows of the log that are this block's targets.
        owner: [M] position in ``targets`` that each entry belongs to, ascending.
        event: [M] log row of the candidate: strictly earlier than its target, another item; of a user's positive events
            with one item only the latest.
    """

    targets: np.ndarray
    owner: np.ndarray
    event: np.ndarray


def choose_targets(log: Log, *, per_user: int) -> np.ndarray:
    """[T] rows of each user's ``per_user`` latest positive events, ascending."""
    rows = np.flatnonzero(log.positive())
    user = log.user[rows]
    last = np.searchsorted(user, user, side="right") - 1  # position of the user's last positive
    return rows[last - np.arange(len(rows)) < per_user]


def candidate_blocks(
    log: Log, targets: np.ndarray, *, history: int, block: int = 2_000_000, block_targets: int = 20_000
) -> Iterator[Block]:
    """Yield the targets with their candidates, at most about ``block`` entries and ``block_targets`` targets at a time.

    A candidate lies among the user's last ``history`` events with time strictly before the target's.

    Args:
        log: positive events only, or events without behaviour would use up the history.
        targets: [T] rows of the log, ascending.
    """
    start = log.starts[log.user[targets]]
    # First row of the user at or after the target's time: rows before it are strictly earlier.
    end = _first_not_earlier(log)[targets]
    following = _next_same(log)
    begin = np.maximum(start, end - history)
    counts = end - begin
    edges = np.concatenate([[0], np.cumsum(counts)])
    first = 0
    while first < len(targets):
        stop = max(first + 1, int(np.searchsorted(edges, edges[first] + block, side="right")) - 1)
        stop = min(stop, first + block_targets)
        size = counts[first:stop]
        owner = np.repeat(np.arange(stop - first), size)
        event = (
            np.arange(len(owner))
            - np.repeat(edges[first:stop] - edges[first], size)
            + np.repeat(begin[first:stop], size)
        )
        kept = (log.item[event] != log.item[targets[first:stop]][owner]) & (following[event] >= end[first:stop][owner])
        yield Block(targets[first:stop], owner[kept], event[kept])
        first = stop


def best_per_owner(owner: np.ndarray, score: np.ndarray, *, count: int) -> np.ndarray:
    """Positions of each owner's ``count`` best entries, best first, grouped by owner.

    Args:
        owner: [M] ascending; score: [M], higher is better, ties by the earlier position; −inf is worst.
    """
    if not len(owner):
        return np.empty(0, dtype=np.int64)
    finite = score[np.isfinite(score)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    # One sort by owner + 0.9 · (badness in [0, 1]) is several times faster than a lexsort by two keys.
    badness = (high - np.maximum(score, low - (high - low) * 0.1 - 1e-6)) / ((high - low) * 1.1 + 2e-6)
    ranked = np.argsort(owner + 0.9 * badness, kind="stable")
    o = owner[ranked]
    rank = np.arange(len(o)) - np.searchsorted(o, o, side="left")
    return ranked[rank < count]


def _next_same(log: Log) -> np.ndarray:
    """[n] for each positive event, the row of the user's next one with the same item (n if there is none)."""
    following = np.full(len(log), len(log))
    rows = np.flatnonzero(log.positive())
    order = rows[np.lexsort((rows, log.item[rows], log.user[rows]))]
    same = (log.user[order[1:]] == log.user[order[:-1]]) & (log.item[order[1:]] == log.item[order[:-1]])
    following[order[:-1][same]] = order[1:][same]
    return following


def _first_not_earlier(log: Log) -> np.ndarray:
    """[n] for each event, the first row of its user whose time is not strictly earlier."""
    new = np.ones(len(log), dtype=bool)
    new[1:] = (log.user[1:] != log.user[:-1]) | (log.time[1:] != log.time[:-1])
    return np.flatnonzero(new)[np.cumsum(new) - 1]
