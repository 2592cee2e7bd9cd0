"""A log → interest pairs of all perspectives, and what became of its targets: the one function of every engine.

Shapes: n events, I items, C clusters, L query length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.contracts import names
from recdistill.contracts.log import Log
from recdistill.mining.candidates import candidate_blocks, choose_targets
from recdistill.mining.config import MiningConfig, Perspective
from recdistill.mining.draws import Draws
from recdistill.mining.knowledge import Knowledge
from recdistill.mining.perspectives import View, judge

_SHARES = 1 << 20  # cells of a block's table of users' shares of clusters


@dataclass
class Tally:
    """What became of the users and targets of a log; tallies of logs without a common user add up.

    Attributes:
        users, users_with_a_target, targets: counted.
        kept_pairs, kept_users: perspective → how many.
        lost: perspective → reason → targets.
    """

    users: int = 0
    users_with_a_target: int = 0
    targets: int = 0
    kept_pairs: Counter[str] = field(default_factory=Counter)
    kept_users: Counter[str] = field(default_factory=Counter)
    lost: dict[str, Counter[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, told: dict[str, Any]) -> Tally:
        """From its ``vars``, which went through JSON."""
        counters = {name: Counter(told[name]) for name in ("kept_pairs", "kept_users")}
        lost = {name: Counter(reasons) for name, reasons in told["lost"].items()}
        return cls(**{**told, **counters, "lost": lost})

    def add(self, other: Tally) -> None:
        """Count another log's in."""
        self.users += other.users
        self.users_with_a_target += other.users_with_a_target
        self.targets += other.targets
        self.kept_pairs += other.kept_pairs
        self.kept_users += other.kept_users
        for perspective, reasons in other.lost.items():
            self.lost.setdefault(perspective, Counter()).update(reasons)

    def funnel(self, config: MiningConfig, kinds: Sequence[str]) -> dict[str, Any]:
        """The content of ``funnel.json``: the kinds of behaviour, how many of them the single-peak perspectives asked
        for, and per perspective how many users and targets it kept, and for targets that it lost the filter that
        emptied their query."""
        return {
            "users": self.users,
            "users_with_a_target": self.users_with_a_target,
            "behaviours": list(kinds),
            "single_peak_behaviours": config.single_peak_needs(len(kinds)),
            "perspectives": {
                name: {
                    "targets": self.targets,
                    "kept_pairs": self.kept_pairs[name],
                    "kept_users": self.kept_users[name],
                    # By name: which reason is met first depends on the partitions.
                    "lost": {reason: count for reason, count in sorted(self.lost.get(name, {}).items()) if count},
                }
                for name in config.perspectives
            },
        }


@dataclass(frozen=True)
class Mined:
    """Interest pairs of each perspective, users and times ascending, and the tally."""

    pairs: dict[Perspective, pa.Table]
    tally: Tally


def mine_log(log: Log, known: Knowledge, config: MiningConfig, *, kinds: int, seed: int) -> Mined:
    """Mine all perspectives.

    Events without a positive behaviour (an impression not clicked, a low rating) are no part of a user's history.
    Whatever the users beside it, a user's pairs are the same.

    Memory: about 120 bytes an event, 150 an entry of a block (131,072, or one target's history), 40 a cell of the
    block's shares (a million, or C) and, for each pair, 40 + L times an id's.

    Args:
        known: of the items in ``log.item_ids``.
        kinds: kinds of positive behaviour in the whole log, of which this may be a part.
    """
    log = log.take(log.positive())
    targets = choose_targets(log, per_user=config.targets_per_user, behaviours=config.target_behaviours)
    draws = Draws(log, item_keys=known.keys, seed=seed)
    found: dict[Perspective, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {
        name: [] for name in config.perspectives
    }
    tally = Tally(len(log.user_ids), _distinct(log.user[targets]), len(targets))
    tally.lost = {name: Counter() for name in config.perspectives}
    most = max(1, _SHARES // max(known.clusters, 1))
    for block in candidate_blocks(log, targets, history=config.history, block_targets=most):
        view = View(log, block, known)
        for name in config.perspectives:
            entries, lost = judge(name, view, config, draws, kinds=kinds)
            counts = np.bincount(block.owner[entries], minlength=len(block.targets))
            has = np.flatnonzero(counts)
            found[name].append((block.targets[has], counts[has], block.event[entries]))
            tally.lost[name].update(lost)
    users, items = _arrow(log.user_ids), _arrow(log.item_ids)
    tables = {}
    for name, parts in found.items():
        target, counts, events = (
            np.concatenate(of) if of else np.empty(0, np.int64)
            for of in (zip(*parts, strict=True) if parts else [()] * 3)
        )
        tally.kept_pairs[name], tally.kept_users[name] = len(target), _distinct(log.user[target])
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        tables[name] = pa.table(
            {
                names.USER_ID: users.take(pa.array(log.user[target])),
                names.QUERY_ITEMS: pa.ListArray.from_arrays(offsets, items.take(pa.array(log.item[events]))),
                names.TARGET_ITEM: items.take(pa.array(log.item[target])),
                names.PERSPECTIVE: pa.repeat(pa.scalar(name, pa.string()), len(target)),
                names.TIMESTAMP: pa.array(log.time[target], pa.timestamp("us", "UTC")),
            }
        )
    return Mined(tables, tally)


def mine_pairs(log: Log, known: Knowledge, config: MiningConfig, *, seed: int) -> tuple[pa.Table, dict[str, Any]]:
    """Mine a whole log in memory: the ``interest_pairs`` table (a query's items in time order) and the funnel."""
    kinds = log.behaviour_names
    mined = mine_log(log, known, config, kinds=len(kinds), seed=seed)
    return pa.concat_tables(mined.pairs.values()), mined.tally.funnel(config, kinds)


def _arrow(ids: pd.Index) -> pa.Array:
    column = pa.array(ids)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _distinct(ascending: np.ndarray) -> int:
    return int(np.count_nonzero(np.diff(ascending))) + 1 if len(ascending) else 0
