"""An embedding table as a space of directions over a catalogue.

Shapes: I items, n rows, d width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from recdistill.contracts.tables import EmbeddingTable

_TINY = 1e-12


@dataclass(frozen=True)
class Space:
    """Unit vectors of a catalogue.

    Attributes:
        vectors: [I, d] float32 of length one; zero where an item has no vector.
        present: [I] bool: the items that have one.
        mean: [d] float32, taken off the items' directions; needed to place new items.
    """

    vectors: np.ndarray
    present: np.ndarray
    mean: np.ndarray

    @classmethod
    def of(cls, table: EmbeddingTable, item_ids: pd.Index, *, centre: bool) -> Space:
        """Place a table's items in the catalogue's order.

        Args:
            centre: take the mean direction of the present items off. Raw encoder features share a large common
                direction that hides their differences; without centring they are undersold as a baseline.
        """
        vectors, present = table.align(item_ids)
        mean = np.zeros(vectors.shape[1], dtype=np.float32)
        if centre and present.any():
            mean = to_unit(vectors[present], mean=mean).mean(axis=0, dtype=np.float64).astype(np.float32)
        return cls._placed(vectors, present, mean)

    @classmethod
    def at(cls, table: EmbeddingTable, item_ids: pd.Index, *, mean: np.ndarray) -> Space:
        """Place a table's items, new ones among them, in a space whose mean [d] is known."""
        return cls._placed(*table.align(item_ids), mean)

    @classmethod
    def _placed(cls, vectors: np.ndarray, present: np.ndarray, mean: np.ndarray) -> Space:
        units = to_unit(vectors, mean=mean)
        units[~present] = 0
        return cls(units, present, mean)


def to_unit(vectors: np.ndarray, *, mean: np.ndarray) -> np.ndarray:
    """[n, d] float32 of length one: each vector's direction less ``mean``. Lengths do not count; zero stays zero."""
    directions = _scaled(np.asarray(vectors, dtype=np.float32))
    return _scaled(np.where(directions.any(axis=1, keepdims=True), directions - mean, 0)) if mean.any() else directions


def _scaled(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)


def principal_directions(vectors: np.ndarray, *, width: int) -> np.ndarray:
    """[d, k] leading principal directions of centred [n, d] rows, k = min(width, d), signs fixed.

    Each direction's largest loading is positive, so the same rows give the same projection anywhere.
    """
    shifted = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(shifted.T @ shifted)
    leading = directions[:, ::-1][:, :width]
    largest = np.abs(leading).argmax(axis=0)
    return leading * np.sign(leading[largest, np.arange(leading.shape[1])])
