"""Settings of the ``distill`` stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recdistill.settings import Settings


class Weights(Settings):
    """Weights of the objectives; 0 leaves one out."""

    sequence_to_item: float = Field(1.0, ge=0, description="InfoNCE of mined query sequence → target item")
    relational: float = Field(
        1.0, ge=0, description="KL between the ID teachers' and the student's similarity structure"
    )
    alignment: float = Field(0.0, ge=0, description="1 − cosine between projected student and ID teachers")
    item_to_item: float = Field(
        0.03, ge=0, description="InfoNCE between two views of an item under modality dropout: content perception"
    )

    @classmethod
    def only(cls, **weights: float) -> Weights:
        """These objectives and no other."""
        return cls.model_validate(dict.fromkeys(cls.model_fields, 0.0) | weights)


class Trial(Settings):
    """What validation chooses among: the settings that no log tells beforehand."""

    weights: Weights = Weights()
    temperature: float = Field(0.07, gt=0, description="of both InfoNCE objectives")
    log_q: float = Field(
        1.0,
        ge=0,
        le=1,
        description="strength of the sampling correction; 1 lets vectors carry popularity, 0 removes it",
    )
    history_power: float = Field(
        0.0, ge=0, le=1, description="a pair weighs its user's pair count to the minus this power"
    )


class DistillConfig(Settings):
    """How the student is trained (METHOD 4). The defaults suit a small frozen-tower student."""

    teachers: tuple[str, ...] = Field(("id_teacher",), description="tables that relational and alignment distil from")
    trials: tuple[Trial, ...] = Field(
        (Trial(), Trial(temperature=0.05), Trial(weights=Weights(relational=0))),
        min_length=1,
        description="each is trained in the selection fit; validation picks one (one without ID teachers by default, "
        "so that a bad teacher is left out)",
    )
    start: Literal["fresh", "pretrained"] = Field(
        "fresh", description="the student's first weights: drawn, or those that content-aware training left"
    )
    sequence_head: Literal["mean", "transformer"] = Field(
        "mean", description="how a query sequence becomes one vector in training"
    )
    steps: int = Field(400, ge=1)
    batch_size: int = Field(512, ge=2, description="interest pairs a step")
    learning_rate: float = Field(1e-3, gt=0, description="peak of the one-cycle schedule")
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    relational_temperature: float = Field(
        0.1, gt=0, description="of student and teacher similarities in the relational term"
    )
    validate_every: int = Field(50, ge=1)
    patience: int = Field(4, ge=0, description="validations without a better score before training stops (0: never)")
