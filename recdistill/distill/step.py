"""One training step: draw, encode each distinct item once, weigh the objectives, update.

Shapes: B pairs, L query length, N distinct items of the batch, d student width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recdistill.distill.config import DistillConfig, Trial
from recdistill.distill.pairs import Batch, InterestPairs
from recdistill.distill.teachers import Target
from recdistill.objectives.alignment import alignment
from recdistill.objectives.infonce import infonce
from recdistill.objectives.matryoshka import over_prefixes
from recdistill.objectives.relational import relational
from recdistill.students import FeatureSource, RecDistillStudent
from recdistill.students.source import Features, take
from recdistill.training import step_generator


@dataclass(frozen=True)
class _Draw:
    """What a step draws.

    Attributes:
        rows: [N] its distinct items, ascending.
        place: where among them the pairs' targets are, and behind them the present items of their queries.
        pairs: None where items are drawn, not pairs.
    """

    rows: Tensor
    place: Tensor
    pairs: Batch | None = None


class DistillStep:
    """Callable for :func:`recdistill.training.fit`; holds what a step reads and updates."""

    def __init__(
        self,
        *,
        student: RecDistillStudent,
        head: nn.Module,
        projections: nn.ModuleList,
        features: FeatureSource,
        pairs: InterestPairs,
        targets: Sequence[Target],
        trial: Trial,
        config: DistillConfig,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        seed: int,
    ) -> None:
        self.student, self.head, self.projections = student, head, projections
        self.features, self.pairs, self.targets = features, pairs, targets
        self.trial, self.config = trial, config
        self.optimizer, self.schedule, self.seed = optimizer, schedule, seed
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._ahead: tuple[int, _Draw] | None = None

    def __call__(self, step: int) -> dict[str, float]:
        """Take one step; returns each objective's value and ``loss``, their weighted sum."""
        for module in (self.student, self.head):
            module.train()
        parts = self._objectives(step)
        loss = torch.stack([getattr(self.trial.weights, name) * value for name, value in parts.items()]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._parameters, self.config.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        return {
            "loss": loss.item(),
            "gradient_norm": norm.item(),
            **{name: value.item() for name, value in parts.items()},
        }

    def _objectives(self, step: int) -> dict[str, Tensor]:
        config, trial, weights, parts = self.config, self.trial, self.trial.weights, dict[str, Tensor]()
        drawn, features, there = self._read(step)
        vectors, rows, batch = self.student(features, there), drawn.rows, drawn.pairs
        if batch is None:
            parts["item_to_item"] = self._item_to_item(vectors, features, there)
            return parts
        present = batch.query >= 0
        place = drawn.place
        target = place[: len(batch.target)]
        if weights.sequence_to_item:
            where = torch.zeros_like(batch.query)
            where[present] = place[len(batch.target) :]
            # One gather for queries and targets: F.embedding's backward is much faster than that of indexing.
            gathered = F.embedding(torch.cat([where, target[:, None]], dim=1), vectors)  # [B, L + 1, d]
            log_q = trial.log_q * self.pairs.log_q[batch.target]
            own = torch.arange(len(target))

            def sequence_to_item(prefix: Tensor) -> Tensor:
                query = self.head(prefix[:, :-1], present)
                return infonce(
                    query, prefix[:, -1], own, temperature=trial.temperature, log_q=log_q, excluded=batch.excluded
                )

            # The Transformer head has one width; the mean serves every prefix.
            widths = self.student.prefixes if config.sequence_head == "mean" else (vectors.shape[1],)
            parts["sequence_to_item"] = over_prefixes(sequence_to_item, gathered, widths)
        asked = target.unique()
        for name, weight in (("relational", weights.relational), ("alignment", weights.alignment)):
            if weight:
                parts[name] = torch.stack(
                    [
                        self._distil(name, vectors[asked], rows[asked], teacher, projection)
                        for teacher, projection in zip(self.targets, self.projections, strict=True)
                    ]
                ).mean()
        if weights.item_to_item:
            parts["item_to_item"] = self._item_to_item(vectors[asked], *take(features, there, asked))
        return parts

    def _read(self, step: int) -> tuple[_Draw, Features, Mapping[str, Tensor]]:
        """What the step draws, and its items' features; the next step's are prepared meanwhile."""
        ahead = self._ahead
        drawn = ahead[1] if ahead is not None and ahead[0] == step else self._draw(step)
        features, there = self.features.batch(drawn.rows)
        following = self._draw(step + 1)
        self.features.prefetch(following.rows)
        self._ahead = (step + 1, following)
        return drawn, features, there

    def _draw(self, step: int) -> _Draw:
        generator, size, weights = step_generator(self.seed, step), self.config.batch_size, self.trial.weights
        if not (weights.sequence_to_item or weights.relational or weights.alignment):
            # Content alone: items drawn evenly, since a content student knows nothing of popularity.
            rows = torch.randint(len(self.pairs.log_q), (size,), generator=generator).unique()
            return _Draw(rows, rows)
        pairs = self.pairs.draw(size, generator)
        items = torch.cat([pairs.target, pairs.query[pairs.query >= 0]])
        rows, place = torch.unique(items, return_inverse=True)
        return _Draw(rows, place, pairs)

    def _distil(self, name: str, vectors: Tensor, rows: Tensor, teacher: Target, projection: nn.Module) -> Tensor:
        known, confidence = teacher.vectors[rows], teacher.confidence[rows]
        if name == "alignment":
            return alignment(projection(vectors), known, weight=confidence)
        tau = self.config.relational_temperature
        return over_prefixes(
            lambda prefix: relational(prefix, known, weight=confidence, temperature=tau, teacher_temperature=tau),
            vectors,
            self.student.prefixes,
        )

    def _item_to_item(self, vectors: Tensor, features: Features, there: Mapping[str, Tensor]) -> Tensor:
        other = self.student(features, there)  # another draw of modality dropout: another view
        joined = torch.cat([vectors, other], dim=1).unflatten(1, (2, -1))

        def contrast(views: Tensor) -> Tensor:
            own = torch.arange(len(views))
            return infonce(views[:, 0], views[:, 1], own, temperature=self.trial.temperature)

        return over_prefixes(contrast, joined, self.student.prefixes)
