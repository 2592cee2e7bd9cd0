"""Tables of small worlds as the ``pair`` stage reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.contracts import fold as layout
from recdistill.contracts import names
from recdistill.contracts.fold import FITS, Fold
from recdistill.contracts.log import Log
from recdistill.contracts.tables import EmbeddingTable, write_table
from recdistill.pairs.catalogue import Catalogue
from recdistill.pairs.found import Found

Event = tuple[Any, Any, int]  # user, item, seconds; all are liked
Search = tuple[str, Any, int]  # query, item, seconds
STRINGS = pa.list_(pa.string())


def times(seconds: Sequence[int]) -> pa.Array:
    return pa.array([1_000_000 * second for second in seconds], pa.timestamp("us", "UTC"))


def write_events(path: Path, events: Sequence[Event], kind: pa.DataType) -> None:
    """``kind``: type of the item ids."""
    columns = {
        names.USER_ID: pa.array([event[0] for event in events], pa.string()),
        names.ITEM_ID: pa.array([event[1] for event in events], kind),
        names.TIMESTAMP: times([event[2] for event in events]),
        names.BEHAVIOURS: pa.array([["like"]] * len(events), STRINGS),
    }
    write_table(pa.table(columns), path)


def write_fold(
    folder: Path,
    ids: Sequence[Any],
    *,
    train: Sequence[Event],
    validation: Sequence[Event] = (),
    test: Sequence[Event] = (),
    cold: Mapping[Any, str] | None = None,
    protocol: str = "time",
) -> Fold:
    """A fold with those windows; ``cold``: item → role other than warm."""
    kind = pa.array(list(ids)).type
    for file, events in ((layout.TRAIN, train), (layout.VALIDATION, validation), (layout.TEST, test)):
        write_events(folder / file, events, kind)
    for file in (layout.VALIDATION_JUDGE, layout.TEST_JUDGE):
        write_events(folder / file, [], kind)
    roles = [(cold or {}).get(item, "warm") for item in ids]
    frame = pd.DataFrame({names.ITEM_ID: list(ids), names.ROLE: roles})
    write_table(frame, folder / layout.ITEMS, metadata={"protocol": protocol})
    return Fold(folder)


def write_items(
    path: Path,
    ids: Sequence[Any],
    *,
    tags: Mapping[str, Sequence[list[str]]] | None = None,
    texts: Mapping[str, Sequence[str | None]] | None = None,
    labels: Sequence[list[str]] | None = None,
) -> Path:
    columns: dict[str, pa.Array] = {names.ITEM_ID: pa.array(list(ids))}
    columns |= {names.TAGS_PREFIX + name: pa.array(list(lists), STRINGS) for name, lists in (tags or {}).items()}
    columns |= {names.TEXT_PREFIX + name: pa.array(list(of), pa.string()) for name, of in (texts or {}).items()}
    if labels is not None:
        columns[names.LABELS_PREFIX + "topic"] = pa.array(list(labels), STRINGS)
    write_table(pa.table(columns), path)
    return path


def write_queries(path: Path, searches: Sequence[Search], **more: pa.Array) -> Path:
    columns = {
        names.QUERY_TEXT: pa.array([search[0] for search in searches], pa.string()),
        names.ITEM_ID: pa.array([search[1] for search in searches]),
        names.TIMESTAMP: times([search[2] for search in searches]),
        **more,
    }
    write_table(pa.table(columns), path)
    return path


def write_teacher(folder: Path, ids: Sequence[Any], vectors: np.ndarray, support: Sequence[int] | None = None) -> None:
    """The same table for both fits."""
    of = None if support is None else np.array(support, dtype=np.int64)
    for fit in FITS:
        table = EmbeddingTable(pd.Index(ids), np.asarray(vectors, dtype=np.float32), of)
        table.write(folder / fit / "id_teacher.parquet")


def catalogue(root: Path, ids: Sequence[Any], **content: Any) -> Catalogue:
    return Catalogue(write_items(root / "items.parquet", ids, **content), pd.Index(ids))


def make_log(events: Sequence[tuple[int, int, int]], *, items: int) -> Log:
    """A log of liked (user, item, seconds), items numbered as given."""
    user, item, time = (np.array(part) for part in zip(*sorted(events, key=lambda e: (e[0], e[2])), strict=True))
    return Log(
        pd.Index([f"u{row}" for row in range(user.max() + 1)]),
        pd.Index([f"i{row}" for row in range(items)]),
        user.astype(np.int32),
        item.astype(np.int32),
        time.astype(np.int64) * 1_000_000,
        np.ones(len(user), dtype=np.int32),
        ("like",),
        np.full(len(user), np.nan, np.float32),
    )


def listed(found: Found) -> dict[tuple[Any, Any], float | None]:
    """(query, target) → score."""
    query, target = (side.values.take(side.rows).tolist() for side in (found.query, found.target))
    scores = [None] * len(found) if found.score is None else found.score.tolist()
    assert len(set(zip(query, target, strict=True))) == len(found), "a pair stands once"
    return dict(zip(zip(query, target, strict=True), scores, strict=True))
