"""Teacher tables as distillation targets: aligned with the catalogue, centred, with a confidence an item.

Shapes: I items, t teacher width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from recdistill.contracts.tables import EmbeddingTable


@dataclass(frozen=True)
class Target:
    """One teacher.

    Attributes:
        vectors: [I, t] centred (else a regression on them collapses to their mean), unit length, 0 where unknown.
        confidence: [I] in [0, 1], 0 where the teacher does not know the item.
    """

    name: str
    vectors: Tensor
    confidence: Tensor


@dataclass(frozen=True)
class Scorer:
    """One teacher as it ranks items for a query.

    Attributes:
        vectors: [I, t] not centred; of unit length where its geometry is cosine, 0 where unknown.
        known: [I] bool.
    """

    vectors: Tensor
    known: Tensor

    @classmethod
    def load(cls, path: Path, item_ids: pd.Index) -> Scorer:
        """Read a table; its metadata name the geometry, cosine if they do not."""
        table = EmbeddingTable.read(path)
        vectors, known = (torch.from_numpy(found) for found in table.align(item_ids))
        if table.metadata.get("geometry", "cosine") == "cosine":
            vectors = F.normalize(vectors, dim=1)
        return cls(vectors, known)

    def scores(self, query: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """What the mean of a query's vectors says of items.

        Args:
            query: [B, L] item rows, -1 is padding; items: [C] item rows.

        Returns:
            [B, C] scores; [B] share of the query's items that the teacher knows.
        """
        there = query >= 0
        knows = self.known[query.clamp_min(0)] & there
        summed = F.embedding_bag(
            query.clamp_min(0), self.vectors, mode="sum", per_sample_weights=knows.to(self.vectors.dtype)
        )
        found = summed / knows.sum(dim=1, keepdim=True).clamp_min(1) @ self.vectors[items].T
        return found, knows.sum(dim=1) / there.sum(dim=1).clamp_min(1)


def load_targets(folder: Path, names: tuple[str, ...], item_ids: pd.Index) -> list[Target]:
    """Read ``folder/<name>.parquet`` for each name; a table without confidences trusts all its rows alike."""
    targets = []
    for name in names:
        table = EmbeddingTable.read(folder / f"{name}.parquet")
        confidence = table.confidence if table.confidence is not None else np.ones(len(table.ids), np.float32)
        unit = table.vectors / np.maximum(np.linalg.norm(table.vectors, axis=1, keepdims=True), 1e-12)
        centred = unit - np.average(unit, axis=0, weights=np.maximum(confidence, 1e-6))
        centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
        vectors, _ = EmbeddingTable(table.ids, centred.astype(np.float32)).align(item_ids)
        aligned, _ = EmbeddingTable(table.ids, confidence[:, None].astype(np.float32)).align(item_ids)
        targets.append(Target(name, torch.from_numpy(vectors), torch.from_numpy(aligned[:, 0])))
    return targets
