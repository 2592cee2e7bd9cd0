"""What is left of a trial that loses some of its objectives."""

from __future__ import annotations

from collections.abc import Collection

from recdistill.distill.config import OF_TEACHERS, Trial, Weights


def without_objectives(trial: Trial, lost: Collection[str]) -> Trial | None:
    """The trial with these weights at 0, and without settings that then nobody reads; None if nothing is left.

    Settings that nobody reads are at their defaults, so that trials that train alike are equal. A phase that has no
    objective any more is gone, and the last one takes its steps.
    """
    weights = Weights.model_validate(dict(trial.weights) | dict.fromkeys(lost, 0.0))
    left = {name for name, weight in dict(weights).items() if weight}
    phases = tuple(phase for phase in trial.phases if left & set(phase.objectives))
    if not left or (trial.phases and not phases):
        return None
    default = {name: field.default for name, field in Trial.model_fields.items() if name in _unread(left)}
    return Trial.model_validate(dict(trial) | default | {"weights": weights, "phases": phases})


def _unread(objectives: Collection[str]) -> set[str]:
    """Settings of a trial that none of these objectives reads, of those that teachers are read by."""
    readers = {
        "teachers": OF_TEACHERS,
        "confidence_power": OF_TEACHERS,
        "popularity_power": OF_TEACHERS,
        "catalogue_items": [name for name in OF_TEACHERS if name != "ranking"],
        "alignment": ["alignment"],
        "ranking": ["ranking"],
        "soft_targets": ["soft_targets"],
        "hard_negatives": ["sequence_to_item", "soft_targets"],
    }
    return {name for name, of in readers.items() if not set(of) & set(objectives)}
