"""Files of an export folder."""

from __future__ import annotations

from pathlib import Path

from recdistill.errors import UserError

EMBEDDINGS = "item_embeddings.parquet"
SEMANTIC_IDS = "semantic_ids.parquet"
MATCH = "match_features.parquet"


def exported(folder: Path, name: str) -> Path:
    """The path of a file of an export.

    Raises:
        UserError: there is no such folder, or no such file in it.
    """
    remedy = "name the folder 'export' of a run, which the stage export writes: recdistill export RECIPE --out RUN"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder", remedy=remedy)
    if not (folder / name).is_file():
        raise UserError(f"{folder}: no {name} in this folder", remedy=remedy)
    return folder / name
