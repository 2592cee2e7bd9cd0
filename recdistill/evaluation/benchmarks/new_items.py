"""The ``new_items`` benchmark: what vanilla seq2item gives all items and new ones as a level lifts the new ones.

Shapes: I items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recdistill.contracts.records import Records
from recdistill.evaluation.questions import Questions
from recdistill.evaluation.subjects import Subject
from recdistill.retrieval.config import LevelConfig
from recdistill.retrieval.frontier import Frontier, choose_level
from recdistill.retrieval.levels import Crossings

BENCHMARK = "new_items"
AREA = "frontier_area"
LEVELLED = "_levelled"
# Shares of a list's places that new items get, in per cent, at which the frontier is recorded: levels of different
# subjects, seeds and folds are on different scales, shares are on one.
SHARES = (0, 1, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40, 50, 60, 75, 100)


@dataclass(frozen=True)
class NewItems:
    """The questions, and which items are new.

    Attributes:
        questions: vanilla seq2item.
        new: [I] bool: items absent from training.
    """

    config: LevelConfig
    questions: Questions
    new: np.ndarray

    def crossings(self, subject: Subject) -> Crossings:
        """What the level does to each question."""
        cutoffs = tuple(dict.fromkeys((self.config.all_at, self.config.cold_at)))
        return subject.crossings(self.questions, new=self.new, cutoffs=cutoffs, places=self.config.all_at)

    def applies(self, subject: Subject) -> bool:
        """Whether the subject can place new items at all, and is asked for any."""
        return bool((subject.present & self.new).any() and (~self.questions.known).any())

    def choose(self, subject: Subject | None) -> float | None:
        """The level that the settings ask for, if these questions, the validation window's, tell it.

        Args:
            subject: as it was before it learned from that window.
        """
        if not isinstance(self.config.level, str):
            return self.config.level
        if subject is None or (self.config.level == "validated" and not self.applies(subject)):
            return None
        return choose_level(self.config, self.crossings(subject), self.questions.unit)

    def record(self, records: Records, subject: Subject, *, level: float | None) -> None:
        """Recall of all and of new items at each share, at ``level`` if there is one, and the area under the frontier.

        A subject that cannot place new items has no records.
        """
        if not self.applies(subject):
            return
        crossings = self.crossings(subject)
        for share in SHARES:
            self._recalls(records, subject.name, crossings, crossings.level_of_share(share / 100), f"_share_{share}")
        if level is not None:
            self._recalls(records, subject.name, crossings, level, LEVELLED)
        config, unit = self.config, self.questions.unit
        frontier = Frontier.trace(crossings, unit, all_at=config.all_at, cold_at=config.cold_at)
        if len(frontier.units) > 1:
            ids = self.questions.unit_ids
            records.add(subject.name, BENCHMARK, "all", AREA, frontier.units, ids, frontier.influences())

    def _recalls(self, records: Records, name: str, crossings: Crossings, level: float, suffix: str) -> None:
        asked = self.questions
        everyone = np.ones(len(asked), dtype=bool)
        for split, rows, k in (("all", everyone, self.config.all_at), ("cold", ~asked.known, self.config.cold_at)):
            hits = crossings.hits(level, k)[rows]
            records.add(name, BENCHMARK, split, f"recall_at_{k}{suffix}", asked.unit[rows], asked.unit_ids, hits)
