"""LT proxies of the rank stage on planted logs: short ones, and such in which pleasing is worth nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from downstream_helpers import DAY, START, interactions

from recdistill.contracts.log import Log
from recdistill.contracts.records import Records
from recdistill.contracts.tables import write_json
from recdistill.lifetime.config import LifetimeConfig
from recdistill.rankers.proxies import lifetime_proxies
from recdistill.rankers.rows import Rows


def _log(days: int, *, worth: float, users: int = 150, seed: int = 0) -> Log:
    """Users are shown five items a visit, and come again the likelier, the more of the last five pleased."""
    rng = np.random.default_rng(seed)
    taste, last = rng.random(users), np.full(users, 0.5)
    parts = []
    for day in range(days):
        comes = np.flatnonzero(rng.random(users) < 1 / (1 + np.exp(1 - worth * (last - 0.5))))
        liked = rng.random((len(comes), 5)) < 0.2 + 0.6 * taste[comes, None]
        last[comes] = liked.mean(axis=1)
        time = START + day * DAY + np.arange(5) * 1_000_000
        parts.append((np.repeat(comes, 5), np.tile(time, len(comes)), liked.ravel()))
    user, time, liked = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Log.of([interactions(user, rng.integers(40, size=len(user)), time, liked)])


def _proxies(log: Log, *, factor: float = 1.0, seed: int = 0, **settings: Any) -> tuple[dict[str, Any], Records]:
    """Of rankers that know nothing and something of what pleases in the last three tenths of the log."""
    rng = np.random.default_rng(seed)
    late = np.flatnonzero(log.time >= np.quantile(log.time, 0.7))
    pleased, behaviours = log.positive()[late], log.behaviour_count[late]
    rows = Rows(log.user[late], log.item[late], log.time[late], pleased, behaviours, np.ones(len(late), dtype=bool))
    noise = rng.standard_normal((2, len(late)))
    records = Records(0, "time")
    found = lifetime_proxies(
        LifetimeConfig(**settings),
        log=log,
        rows=rows,
        logits={"none": factor * noise[0], "student": factor * (pleased + noise[1])},
        category=np.arange(len(log.item_ids)) % 3,
        records=records,
        draws=100,
        seed=seed,
    )
    return found, records


@pytest.mark.parametrize("days", [5, 9, 14, 20, 40, 45, 64])
@pytest.mark.parametrize("signal_days", [1, 7])
def test_short_logs_give_figures_or_a_reason_and_no_garbage(days: int, signal_days: int, tmp_path: Path) -> None:
    found, records = _proxies(_log(days, worth=2.0), signal_days=signal_days)
    write_json(found, tmp_path / "rank.json")  # refuses what is not finite
    for horizon, needed in (("lt7", 14), ("lt30", 42)):
        part = found[horizon]
        if days < needed and signal_days == 7:
            assert f"the log spans {days} days" in part["reason"] and not part["computed"]
            assert not [key for key in records.values if f"/{horizon}_" in key]
        if days >= needed:
            assert part["computed"] and part["naive_days"] >= 2
            assert 2 * part["observed_days"] >= part["asked_days"]
            assert part["signal_days"] >= min(signal_days, 2)
            assert np.isfinite(records.values[f"student/lt/all/{horizon}_proxy_delta"])
    for key, value in records.values.items():
        if "calibration_slope" in key:
            assert abs(value) < 100


def test_the_baseline_sees_a_week_though_the_window_is_shorter() -> None:
    found, records = _proxies(_log(70, worth=2.0))
    assert (found["lt30"]["signal_days"], found["lt30"]["naive_days"]) == (2, 4)  # as much as the first entries have
    assert (found["lt7"]["signal_days"], found["lt7"]["naive_days"]) == (7, 7)
    assert records.values["naive/lt/all/lt30_rank_correlation"] != 0


def test_a_surer_ranker_of_the_same_order_has_the_same_proxy() -> None:
    log = _log(60, worth=2.0)
    plain, surer = (_proxies(log, factor=factor)[1].values for factor in (1.0, 4.0))
    assert surer == pytest.approx(plain, abs=1e-12)


def _delta(records: Records) -> pd.Series:
    table = records.table().to_pandas()
    return table[(table.subject == "student") & (table.metric == "lt7_proxy_delta")].iloc[0]


def test_where_pleasing_brings_users_back_a_gain_has_an_interval_above_zero() -> None:
    found, records = _proxies(_log(90, worth=4.0, users=400))
    part = found["lt7"]
    assert part["pleasing_brings_users_back"] and "caution" not in part
    assert part["days_by_pleasing_interval"][0] > 0
    assert 0 < _delta(records).low < _delta(records).total < _delta(records).high
    level = records.table().to_pandas().query("subject == 'student' and metric == 'lt7_proxy'").iloc[0]
    assert level.low < level.total < level.high


@pytest.mark.parametrize("worth", [0.0, -3.0])
def test_where_it_does_not_the_figure_stands_with_a_caution_and_without_interval(worth: float, tmp_path: Path) -> None:
    found, records = _proxies(_log(90, worth=worth))
    part = found["lt7"]
    assert part["pleasing_brings_users_back"] is False
    assert "does not show that pleasing brings users back" in part["caution"]
    assert part["days_by_pleasing_interval"][0] < 0
    delta = _delta(records)
    assert np.isfinite(delta.total) and pd.isna(delta.low) and pd.isna(delta.high)
    write_json(found, tmp_path / "rank.json")
    told = json.loads((tmp_path / "rank.json").read_text())["lt7"]["deltas"]["student"]
    assert told["value"] == pytest.approx(delta.total)
    assert told["interval"][0] < told["interval"][1]
