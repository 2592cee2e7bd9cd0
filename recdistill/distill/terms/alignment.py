"""Items' vectors, projected, as the ID teachers have them (METHOD 4.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.distill.batch import Encoded
from recdistill.distill.terms.term import Given, Term
from recdistill.objectives.alignment import alignment


class Alignment(Term):
    """1 − cosine between the student's projection, one a teacher, and the teacher's vector; mean over teachers."""

    def __init__(self, given: Given) -> None:
        super().__init__()
        self._targets = given.targets()
        self.projections = nn.ModuleList(nn.Linear(given.width, target.vectors.shape[1]) for target in self._targets)

    def forward(self, batch: Encoded) -> Tensor:
        """Of the items asked about."""
        vectors, rows = batch.vectors[batch.asked], batch.rows[batch.asked]
        return torch.stack(
            [
                alignment(projection(vectors), target.vectors[rows], weight=target.confidence[rows])
                for target, projection in zip(self._targets, self.projections, strict=True)
            ]
        ).mean()
