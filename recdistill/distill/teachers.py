"""Teacher tables as distillation targets: aligned with the catalogue, centred, with a confidence an item.

Shapes: I items, t teacher width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
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
