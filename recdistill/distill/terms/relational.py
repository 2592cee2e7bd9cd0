"""The batch's similarity structure as the ID teachers see it (METHOD 4.3)."""

from __future__ import annotations

from torch import Tensor

from recdistill.distill.terms.of_teachers import TeacherTerm
from recdistill.distill.terms.term import Given
from recdistill.objectives.relational import relational


class Relational(TeacherTerm):
    """KL between a teacher's and the student's distributions over the other items."""

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self._temperature = given.config.relational_temperature

    def compare(self, student: Tensor, teacher: Tensor, weight: Tensor, *, which: int, prefix: int) -> Tensor:
        """See :func:`recdistill.objectives.relational.relational`."""
        tau = self._temperature
        return relational(student, teacher, weight=weight, temperature=tau, teacher_temperature=tau)
