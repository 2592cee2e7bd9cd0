"""The planted world as a platform that can switch its ranker: simulated A/B tests, and what they truly change.

Shapes: U users, n events, D days.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from recdistill.ingest.synthetic.affinity import INITIAL_SATISFACTION, affinity, return_probability
from recdistill.ingest.synthetic.audience import Users, blocks, build_users, user_numbers
from recdistill.ingest.synthetic.catalogue import DAY, Catalogue
from recdistill.ingest.synthetic.config import WorldConfig
from recdistill.ingest.synthetic.exposure import Policy, Request, best_first, candidates
from recdistill.ingest.synthetic.simulate import PAGES, Events, simulate_block

Scorer = Callable[[np.ndarray, np.ndarray, np.ndarray | int, np.ndarray], np.ndarray]
"""A ranker: [n] users, [n] items, the day(s), [n] standard normals (its errors, if it has any) to [n] scores."""


@dataclass(frozen=True)
class Returns:
    """When the users of an arm came.

    Attributes:
        chance: [U, D] float32 P(active on a day) given all that was before it.
        active: [U, D] bool.
    """

    chance: np.ndarray
    active: np.ndarray


@dataclass(frozen=True)
class Arm:
    """What one arm's users were shown and did, in order of (user, time).

    Attributes:
        user, item: [n] rows.
        time, day: [n] microseconds since 1970, days of the log.
        page: [n] int64, of one user and day.
        position: [n] from 1.
        reactions: [n] bit mask, 0 = shown and not clicked.
        random: [n] bool, the page was drawn and ordered at random.
        candidates: [n] int64 that the page was chosen from: of those drawn for it, the ones that it could show.
        chance, active: of ``Returns``.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    day: np.ndarray
    page: np.ndarray
    position: np.ndarray
    reactions: np.ndarray
    random: np.ndarray
    candidates: np.ndarray
    chance: np.ndarray
    active: np.ndarray

    @property
    def returns(self) -> Returns:
        return Returns(self.chance, self.active)

    @property
    def clicked(self) -> np.ndarray:
        return self.reactions > 0

    def events(self, *, start: int, stop: int) -> np.ndarray:
        """Rows of the days ``[start, stop)``."""
        return np.flatnonzero((self.day >= start) & (self.day < stop))


@dataclass(frozen=True)
class Platform:
    """A world whose ranker changes on day ``switch``, a share of its pages always drawn and ordered at random."""

    config: WorldConfig
    switch: int
    random_share: float

    @cached_property
    def catalogue(self) -> Catalogue:
        return Catalogue.build(self.config)

    @cached_property
    def blocks(self) -> list[Users]:
        numbers = user_numbers(self.config)
        return [
            build_users(self.config, self.catalogue, block=block, numbers=numbers)
            for block in range(blocks(self.config))
        ]

    @cached_property
    def users(self) -> Users:
        return Users(**{of.name: np.concatenate([getattr(b, of.name) for b in self.blocks]) for of in fields(Users)})

    def own(self, user: np.ndarray, item: np.ndarray, day: np.ndarray | int, noise: np.ndarray) -> np.ndarray:
        """The ranker that the world comes with: true affinity plus error."""
        return self.truth(user, item, day) + np.float32(self.config.ranker_noise) * noise

    def truth(self, user: np.ndarray, item: np.ndarray, day: np.ndarray | int) -> np.ndarray:
        """[n] true affinity."""
        progress = np.asarray(day, dtype=np.float32) / self.config.days
        return affinity(self.users, user, self.catalogue, item, progress=progress, width=self.config.taste_width)

    def run(self, ranker: Scorer) -> Arm:
        """Live through the whole log: under the platform's own ranker, from ``switch`` on under ``ranker``."""
        parts, first = [], 0
        for block, users in enumerate(self.blocks):
            pages: list[np.ndarray] = []
            policy = self._policy(ranker, first, pages)
            events = simulate_block(self.config, self.catalogue, users, block=block, policy=policy)
            parts.append(self._arm(users, events, first, np.concatenate(pages, axis=1)))
            first += len(users)
        return Arm(*(np.concatenate([getattr(part, of.name) for part in parts]) for of in fields(Arm)))

    def _policy(self, ranker: Scorer, first: int, pages: list[np.ndarray]) -> Policy:
        """A policy that keeps a log of its ``pages``: [3, ·] int64 key, whether drawn at random, candidates."""

        def policy(config: WorldConfig, catalogue: Catalogue, users: Users, request: Request) -> np.ndarray:
            items, usable = candidates(config, catalogue, users, request)
            noise = request.rng.standard_normal(items.shape, dtype=np.float32)
            lottery = request.rng.random(items.shape, dtype=np.float32)
            drawn = request.rng.random(request.pages.shape) < self.random_share
            row, page = np.nonzero(request.pages)
            key = (request.rows[row].astype(np.int64) * self.config.days + request.day) * PAGES + page
            choice = usable.reshape(*request.pages.shape, -1).sum(axis=2)
            pages.append(np.stack([key, drawn[row, page], choice[row, page]]))
            user = np.broadcast_to(request.rows[:, None] + first, items.shape)
            score = np.full(items.shape, -np.inf, dtype=np.float32)
            chosen = ranker if request.day >= self.switch else self.own
            score[usable] = chosen(user[usable], items[usable], request.day, noise[usable])
            by_lot = np.repeat(drawn, config.candidates, axis=1) & usable
            score[by_lot] = lottery[by_lot]
            return best_first(items, score, pages=request.pages.shape[1], slots=config.slots)

        return policy

    def _arm(self, users: Users, events: Events, first: int, pages: np.ndarray) -> Arm:
        state = np.full((len(users), self.config.days + 1), np.nan, dtype=np.float32)
        state[:, 0] = INITIAL_SATISFACTION
        state[events.visit_user, events.visit_day + 1] = events.visit_state
        visited = ~np.isnan(state)
        last = np.maximum.accumulate(np.where(visited, np.arange(state.shape[1]), 0), axis=1)
        held = np.take_along_axis(state, last, axis=1)[:, :-1]  # before each day
        chance = return_probability(users.return_base[:, None], held, slope=self.config.return_slope)
        order = np.lexsort((events.time, events.user))
        user, page = events.user[order].astype(np.int64), events.page[order]
        key = user * self.config.days * PAGES + page
        keys, drawn, choice = pages[:, np.argsort(pages[0])]
        at = np.searchsorted(keys, key)
        return Arm(
            user=user + first,
            item=events.item[order],
            time=events.time[order],
            day=(events.time[order] - self.catalogue.start) // DAY,
            page=key + first * self.config.days * PAGES,
            position=events.position[order].astype(np.int64),
            reactions=events.reactions[order],
            random=drawn[at].astype(bool),
            candidates=choice[at],
            chance=chance,
            active=visited[:, 1:],
        )


@dataclass(frozen=True)
class Lift:
    """A difference of mean active days a user, and its standard error over users."""

    value: float
    error: float

    @property
    def significant(self) -> bool:
        """At 5 %, two-sided."""
        return abs(self.value) > 1.96 * self.error


def true_lift(platform: Platform, base: Returns, treated: Returns, *, days: int, after: int = 0) -> tuple[Lift, Lift]:
    """What one arm has more than another in LT-n, of all users who had signed up before the switch, paired by user.

    Days lived are noisy; their expectation given each user's state on the evening before, which a simulator knows,
    has the same mean and a fraction of the variance.

    Args:
        days: n; those from the day after the switch on, or from ``after`` days later.

    Returns:
        of expected days, and of days as they were lived.
    """
    there = platform.users.signup < platform.switch
    first = platform.switch + 1 + after
    lifts = []
    for of in ("chance", "active"):
        gain = getattr(treated, of)[there, first : first + days].astype(np.float64)
        gain = (gain - getattr(base, of)[there, first : first + days]).sum(axis=1)
        lifts.append(Lift(float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(len(gain)))))
    return lifts[0], lifts[1]
