"""The auxiliary contrast that keeps content perception (METHOD 4.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from recdistill.distill.batch import Encoded
from recdistill.distill.terms.term import Given, Term
from recdistill.objectives.infonce import infonce
from recdistill.objectives.matryoshka import over_prefixes


class ItemToItem(Term):
    """InfoNCE between two views of an item: two draws of modality dropout."""

    on_pairs = False

    def __init__(self, given: Given) -> None:
        super().__init__()
        self._temperature = given.trial.temperature

    def forward(self, batch: Encoded) -> Tensor:
        """Of the items asked about."""
        vectors = batch.vectors[batch.asked]
        other = batch.encode_again(batch.asked)
        joined = torch.cat([vectors, other], dim=1).unflatten(1, (2, -1))

        def contrast(views: Tensor) -> Tensor:
            own = torch.arange(len(views))
            return infonce(views[:, 0], views[:, 1], own, temperature=self._temperature)

        return over_prefixes(contrast, joined, batch.prefixes)
