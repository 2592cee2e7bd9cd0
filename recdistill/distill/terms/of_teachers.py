"""What objectives of ID teachers have in common: a value a teacher, of the items taught, and the mean of them.

Shapes: n items taught, p a prefix's width, t the teacher's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from recdistill.distill.batch import Encoded
from recdistill.distill.teachers import Target
from recdistill.distill.terms.term import Given, Term


class TeacherTerm(Term):
    """Mean over the trial's ID teachers, and over the student's prefixes."""

    def __init__(self, given: Given) -> None:
        super().__init__()
        self.teachers = given.targets

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor, weight: Tensor, *, which: int, prefix: int) -> Tensor:
        """One teacher's value.

        Args:
            student: [n, p]; teacher: [n, t], 0 where unknown; weight: [n], 0 where unknown.
            which, prefix: the teacher's place, and the prefix's among the student's.
        """

    def forward(self, batch: Encoded) -> Tensor:
        """Of the items taught."""
        vectors, rows = batch.vectors[batch.taught], batch.rows[batch.taught]
        return torch.stack(
            [self._of(which, target, vectors, rows, batch.prefixes) for which, target in enumerate(self.teachers)]
        ).mean()

    def _of(self, which: int, target: Target, vectors: Tensor, rows: Tensor, prefixes: Sequence[int]) -> Tensor:
        known, weight = target.vectors[rows], target.confidence[rows]
        return torch.stack(
            [
                self.compare(vectors[:, :width], known, weight, which=which, prefix=place)
                for place, width in enumerate(prefixes)
            ]
        ).mean()
