"""Every subject's frontier of all and new items, and its recalls at a level of its own.

All levels are chosen on the validation window; the figures are of the test window.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from recdistill.config import Recipe
from recdistill.contracts.fold import FITS, Fit, Fold
from recdistill.contracts.records import Records
from recdistill.contracts.tables import EmbeddingTable
from recdistill.evaluation.baselines.material import Material
from recdistill.evaluation.benchmarks.new_items import NewItems
from recdistill.evaluation.benchmarks.users import seq2item
from recdistill.evaluation.subjects import Subject, VectorSubject
from recdistill.inputs import digest
from recdistill.retrieval.frontier import Frontier
from recdistill.retrieval.levels import Crossings

STUDENT, CONTENT = "student", "content_student"
BENCHMARK, AREA = "cold_frontier", "frontier_area"
VALIDATION = "validation"  # the split under which the validation window's area stands
PLACES_NEW_ITEMS = ("raw_content", "ridge", "kernel_ridge", "ease_content")


def made_of(evaluation: Path) -> dict[str, str]:
    """What frontier records of a finished evaluate stage's subjects come from: they carry it as metadata.

    Args:
        evaluation: the stage's folder.
    """
    done = json.loads((evaluation / "_stage.json").read_text(encoding="utf-8"))
    return {"evaluate": done["fingerprint"], "code": digest(Path(__file__))}


class Frontiers:
    """One seed and fold: both windows' questions.

    Attributes:
        place: the seed's and fold's folder.
        material: what each fit may learn from.
        asked: the windows' questions.
    """

    def __init__(self, recipe: Recipe, *, out: Path, seed: int, fold: str) -> None:
        self.config, self.baselines = recipe.evaluate.new_items, recipe.evaluate.baselines
        self.place = out / f"seed-{seed}" / fold
        split = Fold(out / "split" / fold)
        self.material = Material.of_fits(
            split,
            content=out / "content",
            teach=self.place / "teach",
            teacher=self.baselines.teacher,
            min_positive=recipe.evaluate.seq2item.min_positive,
        )
        self.asked: dict[Fit, NewItems] = {}
        for fit in FITS:
            cold = ~self.material[fit].known
            questions = seq2item(recipe.evaluate.seq2item, split, fit, seed=seed, cold=cold)
            self.asked[fit] = NewItems(self.config, questions, cold)

    def tables(self, stage: str, names: Iterable[str]) -> dict[str, dict[Fit, Subject]]:
        """The subjects whose vectors of both fits a stage left, of those named."""
        found = {}
        for name in names:
            paths = {fit: self.place / stage / fit / f"{name}.parquet" for fit in FITS}
            if all(path.exists() for path in paths.values()):
                found[name] = {fit: self._subject(name, fit, path) for fit, path in paths.items()}
        return found

    def _subject(self, name: str, fit: Fit, path: Path) -> Subject:
        return VectorSubject.of(name, EmbeddingTable.read(path), self.material[fit].item_ids)

    def record(self, records: Records, subjects: Mapping[str, Mapping[Fit, Subject]]) -> None:
        """Areas, and recalls at the levels that validation chooses.

        ``<name>``: at its own best of all items; ``student@<name>``: the student's at the level that gives it the best
        of all items among those where new ones get as much as from that subject at its own best. Subjects that cannot
        place new items have no records, nor has anyone where the student cannot.
        """
        found = {
            name: {fit: self._trace(fit, subject) for fit, subject in by_fit.items()}
            for name, by_fit in subjects.items()
            if all(self.asked[fit].applies(subject) for fit, subject in by_fit.items())
        }
        if STUDENT not in found:
            return
        ids = self.asked["final"].questions.unit_ids
        crossings, same = found[STUDENT]["final"][0], found[STUDENT]["selection"][1]
        for name, of in found.items():
            before, test = of["selection"][1], of["final"][1]
            records.whole(name, BENCHMARK, VALIDATION, AREA, float(before.area()))
            everyone, cold = before.curve()
            best = int(np.flatnonzero(everyone == everyone.max())[-1])
            self._recalls(records, name, of["final"][0], float(before.levels[best]))
            level = float(same.levels[same.best_all(cold=float(cold[best]))])
            self._recalls(records, f"{STUDENT}@{name}", crossings, level)
            if len(test.units) > 1:
                records.add(name, BENCHMARK, "all", AREA, test.units, ids, test.influences())

    def _trace(self, fit: Fit, subject: Subject) -> tuple[Crossings, Frontier]:
        crossings = self.asked[fit].crossings(subject)
        unit = self.asked[fit].questions.unit
        return crossings, Frontier.trace(crossings, unit, all_at=self.config.all_at, cold_at=self.config.cold_at)

    def _recalls(self, records: Records, name: str, crossings: Crossings, level: float) -> None:
        asked = self.asked["final"].questions
        for split, rows, k in (
            ("all", np.ones(len(asked), dtype=bool), self.config.all_at),
            ("cold", ~asked.known, self.config.cold_at),
        ):
            hits = crossings.hits(level, k)[rows]
            records.add(name, BENCHMARK, split, f"recall_at_{k}", asked.unit[rows], asked.unit_ids, hits)
