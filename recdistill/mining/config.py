"""Settings of the ``mine`` stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

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


class MiningConfig(Settings):
    """Thresholds of the four perspectives (SAIL-Embedding, 2510.12709, 3.3.5).

    The report takes one target a user and asks for three positive behaviours of the single-peak perspectives;
    a log with fewer users needs more targets, and one with fewer kinds of behaviour a lower threshold: by default it is
    that number of kinds, or the single-peak perspectives would be empty. ``funnel.json`` says the number used.
    """

    perspectives: tuple[Perspective, ...] = Field(PERSPECTIVES, min_length=1)
    history: int = Field(
        1000, ge=1, description="a query draws on so many of the user's latest positive events before the target"
    )
    length: int = Field(10, ge=1, description="items in a query sequence, at most")
    min_length: int = Field(2, ge=1, description="a shorter query is dropped")
    targets_per_user: int = Field(
        1000, ge=1, description="latest positive items of a user that serve as targets; the report has 1"
    )
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
    clusters: int = Field(
        64, ge=1, description="clusters of the ID teacher's vectors (k-means), at most one per ten items"
    )
    coverage: float = Field(
        0.8,
        gt=0,
        le=1,
        description="share of the user's positive events that the clusters of the collaborative single peak carry",
    )
    teacher: str = Field("id_teacher", description="teacher table whose vectors are clustered")
    content_width: int = Field(
        128, ge=2, description="content is compared by so many principal components (narrower content as it is)"
    )

    def single_peak_needs(self, kinds: int) -> int:
        """Positive behaviours that the single-peak perspectives ask of an item, in a log with so many kinds of them."""
        if self.single_peak_behaviours is not None:
            return self.single_peak_behaviours
        return max(1, min(_SINGLE_PEAK_BEHAVIOURS, kinds))
