"""The day loop over one block of users: visits, pages, reactions, and the satisfaction that brings users back.

Shapes: U users of the block, A active on a day, J = 4 pages at most a day (2 sessions of 2), M slots, n events,
v visits.
Memory of a block: U·I/8 bytes for what was seen + about 60 bytes an event.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recdistill.ingest.synthetic.affinity import (
    INITIAL_SATISFACTION,
    affinity,
    after_click_probabilities,
    click_probability,
    look_probability,
    return_probability,
)
from recdistill.ingest.synthetic.audience import Users
from recdistill.ingest.synthetic.catalogue import DAY, Catalogue
from recdistill.ingest.synthetic.config import WorldConfig
from recdistill.ingest.synthetic.exposure import Policy, Request, logging_policy, mark_seen
from recdistill.ingest.synthetic.streams import Stream, generator

PAGES = 4

_SECOND_SESSION = 0.25
_SECOND_PAGE = 0.4
_SECOND = 1_000_000  # microseconds
_HOUR = 3_600 * _SECOND
_SLOT_SECONDS = (2.0, 20.0)  # between one item and the next on a page


@dataclass(frozen=True)
class Events:
    """What a block's users were shown and did, sorted by time, and their visits.

    Attributes:
        user, item: [n] int32 rows (of the block, of the catalogue).
        time: [n] int64 microseconds since 1970 UTC.
        reactions: [n] uint8 bit mask over ``affinity.BEHAVIOURS``; 0 = shown and not clicked.
        position: [n] int16, 1 = first.
        page: [n] int64 ``day * PAGES + page of the day``; the session is ``page // 2``.
        dwell: [n] float32 seconds, NaN without a click.
        visit_user, visit_day: [v] int32.
        visit_satisfaction: [v] float32 satisfaction of that visit.
        visit_state: [v] float32 the user's state after it.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    reactions: np.ndarray
    position: np.ndarray
    page: np.ndarray
    dwell: np.ndarray
    visit_user: np.ndarray
    visit_day: np.ndarray
    visit_satisfaction: np.ndarray
    visit_state: np.ndarray

    def __len__(self) -> int:
        return len(self.user)


def simulate_block(
    config: WorldConfig, catalogue: Catalogue, users: Users, *, block: int, policy: Policy = logging_policy
) -> Events:
    """Live through the log with the users of one block.

    Args:
        block: addresses the random streams together with the seed.
        policy: what is shown. Visits, reactions and clock have streams of their own, so two policies are compared on
            the same luck.
    """
    visits = generator(config.seed, Stream.VISITS, block)
    exposure = generator(config.seed, Stream.EXPOSURE, block)
    luck = generator(config.seed, Stream.REACTIONS, block)
    clock = generator(config.seed, Stream.CLOCK, block)
    state = np.full(len(users), INITIAL_SATISFACTION, dtype=np.float32)
    seen = np.zeros((len(users), -(-len(catalogue) // 8)), dtype=np.uint8)
    days: list[dict[str, np.ndarray]] = []
    for day in range(config.days):
        coming = return_probability(users.return_base, state, slope=config.return_slope)
        comes = (users.signup == day) | ((users.signup < day) & (visits.random(len(users)) < coming))
        rows = np.flatnonzero(comes).astype(np.int32)
        if not len(rows):
            continue
        pages = _pages(visits, len(rows))
        items = policy(config, catalogue, users, Request(day, rows, pages, seen, exposure))
        shown = items >= 0
        row, page, slot = np.nonzero(shown)
        user, item = rows[row], items[shown]
        liking = affinity(users, user, catalogue, item, progress=day / config.days, width=config.taste_width)
        good, looked = click_probability(liking), look_probability(slot + 1, decay=config.position_decay)
        reactions, dwell = _react(luck, liking, good * looked)
        weight = np.bincount(row, looked, minlength=len(rows))
        enjoyed = np.bincount(row, looked * good, minlength=len(rows)) / np.maximum(weight, 1e-9)
        satisfaction = np.where(weight > 0, enjoyed, state[rows])  # an empty visit changes nothing
        state[rows] = config.satisfaction_memory * state[rows] + (1 - config.satisfaction_memory) * satisfaction
        mark_seen(seen, user, item)
        days.append(
            {
                "user": user,
                "item": item,
                "time": _times(clock, pages, config.slots)[shown] + (catalogue.start + day * DAY),
                "reactions": reactions,
                "position": (slot + 1).astype(np.int16),
                "page": day * PAGES + page,
                "dwell": dwell,
                "visit_user": rows,
                "visit_day": np.full(len(rows), day, dtype=np.int32),
                "visit_satisfaction": satisfaction.astype(np.float32),
                "visit_state": state[rows],
            }
        )
    joined = {name: np.concatenate([part[name] for part in days]) for name in days[0]}
    order = np.lexsort((joined["user"], joined["time"]))
    for name in ("user", "item", "time", "reactions", "position", "page", "dwell"):
        joined[name] = joined[name][order]
    return Events(**joined)


def _pages(rng: np.random.Generator, active: int) -> np.ndarray:
    draw = rng.random((active, 3))
    second = draw[:, 0] < _SECOND_SESSION
    return np.column_stack(
        [np.ones(active, dtype=bool), draw[:, 1] < _SECOND_PAGE, second, second & (draw[:, 2] < _SECOND_PAGE)]
    )


def _react(rng: np.random.Generator, liking: np.ndarray, click: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[n] bit mask of behaviours and [n] dwell seconds."""
    clicked = np.flatnonzero(rng.random(len(liking)) < click)
    then = rng.random((len(clicked), 3)) < after_click_probabilities(liking[clicked])
    reactions = np.zeros(len(liking), dtype=np.uint8)
    reactions[clicked] = 1 + (then * np.array([2, 4, 8])).sum(axis=1)
    dwell = np.full(len(liking), np.nan, dtype=np.float32)
    dwell[clicked] = np.exp(2.0 + 1.5 * liking[clicked] + 0.5 * rng.standard_normal(len(clicked), dtype=np.float32))
    return reactions, dwell


def _times(rng: np.random.Generator, pages: np.ndarray, slots: int) -> np.ndarray:
    """[A, J, M] microseconds since midnight, ascending along pages and slots."""
    active = len(pages)
    begin = np.column_stack([rng.uniform(6 * _HOUR, 13 * _HOUR, active), rng.uniform(15 * _HOUR, 22 * _HOUR, active)])
    page_length = slots * _SLOT_SECONDS[1] * _SECOND
    later = page_length + rng.uniform(0, 240 * _SECOND, (active, 2))
    page_start = np.stack([begin[:, 0], begin[:, 0] + later[:, 0], begin[:, 1], begin[:, 1] + later[:, 1]], axis=1)
    gaps = rng.uniform(_SLOT_SECONDS[0] * _SECOND, _SLOT_SECONDS[1] * _SECOND, (active, pages.shape[1], slots))
    return (page_start[:, :, None] + np.cumsum(gaps, axis=2)).astype(np.int64)
