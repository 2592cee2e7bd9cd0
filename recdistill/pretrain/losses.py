"""A batch's objectives from its vectors.

Shapes: B pairs, C candidates (the pairs' own targets first, then hard negatives), S subsets, d width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recdistill.objectives.cosent import cosent
from recdistill.objectives.infonce import infonce
from recdistill.objectives.late_fusion import LateFusionGate, late_fusion
from recdistill.objectives.matryoshka import over_prefixes
from recdistill.objectives.micl import pattern_contrast


@dataclass(frozen=True)
class BatchVectors:
    """What a batch's objectives read.

    Attributes:
        query: [1 + S, B, d] under each subset of modalities, the whole first; target: [1 + S, C, d].
        query_has: [1 + S, B] bool, whether a modality of the subset is there; target_has: [1 + S, C].
        excluded: [B, C] bool, candidates that are no negatives.
        temperature: [B, 1].
        positive: [B] bool, false for pairs that were judged not to belong together.
        prefixes: widths that serve.
    """

    query: Tensor
    target: Tensor
    query_has: Tensor
    target_has: Tensor
    excluded: Tensor
    temperature: Tensor
    positive: Tensor
    prefixes: Sequence[int]

    def nce(self) -> Tensor:
        """InfoNCE of the whole vectors, over the prefixes (SAIL-Embedding 3.3.2, NCE-MRL)."""
        pairs = self.query.shape[1]
        own = torch.arange(pairs, device=self.query.device)

        def contrast(joined: Tensor) -> Tensor:
            return infonce(
                joined[:pairs],
                joined[pairs:],
                own,
                temperature=self.temperature,
                excluded=self.excluded,
                weight=self.positive.to(joined.dtype),
            )

        return over_prefixes(contrast, torch.cat([self.query[0], self.target[0]]), self.prefixes)

    def cosent(self, score: Tensor, groups: Sequence[Tensor]) -> Tensor:
        """CoSENT of graded pairs, over the prefixes; 0 without any.

        Args:
            score: [B]; groups: places of the pairs whose scores can be compared.
        """
        found = [self.query.sum() * 0.0]
        for places in groups:
            grades, tau = score[places], self.temperature[places[0], 0]
            joined = torch.stack([self.query[0, places], self.target[0, places]])
            found.append(over_prefixes(_Graded(grades, tau), joined, self.prefixes))
        return torch.stack(found).sum()

    def late_fusion(self, vision: int, gate: LateFusionGate) -> Tensor:
        """InfoNCE of the gated mixture of subset ``vision`` and the whole, at full width."""
        return late_fusion(
            (self.query[vision], self.query[0]),
            (self.target[vision], self.target[0]),
            self.query_has[vision] & self.positive,
            self.target_has[vision],
            gate=gate,
            temperature=self.temperature,
            excluded=self.excluded,
        )

    def micl(self, single: Sequence[int]) -> Tensor:
        """InfoNCE within each of the subsets ``single``, over the prefixes."""
        return self.patterns([(subset, subset) for subset in single])

    def patterns(self, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """InfoNCE from query subset to target subset, mean over the pairs of subsets and the prefixes."""
        count = self.query.shape[1]

        def contrast(joined: Tensor) -> Tensor:
            return pattern_contrast(
                joined[:, :count],
                joined[:, count:],
                self.query_has & self.positive,
                self.target_has,
                patterns=pairs,
                temperature=self.temperature,
                excluded=self.excluded,
            )

        return over_prefixes(contrast, torch.cat([self.query, self.target], dim=1), self.prefixes)


@dataclass(frozen=True)
class _Graded:
    """CoSENT of stacked queries and targets [2, B, d]."""

    score: Tensor
    temperature: Tensor

    def __call__(self, joined: Tensor) -> Tensor:
        return cosent(joined[0], joined[1], self.score, temperature=self.temperature)
