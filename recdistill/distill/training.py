"""One training of one fit: a subject's model under one trial."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from recdistill.contracts.fold import Fit
from recdistill.contracts.tables import EmbeddingTable, atomic
from recdistill.distill.config import DistillConfig, Trial
from recdistill.distill.heads import MeanHead, TransformerHead
from recdistill.distill.inputs import Inputs
from recdistill.distill.negatives import NegativeMiner
from recdistill.distill.pairs import InterestPairs
from recdistill.distill.popularity import log_popularity, predicted_popularity
from recdistill.distill.step import DistillStep
from recdistill.distill.subjects import Subject
from recdistill.distill.teachers import Scorer, load_targets
from recdistill.distill.terms import Given, build_terms
from recdistill.distill.terms.term import Geometry
from recdistill.distill.validation import AREA, RECALL, Validation
from recdistill.distill.weighting import make_weighting
from recdistill.features.content_level import level_file
from recdistill.students import RecDistillStudent, StudentConfig, build_student
from recdistill.students.skip import Skip
from recdistill.students.stage import RAW_CONTENT
from recdistill.students.tuning import TrainedState, parameter_groups
from recdistill.training import Fitted, LogFn, Stateful, fit

# What a weighting learns must go far in a few hundred steps: its learning rate is so many times the student's.
_OF_WEIGHTING = 20.0


class Training:
    """Everything is built from the seed, so that it can be built again to resume."""

    def __init__(
        self,
        config: DistillConfig,
        student: StudentConfig,
        subject: Subject,
        trial: Trial,
        inputs: Inputs,
        *,
        of: Fit,
        seed: int,
    ) -> None:
        self.config, self.trial, self.of, self.seed, self.features = config, trial, of, seed, inputs.features
        self.subject = subject
        training = inputs.fold.training(of)
        self.item_ids = training.item_ids
        met = np.unique(np.stack([training.user, training.item])[:, training.positive()], axis=1)
        self._support = np.bincount(met[1], minlength=len(self.item_ids))
        self.student = self._begin(student, inputs)
        self.tower_learning_rate = student.tower_learning_rate
        pairs = inputs.mine / of / "interest_pairs.parquet"
        self.pairs = InterestPairs(pairs, training, history_power=trial.history_power)

        torch.manual_seed(seed)
        width = self.student.prefixes[-1]
        self.head: nn.Module = MeanHead()
        if config.sequence_head == "transformer":
            self.head = TransformerHead(width=width, length=self.pairs.query.shape[1])
        self.terms = build_terms(
            Given(
                config,
                trial,
                training,
                self.pairs,
                self.student.prefixes,
                target=lambda name: load_targets(inputs.table(of, name).parent, (name,), self.item_ids)[0],
                scorer=lambda name: Scorer.load(inputs.table(of, name), self.item_ids),
                table=lambda name: EmbeddingTable.read(inputs.table(of, name)),
            )
        )
        dot = any(term.geometry == "dot" for term in self.terms.values())
        self.geometry: Geometry = "dot" if dot else "cosine"
        self.weighting = make_weighting(trial)
        self.negatives = NegativeMiner(trial.hard_negatives, self.pairs, seed=seed)

    def _begin(self, student: StudentConfig, inputs: Inputs) -> RecDistillStudent:
        """With drawn weights, or those that content-aware training left; content is weighed alike in both."""
        weights = inputs.modality_weights
        if inputs.pretrain is None or not self.subject.may_start_pretrained:
            # A rival's scores are dot products, and a skip connection's vectors all have length 1.
            own = student.model_copy(update={"skip": None}) if self.subject.is_rival else student
            return build_student(own, content=inputs.content, seed=self.seed, modality_weights=weights)
        begun: RecDistillStudent = RecDistillStudent.from_pretrained(inputs.pretrain / self.of / "pretrained_student")
        if weights and isinstance(begun.body, Skip):
            begun.body.weigh(inputs.content / RAW_CONTENT, weights)
        return begun

    def run(
        self, checkpoint: Path, key: str, log: LogFn, *, validation: Validation | None = None, steps: int | None = None
    ) -> Fitted:
        """Train, with ``validation`` up to the best step by :meth:`measure`; ``steps`` ends the schedule earlier."""
        config = self.config
        modules = nn.ModuleDict(
            {"student": self.student, "head": self.head, "terms": nn.ModuleDict(dict(self.terms.items()))}
        )
        groups = parameter_groups(
            modules, self.student.tuned, learning_rate=config.learning_rate, share=self.tower_learning_rate
        )
        if learned := list(self.weighting.parameters()):
            groups.append({"params": learned, "lr": _OF_WEIGHTING * config.learning_rate, "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=[group["lr"] for group in groups], total_steps=config.steps + 1
        )
        step = DistillStep(
            student=self.student,
            head=self.head,
            terms=self.terms,
            weighting=self.weighting,
            negatives=self.negatives,
            features=self.features,
            pairs=self.pairs,
            trial=self.trial,
            config=config,
            optimizer=optimizer,
            schedule=schedule,
            seed=self.seed,
        )
        state: dict[str, Stateful] = {
            "modules": TrainedState(modules),
            "weighting": self.weighting,
            "negatives": self.negatives,
            "optimizer": optimizer,
            "schedule": schedule,
        }
        return fit(
            step,
            steps=steps or config.steps,
            seed=self.seed,
            key=key,
            checkpoint=checkpoint,
            log=log,
            state=state,
            description=f"distill · {checkpoint.stem.lstrip('.')}",
            validate=(lambda: self._score(validation)) if validation is not None else None,
            validate_every=config.validate_every,
            # An early phase's objectives may be better than the next one's beginning.
            patience=0 if self.trial.phases else config.patience,
        )

    def measure(self, validation: Validation) -> str:
        """What steps are chosen by: recall, but of a rival the area under the frontier, where that can be asked."""
        return AREA if self.subject.is_rival and validation.asks_about_new else RECALL

    def _score(self, validation: Validation) -> float:
        vectors = self.vectors()
        figure = validation.area if self.measure(validation) == AREA else validation.recall
        return figure(vectors, cosine=self.geometry == "cosine", level=self.level(vectors))

    def level(self, vectors: np.ndarray) -> np.ndarray | None:
        """[I] float32 levels of the items with these vectors, if the trial gives them any."""
        if not self.trial.popularity:
            return None
        return (self.trial.popularity * log_popularity(self._support, vectors)).astype(np.float32)

    def vectors(self) -> np.ndarray:
        """[I, d] float32 of the whole catalogue: unit, as the saved student encodes it, or what a term serves."""
        self.student.eval()
        if self.geometry == "cosine":
            return self.student.encode_store(self.features)
        vectors = torch.from_numpy(self.student.encode_store(self.features, normalize=False))
        with torch.no_grad():
            for term in self.terms.values():
                vectors = term.eval().served(vectors)
        return vectors.numpy()

    def write(self, folder: Path, *, name: str) -> None:
        """Save the model, the sequence head if it has weights, and the catalogue's vectors; of a rival these alone.

        Where items have levels, beside the model what an item that nobody has met gets: a
        :class:`recdistill.features.content_level.ContentLevel`.
        """
        keeps_model = not self.subject.is_rival
        if keeps_model:
            self.student.eval().save_pretrained(folder / name)
        if keeps_model and self.config.sequence_head == "transformer":
            with atomic(folder / f"{name}_sequence_head.safetensors") as temporary:
                save_file(self.head.state_dict(), temporary)
        provenance = {
            "kind": name,
            "geometry": self.geometry,
            "fit": self.of,
            "seed": self.seed,
            **({"prefixes": list(self.student.prefixes)} if keeps_model else {}),
        }
        vectors = self.vectors()
        if keeps_model and self.trial.popularity:  # of items that are yet to come
            predicted_popularity(self._support, vectors).times(self.trial.popularity).save(folder / level_file(name))
        table = EmbeddingTable(self.item_ids, vectors, metadata=provenance, level=self.level(vectors))
        table.write(folder / f"{name}.parquet")
