"""The batch's similarities as the ID teachers see them."""

from __future__ import annotations

from torch import Tensor

from recdistill.distill.terms.of_teachers import TeacherTerm
from recdistill.objectives.topology import topology


class Topology(TeacherTerm):
    """Squared differences of cosines."""

    def compare(self, student: Tensor, teacher: Tensor, weight: Tensor, *, which: int, prefix: int) -> Tensor:
        """See :func:`recdistill.objectives.topology.topology`."""
        return topology(student, teacher, weight=weight)
