"""Settings of the questions asked of users, and of the level of new items, wherever something is chosen or judged."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recdistill.settings import Settings


class QuestionsConfig(Settings):
    """Some of a user's past as query, a later positive as target (METHOD 5, seq2item)."""

    length: int = Field(10, ge=1, description="query items, drawn at random from the pool")
    last: int = Field(100, ge=1, description="pool of the vanilla benchmark: the last so many earlier positives")
    max_targets: int = Field(30, ge=1, description="targets a user")
    min_positive: int = Field(1, ge=1, description="behaviours that make an event positive")
    min_history: int = Field(5, ge=1, description="earlier positives a target needs to be asked for")
    exclude_history: bool = Field(
        True,
        description="what a user met before the target is no candidate, and a target met before is not asked for; "
        "false where people come back to the same items and that is what counts",
    )
    max_users: int = Field(5000, ge=1, description="judged users, drawn at random above it")
    validation_users: int = Field(1000, ge=1, description="users asked where settings are chosen")
    validation_cases: int = Field(4000, ge=1, description="of their questions, so many at most, drawn at random")


class LevelConfig(Settings):
    """The new-item level: one number added to the score of every item that training did not know."""

    level: float | Literal["validated", "share"] = Field(
        "validated",
        description="the number itself; or chosen on the validation window: validated = what gives new items most "
        "while all items keep their part, share = what gives new items their share of the places",
    )
    keep: float = Field(
        0.9, gt=0, le=1, description="validated: part of the best recall of all items that is kept at least"
    )
    share: float = Field(0.1, ge=0, le=1, description="share: of the first places, so many are new items'")
    all_at: int = Field(10, ge=1, description="k of the recall of all items, and places of a recommended list")
    cold_at: int = Field(25, ge=1, description="k of the recall of new items, over the full catalogue")
