"""Baselines that learn nothing, or only count."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from recdistill.evaluation.baselines.material import Material
from recdistill.evaluation.subjects import ScoreSubject, VectorSubject


def popularity(material: Material) -> ScoreSubject:
    """Items by the number of users who were positive about them in training, whatever is asked."""
    support = torch.from_numpy(material.support.astype(np.float32))

    def score(query: Tensor) -> Tensor:
        return support.repeat(len(query), 1)

    return ScoreSubject("popularity", score, material.known)


class RawContent:
    """Content features as they come, centred; how much each modality counts is the one thing to choose."""

    def __init__(self, material: Material) -> None:
        self._material = material
        self.modalities = tuple(material.modalities)

    def fit(self, weights: Mapping[str, float]) -> VectorSubject:
        """Vectors of the whole catalogue.

        Args:
            weights: modality → what its part is multiplied by before vectors are scaled to length 1 again; 1 if absent.
        """
        scale = np.ones(self._material.content.shape[1], dtype=np.float32)
        for name, columns in self._material.modalities.items():
            scale[columns] = weights.get(name, 1.0)
        vectors = self._material.content * scale
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return VectorSubject("raw_content", vectors, self._material.content_present)
