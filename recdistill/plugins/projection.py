"""Few columns of a wide vector, for rankers that take them one by one.

Shapes: n items, d width, k columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from recdistill.contracts.tables import atomic
from recdistill.errors import UserError
from recdistill.features.space import principal_directions, to_unit


@dataclass(frozen=True)
class Projection:
    """Leading principal components of a catalogue's directions.

    Fitted anew on a catalogue with some more items the components turn, and a tree's thresholds mean something else:
    keep the one that the ranker was trained with, and give it to whoever serves it.

    Attributes:
        mean: [d] float32, taken off the vectors' directions.
        directions: [d, k] float32.
    """

    mean: np.ndarray
    directions: np.ndarray

    @classmethod
    def fit(cls, vectors: np.ndarray, *, width: int, centre: bool = True) -> Projection:
        """On all items of a table [n, d]; labels have no part in it.

        Args:
            width: k, at most d.
            centre: take the mean direction off first, and make the vectors unit length again.
        """
        mean = np.zeros(vectors.shape[1], dtype=np.float32)
        if centre:
            mean = to_unit(vectors, mean=mean).mean(axis=0, dtype=np.float64).astype(np.float32)
        return cls(mean, principal_directions(to_unit(vectors, mean=mean), width=width).astype(np.float32))

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """[n, d] → [n, k] float32.

        Raises:
            UserError: the vectors are of another width.
        """
        if vectors.shape[1] != len(self.mean):
            raise UserError(
                f"the vectors are {vectors.shape[1]} wide, the projection's {len(self.mean)}",
                remedy="use the projection that was fitted on this student's vectors",
            )
        return np.asarray(to_unit(vectors, mean=self.mean) @ self.directions, dtype=np.float32)

    def save(self, path: Path) -> None:
        """Write as safetensors: ``mean``, ``directions``."""
        with atomic(path) as temporary:
            save_file({"mean": self.mean, "directions": np.ascontiguousarray(self.directions)}, temporary)

    @classmethod
    def load(cls, path: Path) -> Projection:
        """Read what :meth:`save` wrote."""
        tensors = load_file(path)
        return cls(tensors["mean"], tensors["directions"])
