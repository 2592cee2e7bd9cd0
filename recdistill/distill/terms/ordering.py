"""Pairs of items in the order in which the ID teachers find them similar.

Shapes: n items, p a prefix's width, t the teacher's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recdistill.distill.terms.of_teachers import TeacherTerm
from recdistill.distill.terms.term import Given
from recdistill.objectives.cosent import cosent


class Ordering(TeacherTerm):
    """CoSENT over two pairs an item: with the item of the batch that the teacher finds nearest, and with another."""

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self._temperature = given.trial.temperature

    def compare(self, student: Tensor, teacher: Tensor, weight: Tensor, *, which: int, prefix: int) -> Tensor:
        """Of the items that the teacher knows; 0 with fewer than three."""
        known = weight > 0
        count = int(known.sum())
        if count < 3:
            return student.sum() * 0.0
        student, unit = student[known], F.normalize(teacher[known], dim=-1)
        cosines = (unit @ unit.T).fill_diagonal_(-torch.inf)
        itself = torch.arange(count)
        other = torch.cat([cosines.argmax(dim=1), itself.roll(1)])  # rows ascend by number, which says nothing
        query = torch.cat([itself, itself])
        return cosent(student[query], student[other], cosines[query, other], temperature=self._temperature)
