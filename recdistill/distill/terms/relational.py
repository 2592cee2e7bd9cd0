"""The batch's similarity structure as the ID teachers see it (METHOD 4.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from recdistill.distill.batch import Encoded
from recdistill.distill.teachers import Target
from recdistill.distill.terms.term import Given, Term
from recdistill.objectives.matryoshka import over_prefixes
from recdistill.objectives.relational import relational


class Relational(Term):
    """KL between each teacher's and the student's similarity structure, mean over teachers and prefixes."""

    def __init__(self, given: Given) -> None:
        super().__init__()
        self._targets, self._temperature = given.targets(), given.config.relational_temperature

    def forward(self, batch: Encoded) -> Tensor:
        """Of the items asked about."""
        vectors, rows = batch.vectors[batch.asked], batch.rows[batch.asked]
        return torch.stack([self._of(target, vectors, rows, batch.prefixes) for target in self._targets]).mean()

    def _of(self, target: Target, vectors: Tensor, rows: Tensor, prefixes: tuple[int, ...]) -> Tensor:
        known, confidence, tau = target.vectors[rows], target.confidence[rows], self._temperature
        return over_prefixes(
            lambda prefix: relational(prefix, known, weight=confidence, temperature=tau, teacher_temperature=tau),
            vectors,
            prefixes,
        )
