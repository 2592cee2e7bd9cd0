"""The rank stage on a planted world: who gains, who does not, and what is written."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from downstream_helpers import World, planted_world
from sklearn.metrics import roc_auc_score

from recdistill.contracts.fold import Fold
from recdistill.contracts.tables import EmbeddingTable, read_metadata, write_table
from recdistill.contracts.validate import violations_of
from recdistill.errors import UserError
from recdistill.rankers import RankConfig, rank
from recdistill.rankers.config import DinConfig, DlrmConfig
from recdistill.rankers.predictions import Predictions

CONFIG = RankConfig(
    groups=("none", "random", "raw_content", "kernel_ridge", "student"),
    dlrm=DlrmConfig(batch_size=256, epochs=10, learning_rate=5e-3),
    draws=200,
)


def _rank(world: World, out: Path, config: RankConfig = CONFIG, *, seed: int = 0) -> None:
    rank(
        config,
        fold=world.fold,
        items=world.root / "data" / "items.parquet",
        teach=world.root / "teach",
        distill=world.root / "distill",
        evaluate=world.root / "evaluate",
        out=out,
        seed=seed,
        key="k",
        log=lambda name: lambda metrics, step: None,
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The student knows the taste; raw content shows a weak trace of it."""
    made = planted_world(tmp_path_factory.mktemp("world"))
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((len(made.taste), 12))
    made.write_embedding("distill/selection/student.parquet", made.taste @ rng.standard_normal((6, 12)))
    made.write_embedding("evaluate/selection/raw_content.parquet", np.hstack([0.5 * made.taste, noise]))
    return made


@pytest.fixture(scope="module")
def ranked(world: World) -> Path:
    out = world.root / "rank"
    _rank(world, out)
    return out


def _figures(out: Path) -> dict[str, Any]:
    return json.loads((out / "rank.json").read_text())


def _record(out: Path, key: str) -> pd.Series:
    subject, benchmark, split, metric = key.split("/")
    records = pd.read_parquet(out / "metric_records.parquet")
    found = records[
        (records.subject == subject)
        & (records.benchmark == benchmark)
        & (records.split == split)
        & (records.metric == metric)
    ]
    assert len(found) == 1
    return found.iloc[0]


def test_an_informative_table_gains_and_a_random_one_does_not(ranked: Path) -> None:
    student = _record(ranked, "student/ranker/all/auc_delta")
    assert student.total > 0.05
    assert student.low > 0.03
    assert _record(ranked, "student/ranker/all/gauc_delta").low > 0.03
    assert _record(ranked, "student/ranker/all/logloss_delta").high < 0
    noise = _record(ranked, "random/ranker/all/auc_delta")
    assert noise.low - 0.005 < 0 < noise.high + 0.005
    assert abs(noise.total) < 0.2 * student.total
    assert student.low > _record(ranked, "raw_content/ranker/all/auc_delta").total


def test_cold_items_gain_too(ranked: Path) -> None:
    """They have no counters and no trained id: only content can tell them apart."""
    assert _record(ranked, "student/ranker/cold/auc_delta").low > 0.1
    assert _figures(ranked)["rows"]["test"]["cold_share"] > 0.1
    assert _figures(ranked)["rows"]["train"]["cold_share"] == 0


def test_records_keep_their_contract_and_agree_with_the_summary(ranked: Path) -> None:
    path = ranked / "metric_records.parquet"
    assert violations_of(path, "metric_records") == []
    records = pd.read_parquet(path)
    for key, value in _figures(ranked)["values"].items():
        subject, benchmark, split, metric = key.split("/")
        part = records[
            (records.subject == subject)
            & (records.benchmark == benchmark)
            & (records.split == split)
            & (records.metric == metric)
        ]
        assert part.total.sum() / part["count"].sum() == pytest.approx(value)
    auc = _record(ranked, "student/ranker/all/auc")
    assert auc.low < auc.total < auc.high


def test_what_was_left_out_is_said(ranked: Path) -> None:
    figures = _figures(ranked)
    assert figures["skipped_groups"] == ["kernel_ridge"]
    assert figures["negatives"] == "logged"
    assert "gauc weighs them by impressions" in read_metadata(ranked / "metric_records.parquet")["gauc"]
    assert not list(ranked.glob(".*"))


def test_lifetime_proxies_follow_the_planted_return(ranked: Path) -> None:
    """Pleased users come back sooner, so a ranker that pleases more is predicted more days."""
    lifetime = _figures(ranked)["lifetime"]
    assert lifetime["lt7"]["computed"]
    assert not lifetime["lt7"]["truncated"]
    assert lifetime["lt30"]["truncated"]
    assert lifetime["lt7"]["r2"] > max(lifetime["lt7"]["naive_r2"], 0)
    assert lifetime["lt7"]["rank_correlation"] > 0.1
    for group in ("none", "random", "raw_content", "student"):
        for metric in ("lt7_proxy", "lt30_proxy", "r2"):
            assert np.isfinite(_figures(ranked)["values"][f"{group}/lt/all/{metric}"])
    delta = _record(ranked, "student/lt/all/lt7_proxy_delta")
    assert delta.low > 0
    assert abs(_record(ranked, "random/lt/all/lt7_proxy_delta").total) < 0.3 * delta.total


def test_same_seed_same_records(world: World, ranked: Path, tmp_path: Path) -> None:
    _rank(world, tmp_path, CONFIG.model_copy(update={"groups": ("none", "random")}))
    again, first = (pd.read_parquet(out / "metric_records.parquet") for out in (tmp_path, ranked))
    for one in ("none", "random"):
        pd.testing.assert_frame_equal(
            again[again.subject == one].reset_index(drop=True), first[first.subject == one].reset_index(drop=True)
        )


def test_a_missing_student_is_told(world: World, tmp_path: Path) -> None:
    lacking = World(world.root, world.fold, world.taste)
    with pytest.raises(UserError, match=r"student\.parquet: no such table"):
        rank(
            CONFIG,
            fold=lacking.fold,
            items=world.root / "data" / "items.parquet",
            teach=tmp_path,
            distill=tmp_path,
            evaluate=tmp_path,
            out=tmp_path / "out",
            seed=0,
            key="k",
            log=lambda name: lambda metrics, step: None,
        )


def test_features_can_be_chosen(world: World, tmp_path: Path) -> None:
    widths = {}
    for feature in ("match", "reaction", "semantic_ids", "embedding"):
        config = RankConfig(
            groups=("none", "student"), features=(feature,), draws=10, dlrm=DlrmConfig(batch_size=1024, epochs=1)
        )
        _rank(world, tmp_path / feature, config)
        about = _figures(tmp_path / feature)["groups"]["ranker"]
        sparse = len(about["student"]["sparse_features"]) - len(about["none"]["sparse_features"])
        widths[feature] = (about["student"]["dense_features"] - about["none"]["dense_features"], sparse)
    assert widths["semantic_ids"] == (0, 2)
    assert widths["embedding"] == (12, 0)  # the table is 12 wide, and every item has a vector
    assert widths["match"][0] >= 5 and widths["match"][1] == 0
    assert widths["reaction"] == (2, 0)


def test_a_table_without_the_cold_items_gains_on_warm_ones(world: World, ranked: Path, tmp_path: Path) -> None:
    """A teacher's table lacks the cold items; there its group falls far behind one that has them."""
    table = EmbeddingTable.read(world.root / "distill" / "selection" / "student.parquet")
    known = ~np.isin(table.ids, world.fold.cold("selection"))
    teach = tmp_path / "teach"
    EmbeddingTable(table.ids[known], table.vectors[known]).write(teach / "selection" / "id_teacher.parquet")
    config = CONFIG.model_copy(update={"groups": ("none", "id_teacher"), "draws": 50})
    rank(
        config,
        fold=world.fold,
        items=world.root / "data" / "items.parquet",
        teach=teach,
        distill=world.root / "distill",
        evaluate=tmp_path,
        out=tmp_path / "out",
        seed=0,
        key="k",
        log=lambda name: lambda metrics, step: None,
    )
    assert _record(tmp_path / "out", "id_teacher/ranker/warm/auc_delta").low > 0.03
    cold = _record(tmp_path / "out", "id_teacher/ranker/cold/auc_delta").total
    assert cold < 0.5 * _record(ranked, "student/ranker/cold/auc_delta").total


@pytest.fixture(scope="module")
def all_pleased(world: World) -> Path:
    """Ranked on the world's positive events alone."""
    root = world.root / "all_pleased"
    for file in world.fold.root.glob("*.parquet"):
        table = pq.read_table(file)
        if "behaviours" in table.column_names:
            table = table.filter(pc.greater(pc.list_value_length(table["behaviours"]), 0))
        write_table(table, root / "fold" / file.name)
    config = CONFIG.model_copy(update={"groups": ("none", "student"), "draws": 50})
    _rank(World(world.root, Fold(root / "fold"), world.taste), root / "out", config)
    return root / "out"


def test_a_log_without_negatives_gets_sampled_ones(all_pleased: Path, ranked: Path) -> None:
    figures = _figures(all_pleased)
    assert figures["negatives"] == "sampled"
    # Without negatives of its own there are no reactions to tell apart.
    dense = [_figures(out)["groups"]["ranker"]["student"]["dense_features"] for out in (all_pleased, ranked)]
    assert dense[0] == dense[1] - len(CONFIG.reaction.temperatures)
    assert _record(all_pleased, "student/ranker/all/auc_delta").low > 0.02
    for rows in figures["rows"].values():
        assert rows["positive_share"] == pytest.approx(0.2, abs=1e-12)
        assert 0 <= rows["positives_left_out"] < 0.1 * rows["rows"]


def test_a_proxy_that_no_order_can_change_is_no_result(all_pleased: Path) -> None:
    """Everything shown pleased, so every ranker would get the same proxy."""
    figures = _figures(all_pleased)
    assert not [key for key in figures["values"] if "/lt/" in key]
    for horizon in ("lt7", "lt30"):
        assert figures["lifetime"][horizon]["computed"] is False
        assert "any ranker gives the same proxy" in figures["lifetime"][horizon]["reason"]


@pytest.fixture(scope="module")
def by_trees(world: World) -> Path:
    """Trees and a second model, with tables made of the student's."""
    out = world.root / "by_trees"
    groups = ("none", "student", "student_free", "student_residual", "student_white", "raw_content+student")
    config = RankConfig(
        models=("trees", "din"),
        groups=groups,
        features=("match", "reaction"),
        din=DinConfig(epochs=1, last=5, batch_size=1024),
        draws=100,
    )
    _rank(world, out, config)
    return out


def test_models_have_benchmarks_of_their_own(by_trees: Path) -> None:
    figures = _figures(by_trees)
    assert set(figures["groups"]) == set(figures["tests"]) == {"ranker_trees", "ranker_din"}
    assert _record(by_trees, "student/ranker_trees/all/auc_delta").low > 0.03
    assert _record(by_trees, "raw_content+student/ranker_trees/cold/auc_delta").low > 0.1
    assert {key.split("/")[1] for key in figures["values"]} == {"ranker_trees", "ranker_din", "lt"}
    assert violations_of(by_trees / "metric_records.parquet", "metric_records") == []
    for of in figures["groups"].values():
        for about in of.values():
            assert 0.5 < about["validation_auc"] < 1 or about is of["none"]


def test_what_is_taken_out_of_a_table_is_missed_or_not(by_trees: Path) -> None:
    """Taste is independent of popularity here, and raw content shows half of what the student knows."""
    student, free, residual = (
        _record(by_trees, f"{name}/ranker_trees/all/auc_delta").total
        for name in ("student", "student_free", "student_residual")
    )
    assert free > 0.75 * student
    assert residual < 0.7 * student


def test_predictions_give_the_records_again(by_trees: Path) -> None:
    predictions = Predictions.read(by_trees / "predictions.parquet")
    logits, cold = predictions.logits["trees/student"], predictions.splits["cold"]
    for split, rows in (("all", slice(None)), ("cold", cold)):
        value = _record(by_trees, f"student/ranker_trees/{split}/auc").total
        assert roc_auc_score(predictions.label[rows], logits[rows]) == pytest.approx(value, abs=1e-6)
    assert set(predictions.logits) >= {"trees/none", "din/student_white"}
    assert predictions.rows.column_names == ["user_id", "item_id", "timestamp", "label", "logged"]
    assert predictions.user.max() + 1 == len(np.unique(predictions.rows["user_id"]))


def test_activity_splits_part_the_users_by_their_training_events(by_trees: Path, world: World) -> None:
    predictions = Predictions.read(by_trees / "predictions.parquet")
    parts = [predictions.splits[f"{name}_users"] for name in ("light", "medium", "heavy")]
    assert (np.sum(parts, axis=0) == 1).all()
    training = pd.concat(pd.read_parquet(world.fold.root / file) for file in ("train.parquet", "validation.parquet"))
    events = training.user_id.value_counts().reindex(predictions.rows["user_id"].to_pandas()).fillna(0).to_numpy()
    for lighter, heavier in pairwise(parts):
        assert events[lighter].max() < events[heavier].min()
    users = [len(np.unique(predictions.user[part])) for part in parts]
    assert min(users) > 0.2 * sum(users)


def test_tests_and_calibration_are_told(by_trees: Path) -> None:
    told = _figures(by_trees)["tests"]["ranker_trees"]["all"]
    assert "delong" not in told["none"]
    student = told["student"]
    assert student["delong"]["p"] < 1e-6 and student["delong_by_user"]["p"] < 1e-3
    record = _record(by_trees, "student/ranker_trees/all/auc_delta")
    # The bootstrap over users and the error that knows of users agree.
    assert (record.high - record.low) / 3.92 == pytest.approx(student["delong_by_user"]["error"], rel=0.25)
    gap = _record(by_trees, "student/ranker_trees/all/calibration_gap").total
    assert gap == pytest.approx(abs(student["predicted_by_observed"] - 1))
    assert gap < 0.2
    assert 0 < _record(by_trees, "student/ranker_trees/all/ece").total < 0.1


def test_unknown_tables_are_refused() -> None:
    for group in ("stutent", "student+", "student+student", "raw_content_residual", "none+student"):
        with pytest.raises(ValueError, match="group"):
            RankConfig(groups=("none", group))
    with pytest.raises(ValueError, match="models repeats"):
        RankConfig(models=("dlrm", "dlrm"))


def test_groups_must_contain_the_base() -> None:
    with pytest.raises(ValueError, match="must contain 'none'"):
        RankConfig(groups=("student",))
    with pytest.raises(ValueError, match="repeats"):
        RankConfig(groups=("none", "none"))
