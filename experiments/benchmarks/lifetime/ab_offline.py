"""What the base ranker's log alone says that another ranker would change in LT-n.

Shapes: n rows (an item shown).

The change of LT-n is taken to be the surrogate index's slope in satisfaction and behaviours times the policy's change
of both. A ranker that is switched on stays on, so that what users are used to moves with it: the slope in prior
satisfaction counts too. The platform logs how many candidates each page had, for that is what a random page stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from ab_platform import Arm, Platform, Scorer
from ab_rankers import Learned

from recdistill.lifetime.cohort import Events, cohort, entries
from recdistill.lifetime.config import LifetimeConfig
from recdistill.lifetime.intervals import by_user
from recdistill.lifetime.naive import Naive
from recdistill.lifetime.plan import Plan
from recdistill.lifetime.policy import doubly_robust, importance_weights, snips
from recdistill.lifetime.propensities import look_of_random_subset, ranked_positions
from recdistill.lifetime.proxies import Proxies, estimate_proxies
from recdistill.lifetime.surrogate import Surrogate, calibration, r_squared, rank_correlation

SIGNAL_DAYS = 7
WARM_UP = 7  # days in which most users first come, of whom nothing is known


@dataclass(frozen=True)
class Slope:
    """What the surrogate says of LT-n.

    Attributes:
        satisfaction, behaviours: days that one more of each brings under a policy that stays on.
        by_clicks: the same of one click a look more, behaviours moving with clicks as they do in the log; its interval
            over users. Where that does not keep off zero, the log cannot say what is good.
        r2, rho, calibration_slope, naive_r2: out of time.
    """

    surrogate: Surrogate
    plan: Plan
    satisfaction: float
    behaviours: float
    by_clicks: float
    interval: tuple[float, float] | None
    r2: float
    rho: float
    calibration_slope: float
    naive_r2: float


@dataclass(frozen=True)
class Rows:
    """Shown items under a policy: what :mod:`recdistill.lifetime.policy` asks for."""

    user: np.ndarray
    clicks: np.ndarray
    behaviours: np.ndarray
    merit: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    look: np.ndarray

    def summed(self) -> Rows:
        """A row a user with the same importance-weighted sums."""
        users, of = np.unique(self.user, return_inverse=True)
        weight = self.weight
        sums = (weight * self.clicks, weight * self.behaviours, self.merit, self.target, weight * self.look)
        clicks, behaviours, merit, target, look = (np.bincount(of, weights=column) for column in sums)
        return Rows(users, clicks, behaviours, merit, target, np.ones(len(users)), look)


@dataclass(frozen=True)
class Offline:
    """The base arm's log up to the switch.

    Attributes:
        start: first day of the rows that policies are valued on; rankers know only days before.
        look: [M] look propensity of each position.
        merit: predicts clicks, for the doubly robust estimate.
        clip: largest importance weight.
    """

    platform: Platform
    arm: Arm
    start: int
    look: np.ndarray
    merit: Learned
    clip: float
    seed: int

    @cached_property
    def events(self) -> Events:
        rows = self.arm.events(start=0, stop=self.platform.switch)
        return Events(
            self.arm.user[rows],
            self.arm.item[rows],
            self.arm.day[rows],
            np.bitwise_count(self.arm.reactions[rows]).astype(np.int64),
            self.look[self.arm.position[rows] - 1],
        )

    def slope(self, *, days: int, draws: int) -> Slope:
        """The surrogate of LT-``days``: judged out of time, then fitted on all entries before the switch.

        It is judged on later windows of half the users after a fit on earlier ones of the others: before the switch
        there is no room for two cohorts whose outcomes of thirty days do not overlap, but those of different users
        share no event.
        """
        last = self.platform.switch - 1
        weeks = (self.platform.switch - days - WARM_UP) // SIGNAL_DAYS
        middle = WARM_UP + max(weeks // 2, 1) * SIGNAL_DAYS
        plan = Plan(days, days, SIGNAL_DAYS, 0, last, middle)
        past = self.events.past(users=len(self.platform.users), until=middle)
        category = self.platform.catalogue.genre.astype(np.int64)
        signals, outcome = cohort(self.events, category=category, past=past, plan=plan, start=WARM_UP, stop=last + 1)
        early, even = signals.end <= middle, signals.user % 2 == 0
        fitted, judged = np.flatnonzero(early & even), np.flatnonzero(~early & ~even)
        trial = Surrogate.fit(signals.take(fitted), outcome[fitted], horizon=days)
        later, came = signals.take(judged), outcome[judged]
        naive = Naive.fit(signals.active_days[fitted], outcome[fitted], horizon=days)
        predicted = trial.predict(later)
        a_click = float(signals.behaviours.mean() / signals.satisfaction.mean())
        surrogate = Surrogate.fit(signals, outcome, horizon=days)
        slopes = surrogate.slopes()

        def drawn(at: np.ndarray) -> float:
            return _by_clicks(Surrogate.fit(signals.take(at), outcome[at], horizon=days), a_click)

        return Slope(
            surrogate,
            plan,
            slopes["satisfaction"] + slopes["prior_satisfaction"],
            slopes["behaviours"],
            _by_clicks(surrogate, a_click),
            by_user(drawn, signals.user, draws=draws, seed=self.seed),
            r_squared(came, predicted),
            rank_correlation(came, predicted),
            calibration(came, predicted).slope,
            r_squared(came, naive.predict(later.active_days)),
        )

    def rows(self, ranker: Scorer | None, *, random: bool) -> Rows:
        """The valued days' rows under a ranker: of pages in random order, or of pages that the base ranked.

        Args:
            ranker: None for the order that the log has.
        """
        rows = self.arm.events(start=self.start, stop=self.platform.switch)
        rows = rows[self.arm.random[rows] == random]
        arm, noise = self.arm, np.random.default_rng(self.seed).standard_normal(len(rows), dtype=np.float32)
        user, item, day = arm.user[rows], arm.item[rows], arm.day[rows]
        look = self.look[arm.position[rows] - 1]
        if ranker is None:
            target = propensity = look
        else:
            position = ranked_positions(arm.page[rows], ranker(user, item, day, noise))
            target, propensity = self.look[position - 1], look
            if random:
                target, propensity = self._random_looks(arm.page[rows], position, arm.candidates[rows])
        reactions = arm.reactions[rows]
        return Rows(
            user,
            (reactions > 0).astype(np.float64),
            np.bitwise_count(reactions).astype(np.float64),
            self.merit.probability(user, item, day),
            target,
            importance_weights(target, propensity, clip=self.clip),
            look,
        )

    def _random_looks(
        self, page: np.ndarray, position: np.ndarray, candidates: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Target and propensity of rows of random pages.

        A page stands for all candidates that it was drawn from, and each of its rows for as many of them more, so that
        pages of few and of many candidates weigh alike.
        """
        _, of, size = np.unique(page, return_inverse=True, return_counts=True)
        shown = size[of]
        target, propensity = np.empty(len(page)), np.empty(len(page))
        for some, all_of in np.unique(np.stack([shown, candidates]), axis=1).T:
            rows = (shown == some) & (candidates == all_of)
            look = look_of_random_subset(self.look, shown=some, candidates=all_of)
            target[rows] = all_of / some * look[position[rows] - 1]
            propensity[rows] = self.look[:some].mean()
        return target, propensity

    def rank_stage(self, rankers: Mapping[str, Scorer], slope: Slope, *, base: str, draws: int) -> Proxies:
        """What the rank stage says of rankers, by its own function and settings, from the base's log without positions.

        Only the cohort differs: before the switch there is no room for two, so that all entries teach the surrogate.
        """
        arm, noise = self.arm, np.random.default_rng(self.seed)
        rows = arm.events(start=self.start, stop=self.platform.switch)
        drawn = noise.standard_normal(len(rows), dtype=np.float32)
        user, item, day = arm.user[rows], arm.item[rows], arm.day[rows]
        behaviours = np.bitwise_count(arm.reactions[rows]).astype(np.int64)
        events = replace(self.events, looks=None)
        category = self.platform.catalogue.genre.astype(np.int64)
        past = events.past(users=len(self.platform.users), until=slope.plan.boundary)
        training = cohort(
            events, category=category, past=past, plan=slope.plan, start=WARM_UP, stop=slope.plan.last_day + 1
        )
        entry, observed = entries(
            Events(user, item, day, behaviours),
            category=category,
            past=past,
            start=self.start,
            stop=self.platform.switch,
            signal_days=slope.plan.signal_days,
        )
        return estimate_proxies(
            Surrogate.fit(*training, horizon=slope.plan.horizon),
            training,
            observed,
            entry,
            behaviours=behaviours,
            scores={name: ranker(user, item, day, drawn) for name, ranker in rankers.items()},
            base=base,
            sharpness=LifetimeConfig().sharpness,
            draws=draws,
            seed=self.seed,
        )


def _by_clicks(surrogate: Surrogate, a_click: float) -> float:
    slopes = surrogate.slopes()
    return slopes["satisfaction"] + slopes["prior_satisfaction"] + a_click * slopes["behaviours"]


@dataclass(frozen=True)
class Worth:
    """What a look brings under a policy."""

    clicks: float
    behaviours: float


Value = Callable[[Rows, np.ndarray], Worth]
"""Some rows' worth, by their numbers."""


def weighted(of: Rows, at: np.ndarray) -> Worth:
    """Self-normalised importance weighting."""
    weight, look = of.weight[at], of.look[at]
    return Worth(*(snips(reward[at], weight=weight, look=look) for reward in (of.clicks, of.behaviours)))


def robust(of: Rows, at: np.ndarray) -> Worth:
    """Doubly robust; behaviours are modelled as so many a click."""
    a_click = of.behaviours.sum() / max(of.clicks.sum(), 1)
    merit, target, weight, look = of.merit[at], of.target[at], of.weight[at], of.look[at]
    return Worth(
        *(
            doubly_robust(reward[at], merit=factor * merit, target=target, weight=weight, look=look)
            for reward, factor in ((of.clicks, 1.0), (of.behaviours, a_click))
        )
    )


def lift(slope: Slope, treated: Worth, base: Worth, *, share: float) -> float:
    """Days of LT-n.

    Args:
        share: of pages that the ranker orders.
    """
    clicks, behaviours = treated.clicks - base.clicks, treated.behaviours - base.behaviours
    return share * (slope.satisfaction * clicks + slope.behaviours * behaviours)


def lift_interval(
    value: Value, treated: Rows, base: Rows, slope: Slope, *, share: float, draws: int, seed: int
) -> tuple[float, float] | None:
    """Over users; the surrogate's slopes are taken as known."""
    if value is weighted:  # ratios of sums: a user's rows may be summed first
        treated, base = treated.summed(), base.summed()
    return by_user(
        lambda at: lift(slope, value(treated, at), value(base, at), share=share), treated.user, draws=draws, seed=seed
    )
