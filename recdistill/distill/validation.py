"""What validation says of a catalogue's vectors, and which of its figures choose.

Shapes: I items, d width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from recdistill.contracts.fold import Fold
from recdistill.evaluation.benchmarks.judge import judge
from recdistill.evaluation.benchmarks.pairs import gid_pairs
from recdistill.evaluation.config import EvaluateConfig
from recdistill.evaluation.metrics import recall_at_k
from recdistill.evaluation.questions import Questions
from recdistill.evaluation.subjects import VectorSubject
from recdistill.retrieval.cases import Cases
from recdistill.retrieval.ranks import seq2item_recall

_GID_AT = 100


@dataclass(frozen=True)
class Validation:
    """The validation window's questions.

    Attributes:
        cases: vanilla seq2item.
        judging: how an ID space is made of the window's interactions, which nothing was trained on.
        choose_by: see :class:`recdistill.distill.config.DistillConfig`.
    """

    cases: Cases
    fold: Fold
    judging: EvaluateConfig
    choose_by: Literal["recall", "gid", "both"]
    seed: int

    def recall(self, vectors: np.ndarray) -> float:
        """Seq2item recall@10 of [I, d] unit vectors."""
        return seq2item_recall(vectors, self.cases, k=10)

    def gid(self, vectors: np.ndarray) -> float:
        """I2i recall@100 in the window's own ID space (METHOD 5, Gid-i2i); NaN where the window judges no pair."""
        questions = self._pairs
        if not len(questions):
            return math.nan
        subject = VectorSubject("student", vectors, np.ones(len(vectors), dtype=bool))
        return recall_at_k(subject.ranks(questions), k=_GID_AT)

    def choice(self, recall: float, vectors: np.ndarray) -> tuple[float, float | None]:
        """What is chosen by, and Gid if it was asked for; a window without judged pairs leaves recall alone to choose.

        Args:
            recall: of the vectors.
        """
        if self.choose_by == "recall":
            return recall, None
        gid = self.gid(vectors)
        if math.isnan(gid):
            return recall, None
        return (gid if self.choose_by == "gid" else math.sqrt(recall * gid)), gid

    @cached_property
    def _pairs(self) -> Questions:
        of = self.judging.i2i
        referee = judge(
            self.judging.judge,
            self.fold.judge("selection"),
            min_support=of.min_support,
            min_positive=self.judging.seq2item.min_positive,
            seed=self.seed,
        )
        item_ids = self.cases.item_ids
        query, target = gid_pairs(
            referee, item_ids, neighbours=of.neighbours, max_queries=of.max_queries, seed=self.seed
        )
        return Questions.of_pairs(query, target, item_ids=item_ids, cold=np.zeros(len(item_ids), dtype=bool))
