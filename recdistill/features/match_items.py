"""The items of a table as match features see them, with their ids: what batch, Spark and a service begin with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from recdistill.contracts.tables import EmbeddingTable, read_table
from recdistill.errors import UserError
from recdistill.features.match_basis import MatchBasis
from recdistill.features.match_module import MatchModule
from recdistill.features.semantic_ids import codes_of
from recdistill.features.space import Space

BASIS = "match_basis.safetensors"


@dataclass(frozen=True)
class MatchItems:
    """Items under a basis.

    Attributes:
        ids: [I] item ids; the module's rows are theirs, in this order.
    """

    ids: pd.Index
    basis: MatchBasis
    module: MatchModule

    @classmethod
    def of(cls, basis: MatchBasis, table: EmbeddingTable, semantic_ids: pa.Table | None = None) -> MatchItems:
        """
        Args:
            table: ``item_embeddings``; it may have items that the basis was not fitted on.
            semantic_ids: the ``semantic_ids`` table of those items; None: no ``match_sid_`` columns.

        Raises:
            UserError: the vectors are of another width than the basis.
        """
        if table.vectors.shape[1] != len(basis.mean):
            raise UserError(
                f"vectors are {table.vectors.shape[1]} wide, the match features' basis {len(basis.mean)}",
                remedy="use the basis that was exported with the vectors",
            )
        space = Space.at(table, table.ids, mean=basis.mean)
        codes = None if semantic_ids is None else codes_of(semantic_ids, table.ids, what="semantic_ids")
        return cls(table.ids, basis, MatchModule.of(space, basis, codes))

    @classmethod
    def read(cls, export: Path | str) -> MatchItems:
        """Of the ``export`` stage's folder: embeddings, semantic IDs and basis.

        Raises:
            UserError: one of them is missing or broken.
        """
        export = Path(export)
        table = EmbeddingTable.read(export / "item_embeddings.parquet")
        return cls.of(MatchBasis.load(export / BASIS), table, read_table(export / "semantic_ids.parquet"))
