"""A planted log: two audiences that share no item, each walking along its own circle of items.

Items ``a00 … a19`` and ``b00 … b19``; every user starts somewhere on one circle and takes each next item. ``x`` is met
and never liked, ``cold`` only in the test window.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recdistill.contracts.fold import Fold
from recdistill.contracts.log import Log
from recdistill.contracts.tables import write_table
from recdistill.teachers.positives import Positives

CIRCLE = 20
ITEMS = [f"{side}{place:02d}" for side in "ab" for place in range(CIRCLE)]
Rows = list[tuple[str, str, int, list[str]]]


def write_events(rows: Rows, path: Path) -> None:
    """Write (user, item, second, behaviours) as an ``interactions`` table."""
    user, item, second, behaviours = zip(*rows, strict=True) if rows else ((), (), (), ())
    columns = {
        "user_id": pa.array(user, pa.string()),
        "item_id": pa.array(item, pa.string()),
        "timestamp": pa.array([1_000_000 * moment for moment in second], pa.timestamp("us", "UTC")),
        "behaviours": pa.array(behaviours, pa.list_(pa.string())),
    }
    write_table(pa.table(columns), path)


def walks(*, users: int = 60, length: int = 8, after: int = 3, seed: int = 0) -> tuple[Rows, Rows]:
    """The planted walks: training events, and the ``after`` events that follow them."""
    rng = np.random.default_rng(seed)
    before: Rows = []
    behind: Rows = []
    for user in range(users):
        side, start = "ab"[user % 2], int(rng.integers(CIRCLE))
        for step in range(length + after):
            event = (f"u{user:03d}", f"{side}{(start + step) % CIRCLE:02d}", 10 * step + user % 7, ["like"])
            (before if step < length else behind).append(event)
    return before, behind


@pytest.fixture(scope="session")
def fold(tmp_path_factory: pytest.TempPathFactory) -> Fold:
    """The planted log, split by time."""
    root = tmp_path_factory.mktemp("planted")
    before, behind = walks()
    dislikes: Rows = [(f"u{user:03d}", "x", 5, []) for user in range(10)]
    write_events(before + dislikes, root / "train.parquet")
    write_events([row for row in behind if row[2] < 100], root / "validation.parquet")
    cold: Rows = [(f"u{user:03d}", "cold", 150, ["like"]) for user in range(10)]
    write_events([row for row in behind if row[2] >= 100] + cold, root / "test.parquet")
    for judge in ("validation_judge", "test_judge"):
        write_events([], root / f"{judge}.parquet")
    ids = [*ITEMS, "cold", "x"]
    roles = ["test_cold" if item == "cold" else "warm" for item in ids]
    write_table(pd.DataFrame({"item_id": ids, "role": roles}), root / "items.parquet")
    return Fold(root)


@pytest.fixture(scope="session")
def planted(fold: Fold) -> Positives:
    return Positives.of(fold.training("selection"), min_behaviours=1, last=1_000, seed=0)


@pytest.fixture
def log_of(tmp_path: Path) -> Callable[[Rows], Log]:
    """Make a log of (user, item, second, behaviours) rows."""

    def make(rows: Rows) -> Log:
        write_events(rows, tmp_path / "events.parquet")
        return Log.read([tmp_path / "events.parquet"])

    return make


@pytest.fixture
def purity() -> Callable[[np.ndarray, pd.Index], float]:
    """Share of each liked item's five nearest (by cosine) that lie on the item's own circle."""

    def share(vectors: np.ndarray, ids: pd.Index) -> float:
        liked = ids.isin(ITEMS)
        unit = vectors[liked] / np.linalg.norm(vectors[liked], axis=1, keepdims=True)
        side = ids[liked].str[0].to_numpy()
        scores = unit @ unit.T
        np.fill_diagonal(scores, -np.inf)
        near = np.argsort(-scores, axis=1)[:, :5]
        return float((side[near] == side[:, None]).mean())

    return share
