"""What the plug-ins read of an export folder.

Shapes: n items, d width, L levels of the semantic IDs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from recdistill.contracts import names
from recdistill.contracts.tables import EmbeddingTable, read_metadata, read_table
from recdistill.contracts.trained import trained_until
from recdistill.errors import UserError
from recdistill.features.exported import EMBEDDINGS, SEMANTIC_IDS, exported
from recdistill.features.semantic_ids import codes_of
from recdistill.plugins.ids import positions


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
        embeddings = EmbeddingTable.read(exported(folder, EMBEDDINGS))
        path = exported(folder, SEMANTIC_IDS)
        table, about = read_table(path), read_metadata(path)
        codes = codes_of(table, embeddings.ids, what=str(path))
        sizes = tuple(int(size) for size in about.get("sizes", ()))
        if not sizes:
            raise UserError(
                f"{path}: the file's metadata do not say how many codes a level has",
                remedy="write the table as the export stage does, with 'sizes' among its metadata",
            )
        ids = table[names.ITEM_ID].to_pandas()
        rows = positions(ids, known=embeddings.ids, what=f"{path}, column '{names.ITEM_ID}'")
        if (rows < 0).any():
            wrong = ids[rows < 0].tolist()
            raise UserError(
                f"{path}: {len(wrong)} items have no vector in {EMBEDDINGS}, e.g. {wrong[:3]}",
                remedy="take both tables from one export",
            )
        if codes.shape[1] != len(sizes) or ((codes[rows] < 0) | (codes[rows] >= sizes)).any():
            raise UserError(
                f"{path}: column '{names.CODES}' has codes outside of the levels' sizes {list(sizes)}",
                remedy="take the table from an export as it is, with its metadata",
            )
        return cls(embeddings, codes, sizes, residual=about.get("method") != "kmeans")
