"""Small folds written by hand, and a planted world whose taste an embedding knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.contracts import fold as layout
from recdistill.contracts import names
from recdistill.contracts.fold import Fold
from recdistill.contracts.tables import EmbeddingTable, write_table

DAY = 86_400_000_000  # microseconds
START = 20_000 * DAY  # midnight


def interactions(
    user: np.ndarray, item: np.ndarray, time: np.ndarray, positive: np.ndarray, *, value: np.ndarray | None = None
) -> pa.Table:
    """A canonical table: ids as strings ``u<n>`` and ``i<n>``, one behaviour ``like`` where positive."""
    columns = {
        names.USER_ID: pa.array([f"u{n:04d}" for n in user], pa.string()),
        names.ITEM_ID: pa.array([f"i{n:04d}" for n in item], pa.string()),
        names.TIMESTAMP: pa.array(np.asarray(time, dtype=np.int64), pa.timestamp("us", "UTC")),
        names.BEHAVIOURS: pa.array([["like"] if yes else [] for yes in positive], pa.list_(pa.string())),
    }
    if value is not None:
        columns[names.VALUE] = pa.array(value, pa.float32())
    return pa.table(columns)


def write_fold(root: Path, table: pa.Table, *, items: int, cuts: tuple[int, int]) -> Fold:
    """Split by time at the two cuts; an item's role follows from where it first occurs."""
    time = table[names.TIMESTAMP].cast(pa.int64()).to_numpy()
    part = np.searchsorted(np.asarray(cuts), time, side="right")
    for at, file in enumerate((layout.TRAIN, layout.VALIDATION, layout.TEST)):
        write_table(table.filter(pa.array(part == at)), root / file)
    for file in (layout.VALIDATION_JUDGE, layout.TEST_JUDGE):
        write_table(table.slice(0, 0), root / file)
    item = pd.Series(table[names.ITEM_ID].to_pandas())
    first = pd.Series(part).groupby(item).min()
    ids = [f"i{n:04d}" for n in range(items)]
    roles = np.array(["warm", "validation_cold", "test_cold"])[first.reindex(ids).fillna(2).astype(int).to_numpy()]
    write_table(pd.DataFrame({names.ITEM_ID: ids, names.ROLE: roles}), root / layout.ITEMS)
    return Fold(root)


@dataclass(frozen=True)
class World:
    """A planted world on disk.

    Attributes:
        taste: [I, d] what decides, with the user's own taste, whether an item pleases.
    """

    root: Path
    fold: Fold
    taste: np.ndarray

    @property
    def item_ids(self) -> pd.Index:
        return self.fold.item_ids()

    def write_embedding(self, path: str, vectors: np.ndarray, **metadata: str) -> None:
        EmbeddingTable(self.item_ids, vectors.astype(np.float32), metadata=metadata).write(self.root / path)


def planted_world(root: Path, *, users: int = 240, items: int = 160, cold: int = 24, seed: int = 0) -> World:
    """Users like items near their taste; those whom a visit pleased come back sooner; some items arrive late."""
    rng = np.random.default_rng(seed)
    taste = rng.standard_normal((items, 6))
    taste /= np.linalg.norm(taste, axis=1, keepdims=True)
    own = rng.standard_normal((users, 6))
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    late = np.arange(items) >= items - cold
    rows: list[tuple[np.ndarray, ...]] = []
    day = rng.uniform(0, 5, size=users)
    while (day < 60).any():
        at = np.repeat(np.arange(users), 6)
        when = np.repeat(day, 6) + np.tile(np.arange(6) / 1000, users)
        item = rng.integers(items - cold, size=len(at))
        recent = (when > 48) & (rng.random(len(at)) < 0.3)
        item[recent] = rng.choice(np.flatnonzero(late), size=int(recent.sum()))
        liked = rng.random(len(at)) < 1 / (1 + np.exp(-(6 * (own[at] * taste[item]).sum(axis=1) - 0.5)))
        rows.append((at, item, when, liked))
        share = liked.reshape(users, 6).mean(axis=1)
        day = day + 0.5 + rng.exponential(12 * (1 - share) ** 2)
    user, item, when, liked = (np.concatenate(column) for column in zip(*rows, strict=True))
    inside = when < 60
    table = interactions(user[inside], item[inside], START + (when[inside] * DAY).astype(np.int64), liked[inside])
    fold = write_fold(root / "fold", table, items=items, cuts=(START + 30 * DAY, START + 45 * DAY))
    tags = [["odd" if n % 2 else "even", f"of {n % 5}"] for n in range(items)]
    write_table(
        pa.table(
            {
                names.ITEM_ID: fold.item_ids().tolist(),
                "text_title": [f"title {n}" for n in range(items)],
                "tags_genre": pa.array(tags, pa.list_(pa.string())),
            }
        ),
        root / "data" / "items.parquet",
    )
    return World(root, fold, taste)
