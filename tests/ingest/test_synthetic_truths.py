"""The planted world's users and platform behave as its formulas say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.ingest.synthetic import WorldConfig
from recdistill.ingest.synthetic import affinity as formulas
from recdistill.ingest.synthetic.audience import INTERESTS, Users, build_users, user_numbers
from recdistill.ingest.synthetic.catalogue import STYLES, VIEWS, Catalogue, PrefixSampler, style_of
from recdistill.ingest.synthetic.exposure import Request, best_first, is_seen, mark_seen, repeated
from recdistill.ingest.synthetic.simulate import Events, simulate_block

CONFIG = WorldConfig(users=1_500, items=400, topics=8, days=50)


@dataclass(frozen=True)
class Simulated:
    catalogue: Catalogue
    users: Users
    events: Events
    affinity: np.ndarray
    clicked: np.ndarray


@pytest.fixture(scope="module")
def sim() -> Simulated:
    catalogue = Catalogue.build(CONFIG)
    users = build_users(CONFIG, catalogue, block=0, numbers=user_numbers(CONFIG))
    events = simulate_block(CONFIG, catalogue, users, block=0)
    progress = (events.page // 4) / CONFIG.days
    liking = formulas.affinity(users, events.user, catalogue, events.item, progress=progress, width=CONFIG.taste_width)
    return Simulated(catalogue, users, events, liking, (events.reactions & 1).astype(bool))


def agree(happened: np.ndarray, probability: np.ndarray) -> bool:
    """Do as many of the events happen as their probabilities say, within 4.5 standard deviations?"""
    spread = np.sqrt((probability * (1 - probability)).sum())
    return bool(abs(happened.sum() - probability.sum()) < 4.5 * spread)


def test_affinity_by_hand() -> None:
    catalogue = Catalogue.build(WorldConfig(items=8, topics=4))
    style = np.zeros((8, STYLES), dtype=np.float32)
    style[1, 0] = 2.0
    catalogue = replace(
        catalogue,
        topic=np.array([0, 0, 1, 2, 0, 0, 0, 0], dtype=np.int16),
        style=style,
        quality=np.array([0, 0, 0, 1] + [0] * 4, dtype=np.float32),
    )
    ones = np.array([[1.0, 0.5, 0.0, 0.0]], dtype=np.float32)
    centre = np.zeros((1, INTERESTS, STYLES), dtype=np.float32)
    later = centre.copy()
    later[0, 1, 0] = 2.0
    users = Users(
        user_ids=np.array(["u0"]), numbers=np.array([0]), topics=np.array([[0, 1, -1, -1]], dtype=np.int16),
        weight_start=ones, weight_end=np.array([[1.0, 1.0, 0.0, 0.0]], dtype=np.float32),
        style_start=centre, style_end=later, return_base=np.zeros(1), signup=np.zeros(1, dtype=np.int16),
    )  # fmt: skip
    of = lambda f: formulas.affinity(users, np.zeros(4, dtype=int), catalogue, np.arange(4), progress=f, width=1.0)  # noqa: E731
    # item 0: exact match; 1: two away in style; 2: second interest, weight 0.5; 3: no interest, quality 1
    np.testing.assert_allclose(of(0.0), [1.0, 0.2 + 0.8 * np.exp(-2), 0.5, 0.06], rtol=1e-6)
    # half-way the second interest has weight 0.75 and has moved by 1
    np.testing.assert_allclose(of(0.5)[2], 0.75 * (0.2 + 0.8 * np.exp(-0.5)), rtol=1e-6)
    np.testing.assert_allclose(formulas.click_probability(np.array([2.5 / 6])), [0.5])
    np.testing.assert_allclose(formulas.look_probability(np.array([1, 2, 3]), decay=0.5), [1, 0.5, 0.25])
    np.testing.assert_allclose(
        formulas.expected_active_days(np.array([-2.0]), np.array([0.5]), slope=4.0, days=7), [3.5]
    )


def test_style_mixes_two_views_and_keeps_unit_variance() -> None:
    views = np.zeros((1, VIEWS), dtype=np.float32)
    views[0] = [1, 2, 3, 1, 1, 5]
    np.testing.assert_allclose(style_of(views), [[1, 2, 3, np.sqrt(2), 5]], rtol=1e-6)
    style = Catalogue.build(WorldConfig(items=20_000)).style
    np.testing.assert_allclose(np.cov(style.T), np.eye(STYLES), atol=0.05)


def test_users_have_one_to_four_different_interests_that_drift(sim: Simulated) -> None:
    topics = sim.users.topics
    count = (topics >= 0).sum(axis=1)
    assert set(count) == {1, 2, 3, 4}
    assert all(len(set(row[:n])) == n for row, n in zip(topics.tolist(), count.tolist(), strict=True))
    for weight in (sim.users.weight_start, sim.users.weight_end):
        assert ((weight > 0) == (topics >= 0)).all()
        np.testing.assert_allclose(weight.max(axis=1), 1)
    moved = sim.users.style_end - sim.users.style_start
    assert np.std(moved) == pytest.approx(CONFIG.drift, rel=0.05)


def test_interests_come_in_audiences(sim: Simulated) -> None:
    several = sim.users.topics[(sim.users.topics >= 0).sum(axis=1) >= 2]
    same = sim.catalogue.audience[several[:, 0]] == sim.catalogue.audience[several[:, 1]]
    chance = 3 / 7  # of the other seven topics three are of the audience
    assert same.mean() > chance + 0.25


def test_click_rate_is_the_formula_and_rises_with_affinity(sim: Simulated) -> None:
    first = sim.events.position == 1
    edges = np.quantile(sim.affinity[first], np.linspace(0, 1, 6))
    rates = []
    for low, high in pairwise(edges):
        rows = first & (sim.affinity >= low) & (sim.affinity < high)
        assert agree(sim.clicked[rows], formulas.click_probability(sim.affinity[rows]))
        rates.append(sim.clicked[rows].mean())
    assert (np.diff(rates) > 0).all()
    assert rates[-1] > 3 * rates[0]


def test_click_rate_falls_with_position_at_equal_affinity(sim: Simulated) -> None:
    expected = formulas.click_probability(sim.affinity)
    ratio = []
    for position in range(1, CONFIG.slots + 1):
        rows = sim.events.position == position
        assert agree(sim.clicked[rows], expected[rows] * CONFIG.position_decay ** (position - 1))
        ratio.append(sim.clicked[rows].sum() / expected[rows].sum())
    assert (np.diff(ratio) < 0).all()


def test_every_further_behaviour_rises_with_affinity(sim: Simulated) -> None:
    clicked = np.flatnonzero(sim.clicked)
    probability = formulas.after_click_probabilities(sim.affinity[clicked])
    upper = sim.affinity[clicked] > np.median(sim.affinity[clicked])
    for number in range(3):
        did = (sim.events.reactions[clicked] >> (number + 1)) & 1
        for half in (upper, ~upper):
            assert agree(did[half], probability[half, number])
        assert did[upper].mean() > 1.3 * did[~upper].mean()


def test_exposure_is_biased_to_popular_items_and_to_what_the_user_likes(sim: Simulated) -> None:
    shown = np.bincount(sim.events.item, minlength=CONFIG.items)
    old = sim.catalogue.arrival < sim.catalogue.start
    rank = lambda x: np.argsort(np.argsort(x))  # noqa: E731
    assert np.corrcoef(rank(shown[old]), rank(sim.catalogue.popularity[old]))[0, 1] > 0.7
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, len(sim.users), 20_000), rng.integers(0, CONFIG.items, 20_000)
    random = formulas.affinity(sim.users, user, sim.catalogue, item, progress=0.5, width=CONFIG.taste_width)
    assert sim.affinity.mean() > random.mean() + 0.1


def days_after(sim: Simulated) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every visit with a day after it: user, state after it, and whether the user came the next day."""
    came = np.zeros((len(sim.users), CONFIG.days + 1), dtype=bool)
    came[sim.events.visit_user, sim.events.visit_day] = True
    rows = sim.events.visit_day < CONFIG.days - 1
    user, day = sim.events.visit_user[rows], sim.events.visit_day[rows]
    return user, sim.events.visit_state[rows], came[user, day + 1]


def test_return_rate_is_the_formula_and_rises_with_satisfaction(sim: Simulated) -> None:
    user, state, came = days_after(sim)
    probability = formulas.return_probability(sim.users.return_base[user], state, slope=CONFIG.return_slope)
    low, high = np.quantile(state, [1 / 3, 2 / 3])
    for rows in (state < low, (state >= low) & (state < high), state >= high):
        assert agree(came[rows], probability[rows])
    assert came[state >= high].mean() > 1.15 * came[state < low].mean()


def test_visit_satisfaction_is_the_mean_click_probability_of_what_was_looked_at(sim: Simulated) -> None:
    good = formulas.click_probability(sim.affinity)
    looked = formulas.look_probability(sim.events.position, decay=CONFIG.position_decay)
    visit = sim.events.user.astype(np.int64) * CONFIG.days + sim.events.page // 4
    size = len(sim.users) * CONFIG.days
    weight = np.bincount(visit, looked, size)
    mean = np.bincount(visit, good * looked, size) / np.maximum(weight, 1e-9)
    visits = sim.events.visit_user.astype(np.int64) * CONFIG.days + sim.events.visit_day
    filled = weight[visits] > 0  # a visit may find nothing new to see
    assert filled.mean() > 0.99
    np.testing.assert_allclose(mean[visits][filled], sim.events.visit_satisfaction[filled], rtol=1e-4)


def test_expected_active_days_come_true_in_a_held_state() -> None:
    config = CONFIG.model_copy(update={"satisfaction_memory": 1 - 1e-9, "new_users": 0.0})
    catalogue = Catalogue.build(config)
    users = build_users(config, catalogue, block=0, numbers=user_numbers(config))
    events = simulate_block(config, catalogue, users, block=0)
    window = (events.visit_day >= 10) & (events.visit_day < 40)
    state = np.float32(formulas.INITIAL_SATISFACTION)
    daily = formulas.return_probability(users.return_base, state, slope=config.return_slope)
    expected = formulas.expected_active_days(users.return_base, state, slope=config.return_slope, days=30)
    spread = np.sqrt((30 * daily * (1 - daily)).sum())
    assert abs(window.sum() - expected.sum()) < 4.5 * spread
    assert np.corrcoef(np.bincount(events.visit_user[window], minlength=len(users)), expected)[0, 1] > 0.3


def test_a_worse_policy_loses_active_days(sim: Simulated) -> None:
    def at_random(config: WorldConfig, catalogue: Catalogue, users: Users, request: Request) -> np.ndarray:
        shape = (len(request.rows), request.pages.shape[1] * config.slots)
        items = request.rng.integers(0, int(catalogue.arrived[request.day]), shape)
        usable = (
            np.repeat(request.pages, config.slots, axis=1)
            & ~repeated(items)
            & ~is_seen(request.seen, request.rows, items)
        )
        return best_first(items, np.where(usable, 0.0, -np.inf), pages=request.pages.shape[1], slots=config.slots)

    events = simulate_block(CONFIG, sim.catalogue, sim.users, block=0, policy=at_random)
    assert events.visit_satisfaction.mean() < 0.7 * sim.events.visit_satisfaction.mean()
    assert len(events.visit_user) < 0.85 * len(sim.events.visit_user)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_prefix_sampler_keeps_to_group_and_bound(data: st.DataObject) -> None:
    group = np.array(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=30)))
    weight = np.array(
        data.draw(st.lists(st.floats(1e-6, 1e6), min_size=len(group), max_size=len(group))), dtype=np.float32
    )
    bound = data.draw(st.integers(0, len(group)))
    asked = np.array(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=20)))
    uniform = np.array(data.draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=len(asked), max_size=len(asked))))
    rows = PrefixSampler.build(group, weight, 4).draw(asked, bound, uniform)
    for row, wanted in zip(rows.tolist(), asked.tolist(), strict=True):
        if wanted in group[:bound]:
            assert 0 <= row < bound
            assert group[row] == wanted
        else:
            assert row == -1


def test_prefix_sampler_draws_by_weight() -> None:
    group, weight = np.array([0, 1, 0, 1, 0]), np.array([1.0, 5.0, 3.0, 1.0, 100.0], dtype=np.float32)
    uniform = (np.arange(4_000) + 0.5) / 4_000
    rows = PrefixSampler.build(group, weight, 2).draw(np.zeros(4_000, dtype=int), 4, uniform)
    assert np.bincount(rows, minlength=5).tolist() == [1_000, 0, 3_000, 0, 0]


def test_pages_are_filled_best_first_without_repeats() -> None:
    items = np.array([[7, 3, 7, 9, 3, 5]])
    assert repeated(items).tolist() == [[False, False, True, False, True, False]]
    score = np.array([[0.1, 0.9, -np.inf, 0.5, -np.inf, -np.inf]])
    assert best_first(items, score, pages=2, slots=2).tolist() == [[[3, 7], [9, -1]]]


def test_the_seen_set_is_exact() -> None:
    seen = np.zeros((3, 4), dtype=np.uint8)
    user, item = np.array([0, 0, 0, 2, 2]), np.array([0, 1, 9, 31, 8])  # 0 and 1 share a byte
    mark_seen(seen, user, item)
    everything = np.tile(np.arange(32), (3, 1))
    found = np.argwhere(is_seen(seen, np.arange(3), everything))
    assert found.tolist() == sorted([list(pair) for pair in zip(user.tolist(), item.tolist(), strict=True)])
