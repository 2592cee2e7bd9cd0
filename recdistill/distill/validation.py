"""What validation says of a catalogue's vectors, and which of its figures choose.

Shapes: I items, d width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recdistill.contracts.fold import Fold
from recdistill.distill.config import ChooseBy
from recdistill.distill.margin import Influences, ratio_influences
from recdistill.evaluation.benchmarks.judge import judge
from recdistill.evaluation.benchmarks.pairs import gid_pairs
from recdistill.evaluation.config import EvaluateConfig
from recdistill.evaluation.questions import Questions
from recdistill.evaluation.subjects import VectorSubject
from recdistill.retrieval.cases import Cases
from recdistill.retrieval.frontier import Frontier
from recdistill.retrieval.levels import Crossings, case_crossings
from recdistill.retrieval.ranks import case_ranks

# A figure of fewer questions than this is mostly chance, and has no say.
LEAST_ASKED = 30
_RECALL_AT = 10
_GID_AT = 100
RECALL, GID, AREA = f"recall_at_{_RECALL_AT}", f"gid_at_{_GID_AT}", "frontier_area"
# Those that choose, of those that the window can tell.
FIGURES: dict[ChooseBy, tuple[str, ...]] = {
    "recall": (RECALL,),
    "gid": (GID,),
    "both": (RECALL, GID),
    "frontier": (AREA,),
    "all": (RECALL, GID, AREA),
}


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
    choose_by: ChooseBy
    seed: int

    def recall(self, vectors: np.ndarray, *, cosine: bool = True, level: np.ndarray | None = None) -> float:
        """Seq2item recall@10 of [I, d] vectors and what is added to each item's score ([I])."""
        return float(self._found(vectors, cosine=cosine, level=level).mean())

    def _found(self, vectors: np.ndarray, *, cosine: bool, level: np.ndarray | None) -> np.ndarray:
        """[C] bool: the target is among the first ten."""
        if level is None:
            return case_ranks(vectors, self.cases, cosine=cosine) <= _RECALL_AT
        return self._crossings(vectors, cosine=cosine, level=level).hits(0.0, _RECALL_AT)

    @cached_property
    def new(self) -> np.ndarray:
        """[I] bool: items absent from the selection fit's training."""
        known = np.unique(self.fold.training("selection").item)
        return ~np.isin(np.arange(len(self.cases.item_ids)), known)

    @property
    def asks_about_new(self) -> bool:
        """Whether enough questions' targets are new items, for a figure of them to choose."""
        return int(self.new[self.cases.target].sum()) >= LEAST_ASKED

    def area(self, vectors: np.ndarray, *, cosine: bool = True, level: np.ndarray | None = None) -> float:
        """Area under the frontier of all and new items, as :meth:`recall` takes its vectors."""
        return float(self._frontier(vectors, cosine=cosine, level=level).area())

    def _frontier(self, vectors: np.ndarray, *, cosine: bool, level: np.ndarray | None) -> Frontier:
        at = self.judging.new_items
        found = self._crossings(vectors, cosine=cosine, level=level)
        return Frontier.trace(found, self.cases.user, all_at=at.all_at, cold_at=at.cold_at)

    def _crossings(self, vectors: np.ndarray, *, cosine: bool, level: np.ndarray | None) -> Crossings:
        at = self.judging.new_items
        cutoffs = tuple(dict.fromkeys((_RECALL_AT, at.all_at, at.cold_at)))
        return case_crossings(
            vectors, self.cases, new=self.new, cutoffs=cutoffs, places=at.all_at, cosine=cosine, level=level
        )

    def gid(self, vectors: np.ndarray, *, cosine: bool = True, level: np.ndarray | None = None) -> float:
        """I2i recall@100 in the window's own ID space (METHOD 5, Gid-i2i), as :meth:`recall` takes its vectors.

        NaN where the window judges no pair.
        """
        near = self._near(vectors, cosine=cosine, level=level)
        return float(near.mean()) if len(near) else math.nan

    def _near(self, vectors: np.ndarray, *, cosine: bool, level: np.ndarray | None) -> np.ndarray:
        """[P] bool: the judged pair's target is among the first hundred."""
        every = np.ones(len(vectors), dtype=bool)
        subject = VectorSubject("student", vectors, every, cosine=cosine, level=level)
        return np.asarray(subject.ranks(self._pairs) <= _GID_AT) if len(self._pairs) else np.zeros(0, dtype=bool)

    def choice(
        self, recall: float, vectors: np.ndarray, *, cosine: bool = True, level: np.ndarray | None = None
    ) -> tuple[float, dict[str, float]]:
        """What is chosen by, and the figures beside recall that it is made of, by name.

        Several figures choose by their geometric mean. What the window cannot tell is left out: Gid of fewer than
        :data:`LEAST_ASKED` judged pairs, the frontier of fewer questions about new items; where nothing is left, recall
        chooses.

        Args:
            recall: of the vectors.
            vectors, cosine, level: as :meth:`recall` takes them.
        """
        figures = {
            GID: lambda: self.gid(vectors, cosine=cosine, level=level),
            AREA: lambda: self.area(vectors, cosine=cosine, level=level),
        }
        others = {name: figures[name]() for name in self._asked if name != RECALL}
        return _geometric_mean([recall if name == RECALL else others[name] for name in self._asked]), others

    @cached_property
    def _asked(self) -> tuple[str, ...]:
        """The figures that choose, of those that the window can tell."""
        # Asked one by one: the judge is made for Gid alone.
        can = {RECALL: lambda: True, GID: lambda: len(self._pairs) >= LEAST_ASKED, AREA: lambda: self.asks_about_new}
        return tuple(name for name in FIGURES[self.choose_by] if can[name]()) or (RECALL,)

    def influences(self, vectors: np.ndarray, *, cosine: bool = True, level: np.ndarray | None = None) -> Influences:
        """How what is chosen by (:meth:`choice`) moves with each of who was asked: users; of Gid, items.

        Gid's items share the users who judge them, and users and items of the geometric mean the window: of these the
        error is told as if they did not.
        """
        told = [self._influence(name, vectors, cosine=cosine, level=level) for name in self._asked]
        slopes = _slopes([value for value, _ in told])
        of_unit: dict[bool, np.ndarray] = {}
        for name, slope, (_, influence) in zip(self._asked, slopes, told, strict=True):
            of_unit[name == GID] = of_unit.get(name == GID, 0.0) + slope * influence
        return tuple(of_unit.values())

    def _influence(
        self, name: str, vectors: np.ndarray, *, cosine: bool, level: np.ndarray | None
    ) -> tuple[float, np.ndarray]:
        """A figure, and how it moves with each user, or item."""
        if name == AREA:
            frontier = self._frontier(vectors, cosine=cosine, level=level)
            shares = frontier.influences()
            return float(frontier.area()), shares - shares.mean()
        near, unit = (self._near, self._pairs.unit) if name == GID else (self._found, self.cases.user)
        hits = near(vectors, cosine=cosine, level=level)
        return float(hits.mean()), ratio_influences(hits, unit)

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


def _geometric_mean(values: list[float]) -> float:
    return math.prod(values) ** (1 / len(values))


def _slopes(values: list[float]) -> list[float]:
    """The geometric mean's derivatives by each; at 0 it has none of several."""
    if len(values) == 1:
        return [1.0]
    mean = _geometric_mean(values)
    return [mean / (len(values) * value) if value else 0.0 for value in values]
