"""One training step: draw, encode each distinct item once, weigh the objectives, update.

Shapes: N distinct items of the step.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from recdistill.distill.batch import Draw, Encoded
from recdistill.distill.config import DistillConfig, Trial
from recdistill.distill.curriculum import Curriculum
from recdistill.distill.negatives import NegativeMiner
from recdistill.distill.pairs import InterestPairs
from recdistill.distill.terms import Term
from recdistill.distill.weighting import Weighting
from recdistill.students import FeatureSource, RecDistillStudent
from recdistill.students.source import Features
from recdistill.training import step_generator


class DistillStep:
    """Callable for :func:`recdistill.training.fit`; holds what a step reads and updates."""

    def __init__(
        self,
        *,
        student: RecDistillStudent,
        head: nn.Module,
        terms: Mapping[str, Term],
        weighting: Weighting,
        negatives: NegativeMiner,
        features: FeatureSource,
        pairs: InterestPairs,
        trial: Trial,
        config: DistillConfig,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        seed: int,
    ) -> None:
        self.student, self.head, self.terms = student, head, terms
        self.weighting, self.negatives = weighting, negatives
        self.features, self.pairs, self.trial, self.config = features, pairs, trial, config
        self._curriculum = Curriculum(trial, tuple(terms), steps=config.steps)
        self.optimizer, self.schedule, self.seed = optimizer, schedule, seed
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._ahead: tuple[int, Draw] | None = None
        # The Transformer head has one width; the mean serves every prefix.
        self._query_widths = student.prefixes if config.sequence_head == "mean" else student.prefixes[-1:]

    def __call__(self, step: int) -> dict[str, float]:
        """Take one step; returns each objective's value and ``loss``, their weighted sum."""
        if self.negatives.due(step):
            self._mine(step)
        for module in (self.student, self.head, *self.terms.values()):
            module.train()
        batch = self._encode(step)
        parts = {name: self.terms[name](batch) for name in self._curriculum.at(step)}
        loss = self.weighting(parts, batch.outputs)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._parameters, self.config.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        return {
            "loss": loss.item(),
            "gradient_norm": norm.item(),
            **{name: value.item() for name, value in parts.items()},
            **self.weighting.told(),
        }

    def _mine(self, step: int) -> None:
        """Mine hard negatives anew, if pairs are coming; what was drawn ahead knew only the old ones."""
        steps = [at for at in self.negatives.until_next(step) if at < self.config.steps and self._meets_pairs(at)]
        if not steps:
            return
        size = self.config.batch_size
        coming = torch.cat([self.pairs.draw_places(size, step_generator(self.seed, at)) for at in steps])
        self.head.eval()
        vectors = torch.from_numpy(self.student.encode_store(self.features))
        self.negatives.refresh(vectors, self.head, step, coming=coming)
        self._ahead = None

    def _encode(self, step: int) -> Encoded:
        drawn, features, present = self._read(step)
        vectors: Tensor = self.student(features, present)
        return Encoded(
            drawn,
            vectors,
            features,
            present,
            student=self.student,
            head=self.head,
            prefixes=self.student.prefixes,
            query_widths=self._query_widths,
        )

    def _read(self, step: int) -> tuple[Draw, Features, Mapping[str, Tensor]]:
        """What the step draws, and its items' features; the next step's are prepared meanwhile."""
        ahead = self._ahead
        drawn = ahead[1] if ahead is not None and ahead[0] == step else self._draw(step)
        features, present = self.features.batch(drawn.rows)
        following = self._draw(step + 1)
        self.features.prefetch(following.rows)
        self._ahead = (step + 1, following)
        return drawn, features, present

    def _meets_pairs(self, step: int) -> bool:
        return any(self.terms[name].on_pairs for name in self._curriculum.at(step))

    def _draw(self, step: int) -> Draw:
        generator, size = step_generator(self.seed, step), self.config.batch_size
        names, items = self._curriculum.at(step), len(self.pairs.log_q)
        if not self._meets_pairs(step):
            # Content alone: items drawn evenly, since a content student knows nothing of popularity.
            return Draw(torch.randint(items, (size,), generator=generator).unique())
        pairs = self.pairs.draw(size, generator)
        hard = self.negatives.of(pairs)
        catalogue = torch.randint(items, (self.trial.catalogue_items,), generator=generator)
        asked = {name: self.terms[name].more(pairs, generator) for name in names}
        more = {name: rows for name, rows in asked.items() if rows is not None}
        drawn = [pairs.target, pairs.query[pairs.query >= 0], hard, catalogue]
        rows = torch.cat([*drawn, *(rows.flatten() for rows in more.values())]).unique()
        return Draw(rows, pairs, hard, catalogue, more)
