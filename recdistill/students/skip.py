"""A skip connection around what is learned: untrained content keeps a fixed share of every vector.

What a student learns of behaviour costs it content, and what it says of items that nobody has met is the worse for it.
The skip connection keeps what content says as it is: z = [√(1 − s) · l / ‖l‖ ; √s · c / ‖c‖], l learned and c the
leading principal components of raw content, so that cos(z, z') = (1 − s) · cos(l, l') + s · cos(c, c'). It is the wide
part of wide and deep learning (Cheng et al., DLRS 2016), without weights to overfit. What a tuned tower reads is no
part of it: training moves that.

Shapes: B items, T tokens, W a modality's width, M modalities, S subsets, d the student's width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from recdistill.contracts import names
from recdistill.contracts.tables import read_metadata
from recdistill.students.featurizer.dense import Dense
from recdistill.students.featurizer.featurizer import raw_content
from recdistill.students.fusion import FusionStudent
from recdistill.students.linear import LinearStudent
from recdistill.students.prompts import Prompt

_BLOCK = 8192


class Skip(nn.Module):
    """What is learned, then content as it came; takes the place of the body that it surrounds.

    Args:
        learned: the body, of the width that content leaves.
        modalities: what the body reads, in the students' order.
        widths: modality → W of those of which content is made, in that order.
        columns: components kept of content; None keeps all.
        share: s.
    """

    weight: Tensor

    def __init__(
        self,
        learned: FusionStudent | LinearStudent,
        *,
        modalities: Sequence[str],
        widths: Mapping[str, int],
        columns: int | None,
        share: float,
    ) -> None:
        super().__init__()
        self.learned, self.modalities, self.widths, self.share = learned, tuple(modalities), dict(widths), share
        whole = sum(widths.values())
        self.register_buffer("weight", torch.ones(whole))
        self.content = Dense(width_in=whole, width=columns)

    def forward(self, features: Mapping[str, Tensor], present: Tensor, prompt: Prompt | None = None) -> Tensor:
        """Modality → [B, T, W] and [B, M] bool, in the modalities' order → [B, d]."""
        return self._beside(self.learned(features, present, prompt), self._raw(features, present))

    def views(
        self, features: Mapping[str, Tensor], present: Tensor, member: Tensor, prompt: Prompt | None = None
    ) -> Tensor:
        """[S, B, d] as :meth:`forward` with only the modalities of each of S subsets; ``member``: [S, M] bool."""
        learned = self.learned.views(features, present, member, prompt)
        return self._beside(learned, torch.stack([self._raw(features, present & mine) for mine in member]))

    def weigh(self, raw: Path, weights: Mapping[str, float]) -> None:
        """Fit content anew, with these weights of its modalities; nothing changes if that has fewer columns than now.

        Args:
            raw, weights: as :func:`fit_content` takes them.
        """
        weight, content = fit_content(raw, self.widths, columns=self.content.width, weights=weights)
        if content.width == self.content.width:
            self.weight.copy_(weight)
            self.content.load_state_dict(content.state_dict())

    def _raw(self, features: Mapping[str, Tensor], there: Tensor) -> Tensor:
        """[B, Σ W]."""
        return raw_content(features, dict(zip(self.modalities, there.T, strict=True)), self.widths)

    def _beside(self, learned: Tensor, raw: Tensor) -> Tensor:
        """[…, B, d] of both."""
        content = normalize(self.content(self.weight * raw), dim=-1)
        return torch.cat([(1 - self.share) ** 0.5 * normalize(learned, dim=-1), self.share**0.5 * content], dim=-1)


def fit_content(
    raw: Path, widths: Mapping[str, int], *, columns: int, weights: Mapping[str, float]
) -> tuple[Tensor, Dense]:
    """What a :class:`Skip` keeps of the ``encode`` stage's table of raw content, in two passes over it.

    Args:
        widths: of the modalities of which content is made.
        columns: components kept, fewer where there are fewer.
        weights: modality → what its part counts, 1 if absent.

    Returns:
        [Σ W] each column's weight, and the components of the weighted columns.
    """
    weight = torch.cat([torch.full((width,), weights.get(modality, 1.0)) for modality, width in widths.items()])
    return weight, Dense.fit(partial(_blocks, raw, tuple(widths), weight.numpy()), width=columns)


def _blocks(raw: Path, modalities: Sequence[str], weight: np.ndarray) -> Iterator[np.ndarray]:
    encoded = [(str(name), int(width)) for name, width in read_metadata(raw)["widths"]]
    kept = np.concatenate([np.full(width, name in modalities) for name, width in encoded])
    with pq.ParquetFile(raw) as file:
        for batch in file.iter_batches(batch_size=_BLOCK, columns=[names.EMBEDDING]):
            values = batch.column(0).flatten().to_numpy(zero_copy_only=False).reshape(-1, len(kept))
            # Of norm 1 again, as raw content of these modalities alone is.
            part = values[:, kept]
            yield part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-9) * weight
