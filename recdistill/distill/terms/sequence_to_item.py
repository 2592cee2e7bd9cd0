"""The mined query sequence finds its target among the batch's (METHOD 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from recdistill.distill.batch import Encoded
from recdistill.distill.terms.term import Given, Term
from recdistill.objectives.infonce import infonce
from recdistill.objectives.matryoshka import over_prefixes


class SequenceToItem(Term):
    """InfoNCE of query → target, the user's own positives masked, with logQ correction."""

    def __init__(self, given: Given) -> None:
        super().__init__()
        self._temperature, self._strength = given.trial.temperature, given.trial.log_q
        self._log_q = given.pairs.log_q

    def forward(self, batch: Encoded) -> Tensor:
        """Mean over the widths that the head serves."""
        pairs, present = batch.pairs, batch.in_query
        log_q = self._strength * self._log_q[pairs.target]
        own = torch.arange(len(pairs.target))

        def contrast(prefix: Tensor) -> Tensor:
            query = batch.head(prefix[:, :-1], present)
            return infonce(
                query, prefix[:, -1], own, temperature=self._temperature, log_q=log_q, excluded=pairs.excluded
            )

        return over_prefixes(contrast, batch.pair_vectors, batch.query_widths)
