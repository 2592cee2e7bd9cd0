"""Settings of the ``rank`` stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from recdistill.features.config import MatchConfig, ReactionConfig, SemanticIdConfig
from recdistill.lifetime.config import LifetimeConfig
from recdistill.rankers.names import ModelName, check_group
from recdistill.settings import Settings

Feature = Literal["match", "reaction", "semantic_ids", "embedding"]


class LabelConfig(Settings):
    """What counts as a negative."""

    min_negative_share: float = Field(
        0.05, ge=0, le=1, description="share of events without positive behaviour from which on they are the negatives"
    )
    sampled: int = Field(4, ge=1, description="negatives drawn for each positive where the log has too few of its own")


class NetworkConfig(Settings):
    """What all networks have: their tables, the layers around what is their own, and their training."""

    width: int = Field(16, ge=1, description="of every embedding table and of the dense branch")
    dense_layers: tuple[int, ...] = Field((64,), description="hidden layers of the dense branch")
    over_layers: tuple[int, ...] = Field((64, 32), min_length=1, description="hidden layers above the interactions")
    epochs: int = Field(15, ge=1, description="at most; the best one on the newest rows is kept")
    batch_size: int = Field(512, ge=1)
    learning_rate: float = Field(3e-3, gt=0, description="of the layers (AdamW)")
    embedding_learning_rate: float = Field(0.002, gt=0, description="of the tables (Adagrad)")
    weight_decay: float = Field(0.3, ge=0, description="of the layers")
    patience: int = Field(3, ge=0, description="epochs without gain before training stops (0: never)")


class DlrmConfig(NetworkConfig):
    """Products of all pairs of vectors (Naumov et al., arXiv 1906.00091)."""


class DcnConfig(NetworkConfig):
    """Crosses of bounded degree (DCN-v2; Wang et al., arXiv 2008.13535)."""

    cross_layers: int = Field(2, ge=1, description="each raises the degree of the crosses by one")
    cross_rank: int = Field(16, ge=1, description="of the layers' matrices")


class DinConfig(NetworkConfig):
    """Attention of the candidate over the user's history (Zhou et al., arXiv 1706.06978)."""

    last: int = Field(30, ge=1, description="newest positives of the user that are attended to")
    attention_layers: tuple[int, ...] = Field((36,), min_length=1, description="hidden layers of the activation unit")


class TreesConfig(Settings):
    """Gradient-boosted trees (scikit-learn's histogram implementation)."""

    trees: int = Field(400, ge=1, description="at most; the best number on the newest rows is kept")
    learning_rate: float = Field(0.05, gt=0)
    leaves: int = Field(15, ge=2, description="at most, of a tree")
    min_rows: int = Field(40, ge=1, description="training rows of a leaf at least")
    l2: float = Field(1.0, ge=0, description="shrinks the leaves' values")
    features: float = Field(0.5, gt=0, le=1, description="share of the columns that a split may choose from")
    patience: int = Field(20, ge=1, description="trees without gain before training stops")
    tags: int = Field(32, ge=0, description="most frequent tags that get a column")


class RankConfig(Settings):
    """Which feature groups are tried in which rankers."""

    models: tuple[ModelName, ...] = Field(
        ("dlrm",), min_length=1, description="rankers to train; LT proxies read the scores of the first"
    )
    groups: tuple[str, ...] = Field(
        ("none", "random", "raw_content", "kernel_ridge", "id_teacher", "student", "raw_content+student"),
        description="feature groups to compare, each of one table or of several joined by '+'; 'none' is the base that "
        "all others add to. Of a table there are also <table>_free (what predicts popularity linearly is taken out), "
        "<table>_residual (what centred content predicts linearly is taken out) and <table>_white (whitened)",
    )
    features: tuple[Feature, ...] = Field(
        ("match", "reaction", "semantic_ids", "embedding"),
        min_length=1,
        description="what a group makes of its tables; 'reaction' where the log has negatives of its own",
    )
    centre: bool = Field(True, description="take the catalogue's mean off every table before cosines")
    whitening: float = Field(
        0.5, ge=0, le=1, description="power of the standard deviation that <table>_white divides directions by"
    )
    embedding_width: int = Field(16, ge=1, description="principal components that the ranker gets of a vector")
    smoothing: float = Field(10.0, ge=0, description="events at the global rate that smooth each positive rate")
    item_counts: Literal["training", "live"] = Field(
        "training",
        description="events that the base features count of an item: training leaves items that are new since then "
        "without any, as on their first day; live counts up to each row, as news and short videos are ranked",
    )
    match: MatchConfig = MatchConfig()
    reaction: ReactionConfig = ReactionConfig()
    semantic_ids: SemanticIdConfig = SemanticIdConfig()
    labels: LabelConfig = LabelConfig()
    min_id_count: int = Field(5, ge=1, description="training rows below which users and items share one 'rare' vector")
    max_tags: int = Field(2_000, ge=1, description="most frequent tags that get a vector")
    validation: float = Field(
        0.2, gt=0, lt=1, description="newest share of the rankers' training rows, which chooses epoch or trees"
    )
    dlrm: DlrmConfig = DlrmConfig()
    dcn: DcnConfig = DcnConfig()
    din: DinConfig = DinConfig()
    trees: TreesConfig = TreesConfig()
    draws: int = Field(500, ge=10, description="user bootstrap draws behind each interval")
    lifetime: LifetimeConfig = LifetimeConfig()

    @field_validator("groups")
    @classmethod
    def _has_base(cls, groups: tuple[str, ...]) -> tuple[str, ...]:
        if "none" not in groups:
            raise ValueError("groups must contain 'none': the deltas are taken against it")
        if len(set(groups)) < len(groups):
            raise ValueError("groups repeats a name")
        for group in groups:
            check_group(group)
        return groups

    @field_validator("models")
    @classmethod
    def _no_model_twice(cls, models: tuple[ModelName, ...]) -> tuple[ModelName, ...]:
        if len(set(models)) < len(models):
            raise ValueError("models repeats a name")
        return models
