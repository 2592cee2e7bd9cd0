"""Settings of the features that downstream rankers get."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator

from recdistill.settings import Settings

Size = Annotated[int, Field(ge=1)]
# Weights are exp((cosine - 1) / temperature): at a thousandth all of a history's, and the prior's, are 0 in float64.
_COLDEST = 0.01


class RqVaeConfig(Settings):
    """The autoencoder of ``method: rqvae`` and its training (TIGER, arXiv 2305.05065, section 3.1)."""

    hidden: tuple[Size, ...] = Field((256,), description="widths of the encoder's layers; the decoder mirrors them")
    latent: int = Field(32, ge=1, description="width of what is quantised")
    steps: int = Field(1000, ge=1, description="training steps")
    batch: int = Field(1024, ge=1, description="items a step, all of a smaller catalogue")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam")
    commitment: float = Field(0.25, ge=0, description="weight of what draws latents to their codes")
    decay: float = Field(0.95, gt=0, lt=1, description="of the codebooks' moving averages, a step")


class SemanticIdConfig(Settings):
    """Codebooks of the semantic IDs."""

    method: Literal["kmeans", "residual_kmeans", "rqvae"] = Field(
        "residual_kmeans",
        description="kmeans: every level codes the vector itself; residual_kmeans: a level codes what the levels "
        "before it left over; rqvae: the same in the latent of an autoencoder trained with the codebooks, for which "
        "the extra 'rqvae' must be installed",
    )
    sizes: tuple[Size, ...] = Field(
        (32, 32), min_length=1, max_length=8, description="codebook size of each level, coarse to fine"
    )
    rqvae: RqVaeConfig = RqVaeConfig()

    @field_validator("sizes")
    @classmethod
    def _numbered(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if math.prod(sizes) >= 2**63:
            raise ValueError("codebooks of these sizes have more IDs than 64 bits can number")
        return sizes


class MatchConfig(Settings):
    """Similarity of a candidate to the user's history; :mod:`recdistill.features.match_module` says of what kinds."""

    last: int = Field(50, ge=1, le=4096, description="newest positives of the user that are compared")
    top_k: int = Field(3, ge=1, description="how many of the most similar ones match_topk averages")
    half_life_days: float = Field(30.0, gt=0, description="age at which a positive counts half in match_decayed")
    interests: int = Field(
        32, ge=1, description="clusters of the catalogue by which a history is grouped; at most one per ten items"
    )
    min_behaviours: int = Field(1, ge=1, description="positive behaviours that make an event part of the history")


class ReactionConfig(Settings):
    """How the user reacted to what is like a candidate."""

    last: int = Field(300, ge=1, description="newest events of the user that are compared, pleasing or not")
    temperatures: tuple[float, ...] = Field(
        (0.1, 0.3),
        min_length=1,
        description="an event at cosine c counts exp((c - 1) / temperature); a column each; at least 0.01",
    )

    @field_validator("temperatures")
    @classmethod
    def _warm_enough(cls, temperatures: tuple[float, ...]) -> tuple[float, ...]:
        if min(temperatures) < _COLDEST:
            raise ValueError(
                f"temperatures must be at least {_COLDEST}: in colder ones other items' events weigh nothing"
            )
        return temperatures
