"""The ``mine`` stage: a training log, content vectors and a teacher table → ``interest_pairs`` and a funnel.

Memory: the log, plus about 100 bytes an entry of a block of 2 million (target, candidate) entries.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.utils.extmath import randomized_svd

from recdistill.contracts import names
from recdistill.contracts.fold import FITS, Fold
from recdistill.contracts.log import Log
from recdistill.contracts.tables import EmbeddingTable, write_json, write_table
from recdistill.mining.candidates import best_per_owner, candidate_blocks, choose_targets
from recdistill.mining.config import MiningConfig, Perspective
from recdistill.mining.perspectives import Knowledge, choose
from recdistill.progress import track
from recdistill.retrieval.clusters import clusters, unit_rows


def mine(config: MiningConfig, *, fold: Fold, content: Path, teach: Path, out: Path, seed: int) -> None:
    """Write ``out/<fit>/interest_pairs.parquet`` and ``funnel.json`` for both fits.

    Args:
        content: the ``raw_content`` table; teach: folder with ``<fit>/<teacher>.parquet``.
    """
    vectors = EmbeddingTable.read(content)
    for fit in FITS:
        log = fold.training(fit)
        teacher = EmbeddingTable.read(teach / fit / f"{config.teacher}.parquet")
        known = Knowledge(
            content_vectors(vectors, log.item_ids, width=config.content_width, seed=seed),
            clusters(teacher, log.item_ids, count=config.clusters, seed=seed),
        )
        pairs, funnel = mine_pairs(log, known, config, seed=seed)
        write_table(pairs, out / fit / "interest_pairs.parquet", metadata={"seed": seed, "fit": fit})
        write_json(funnel, out / fit / "funnel.json")


def mine_pairs(log: Log, known: Knowledge, config: MiningConfig, *, seed: int) -> tuple[pa.Table, dict[str, Any]]:
    """Mine all perspectives.

    Events without a positive behaviour (an impression not clicked, a low rating) are no part of a user's history.

    Returns:
        the ``interest_pairs`` table (a query's items in time order), and the funnel: the kinds of behaviour, how many
        of them the single-peak perspectives asked for, and per perspective how many users and targets it kept, and for
        targets that it lost the filter that emptied their query.
    """
    log = log.take(log.positive())
    targets = choose_targets(log, per_user=config.targets_per_user)
    rngs = {name: np.random.default_rng([seed, index]) for index, name in enumerate(config.perspectives)}
    found: dict[Perspective, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {
        name: [] for name in config.perspectives
    }
    lost: dict[Perspective, Counter[str]] = {name: Counter() for name in config.perspectives}
    with track("mine · targets", len(targets)) as advance:
        for block in candidate_blocks(log, targets, history=config.history):
            for name in config.perspectives:
                choice = choose(name, log, block, known, config, rngs[name])
                kept = np.ones(len(block.owner), dtype=bool)
                alive = _alive(block.owner, kept, len(block.targets), config.min_length)
                lost[name]["too few earlier items"] += int((~alive).sum())
                for reason, passes in choice.filters:
                    kept &= passes
                    still = alive & _alive(block.owner, kept, len(block.targets), config.min_length)
                    lost[name][reason] += int((alive & ~still).sum())
                    alive = still
                entries = np.flatnonzero(kept & alive[block.owner])
                best = entries[best_per_owner(block.owner[entries], choice.score[entries], count=config.length)]
                best = best[np.lexsort((block.event[best], block.owner[best]))]
                owners, counts = np.unique(block.owner[best], return_counts=True)
                found[name].append((block.targets[owners], counts, block.event[best]))
            advance(len(block.targets))
    tables, funnel = [], {}
    for name in config.perspectives:
        target = np.concatenate([part[0] for part in found[name]]) if found[name] else np.empty(0, np.int64)
        counts = np.concatenate([part[1] for part in found[name]]) if found[name] else np.empty(0, np.int64)
        events = np.concatenate([part[2] for part in found[name]]) if found[name] else np.empty(0, np.int64)
        tables.append(_table(log, name, target, counts, events))
        funnel[name] = {
            "targets": len(targets),
            "kept_pairs": len(target),
            "kept_users": len(np.unique(log.user[target])),
            "lost": {reason: count for reason, count in lost[name].items() if count},
        }
    about = {
        "users": len(log.user_ids),
        "users_with_a_target": len(np.unique(log.user[targets])),
        "behaviours": list(log.behaviour_names),
        "single_peak_behaviours": config.single_peak_needs(len(log.behaviour_names)),
    }
    return pa.concat_tables(tables), {**about, "perspectives": funnel}


def content_vectors(table: EmbeddingTable, item_ids: pd.Index, *, width: int, seed: int) -> np.ndarray:
    """[I, ≤ width] float32 unit vectors in which content is compared; zero where an item has none."""
    unit = unit_rows(table.vectors)
    if unit.shape[1] > width:
        # Uncentred: inner products are to be kept, not variances.
        components = randomized_svd(unit, width, random_state=seed)[2]
        unit = unit_rows(unit @ components.T)
    return EmbeddingTable(table.ids, unit.astype(np.float32)).align(item_ids)[0]


def _alive(owner: np.ndarray, kept: np.ndarray, owners: int, at_least: int) -> np.ndarray:
    return np.bincount(owner[kept], minlength=owners) >= at_least


def _table(log: Log, perspective: str, target: np.ndarray, counts: np.ndarray, events: np.ndarray) -> pa.Table:
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    return pa.table(
        {
            names.USER_ID: pa.array(log.user_ids.take(log.user[target])),
            names.QUERY_ITEMS: pa.ListArray.from_arrays(offsets, pa.array(log.item_ids.take(log.item[events]))),
            names.TARGET_ITEM: pa.array(log.item_ids.take(log.item[target])),
            names.PERSPECTIVE: pa.array(np.full(len(target), perspective), pa.string()),
            names.TIMESTAMP: pa.array(log.time[target], pa.timestamp("us", "UTC")),
        }
    )
