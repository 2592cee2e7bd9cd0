"""Rankers of several seeds compared on the same rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import nct
from sklearn.metrics import roc_auc_score

from recdistill.errors import UserError
from recdistill.rankers.contrast import Panel, Trained
from recdistill.rankers.predictions import Predictions

USERS, EACH = 120, 10


def _predictions(
    seeds: int, *, gain: float, training_noise: float = 0.0, errs: float = 0.0, trial: int = 0
) -> list[Predictions]:
    """``trees/student`` knows ``gain`` more of the label than ``trees/none``; ``trees/random`` knows nothing more.

    A training scatters its scores by ``training_noise``, and is wrong about all users alike by ``errs`` or so.
    """
    rng = np.random.default_rng(trial)
    user = np.repeat(np.arange(USERS), EACH)
    signal, extra, noise, wrong = rng.normal(size=(4, len(user)))
    label = signal + gain * extra + rng.normal(size=len(user)) + 0.5 * rng.normal(size=USERS)[user] > 0
    splits = {"all": np.ones(len(user), dtype=bool), "cold": np.arange(len(user)) % 5 == 0}
    made = []
    for _ in range(seeds):
        logits = {
            f"trees/{name}": signal + add + training_noise * rng.normal(size=len(user)) + errs * rng.normal() * wrong
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
    assert gain.trained.error > (gain.high - gain.low) / 3.92 * 0.9
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


def test_noise_is_not_seen_where_trainings_differ() -> None:
    """Over users alone noise is seen half of the time, since its ranker is another training; over trainings rarely."""
    seen = {"users": 0, "trainings": 0, "gain": 0}
    for trial in range(60):
        panel = Panel.of(_predictions(3, gain=0.8, errs=0.4, trial=trial), NAMES, split="all", draws=20)
        noise, real = (panel.gain(name, "trees/none", metric="auc") for name in ("trees/random", "trees/student"))
        seen["users"] += noise.p_by_user < 0.05
        seen["trainings"] += noise.trained.p < 0.05
        seen["gain"] += real.value > 0 and real.trained.p < 0.05
    assert seen["trainings"] <= 8 and seen["users"] >= 20
    assert seen["gain"] >= 40


def test_users_and_trainings_by_hand() -> None:
    """Differences 1, 2, 3: variance 1, of the mean 1/3; with 2/3 over users 1 in all, on 2 · (1 / (1/3))² = 18."""
    found = Trained.of((1.0, 2.0, 3.0), over_users=np.sqrt(2 / 3))
    assert (found.value, found.error, found.freedom) == pytest.approx((2, 1, 18))
    assert found.interval == pytest.approx((2 - 2.100922, 2 + 2.100922), abs=1e-6)
    assert found.p == pytest.approx(0.060767, abs=1e-4)
    # By the noncentral t distribution: a little more than 2.100922 + 0.841621.
    assert found.detectable == pytest.approx(2.962676, abs=1e-5)
    assert nct.sf(2.100922, 18, found.detectable) == pytest.approx(0.8, abs=1e-6)
    alone = Trained.of((2.0,), over_users=1.0)
    assert alone.freedom == np.inf and alone.interval == pytest.approx((2 - 1.959964, 2 + 1.959964), abs=1e-6)
    assert Trained.of((0.0, 0.0), over_users=0.0).p == 1


def test_of_equal_trainings_more_seeds_tell_nothing_more() -> None:
    """Three equal seeds are one: users err as before, trainings not at all."""
    one = _predictions(1, gain=0.5)
    single, triple = (
        Panel.of(of, NAMES, split="all", draws=100).gain("trees/student", "trees/none", metric="auc")
        for of in (one, one * 3)
    )
    assert triple.trained.error == pytest.approx(single.trained.error)
    assert triple.trained.freedom == np.inf
    assert triple.p == pytest.approx(single.p)
    assert (triple.low, triple.high) == pytest.approx((single.low, single.high))


def test_seeds_of_different_rows_are_refused() -> None:
    first, second = _predictions(2, gain=0.5)
    other = replace(second, rows=pa.table({"user_id": first.user[::-1]}))
    with pytest.raises(UserError, match="different rows"):
        Panel.of([first, other], NAMES, split="all", draws=10)
