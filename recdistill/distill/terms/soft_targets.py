"""A teacher's ranking of a query's candidates (METHOD 4.2, "ours, beyond").

The teacher ranks by the mean of its vectors of the very items that the student reads. So nothing at or behind the
target's time is seen; any teacher serves, EASE among them, whose scores are such sums; and a sequence teacher's table
was trained to rank by that mean. Its Transformer's state stands for a user's latest items in a row, which mined queries
are not, and would be one vector more for every pair.

Shapes: B pairs, L query length, C candidates.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recdistill.distill.batch import Encoded
from recdistill.distill.terms.term import Given, Term
from recdistill.objectives.listwise import listwise, standardised


class SoftTargets(Term):
    """Listwise KL over distinct candidates: the batch's targets and the hard negatives, less the query's own items."""

    def __init__(self, given: Given) -> None:
        super().__init__()
        self._of = given.trial.soft_targets
        self._scorer = given.scorer(self._of.teacher)

    def forward(self, batch: Encoded) -> Tensor:
        """Mean over the widths that the head serves; a query counts by the share of its items the teacher knows."""
        pairs = batch.pairs
        places = torch.cat([batch.asked, batch.hard])
        rows = batch.rows[places]
        scores, weight = self._scorer.scores(pairs.query, rows)
        valid = self._scorer.known[rows] & ~(pairs.query[:, :, None] == rows).any(dim=1)
        teacher = standardised(scores, valid)
        candidates = batch.vectors[places]

        def at(width: int) -> Tensor:
            query = batch.head(batch.pair_vectors[:, :-1, :width], batch.in_query)
            return listwise(
                F.normalize(query, dim=-1) @ F.normalize(candidates[:, :width], dim=-1).T,
                teacher,
                valid=valid,
                weight=weight,
                temperature=self._of.temperature,
                teacher_temperature=self._of.teacher_temperature,
            )

        return torch.stack([at(width) for width in batch.query_widths]).mean()
