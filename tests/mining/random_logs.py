"""Small random logs as files, for tests of mining."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.contracts import names
from recdistill.contracts.tables import write_table
from recdistill.mining.knowledge import Knowledge, item_keys

LABELS = ("click", "finish", "like")


def random_events(
    seed: int, *, users: int = 40, items: int = 30, events: int = 900, id_kind: str = "string"
) -> pa.Table:
    """Events in (user, time) order with many equal times, repeated items, and some without any behaviour."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(users, size=events), rng.integers(items, size=events)
    time = rng.integers(1_000_000_000, 1_000_000_000 + events // users, size=events)
    order = np.lexsort((rng.random(events), time, [f"u{u:04d}" for u in user] if id_kind == "string" else user))
    user, item, time = user[order], item[order], time[order]
    has = rng.random((events, len(LABELS))) < [0.8, 0.5, 0.6]
    behaviours = [[label for label, yes in zip(LABELS, row, strict=True) if yes] for row in has]
    ids = (lambda kind, at: [f"{kind}{one:04d}" for one in at]) if id_kind == "string" else (lambda _, at: at)
    return pa.table(
        {
            names.USER_ID: pa.array(ids("u", user)),
            names.ITEM_ID: pa.array(ids("i", item)),
            names.TIMESTAMP: pa.array(time * 1_000_000, pa.timestamp("us", "UTC")),
            names.BEHAVIOURS: pa.array(behaviours, pa.list_(pa.string())),
            names.VALUE: pa.array(rng.integers(1, 6, events).astype(np.float32)),
            names.DWELL: pa.array(rng.exponential(30, events).astype(np.float32), mask=rng.random(events) < 0.1),
            names.SESSION_ID: pa.array([f"s{at % 3}" for at in range(events)]),
        }
    )


def as_files(table: pa.Table, folder: Path) -> list[Path]:
    """The events as a fit has them: in several files, of which one is empty."""
    half = len(table) // 2
    rng = np.random.default_rng(half)
    first = rng.random(len(table)) < 0.7
    paths = [folder / name for name in ("train.parquet", "validation.parquet", "judge.parquet")]
    for path, part in zip(paths, (table.filter(first), table.filter(~first), table.slice(0, 0)), strict=True):
        write_table(part, path)
    return paths


def catalogue(table: pa.Table, *, more: int = 2) -> pd.Index:
    """The items that occur, and some that do not."""
    known = pd.Index(table[names.ITEM_ID].to_pandas()).unique().sort_values()
    extra = pd.Index([f"z{at}" for at in range(more)] if known.dtype != np.int64 else 10_000 + np.arange(more))
    return known.append(extra)


def random_knowledge(item_ids: pd.Index, *, seed: int = 0) -> Knowledge:
    """Unit vectors and clusters; some items have none."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(len(item_ids), 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[rng.random(len(item_ids)) < 0.1] = 0
    cluster = np.where(rng.random(len(item_ids)) < 0.1, -1, rng.integers(0, 4, len(item_ids)))
    return Knowledge(vectors, cluster, item_keys(item_ids))
