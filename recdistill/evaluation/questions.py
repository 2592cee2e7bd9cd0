"""Questions with one target each, as every retrieval benchmark asks them.

Shapes: C questions, Q queries, I items, L query length, E excluded (question, item) pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from recdistill.retrieval.cases import Cases, take_ragged

SPLITS = ("all", "warm", "cold")


def splits(known: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """(split, [n] rows) of all, warm and cold ([n] bool ``known``); those without rows are left out."""
    masks = (np.ones(len(known), dtype=bool), known, ~known)
    return [(split, mask) for split, mask in zip(SPLITS, masks, strict=True) if mask.any()]


@dataclass(frozen=True)
class Questions:
    """What to rank, and whose question it is.

    Attributes:
        query: [Q, L] item rows, -1 = padding.
        asker: [C] query of each question, ascending; the targets of one query are a list.
        target: [C] item rows.
        exclude_offsets, exclude_items: [C + 1], [E] items that are no candidates, ragged.
        unit: [C] row of ``unit_ids``: the judged user, or the query item; intervals resample these.
        unit_ids: ids of the units.
        known: [C] bool: all items a subject needs to answer were in training (else the question is cold).
    """

    query: np.ndarray
    asker: np.ndarray
    target: np.ndarray
    exclude_offsets: np.ndarray
    exclude_items: np.ndarray
    unit: np.ndarray
    unit_ids: pd.Index
    known: np.ndarray

    def __len__(self) -> int:
        return len(self.target)

    def take(self, rows: np.ndarray) -> Questions:
        """Some of the questions ([C] bool mask or ascending row numbers)."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        offsets, members = take_ragged(self.exclude_offsets, rows)
        queries, asker = np.unique(self.asker[rows], return_inverse=True)
        return Questions(
            self.query[queries],
            asker,
            self.target[rows],
            offsets,
            self.exclude_items[members],
            self.unit[rows],
            self.unit_ids,
            self.known[rows],
        )

    @classmethod
    def of_users(cls, cases: Cases, *, cold: np.ndarray) -> Questions:
        """Seq2item: a query a case; cold where the target is (``cold``: [I] bool)."""
        return cls(
            cases.query,
            np.arange(len(cases)),
            cases.target,
            cases.exclude_offsets,
            cases.exclude_items,
            cases.user,
            cases.user_ids,
            ~cold[cases.target],
        )

    @classmethod
    def of_pairs(cls, query: np.ndarray, target: np.ndarray, *, item_ids: pd.Index, cold: np.ndarray) -> Questions:
        """I2i: query items (ascending) are no candidates themselves; cold where either item is."""
        queries, asker = np.unique(query, return_inverse=True)
        return cls(
            queries.reshape(-1, 1),
            asker,
            target,
            np.arange(len(query) + 1),
            query,
            query,
            item_ids,
            ~(cold[query] | cold[target]),
        )
