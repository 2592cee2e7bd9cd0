"""ALDI over the student's content network (``objectives.aldi``)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.distill.batch import Encoded
from recdistill.distill.terms.rival import Rival, mean_of
from recdistill.distill.terms.term import Given
from recdistill.objectives.aldi import aldi, teacher_weight


class Aldi(Rival):
    """Known items are the teacher's; content is projected to where new ones belong.

    The paper maps users before they meet generated items, f(u)·g(c). Here f is linear, so that u·(fᵀg(c)) is the same
    and one table of items serves both kinds; ``projection`` is fᵀg.
    """

    name = "aldi"

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self._scaled = self.preferences.scaled(self.temperature)
        self.projection = nn.Linear(given.width, self.teacher_width)
        met = self._scaled.frequency[self._scaled.known]
        expected = max(float(met.mean()), 1e-12) if len(met) else 1.0
        self._weight = teacher_weight(self._scaled.frequency, expected=expected, cap=self.options.frequency_cap)

    def forward(self, batch: Encoded) -> Tensor:
        pairs, negative, table = batch.pairs, self.drawn(batch), self._scaled.vectors
        generated = tuple(self.projection(self.content(batch, items)) for items in (pairs.target, negative))
        user = mean_of(table, pairs.query)
        return aldi(
            (generated[0], generated[1]),
            (table[pairs.target], table[negative]),
            user,
            user,
            weight=self._weight[pairs.target],
            rating=self.options.rating,
            ranking=self.options.ranking,
            identification=self.options.identification,
        )

    def served(self, vectors: Tensor) -> Tensor:
        return torch.where(self._scaled.known.unsqueeze(1), self._scaled.vectors, self.projection(vectors))
