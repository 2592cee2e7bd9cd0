"""Settings of the ``rank`` stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from recdistill.features.config import MatchConfig, SemanticIdConfig
from recdistill.lifetime.config import LifetimeConfig
from recdistill.settings import Settings

Group = Literal["none", "random", "raw_content", "kernel_ridge", "id_teacher", "student", "raw_content+student"]
Feature = Literal["match", "semantic_ids", "embedding"]


class LabelConfig(Settings):
    """What counts as a negative."""

    min_negative_share: float = Field(
        0.05, ge=0, le=1, description="share of events without positive behaviour from which on they are the negatives"
    )
    sampled: int = Field(4, ge=1, description="negatives drawn for each positive where the log has too few of its own")


class DlrmConfig(Settings):
    """The ranker and its training."""

    width: int = Field(16, ge=1, description="of every embedding table and of the dense branch")
    dense_layers: tuple[int, ...] = Field((64,), description="hidden layers of the dense branch")
    over_layers: tuple[int, ...] = Field((64, 32), description="hidden layers above the interactions")
    min_id_count: int = Field(5, ge=1, description="training rows below which users and items share one 'rare' vector")
    max_tags: int = Field(2_000, ge=1, description="most frequent tags that get a vector")
    epochs: int = Field(15, ge=1, description="at most; the best one on the newest rows is kept")
    batch_size: int = Field(512, ge=1)
    learning_rate: float = Field(3e-3, gt=0, description="of the layers (AdamW)")
    embedding_learning_rate: float = Field(0.002, gt=0, description="of the tables (Adagrad)")
    weight_decay: float = Field(0.3, ge=0, description="of the layers")
    validation: float = Field(0.2, gt=0, lt=1, description="newest share of the ranker's rows that chooses the epoch")
    patience: int = Field(3, ge=0, description="epochs without gain before training stops (0: never)")


class RankConfig(Settings):
    """Which feature groups are tried in which ranker."""

    groups: tuple[Group, ...] = Field(
        ("none", "random", "raw_content", "kernel_ridge", "id_teacher", "student", "raw_content+student"),
        description="feature groups to compare; 'none' is the base that all others add to",
    )
    features: tuple[Feature, ...] = Field(
        ("match", "semantic_ids", "embedding"), min_length=1, description="what a group makes of its tables"
    )
    centre: bool = Field(True, description="take the catalogue's mean off every table before cosines")
    embedding_width: int = Field(16, ge=1, description="principal components that the ranker gets of a vector")
    smoothing: float = Field(10.0, ge=0, description="events at the global rate that smooth each positive rate")
    match: MatchConfig = MatchConfig()
    semantic_ids: SemanticIdConfig = SemanticIdConfig()
    labels: LabelConfig = LabelConfig()
    dlrm: DlrmConfig = DlrmConfig()
    gauc_weight: Literal["impressions", "users"] = Field(
        "impressions", description="GAUC weighs a user by rows, or all users alike"
    )
    draws: int = Field(500, ge=10, description="user bootstrap draws behind each interval")
    lifetime: LifetimeConfig = LifetimeConfig()

    @field_validator("groups")
    @classmethod
    def _has_base(cls, groups: tuple[Group, ...]) -> tuple[Group, ...]:
        if "none" not in groups:
            raise ValueError("groups must contain 'none': the deltas are taken against it")
        if len(set(groups)) < len(groups):
            raise ValueError("groups repeats a name")
        return groups
