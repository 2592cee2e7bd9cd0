"""The report's ranker section with several models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recdistill.report.blocks import Figure, Fold, Section, Table, Text
from recdistill.report.folder import RunFolder
from recdistill.report.sections import downstream

GAINS = {"none": 0.0, "raw_content": 0.011, "student": 0.013, "raw_content+student_white": 0.017}


def _section(root: Path, *models: str) -> Section:
    metrics = {}
    for at, model in enumerate(models):
        for split in ("all", "cold", "heavy_users"):
            for group, gain in GAINS.items():
                value = 0.8 + gain + 0.002 * at
                metrics[f"{group}/{model}/{split}/auc"] = value
                metrics[f"{group}/{model}/{split}/ece"] = 0.02 - gain
                if group != "none":
                    metrics[f"{group}/{model}/{split}/auc_delta"] = gain + 0.002 * at
                    metrics[f"{group}/{model}/{split}/gauc_delta"] = 2 * gain
    figures = {
        key: {"value": value, "sd": 0.0, "n": 1, "low": value - 0.001, "high": value + 0.001, "units": 9}
        for key, value in metrics.items()
    }
    rank = root / "seed-0" / "time" / "rank"
    rank.mkdir(parents=True)
    test = {"delong_by_user": {"error": 0.0005, "p": 0.01, "detectable_at_80_percent": 0.0014}}
    told = {model: {"all": {"none": {}, "student": test}} for model in models}
    (rank / "rank.json").write_text(json.dumps({"negatives": "logged", "tests": told}))
    (root / "recipe.json").write_text(json.dumps({"seeds": [0]}))
    (root / "metrics.json").write_text(json.dumps(figures))
    return downstream.ranker(RunFolder(root))


def _cells(table: Table) -> dict[str, list[str]]:
    return {row.head: [cell.text for cell in row.cells] for row in table.rows}


def test_models_stand_side_by_side_and_each_has_its_tables(tmp_path: Path) -> None:
    blocks = _section(tmp_path, "ranker", "ranker_trees").blocks
    side_by_side = [block for block in blocks if isinstance(block, Table)]
    assert [table.columns for table in side_by_side] == [("DLRM", "Boosted trees")] * 2
    assert _cells(side_by_side[0]) == {
        "Raw content": ["+0.0110", "+0.0130"],
        "Student": ["+0.0130", "+0.0150"],
        "Raw content + student, whitened": ["+0.0170", "+0.0190"],
    }
    assert _cells(side_by_side[1])["Student"] == ["+0.0260", "+0.0260"]
    folds = {block.title: block for block in blocks if isinstance(block, Fold)}
    assert {"DLRM", "Boosted trees"} <= set(folds)
    of_trees = folds["Boosted trees"].blocks
    assert [table.caption for table in of_trees if isinstance(table, Table)] == [
        "All items", "Cold items", "Heavy users",
    ]  # fmt: skip
    (chart,) = (block for block in blocks if isinstance(block, Figure))
    assert "DLRM" in chart.caption
    notes = [block.text for block in blocks if isinstance(block, Text)]
    assert any("DLRM 0.14 to 0.14; Boosted trees 0.14 to 0.14" in note for note in notes)


@pytest.mark.parametrize("model", ["ranker", "ranker_dcn"])
def test_one_model_alone_is_shown_at_once(tmp_path: Path, model: str) -> None:
    blocks = _section(tmp_path, model).blocks
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert _cells(table)["Student"][:2] == ["0.8130", "+0.0130"]
    best = {row.head: row.cells[table.columns.index("Calibration error")].best for row in table.rows}
    assert best["Raw content + student, whitened"]
    assert not best["No added features"]
