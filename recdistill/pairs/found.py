"""What a dataset consists of before it is a table.

Shapes: P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.contracts import names
from recdistill.retrieval.hashing import hash_ids, mix


@dataclass(frozen=True)
class Side:
    """One side of P pairs.

    Attributes:
        values: item ids or texts, distinct and ascending.
        rows: [P] int64 rows of ``values``.
        text: the values are texts.
    """

    values: pd.Index
    rows: np.ndarray
    text: bool = False

    def take(self, pairs: np.ndarray) -> Side:
        return replace(self, rows=self.rows[pairs])

    def columns(self, kind: pa.DataType) -> tuple[pa.Array, pa.Array]:
        """[P] item ids of that type and [P] texts, of which one is null throughout."""
        chosen = self.values.take(self.rows)
        if self.text:
            return pa.nulls(len(chosen), kind), pa.array(chosen, pa.string())
        return pa.array(chosen, kind), pa.nulls(len(chosen), pa.string())


@dataclass(frozen=True)
class Found:
    """The pairs of one dataset, each once.

    Attributes:
        score: [P] in [0, 1], how much a pair belongs together; None where the dataset does not say.
        why: the reason if there is no pair.
        about: more for the summary, JSON-able.
    """

    query: Side
    target: Side
    score: np.ndarray | None = None
    why: str = ""
    about: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.query.rows)

    @property
    def graded(self) -> bool:
        """Whether scores differ, so that they order the pairs."""
        return self.score is not None and len(np.unique(self.score.astype(np.float32))) > 1

    def draw(self, most: int, *, seed: int) -> Found:
        """At most so many pairs, drawn by (seed, query, target), sorted by query and target."""
        chosen = np.arange(len(self))
        if len(chosen) > most:
            hashes = (hash_ids(side.values)[side.rows] for side in (self.query, self.target))
            chosen = np.argsort(mix(seed, *hashes), kind="stable")[:most]
        order = chosen[np.lexsort((self.target.rows[chosen], self.query.rows[chosen]))]
        score = None if self.score is None else self.score[order]
        return replace(self, query=self.query.take(order), target=self.target.take(order), score=score)

    def table(self, kind: pa.DataType) -> pa.Table:
        """As ``pair_dataset``; ``kind`` is the type of item ids."""
        query_item, query_text = self.query.columns(kind)
        target_item, target_text = self.target.columns(kind)
        score = pa.nulls(len(self), pa.float32())
        if self.score is not None:
            score = pa.array(np.clip(self.score, 0, 1).astype(np.float32))
        return pa.table(
            {
                names.QUERY_ITEM: query_item,
                names.QUERY_TEXT: query_text,
                names.TARGET_ITEM: target_item,
                names.TARGET_TEXT: target_text,
                names.SCORE: score,
            }
        )


def between_items(
    ids: pd.Index,
    query: np.ndarray,
    target: np.ndarray,
    score: np.ndarray | None = None,
    *,
    about: dict[str, Any] | None = None,
) -> Found:
    """Pairs of items, given by [P] rows of ``ids``."""
    return Found(Side(ids, query), Side(ids, target), score, about=about or {})


def nothing(ids: pd.Index, why: str, *, about: dict[str, Any] | None = None) -> Found:
    """A dataset without pairs, and the reason."""
    none = Side(ids, np.empty(0, dtype=np.int64))
    return Found(none, none, why=why, about=about or {})
