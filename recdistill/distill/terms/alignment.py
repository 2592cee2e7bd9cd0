"""Items' vectors, projected, as the ID teachers have them (METHOD 4.3).

Shapes: n items, p a prefix's width, t the teacher's, I items of the catalogue.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recdistill.distill.teachers import Target
from recdistill.distill.terms.of_teachers import TeacherTerm
from recdistill.distill.terms.term import Given
from recdistill.objectives.alignment import alignment, regression


class Alignment(TeacherTerm):
    """Distance of projections, one a teacher and prefix, from the teacher's vectors.

    A prefix of the student is scaled to length 1, as it is served; the teacher, turned onto its principal axes so that
    its first coordinates say most, is cut to the same width and scaled alike.
    """

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self._distance = regression if given.trial.alignment.distance == "mse" else alignment
        self._axes = [_axes(target) for target in self.teachers]
        self.projections = nn.ModuleList(
            nn.ModuleList(nn.Linear(width, min(width, target.vectors.shape[1])) for width in given.prefixes)
            for target in self.teachers
        )

    def compare(self, student: Tensor, teacher: Tensor, weight: Tensor, *, which: int, prefix: int) -> Tensor:
        """See :mod:`recdistill.objectives.alignment`."""
        projection = self.projections[which][prefix]  # type: ignore[index]  # a ModuleList's item is a Module to mypy
        width = min(student.shape[1], teacher.shape[1])
        goal = F.normalize(teacher @ self._axes[which][:, :width], dim=-1)
        return self._distance(projection(F.normalize(student, dim=-1)), goal, weight=weight)


def _axes(target: Target) -> Tensor:
    """[t, t] principal axes of the teacher's vectors, each item weighed, the leading one first."""
    weighed = target.vectors.double() * target.confidence.double().sqrt()[:, None]
    return torch.linalg.eigh(weighed.T @ weighed).eigenvectors.flip(1).float()
