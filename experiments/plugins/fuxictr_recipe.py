"""FuxiCTR with and without our columns: an outside library's ranker and its own AUC.

Purpose: write FuxiCTR's data format and configuration from a run, without and with the columns of an export (semantic
IDs as categories, match features and reactions as numbers, the vectors as a frozen pre-trained embedding), let FuxiCTR
train a DCN-v2 on both, and print the AUC that FuxiCTR reports. Trained on the run's validation window, tested on its
test window, with the vectors of the fit that has seen neither; the newest fifth of the training rows tells when to
stop.
Command: python -m venv PEER && PEER/bin/pip install -r experiments/plugins/fuxictr_requirements.txt
         python experiments/plugins/fuxictr_recipe.py RUN --out FOLDER --python PEER/bin/python [--seeds 3]
         (RUN: recdistill run RECIPE --out RUN)
FuxiCTR has an environment of its own: it needs NumPy 1, and its log loss scikit-learn before 1.5, so AUC is all it is
asked for.
Time: a minute or two on two cores for 30,000 rows in each window. Memory: about 1 GB.
Expected: AUC with our columns above AUC without.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from run_rows import BASE, LABEL, RunRows, arguments, read_run

from recdistill.contracts import names
from recdistill.contracts.tables import atomic, write_table
from recdistill.errors import UserError
from recdistill.exits import exit_codes
from recdistill.features.space import Space
from recdistill.plugins import Exported, FeatureJoin

EXPERIMENTS = ("without", "with")
VECTOR = "item_vector"  # the item's id once more, which FuxiCTR looks up among the pre-trained vectors
PEER = Path(__file__).with_name("fuxictr_peer.py")


@exit_codes()
def main() -> None:
    """Write, train both, and print FuxiCTR's figures."""
    parser = arguments(__doc__)
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="of an environment with FuxiCTR")
    of = parser.parse_args()
    rows = read_run(of.run, out=of.out)
    write(rows, of.out)
    print(f"{'FuxiCTR, DCN-v2':<24}{'AUC in %':>16}")
    for experiment in EXPERIMENTS:
        found = [100 * train(of.python, of.out, experiment, seed=seed) for seed in range(of.seeds)]
        print(f"{experiment:<24}{f'{np.mean(found):.2f} ± {np.std(found):.2f}':>16}")


def write(rows: RunRows, out: Path) -> None:
    """Write ``rows/{train,valid,test}.parquet``, ``vectors.npz`` and ``config/{dataset,model}_config.yaml``."""
    shutil.rmtree(out / "encoded", ignore_errors=True)  # FuxiCTR would take what it encoded of earlier rows
    join = FeatureJoin(rows.export, parts=("semantic_ids", "match"))
    levels = [name for name in join.columns if name.startswith("sid_")]
    match = [name for name in join.columns if name not in levels]
    for name, part in (("train", rows.fit), ("valid", rows.stop), ("test", rows.test)):
        write_table(_columns(join(part), match=match, levels=levels), out / "rows" / f"{name}.parquet")
    exported = Exported.read(rows.export)
    vectors = Space.of(exported.embeddings, exported.embeddings.ids, centre=True).vectors
    with atomic(out / "vectors.npz") as temporary, temporary.open("wb") as stream:
        # Their pre-trained embedding is looked up by strings.
        np.savez(stream, key=np.array([str(item) for item in exported.embeddings.ids]), value=vectors)
    columns = _feature_columns(match=match, levels=levels, vectors=out / "vectors.npz", width=vectors.shape[1])
    _write_yaml({name: _dataset(out, columns[name]) for name in EXPERIMENTS}, out / "config" / "dataset_config.yaml")
    _write_yaml(
        {"Base": _settings(out)} | {name: {"dataset_id": name} for name in EXPERIMENTS},
        out / "config" / "model_config.yaml",
    )


def train(python: Path, out: Path, experiment: str, *, seed: int) -> float:
    """FuxiCTR's AUC of the test rows.

    Raises:
        UserError: FuxiCTR failed, or that environment does not have it.
    """
    command = [str(python), str(PEER), str(out.resolve()), experiment, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(
            f"FuxiCTR's environment ended with {done.returncode}:\n{done.stderr[-2000:]}",
            remedy="PEER/bin/pip install -r experiments/plugins/fuxictr_requirements.txt, and --python PEER/bin/python",
        )
    return float(json.loads(done.stdout.splitlines()[-1])["AUC"])


def _columns(joined: pd.DataFrame, *, match: list[str], levels: list[str]) -> pd.DataFrame:
    """The rows as FuxiCTR reads them: ids and semantic-ID prefixes as strings, numbers without gaps."""
    item = joined[names.ITEM_ID].astype(str)
    columns = {
        LABEL: joined[LABEL].astype(float),
        names.USER_ID: joined[names.USER_ID].astype(str),
        names.ITEM_ID: item,
    }
    columns |= {name: joined[name].astype(float).fillna(0.0) for name in (*BASE, *match)}
    prefix = None
    for name in levels:
        code = joined[name].astype("Int64").astype("string")
        prefix = code if prefix is None else prefix + "-" + code
        columns[name] = prefix.fillna("")  # FuxiCTR's word for nothing
    return pd.DataFrame(columns | {VECTOR: item})


def _feature_columns(
    *, match: list[str], levels: list[str], vectors: Path, width: int
) -> dict[str, list[dict[str, Any]]]:
    category = {"active": True, "dtype": "str", "type": "categorical"}
    number = {"active": True, "dtype": "float", "type": "numeric", "normalizer": "StandardScaler"}
    base = [{"name": [names.USER_ID, names.ITEM_ID], **category}, {"name": list(BASE), **number}]
    ours = [
        {"name": levels, **category},
        {"name": match, **number},
        {
            "name": VECTOR,
            **category,
            "min_categr_count": 1,  # a rare item has its vector all the same
            "pretrained_emb": str(vectors.resolve()),
            "pretrain_dim": width,
            "pretrain_usage": "init",
            "freeze_emb": True,
        },
    ]
    return {"without": base, "with": base + ours}


def _dataset(out: Path, columns: list[dict[str, Any]]) -> dict[str, Any]:
    files = {f"{part}_data": str((out / "rows" / f"{part}.parquet").resolve()) for part in ("train", "valid", "test")}
    return {
        "data_root": str((out / "encoded").resolve()),
        "data_format": "parquet",
        "min_categr_count": 5,
        "feature_cols": columns,
        "label_col": {"name": LABEL, "dtype": "float"},
        **files,
    }


def _settings(out: Path) -> dict[str, Any]:
    return {
        "model_root": str((out / "models").resolve()),
        "task": "binary_classification",
        "loss": "binary_crossentropy",
        "metrics": ["AUC"],
        "monitor": "AUC",
        "monitor_mode": "max",
        "early_stop_patience": 2,
        "optimizer": "adam",
        "learning_rate": 1.0e-3,
        "batch_size": 1024,
        "epochs": 20,
        "embedding_dim": 16,
        "embedding_regularizer": 1.0e-5,
        "net_dropout": 0.1,
        "hidden_units": [64, 32],
        "cross_layers": 2,
        "num_workers": 0,
        "verbose": 0,
        "gpu": -1,
    }


def _write_yaml(value: dict[str, Any], path: Path) -> None:
    with atomic(path) as temporary:
        temporary.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
