"""Rows and instructions → vectors: what a step, the validation and the miners of negatives all need.

Shapes: N rows of the catalogue of items and texts, K instructions, T tokens, w width of text features, n rows asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from recdistill.errors import UserError
from recdistill.pretrain.config import Sides
from recdistill.pretrain.trainee import Trainee
from recdistill.students import RecDistillStudent
from recdistill.students.prompts import PROMPT
from recdistill.students.source import Features, FeatureSource


@dataclass(frozen=True)
class Instructions:
    """The student's instructions, and which of them a dataset's two sides have.

    Attributes:
        features: [1 + K, T, w], of none first, which is zero; None if the student knows none.
        of: dataset → places of its query's and its target's.
    """

    features: Tensor | None
    of: Mapping[str, tuple[int, int]]

    @classmethod
    def read(cls, sides: Mapping[str, Sides], student: RecDistillStudent) -> Instructions:
        """Those that the settings name.

        Raises:
            UserError: the student does not know one of them.
        """
        known = [None, *(student.config.instructions or {})]
        wanted = {name for of in sides.values() for name in (of.query, of.target)}
        unknown = sorted(name for name in wanted if name is not None and name not in known)
        if unknown:
            raise UserError(
                f"pretrain.instructions names {', '.join(unknown)}, which the student does not know "
                f"(student.instructions: {', '.join(str(name) for name in known[1:]) or 'none'})",
                remedy="write its prompt under student.instructions",
            )
        features = None
        if student.prompts is not None:
            features = torch.cat([torch.zeros_like(student.prompts[:1]), student.prompts])
        return cls(features, {name: (known.index(of.query), known.index(of.target)) for name, of in sides.items()})


class RowEncoder:
    """The features of rows under instructions."""

    def __init__(
        self, source: FeatureSource, instructions: Instructions, *, item_ids: pd.Index, texts: Sequence[str]
    ) -> None:
        self.source, self.instructions = source, instructions
        self._item_ids, self._texts = item_ids, texts
        self.rows = len(item_ids) + len(texts)

    def name(self, row: int) -> str:
        """The item's id, or the text."""
        items = len(self._item_ids)
        return str(self._item_ids[row]) if row < items else repr(self._texts[row - items])

    def keys(self, dataset: str, side: int, rows: Tensor) -> Tensor:
        """[n] int64 that name rows under their side's instruction (0: query, 1: target); equal keys, equal vectors."""
        return rows + self.rows * self.instructions.of.get(dataset, (0, 0))[side]

    def prefetch(self, keys: Tensor) -> None:
        """Begin to prepare what will be asked for next."""
        self.source.prefetch(keys % self.rows)

    def features(self, keys: Tensor) -> tuple[Features, Mapping[str, Tensor]]:
        """What the student reads of keys."""
        features, present = self.source.batch(keys % self.rows)
        if self.instructions.features is None:
            return features, present
        given = keys // self.rows
        return {**features, PROMPT: self.instructions.features[given]}, {**present, PROMPT: given > 0}


class Snapshot:
    """Vectors of norm 1 of all rows that are asked for, by the student as it stands; each distinct one encoded once.

    Memory: 4 · n · d bytes, n distinct rows and instructions.

    Args:
        wanted: dataset, side (0: query, 1: target) and rows.
    """

    @torch.inference_mode()
    def __init__(self, trainee: Trainee, encoder: RowEncoder, wanted: Iterable[tuple[str, int, Tensor]]) -> None:
        self._encoder = encoder
        self._keys = torch.cat([encoder.keys(*of) for of in wanted]).unique()
        training = trainee.training
        trainee.eval()
        some = self._keys.split(trainee.student.rows_at_once)
        parts = []
        for part, following in zip(some, (*some[1:], None), strict=True):
            features, present = encoder.features(part)
            if following is not None:
                encoder.prefetch(following)
            parts.append(trainee.student(features, present))
        trainee.train(training)
        self._vectors = F.normalize(torch.cat(parts).float(), dim=-1)

    def vectors(self, dataset: str, side: int, rows: Tensor) -> Tensor:
        """[n, d] of rows that were wanted."""
        return self._vectors[torch.searchsorted(self._keys, self._encoder.keys(dataset, side, rows))]
