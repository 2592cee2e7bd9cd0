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

from recdistill.contracts.fold import Fit, Fold
from recdistill.retrieval.cases import Cases
from recdistill.retrieval.config import QuestionsConfig
from recdistill.retrieval.questions import choosing_cases, fold_cases
from recdistill.retrieval.ranks import case_ranks, target_ranks

_CUT = 10


@dataclass(frozen=True)
class Score:
    """Mean over all cases."""

    ndcg_at_10: float
    recall_at_10: float

    @classmethod
    def of(cls, ranks: np.ndarray) -> Score:
        """From [C] ranks, infinite where the teacher does not know the target: a miss."""
        return cls(float(gains(ranks).mean()), float((ranks <= _CUT).mean()))


def gains(ranks: np.ndarray) -> np.ndarray:
    """[C] what each case adds to NDCG@10: 1 / log2(1 + rank) up to rank 10, then 0."""
    return np.where(ranks <= _CUT, 1 / np.log2(1 + ranks), 0.0)


class Questions:
    """Cases of one fold, the same for every teacher. Memory: 8·C·(2·L + excluded items a case).

    Users' states see their last items in order, tables the mean of some of them.
    """

    def __init__(
        self, config: QuestionsConfig, fold: Fold, fit: Fit = "selection", *, state_length: int, seed: int
    ) -> None:
        """Draw them from the fit's target window; ``state_length`` items are what a sequence model sees."""
        drawn = choosing_cases(config, fold, fit, seed=seed)
        in_order = fold_cases(config, fold, fit, seed=seed, length=state_length, last=state_length)
        same = pd.MultiIndex.from_arrays([in_order.user, in_order.target])
        place = same.get_indexer(pd.MultiIndex.from_arrays([drawn.user, drawn.target]))
        self.drawn, self.in_order = drawn.take(place >= 0), in_order.take(place[place >= 0])

    def __len__(self) -> int:
        return len(self.drawn)

    @property
    def item_ids(self) -> pd.Index:
        """[I] the catalogue."""
        return self.drawn.item_ids

    @property
    def users(self) -> int:
        """How many users are asked about."""
        return len(np.unique(self.drawn.user))

    def of_table(self, vectors: np.ndarray, present: np.ndarray, *, cosine: bool) -> np.ndarray:
        """[C] ranks by a table: the mean of the query's vectors asks.

        Args:
            vectors: [I, d] in the catalogue's order.
            present: [I] bool: which items the teacher knows.
        """
        ranks = case_ranks(vectors, self.drawn, cosine=cosine, present=present)
        return np.where(present[self.drawn.target], ranks, np.inf)

    def of_states(
        self, states: Callable[[Tensor, Tensor, Tensor], Tensor], vectors: np.ndarray, known: np.ndarray
    ) -> np.ndarray:
        """[C] ranks by a sequence model: the state behind the user's last items asks.

        Args:
            states: [C, L] vocabulary rows (-1 = padding behind), [C, L] their times and [C] the questions' times,
                microseconds → [C, d].
            vectors: [V, d] that states are multiplied with.
            known: [V] catalogue rows of the vocabulary.
        """
        cases = self.in_order
        catalogue = len(cases.item_ids)
        vocabulary = np.full(catalogue + 1, -1, dtype=np.int64)
        vocabulary[known] = np.arange(len(known))
        query = vocabulary[cases.query]  # -1 reads the last, which stays -1
        order = np.argsort(query < 0, axis=1, kind="stable")  # unknown items leave no hole
        query, seen_at = (torch.from_numpy(np.take_along_axis(of, order, axis=1)) for of in (query, cases.query_time))
        matrix, present = np.zeros((catalogue, vectors.shape[1]), dtype=np.float32), np.zeros(catalogue, dtype=bool)
        matrix[known], present[known] = vectors, True
        ranks = _ranks(states(query, seen_at, torch.from_numpy(cases.time)), torch.from_numpy(matrix), cases, present)
        return np.where(present[cases.target], ranks, np.inf)

    def of_popularity(self, support: np.ndarray, present: np.ndarray) -> np.ndarray:
        """[C] ranks by the items' [I] support."""
        place = np.unique(support, return_inverse=True)[1]  # counts by rank: none too large to be told apart
        items = torch.from_numpy(place.astype(np.float64)).unsqueeze(1)
        ranks = _ranks(torch.ones(len(self.drawn), 1, dtype=torch.float64), items, self.drawn, present)
        return np.where(present[self.drawn.target], ranks, np.inf)


def _ranks(queries: Tensor, items: Tensor, cases: Cases, present: np.ndarray) -> np.ndarray:
    return target_ranks(
        queries,
        items,
        torch.from_numpy(cases.target),
        exclude_offsets=torch.from_numpy(cases.exclude_offsets),
        exclude_items=torch.from_numpy(cases.exclude_items),
        present=torch.from_numpy(present),
    ).numpy()
