"""Who is trained by the stage: a name, and the trials among which validation chooses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from recdistill.distill.config import OF_TEACHERS, DistillConfig, Rival, RivalOptions, Trial, Weights
from recdistill.distill.lesser import without_objectives

STUDENT = "student"
SEQUENCE_STUDENT = "sequence_student"
CONTENT_STUDENT = "content_student"


@dataclass(frozen=True)
class Subject:
    """One model of the stage.

    Attributes:
        name: of its files, its curves and its records.
        trials: what validation chooses among.
        may_start_pretrained: begins from content-aware training where the recipe says so.
        is_rival: a published cold-start method: chosen by the area under the frontier, steps included, and leaves its
            vectors alone, since its model is only half of what it serves.
    """

    name: str
    trials: tuple[Trial, ...]
    may_start_pretrained: bool = False
    is_rival: bool = False


# As many as the student has by default: it is no fair bar otherwise.
_TEMPERATURES = (0.1, 0.05, 0.2)
_CONTENT_ONLY = tuple(
    Trial(weights=Weights.only(item_to_item=1.0), temperature=temperature) for temperature in _TEMPERATURES
)


# More than any student is tried with; each takes as many as the student has, in this order.
_OF_RIVALS: dict[Rival, tuple[Trial, ...]] = {
    "dropoutnet": tuple(
        Trial(weights=Weights.only(dropoutnet=1.0), temperature=temperature, rival=RivalOptions(dropout=dropout))
        for temperature, dropout in ((0.1, 0.5), (0.1, 0.8), (0.1, 0.2), (0.3, 0.5), (0.05, 0.5), (0.3, 0.8))
    ),
    "clcrec": tuple(
        Trial(weights=Weights.only(clcrec=1.0), temperature=temperature, rival=RivalOptions(balance=balance))
        for temperature, balance in ((0.1, 0.5), (0.2, 0.5), (0.05, 0.5), (0.1, 0.9), (0.1, 0.1), (0.5, 0.5))
    ),
    "aldi": tuple(
        Trial(weights=Weights.only(aldi=1.0), temperature=temperature, rival=RivalOptions(rating=rating))
        for temperature, rating in ((0.1, 0.1), (0.05, 0.1), (0.1, 0.5), (0.2, 0.1), (0.05, 0.5), (0.1, 0.0))
    ),
}


def subjects(config: DistillConfig) -> tuple[Subject, ...]:
    """The content-only student, which is the same model without behaviour, the student, and its rivals.

    Between the two, if the settings ask for it, stands the student of mined sequences alone: what is distilled from
    teachers is what the student has beyond it.
    """
    alone = _of_sequences_alone(config.trials) if config.sequence_student else ()
    rivals = (
        Subject(name, tuple(islice(_OF_RIVALS[name], len(config.trials))), is_rival=True) for name in config.rivals
    )
    return (
        Subject(CONTENT_STUDENT, _CONTENT_ONLY),
        *([Subject(SEQUENCE_STUDENT, alone, may_start_pretrained=True)] if alone else []),
        Subject(STUDENT, config.trials, may_start_pretrained=True),
        *rivals,
    )


def _of_sequences_alone(trials: tuple[Trial, ...]) -> tuple[Trial, ...]:
    """The trials without any teacher, each once; none where no trial has a teacher, or none has sequences.

    Without their teachers several are the same: it is tried at other temperatures, up to as often as the student is.
    """
    if not any(trial.distils or trial.weights.soft_targets for trial in trials):
        return ()
    lesser = [without_objectives(trial, (*OF_TEACHERS, "soft_targets")) for trial in trials]
    alone = [trial for trial in lesser if trial is not None and _learns_sequences(trial)]
    at = [trial.model_copy(update={"temperature": of}) for of in _TEMPERATURES for trial in alone]
    return tuple(islice(_distinct([*alone, *at]), len(trials)))


def _learns_sequences(trial: Trial) -> bool:
    in_phases = not trial.phases or any("sequence_to_item" in phase.objectives for phase in trial.phases)
    return bool(trial.weights.sequence_to_item) and in_phases


def _distinct(trials: Iterable[Trial]) -> Iterator[Trial]:
    found: list[Trial] = []
    for trial in trials:
        if trial not in found:
            found.append(trial)
            yield trial
