"""Settings of the ``mine`` stage."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from recdistill.contracts import names
from recdistill.contracts.behaviour_rule import BehaviourRule
from recdistill.retrieval.clusters import Kind
from recdistill.settings import Settings

_SINGLE_PEAK_BEHAVIOURS = 3  # the report's

Perspective = Literal[
    "content_single_peak", "content_multi_peak", "collaborative_single_peak", "collaborative_multi_peak"
]
PERSPECTIVES: tuple[Perspective, ...] = (
    "content_single_peak",
    "content_multi_peak",
    "collaborative_single_peak",
    "collaborative_multi_peak",
)
# Columns of the interactions contract that a behaviour may be read from, beside its own column of labels.
RULE_COLUMNS = (names.VALUE, names.POSITION, names.DWELL, names.IMPRESSION_ID, names.SESSION_ID)


class MiningConfig(Settings):
    """Thresholds of the four perspectives (SAIL-Embedding, 2510.12709, 3.3.5).

    The report takes one target a user and asks for three positive behaviours of the single-peak perspectives;
    a log with fewer users needs more targets, and one with fewer kinds of behaviour a lower threshold: by default it is
    that number of kinds, or the single-peak perspectives would be empty. ``funnel.json`` says the number used.
    """

    perspectives: tuple[Perspective, ...] = Field(PERSPECTIVES, min_length=1)

    # What a positive behaviour is
    labels: tuple[str, ...] | None = Field(
        None, min_length=1, description="behaviour labels of the log that count; null: all"
    )
    behaviours: tuple[BehaviourRule, ...] = Field(
        (), description=f"further labels, from columns of the interactions table: {', '.join(RULE_COLUMNS)}"
    )

    # Which events
    history: int = Field(
        1000, ge=1, description="a query draws on so many of the user's latest positive events before the target"
    )
    length: int = Field(10, ge=1, description="items in a query sequence, at most")
    min_length: int = Field(2, ge=1, description="a shorter query is dropped")
    targets_per_user: int = Field(
        1000, ge=1, description="latest positive items of a user that serve as targets; the report has 1"
    )
    target_behaviours: int = Field(1, ge=1, description="positive behaviours that make an item a target")
    single_peak_behaviours: int | None = Field(
        None,
        ge=1,
        description="positive behaviours an item needs in the single-peak perspectives; "
        "null: 3, or as many as the log has kinds of, if these are fewer",
    )
    multi_peak_behaviours: int = Field(1, ge=1, description="the same in the multi-peak perspectives")
    jaccard: float = Field(
        0.5, ge=0, le=1, description="behaviour sets of item and target agree above this Jaccard similarity"
    )

    # Content
    content: Path | None = Field(
        None,
        description="Parquet table of item vectors by which content is compared (item_embeddings.yaml), e.g. a "
        "student's of another run; one for both fits and all folds, so it may not have seen the windows that validate "
        "and test; null: the raw content of the encoders",
    )
    content_width: int = Field(
        128, ge=2, description="content is compared by so many principal components (narrower content as it is)"
    )
    content_similarity: float = Field(
        -1.0, ge=-1, le=1, description="least cosine to the target's content in the content single peak"
    )

    # Clusters
    teacher: str = Field("id_teacher", description="teacher table whose vectors are clustered")
    tags: str | None = Field(
        None,
        description="field of tags of the items table whose values are the clusters, in place of the teacher's: "
        "an item is of its rarest tag that ten items have",
    )
    clusters: int = Field(
        64, ge=1, description="clusters of the ID teacher's vectors (k-means), at most one per ten items"
    )
    kmeans: Kind = Field("auto", description="all vectors at once or in mini-batches; auto: the latter above 50,000")
    coverage: float = Field(
        0.8,
        gt=0,
        le=1,
        description="share of the user's positive events that the clusters of the collaborative single peak carry",
    )

    # How it is done; no result depends on these
    engine: Literal["local", "spark"] = Field(
        "local", description="spark (`pip install recdistill[spark]`): in the session that is there, or one made here"
    )
    partition_events: int = Field(
        1 << 18, ge=1, description="events of the users that are mined at once; memory goes with it"
    )
    threads: int | None = Field(
        None, ge=1, description="partitions mined side by side (local); null: OMP_NUM_THREADS, or one a processor"
    )

    @model_validator(mode="after")
    def _columns_of_the_contract(self) -> Self:
        for rule in self.behaviours:
            if rule.column is not None and rule.column not in RULE_COLUMNS:
                raise ValueError(
                    f"behaviour '{rule.name}' reads column '{rule.column}'; there are {', '.join(RULE_COLUMNS)}"
                )
        return self

    def single_peak_needs(self, kinds: int) -> int:
        """Positive behaviours that the single-peak perspectives ask of an item, in a log with so many kinds of them."""
        if self.single_peak_behaviours is not None:
            return self.single_peak_behaviours
        return max(1, min(_SINGLE_PEAK_BEHAVIOURS, kinds))
