"""The ``distill`` stage: interest pairs, teacher tables and content features → students and their item vectors.

Memory: the catalogue's features (4 · I · Σ tokens · width bytes), the pairs (4 · P · L bytes), and a batch's vectors;
of tuned towers the weights, and those that are trained four times more (gradients, two moments, the best state).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recdistill.contracts.fold import Fold
from recdistill.contracts.tables import write_json
from recdistill.distill.config import DistillConfig
from recdistill.distill.subjects import Subject, subjects
from recdistill.distill.training import Inputs, Training
from recdistill.retrieval.cases import Cases
from recdistill.retrieval.config import QuestionsConfig
from recdistill.retrieval.questions import fold_cases
from recdistill.students import StudentConfig, feature_source
from recdistill.training import Fitted, LogFn


def distill(
    config: DistillConfig,
    student: StudentConfig,
    questions: QuestionsConfig,
    *,
    fold: Fold,
    data: Path,
    content: Path,
    teach: Path,
    mine: Path,
    pretrain: Path | None,
    out: Path,
    seed: int,
    key: str,
    log: Callable[[str], LogFn],
) -> None:
    """Write ``out/<fit>/{student,content_student}`` (models) and their vectors of the whole catalogue beside them.

    The selection fit runs each trial and keeps the one that validates best by vanilla seq2item recall@10; the
    final fit repeats that training on more data, up to the step that validated best. The content student is the same
    model trained by the item-to-item contrast alone: what content gives without behaviour.

    Args:
        questions: those of the validation window choose.
        data: folder with the canonical ``items`` and ``media`` tables, which tuned towers read.
        content: folder of the ``encode`` stage; teach, mine: folders with ``<fit>/``.
        pretrain: folder with ``<fit>/pretrained_student``, from which the student starts; None: from drawn weights.
        key: fingerprint that a checkpoint must carry to be resumed.
        log: gives the curve of a name.
    """
    cases = fold_cases(questions, fold, "selection", seed=seed)
    features = feature_source(student, content=content, data=data, item_ids=cases.item_ids)
    inputs = Inputs(fold, features, content, teach, mine, pretrain)
    run = _Run(config, student, inputs, cases, out=out, seed=seed, key=key, log=log)
    write_json({subject.name: run.train(subject) for subject in subjects(config)}, out / "distill.json")


class _Run:
    """What the trainings of one fold share."""

    def __init__(
        self,
        config: DistillConfig,
        student: StudentConfig,
        inputs: Inputs,
        cases: Cases,
        *,
        out: Path,
        seed: int,
        key: str,
        log: Callable[[str], LogFn],
    ) -> None:
        self._config, self._student, self._inputs, self._cases = config, student, inputs, cases
        self._out, self._seed, self._key, self._log = out, seed, key, log

    def train(self, subject: Subject) -> dict[str, Any]:
        """Try the trials, write what both fits of the best one give, and tell how it went."""
        scores: list[float] = []
        chosen: tuple[int, Fitted, Training] | None = None
        for index, trial in enumerate(subject.trials):
            training = Training(
                self._config, self._student, subject, trial, self._inputs, of="selection", seed=self._seed
            )
            name = f"{subject.name}-selection-{index}"
            fitted = training.run(
                self._checkpoint(name),
                f"{self._key}/{name}",
                self._log(f"{subject.name}/selection-{index}"),
                cases=self._cases,
            )
            if chosen is None or fitted.best_score > max(scores):
                chosen = (index, fitted, training)
            scores.append(fitted.best_score)
        assert chosen is not None  # there is at least one trial
        index, fitted, training = chosen
        training.write(self._out / "selection")
        final = Training(
            self._config, self._student, subject, subject.trials[index], self._inputs, of="final", seed=self._seed
        )
        name = f"{subject.name}-final"
        final.run(
            self._checkpoint(name),
            f"{self._key}/{name}",
            self._log(f"{subject.name}/final"),
            steps=fitted.best_step,
        )
        final.write(self._out / "final")
        return {
            "chosen": subject.trials[index].model_dump(),
            "steps": fitted.best_step,
            "validation_recall_at_10": scores,
            "trials": [trial.model_dump() for trial in subject.trials],
            "parameters": sum(p.numel() for p in training.student.parameters() if p.requires_grad),
        }

    def _checkpoint(self, name: str) -> Path:
        return self._out / f".{name}.checkpoint"
