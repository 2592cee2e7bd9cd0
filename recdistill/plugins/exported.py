"""What the plug-ins read of an export folder.

Shapes: n items, d width, L levels of the semantic IDs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from recdistill.contracts import names
from recdistill.contracts.tables import EmbeddingTable, read_metadata, read_table
from recdistill.contracts.trained import trained_until
from recdistill.errors import UserError
from recdistill.plugins.ids import own_ids, positions

EMBEDDINGS = "item_embeddings.parquet"
SEMANTIC_IDS = "semantic_ids.parquet"
MATCH = "match_features.parquet"


@dataclass(frozen=True)
class Exported:
    """Vectors and semantic IDs of a catalogue.

    Attributes:
        embeddings: n items' vectors, by id.
        codes: [n, L] int32, in the order of ``embeddings.ids``; -1 for an item without a semantic ID.
        sizes: how many codes each level has, those that no item uses included.
        residual: a level codes what the levels before it left over; else every level codes the vector itself.
    """

    embeddings: EmbeddingTable
    codes: np.ndarray
    sizes: tuple[int, ...]
    residual: bool = True

    @property
    def trained_until(self) -> datetime | None:
        """Time of the newest event that the vectors have learned from; None where the table does not tell.

        Rows that are no later are no rows to test a ranker on.
        """
        return trained_until(self.embeddings.metadata)

    @classmethod
    def read(cls, folder: Path | str) -> Exported:
        """Read ``item_embeddings.parquet`` and ``semantic_ids.parquet``.

        Raises:
            UserError: a table is missing or malformed, or codes items that have no vector, or does not say its sizes.
        """
        folder = Path(folder)
        embeddings = EmbeddingTable.read(folder / EMBEDDINGS)
        path = folder / SEMANTIC_IDS
        table = read_table(path)
        absent = [name for name in (names.ITEM_ID, names.CODES) if name not in table.column_names]
        if absent:
            raise UserError(f"{path}: column '{absent[0]}' is missing", remedy="see data_contracts/semantic_ids.yaml")
        about = read_metadata(path)
        sizes = tuple(int(size) for size in about.get("sizes", ()))
        if not sizes:
            raise UserError(
                f"{path}: the file's metadata do not say how many codes a level has",
                remedy="write the table as the export stage does, with 'sizes' among its metadata",
            )
        given = _matrix(table[names.CODES], sizes, path)
        ids = own_ids(table[names.ITEM_ID].to_pandas(), what=f"{path}, column '{names.ITEM_ID}'")
        rows = positions(ids, known=embeddings.ids, what=f"{path}, column '{names.ITEM_ID}'")
        if (rows < 0).any() or not ids.is_unique:
            wrong = ids[rows < 0] if (rows < 0).any() else ids[ids.duplicated()]
            raise UserError(
                f"{path}: {len(wrong)} items have no vector in {EMBEDDINGS} or stand there twice, "
                f"e.g. {wrong[:3].tolist()}",
                remedy="take both tables from one export",
            )
        codes = np.full((len(embeddings.ids), len(sizes)), -1, dtype=np.int32)
        codes[rows] = given
        return cls(embeddings, codes, sizes, residual=about.get("method") != "kmeans")


def _matrix(column: pa.ChunkedArray, sizes: tuple[int, ...], path: Path) -> np.ndarray:
    lists = column.combine_chunks()
    flat = lists.flatten()
    if lists.null_count or flat.null_count or len(flat) != len(lists) * len(sizes):
        raise UserError(
            f"{path}: column '{names.CODES}' has rows without {len(sizes)} codes",
            remedy="leave items without codes out",
        )
    codes = flat.to_numpy().astype(np.int32).reshape(len(lists), len(sizes))
    if ((codes < 0) | (codes >= np.asarray(sizes))).any():
        raise UserError(f"{path}: column '{names.CODES}' has codes outside of the levels' sizes {list(sizes)}")
    return codes
