"""Export folders written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.contracts.tables import EmbeddingTable, write_table

SIZES = (4, 3)


def vectors_of(items: int, *, width: int = 8, seed: int = 0) -> np.ndarray:
    """[items, width] float32; the first rows are the same however many there are."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.standard_normal(width) for _ in range(items)]).astype(np.float32)


def codes_of(items: int) -> np.ndarray:
    """[items, 2] int32 within ``SIZES``."""
    rows = np.arange(items)
    return np.stack([rows % 4, (rows // 4) % 3], axis=1).astype(np.int32)


def write_export(
    folder: Path,
    ids: Sequence[Any],
    *,
    vectors: np.ndarray,
    codes: np.ndarray,
    coded: Sequence[Any] | None = None,
    until: str | None = None,
) -> Path:
    """Vectors of all ids, trained until then, and semantic IDs of those in ``coded`` (None: of all)."""
    metadata = {"geometry": "cosine", "trained_until": until}
    EmbeddingTable(pd.Index(ids), vectors, metadata=metadata).write(folder / "item_embeddings.parquet")
    table = {
        "item_id": pa.array(list(ids if coded is None else coded)),
        "codes": pa.array(codes.tolist(), pa.list_(pa.int32())),
        "semantic_id": ["-".join(map(str, row)) for row in codes.tolist()],
    }
    write_table(pa.table(table), folder / "semantic_ids.parquet", metadata={"sizes": list(SIZES)})
    return folder


def write_match(folder: Path, keys: pd.DataFrame, **columns: Sequence[float]) -> None:
    """``match_features.parquet`` of user_id, item_id and timestamp."""
    write_table(
        keys.assign(**{name: np.asarray(values, dtype=np.float32) for name, values in columns.items()}),
        folder / "match_features.parquet",
    )
