"""Confidence by support, and by what two halves of the users agree on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from recdistill.contracts.log import Log
from recdistill.errors import UserError
from recdistill.teachers.confidence import (
    _agreement,
    _by_support,
    _nearest,
    confidence_of,
    halves_confidence,
)
from recdistill.teachers.config import HalvesConfig
from recdistill.teachers.positives import Positives

USERS, GROUPS = 400, 4
LEVELS = (3, 6, 12, 24, 48)  # positives of an item; every fifth item has the same


def positives_of(pairs: list[tuple[str, str]], item_ids: pd.Index) -> Positives:
    """Distinct (user, item) pairs as positives, items numbered by ``item_ids``, users as they come."""
    users = pd.Index(pd.unique(np.array([user for user, _ in pairs], dtype=object)))
    user = users.get_indexer(pd.Index([user for user, _ in pairs]))
    item = item_ids.get_indexer(pd.Index([item for _, item in pairs]))
    order = np.argsort(user, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=len(users)))])
    return Positives(
        item_ids,
        users,
        torch.from_numpy(item[order]),
        torch.ones(len(pairs)),
        torch.zeros(len(pairs), dtype=torch.int64),
        torch.from_numpy(starts),
        torch.from_numpy(np.bincount(item, minlength=len(item_ids))),
    )


def world(seed: int = 0) -> tuple[list[tuple[str, str]], pd.Index]:
    """120 items ``s…`` that one of four groups of users likes, and 60 ``z…`` that anybody may; one nobody does."""
    rng = np.random.default_rng(seed)
    pairs = []
    for item in range(180):
        name = f"{'s' if item < 120 else 'z'}{item:03d}"
        pool = np.arange(item % GROUPS, USERS, GROUPS) if item < 120 else np.arange(USERS)
        pairs += [(f"u{user:03d}", name) for user in rng.choice(pool, LEVELS[item % 5], replace=False)]
    return pairs, pd.Index([*sorted({item for _, item in pairs}), "nobody's"])


def by_halves(positives: Positives, *, seed: int = 0) -> np.ndarray:
    return halves_confidence(positives, dim=8, neighbours=10, references=100, splits=4, prior=4.0, seed=seed)


@pytest.fixture(scope="module")
def planted_halves() -> tuple[Positives, np.ndarray]:
    positives = positives_of(*world())
    return positives, by_halves(positives)


def test_by_support_by_hand() -> None:
    assert confidence_of(np.array([0, 5, 15]), prior=5).tolist() == [0, 0.5, 0.75]
    assert confidence_of(np.array([0, 3]), prior=0).tolist() == [0, 1]


def test_items_of_no_audience_are_trusted_less_than_others_of_the_same_support(
    planted_halves: tuple[Positives, np.ndarray],
) -> None:
    positives, confidence = planted_halves
    support = positives.support.numpy()
    structured = positives.item_ids.str.startswith("s")
    for level in LEVELS:
        here = support == level
        assert confidence[here & structured].mean() > confidence[here & ~structured].mean() + 0.1
        assert np.ptp(confidence_of(support[here], prior=5)) == 0  # which support cannot see
    # With enough behind them hardly any noise item reaches what the structured have.
    well = support >= 12
    assert np.quantile(confidence[well & ~structured], 0.9) < np.quantile(confidence[well & structured], 0.2)


def test_confidence_rises_with_support(planted_halves: tuple[Positives, np.ndarray]) -> None:
    positives, confidence = planted_halves
    support, structured = positives.support.numpy(), positives.item_ids.str.startswith("s")
    means = [confidence[structured & (support == level)].mean() for level in LEVELS]
    assert all(np.diff(means) > 0)


def test_bounds_and_items_without_a_positive(planted_halves: tuple[Positives, np.ndarray]) -> None:
    positives, confidence = planted_halves
    assert confidence.dtype == np.float32 and confidence.shape == (len(positives.item_ids),)
    assert confidence.min() == 0 and confidence.max() <= 1
    assert (confidence == 0).tolist() == (positives.support == 0).tolist()


def test_no_order_of_users_or_items_matters(planted_halves: tuple[Positives, np.ndarray]) -> None:
    positives, confidence = planted_halves
    pairs, items = world()
    rng = np.random.default_rng(1)
    shuffled = [pairs[at] for at in rng.permutation(len(pairs))]
    order = rng.permutation(len(items))
    found = by_halves(positives_of(shuffled, items[order]))
    assert np.array_equal(found, confidence[order])
    assert np.array_equal(by_halves(positives), confidence)
    assert not np.array_equal(by_halves(positives, seed=1), confidence)


def test_rows_of_a_log_in_any_order(log_of: Callable[[list], Log]) -> None:
    rows = [(user, item, 1, ["like"]) for user, item in world()[0]]
    found = [by_halves(Positives.of(log_of(order), min_behaviours=1, last=100, seed=0)) for order in (rows, rows[::-1])]
    assert np.array_equal(*found)


def test_an_item_that_one_user_likes_gets_what_its_support_says() -> None:
    """Never in both halves, so its own agreement is unknown: between nothing and that of the least support seen."""
    pairs, items = world()
    lonely = [(f"u{user:03d}", f"lonely{user}") for user in range(5)]
    positives = positives_of(pairs + lonely, items.append(pd.Index([item for _, item in lonely])))
    confidence = by_halves(positives)
    alone = confidence[-5:]
    assert np.ptp(alone) == 0 and 0 < alone[0] < confidence[positives.support.numpy() == 3].mean()


def test_agreement_by_hand() -> None:
    """Four items on a half circle, all of them references, one neighbour each; the last has no vector in one space.

    Chance is 1 / 4: sharing gives (1 − ¼) / ¾ = 1, not sharing (0 − ¼) / ¾ = −⅓.
    """

    def at(*degrees: float) -> np.ndarray:
        angle = np.deg2rad(degrees)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)

    first, second = at(0, 10, 60, 75), at(0, 20, 30, 170)
    second[3] = 0
    assert _nearest(first, slice(0, 4), neighbours=1, references=4).argmax(axis=1).tolist() == [1, 0, 3, 2]
    assert _nearest(second, slice(2, 4), neighbours=1, references=4).tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]
    found = _agreement(first, second, neighbours=1, references=4)  # 0 keeps 1, 1 goes to 2, 2 to 1, 3 to none
    assert found.tolist() == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3])


def test_blocks_are_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    spaces = [rng.normal(size=(50, 4)).astype(np.float32) for _ in range(2)]
    whole = _agreement(*spaces, neighbours=5, references=20)
    monkeypatch.setattr("recdistill.teachers.confidence._BLOCK", 7)
    assert np.array_equal(_agreement(*spaces, neighbours=5, references=20), whole)


def test_what_is_usual_by_support_never_falls_and_starts_at_zero() -> None:
    support = np.array([0, 1, 2, 4, 4, 8, 20])
    seen = support >= 2
    usual = _by_support(support, np.array([0.2, 0.6, 0.4, 0.3, 0.9]), seen=seen, weights=np.full(5, 4.0))
    # Half way to the 0.2 of two positives; those of 4 and 8 fall, so all three get their mean.
    assert usual.tolist() == pytest.approx([0, 0.1, 0.2, 1.3 / 3, 1.3 / 3, 1.3 / 3, 0.9])


def test_too_few_items_is_the_users_mistake() -> None:
    positives = positives_of([(f"u{user}", f"i{item}") for user in range(20) for item in range(5)], pd.Index(
        [f"i{item}" for item in range(5)]
    ))  # fmt: skip
    with pytest.raises(UserError, match="only 5 items have positives of both halves") as caught:
        by_halves(positives)
    assert "teachers.confidence" in (caught.value.remedy or "")


def test_references_leave_room_for_strangers() -> None:
    with pytest.raises(ValidationError, match="not more than twice"):
        HalvesConfig(neighbours=50, references=100)
