"""What the platform shows. The logging policy is a mixture of candidates and a noisy ranker, as real ones are.

Shapes: A users active on a day, J pages a user can see on a day, C candidates and M slots a page, U users of the block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recdistill.ingest.synthetic.affinity import affinity
from recdistill.ingest.synthetic.audience import Users
from recdistill.ingest.synthetic.catalogue import DAY, FRESH_DAYS, Catalogue
from recdistill.ingest.synthetic.config import WorldConfig


@dataclass(frozen=True)
class Request:
    """A day's visits, to be answered with pages of items.

    Attributes:
        day: 0-based day of the log.
        rows: [A] rows of the active users.
        pages: [A, J] bool, which pages are asked for.
        seen: [U, ceil(I / 8)] uint8 bit set (little-endian bits): items shown to each user before; do not write.
        rng: the policy's own stream; reactions do not depend on how much it draws.
    """

    day: int
    rows: np.ndarray
    pages: np.ndarray
    seen: np.ndarray
    rng: np.random.Generator


Policy = Callable[[WorldConfig, Catalogue, Users, Request], np.ndarray]
"""Answers a request with [A, J, M] int32 item rows, best first, -1 = empty slot, no item twice for a user.
Every item must have arrived before the day began and not be seen. Another policy makes a simulated A/B test."""


def logging_policy(config: WorldConfig, catalogue: Catalogue, users: Users, request: Request) -> np.ndarray:
    """Candidates by own topics, freshness and popularity; of these the best by true affinity plus noise."""
    items, usable = candidates(config, catalogue, users, request)
    user = np.broadcast_to(request.rows[:, None], items.shape)
    score = np.full(items.shape, -np.inf, dtype=np.float32)
    noise = np.float32(config.ranker_noise) * request.rng.standard_normal(items.shape, dtype=np.float32)
    score[usable] = noise[usable] + affinity(
        users, user[usable], catalogue, items[usable], progress=request.day / config.days, width=config.taste_width
    )
    return best_first(items, score, pages=request.pages.shape[1], slots=config.slots)


def candidates(
    config: WorldConfig, catalogue: Catalogue, users: Users, request: Request
) -> tuple[np.ndarray, np.ndarray]:
    """What the platform's retrieval draws for every page, for a policy to choose from.

    Returns:
        [A, J * C] int32 item rows, and [A, J * C] bool which of them a page that is asked for may show: arrived, not
        seen before, and not further left on another of the day's pages.
    """
    active, pages = request.pages.shape
    items = _candidates(config, catalogue, users, request, (active, pages * config.candidates))
    asked = np.repeat(request.pages, config.candidates, axis=1)
    return items, asked & (items >= 0) & ~is_seen(request.seen, request.rows, items) & ~repeated(items)


def best_first(items: np.ndarray, score: np.ndarray, *, pages: int, slots: int) -> np.ndarray:
    """The best candidates of each page.

    Args:
        items: [A, J * C] candidates.
        score: [A, J * C], -inf = not usable.

    Returns:
        [A, J, M] item rows, -1 padded.
    """
    active = len(items)
    items, score = items.reshape(active, pages, -1), score.reshape(active, pages, -1)
    order = np.argsort(-score, axis=2, kind="stable")[:, :, :slots]
    score = np.take_along_axis(score, order, axis=2)
    return np.where(np.isfinite(score), np.take_along_axis(items, order, axis=2), -1).astype(np.int32)


def is_seen(seen: np.ndarray, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    """[A, n] bool: was the item (rows ≥ 0; others give nonsense) shown to the user before?"""
    return ((seen[rows[:, None], items >> 3] >> (items & 7).astype(np.uint8)) & 1).astype(bool)


def mark_seen(seen: np.ndarray, user: np.ndarray, item: np.ndarray) -> None:
    """Record [n] pairs in the bit set, in place."""
    np.bitwise_or.at(seen, (user, item >> 3), np.left_shift(np.uint8(1), (item & 7).astype(np.uint8)))


def repeated(items: np.ndarray) -> np.ndarray:
    """[A, n] bool: the same item stands further left in the row."""
    order = np.argsort(items, axis=1, kind="stable")
    ordered = np.take_along_axis(items, order, axis=1)
    same = np.zeros(items.shape, dtype=bool)
    same[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    result = np.empty_like(same)
    np.put_along_axis(result, order, same, axis=1)
    return result


def _candidates(
    config: WorldConfig, catalogue: Catalogue, users: Users, request: Request, shape: tuple[int, int]
) -> np.ndarray:
    rng = request.rng
    channel, place = rng.random(shape), rng.random(shape)
    arrived = int(catalogue.arrived[request.day])
    items = np.full(shape, -1, dtype=np.int32)

    own = channel < config.personalised
    rows = np.broadcast_to(request.rows[:, None], shape)[own]
    # channel / personalised is uniform given own: it chooses the interest in proportion to its weight
    running = np.cumsum(users.weight_start, axis=1)
    interest = (running[rows] < (channel[own] / config.personalised)[:, None] * running[rows, -1:]).sum(axis=1)
    items[own] = catalogue.popular_in_topic.draw(users.topics[rows, interest], arrived, place[own])

    old = int(np.searchsorted(catalogue.arrival, catalogue.start + (request.day - FRESH_DAYS) * DAY))
    if arrived > old:
        new = channel >= 1 - config.fresh
        items[new] = old + (place[new] * (arrived - old)).astype(np.int32)

    rest = items < 0  # also where a topic has no item yet
    items[rest] = catalogue.popular.draw(np.zeros(int(rest.sum()), dtype=np.int64), arrived, place[rest])
    return items
