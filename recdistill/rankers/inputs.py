"""What a ranker reads of rows: numbers, bags of ids, and the user's history.

Shapes: n rows, B batch, c dense features, F sparse features, H history items, I items, k width of item vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torchrec import KeyedJaggedTensor

from recdistill.contracts.log import Log
from recdistill.features.timeline import Timeline
from recdistill.rankers.rows import Rows
from recdistill.training import LogFn

Kind = Literal["user", "item", "tags", "code"]
_BLOCK = 1 << 16


@dataclass(frozen=True)
class SparseFeature:
    """One table and the bags that are looked up in it.

    Attributes:
        name: of the feature and its table.
        size: vectors in the table.
        offsets: [K + 1] int64; bag k holds ``values[offsets[k]:offsets[k + 1]]``.
        values: int64 ids below ``size``.
        kind: ids of users or items, bags of tags from the most frequent on, or codes whose neighbours are alike.
    """

    name: str
    size: int
    offsets: Tensor
    values: Tensor
    kind: Kind

    @classmethod
    def single(cls, name: str, ids: Tensor, *, size: int, kind: Kind) -> SparseFeature:
        """Bags of one id each, empty where the id is negative."""
        present = ids >= 0
        offsets = torch.zeros(len(ids) + 1, dtype=torch.int64)
        offsets[1:] = present.cumsum(0)
        return cls(name, size, offsets, ids[present], kind)


def gather_bags(features: Sequence[SparseFeature], bags: Sequence[Tensor]) -> KeyedJaggedTensor:
    """The KJT of a batch.

    Args:
        features: F features.
        bags: for each feature, [B] int64: which bag each row looks up.
    """
    values, lengths = [], []
    for feature, index in zip(features, bags, strict=True):
        begin = feature.offsets[index]
        length = feature.offsets[index + 1] - begin
        total = int(length.sum())
        within = torch.arange(total) - torch.repeat_interleave(length.cumsum(0) - length, length)
        values.append(feature.values[torch.repeat_interleave(begin, length) + within])
        lengths.append(length)
    return KeyedJaggedTensor(keys=[f.name for f in features], values=torch.cat(values), lengths=torch.cat(lengths))


@dataclass(frozen=True)
class Inputs:
    """What a ranker reads of some rows.

    Attributes:
        dense: [n, c] float32, NaN where unknown.
        bags: F tensors [n] int64: which bag of each sparse feature a row looks up.
        item: [n] int64 rows of the catalogue.
        history: [n, H] int32 rows of the user's last positives strictly before the row, newest last, -1 where there is
            none; H = 0 where no model reads them.
    """

    dense: Tensor
    bags: tuple[Tensor, ...]
    item: Tensor
    history: Tensor

    def __len__(self) -> int:
        return len(self.item)

    def take(self, rows: Tensor) -> Inputs:
        return Inputs(self.dense[rows], tuple(bags[rows] for bags in self.bags), self.item[rows], self.history[rows])


@dataclass(frozen=True)
class Task:
    """What the ranker of one feature group is trained on and asked about.

    Attributes:
        features: F sparse features.
        blocks: widths of the blocks of dense columns that share a scale, summing to c.
        vectors: [I, k] float32 what the group knows of each item, NaN where nothing; k = 0 if it has no vectors.
        train, test: rows.
        label: [n] bool, of the training rows.
        older, newest: [·] int64 training rows that are learned from, and those that choose how long.
    """

    features: tuple[SparseFeature, ...]
    blocks: tuple[int, ...]
    vectors: np.ndarray
    train: Inputs
    test: Inputs
    label: np.ndarray
    older: np.ndarray
    newest: np.ndarray


@dataclass(frozen=True)
class How:
    """Where and under which name a ranker is trained.

    Attributes:
        checkpoint: folder to resume from.
        key: fingerprint that the checkpoint must carry.
        description: for progress.
        log: of losses and validation by step (of trees: by number of trees).
    """

    checkpoint: Path
    key: str
    description: str
    seed: int
    log: LogFn


@dataclass(frozen=True)
class Scored:
    """A trained ranker's answers.

    Attributes:
        newest: float64 logits of the task's newest training rows.
        test: float64 logits of the test rows.
        best_step: after which it was best on the newest rows.
    """

    newest: np.ndarray
    test: np.ndarray
    best_step: int


TrainModel = Callable[[Any, Task, How], Scored]


def by_age(time: np.ndarray, *, newest: float) -> tuple[np.ndarray, np.ndarray]:
    """[·] int64 older and newest rows; equal times stay together.

    Args:
        time: [n].
        newest: share of the rows.
    """
    cut = np.quantile(time, 1 - newest, method="lower")
    older = time < cut
    if not older.any():  # one moment only: nothing is newer than anything
        older = np.arange(len(time)) < (1 - newest) * len(time)
    return np.flatnonzero(older), np.flatnonzero(~older)


def last_items(history: Log, rows: Rows, *, last: int, min_behaviours: int) -> np.ndarray:
    """[n, last] int32 items of each row's user that pleased strictly before it, newest last, -1 where there are fewer.

    Memory: 4 · n · last bytes.
    """
    pleased = np.flatnonzero(history.positive(min_behaviours))
    timeline = Timeline(group=history.user[pleased], time=history.time[pleased], groups=len(history.user_ids))
    item = history.item[pleased][timeline.order]
    begin, end = timeline.before(rows.user, rows.time)
    found = np.full((len(rows), last), -1, dtype=np.int32)
    for start in range(0, len(rows) if len(item) else 0, _BLOCK):
        part = slice(start, start + _BLOCK)
        place = end[part, None] + np.arange(-last, 0)
        found[part] = np.where(place >= begin[part, None], item[np.maximum(place, 0)], -1)
    return found
