"""What the published cold-start methods share here: users made of query items, a table for known and new items.

Their papers give every user a vector of its own. Ours are asked about by some of their items and may never have been
seen, so a user is the mean of the query items' vectors, as for every other subject (the "user transform" of DropoutNet,
section 3.3, for users without one).

Shapes: B pairs, L query length, I items, t the teacher's width, d the student's.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from recdistill.distill.batch import Encoded
from recdistill.distill.pairs import Batch
from recdistill.distill.preferences import Preferences
from recdistill.distill.terms.term import Geometry, Given, Term


class Rival(Term):
    """Base of the rivals; negatives are drawn evenly among the items that the teacher knows, as their papers do."""

    geometry: ClassVar[Geometry] = "dot"
    name: ClassVar[str]

    def __init__(self, given: Given) -> None:
        super().__init__()
        self.options, self.temperature = given.trial.rival, given.trial.temperature
        self.preferences = Preferences.of(given.table(given.config.teachers[0]), given.training)
        self.teacher_width = self.preferences.vectors.shape[1]
        self._pairs = given.pairs

    def negatives(self, pairs: Batch) -> int:
        """How many items are drawn beside the pairs' own."""
        return len(pairs.target)

    def more(self, pairs: Batch, generator: torch.Generator) -> Tensor:
        return self.preferences.draw(self.negatives(pairs), generator)

    def drawn(self, batch: Encoded) -> Tensor:
        """[N] item rows of the negatives."""
        return batch.draw.more[self.name]

    def content(self, batch: Encoded, items: Tensor) -> Tensor:
        """[…, d] the student's vectors of some of the step's items."""
        return F.embedding(batch.draw.places(items), batch.vectors)


def mean_of(vectors: Tensor, query: Tensor) -> Tensor:
    """[B, t] mean of the query items' rows of [I, t]; ``query``: [B, L], -1 = padding."""
    there = (query >= 0).unsqueeze(-1)
    return (F.embedding(query.clamp(min=0), vectors) * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)
