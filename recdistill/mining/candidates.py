"""Targets of each user and, for each, the earlier positives a query may draw on.

Shapes: T targets, M (target, candidate) entries of one block, n events of the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recdistill.contracts.log import Log
from recdistill.mining.order import stable_order

# Entries of a block: its arrays stay in the processor's cache.
BLOCK = 1 << 17


@dataclass(frozen=True)
class Block:
    """Candidates of some targets, flat.

    Attributes:
        targets: [T'] rows of the log that are this block's targets.
        owner: [M] position in ``targets`` that each entry belongs to, ascending.
        event: [M] log row of the candidate: strictly earlier than its target, another item; of a user's positive events
            with one item only the latest. Ascending within an owner.
    """

    targets: np.ndarray
    owner: np.ndarray
    event: np.ndarray


def choose_targets(log: Log, *, per_user: int, behaviours: int = 1) -> np.ndarray:
    """[T] rows of each user's ``per_user`` latest events with so many positive behaviours, ascending."""
    rows = np.flatnonzero(log.positive(behaviours))
    sizes = np.bincount(log.user[rows], minlength=len(log.user_ids))
    later = np.repeat(np.cumsum(sizes), sizes) - 1 - np.arange(len(rows))
    return rows[later < per_user]


def candidate_blocks(
    log: Log, targets: np.ndarray, *, history: int, block: int = BLOCK, block_targets: int = 20_000
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
        event = np.repeat(begin[first:stop] - (edges[first:stop] - edges[first]), size)
        event += np.arange(len(event))
        kept = log.item[event] != np.repeat(log.item[targets[first:stop]], size)
        kept &= following[event] >= np.repeat(end[first:stop], size)
        owner = np.repeat(np.arange(stop - first), size)
        if not kept.all():
            owner, event = owner[kept], event[kept]
        yield Block(targets[first:stop], owner, event)
        first = stop


def _next_same(log: Log) -> np.ndarray:
    """[n] for each event, the row of the user's next one with the same item (n if there is none)."""
    following = np.full(len(log), len(log))
    items = max(len(log.item_ids), 1)
    key = log.user.astype(np.uint64) * np.uint64(items) + log.item.astype(np.uint64)
    order = stable_order(key, bits=(max(len(log.user_ids), 1) * items).bit_length())
    ranked = key[order]
    same = ranked[1:] == ranked[:-1]
    following[order[:-1][same]] = order[1:][same]
    return following


def _first_not_earlier(log: Log) -> np.ndarray:
    """[n] for each event, the first row of its user whose time is not strictly earlier."""
    new = np.ones(len(log), dtype=bool)
    new[1:] = (log.user[1:] != log.user[:-1]) | (log.time[1:] != log.time[:-1])
    return np.flatnonzero(new)[np.cumsum(new) - 1]
