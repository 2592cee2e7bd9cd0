"""What the baselines of one fit may learn from.

Shapes: I items, c content width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from recdistill.contracts.fold import FITS, Fit, Fold
from recdistill.contracts.log import Log
from recdistill.contracts.tables import EmbeddingTable


@dataclass(frozen=True)
class Material:
    """Training data of one fit over the whole catalogue.

    Attributes:
        item_ids: [I] ids.
        content: [I, c] float32 raw content, centred over the items that have some, then scaled to length 1; else zero.
        content_present: [I] bool.
        modalities: modality → its columns of ``content``, where the content table says them.
        log: the training interactions.
        teacher: the table that regressions learn, if there is one.
        min_positive: behaviours that make an event positive.
    """

    item_ids: pd.Index
    content: np.ndarray
    content_present: np.ndarray
    modalities: dict[str, slice]
    log: Log
    teacher: EmbeddingTable | None
    min_positive: int

    @classmethod
    def read(cls, fold: Fold, fit: Fit, *, content: Path, teacher: Path, min_positive: int) -> Material:
        """Read one fit's training window, raw content and teacher table (which may be missing)."""
        item_ids = fold.item_ids()
        raw = EmbeddingTable.read(content)
        vectors, present = raw.align(item_ids)
        table = EmbeddingTable.read(teacher) if teacher.exists() else None
        modalities = _columns(raw.metadata.get("widths", []))
        return cls(item_ids, centred(vectors, present), present, modalities, fold.training(fit), table, min_positive)

    @classmethod
    def of_fits(cls, fold: Fold, *, content: Path, teach: Path, teacher: str, min_positive: int) -> dict[Fit, Material]:
        """Both fits'; ``content``: folder with ``raw_content.parquet``, ``teach``: with ``<fit>/<teacher>.parquet``."""
        raw = content / "raw_content.parquet"
        return {
            fit: cls.read(fold, fit, content=raw, teacher=teach / fit / f"{teacher}.parquet", min_positive=min_positive)
            for fit in FITS
        }

    @cached_property
    def positives(self) -> sparse.csr_matrix:
        """[U, I] float32, 1 where a user was positive about an item."""
        rows = self.log.positive(self.min_positive)
        shape = (len(self.log.user_ids), len(self.item_ids))
        ones = np.ones(int(rows.sum()), dtype=np.float32)
        matrix = sparse.csr_matrix((ones, (self.log.user[rows], self.log.item[rows])), shape)
        matrix.data[:] = 1.0  # repeated events were summed
        return matrix

    @cached_property
    def support(self) -> np.ndarray:
        """[I] float64 users who were positive about each item."""
        return np.asarray(self.positives.sum(axis=0)).ravel().astype(np.float64)

    @cached_property
    def known(self) -> np.ndarray:
        """[I] bool: items with any training interaction."""
        return np.bincount(self.log.item, minlength=len(self.item_ids)) > 0


def _columns(widths: Sequence[tuple[str, int]]) -> dict[str, slice]:
    ends = np.cumsum([width for _, width in widths]).tolist()
    return {name: slice(end - width, end) for (name, width), end in zip(widths, ends, strict=True)}


def centred(vectors: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Subtract the mean of the present rows and scale each to length 1; absent rows stay zero."""
    if not present.any():
        return vectors
    moved = (vectors - vectors[present].mean(axis=0, dtype=np.float64)) * present[:, None]
    return np.asarray(moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12), dtype=np.float32)
