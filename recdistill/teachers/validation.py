"""How good a teacher's table is: sequence-to-item questions of the fold's next window.

Shapes: C cases, I catalogue items, V vocabulary items, d width, L query length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recdistill.contracts.log import Log
from recdistill.errors import UserError
from recdistill.retrieval.cases import Cases, seq2item_cases
from recdistill.retrieval.ranks import case_ranks, target_ranks

_CUT = 10
# Users' states see the last events in order, tables the mean of some of the last hundred (METHOD 5).
_DRAWN, _POOL = 10, 100


@dataclass(frozen=True)
class Score:
    """Mean over all cases; a target that the teacher does not know is a miss."""

    ndcg_at_10: float
    recall_at_10: float

    @classmethod
    def of(cls, ranks: np.ndarray, known: np.ndarray) -> Score:
        """From [C] ranks and [C] bool: the teacher has a vector for the target."""
        hit = known & (ranks <= _CUT)
        return cls(float(np.where(hit, 1 / np.log2(1 + ranks), 0.0).mean()), float(hit.mean()))


class Questions:
    """Cases for one catalogue, the same for every teacher. Memory: 8·C·(L + excluded items a case)."""

    def __init__(
        self, history: Log, targets: Log, *, min_behaviours: int, most: int, state_length: int, seed: int
    ) -> None:
        drawn = seq2item_cases(history, targets, length=_DRAWN, last=_POOL, min_positive=min_behaviours, seed=seed)
        if not len(drawn):
            raise UserError(
                "the validation window asks nothing: no positive of it has an earlier positive of the same user",
                remedy="widen split's validation window, or lower teachers.min_behaviours",
            )
        if len(drawn) > most:
            drawn = drawn.take(np.sort(np.random.default_rng(seed).choice(len(drawn), most, replace=False)))
        self.drawn = drawn
        in_order = seq2item_cases(
            history, targets, length=state_length, last=state_length, min_positive=min_behaviours, seed=seed
        )
        same = pd.MultiIndex.from_arrays([in_order.user, in_order.target])
        self.in_order = in_order.take(same.get_indexer(pd.MultiIndex.from_arrays([drawn.user, drawn.target])))

    def __len__(self) -> int:
        return len(self.drawn)

    @property
    def users(self) -> int:
        """How many users are asked about."""
        return len(np.unique(self.drawn.user))

    def of_table(self, vectors: np.ndarray, present: np.ndarray, *, cosine: bool) -> Score:
        """Score a table by the mean of the query's vectors.

        Args:
            vectors: [I, d] in the catalogue's order.
            present: [I] bool: which items the teacher knows.
        """
        ranks = case_ranks(vectors, self.drawn, cosine=cosine, present=present)
        return Score.of(ranks, present[self.drawn.target])

    def of_states(self, states: Callable[[Tensor], Tensor], vectors: np.ndarray, known: np.ndarray) -> Score:
        """Score a sequence model by the state behind the user's last items.

        Args:
            states: [C, L] vocabulary rows (-1 = padding behind) → [C, d].
            vectors: [V, d] that states are multiplied with.
            known: [V] catalogue rows of the vocabulary.
        """
        cases = self.in_order
        catalogue = len(cases.item_ids)
        vocabulary = np.full(catalogue + 1, -1, dtype=np.int64)
        vocabulary[known] = np.arange(len(known))
        query = vocabulary[cases.query]  # -1 reads the last, which stays -1
        order = np.argsort(query < 0, axis=1, kind="stable")  # unknown items leave no hole
        query = np.take_along_axis(query, order, axis=1)
        matrix, present = np.zeros((catalogue, vectors.shape[1]), dtype=np.float32), np.zeros(catalogue, dtype=bool)
        matrix[known], present[known] = vectors, True
        ranks = _ranks(states(torch.from_numpy(query)), torch.from_numpy(matrix), cases, present)
        return Score.of(ranks, present[cases.target])

    def of_popularity(self, support: np.ndarray, present: np.ndarray) -> Score:
        """Score the items' [I] support as if it were a teacher."""
        place = np.unique(support, return_inverse=True)[1]  # counts by rank: none too large to be told apart
        items = torch.from_numpy(place.astype(np.float64)).unsqueeze(1)
        ranks = _ranks(torch.ones(len(self.drawn), 1, dtype=torch.float64), items, self.drawn, present)
        return Score.of(ranks, present[self.drawn.target])


def _ranks(queries: Tensor, items: Tensor, cases: Cases, present: np.ndarray) -> np.ndarray:
    return target_ranks(
        queries,
        items,
        torch.from_numpy(cases.target),
        exclude_offsets=torch.from_numpy(cases.exclude_offsets),
        exclude_items=torch.from_numpy(cases.exclude_items),
        present=torch.from_numpy(present),
    ).numpy()
