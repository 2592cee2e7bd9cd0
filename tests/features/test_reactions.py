"""Reaction features: values by hand, their definition, what they must not know, what they see."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from recdistill.contracts.tables import EmbeddingTable
from recdistill.features.config import ReactionConfig
from recdistill.features.reaction_module import ReactionModule
from recdistill.features.reactions import ReactionFeatures
from recdistill.features.space import Space

IDS = pd.Index(["a", "b", "c", "d"])
AXES = np.array([[1, 0], [0, 1], [3, 4]], dtype=np.float32)  # item 3 is absent
Event = tuple[int, int, int, bool]


def _features(
    events: list[Event], *, last: int = 10, temperatures: tuple[float, ...] = (0.5,), block: int = 1 << 20
) -> ReactionFeatures:
    user, item, time, pleased = (np.array(column) for column in zip(*events, strict=True))
    space = Space.of(EmbeddingTable(IDS[:3], AXES), IDS, centre=False)
    return ReactionFeatures(
        ReactionModule.of(space, ReactionConfig(last=last, temperatures=temperatures)),
        user=user,
        item=item,
        time=time,
        pleased=pleased.astype(bool),
        users=3,
        block=block,
    )


def _ask(features: ReactionFeatures, *rows: tuple[int, int, int]) -> np.ndarray:
    user, item, time = (np.array(column) for column in zip(*rows, strict=True))
    return features(user, item, time)


def test_values_by_hand() -> None:
    """Cosines of c to a and b are .6 and .8; a pleased, b did not, so the mean is a half."""
    found = _ask(_features([(0, 0, 1, True), (0, 1, 2, False)], temperatures=(0.5, 0.1)), (0, 2, 3))[0]
    for at, temperature in enumerate((0.5, 0.1)):
        a, b, prior = np.exp((np.array([0.6, 0.8, 0.5]) - 1) / temperature)
        assert found[at] == pytest.approx((0.5 * a - 0.5 * b) / (a + b + prior), rel=1e-5)


@pytest.mark.parametrize("cold", [0.0005, 0.0, -0.1])
def test_temperatures_at_which_no_event_weighs_anything_are_refused(cold: float) -> None:
    with pytest.raises(ValidationError, match=r"at least 0\.01: in colder ones other items' events weigh nothing"):
        ReactionConfig(temperatures=(0.1, cold))
    opposite = EmbeddingTable(IDS[:2], np.array([[1, 0], [-1, 0]], dtype=np.float32))
    module = ReactionModule.of(Space.of(opposite, IDS, centre=False), ReactionConfig(temperatures=(0.01,)))
    zero = np.zeros(1, dtype=np.int64)
    found = ReactionFeatures(module, user=zero, item=zero, time=zero, pleased=zero == 0, users=1)
    assert _ask(found, (0, 1, 1)) == 0  # the least that an event can weigh, and the prior, are not 0


def test_equal_times_other_users_absent_items_and_old_events_do_not_count() -> None:
    events = [(0, 0, 1, True), (0, 1, 2, False), (0, 2, 5, True), (1, 2, 1, True), (0, 3, 3, False)]
    plain = _ask(_features(events[:2]), (0, 2, 5))
    np.testing.assert_array_equal(_ask(_features(events), (0, 2, 5)), plain)
    assert np.isnan(_ask(_features(events), (2, 0, 9), (0, 3, 9), (0, 0, 1), (-1, 0, 9), (0, -1, 9))).all()
    last = _ask(_features([(0, 2, 0, False), *events], last=3), (0, 2, 6))
    np.testing.assert_allclose(last, _ask(_features(events), (0, 2, 6)))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 9), st.booleans()), min_size=1, max_size=30
    ),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 10)), min_size=1, max_size=12),
    st.integers(1, 5),
)
def test_is_its_definition_row_by_row_whatever_the_block(
    events: list[Event], rows: list[tuple[int, int, int]], last: int
) -> None:
    found = _ask(_features(events, last=last), *rows)
    for again in (events, events[::-1]):  # the order of a file is no order of events
        np.testing.assert_allclose(_ask(_features(again, last=last, block=1), *rows), found, rtol=0, atol=1e-7)
    unit = AXES / np.linalg.norm(AXES, axis=1, keepdims=True)
    for (user, item, time), value in zip(rows, found[:, 0], strict=True):
        # Of equal times the lower item first, of one item's the event that did not please.
        before = [e for e in events if e[0] == user and e[1] < 3 and e[2] < time]
        before = sorted(before, key=lambda e: (e[2], e[1], e[3]))[-last:]
        if item == 3 or not before:
            assert np.isnan(value)
            continue
        pleased = np.array([e[3] for e in before], dtype=float)
        weight = np.exp((unit[[e[1] for e in before]] @ unit[item] - 1) / 0.5)
        expected = (weight * (pleased - pleased.mean())).sum() / (weight.sum() + np.exp(-1.0))
        assert value == pytest.approx(expected, abs=1e-6)


def test_sees_what_displeased_where_vectors_mean_something_and_nothing_where_they_do_not() -> None:
    rng = np.random.default_rng(0)
    taste, own = rng.normal(size=(300, 4)), rng.normal(size=(100, 4))
    user, item = np.repeat(np.arange(100), 60), rng.integers(300, size=6000)
    pleased = (own[user] * taste[item]).sum(axis=1) + rng.normal(size=6000) > 0
    time = np.tile(np.arange(60), 100)
    ids, asked = pd.Index(np.arange(300)), time >= 40
    correlation = {}
    for name, vectors in (("taste", taste), ("noise", rng.normal(size=(300, 4)))):
        space = Space.of(EmbeddingTable(ids, vectors.astype(np.float32)), ids, centre=True)
        features = ReactionFeatures(
            ReactionModule.of(space, ReactionConfig()), user=user, item=item, time=time, pleased=pleased, users=100
        )
        found = features(user[asked], item[asked], time[asked])[:, 1]
        correlation[name] = np.corrcoef(found, pleased[asked])[0, 1]
    assert correlation["taste"] > 0.4
    assert abs(correlation["noise"]) < 0.08  # 2000 rows: two standard errors are .045, and repeated items help
