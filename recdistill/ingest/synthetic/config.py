"""Settings of the planted world."""

from __future__ import annotations

from datetime import date

from pydantic import Field, model_validator

from recdistill.ingest.synthetic.vocabulary import TOPICS
from recdistill.settings import Settings


class WorldConfig(Settings):
    """How many users, items and days the planted world has, and how its users, platform and content behave.

    The defaults are the embedded default of the demo. Tests use ``WorldConfig.tiny()``.
    """

    seed: int = Field(0, ge=0, description="every number of the world follows from this and the other settings")
    users: int = Field(2_000, ge=1, le=10_000_000)
    items: int = Field(1_200, ge=8, le=10_000_000)
    topics: int = Field(16, ge=2, le=len(TOPICS), description="true topics, four to a genre")
    days: int = Field(70, ge=2, le=90, description="length of the log; LT30 needs more than 30")
    start: date = Field(date(2025, 1, 1), description="first day (UTC)")

    # The platform
    slots: int = Field(6, ge=1, le=20, description="items shown on a page (one impression)")
    candidates: int = Field(14, ge=1, le=64, description="items drawn for a page, of which the best-scored are shown")
    personalised: float = Field(0.7, ge=0, le=1, description="share of candidates drawn from the user's own topics")
    fresh: float = Field(0.1, ge=0, le=1, description="share of candidates drawn from the last week's new items")
    ranker_noise: float = Field(0.3, ge=0, description="s.d. of the error of the platform's affinity estimate")
    popularity_sigma: float = Field(0.5, ge=0, description="s.d. of the log of an item's exposure weight")
    new_items: float = Field(0.4, ge=0, lt=1, description="share of items that arrive during the log")

    # The users
    new_users: float = Field(0.3, ge=0, le=1, description="share of users who first come during the log")
    taste_width: float = Field(1.8, gt=0, description="width h of the style match, in s.d. of an item's style")
    drift: float = Field(0.35, ge=0, description="s.d. of an interest's movement over the whole log, per style axis")
    position_decay: float = Field(0.85, gt=0, le=1, description="P(looked at) is decay^(position-1)")
    return_base: float = Field(-3.4, description="mean log-odds of coming on a day with satisfaction 0")
    return_slope: float = Field(4.0, ge=0, description="log-odds of coming on a day gained with satisfaction 1")
    satisfaction_memory: float = Field(0.7, ge=0, lt=1, description="share of the old satisfaction kept at a visit")

    # The content
    clarity: float = Field(1.0, ge=0, le=1, description="how much of taste the content shows; 0 leaves only nuisance")
    media: float = Field(1.0, ge=0, le=1, description="share of items that may have images and audio; 0 writes none")
    missing_image: float = Field(0.1, ge=0, le=1)
    missing_audio: float = Field(0.3, ge=0, le=1)
    missing_description: float = Field(0.15, ge=0, le=1)
    missing_tags: float = Field(0.05, ge=0, le=1)
    image_pixels: int = Field(48, ge=16, le=512, description="side of a drawn image")

    users_per_block: int = Field(4_096, ge=1, description="users simulated at once, from (seed, block)")

    @model_validator(mode="after")
    def _consistent(self) -> WorldConfig:
        if self.candidates < self.slots:
            raise ValueError(f"candidates ({self.candidates}) must be at least slots ({self.slots})")
        if self.personalised + self.fresh > 1:
            raise ValueError("personalised + fresh must not exceed 1")
        return self

    @classmethod
    def tiny(cls, *, seed: int = 0) -> WorldConfig:
        """For tests: 120 users × 80 items, made in well under a second."""
        return cls(seed=seed, users=120, items=80, topics=4, days=35, image_pixels=24, users_per_block=50)

    @classmethod
    def large(cls, *, seed: int = 0) -> WorldConfig:
        """1M users × 100k items, about 100M events, without media."""
        return cls(seed=seed, users=1_000_000, items=100_000, topics=24, return_base=-3.3, media=0.0)
