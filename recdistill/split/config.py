"""Settings of the ``split`` stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from recdistill.settings import Settings


class SplitConfig(Settings):
    """How interactions are divided.

    ``time``: two global cuts; everything before the first trains, between them validates, from the second on tests.
    ``folds``: K folds, disjoint in users *and* cold in items: fold k asks its own users about a catalogue of which
    its own items are missing from all training. Small logs need it: every user is tested once.
    """

    protocol: Literal["time", "folds"] = "time"
    validation: float = Field(0.2, gt=0, lt=1, description="share of the interactions in the validation window (time)")
    test: float = Field(0.2, gt=0, lt=1, description="share of the interactions in the test window (time)")
    folds: int = Field(5, ge=2, description="K (folds)")
    one_fold_a_seed: bool = Field(
        False,
        description="the i-th seed runs fold i mod K alone (folds): K seeds ask every user once, for 1/K of the cost",
    )
    validation_users: float = Field(
        0.125, gt=0, lt=1, description="share of a fold's other users that validate (folds)"
    )
    validation_items: float = Field(
        0.125, gt=0, lt=1, description="share of a fold's other items that validate (folds)"
    )
    seed: int = Field(0, ge=0, description="seed of the fold assignment and of the order among equal times")

    @model_validator(mode="after")
    def _leaves_training(self) -> SplitConfig:
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must be below 1, or nothing is left to train on")
        return self

    @model_validator(mode="after")
    def _has_folds(self) -> SplitConfig:
        if self.one_fold_a_seed and self.protocol == "time":
            raise ValueError("one_fold_a_seed is of protocol 'folds': under 'time' nothing reads it")
        return self

    def fold_names(self) -> tuple[str, ...]:
        """Names of the folds, each a folder of the stage's output."""
        return ("time",) if self.protocol == "time" else tuple(f"fold-{k}" for k in range(self.folds))

    def runs(self, seeds: Sequence[int]) -> tuple[tuple[int, str], ...]:
        """The (seed, name of the fold) pairs that are trained and judged, in the seeds' order."""
        folds = self.fold_names()
        if self.one_fold_a_seed:
            return tuple((seed, folds[at % len(folds)]) for at, seed in enumerate(seeds))
        return tuple((seed, fold) for seed in seeds for fold in folds)
