"""The users of the planted world, made block by block.

Shapes: U users of a block, K = 4 interests at most, S style axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recdistill.ingest.synthetic.catalogue import STYLES, Catalogue, permuted_ids
from recdistill.ingest.synthetic.config import WorldConfig
from recdistill.ingest.synthetic.streams import Stream, generator

INTERESTS = 4

_INTEREST_COUNTS = (0.15, 0.35, 0.3, 0.2)
_AUDIENCE_LOG_ODDS = 2.2  # a fan of a topic likes another of its audience 9 times as likely as any other
_OWN_STYLE = 0.7  # share of the variance of an interest's style that all interests of a user have in common
_STYLE_SPREAD = 1.5  # s.d. of what users want; items have 1, so many users want more of a style than most items have
_RETURN_SPREAD = 0.4


@dataclass(frozen=True)
class Users:
    """Users of a block, or of a whole world.

    Attributes:
        user_ids: [U] strings without information.
        numbers: [U] int64, the number in the id.
        topics: [U, K] int16 topics of interest, all different; -1 pads.
        weight_start, weight_end: [U, K] float32 in [0, 1], the largest of a user is 1; linear in time between.
        style_start, style_end: [U, K, S] float32, where in style an interest lies; linear in time between.
        return_base: [U] float32 log-odds of coming on a day with satisfaction 0.
        signup: [U] int16 the user's first day.
    """

    user_ids: np.ndarray
    numbers: np.ndarray
    topics: np.ndarray
    weight_start: np.ndarray
    weight_end: np.ndarray
    style_start: np.ndarray
    style_end: np.ndarray
    return_base: np.ndarray
    signup: np.ndarray

    def __len__(self) -> int:
        return len(self.signup)


def blocks(config: WorldConfig) -> int:
    """Number of user blocks of a world."""
    return -(-config.users // config.users_per_block)


def build_users(config: WorldConfig, catalogue: Catalogue, *, block: int, numbers: np.ndarray) -> Users:
    """Draw the users of one block from ``(seed, block)``.

    Args:
        numbers: [users] int64 permutation from which ids are made (:func:`user_numbers`).
    """
    first = block * config.users_per_block
    numbers = numbers[first : first + config.users_per_block]
    count = len(numbers)
    rng = generator(config.seed, Stream.USERS, block)
    topics = _topics(rng, catalogue.audience, count)
    weight_start = _weights(rng, topics)
    own = rng.standard_normal((count, 1, STYLES), dtype=np.float32)
    each = rng.standard_normal((count, INTERESTS, STYLES), dtype=np.float32)
    mixed = np.sqrt(np.float32(_OWN_STYLE)) * own + np.sqrt(np.float32(1 - _OWN_STYLE)) * each
    style_start = np.float32(_STYLE_SPREAD) * mixed
    move = rng.standard_normal((count, INTERESTS, STYLES), dtype=np.float32)
    weight_move = rng.standard_normal((count, INTERESTS), dtype=np.float32)
    weight_end = _normalise(weight_start * np.exp(np.float32(config.drift) * weight_move))
    return_base = config.return_base + _RETURN_SPREAD * rng.standard_normal(count, dtype=np.float32)
    late = rng.random(count) < config.new_users
    signup = np.where(late, rng.integers(0, config.days, count), rng.integers(0, min(7, config.days), count))
    return Users(
        user_ids=permuted_ids("u", config.users, numbers),
        numbers=numbers,
        topics=topics,
        weight_start=weight_start,
        weight_end=weight_end,
        style_start=style_start,
        style_end=style_start + np.float32(config.drift) * move,
        return_base=return_base.astype(np.float32),
        signup=signup.astype(np.int16),
    )


def user_numbers(config: WorldConfig) -> np.ndarray:
    """[users] int64 random permutation: user row → number in the id. Memory: 8 bytes a user."""
    return generator(config.seed, Stream.USER_IDS).permutation(config.users)


def _topics(rng: np.random.Generator, audience: np.ndarray, count: int) -> np.ndarray:
    topics = len(audience)
    first = rng.integers(0, topics, count)
    gumbel = rng.gumbel(size=(count, topics))
    score = gumbel + _AUDIENCE_LOG_ODDS * (audience[None, :] == audience[first][:, None])
    score[np.arange(count), first] = np.inf
    kept = min(INTERESTS, topics)
    chosen = np.full((count, INTERESTS), -1, dtype=np.int16)
    chosen[:, :kept] = np.argsort(-score, axis=1, kind="stable")[:, :kept]
    how_many = 1 + rng.choice(INTERESTS, size=count, p=_INTEREST_COUNTS)
    chosen[np.arange(INTERESTS)[None, :] >= how_many[:, None]] = -1
    return chosen


def _weights(rng: np.random.Generator, topics: np.ndarray) -> np.ndarray:
    return _normalise(np.where(topics >= 0, rng.uniform(0.4, 1.0, topics.shape), 0.0))


def _normalise(weight: np.ndarray) -> np.ndarray:
    return (weight / weight.max(axis=1, keepdims=True)).astype(np.float32)
