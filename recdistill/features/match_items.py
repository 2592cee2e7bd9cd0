"""The items of a table as match features and reactions see them, with their ids.

Batch, Spark and a service begin with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa

from recdistill.contracts.tables import EmbeddingTable, read_table
from recdistill.contracts.trained import trained_until
from recdistill.errors import UserError
from recdistill.features.exported import EMBEDDINGS, SEMANTIC_IDS, exported
from recdistill.features.match_basis import MatchBasis
from recdistill.features.match_module import MatchModule
from recdistill.features.reaction_module import MatchAndReactions, ReactionModule
from recdistill.features.semantic_ids import codes_of
from recdistill.features.space import Space

BASIS = "match_basis.safetensors"


@dataclass(frozen=True)
class MatchItems:
    """Items under a basis.

    Attributes:
        ids: [I] item ids; the modules' rows are theirs, in this order.
        module: match features of them.
        reaction: reactions to them; None where the basis has none.
        trained_until: time of the newest event that the vectors have learned from; None where the table does not tell.
    """

    ids: pd.Index
    basis: MatchBasis
    module: MatchModule
    reaction: ReactionModule | None = None
    trained_until: datetime | None = None

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
        module = MatchModule.of(space, basis, codes)
        reaction = None if basis.reaction is None else ReactionModule.beside(module, basis.reaction)
        return cls(table.ids, basis, module, reaction, trained_until(table.metadata))

    @classmethod
    def read(cls, export: Path | str) -> MatchItems:
        """Of the ``export`` stage's folder: embeddings, semantic IDs and basis.

        Raises:
            UserError: one of them is missing or broken.
        """
        export = Path(export)
        table = EmbeddingTable.read(exported(export, EMBEDDINGS))
        return cls.of(MatchBasis.load(exported(export, BASIS)), table, read_table(exported(export, SEMANTIC_IDS)))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns: match features, then reactions."""
        return self.served.columns

    @property
    def served(self) -> MatchModule | MatchAndReactions:
        """What a service runs: all columns of the ``match_features`` table, in its order.

        Of histories with what did not please where the basis has reactions, else of what pleased alone.
        """
        return self.module if self.reaction is None else MatchAndReactions(self.module, self.reaction)
