"""The mined query sequence finds its target among the batch's, and hard negatives (METHOD 4.2).

Shapes: B pairs, L query length, E hard negatives, d a prefix's width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recdistill.distill.batch import Encoded
from recdistill.distill.terms.term import Given, Term
from recdistill.objectives.infonce import infonce


class SequenceToItem(Term):
    """InfoNCE of query → target, the user's own positives masked, with logQ correction."""

    def __init__(self, given: Given) -> None:
        super().__init__()
        self._temperature, self._strength = given.trial.temperature, given.trial.log_q
        self._pairs, self._simulated = given.pairs, given.trial.simulated_cold

    def forward(self, batch: Encoded) -> Tensor:
        """Mean over the widths that the head serves."""
        pairs, present, hard = batch.pairs, batch.in_query, batch.rows[batch.hard]
        # A hard negative counts as one more draw of its item: its chance is corrected for like any target's.
        log_q = self._strength * self._chances()[torch.cat([pairs.target, hard])]
        excluded = torch.cat([pairs.excluded, self._pairs.positive(pairs.user, hard)], dim=1)
        own = torch.arange(len(pairs.target))
        negatives = batch.vectors[batch.hard]

        def contrast(width: int) -> Tensor:
            prefix = batch.pair_vectors[..., :width]
            query = batch.head(prefix[:, :-1], present)
            candidates = torch.cat([prefix[:, -1], negatives[:, :width]])
            return infonce(query, candidates, own, temperature=self._temperature, log_q=log_q, excluded=excluded)

        return torch.stack([contrast(width) for width in batch.query_widths]).mean()

    def _chances(self) -> Tensor:
        """[I] log chances of being drawn, as far as they are known: of some items those of one that nobody has met."""
        log_q = self._pairs.log_q
        if not self._simulated:
            return log_q
        unseen = torch.rand(len(log_q)) < self._simulated
        return log_q.masked_fill(unseen, -math.log(len(log_q)))
