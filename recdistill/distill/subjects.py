"""Who is trained by the stage: a name, and the trials among which validation chooses."""

from __future__ import annotations

from dataclasses import dataclass

from recdistill.distill.config import DistillConfig, Trial, Weights

STUDENT = "student"
CONTENT_STUDENT = "content_student"


@dataclass(frozen=True)
class Subject:
    """One model of the stage.

    Attributes:
        name: of its files, its curves and its records.
        trials: what validation chooses among.
        may_start_pretrained: begins from content-aware training where the recipe says so.
    """

    name: str
    trials: tuple[Trial, ...]
    may_start_pretrained: bool = False


# As many as the student has by default: it is no fair bar otherwise.
_CONTENT_ONLY = tuple(
    Trial(weights=Weights.only(item_to_item=1.0), temperature=temperature) for temperature in (0.1, 0.05, 0.2)
)


def subjects(config: DistillConfig) -> tuple[Subject, ...]:
    """The content-only student, which is the same model without behaviour, and the student."""
    return (Subject(CONTENT_STUDENT, _CONTENT_ONLY), Subject(STUDENT, config.trials, may_start_pretrained=True))
