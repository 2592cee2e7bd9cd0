"""The linear student: on small data over frozen towers it equals deeper ones, and trains in seconds.

Shapes: B items, T tokens, W a modality's width, M modalities, d the student's width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from recdistill.students.featurizer.featurizer import token_mean
from recdistill.students.prompts import Prompt


class LinearStudent(nn.Module):
    """Mean token of every modality, side by side with the presence flags → d.

    A missing modality's features are zero, which is the catalogue's mean; its flag's column of the map is the learned
    vector of "missing". An instruction, if the student reads any (``prompt_width``), adds a vector of its own.
    """

    def __init__(self, *, widths: Mapping[str, int], dim: int, dropout: float, prompt_width: int | None = None) -> None:
        super().__init__()
        self.modalities = tuple(widths)
        self.widths = list(widths.values())
        self.dropout = nn.Dropout(dropout)
        self.map = nn.Linear(sum(self.widths) + len(widths), dim)
        self.prompt = nn.Linear(prompt_width, dim) if prompt_width else None

    def forward(self, features: Mapping[str, Tensor], present: Tensor, prompt: Prompt | None = None) -> Tensor:
        """Modality → [B, T, W] and [B, M] bool, in the modalities' order → [B, d].

        Args:
            prompt: an instruction's features [B, T, w] and [B] bool.
        """
        means = self._means(features, present)
        inputs = torch.cat([*means, present.to(means[0].dtype)], dim=-1)
        return self._instructed(self.map(inputs), prompt)

    def views(
        self, features: Mapping[str, Tensor], present: Tensor, member: Tensor, prompt: Prompt | None = None
    ) -> Tensor:
        """[S, B, d] as :meth:`forward` with only the modalities of each of S subsets; ``member``: [S, M] bool.

        A subset's vector is the sum of its modalities' shares, so that all subsets cost little more than one.
        """
        means = self._means(features, present)
        blocks = self.map.weight.split([*self.widths, len(self.widths)], dim=1)
        shares = torch.stack(
            [
                mean @ block.T + there[:, None] * flag
                for mean, block, there, flag in zip(means, blocks, present.T, blocks[-1].T, strict=False)
            ]
        )  # [M, B, d]
        vectors = torch.einsum("sm,mbd->sbd", member.to(shares.dtype), shares) + self.map.bias
        return self._instructed(vectors, prompt)

    def _means(self, features: Mapping[str, Tensor], present: Tensor) -> list[Tensor]:
        return [
            self.dropout(torch.where(there[:, None], token_mean(features[m]), 0.0))
            for m, there in zip(self.modalities, present.T, strict=True)
        ]

    def _instructed(self, vectors: Tensor, prompt: Prompt | None) -> Tensor:
        """[…, B, d] and the instruction's share of them."""
        if prompt is None or self.prompt is None:
            return vectors
        features, asked = prompt
        share = self.prompt(torch.where(asked[:, None], token_mean(features), 0.0))
        return vectors + torch.where(asked[:, None], share, 0.0)
