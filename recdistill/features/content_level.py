"""The level of an item that nobody has met, as its content tells it.

Shapes: n items, d the width of their vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from recdistill.contracts.tables import atomic


def level_file(student: str) -> str:
    """Its file's name, beside the model's folder and the table of a student of that name."""
    return f"{student}_level.safetensors"


@dataclass(frozen=True)
class ContentLevel:
    """A linear function of a student's vectors: what is added to the score of an item whose popularity is not known.

    Attributes:
        weights: [d] float64.
        bias: what an item of vector 0 has.
    """

    weights: np.ndarray
    bias: float

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """[n, d] → [n] float64."""
        return np.asarray(vectors.astype(np.float64) @ self.weights + self.bias)

    def times(self, factor: float) -> ContentLevel:
        """The same, so many times as strong."""
        return ContentLevel(factor * self.weights, factor * self.bias)

    def save(self, path: Path) -> None:
        """Write as safetensors: ``weights``, ``bias``."""
        with atomic(path) as temporary:
            save_file({"weights": np.ascontiguousarray(self.weights), "bias": np.array([self.bias])}, temporary)

    @classmethod
    def load(cls, path: Path) -> ContentLevel:
        """Read what :meth:`save` wrote."""
        tensors = load_file(path)
        return cls(tensors["weights"], float(tensors["bias"][0]))
