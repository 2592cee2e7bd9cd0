"""How a trial validated, and the trial that lacks one of its teachers."""

from __future__ import annotations

from dataclasses import dataclass

from recdistill.distill.config import OF_TEACHERS, DistillConfig, Trial
from recdistill.distill.training import RECALL, Training
from recdistill.distill.validation import Validation
from recdistill.training import Fitted


@dataclass(frozen=True)
class Outcome:
    """A finished training of the selection fit.

    Attributes:
        score: what validation chooses by.
        measure: what the best step was chosen by.
        gid: i2i recall@100 in the window's ID space, where it was asked for.
    """

    trial: Trial
    fitted: Fitted
    training: Training
    score: float
    measure: str
    gid: float | None

    @classmethod
    def of(cls, trial: Trial, fitted: Fitted, training: Training, validation: Validation) -> Outcome:
        """Of a training that holds its best state."""
        score, gid = fitted.best_score, None
        measure = training.measure(validation)
        if validation.choose_by != "recall" and measure == RECALL:
            vectors = training.vectors()
            cosine, level = training.geometry == "cosine", training.level(vectors)
            score, gid = validation.choice(fitted.best_score, vectors, cosine=cosine, level=level)
        return cls(trial, fitted, training, score, measure, gid)

    def told(self) -> dict[str, float]:
        """Its figures."""
        figures = {f"validation_{self.measure}": self.fitted.best_score}
        return figures if self.gid is None else figures | {"validation_gid_at_100": self.gid}


def teachers_read(config: DistillConfig, trial: Trial) -> tuple[str, ...]:
    """The teachers that a trial reads, for rankings or for places."""
    named = config.teachers_of(trial) if trial.distils else ()
    return tuple(dict.fromkeys([*named, *([trial.soft_targets.teacher] if trial.weights.soft_targets else [])]))


def without(config: DistillConfig, trial: Trial, teacher: str) -> Trial | None:
    """The trial less one teacher, and less the weights of objectives that are then nobody's; None if none is left."""
    off: dict[str, float] = {}
    rest = tuple(name for name in config.teachers_of(trial) if name != teacher)
    if trial.distils and not rest:
        off |= dict.fromkeys(OF_TEACHERS, 0.0)
    if trial.soft_targets.teacher == teacher:
        off["soft_targets"] = 0.0
    weights = trial.weights.model_copy(update=off)
    left = {name for name, weight in dict(weights).items() if weight}
    phases = tuple(phase for phase in trial.phases if left & set(phase.objectives))
    if not left or len(phases) < len(trial.phases):
        return None
    return trial.model_copy(update={"weights": weights, "teachers": rest or None})
