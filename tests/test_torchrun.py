"""Two processes that torchrun started train together: what they leave is what one process leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recdistill.contracts.tables import EmbeddingTable

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "experiments" / "recipes" / "smoke.yaml"
# Few steps: what is shown is that the sums are the same. Rounding grows with steps, under Adam at once, since its first
# step is the sign of a gradient however small.
SHORT = [
    "teachers.id.steps=12", "teachers.id.features=[genre]", "teachers.id.user_form=table", "teachers.id.l2=0.01",
    "teachers.sequence.steps=1", "teachers.sequence.full_softmax_up_to=0", "teachers.sequence.negatives=32",
]  # fmt: skip
TABLES = ("id_teacher", "sequence_teacher")

pytestmark = pytest.mark.slow


def teach(out: Path, *overrides: str, ranks: int, stage: str = "teach") -> str:
    launcher = [] if ranks == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command = [sys.executable, *launcher, "-m", "recdistill", stage, str(RECIPE), *SHORT, *overrides]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        [*command, "--out", str(out)], capture_output=True, text=True, check=False, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    teach(out, ranks=1)
    return out


@pytest.mark.parametrize("sharding", ["row_wise", "table_wise"])
def test_two_ranks_leave_what_one_leaves(sharding: str, alone: Path, tmp_path: Path) -> None:
    told = teach(tmp_path, f"teachers.sharding={sharding}", ranks=2)
    assert told.count("seed-0/time/teach: done") == 1  # the leader alone speaks
    one, two = (out / "seed-0" / "time" / "teach" for out in (alone, tmp_path))
    for which in ("selection", "final"):
        for name in TABLES:
            for file, column in ((f"{name}.parquet", "item_id"), (f"users/{name}.parquet", "user_id")):
                first, second = (
                    EmbeddingTable.read(folder / which / file, id_column=column)  # type: ignore[arg-type]
                    for folder in (one, two)
                )
                assert first.ids.equals(second.ids)
                assert np.abs(first.vectors - second.vectors).max() < 1e-5, file
    reports = [json.loads((folder / "teachers.json").read_text())["teachers"] for folder in (one, two)]
    for name in TABLES:
        assert reports[0][name]["steps"] == reports[1][name]["steps"]
    assert not list(two.rglob("*checkpoint*")) and not list(two.rglob("positives"))


def test_two_ranks_pretrain_as_one(tmp_path: Path) -> None:
    phases = "pretrain.phases=[{name: wide, steps: 4}, {name: hard, steps: 4, hard_negatives: 1, refresh_every: 2}]"
    settings = [phases, "pretrain.validate_every=2", "student.dropout=0", "student.modality_dropout=0"]
    vectors = []
    for ranks in (1, 2):
        out = tmp_path / str(ranks)
        told = teach(out, *settings, ranks=ranks, stage="pretrain")
        assert told.count("seed-0/time/pretrain: done") == 1
        folder = out / "seed-0" / "time" / "pretrain"
        vectors.append(EmbeddingTable.read(folder / "final" / "pretrained_student.parquet").vectors)
        assert not list(folder.glob(".*checkpoint*"))
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-3
