"""The scripts of ``experiments/plugins``: what they read of a run, and that our features help in a planted world."""

from __future__ import annotations

import importlib
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from planted_run import planted_run
from sklearn.metrics import roc_auc_score

from recdistill.contracts import fold as layout
from recdistill.contracts.tables import EmbeddingTable, read_table, write_table
from recdistill.errors import UserError
from recdistill.plugins import FeatureJoin

PLUGINS = Path(__file__).parents[2] / "experiments" / "plugins"
SCRIPTS = sorted(PLUGINS.rglob("*.py"))
SHARED = "run_rows.py"  # no script of its own


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(PLUGINS))
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    planted_run(root)
    return root


def test_every_script_is_found_and_says_what_it_is_for() -> None:
    assert len(SCRIPTS) == 5
    for path in SCRIPTS:
        header = path.read_text(encoding="utf-8").split('"""')[1]
        words = ("Purpose:", "Command:", "Time:", "Memory:", "Expected:")
        assert path.name == SHARED or all(word in header for word in words), path.name
        assert path.name == SHARED or path.name in header


def test_rows_come_with_what_was_known_before_them(run, tmp_path, monkeypatch) -> None:
    rows = script("run_rows", monkeypatch).read_run(run, out=tmp_path)
    events = pd.concat(
        [
            read_table(run / "split" / "time" / name).to_pandas()
            for name in ("train.parquet", "validation.parquet", "test.parquet")
        ]
    )
    events["label"] = events["behaviours"].map(len) > 0
    for part in (rows.fit, rows.stop, rows.test):
        for row in part.sample(15, random_state=0).itertuples():
            earlier = events[events["timestamp"] < row.timestamp]
            of_item, of_user = earlier[earlier["item_id"] == row.item_id], earlier[earlier["user_id"] == row.user_id]
            assert row.item_events == len(of_item)
            assert row.item_positives == of_item["label"].sum()
            assert row.user_events == len(of_user)
            assert row.met_before == (of_user["item_id"] == row.item_id).sum()
            since = (row.timestamp - of_user["timestamp"].max()).total_seconds() / 86_400
            assert row.user_days == pytest.approx(since, nan_ok=True)
    assert rows.fit["timestamp"].max() < rows.stop["timestamp"].min()
    assert rows.stop["timestamp"].max() < rows.test["timestamp"].min()
    cold = events.groupby("item_id")["timestamp"].min() >= rows.test["timestamp"].min()
    assert rows.test["new_item"].tolist() == cold[rows.test["item_id"]].tolist()


def test_features_come_from_the_fit_that_has_seen_neither_window(run, tmp_path, monkeypatch) -> None:
    rows = script("run_rows", monkeypatch).read_run(run, out=tmp_path)
    exported = EmbeddingTable.read(rows.export / "item_embeddings.parquet")
    selection = EmbeddingTable.read(run / "seed-0" / "time" / "distill" / "selection" / "student.parquet")
    np.testing.assert_array_equal(exported.vectors, selection.vectors)
    reactions = read_table(rows.export / "match_features.parquet").to_pandas()[["reaction_1", "reaction_2"]]
    assert reactions.std().min() > 0.01


def test_no_row_of_the_examples_is_one_that_their_student_has_learned_from(run, tmp_path, monkeypatch) -> None:
    rows = script("run_rows", monkeypatch).read_run(run, out=tmp_path)
    join = FeatureJoin(rows.export)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for part in (rows.fit, rows.stop, rows.test):
            join(part)
    earlier = read_table(run / "split" / "time" / layout.TRAIN).to_pandas()[["item_id", "timestamp"]]
    with pytest.warns(UserWarning, match=f"{len(earlier)} of {len(earlier)} rows are no later"):
        FeatureJoin(rows.export, parts=("vectors",))(earlier)


def test_what_happens_later_changes_nothing_before_it(run, tmp_path, monkeypatch) -> None:
    """Labels of the test window turned round: every row of the training window, and what is joined to it, stays."""
    read_run = script("run_rows", monkeypatch).read_run
    world = tmp_path / "turned"
    planted_run(world)
    path = world / "split" / "time" / layout.TEST
    table = read_table(path).to_pandas()
    table["behaviours"] = [[] if len(labels) else ["like"] for labels in table["behaviours"]]
    write_table(table, path)
    plain, turned = read_run(run, out=tmp_path / "a"), read_run(world, out=tmp_path / "b")
    assert (plain.test["label"].to_numpy() != turned.test["label"].to_numpy()).all()
    for before, after in ((plain.fit, turned.fit), (plain.stop, turned.stop)):
        pd.testing.assert_frame_equal(before, after)
    match = [read_table(rows.export / "match_features.parquet").to_pandas() for rows in (plain, turned)]
    cut = plain.test["timestamp"].min()
    pd.testing.assert_frame_equal(*(frame[frame["timestamp"] < cut] for frame in match))


def test_a_run_without_a_student_or_negatives_is_refused(tmp_path, monkeypatch) -> None:
    read_run = script("run_rows", monkeypatch).read_run
    with pytest.raises(UserError, match="no student of the selection fit"):
        read_run(tmp_path, out=tmp_path / "out")
    planted_run(tmp_path)
    path = tmp_path / "split" / "time" / layout.VALIDATION
    table = read_table(path).to_pandas()
    write_table(table[table["behaviours"].map(len) > 0], path)
    with pytest.raises(UserError, match="draw no negatives"):
        read_run(tmp_path, out=tmp_path / "out")


def aucs(scores: dict[str, list[np.ndarray]], label: pd.Series) -> dict[str, float]:
    return {name: roc_auc_score(label, np.mean(found, axis=0)) for name, found in scores.items()}


def test_trees_gain_by_our_columns(run, tmp_path, monkeypatch, capsys) -> None:
    rows = script("run_rows", monkeypatch).read_run(run, out=tmp_path)
    trees = script("tree_ranker", monkeypatch)
    scores = trees.scores(rows, seeds=1)
    found = aucs(scores, rows.test["label"])
    assert ("LightGBM, without" in found) == (find_spec("lightgbm") is not None)
    for name in ("HistGradientBoosting", "LightGBM") if find_spec("lightgbm") else ("HistGradientBoosting",):
        assert found[f"{name}, with our columns"] > found[f"{name}, without"] + 0.05
    script("run_rows", monkeypatch).print_aucs(scores, rows.test)
    printed = capsys.readouterr().out
    assert f"{100 * found['HistGradientBoosting, with our columns']:.2f} ± 0.00" in printed


def test_a_missing_lightgbm_is_named_with_its_extra(run, tmp_path, monkeypatch, capsys) -> None:
    trees = script("tree_ranker", monkeypatch)
    monkeypatch.setattr(trees, "find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["tree_ranker.py", str(run), "--out", str(tmp_path), "--seeds", "1"])
    trees.main()
    printed = capsys.readouterr().out
    assert 'pip install "recdistill[lightgbm]"' in printed
    assert "LightGBM, without" not in printed


def test_dlrm_gains_by_our_features(run, tmp_path, monkeypatch) -> None:
    rows = script("run_rows", monkeypatch).read_run(run, out=tmp_path)
    dlrm = script("torchrec_dlrm", monkeypatch)
    monkeypatch.setattr(dlrm, "EPOCHS", 5)
    found = aucs(dlrm.scores(rows, seeds=1), rows.test["label"])
    assert found["DLRM, with our features"] > found["DLRM, without"] + 0.05
