"""DropoutNet over the student's content network (``objectives.dropoutnet``)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.distill.batch import Encoded
from recdistill.distill.terms.rival import Rival, mean_of
from recdistill.distill.terms.term import Given
from recdistill.objectives.dropoutnet import drop_preferences, dropoutnet


class DropoutNet(Rival):
    """A tanh layer over [content; preferences] scores pairs as the teacher does, with preferences or without."""

    name = "dropoutnet"

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        width = max(given.width, self.teacher_width)
        self.network = nn.Sequential(
            nn.Linear(given.width + self.teacher_width, width), nn.Tanh(), nn.Linear(width, self.teacher_width)
        )

    def forward(self, batch: Encoded) -> Tensor:
        pairs, table = batch.pairs, self.preferences.vectors
        query, own, negative = pairs.query, pairs.target, self.drawn(batch)

        def seen(items: Tensor) -> Tensor:
            dropped = drop_preferences(table[items], share=self.options.dropout)
            return self._of(self.content(batch, items), dropped)

        there = batch.in_query
        items = torch.where(there, query, own[:, None])
        user = (seen(items) * there.unsqueeze(-1)).sum(dim=1) / there.sum(dim=1, keepdim=True)
        teacher = mean_of(table, query)
        scores = torch.cat([(user * seen(of)).sum(dim=-1) for of in (own, negative)])
        wanted = torch.cat([(teacher * table[of]).sum(dim=-1) for of in (own, negative)])
        # In units in which a softmax would be taken: the paper's teachers have scores of about 1, cosines have not.
        return dropoutnet(scores / self.temperature, wanted / self.temperature)

    def served(self, vectors: Tensor) -> Tensor:
        return self._of(vectors, self.preferences.vectors)

    def _of(self, content: Tensor, preferences: Tensor) -> Tensor:
        found: Tensor = self.network(torch.cat([content, preferences], dim=-1))
        return found
