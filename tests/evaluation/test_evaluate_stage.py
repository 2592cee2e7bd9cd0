"""The evaluate stage on a planted world: the truth wins, and neither order nor a second run changes a figure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_fold import COLD, ITEMS, Planted, plant

from recdistill.contracts import names
from recdistill.contracts.tables import EmbeddingTable, read_table, write_table
from recdistill.contracts.validate import validate
from recdistill.errors import UserError
from recdistill.evaluation import EvaluateConfig, compare, evaluate, summarise, to_metrics_json
from recdistill.evaluation.config import BaselinesConfig, I2IConfig, IalsConfig, JudgeConfig, Seq2ItemConfig
from recdistill.evaluation.metrics import direction
from recdistill.evaluation.stage import RECORDS, SEPARABILITY, SUMMARY
from recdistill.retrieval.config import LevelConfig

SMALL = EvaluateConfig(
    seq2item=Seq2ItemConfig(min_history=1, agree_above=0.4),
    i2i=I2IConfig(min_support=3, min_together=2, neighbours=5),
    judge=JudgeConfig(dim=8, clusters=3, anchors=20, rivals=40, top=5),
    baselines=BaselinesConfig(trials=3),
)
SUBJECTS = {
    "student",
    "noise",
    "id_teacher",
    "popularity",
    "raw_content",
    "ridge",
    "kernel_ridge",
    "ease",
    "ease_content",
}


WITHOUT_VECTORS = {"popularity", "ease", "ease_content"}
WITHOUT_NEW_ITEMS = {"popularity", "ease", "id_teacher"}
Figures = dict[str, dict[str, float]]
Judged = tuple[Planted, Path, Figures, dict[str, object]]


def run(world: Planted, out: Path, config: EvaluateConfig = SMALL) -> tuple[Figures, dict[str, object]]:
    evaluate(config, fold=world.fold, out=out, seed=0, **world.paths())
    records = read_table(out / RECORDS).to_pandas()
    gains = compare(records, "student", "content_student", draws=200)
    return to_metrics_json(summarise(records, draws=200), gains), json.loads((out / SUMMARY).read_text())


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    root = tmp_path_factory.mktemp("judged")
    world = plant(root)
    figures, report = run(world, root / "evaluate")
    return world, root / "evaluate", figures, report


def test_every_subject_meets_every_benchmark(judged: Judged) -> None:
    _, _, figures, report = judged
    assert {key.split("/")[0] for key in figures} == SUBJECTS
    for name in SUBJECTS:
        for benchmark in set(SMALL.benchmarks) - {"gid_others_i2i"}:
            there = f"{name}/{benchmark}/all" in {key.rsplit("/", 1)[0] for key in figures}
            unable = {"clustering": WITHOUT_VECTORS, "separability": WITHOUT_VECTORS, "new_items": WITHOUT_NEW_ITEMS}
            assert there != (name in unable.get(benchmark, set())), (name, benchmark)
    assert report["skipped"] == {}
    assert report["left_out"] == {"gid_others_i2i": "training knows every user of the judge window"}
    assert {key.rsplit("/", 1)[1] for key in figures} >= {f"recall_at_{k}" for k in (1, 10, 25, 50, 100)}
    for key in figures:
        assert direction(key.rsplit("/", 1)[1]) in ("higher", "lower")


def test_the_planted_truth_wins_and_noise_is_chance(judged: Judged) -> None:
    figures = judged[2]
    for metric in (
        "seq2item_vanilla/all/recall_at_25",
        "gid_i2i/all/recall_at_25",
        "content_i2i/all/recall_at_25",
        "separability/all/auc",
        "ranking_consistency/all/kendall_tau",
        "clustering/all/nmi_labels",
    ):
        student, noise = (figures[f"{name}/{metric}"] for name in ("student", "noise"))
        assert student["value"] > 1.3 * noise["value"], metric
        if student["low"] is not None:
            assert student["low"] > noise["value"], metric
    # Ninety vectors in four dimensions are few, and the same items are asked for often.
    assert figures["noise/separability/all/auc"]["value"] == pytest.approx(0.5, abs=0.1)
    # Chance over a catalogue from which about 24 met items are taken.
    assert figures["noise/seq2item_vanilla/all/recall_at_25"]["value"] == pytest.approx(25 / 66, abs=0.09)
    assert figures["student/clustering/all/nmi_labels"]["value"] > 0.95


def test_only_content_can_place_cold_items(judged: Judged) -> None:
    _, _, figures, report = judged
    assert report["cold_items"] == COLD
    for name in ("id_teacher", "popularity", "ease"):
        for k in (1, 10, 25):
            assert figures[f"{name}/seq2item_vanilla/cold/recall_at_{k}"]["value"] == 0
        assert figures[f"{name}/seq2item_vanilla/warm/recall_at_25"]["value"] > 0.3
    assert figures["student/seq2item_vanilla/cold/recall_at_25"]["value"] > 0.5
    # Among cold candidates, twelve in three topics, a subject that knows none ties them all in the middle.
    assert figures["student/seq2item_vanilla/cold/recall_at_10_among_cold"]["value"] > 0.95
    assert figures["id_teacher/seq2item_vanilla/cold/recall_at_1_among_cold"]["value"] == 0


def test_a_level_for_new_items_is_what_a_table_with_levels_gives(judged: Judged, tmp_path: Path) -> None:
    """The frontier's one pass against a full evaluation of the same vectors with the level as a coordinate."""
    world = judged[0]
    student = EmbeddingTable.read(world.distill / "final" / "student.parquet")
    new = np.isin(student.ids, world.ids[ITEMS - COLD :])
    lifted = replace(student, level=np.where(new, -0.25, 0.0).astype(np.float32))
    lifted.write(tmp_path / "lifted" / "final" / "lifted.parquet")
    config = SMALL.model_copy(
        update={
            "new_items": LevelConfig(level=-0.25),
            "benchmarks": ("seq2item_vanilla", "new_items"),
            "baselines": BaselinesConfig(include=()),
        }
    )
    paths = {**world.paths(), "students": [world.distill, tmp_path / "lifted"]}
    evaluate(config, fold=world.fold, out=tmp_path / "out", seed=0, **paths)
    records = read_table(tmp_path / "out" / RECORDS).to_pandas()
    key = ["subject", "benchmark", "split", "metric"]
    figures = records.groupby(key)[["total", "count"]].sum().eval("total / count")
    for split, metric in (("all", "recall_at_10"), ("cold", "recall_at_25")):
        levelled = figures["student", "new_items", split, f"{metric}_levelled"]
        assert levelled == figures["lifted", "seq2item_vanilla", split, metric]
        assert levelled != figures["student", "seq2item_vanilla", split, metric]
    assert json.loads((tmp_path / "out" / SUMMARY).read_text())["levels"]["student"] == -0.25
    # The frontier of what has a level already is the same, traced by other levels.
    for metric in ("frontier_area", "recall_at_10_share_20"):
        of = (figures[name, "new_items", "all", metric] for name in ("student", "lifted"))
        assert next(of) == pytest.approx(next(of), rel=0.02)


def test_splits_pool_to_all(judged: Judged) -> None:
    records = read_table(judged[1] / RECORDS).to_pandas()
    plain = records[(records["metric"] == "recall_at_10") & records["benchmark"].str.endswith(("vanilla", "i2i"))]
    counts = plain.pivot_table(
        index=["subject", "benchmark"], columns="split", values=["total", "count"], aggfunc="sum"
    ).fillna(0)
    for column in ("total", "count"):
        assert np.allclose(counts[column]["all"], counts[column]["warm"] + counts[column]["cold"])


def test_an_unknown_item_is_cold_pair_by_pair(judged: Judged) -> None:
    """The i2i split: a pair is warm only if both items were in training."""
    world, out, _, _ = judged
    records = read_table(out / RECORDS).to_pandas()
    of = records[(records["benchmark"] == "content_i2i") & (records["subject"] == "student")]
    of = of[of["metric"] == "recall_at_1"]
    cold_units = set(of.loc[of["split"] == "cold", "unit"])
    assert set(world.ids[ITEMS - COLD :].astype(str)) <= cold_units
    assert not set(world.ids[ITEMS - COLD :].astype(str)) & set(of.loc[of["split"] == "warm", "unit"])


def test_baselines_leave_their_vectors_and_their_settings(judged: Judged) -> None:
    _, out, figures, report = judged
    for fit in ("selection", "final"):
        for name in ("raw_content", "ridge", "kernel_ridge"):
            assert len(EmbeddingTable.read(out / fit / f"{name}.parquet").ids) == ITEMS
    baselines = report["baselines"]
    assert isinstance(baselines, dict)
    assert set(baselines) == {"ridge", "kernel_ridge", "ease", "ease_content"}
    assert all(len(chosen["tried"]) == 3 for chosen in baselines.values())
    seconds = report["seconds"]
    assert isinstance(seconds, dict)
    assert {f"{name}: judge" for name in SUBJECTS} <= set(seconds)
    values = report["values"]
    assert isinstance(values, dict)
    key = "student/gid_i2i/all/recall_at_10"
    assert values[key] == pytest.approx(figures[key]["value"])


def test_vectors_that_a_baseline_leaves_are_judged_as_it_was(judged: Judged, tmp_path: Path) -> None:
    """iALS by dot product: read from its table, whose metadata says so, it gets the same figures."""
    pytest.importorskip("implicit")
    world = judged[0]
    of = IalsConfig(dim=8, alpha=(40.0, 41.0), l2=(1.0, 2.0))
    config = SMALL.model_copy(
        update={"benchmarks": ("seq2item_vanilla",), "baselines": BaselinesConfig(include=("ials",), trials=2, ials=of)}
    )
    _, report = run(world, tmp_path / "first", config)
    settings = report["baselines"]["ials"]["settings"]  # type: ignore[index]
    table = EmbeddingTable.read(tmp_path / "first" / "final" / "ials.parquet")
    assert table.metadata["geometry"] == ("cosine" if settings["cosine"] else "dot") and len(table.ids) < ITEMS
    for geometry in ("cosine", "dot"):
        again = replace(table, metadata={**table.metadata, "geometry": geometry})
        again.write(tmp_path / "again" / "final" / f"{geometry}.parquet")
    paths = {**world.paths(), "students": [tmp_path / "again"]}
    evaluate(config, fold=world.fold, out=tmp_path / "second", seed=0, **paths)
    records = read_table(tmp_path / "second" / RECORDS).to_pandas()
    totals = records[records["metric"] == "ndcg_at_10"].groupby(["subject", "split"])["total"].sum()
    assert totals["ials"].equals(totals[table.metadata["geometry"]])
    assert not totals["cosine"].equals(totals["dot"])


def test_records_keep_their_contract(judged: Judged) -> None:
    validate(judged[1] / RECORDS, "metric_records")


def test_plots_data(judged: Judged) -> None:
    plots = read_table(judged[1] / SEPARABILITY).to_pandas()
    assert list(plots.columns) == ["subject", "split", "kind", "similarity"]
    assert set(plots["subject"]) == SUBJECTS - WITHOUT_VECTORS
    means = plots[plots["subject"] == "student"].groupby("kind")["similarity"].mean()
    assert means["true"] > means["random"] + 0.2


def test_row_order_and_a_second_run_change_nothing(judged: Judged, tmp_path: Path) -> None:
    world, out, _, _ = judged
    first = read_table(out / RECORDS).to_pandas()
    again = run(world, tmp_path / "again")[1]
    pd.testing.assert_frame_equal(first, read_table(tmp_path / "again" / RECORDS).to_pandas())
    assert again["skipped"] == {}
    mixed = plant(tmp_path / "mixed", shuffled=True)
    evaluate(SMALL, fold=mixed.fold, out=tmp_path / "other", seed=0, **mixed.paths())
    other = read_table(tmp_path / "other" / RECORDS).to_pandas()
    key = [names.SUBJECT, names.BENCHMARK, names.SPLIT, names.METRIC, names.UNIT]
    first, other = (table.sort_values(key, ignore_index=True) for table in (first, other))
    exact = ~first[names.SUBJECT].isin(["ridge", "kernel_ridge"]) & (first[names.BENCHMARK] != "clustering")
    pd.testing.assert_frame_equal(first[exact], other[exact], rtol=1e-9)


def test_ids_of_text_and_a_bare_catalogue(tmp_path: Path) -> None:
    """No tags, no labels, no teacher: what needs them is left out and said, the rest is judged."""
    world = plant(tmp_path, text_ids=True)
    write_table(pd.DataFrame({names.ITEM_ID: world.ids}), world.items)
    for path in world.teach.rglob("*.parquet"):
        path.unlink()
    figures, report = run(world, tmp_path / "evaluate")
    benchmarks = {key.split("/")[1] for key in figures}
    assert benchmarks == set(SMALL.benchmarks) - {"content_i2i", "gid_others_i2i"}
    assert report["skipped"] == dict.fromkeys(("ridge", "kernel_ridge"), "no teacher table 'id_teacher'")
    records = read_table(tmp_path / "evaluate" / RECORDS).to_pandas()
    assert set(records.loc[records["benchmark"] == "gid_i2i", "unit"]) <= set(world.ids)


def test_records_support_paired_comparison(judged: Judged) -> None:
    records = read_table(judged[1] / RECORDS).to_pandas()
    table = compare(records, "student", "noise", draws=200).set_index(["benchmark", "split", "metric"])
    row = table.loc[("seq2item_vanilla", "all", "recall_at_25")]
    assert row["low"] > 0


def test_what_is_missing_is_named(judged: Judged, tmp_path: Path) -> None:
    world = judged[0]
    with pytest.raises(UserError, match="raw_content"):
        evaluate(SMALL, fold=world.fold, out=tmp_path, seed=0, **{**world.paths(), "content": tmp_path / "nowhere"})
    clash = tmp_path / "clash"
    EmbeddingTable(world.ids, np.ones((ITEMS, 2), dtype=np.float32)).write(clash / "final" / "ease.parquet")
    with pytest.raises(UserError, match="more than one subject is named ease"):
        evaluate(SMALL, fold=world.fold, out=tmp_path / "out", seed=0, **{**world.paths(), "students": [clash]})
    broken = tmp_path / "distill"
    vectors = np.full((ITEMS, 2), np.nan, dtype=np.float32)
    EmbeddingTable(world.ids, vectors).write(broken / "final" / "student.parquet")
    with pytest.raises(UserError, match="NaN"):
        evaluate(SMALL, fold=world.fold, out=tmp_path / "out", seed=0, **{**world.paths(), "students": [broken]})
    assert not (tmp_path / "out" / RECORDS).exists()
