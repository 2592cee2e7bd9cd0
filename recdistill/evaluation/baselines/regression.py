"""Regression from content to the ID teacher's vectors: ridge, and RBF kernel ridge.

The teacher is centred before it is regressed on, or the prediction collapses to its mean. An item with n training
interactions weighs n / (n + s): a rare item's teacher vector is mostly noise.

Shapes: I items of the catalogue, n items with both a teacher vector and content, m kernel centres, c and d widths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recdistill.contracts.tables import EmbeddingTable
from recdistill.evaluation.baselines.material import Material
from recdistill.evaluation.subjects import VectorSubject


@dataclass(frozen=True)
class Lesson:
    """What is to be learned.

    Attributes:
        rows: [n] rows of the catalogue.
        teacher: [n, d] float32 (unit length where the teacher's geometry is cosine).
        support: [n] float32 interactions behind each.
    """

    rows: Tensor
    teacher: Tensor
    support: Tensor

    @classmethod
    def of(cls, material: Material, table: EmbeddingTable) -> Lesson:
        vectors, present = table.align(material.item_ids)
        if table.metadata.get("geometry", "cosine") != "dot":
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        rows = np.flatnonzero(present & material.content_present)
        return cls(
            torch.from_numpy(rows),
            torch.from_numpy(vectors[rows].astype(np.float32)),
            torch.from_numpy(material.support[rows].astype(np.float32)),
        )

    def weights(self, confidence: float) -> Tensor:
        """[n] n / (n + s), at least the weight of half an interaction."""
        support = self.support.clamp(min=0.5)
        return support / (support + confidence)

    def centred(self, weights: Tensor) -> Tensor:
        """[n, d] the teacher less its weighted mean."""
        return self.teacher - (weights.unsqueeze(1) * self.teacher).sum(dim=0) / weights.sum()


class Ridge:
    """Weighted linear least squares. Memory 8·c² bytes beside the features."""

    def __init__(self, material: Material, table: EmbeddingTable) -> None:
        self._material = material
        self._lesson = Lesson.of(material, table)
        self._features = torch.from_numpy(material.content)

    def fit(self, *, l2: float, confidence: float) -> VectorSubject:
        """Vectors of the whole catalogue.

        Args:
            l2: penalty λ of the squared coefficients.
            confidence: s of the weights.
        """
        weights = self._lesson.weights(confidence)
        inputs = self._features[self._lesson.rows]
        weighted = inputs * weights.unsqueeze(1)
        gram = (weighted.T @ inputs).double()
        gram.diagonal().add_(l2)
        moment = (weighted.T @ self._lesson.centred(weights)).double()
        coefficients = torch.linalg.solve(gram, moment).float()
        return VectorSubject("ridge", (self._features @ coefficients).numpy(), self._material.content_present)


class KernelRidge:
    """Weighted RBF kernel ridge regression on the ``max_points`` items with the most support.

    Solves (K + λ W⁻¹) α = Y by Cholesky. Memory 12·m² bytes and 8·4096·m: the catalogue passes in blocks.
    """

    def __init__(self, material: Material, table: EmbeddingTable, *, max_points: int) -> None:
        self._material = material
        lesson = Lesson.of(material, table)
        most = torch.argsort(lesson.support, descending=True, stable=True)[:max_points].sort().values
        self._lesson = Lesson(lesson.rows[most], lesson.teacher[most], lesson.support[most])
        self._features = torch.from_numpy(material.content)
        self._centres = self._features[self._lesson.rows]
        self._distances = self._to_centres(self._centres)
        typical = float(self._distances.median()) if len(self._centres) else 0.0
        self._typical = typical if typical > 0 else 1.0

    def fit(self, *, l2: float, gamma: float, confidence: float) -> VectorSubject:
        """Vectors of the whole catalogue.

        Args:
            l2: penalty λ.
            gamma: of exp(−γ · squared distance / median squared distance).
            confidence: s of the weights.
        """
        weights = self._lesson.weights(confidence)
        system = self._kernel(self._distances.clone(), gamma)
        system.diagonal().add_(l2 / weights)
        dual = torch.cholesky_solve(self._lesson.centred(weights), torch.linalg.cholesky(system))
        found = [self._kernel(self._to_centres(block), gamma) @ dual for block in self._features.split(4096)]
        return VectorSubject("kernel_ridge", torch.cat(found).numpy(), self._material.content_present)

    def _to_centres(self, features: Tensor) -> Tensor:
        """[n, c] → [n, m] squared distances."""
        lengths = (features**2).sum(dim=1, keepdim=True) + (self._centres**2).sum(dim=1).unsqueeze(0)
        return lengths.addmm_(features, self._centres.T, alpha=-2).clamp_(min=0)

    def _kernel(self, distances: Tensor, gamma: float) -> Tensor:
        """The kernel of these distances, in their place."""
        return distances.mul_(-gamma / self._typical).exp_()
