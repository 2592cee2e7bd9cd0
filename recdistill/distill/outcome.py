"""How a trial validated, and the trial that lacks one of its teachers."""

from __future__ import annotations

from dataclasses import dataclass

from recdistill.distill.config import OF_TEACHERS, DistillConfig, Trial
from recdistill.distill.lesser import without_objectives
from recdistill.distill.margin import Influences
from recdistill.distill.training import Training
from recdistill.distill.validation import RECALL, Validation
from recdistill.training import Fitted


@dataclass(frozen=True)
class Outcome:
    """A finished training of the selection fit.

    Attributes:
        score: what validation chooses by.
        measure: what the best step was chosen by.
        others: the further figures that validation chooses by, by name.
    """

    trial: Trial
    fitted: Fitted
    training: Training
    score: float
    measure: str
    others: dict[str, float]

    @classmethod
    def of(cls, trial: Trial, fitted: Fitted, training: Training, validation: Validation) -> Outcome:
        """Of a training that holds its best state."""
        score, others = fitted.best_score, dict[str, float]()
        measure = training.measure(validation)
        if validation.choose_by != "recall" and measure == RECALL:
            vectors = training.vectors()
            cosine, level = training.geometry == "cosine", training.level(vectors)
            score, others = validation.choice(fitted.best_score, vectors, cosine=cosine, level=level)
        return cls(trial, fitted, training, score, measure, others)

    def beats(self, other: Outcome) -> bool:
        """Whether validation prefers it; by what steps are chosen by where scores are equal, as at 0."""
        return (self.score, self.fitted.best_score) > (other.score, other.fitted.best_score)

    def told(self) -> dict[str, float]:
        """Its figures: what its steps were chosen by, and what it was chosen by itself."""
        figures = {self.measure: self.fitted.best_score, **self.others}
        return {f"validation_{name}": value for name, value in figures.items()}

    def influences(self, validation: Validation) -> Influences:
        """How the score moves with each of who was asked."""
        vectors = self.training.vectors()
        cosine, level = self.training.geometry == "cosine", self.training.level(vectors)
        return validation.influences(vectors, cosine=cosine, level=level)


def teachers_read(config: DistillConfig, trial: Trial) -> tuple[str, ...]:
    """The teachers that a trial reads, for rankings or for places."""
    named = config.teachers_of(trial) if trial.distils else ()
    return tuple(dict.fromkeys([*named, *([trial.soft_targets.teacher] if trial.weights.soft_targets else [])]))


def without(config: DistillConfig, trial: Trial, teacher: str) -> Trial | None:
    """The trial less one teacher, and less the weights of objectives that are then nobody's; None if none is left.

    None too where one of its phases is.
    """
    lost: list[str] = []
    rest = tuple(name for name in config.teachers_of(trial) if name != teacher)
    if trial.distils and not rest:
        lost += OF_TEACHERS
    if trial.soft_targets.teacher == teacher:
        lost.append("soft_targets")
    left = without_objectives(trial, lost)
    if left is None or len(left.phases) < len(trial.phases):
        return None
    return left.model_copy(update={"teachers": rest}) if left.distils else left
