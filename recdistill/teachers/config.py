"""Settings of the teach stage."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from recdistill.settings import Settings

Geometry = Literal["cosine", "dot"]
Sharding = Literal["row_wise", "table_wise", "planned"]

ID_TEACHER = "id_teacher"
SEQUENCE_TEACHER = "sequence_teacher"
IALS_TEACHER = "ials_teacher"
EASE_TEACHER = "ease_teacher"
FUSION_TEACHER = "fusion_teacher"
NAMES = (ID_TEACHER, SEQUENCE_TEACHER, IALS_TEACHER, EASE_TEACHER, FUSION_TEACHER)


class _TrainedTeacher(Settings):
    dim: int = Field(64, ge=4, multiple_of=4, description="width of the vectors")
    geometry: Geometry = Field(
        "cosine", description="how two vectors compare; a dot product keeps popularity in the vectors' lengths"
    )
    temperature: float = Field(0.1, gt=0, description="divides cosines before the softmax (cosine geometry only)")
    full_softmax_up_to: int = Field(
        20_000, ge=0, description="items in the vocabulary up to which every item is a candidate; above, sampled ones"
    )
    negatives: int = Field(1_024, ge=1, description="items sampled a step, shared by the batch (sampled softmax)")
    negatives_power: float = Field(
        0.75, ge=0, le=1, description="negatives are drawn in proportion to support to this power (0: uniform)"
    )
    logq: float = Field(
        1.0,
        ge=0,
        le=1,
        description="strength of the logQ correction: 1 leaves popularity in the vectors, 0 takes it out",
    )
    dropout: float = Field(0.3, ge=0, lt=1, description="share of a user vector's inputs set to zero")
    batch: int = Field(128, ge=1, description="users a step")
    user_power: float = Field(
        1.0, ge=0, le=1, description="users are drawn in proportion to their positives to this power (0: alike)"
    )
    learning_rate: float = Field(0.1, gt=0, description="of the tables' row-wise Adagrad")
    init_scale: float = Field(0.05, gt=0, description="standard deviation of the tables' initial values")
    l2: float = Field(0.0, ge=0, description="weight of the mean squared length of the candidates' rows")
    steps: int = Field(3_000, ge=1, description="most steps")
    validate_every: int = Field(25, ge=1, description="steps between validations")
    patience: int = Field(6, ge=0, description="stop after so many validations without a better one (0: never)")


class SlotsConfig(Settings):
    """An item table of fewer rows than items: who has one is managed while training (TorchRec's managed collision)."""

    count: int = Field(ge=2, description="rows; the last belongs to nobody")
    policy: Literal["lfu", "lru", "distance_lfu"] = Field(
        "lfu", description="who keeps a row: the most frequent, the latest, or frequency that fades with time"
    )
    admit_after: int = Field(4, ge=1, description="positives of an item that must have been drawn before it gets a row")
    every: int = Field(10, ge=1, description="steps between changes of tenants")


class IdTeacherConfig(_TrainedTeacher):
    """Item vectors by id from users' sets of positives (order plays no part)."""

    loss: Literal["softmax", "bpr"] = Field("softmax", description="softmax over candidates, or BPR over pairs")
    user_form: Literal["history", "table"] = Field(
        "history",
        description="a user is the mean of some of their items' vectors (as retrieval asks), or a row of a user table",
    )
    history: int = Field(10, ge=1, description="most items in a user's mean while training (user_form history)")
    behaviour_weight: float = Field(
        0.0, ge=0, description="a target with b positive behaviours weighs 1 + this × (b − 1)"
    )
    features: tuple[str, ...] = Field(
        (), description="tag fields of the items table whose vectors are added to the item's own"
    )
    feature_min_items: int = Field(2, ge=1, description="items that carry a tag, for it to have a vector")

    slots: SlotsConfig | None = Field(
        None, description="null: every item has a row; with slots, candidates are always sampled ones"
    )

    @model_validator(mode="after")
    def _slots_have_no_tags(self) -> Self:
        if self.slots is not None and self.features:
            raise ValueError("slots and features do not go together: a row that changes hands has no tags of its own")
        return self

    @field_validator("features")
    @classmethod
    def _features_differ(cls, features: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(features)) < len(features):
            raise ValueError(f"features name a field twice: {', '.join(features)}")
        return features


class SequenceTeacherConfig(_TrainedTeacher):
    """A causal Transformer over users' positives in time order, item table shared by input and output."""

    block: Literal["sasrec", "hstu"] = Field(
        "hstu", description="SASRec's block, or HSTU's, which also sees how long before the request each item was taken"
    )

    full_softmax_up_to: int = Field(
        10_000,
        ge=0,
        description="items in the vocabulary up to which every item is a candidate everywhere; above, sampled ones",
    )
    negatives: int = Field(512, ge=1, description="items sampled a step, shared by the batch (sampled softmax)")
    dropout: float = Field(0.5, ge=0, lt=1, description="share of the Transformer's inputs and branches set to zero")
    batch: int = Field(64, ge=1, description="users a step")
    learning_rate: float = Field(0.03, gt=0, description="of the table's row-wise Adagrad")
    validate_every: int = Field(50, ge=1, description="steps between validations")
    patience: int = Field(4, ge=0, description="stop after so many validations without a better one (0: never)")
    user_power: float = Field(
        0.5, ge=0, le=1, description="users are drawn in proportion to their positives to this power"
    )
    loss: Literal["softmax", "gbce"] = Field(
        "softmax", description="softmax over candidates, or gSASRec's binary cross-entropy (without logQ correction)"
    )
    gbce_t: float = Field(0.75, ge=0, le=1, description="calibration of gbce: 0 is plain binary cross-entropy")
    length: int = Field(50, ge=1, description="items of a user that the model sees at once")
    layers: int = Field(2, ge=1, description="Transformer blocks")
    heads: int = Field(2, ge=1, description="attention heads; they divide dim")
    eras: int = Field(
        4,
        ge=0,
        le=16,
        description="the Transformer knows whether a request lies in the log's last half, quarter …, so many of them: "
        "what is in fashion apart from what was",
    )
    pooled_weight: float = Field(
        0.5,
        ge=0,
        description="weight of predicting from the mean of the items so far; makes the table useful by itself",
    )
    dense_learning_rate: float = Field(3e-3, gt=0, description="of the Transformer's AdamW")
    weight_decay: float = Field(0.01, ge=0, description="of the Transformer's AdamW")
    select_by: Literal["state", "mean"] = Field(
        "state", description="validate by the Transformer's state, or by the mean of the query's vectors"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        if self.loss == "gbce" and self.geometry == "cosine":
            raise ValueError("loss gbce needs geometry dot: cosines with most items cannot all be far below zero")
        return self


class ExternalTeacherConfig(Settings):
    """A table ``item_id → vector`` made elsewhere, for instance by a production recommender."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="the teacher's name, and its table's")
    path: Path = Field(
        description="Parquet: item_id, embedding (float32 lists of one width), optional support, confidence"
    )
    geometry: Geometry = Field("cosine", description="how its vectors compare")

    @field_validator("name")
    @classmethod
    def _free(cls, name: str) -> str:
        if name in NAMES:
            raise ValueError(f"'{name}' is the name of a teacher made here")
        return name


class IalsConfig(Settings):
    """Matrix factorisation by alternating least squares, fitted by the package ``implicit``."""

    dim: int = Field(64, ge=2, description="width of the vectors")
    alpha: float = Field(10.0, gt=0, description="weight of a positive against an unknown")
    l2: float = Field(5.0, ge=0, description="penalty of squared factors")
    iterations: int = Field(15, ge=1, description="sweeps over users and items")
    geometry: Geometry = Field("cosine", description="how its vectors are compared")


class EaseTeacherConfig(Settings):
    """Vectors of EASE, the closed-form item-item model."""

    dim: int = Field(128, ge=2, description="width of the vectors: leading directions of EASE's weights")
    l2: float = Field(200.0, gt=0, description="penalty λ")
    max_items: int = Field(20_000, ge=10, description="more items with a positive are refused: 24 · items² bytes")
    geometry: Geometry = Field("dot", description="how its vectors are compared")


class FusionConfig(Settings):
    """Several teachers as one: side by side, their principal components half whitened."""

    of: tuple[str, ...] = Field(min_length=2, description="names of the teachers that are fused")
    dim: int = Field(128, ge=2, description="components kept")


class StreamConfig(Settings):
    """Training from disk, for logs that outgrow memory."""

    above: int = Field(
        50_000_000, ge=0, description="training interactions up to which they are held in memory; above, streamed"
    )
    part: int = Field(
        50_000, ge=1, description="positives of one part on disk; parts are of users whose ids are near each other"
    )
    window_parts: int = Field(80, ge=1, description="parts, drawn at random, that users are drawn from at a time")


class HalvesConfig(Settings):
    """Confidence by what two random halves of the users agree on (``teachers.confidence: halves``)."""

    dim: int = Field(32, ge=2, description="width of each half's item space")
    neighbours: int = Field(50, ge=1, description="nearest references of an item that are compared")
    references: int = Field(1_000, ge=4, description="items, drawn at random, among which neighbours are sought")
    splits: int = Field(4, ge=1, description="times the users are halved")
    prior: float = Field(
        8.0, ge=0, description="splits that the agreement usual for an item's support counts for, beside its own"
    )

    @model_validator(mode="after")
    def _leaves_strangers(self) -> Self:
        if self.references <= 2 * self.neighbours:
            raise ValueError(f"references {self.references} are not more than twice the neighbours {self.neighbours}")
        return self


class TeachersConfig(Settings):
    """Which teachers there are, and what counts as a positive for all of them."""

    id: IdTeacherConfig | None = Field(default_factory=IdTeacherConfig, description="null: none")
    sequence: SequenceTeacherConfig | None = Field(default_factory=SequenceTeacherConfig, description="null: none")
    ials: IalsConfig | None = Field(None, description="null: none")
    ease: EaseTeacherConfig | None = Field(None, description="null: none")
    fusion: FusionConfig | None = Field(None, description="null: none; made last, of the others")
    external: list[ExternalTeacherConfig] = Field(default_factory=list, description="tables made elsewhere")
    min_behaviours: int = Field(1, ge=1, description="positive behaviours that make an event a training positive")
    last: int = Field(1_000, ge=2, description="latest distinct positives of a user that are trained on")
    stream: StreamConfig = Field(default_factory=StreamConfig, description="of logs that outgrow memory")
    sharding: Sharding = Field(
        "row_wise",
        description="how tables are spread over several processes: a range of rows each, whole tables each, or by "
        "TorchRec's planner",
    )
    confidence: Literal["support", "halves"] = Field(
        "support",
        description="confidence of a vector: by the positives behind it, or by whether two halves of the users agree",
    )
    confidence_prior: float = Field(
        5.0, ge=0, description="confidence of a vector behind which n positives stand: n / (n + this) (support)"
    )
    halves: HalvesConfig = Field(default_factory=HalvesConfig, description="of confidence halves")

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [table.name for table in self.external]
        if len(set(names)) < len(names):
            raise ValueError(f"external teachers share a name: {sorted(names)}")
        if self.fusion is not None:
            made = [f"{kind}_teacher" for kind in ("id", "sequence", "ials", "ease") if getattr(self, kind)] + names
            lacking = sorted(set(self.fusion.of) - set(made))
            if lacking:
                raise ValueError(f"fusion.of names {', '.join(lacking)}; there are {', '.join(made)}")
        return self
