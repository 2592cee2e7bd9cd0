"""Semantic IDs: discrete codes of a space by k-means or residual k-means.

Shapes: n items, d width, L levels, k_l codes of level l.

A rank of codes, coarse to fine: level l quantises what the levels before it left over (residual quantisation as in
TIGER, arXiv 2305.05065, section 3.1, with k-means in place of a trained autoencoder). One level is plain k-means.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from safetensors.numpy import load_file, save_file
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from recdistill.contracts import names
from recdistill.contracts.tables import atomic
from recdistill.errors import UserError
from recdistill.features.space import principal_directions, to_unit

SEMANTIC_ID = "semantic_id"
_MINI_BATCH_ABOVE = 100_000
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Codebooks:
    """Centroids of every level, and the mean that is taken off a vector's direction before it is coded.

    Attributes:
        mean: [d] float32.
        levels: L arrays [k_l, d] float32.
    """

    mean: np.ndarray
    levels: tuple[np.ndarray, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(level) for level in self.levels)

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """[n, L] int32 codes of vectors [n, d] of any length, known or new, by nearest centroid (ties: the lower code).

        Raises:
            UserError: the vectors are of another width.
        """
        if vectors.shape[1] != len(self.mean):
            raise UserError(
                f"vectors are {vectors.shape[1]} wide, the codebook {len(self.mean)}",
                remedy="code vectors with the codebook that was fitted on their table",
            )
        residual = to_unit(vectors, mean=self.mean)
        codes = np.empty((len(vectors), len(self.levels)), dtype=np.int32)
        for at, level in enumerate(self.levels):
            codes[:, at] = _nearest(residual, level)
            residual = residual - level[codes[:, at]]
        return codes

    def save(self, path: Path) -> None:
        """Write as safetensors: ``mean``, ``level_0``, ``level_1`` …"""
        tensors = {"mean": self.mean, **{f"level_{at}": level for at, level in enumerate(self.levels)}}
        with atomic(path) as temporary:
            save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, temporary)

    @classmethod
    def load(cls, path: Path) -> Codebooks:
        tensors = load_file(path)
        return cls(tensors["mean"], tuple(tensors[f"level_{at}"] for at in range(len(tensors) - 1)))


def fit_codebooks(
    ids: pd.Index, vectors: np.ndarray, *, mean: np.ndarray, sizes: Sequence[int], seed: int
) -> Codebooks:
    """Fit the levels one after the other on what the former leave over.

    The result depends on the set of (id, vector) pairs and the seed only: rows are put in the ids' order, one thread
    adds up, and a level's codes are numbered along its centroids' first principal direction. So codes keep their
    meaning over re-runs, and neighbouring numbers are neighbours in space.

    Args:
        ids: [n] item ids.
        vectors: [n, d] raw vectors of those items.
        mean: [d] what to take off their directions (``Space.mean``).
        sizes: codes of each level; a level larger than n gets n codes.

    Memory: 3 · 4 · n · d bytes.
    """
    residual = to_unit(vectors[ids.argsort()], mean=mean)
    levels = []
    for at, size in enumerate(sizes):
        kind = MiniBatchKMeans if len(residual) > _MINI_BATCH_ABOVE else KMeans
        options: dict[str, Any] = {"batch_size": 4096} if kind is MiniBatchKMeans else {}
        model = kind(min(size, len(residual)), n_init=1, random_state=seed + at, **options)
        with threadpool_limits(limits=1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct vectors than codes
            centroids = model.fit(residual).cluster_centers_.astype(np.float32)
        level = centroids[_canonical_order(centroids)]
        residual = residual - level[_nearest(residual, level)]
        levels.append(level)
    return Codebooks(mean, tuple(levels))


def prefixes(codes: np.ndarray, *, sizes: Sequence[int]) -> np.ndarray:
    """[n, L] int64: the number of each prefix (code_0 … code_l); a residual code means little without those before."""
    result = codes.astype(np.int64)
    for at in range(1, result.shape[1]):
        result[:, at] += result[:, at - 1] * sizes[at]
    return result


def quality(codes: np.ndarray, *, sizes: Sequence[int]) -> dict[str, Any]:
    """How well codes tell items apart and use their books.

    Returns:
        ``items``; ``distinct`` IDs; ``collision_rate``: share of items whose whole ID another item has too;
        ``largest_bucket``: most items under one ID; per level ``usage`` (share of codes that occur) and
        ``perplexity`` (exp of the codes' entropy; at most the level's size).
    """
    _, counts = np.unique(prefixes(codes, sizes=sizes)[:, -1], return_counts=True)
    usage, perplexity = [], []
    for at, size in enumerate(sizes):
        share = np.bincount(codes[:, at], minlength=size) / len(codes)
        used = share[share > 0]
        usage.append(len(used) / size)
        perplexity.append(float(np.exp(-(used * np.log(used)).sum())))
    return {
        "items": len(codes),
        "distinct": len(counts),
        "collision_rate": float(counts[counts > 1].sum() / len(codes)),
        "largest_bucket": int(counts.max()),
        "usage": usage,
        "perplexity": perplexity,
    }


def to_table(ids: pd.Index, codes: np.ndarray) -> pa.Table:
    """The ``semantic_ids`` table: item_id, codes, semantic_id such as ``12-5``."""
    return pa.table(
        {
            names.ITEM_ID: pa.array(ids),
            names.CODES: _lists(codes),
            SEMANTIC_ID: pa.array(["-".join(map(str, row)) for row in codes.tolist()], pa.string()),
        }
    )


def to_items_table(ids: pd.Index, codes: np.ndarray) -> pa.Table:
    """Semantic ID → items: semantic_id, codes, item_ids (in the catalogue's order), ordered by codes."""
    order = np.lexsort(codes.T[::-1])
    ordered = codes[order]
    first = np.flatnonzero(np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)]))
    offsets = pa.array(np.append(first, len(codes)), pa.int32())
    return pa.table(
        {
            SEMANTIC_ID: pa.array(["-".join(map(str, row)) for row in ordered[first].tolist()], pa.string()),
            names.CODES: _lists(ordered[first]),
            "item_ids": pa.ListArray.from_arrays(offsets, pa.array(ids[order])),
        }
    )


def _lists(codes: np.ndarray) -> pa.ListArray:
    offsets = pa.array(np.arange(len(codes) + 1) * codes.shape[1], pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(codes).ravel(), pa.int32()))


def _canonical_order(centroids: np.ndarray) -> np.ndarray:
    if len(centroids) == 1:
        return np.zeros(1, dtype=np.int64)
    place = centroids.astype(np.float64) @ principal_directions(centroids, width=1)[:, 0]
    return np.argsort(place, kind="stable")


def _nearest(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    half_norm = 0.5 * (centroids**2).sum(axis=1)
    step = max(_BLOCK // len(centroids), 1)
    nearest = np.empty(len(vectors), dtype=np.int64)
    for start in range(0, len(vectors), step):
        part = vectors[start : start + step]
        nearest[start : start + step] = (half_norm - part @ centroids.T).argmin(axis=1)
    return nearest
