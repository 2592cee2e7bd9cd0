"""``experiments/benchmarks/lifetime/simulated_ab.py``: that what foretells simulated A/B tests is told right."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recdistill.contracts import fold as layout
from recdistill.contracts import names
from recdistill.contracts.tables import EmbeddingTable, write_table
from recdistill.errors import UserError
from recdistill.ingest.synthetic.catalogue import DAY
from recdistill.ingest.synthetic.config import WorldConfig

BENCHMARKS = Path(__file__).parents[2] / "experiments" / "benchmarks" / "lifetime"
SWITCH = 31


@pytest.fixture(scope="module")
def ab() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        names = ("ab_platform", "ab_offline", "ab_rankers", "simulated_ab")
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})


@pytest.fixture(scope="module")
def platform(ab: Any) -> Any:
    config = WorldConfig(
        users=300, items=900, slots=6, candidates=6, position_decay=0.7, days=60, media=0.0, users_per_block=170
    )
    return ab.ab_platform.Platform(config, switch=SWITCH, random_share=0.2)


@pytest.fixture(scope="module")
def arms(platform: Any) -> dict[str, Any]:
    return {
        "own": platform.run(platform.own),
        "best": platform.run(lambda user, item, day, noise: platform.truth(user, item, day)),
        "worst": platform.run(lambda user, item, day, noise: -platform.truth(user, item, day)),
    }


def test_arms_are_one_until_the_switch_and_the_same_ranker_changes_nothing(
    ab: Any, platform: Any, arms: dict[str, Any]
) -> None:
    again = platform.run(platform.own)
    lift, lived = ab.ab_platform.true_lift(platform, arms["own"].returns, again.returns, days=30)
    assert (lift.value, lift.error, lived.value) == (0, 0, 0)
    assert not lift.significant
    for arm in arms.values():
        np.testing.assert_array_equal(arm.active[:, : SWITCH + 1], arms["own"].active[:, : SWITCH + 1])
        np.testing.assert_array_equal(arm.item[arm.day < SWITCH], arms["own"].item[arms["own"].day < SWITCH])
    assert not np.array_equal(arms["best"].item, arms["own"].item)


def test_expected_days_are_those_lived_on_average(platform: Any, arms: dict[str, Any]) -> None:
    """The chance of a day is told before it comes."""
    known = platform.users.signup < SWITCH
    for arm in arms.values():
        lived, told = arm.active[known, SWITCH + 1 :].sum(), arm.chance[known, SWITCH + 1 :].sum()
        variance = (arm.chance[known, SWITCH + 1 :] * (1 - arm.chance[known, SWITCH + 1 :])).sum()
        assert abs(lived - told) < 4 * np.sqrt(variance)


def test_a_better_ranker_brings_more_days(ab: Any, platform: Any, arms: dict[str, Any]) -> None:
    def lift(arm: str, **of: int) -> Any:
        return ab.ab_platform.true_lift(platform, arms["own"].returns, arms[arm].returns, **of)[0]

    assert lift("best", days=28).value > 0 and lift("best", days=28).significant
    assert lift("worst", days=28).value < 0 and lift("worst", days=28).significant
    # It takes hold with the visits.
    assert lift("best", days=7, after=20).value > lift("best", days=7).value


def test_random_pages_are_those_said_to_be(platform: Any, arms: dict[str, Any]) -> None:
    arm = arms["worst"]
    late = arm.day >= SWITCH
    assert np.unique(arm.page[arm.random]).size / np.unique(arm.page).size == pytest.approx(0.2, abs=0.02)
    truth = platform.truth(arm.user, arm.item, arm.day)
    correlation = {
        random: np.corrcoef(truth[late & (arm.random == random)], arm.position[late & (arm.random == random)])[0, 1]
        for random in (True, False)
    }
    assert abs(correlation[True]) < 0.1
    assert correlation[False] > 0.3


def test_a_page_knows_how_many_candidates_it_had(ab: Any) -> None:
    """Of fourteen drawn, those seen before or drawn twice cannot be shown; a page that is not full shows all it had."""
    config = WorldConfig(users=120, items=300, days=25, media=0.0, users_per_block=70)
    arm = ab.ab_platform.Platform(config, switch=20, random_share=0.3)
    arm = arm.run(arm.own)
    _, first, of, shown = np.unique(arm.page, return_index=True, return_inverse=True, return_counts=True)
    assert (arm.candidates == arm.candidates[first][of]).all()
    candidates = arm.candidates[first]
    assert (shown == np.minimum(candidates, config.slots)).all()
    assert candidates.max() <= config.candidates
    assert 6 < candidates.mean() < config.candidates - 1


def test_random_pages_weigh_alike_however_many_candidates_they_had(
    ab: Any, platform: Any, arms: dict[str, Any]
) -> None:
    """Every page stands for a policy's whole page, so that pages of few do not outweigh the others."""
    offline = ab.ab_offline.Offline(platform, arms["own"], 22, 0.7 ** np.arange(6), None, 20.0, 0)
    page = np.repeat([0, 1, 2], [6, 6, 3])
    position = np.concatenate([np.arange(1, 7), np.arange(1, 7), np.arange(1, 4)])
    candidates = np.repeat([14, 8, 3], [6, 6, 3])
    target, propensity = offline._random_looks(page, position, candidates)
    looks = offline.look
    np.testing.assert_allclose(np.bincount(page, weights=target), [looks.sum(), looks.sum(), looks[:3].sum()])
    np.testing.assert_allclose(propensity, np.repeat([looks.mean(), looks.mean(), looks[:3].mean()], [6, 6, 3]))
    # Among more unseen candidates an item further down is less likely to be shown at all.
    assert target[0] / target[5] > target[6] / target[11]


def test_the_rank_stage_is_asked_by_its_own_function(ab: Any, platform: Any, arms: dict[str, Any]) -> None:
    """Same order, same proxy, and the better order gets more days if pleasing is worth any."""
    offline = ab.ab_offline.Offline(platform, arms["own"], 17, 0.7 ** np.arange(6), None, 20.0, 0)
    slope = offline.slope(days=7, draws=10)

    def truth(user: Any, item: Any, day: Any, noise: Any) -> Any:
        return platform.truth(user, item, day)

    rankers = {
        "own": platform.own,
        "best": truth,
        "surer": lambda u, i, d, e: 3 * truth(u, i, d, e) + 1,
        "worst": lambda u, i, d, e: -truth(u, i, d, e),
    }
    said = offline.rank_stage(rankers, slope, base="own", draws=20)
    assert said.days["surer"].value == pytest.approx(said.days["best"].value)
    worth = said.by_pleasing.value
    assert worth * said.gain["best"].value > 0 > worth * said.gain["worst"].value


def test_the_log_foretells_who_wins(ab: Any, platform: Any, arms: dict[str, Any]) -> None:
    """Of pages that show all candidates, in true looks: the better order is worth more, the worse less."""
    rankers, offline_of = ab.ab_rankers, ab.ab_offline.Offline
    base = arms["own"]
    look = 0.7 ** np.arange(6)
    vectors = rankers.spaces(platform, base, until=14, seed=0)
    before, now = (rankers.Knowledge.of(platform, base, vectors, until=day, look=look) for day in (14, 22))
    merit = rankers.Learned.fit(before, now, ("content",), base, base.events(start=14, stop=22), look=look)
    offline = offline_of(platform, base, 22, look, merit, 20.0, 0)

    def worth(ranker: Any, *, random: bool) -> float:
        rows = offline.rows(ranker, random=random)
        value = ab.ab_offline.robust if random else ab.ab_offline.weighted
        return float(value(rows, np.arange(len(rows.user))).clicks)

    def best(user: Any, item: Any, day: Any, noise: Any) -> Any:
        return platform.truth(user, item, day)

    def worst(user: Any, item: Any, day: Any, noise: Any) -> Any:
        return -platform.truth(user, item, day)

    for random in (True, False):
        assert worth(best, random=random) > worth(platform.own, random=random) > worth(worst, random=random)
    slope = offline.slope(days=7, draws=10)
    assert slope.by_clicks > 0
    assert slope.interval is not None
    assert slope.interval[0] < slope.by_clicks < slope.interval[1]
    rows = {name: offline.rows(ranker, random=False) for name, ranker in (("best", best), ("own", platform.own))}
    limits = ab.ab_offline.lift_interval(
        ab.ab_offline.weighted, rows["best"], rows["own"], slope, share=0.8, draws=50, seed=0
    )
    assert limits is not None
    summed = rows["best"].summed()
    assert ab.ab_offline.weighted(summed, np.arange(len(summed.user))).clicks == pytest.approx(
        worth(best, random=False)
    )


def _run_folder(platform: Any, folder: Path, *, last_day: int) -> None:
    """What a finished run leaves of its fold and its vectors, every third item without any."""
    ids = pd.Index(np.sort(platform.catalogue.item_ids))
    rows = pa.table(
        {
            names.USER_ID: ["u0", "u0"],
            names.ITEM_ID: ids[:2].tolist(),
            names.TIMESTAMP: pa.array(
                [platform.catalogue.start, platform.catalogue.start + last_day * DAY], pa.timestamp("us", "UTC")
            ),
            names.BEHAVIOURS: pa.array([["click"], []], pa.list_(pa.string())),
        }
    )
    fold = folder / "split" / "time"
    write_table(rows, fold / layout.TRAIN)
    write_table(pa.table({names.ITEM_ID: ids.tolist(), names.ROLE: ["warm"] * len(ids)}), fold / layout.ITEMS)
    have = np.arange(len(ids)) % 3 > 0
    vectors = np.random.default_rng(0).standard_normal((int(have.sum()), 8)).astype(np.float32)
    for path in ("evaluate/{}/raw_content", "teach/{}/id_teacher", "evaluate/{}/kernel_ridge", "distill/{}/student"):
        table = EmbeddingTable(ids[have], vectors)
        table.write(folder / "seed-0" / "time" / f"{path.format('selection')}.parquet")


def test_vectors_of_a_run_find_their_items(ab: Any, platform: Any, tmp_path: Path) -> None:
    _run_folder(platform, tmp_path, last_day=13)
    found = ab.ab_rankers.spaces_of_run(platform, tmp_path, until=14, seed=0)
    assert list(found) == ["random", "content", "behaviour", "kernel ridge", "student"]
    table = EmbeddingTable.read(tmp_path / "seed-0" / "time" / "distill" / "selection" / "student.parquet")
    centred = table.vectors - table.vectors.mean(axis=0)
    row = platform.catalogue.item_ids.tolist().index(table.ids[5])
    np.testing.assert_allclose(found["student"][row], centred[5] / np.linalg.norm(centred[5]), rtol=1e-4, atol=1e-6)
    assert (found["student"] == 0).all(axis=1).sum() == 300


def test_a_run_that_saw_the_rankers_days_is_refused(ab: Any, platform: Any, tmp_path: Path) -> None:
    _run_folder(platform, tmp_path, last_day=14)
    with pytest.raises(UserError, match="trained up to day 14"):
        ab.ab_rankers.spaces_of_run(platform, tmp_path, until=14, seed=0)


def test_verdict_by_hand(ab: Any) -> None:
    """Four pairs, three of them sure, of which one is foretold with the wrong sign."""
    lift = ab.ab_platform.Lift
    pairs = [
        SimpleNamespace(true=lift(true, error), later=lift(2 * true, error), predicted={"log": said})
        for true, error, said in ((1.0, 0.1, 2.0), (-1.0, 0.1, -2.0), (0.5, 0.1, -0.5), (0.1, 0.1, 0.4))
    ]
    found = {name: figures[0] for name, figures in ab.simulated_ab.verdict(pairs, "log").items()}
    assert found["significant"] == pytest.approx(2 / 3)
    assert found["all"] == pytest.approx(3 / 4)
    assert found["spearman"] == pytest.approx(0.8)
    assert found["size"] == pytest.approx((2 + 2 - 0.25 + 0.04) / (4 + 4 + 0.25 + 0.16))
    assert found["size_later"] == pytest.approx(2 * found["size"])
