"""Writing item vectors block by block, so that a catalogue's features need not fit into memory.

The tables are ``item_features`` and ``item_embeddings`` of the contracts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recdistill.contracts import names
from recdistill.contracts.tables import METADATA_KEY, atomic


class VectorWriter:
    """Appends rows of (item_id, embedding)."""

    def __init__(self, writer: pq.ParquetWriter, width: int) -> None:
        self._writer, self._width = writer, width
        self.rows = 0

    def write(self, ids: pd.Index, vectors: np.ndarray) -> None:
        """Append [n, width] vectors."""
        if len(ids):
            flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
            columns = [
                pa.array(ids).cast(self._writer.schema.field(0).type),
                pa.FixedSizeListArray.from_arrays(flat, self._width),
            ]
            self._writer.write_table(pa.Table.from_arrays(columns, schema=self._writer.schema))
            self.rows += len(ids)


@contextmanager
def vector_table(path: Path, *, ids: pd.Index, width: int, metadata: Mapping[str, Any]) -> Iterator[VectorWriter]:
    """A table that appears at ``path`` when the block has ended without error.

    Args:
        ids: all ids, for their type.
        metadata: JSON provenance, as :func:`recdistill.contracts.tables.write_table` writes it.
    """
    schema = pa.schema(
        [(names.ITEM_ID, pa.array(ids[:1]).type), (names.EMBEDDING, pa.list_(pa.float32(), width))],
        metadata={METADATA_KEY: json.dumps(dict(metadata), sort_keys=True).encode()},
    )
    with (
        atomic(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="none", use_dictionary=[names.ITEM_ID]) as writer,
    ):
        yield VectorWriter(writer, width)
