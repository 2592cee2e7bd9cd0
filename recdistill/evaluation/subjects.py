"""Whatever is judged: item vectors, or a model that scores items given query items.

Shapes: I items of the catalogue, d width, C questions, L query length, B questions of a block, M items asked about.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from recdistill.contracts.tables import EmbeddingTable
from recdistill.evaluation.questions import Questions
from recdistill.retrieval.levels import Crossings, Scores, crossings, vector_scores, with_level
from recdistill.retrieval.ranks import mean_query, ranks_of_scores, target_ranks


class Subject(Protocol):
    """One evaluator for all: ranks of the targets, and scores of chosen items."""

    @property
    def name(self) -> str:
        """Its name in metric records."""

    @property
    def present(self) -> np.ndarray:
        """[I] bool: items it can score; it ranks the others below all, tied."""

    def ranks(self, questions: Questions, *, candidates: np.ndarray | None = None) -> np.ndarray:
        """[C] ranks of the targets among the candidates ([I] bool, None = all)."""

    def scores(self, query: np.ndarray, items: np.ndarray) -> np.ndarray:
        """[C, M] scores of items for queries [C, L]; an item it cannot score stands just below the row's least."""

    def crossings(self, questions: Questions, *, new: np.ndarray, cutoffs: tuple[int, ...], places: int) -> Crossings:
        """What a level added to the scores of the ``new`` items ([I] bool) does to each question."""


@dataclass(frozen=True)
class VectorSubject:
    """Item vectors; a query is the mean of its items' vectors.

    Attributes:
        name: its name in metric records.
        vectors: [I, d] float32, zero where absent.
        present: [I] bool: items with a vector.
        cosine: score by cosine, else by dot product.
        asking: [I, d] float32, what an item asks by, where that is not what it is found by; None: the same.
        level: [I] float64 added to each item's score, None = nothing. It is one more coordinate of the items, against
            which a query has 1.
    """

    name: str
    vectors: np.ndarray
    present: np.ndarray
    cosine: bool = True
    asking: np.ndarray | None = None
    level: np.ndarray | None = None

    @classmethod
    def of(cls, name: str, table: EmbeddingTable, item_ids: pd.Index) -> VectorSubject:
        """A table's subject; the table's metadata names its geometry, cosine if it does not."""
        vectors, present = table.align(item_ids)
        cosine = table.metadata.get("geometry", "cosine") != "dot"
        return cls(name, vectors, present, cosine=cosine, level=table.align_level(item_ids))

    @cached_property
    def matrix(self) -> Tensor:
        """[I, d] float64 as scored, without the level."""
        return self._scored(self.vectors)

    @cached_property
    def asking_matrix(self) -> Tensor:
        """[I, d] float64 of which queries are means."""
        return self.matrix if self.asking is None else self._scored(self.asking)

    def _scored(self, vectors: np.ndarray) -> Tensor:
        matrix = torch.from_numpy(vectors).double()
        return normalize(matrix, dim=1) if self.cosine else matrix

    @cached_property
    def served(self) -> Tensor:
        """[I, d + 1] with the level as a last coordinate; [I, d] where there is none."""
        return self.matrix if self.level is None else with_level(self.matrix, torch.from_numpy(self.level))

    def ranks(self, questions: Questions, *, candidates: np.ndarray | None = None) -> np.ndarray:
        return target_ranks(
            self._served_queries(mean_query(self.asking_matrix, torch.from_numpy(questions.query))),
            self.served,
            torch.from_numpy(questions.target),
            asker=torch.from_numpy(questions.asker),
            exclude_offsets=torch.from_numpy(questions.exclude_offsets),
            exclude_items=torch.from_numpy(questions.exclude_items),
            candidates=None if candidates is None else torch.from_numpy(candidates),
            present=torch.from_numpy(self.present),
        ).numpy()

    def scores(self, query: np.ndarray, items: np.ndarray) -> np.ndarray:
        found = self._served_queries(self._queries(query)) @ self.served[torch.from_numpy(items)].T
        return _below(found.numpy(), self.present[items])

    def similarities(self, query: np.ndarray, items: np.ndarray) -> np.ndarray:
        """[C] score of one item for each query; NaN for an item without a vector."""
        scores = (self._queries(query) * self.matrix[torch.from_numpy(items)]).sum(dim=1).numpy()
        return np.where(self.present[items], scores, np.nan)

    def crossings(self, questions: Questions, *, new: np.ndarray, cutoffs: tuple[int, ...], places: int) -> Crossings:
        queries = self._served_queries(mean_query(self.asking_matrix, torch.from_numpy(questions.query)))
        score = vector_scores(queries, self.served)
        return _crossings(score, questions, self.present, new=new, cutoffs=cutoffs, places=places)

    def _served_queries(self, queries: Tensor) -> Tensor:
        """[C, d] → as they meet :attr:`served`."""
        return queries if self.level is None else with_level(queries, queries.new_ones(len(queries)))

    def _queries(self, query: np.ndarray) -> Tensor:
        """[C, d] mean vectors, of length 1 where cosines are asked: scores of different queries can be compared."""
        queries = mean_query(self.asking_matrix, torch.from_numpy(query))
        return normalize(queries, dim=1) if self.cosine else queries


class Scorer(Protocol):
    """Scores of the whole catalogue, [B, I] float32, given queries [B, L] (-1 = padding)."""

    def __call__(self, query: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class ScoreSubject:
    """A model without item vectors, e.g. popularity or EASE.

    Attributes:
        name: its name in metric records.
        scorer: its scores; a row may not depend on the other rows of its block.
        present: [I] bool: items it can score.
    """

    name: str
    scorer: Scorer
    present: np.ndarray

    def ranks(self, questions: Questions, *, candidates: np.ndarray | None = None) -> np.ndarray:
        query = torch.from_numpy(questions.query)
        return ranks_of_scores(
            lambda rows: self.scorer(query[rows]),
            torch.from_numpy(questions.target),
            asker=torch.from_numpy(questions.asker),
            catalogue=len(self.present),
            exclude_offsets=torch.from_numpy(questions.exclude_offsets),
            exclude_items=torch.from_numpy(questions.exclude_items),
            candidates=None if candidates is None else torch.from_numpy(candidates),
            present=torch.from_numpy(self.present),
        ).numpy()

    def scores(self, query: np.ndarray, items: np.ndarray) -> np.ndarray:
        rows, columns = torch.from_numpy(query), torch.from_numpy(items)
        found = torch.cat([self.scorer(block)[:, columns] for block in rows.split(256)])
        return _below(found.double().numpy(), self.present[items])

    def crossings(self, questions: Questions, *, new: np.ndarray, cutoffs: tuple[int, ...], places: int) -> Crossings:
        query = torch.from_numpy(questions.query)

        def score(rows: slice) -> tuple[Tensor, Tensor]:
            found = self.scorer(query[rows])
            return found, torch.ones(len(found), 1)

        return _crossings(score, questions, self.present, new=new, cutoffs=cutoffs, places=places)


def _crossings(
    score: Scores,
    questions: Questions,
    present: np.ndarray,
    *,
    new: np.ndarray,
    cutoffs: tuple[int, ...],
    places: int,
) -> Crossings:
    return crossings(
        score,
        torch.from_numpy(questions.target),
        new=torch.from_numpy(new),
        cutoffs=cutoffs,
        places=places,
        asker=torch.from_numpy(questions.asker),
        exclude_offsets=torch.from_numpy(questions.exclude_offsets),
        exclude_items=torch.from_numpy(questions.exclude_items),
        present=torch.from_numpy(present),
    )


def _below(scores: np.ndarray, present: np.ndarray) -> np.ndarray:
    if not present.all():
        least = scores[:, present].min(axis=1, keepdims=True) if present.any() else np.zeros((len(scores), 1))
        scores = np.where(present, scores, least - 1)
    return scores
