"""The ID teacher as rivals read it: vectors as they are scored, and how often each item was met.

Shapes: I items, t width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recdistill.contracts.log import Log
from recdistill.contracts.tables import EmbeddingTable


@dataclass(frozen=True)
class Preferences:
    """A teacher's table over the catalogue.

    Attributes:
        vectors: [I, t] whose dot products rank as the teacher does: unit length where it compares by cosine, else of
            mean squared length 1; 0 where unknown.
        known: [I] bool.
        rows: [n] the known items.
        frequency: [I] of each item the sum over its users of 1 / the user's number of items.
    """

    vectors: Tensor
    known: Tensor
    rows: Tensor
    frequency: Tensor

    @classmethod
    def of(cls, table: EmbeddingTable, training: Log) -> Preferences:
        vectors, known = table.align(training.item_ids)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if table.metadata.get("geometry", "cosine") != "dot":
            vectors = vectors / np.maximum(lengths, 1e-12)
        else:
            vectors = vectors / max(float(np.sqrt((lengths[known] ** 2).mean())), 1e-12)
        positive = training.positive()
        met = np.unique(np.stack([training.user[positive], training.item[positive]]), axis=1)
        each = 1 / np.bincount(met[0])[met[0]]
        frequency = np.bincount(met[1], weights=each, minlength=len(vectors))
        return cls(
            torch.from_numpy(vectors.astype(np.float32)),
            torch.from_numpy(known),
            torch.from_numpy(np.flatnonzero(known)),
            torch.from_numpy(frequency.astype(np.float32)),
        )

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """[size] known items, evenly."""
        return self.rows[torch.randint(len(self.rows), (size,), generator=generator)]

    def scaled(self, temperature: float) -> Preferences:
        """Vectors so long that their dot products are those of before divided by ``temperature``."""
        return Preferences(self.vectors / temperature**0.5, self.known, self.rows, self.frequency)
