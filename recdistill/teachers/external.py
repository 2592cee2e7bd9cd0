"""Teachers brought from elsewhere: any Parquet table ``item_id → vector``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd

from recdistill.contracts.tables import EmbeddingTable
from recdistill.errors import UserError
from recdistill.teachers.confidence import confidence_of


def read_external(
    path: Path,
    *,
    name: str,
    geometry: Literal["cosine", "dot"],
    catalogue: pd.Index,
    cold: pd.Index,
    confidence_prior: float,
) -> EmbeddingTable:
    """Read a table, check it against the catalogue, and cut it to what a fit may know.

    Its metadata counts what was dropped: ``unknown_ids`` that the catalogue does not have, and ``withheld_cold_ids``,
    without which no figure for cold items would be one.

    Args:
        catalogue: ids that there are.
        cold: ids that this fit must not know.
        confidence_prior: a table with support and no confidence gets that of the trained teachers.

    Raises:
        UserError: the table breaks its contract (see :meth:`EmbeddingTable.read`), or no id of it is in the catalogue.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: the table of the external teacher '{name}' is not there",
            remedy="check its path under teachers.external; data_contracts/teacher_embeddings.yaml says what it holds",
        )
    table = EmbeddingTable.read(path)
    known = table.ids.isin(catalogue)
    if not known.any():
        raise UserError(
            f"{path}: column 'item_id' has no id in common with the catalogue "
            f"({table.ids.dtype}, e.g. {table.ids[:3].tolist()}; the catalogue: {catalogue.dtype}, "
            f"e.g. {catalogue[:3].tolist()})",
            remedy=f"write teacher '{name}' with the ids, and the id type, of the items table",
        )
    allowed = known & ~table.ids.isin(cold)
    if not allowed.any():
        raise UserError(
            f"{path}: teacher '{name}' knows only items that this fold holds out",
            remedy="export the vectors of items with interactions in the training window",
        )
    support, confidence = (None if of is None else of[allowed] for of in (table.support, table.confidence))
    if confidence is None and support is not None:
        confidence = confidence_of(support, prior=confidence_prior)
    return EmbeddingTable(
        ids=table.ids[allowed],
        vectors=table.vectors[allowed],
        support=support,
        confidence=confidence,
        metadata={
            "kind": "external",
            "geometry": geometry,
            "dim": table.vectors.shape[1],
            "unknown_ids": int((~known).sum()),
            "withheld_cold_ids": int((known & ~allowed).sum()),
        },
    )
