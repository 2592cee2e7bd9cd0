"""Settings of the ``mine`` stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recdistill.settings import Settings

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
    a log with fewer users or fewer kinds of behaviour needs more targets and a lower threshold.
    """

    perspectives: tuple[Perspective, ...] = Field(PERSPECTIVES, min_length=1)
    history: int = Field(
        1000, ge=1, description="a query draws on so many of the user's latest items before the target"
    )
    length: int = Field(10, ge=1, description="items in a query sequence, at most")
    min_length: int = Field(2, ge=1, description="a shorter query is dropped")
    targets_per_user: int = Field(
        1000, ge=1, description="latest positive items of a user that serve as targets; the report has 1"
    )
    single_peak_behaviours: int = Field(
        3, ge=1, description="positive behaviours an item needs in the single-peak perspectives"
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
        description="share of the user's interactions that the clusters of the collaborative single peak carry",
    )
    teacher: str = Field("id_teacher", description="teacher table whose vectors are clustered")
    content_width: int = Field(
        128, ge=2, description="content is compared by so many principal components (narrower content as it is)"
    )
