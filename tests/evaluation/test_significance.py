"""Ratios with intervals, paired tests and their correction, by hand and against planted truths."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.contracts.records import Records
from recdistill.evaluation.significance import contrast, holm, sign_flip

FIGURE = {"benchmark": "seq2item_vanilla", "split": "all", "metric": "recall_at_10"}


def table(*records: Records) -> pd.DataFrame:
    return pd.concat([of.table().to_pandas() for of in records], ignore_index=True)


def add(records: Records, subject: str, values: np.ndarray, unit: np.ndarray) -> None:
    records.add(subject, *FIGURE.values(), unit, pd.Index([f"u{row}" for row in range(1000)]), values)


def test_holm_by_hand() -> None:
    """.01·4; .02·3; .03·2 would be below the one before it; .04."""
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(p: list[float]) -> None:
    adjusted = np.array(holm(p))
    assert (adjusted >= p).all() and (adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()
    assert adjusted[np.argmin(p)] == min(1.0, len(p) * min(p))
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_sign_flip_by_hand() -> None:
    """Of the eight sums ±1 ±2 ±3 one is as high as 6 and one as low: 2 / 8. That of 1, 2, −3 is 0: nothing is rarer."""
    assert sign_flip(np.array([1.0, 2.0, 3.0]), flips=1000, seed=0) == pytest.approx(2 / 8)
    assert sign_flip(np.array([1.0, 2.0, -3.0]), flips=1000, seed=0) == 1.0
    assert sign_flip(np.zeros(5), flips=1000, seed=0) == 1.0


def test_sign_flip_rejects_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    p = [sign_flip(rng.normal(size=30), flips=400, seed=seed) for seed in range(300)]
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=0.05)


def test_contrast_by_hand() -> None:
    """Seed 0 asks u0 (twice) and u1, seed 1 asks u2: a (2/3 + 1)/2, b (1/3 + 1)/2; c is known to seed 0 alone."""
    parts = [Records(0, "fold-0"), Records(1, "fold-1")]
    add(parts[0], "a", np.array([1.0, 0.0, 1.0]), np.array([0, 0, 1]))
    add(parts[0], "b", np.array([1.0, 0.0, 0.0]), np.array([0, 0, 1]))
    add(parts[1], "a", np.array([1.0]), np.array([2]))
    add(parts[1], "b", np.array([1.0]), np.array([2]))
    add(parts[0], "c", np.array([1.0]), np.array([1]))
    records = table(*parts)
    found = contrast(records, "a", "b", **FIGURE)
    assert found is not None
    assert (found.a, found.b, found.units) == (pytest.approx(5 / 6), pytest.approx(2 / 3), 3)
    assert found.ratio == pytest.approx(5 / 4)
    assert found.by_seed == pytest.approx((2, 1))
    assert found.p == 1.0  # one unit differs: its sign may as well be the other
    some = contrast(records, "a", "c", **FIGURE)
    assert some is not None and (some.a, some.b, some.units, some.by_seed) == (1.0, 1.0, 1, (1.0,))
    assert contrast(records, "a", "nobody", **FIGURE) is None
    nothing = contrast(records.assign(total=0.0), "a", "b", **FIGURE)
    assert nothing is not None and math.isnan(nothing.ratio) and nothing.p == 1.0


def test_a_planted_ratio_is_found_and_tested_against_its_null() -> None:
    rng = np.random.default_rng(1)
    base = rng.gamma(4.0, 0.1, 400)
    records = Records(0, "time")
    add(records, "b", base, np.arange(400))
    add(records, "a", 0.9 * base + rng.normal(0, 0.05, 400), np.arange(400))
    found = contrast(table(records), "a", "b", **FIGURE)
    assert found is not None and found.low < 0.9 < found.high and found.p < 0.001
    accepted = contrast(table(records), "a", "b", null=0.9, **FIGURE)
    assert accepted is not None and accepted.p > 0.05
    error = np.std(0.1 * base, ddof=0) ** 2 + 0.05**2
    assert found.detectable == pytest.approx(2.8 * math.sqrt(error / 400) / base.mean(), rel=0.1)
    assert found.detectable_alone == found.detectable


def test_more_seeds_of_other_users_show_less() -> None:
    rng = np.random.default_rng(2)
    parts = [Records(seed, f"fold-{seed}") for seed in range(4)]
    for seed, records in enumerate(parts):
        for name in ("a", "b"):
            add(records, name, rng.normal(1, 0.3, 100), np.arange(100) + 100 * seed)
    found = contrast(table(*parts), "a", "b", **FIGURE)
    assert found is not None and found.detectable_alone / found.detectable == pytest.approx(2.0, rel=0.15)
