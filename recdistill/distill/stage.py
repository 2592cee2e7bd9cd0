"""The ``distill`` stage: interest pairs, teacher tables and content features → students and their item vectors.

Memory: the catalogue's features (4 · I · Σ tokens · width bytes), the pairs (4 · P · L bytes), and a batch's vectors;
of tuned towers the weights, and those that are trained four times more (gradients, two moments, the best state).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from recdistill.contracts.fold import Fit, Fold
from recdistill.contracts.tables import EmbeddingTable, atomic, write_json
from recdistill.distill.config import DistillConfig, Trial, Weights
from recdistill.distill.heads import MeanHead, TransformerHead
from recdistill.distill.pairs import InterestPairs
from recdistill.distill.step import DistillStep
from recdistill.distill.teachers import load_targets
from recdistill.retrieval.cases import Cases
from recdistill.retrieval.config import QuestionsConfig
from recdistill.retrieval.questions import fold_cases
from recdistill.retrieval.ranks import seq2item_recall
from recdistill.students import FeatureSource, RecDistillStudent, StudentConfig, build_student, feature_source
from recdistill.students.tuning import TrainedState, parameter_groups
from recdistill.training import Fitted, LogFn, fit

STUDENT = "student"
# As many as the student has by default: it is no fair bar otherwise.
CONTENT_ONLY = tuple(
    Trial(weights=Weights(sequence_to_item=0, relational=0, alignment=0, item_to_item=1), temperature=temperature)
    for temperature in (0.1, 0.05, 0.2)
)


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
    inputs = _Inputs(fold, features, content, teach, mine, pretrain)
    summary: dict[str, Any] = {}
    for subject, trials in (("content_student", CONTENT_ONLY), (STUDENT, config.trials)):
        scores: list[float] = []
        chosen: tuple[int, Fitted, _Training] | None = None
        for index, trial in enumerate(trials):
            training = _Training(config, student, trial, inputs, subject, of="selection", seed=seed)
            name = f"{subject}-selection-{index}"
            fitted = training.run(
                out / f".{name}.checkpoint", f"{key}/{name}", log(f"{subject}/selection-{index}"), cases=cases
            )
            if chosen is None or fitted.best_score > max(scores):
                chosen = (index, fitted, training)
            scores.append(fitted.best_score)
        assert chosen is not None  # there is at least one trial
        index, fitted, training = chosen
        training.write(out / "selection", subject)
        final = _Training(config, student, trials[index], inputs, subject, of="final", seed=seed)
        name = f"{subject}-final"
        final.run(out / f".{name}.checkpoint", f"{key}/{name}", log(f"{subject}/final"), steps=fitted.best_step)
        final.write(out / "final", subject)
        summary[subject] = {
            "chosen": trials[index].model_dump(),
            "steps": fitted.best_step,
            "validation_recall_at_10": scores,
            "trials": [trial.model_dump() for trial in trials],
            "parameters": sum(p.numel() for p in training.student.parameters() if p.requires_grad),
        }
    write_json(summary, out / "distill.json")


@dataclass(frozen=True)
class _Inputs:
    """What every training of the stage reads."""

    fold: Fold
    features: FeatureSource
    content: Path
    teach: Path
    mine: Path
    pretrain: Path | None


class _Training:
    """One training of one fit: everything built from the seed, so that it can be built again to resume."""

    def __init__(
        self,
        config: DistillConfig,
        student: StudentConfig,
        trial: Trial,
        inputs: _Inputs,
        subject: str,
        *,
        of: Fit,
        seed: int,
    ) -> None:
        self.config, self.trial, self.of, self.seed, self.features = config, trial, of, seed, inputs.features
        training = inputs.fold.training(of)
        self.item_ids = training.item_ids
        self.student: RecDistillStudent = (
            build_student(student, content=inputs.content, seed=seed)
            if inputs.pretrain is None or subject != STUDENT
            else RecDistillStudent.from_pretrained(inputs.pretrain / of / "pretrained_student")
        )
        self.tower_learning_rate = student.tower_learning_rate
        pairs = inputs.mine / of / "interest_pairs.parquet"
        self.pairs = InterestPairs(pairs, training, history_power=trial.history_power)
        distils = trial.weights.relational or trial.weights.alignment
        self.targets = load_targets(inputs.teach / of, config.teachers, self.item_ids) if distils else []
        torch.manual_seed(seed)
        width = self.student.prefixes[-1]
        self.head: nn.Module = MeanHead()
        if config.sequence_head == "transformer":
            self.head = TransformerHead(width=width, length=self.pairs.query.shape[1])
        self.projections = nn.ModuleList(nn.Linear(width, target.vectors.shape[1]) for target in self.targets)

    def run(
        self, checkpoint: Path, key: str, log: LogFn, *, cases: Cases | None = None, steps: int | None = None
    ) -> Fitted:
        """Train, validating on ``cases`` if given; ``steps`` ends the same schedule earlier."""
        config = self.config
        modules = nn.ModuleDict({"student": self.student, "head": self.head, "projections": self.projections})
        groups = parameter_groups(
            modules, self.student.tuned, learning_rate=config.learning_rate, share=self.tower_learning_rate
        )
        optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=[group["lr"] for group in groups], total_steps=config.steps + 1
        )
        step = DistillStep(
            student=self.student,
            head=self.head,
            projections=self.projections,
            features=self.features,
            pairs=self.pairs,
            targets=self.targets,
            trial=self.trial,
            config=config,
            optimizer=optimizer,
            schedule=schedule,
            seed=self.seed,
        )
        return fit(
            step,
            steps=steps or config.steps,
            seed=self.seed,
            key=key,
            checkpoint=checkpoint,
            log=log,
            state={"modules": TrainedState(modules), "optimizer": optimizer, "schedule": schedule},
            description=f"distill · {checkpoint.stem.lstrip('.')}",
            validate=(lambda: seq2item_recall(self.vectors(), cases, k=10)) if cases is not None else None,
            validate_every=config.validate_every,
            patience=config.patience,
        )

    def vectors(self) -> np.ndarray:
        """[I, d] float32 unit vectors of the whole catalogue, as the saved student encodes it."""
        self.student.eval()
        return self.student.encode_store(self.features)

    def write(self, folder: Path, subject: str) -> None:
        """Save the model, the sequence head if it has weights, and the catalogue's vectors."""
        self.student.eval().save_pretrained(folder / subject)
        if self.config.sequence_head == "transformer":
            with atomic(folder / f"{subject}_sequence_head.safetensors") as temporary:
                save_file(self.head.state_dict(), temporary)
        provenance = {
            "kind": subject,
            "geometry": "cosine",
            "fit": self.of,
            "seed": self.seed,
            "prefixes": list(self.student.prefixes),
        }
        EmbeddingTable(self.item_ids, self.vectors(), metadata=provenance).write(folder / f"{subject}.parquet")
