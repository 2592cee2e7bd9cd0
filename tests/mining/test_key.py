"""A content table that the settings name takes part in the stage's key by what it holds, not by where it lies."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from recdistill import stages as module
from recdistill.config import load_recipe
from recdistill.contracts.tables import EmbeddingTable
from recdistill.crew import Crew
from recdistill.runs import Runner

DEMO = Path(__file__).resolve().parents[2] / "experiments" / "recipes" / "demo.yaml"


def keys(out: Path, *overrides: str) -> dict[str, str]:
    recipe = load_recipe(DEMO, list(overrides))
    runner = Runner(out, lambda line: None)
    runner.plan(module.stages(recipe, inputs="", out=out, tracker=SimpleNamespace(), crew=Crew(recipe)))
    return runner.fingerprints


def test_a_content_table_is_part_of_the_key(tmp_path):
    one, same, other = (tmp_path / f"{name}.parquet" for name in ("one", "same", "other"))
    for path, value in ((one, 1), (same, 1), (other, 2)):
        EmbeddingTable(pd.Index(["a"]), np.full((1, 2), value, np.float32)).write(path)
    plain, first, copy, changed = (
        keys(tmp_path / "out", *([f"mining.content={path}"] if path else [])) for path in (None, one, same, other)
    )
    assert first == copy
    for before, after in ((plain, first), (first, changed)):
        differ = {folder.rpartition("/")[2] for folder in before if before[folder] != after[folder]}
        assert differ == {"mine", "distill", "evaluate", "rank", "export", "report"}
