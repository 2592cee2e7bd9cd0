"""The ``distill`` stage: interest pairs, teacher tables and content features → students and their item vectors.

Memory: the catalogue's features (4 · I · Σ tokens · width bytes), the pairs (4 · P · L bytes), and a batch's vectors;
of tuned towers the weights, and those that are trained four times more (gradients, two moments, the best state).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recdistill.contracts.fold import Fit, Fold
from recdistill.contracts.tables import write_json
from recdistill.distill.config import DistillConfig, Trial
from recdistill.distill.inputs import Inputs
from recdistill.distill.margin import Influences, standard_error
from recdistill.distill.outcome import Outcome, teachers_read, without
from recdistill.distill.subjects import SEQUENCE_STUDENT, STUDENT, Subject, subjects
from recdistill.distill.training import Training
from recdistill.distill.validation import Validation
from recdistill.evaluation.config import EvaluateConfig
from recdistill.retrieval.config import QuestionsConfig
from recdistill.retrieval.questions import choosing_cases
from recdistill.students import StudentConfig
from recdistill.training import LogFn


def distill(
    config: DistillConfig,
    student: StudentConfig,
    questions: QuestionsConfig,
    judging: EvaluateConfig,
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
    """Write what the students and what they are held against give, and ``out/distill.json``, which tells of it.

    Of each fit, in ``out/<fit>``: the models ``content_student``, ``sequence_student`` (where the settings ask for it,
    and a trial reads teachers) and ``student``, beside each its vectors of the whole catalogue ``<name>.parquet`` and,
    where it gives items levels, ``<name>_level.safetensors``, with a learned head ``<name>_sequence_head.safetensors``;
    of rivals, where the settings name some, the vectors alone. Where a trial reads kernel ridge, ``out/predicted`` has
    ``<fit>/kernel_ridge.parquet``.

    The selection fit runs each trial and keeps the one that validates best (``config.choose_by``), perhaps less the
    teachers that do not help it; the final fit repeats that training on more data, up to the step that validated best
    by seq2item recall@10. The content student is the same model trained by the item-to-item contrast alone: what
    content gives without behaviour.

    Args:
        questions: those of the validation window choose.
        judging: how an ID space of the validation window is made, which teacher kernel ridge predicts, and how, and
            how modalities are weighed for the skip connection.
        data: folder with the canonical ``items`` and ``media`` tables, which tuned towers read.
        content: folder of the ``encode`` stage; teach, mine: folders with ``<fit>/``.
        pretrain: folder with ``<fit>/pretrained_student``, from which the student starts; None: from drawn weights.
        key: fingerprint that a checkpoint must carry to be resumed.
        log: gives the curve of a name.

    Raises:
        UserError: the validation window asks nothing, or an input is missing or broken.
    """
    cases = choosing_cases(questions, fold, seed=seed)
    inputs = Inputs.gather(
        config,
        student,
        judging,
        fold=fold,
        item_ids=cases.item_ids,
        data=data,
        content=content,
        teach=teach,
        mine=mine,
        predicted=out / "predicted",
        pretrain=pretrain,
        seed=seed,
    )
    validation = Validation(cases, fold, judging, config.choose_by, seed)
    run = _Run(config, student, inputs, validation, out=out, seed=seed, key=key, log=log)
    write_json({subject.name: run.train(subject) for subject in subjects(config)}, out / "distill.json")


class _Run:
    """What the trainings of one fold share."""

    def __init__(
        self,
        config: DistillConfig,
        student: StudentConfig,
        inputs: Inputs,
        validation: Validation,
        *,
        out: Path,
        seed: int,
        key: str,
        log: Callable[[str], LogFn],
    ) -> None:
        self._config, self._student, self._inputs, self._validation = config, student, inputs, validation
        self._out, self._seed, self._key, self._log = out, seed, key, log
        self._shared: list[tuple[Trial, Outcome]] = []

    def train(self, subject: Subject) -> dict[str, Any]:
        """Try the trials, write what both fits of the best one give, and tell how it went."""
        best, tried = None, []
        for index, trial in enumerate(subject.trials):
            outcome = self._try(subject, trial, f"selection-{index}")
            tried.append(outcome.told())
            best = outcome if best is None or outcome.beats(best) else best
        assert best is not None  # there is at least one trial
        kept, teachers = (
            self._prune(subject, best) if self._config.prune_teachers and not subject.is_rival else (best, None)
        )
        kept.training.write(self._out / "selection", name=subject.name)
        final = self._training(subject, kept.trial, "final")
        name = f"{subject.name}-final"
        log = self._log(f"{subject.name}/final")
        final.run(self._checkpoint(name), f"{self._key}/{name}", log, steps=kept.fitted.best_step)
        final.write(self._out / "final", name=subject.name)
        told = {
            "chosen": kept.trial.model_dump(),
            "steps": kept.fitted.best_step,
            **{figure: [of[figure] for of in tried] for figure in tried[0]},
            "trials": [trial.model_dump() for trial in subject.trials],
            "parameters": sum(p.numel() for p in kept.training.student.parameters() if p.requires_grad),
        }
        if self._inputs.modality_weights and not subject.is_rival:
            told["modality_weights"] = dict(self._inputs.modality_weights)
        return told if teachers is None else told | {"teachers": teachers}

    def _prune(self, subject: Subject, best: Outcome) -> tuple[Outcome, dict[str, Any]]:
        """One greedy pass: without each teacher in turn; one that does not help is left out for good.

        It helps by more than one standard error of the difference with it and without, paired by who was asked: a hair
        either way says nothing, and fewer teachers are simpler.
        """
        teachers: dict[str, Any] = {}
        influences: Influences | None = None
        for name in teachers_read(self._config, best.trial):
            reduced = without(self._config, best.trial, name)
            if reduced is None:
                continue
            outcome = self._try(subject, reduced, f"selection-without-{name}")
            influences = best.influences(self._validation) if influences is None else influences
            others = outcome.influences(self._validation)
            difference, error = best.score - outcome.score, standard_error(influences, others)
            helps = error is not None and difference > error
            teachers[name] = {
                "with": best.told(),
                "without": outcome.told(),
                "difference": difference,
                "standard_error": error,
                "kept": helps,
            }
            best, influences = (best, influences) if helps else (outcome, others)
        return best, teachers

    def _try(self, subject: Subject, trial: Trial, which: str) -> Outcome:
        """Train a trial; one that the student of sequences alone had already is the same training, and taken over."""
        for other, outcome in self._shared:
            if other == trial and subject.name == STUDENT:
                return outcome
        training = self._training(subject, trial, "selection")
        name = f"{subject.name}-{which}"
        fitted = training.run(
            self._checkpoint(name),
            f"{self._key}/{name}",
            self._log(f"{subject.name}/{which}"),
            validation=self._validation,
        )
        outcome = Outcome.of(trial, fitted, training, self._validation)
        if subject.name == SEQUENCE_STUDENT and trial in self._config.trials:
            self._shared.append((trial, outcome))
        return outcome

    def _training(self, subject: Subject, trial: Trial, of: Fit) -> Training:
        return Training(self._config, self._student, subject, trial, self._inputs, of=of, seed=self._seed)

    def _checkpoint(self, name: str) -> Path:
        return self._out / f".{name}.checkpoint"
