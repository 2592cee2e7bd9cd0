"""CLCRec over the student's content network (``objectives.clcrec``)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.distill.batch import Encoded
from recdistill.distill.pairs import Batch
from recdistill.distill.terms.rival import Rival, mean_of
from recdistill.distill.terms.term import Given
from recdistill.objectives.clcrec import clcrec, mix


class ClcRec(Rival):
    """Collaborative vectors, begun at the teacher's and trained, and content projected to them."""

    name = "clcrec"

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self.collaborative = nn.Parameter(self.preferences.vectors.clone())
        self.projection = nn.Linear(given.width, self.teacher_width)

    def negatives(self, pairs: Batch) -> int:
        return self.options.negatives

    def forward(self, batch: Encoded) -> Tensor:
        pairs, negative = batch.pairs, self.drawn(batch)
        content, others = (self.projection(self.content(batch, items)) for items in (pairs.target, negative))
        own, rest = (self.collaborative[items] for items in (pairs.target, negative))
        return clcrec(
            mean_of(self.collaborative, pairs.query),
            own,
            content,
            others,
            mix(own, content, share=self.options.hybrid),
            mix(rest, others, share=self.options.hybrid),
            temperature=self.temperature,
            balance=self.options.balance,
            excluded=self._pairs.positive(pairs.user, negative),
        )

    def served(self, vectors: Tensor) -> Tensor:
        known = self.preferences.known.unsqueeze(1)
        return torch.where(known, self.collaborative, self.projection(vectors))
