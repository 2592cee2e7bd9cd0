"""``experiments/plugins/fuxictr_recipe.py``: what it writes, and FuxiCTR's own AUC where that is installed."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from planted_run import planted_run
from plugin_exports import vectors_of, write_export, write_match

from recdistill.errors import UserError

PLUGINS = Path(__file__).parents[2] / "experiments" / "plugins"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    monkeypatch.syspath_prepend(str(PLUGINS))
    return importlib.import_module("run_rows"), importlib.import_module("fuxictr_recipe")


def test_what_fuxictr_reads_by_hand(scripts, tmp_path) -> None:
    run_rows, recipe = scripts
    times = pd.to_datetime(["2025-01-01", "2025-01-02", "2025-01-03"], utc=True).as_unit("us")
    rows = pd.DataFrame({"user_id": [7, 8, 7], "item_id": [10, 20, 30], "timestamp": times, "label": [1, 0, 1]})
    rows = rows.assign(new_item=False, **dict.fromkeys(run_rows.BASE, 2.0))
    rows["user_days"] = [np.nan, 1.5, 2.0]
    export = write_export(
        tmp_path / "export", [10, 20, 30], vectors=vectors_of(3), codes=np.array([[3, 2], [0, 1]]), coded=[10, 20]
    )
    write_match(
        export,
        rows[["user_id", "item_id", "timestamp"]],
        match_mean=[0.5, np.nan, 0.25],
        match_items=[2, 0, 1],
        reaction_1=[-0.5, np.nan, 0],
    )
    stale = tmp_path / "encoded" / "with" / "feature_map.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")

    recipe.write(run_rows.RunRows(rows[:1], rows[1:2], rows[1:], export), tmp_path)

    assert not stale.exists()  # FuxiCTR would not look at the new rows
    assert [len(pq.read_table(tmp_path / "rows" / f"{part}.parquet")) for part in ("train", "valid", "test")] == [
        1,
        1,
        2,
    ]
    found = pd.concat([pd.read_parquet(tmp_path / "rows" / f"{part}.parquet") for part in ("train", "test")])
    assert found["user_id"].tolist() == ["7", "8", "7"]
    assert found["item_id"].tolist() == found["item_vector"].tolist() == ["10", "20", "30"]
    assert found["label"].tolist() == [1.0, 0.0, 1.0]
    assert found["sid_0"].tolist() == ["3", "0", ""]
    assert found["sid_1"].tolist() == ["3-2", "0-1", ""]  # a prefix: the code alone says little
    assert found["match_mean"].tolist() == [0.5, 0.0, 0.25]
    assert found["reaction_1"].tolist() == [-0.5, 0.0, 0.0]
    assert found["user_days"].tolist() == [0.0, 1.5, 2.0]
    assert "timestamp" not in found and "new_item" not in found

    vectors = np.load(tmp_path / "vectors.npz", allow_pickle=False)
    assert vectors["key"].tolist() == ["10", "20", "30"]
    np.testing.assert_allclose(np.linalg.norm(vectors["value"], axis=1), 1, atol=1e-6)

    datasets = yaml.safe_load((tmp_path / "config" / "dataset_config.yaml").read_text())
    models = yaml.safe_load((tmp_path / "config" / "model_config.yaml").read_text())
    assert set(datasets) == {"without", "with"} and set(models) == {"Base", "without", "with"}
    columns = {
        name: [column for group in datasets[name]["feature_cols"] for column in np.atleast_1d(group["name"]).tolist()]
        for name in datasets
    }
    assert columns["without"] == ["user_id", "item_id", *run_rows.BASE]
    assert columns["with"] == [
        *columns["without"],
        "sid_0",
        "sid_1",
        "match_mean",
        "match_items",
        "reaction_1",
        "item_vector",
    ]
    frozen = datasets["with"]["feature_cols"][-1]
    assert (frozen["pretrain_dim"], frozen["freeze_emb"], frozen["min_categr_count"]) == (8, True, 1)
    assert Path(frozen["pretrained_emb"]).is_file()
    assert all(Path(datasets["with"][f"{part}_data"]).is_file() for part in ("train", "valid", "test"))


def test_an_environment_without_fuxictr_is_named(scripts, tmp_path) -> None:
    if find_spec("fuxictr") is not None:
        pytest.skip("FuxiCTR is installed in this environment")
    _, recipe = scripts
    with pytest.raises(UserError, match=r"(?s)No module named 'fuxictr'.*fuxictr_requirements.txt"):
        recipe.train(Path(sys.executable), tmp_path, "without", seed=0)


@pytest.mark.slow
def test_fuxictrs_own_auc_gains_by_our_columns(scripts, tmp_path) -> None:
    peer = os.environ.get("RECDISTILL_FUXICTR_PYTHON") or (sys.executable if find_spec("fuxictr") else None)
    if peer is None:
        pytest.skip("FuxiCTR is not here: set RECDISTILL_FUXICTR_PYTHON to the python of an environment that has it")
    run_rows, recipe = scripts
    planted_run(tmp_path)
    recipe.write(run_rows.read_run(tmp_path, out=tmp_path / "out"), tmp_path / "out")
    without, with_ours = (recipe.train(Path(peer), tmp_path / "out", name, seed=0) for name in ("without", "with"))
    assert 0.5 < without < with_ours - 0.03
