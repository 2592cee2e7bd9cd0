"""Rankers of several seeds compared on the same rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from recdistill.errors import UserError
from recdistill.rankers.contrast import Panel
from recdistill.rankers.predictions import Predictions

USERS, EACH = 120, 10


def _predictions(seeds: int, *, gain: float, training_noise: float = 0.0, trial: int = 0) -> list[Predictions]:
    """``trees/student`` knows ``gain`` more of the label than ``trees/none``; ``trees/random`` knows nothing more."""
    rng = np.random.default_rng(trial)
    user = np.repeat(np.arange(USERS), EACH)
    signal, extra, noise = rng.normal(size=(3, len(user)))
    label = signal + gain * extra + rng.normal(size=len(user)) + 0.5 * rng.normal(size=USERS)[user] > 0
    splits = {"all": np.ones(len(user), dtype=bool), "cold": np.arange(len(user)) % 5 == 0}
    made = []
    for _ in range(seeds):
        logits = {
            f"trees/{name}": signal + add + training_noise * rng.normal(size=len(user))
            for name, add in (("none", 0.0), ("student", gain * extra), ("random", 0.05 * noise))
        }
        made.append(Predictions(user, pa.table({"user_id": user}), label, splits, logits))
    return made


NAMES = ("trees/none", "trees/student", "trees/random")


def test_values_are_means_over_seeds_and_differences_are_paired() -> None:
    predictions = _predictions(3, gain=0.5, training_noise=0.3)
    panel = Panel.of(predictions, NAMES, split="cold", draws=200)
    rows = predictions[0].splits["cold"]
    areas = [[roc_auc_score(of.label[rows], of.logits[name][rows]) for of in predictions] for name in NAMES]
    assert panel.value("trees/student", "auc") == pytest.approx(np.mean(areas[1]))
    gain = panel.gain("trees/student", "trees/none", metric="auc")
    assert gain.by_seed == pytest.approx(np.subtract(areas[1], areas[0]))
    assert gain.value == pytest.approx(np.mean(gain.by_seed))
    assert gain.low < gain.value < gain.high
    # Users and trainings err both.
    assert gain.error > (gain.high - gain.low) / 3.92 * 0.9
    assert gain.detectable == pytest.approx((1.959964 + 0.841621) * gain.error, rel=1e-6)
    assert gain.p_by_user < 0.05
    gauc = panel.gain("trees/student", "trees/none", metric="gauc")
    assert gauc.value > 0 and np.isnan(gauc.p)


def test_a_gain_is_seen_and_none_is_not_seen() -> None:
    """Over 40 worlds: the planted gain nearly always, the null one about as often as said."""
    seen = dict.fromkeys(NAMES[1:], 0)
    for trial in range(40):
        panel = Panel.of(_predictions(1, gain=0.5, trial=trial), NAMES, split="all", draws=10)
        for name in seen:
            gain = panel.gain(name, "trees/none", metric="auc")
            seen[name] += gain.value > 0 and gain.p_by_user < 0.05
    assert seen["trees/student"] >= 38
    assert seen["trees/random"] <= 4


def test_of_equal_trainings_more_seeds_tell_nothing_more() -> None:
    """Three equal seeds are one: users err as before, trainings not at all."""
    one = _predictions(1, gain=0.5)
    single, triple = (
        Panel.of(of, NAMES, split="all", draws=100).gain("trees/student", "trees/none", metric="auc")
        for of in (one, one * 3)
    )
    assert triple.error == pytest.approx(single.error)
    assert triple.p == pytest.approx(single.p)
    assert (triple.low, triple.high) == pytest.approx((single.low, single.high))


def test_seeds_of_different_rows_are_refused() -> None:
    first, second = _predictions(2, gain=0.5)
    other = replace(second, rows=pa.table({"user_id": first.user[::-1]}))
    with pytest.raises(UserError, match="different rows"):
        Panel.of([first, other], NAMES, split="all", draws=10)
