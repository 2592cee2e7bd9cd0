"""Settings of the features that downstream rankers get."""

from __future__ import annotations

from pydantic import Field

from recdistill.settings import Settings


class SemanticIdConfig(Settings):
    """Codebooks of the semantic IDs; one size is plain k-means, several are residual k-means."""

    sizes: tuple[int, ...] = Field(
        (32, 32), min_length=1, max_length=8, description="codebook size of each level, coarse to fine"
    )


class MatchConfig(Settings):
    """Similarity of a candidate to the user's history; :mod:`recdistill.features.match_module` says of what kinds."""

    last: int = Field(50, ge=1, le=4096, description="newest positives of the user that are compared")
    top_k: int = Field(3, ge=1, description="how many of the most similar ones match_topk averages")
    half_life_days: float = Field(30.0, gt=0, description="age at which a positive counts half in match_decayed")
    interests: int = Field(
        32, ge=1, description="clusters of the catalogue by which a history is grouped; at most one per ten items"
    )
    min_behaviours: int = Field(1, ge=1, description="positive behaviours that make an event part of the history")
