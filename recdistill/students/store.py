"""A catalogue's features in memory, by item row.

Shapes: I items, T tokens, W width. Memory: 4 · I · Σ (T · W) bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from recdistill.contracts import names
from recdistill.contracts.tables import read_metadata
from recdistill.errors import UserError
from recdistill.students.config import MODALITIES


@dataclass(frozen=True)
class FeatureStore:
    """What a student reads.

    Attributes:
        item_ids: [I].
        features: modality → [I, T, W] float32, zero where the item lacks the modality.
        present: modality → [I] bool.
    """

    item_ids: pd.Index
    features: dict[str, Tensor]
    present: dict[str, Tensor]

    @classmethod
    def load(cls, content: Path, item_ids: pd.Index, *, modalities: Sequence[str] | None = None) -> FeatureStore:
        """Read the ``encode`` stage's features in the order of ``item_ids``; ids it does not know have no modality.

        Args:
            content: folder of the stage.
            modalities: those to load; None loads all.

        Raises:
            UserError: the stage has not run, or a modality asked for was not encoded.
        """
        paths = {
            m: content / "features" / f"{m}.parquet"
            for m in MODALITIES
            if (content / "features" / f"{m}.parquet").exists()
        }
        absent = [m for m in modalities or () if m not in paths]
        if not paths or absent:
            raise UserError(
                f"{content}: no features of {', '.join(absent) or 'any modality'} "
                f"(encoded: {', '.join(paths) or 'none'})",
                remedy="run the encode stage with that modality, or leave it out of student.modalities",
            )
        features: dict[str, Tensor] = {}
        present: dict[str, Tensor] = {}
        for modality, path in paths.items():
            if modalities is None or modality in modalities:
                features[modality], present[modality] = _read(path, item_ids)
        return cls(item_ids, features, present)

    def __len__(self) -> int:
        return len(self.item_ids)

    def prefetch(self, rows: Tensor | slice) -> None:
        """Nothing: all is in memory."""

    def batch(self, rows: Tensor | slice) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Features [B, T, W] and masks [B] of some rows, as a student takes them; a slice is not copied."""
        return {m: values[rows] for m, values in self.features.items()}, {
            m: mask[rows] for m, mask in self.present.items()
        }


def _read(path: Path, item_ids: pd.Index) -> tuple[Tensor, Tensor]:
    metadata = read_metadata(path)
    tokens, width = int(metadata["tokens"]), int(metadata["width"])
    values = np.zeros((len(item_ids), tokens, width), dtype=np.float32)
    there = np.zeros(len(item_ids), dtype=bool)
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=8192, columns=[names.ITEM_ID, names.EMBEDDING]):
            rows = item_ids.get_indexer(pd.Index(batch[names.ITEM_ID].to_pandas()))
            known = rows >= 0
            vectors = _vectors(batch[names.EMBEDDING]).reshape(len(batch), tokens, width)
            values[rows[known]] = vectors[known]
            there[rows[known]] = True
    return torch.from_numpy(values), torch.from_numpy(there)


def _vectors(column: pa.Array) -> np.ndarray:
    flat: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
    return flat
