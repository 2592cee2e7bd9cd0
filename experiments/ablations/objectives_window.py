"""The validation window of one seed and fold: who is trained before it, and what it says of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from objectives_table import FIGURES

from recdistill.config import Recipe
from recdistill.contracts.fold import Fold
from recdistill.contracts.records import Records
from recdistill.contracts.tables import read_metadata
from recdistill.distill.inputs import Inputs
from recdistill.distill.subjects import STUDENT, Subject
from recdistill.distill.training import Training
from recdistill.distill.validation import Validation
from recdistill.evaluation.baselines.material import Material
from recdistill.evaluation.stage import Bench
from recdistill.evaluation.subjects import VectorSubject
from recdistill.inputs import digest, placeless_sections
from recdistill.retrieval.questions import choosing_cases
from recdistill.runs import source_digest

# What records depend on beside the stages before.
SECTIONS = ("student", "distill", "evaluate")
CODE = (
    "distill", "objectives", "students", "retrieval", "features", "evaluation", "contracts", "training", "checkpoint",
    "world",
)  # fmt: skip


class Window:
    """One seed and fold of a run folder whose recipe has been run up to mining.

    Args:
        recipe: says what is asked; those that are measured differ in teachers, student and training alone.
    """

    def __init__(self, recipe: Recipe, *, out: Path, seed: int, fold: str) -> None:
        self._recipe, self._out, self._seed = recipe, out, seed
        self._place, self._fold = out / f"seed-{seed}" / fold, Fold(out / "split" / fold)
        self._results = out / "objectives" / f"{seed}-{fold}"

    def path(self, name: str) -> Path:
        """Where a subject's records are."""
        return self._results / f"{name}.parquet"

    def is_done(self, name: str, recipe: Recipe) -> bool:
        """Whether its records are there, of these settings, data and code."""
        return self.path(name).exists() and read_metadata(self.path(name)).items() >= self._of(recipe).items()

    def measure(self, recipes: Mapping[str, Recipe]) -> None:
        """Train and judge the subjects that are not done; those of like students share what they read."""
        waiting = {name: recipe for name, recipe in recipes.items() if not self.is_done(name, recipe)}
        for student in {recipe.student.model_dump_json(): recipe.student for recipe in waiting.values()}.values():
            alike = {name: recipe for name, recipe in waiting.items() if recipe.student == student}
            inputs = self._gather(list(alike.values()))
            for name, recipe in alike.items():
                self._record(name, recipe, inputs)
                print(f"{self.path(name).relative_to(self._out)}: done")

    def _record(self, name: str, recipe: Recipe, inputs: Inputs) -> None:
        """The student as the distill stage trains it in the selection fit, by user and by item."""
        trial, of = recipe.distill.trials[0], self._of(recipe)
        subject = Subject(STUDENT, recipe.distill.trials)
        training = Training(recipe.distill, recipe.student, subject, trial, inputs, of="selection", seed=self._seed)
        checkpoint, key = self._results / f".{name}.checkpoint", json.dumps(of)
        fitted = training.run(checkpoint, key, lambda metrics, step: None, validation=self._validation)
        vectors = training.vectors()
        everything, cosine = np.ones(len(vectors), dtype=bool), training.geometry == "cosine"
        records = Records(self._seed, self._fold.name)
        judged = VectorSubject(name, vectors, everything, cosine=cosine, level=training.level(vectors))
        self._bench.ask(records, judged)
        about = {"best_step": fitted.best_step, "validation": fitted.best_score}
        records.write(self.path(name), metadata=of | about)

    def _gather(self, recipes: Sequence[Recipe]) -> Inputs:
        trials = tuple(trial for recipe in recipes for trial in recipe.distill.trials)
        return Inputs.gather(
            recipes[0].distill.model_copy(update={"trials": trials}),
            recipes[0].student,
            recipes[0].evaluate,
            fold=self._fold,
            item_ids=self._fold.item_ids(),
            data=self._out / "data",
            content=self._out / "content",
            teach=self._place / "teach",
            mine=self._place / "mine",
            predicted=self._results / "predicted",
            pretrain=None,
            seed=self._seed,
        )

    @cached_property
    def _validation(self) -> Validation:
        """By whose recall the steps are chosen."""
        cases = choosing_cases(self._recipe.questions(), self._fold, seed=self._seed)
        return Validation(cases, self._fold, self._recipe.evaluate, "recall", self._seed)

    @cached_property
    def _bench(self) -> Bench:
        config = self._recipe.evaluate
        material = Material.read(
            self._fold,
            "selection",
            content=self._out / "content" / "raw_content.parquet",
            teacher=self._out / "nothing",
            min_positive=config.seq2item.min_positive,
        )
        asked = {"benchmarks": tuple(figure[0] for figure in FIGURES.values()), "cutoffs": (10, 50, 100)}
        return Bench.build(
            config.model_copy(update=asked),
            fold=self._fold,
            items=self._out / "data" / "items.parquet",
            material=material,
            seed=self._seed,
            fit="selection",
        )

    def _of(self, recipe: Recipe) -> dict[str, str]:
        """What the records of a recipe depend on: its settings, the stages before, the code."""
        mined = self._place / "mine" / "_stage.json"
        sections = placeless_sections(recipe)
        settings = json.dumps({name: sections[name] for name in SECTIONS}, sort_keys=True, default=str)
        return {
            "settings": hashlib.sha256(settings.encode()).hexdigest(),
            "mine": json.loads(mined.read_text(encoding="utf-8"))["fingerprint"] if mined.exists() else "",
            "code": _code(),
        }


@cache
def _code() -> str:
    return hashlib.sha256("".join([digest(Path(__file__)), *map(source_digest, CODE)]).encode()).hexdigest()
