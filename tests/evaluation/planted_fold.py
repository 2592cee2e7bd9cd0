"""A small planted world as a split fold: every user likes one topic, and content shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.contracts import fold as layout
from recdistill.contracts import names
from recdistill.contracts.fold import FITS, Fold
from recdistill.contracts.tables import EmbeddingTable, write_table

USERS, ITEMS, TOPICS = 60, 90, 3
COLD = 12  # the last items appear in the test window only


@dataclass(frozen=True)
class Planted:
    """Paths of a fold with everything ``evaluate`` reads, and its truth."""

    fold: Fold
    items: Path
    content: Path
    teach: Path
    distill: Path
    topic: np.ndarray
    ids: pd.Index

    def paths(self) -> dict[str, Path]:
        return {"items": self.items, "content": self.content, "teach": self.teach, "students": [self.distill]}


def plant(root: Path, *, text_ids: bool = False, seed: int = 0, shuffled: bool = False) -> Planted:
    """Write the world.

    Args:
        text_ids: ids are strings and not numbers.
        shuffled: put every table's rows into another order; no figure may change.
    """
    rng, mix = np.random.default_rng(seed), np.random.default_rng(99)
    topic = np.arange(ITEMS) % TOPICS
    ids = pd.Index([f"i{row:03d}" for row in range(ITEMS)] if text_ids else np.arange(ITEMS) * 11 + 5)
    users = pd.Index([f"u{row:03d}" for row in range(USERS)] if text_ids else np.arange(USERS) + 1000)
    rows = []
    for user in range(USERS):
        for window, events in enumerate((16, 8, 10)):
            known = np.arange(ITEMS if window == 2 else ITEMS - COLD)
            weight = np.where(topic[known] == user % TOPICS, 12.0, 1.0) / (1 + known % 10)
            if window == 2:
                weight[ITEMS - COLD :] *= 4
            for item in rng.choice(known, events, replace=False, p=weight / weight.sum()):
                likes = topic[item] == user % TOPICS or rng.random() < 0.1
                time = window * 1000 + int(rng.integers(0, 900))
                rows.append((users[user], ids[item], time, ["like"] if likes else []))
    frame = pd.DataFrame(rows, columns=[names.USER_ID, names.ITEM_ID, names.TIMESTAMP, names.BEHAVIOURS])
    frame = frame.drop_duplicates([names.USER_ID, names.ITEM_ID, names.TIMESTAMP])
    folder = root / "split" / "time"
    windows = frame[names.TIMESTAMP] // 1000
    for window, file in enumerate((layout.TRAIN, layout.VALIDATION, layout.TEST)):
        _write_events(frame[windows == window], folder / file, mix if shuffled else None)
    for file in (layout.VALIDATION_JUDGE, layout.TEST_JUDGE):
        _write_events(frame[:0], folder / file, None)
    roles = np.where(np.arange(ITEMS) < ITEMS - COLD, "warm", "test_cold")
    write_table(pd.DataFrame({names.ITEM_ID: ids, names.ROLE: roles}), folder / layout.ITEMS)
    order = mix.permutation(ITEMS) if shuffled else np.arange(ITEMS)
    labels = pa.array([[f"topic {topic[row]}"] for row in order], pa.list_(pa.string()))
    tags = pa.array([[f"tag {topic[row]}", "film"] if row % 7 else [] for row in order], pa.list_(pa.string()))
    table = pa.table(
        {
            names.ITEM_ID: pa.array(ids[order]),
            names.TAGS_PREFIX + "theme": tags,
            names.LABELS_PREFIX + "topic": labels,
        }
    )
    write_table(table, root / "items.parquet")
    truth = np.eye(TOPICS)[topic]
    content = np.hstack([truth, np.zeros((ITEMS, 3))]) + rng.normal(0, 0.5, (ITEMS, TOPICS + 3)) + 4.0
    vectors = {"content/raw_content": content}
    teacher = truth + rng.normal(0, 0.2, truth.shape)
    for fit in FITS:
        vectors[f"teach/{fit}/id_teacher"] = teacher
        vectors[f"distill/{fit}/student"] = truth + rng.normal(0, 0.05, truth.shape)
        vectors[f"distill/{fit}/noise"] = rng.normal(size=(ITEMS, 4))
    for name, values in vectors.items():
        chosen = order[order < ITEMS - COLD] if "teacher" in name else order
        EmbeddingTable(ids[chosen], values[chosen].astype(np.float32), metadata={"geometry": "cosine"}).write(
            root / f"{name}.parquet"
        )
    return Planted(Fold(folder), root / "items.parquet", root / "content", root / "teach", root / "distill", topic, ids)


def _write_events(frame: pd.DataFrame, path: Path, mix: np.random.Generator | None) -> None:
    if mix is not None:
        frame = frame.iloc[mix.permutation(len(frame))]
    id_type = pa.string() if pd.api.types.is_string_dtype(frame[names.USER_ID]) else pa.int64()
    write_table(
        pa.table(
            {
                names.USER_ID: pa.array(frame[names.USER_ID].tolist(), id_type),
                names.ITEM_ID: pa.array(frame[names.ITEM_ID].tolist(), id_type),
                names.TIMESTAMP: pa.array(frame[names.TIMESTAMP].to_numpy() * 1_000_000, pa.timestamp("us", "UTC")),
                names.BEHAVIOURS: pa.array(frame[names.BEHAVIOURS].tolist(), pa.list_(pa.string())),
            }
        ),
        path,
    )
