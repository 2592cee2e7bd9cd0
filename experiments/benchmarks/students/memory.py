"""Peak memory of content-aware training on a million cached items against the formula.

Purpose: a catalogue's features are held once, 4 · items · Σ (tokens · width) bytes; pairs and hard negatives on top
(about 44 + 8 · H bytes a pair), and 28 · items · d while negatives are mined and held-out pairs ranked.
Command: python experiments/benchmarks/students/memory.py [--items 1000000] [--pairs 20000] [--folder DIR]
Time: about two minutes on two cores. Memory: 7 GB; disk: 2 GB in DIR, deleted at the end.
Expected: the peaks of a tenth of the items and of all; their difference is .7 to 1 of the formula's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.contracts.fold import Fold
from recdistill.contracts.tables import read_metadata, write_table
from recdistill.pretrain.config import PretrainConfig
from recdistill.pretrain.phases import Pretraining
from recdistill.students import EncodersConfig, StudentConfig, encode
from recdistill.students.vectors import vector_table
from recdistill.world import World

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where own_process stands
from own_process import peak

SAMPLE, HARD, STEPS, BLOCK, QUERIES, DIM = 256, 2, 60, 50_000, 200, 128


def main() -> None:
    """Measure a tenth of the items and all of them, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    of = parser.parse_args()
    if of.measure:
        _measure(of.folder)
        return
    print(f"{'items':>10}{'features MB':>13}{'mining MB':>11}{'pairs MB':>10}{'peak MB':>9}")
    peaks, formulas = [], []
    for items in (of.items // 10, of.items):
        with tempfile.TemporaryDirectory(dir=of.folder) as folder:
            width = _write(Path(folder), pd.Index(np.arange(items)), of.pairs)
            again = [sys.executable, __file__, "--folder", folder, "--measure"]
            most = float(subprocess.run(again, check=True, capture_output=True, text=True).stdout)
        features = 4 * items * width / 2**20
        mining, pairs = 28 * items * DIM / 2**20, (44 + 8 * HARD) * of.pairs / 2**20
        print(f"{items:>10,}{features:>13,.0f}{mining:>11,.0f}{pairs:>10,.0f}{most:>9,.0f}", flush=True)
        peaks.append(most)
        formulas.append(features + mining)
    measured, told = peaks[1] - peaks[0], formulas[1] - formulas[0]
    print(f"difference of the peaks {measured:,.0f} MB, of the formula {told:,.0f} MB: {measured / told:.2f}")


def _measure(folder: Path) -> None:
    """Train, and print this process's peak in MB."""
    config = PretrainConfig.model_validate(
        {
            "phases": [{"name": "all", "steps": STEPS, "hard_negatives": HARD, "refresh_every": STEPS}],
            "threshold_queries": QUERIES,
            "max_held_out": QUERIES,
            "validate_every": STEPS,
        }
    )
    training = Pretraining(
        config,
        StudentConfig(kind="linear", dim=DIM, skip=None),
        fold=Fold(folder / "split"),
        data=folder / "data",
        content=folder / "content",
        pairs=folder / "pairs",
        cache=folder / "cache",
        of="selection",
        seed=0,
        world=World(),
    )
    training.run(config.phases[0], folder / "checkpoint", "key", lambda _, __: None, steps=None)
    print(peak())


def _write(folder: Path, ids: pd.Index, pairs: int) -> int:
    """A featurizer fitted on few texts, features drawn for all items, and pairs; returns the features' width."""
    rng, content = np.random.default_rng(0), folder / "content"
    words = [f"word{number}" for number in range(500)]
    texts = [" ".join(rng.choice(words, 6)) for _ in range(SAMPLE)]
    table = pa.table({"item_id": pa.array(ids[:SAMPLE]), "text_title": pa.array(texts)})
    write_table(table, folder / "data" / "items.parquet")
    media = {name: pa.array([], pa.string()) for name in ("media_id", "path")}
    write_table(pa.table({**media, "bytes": pa.array([], pa.binary())}), folder / "data" / "media.parquet")
    encoders = {"image": None, "audio": None, "structured": None, "cache": folder / "cache"}
    encode(EncodersConfig.model_validate(encoders), data=folder / "data", out=content)
    about = read_metadata(content / "features" / "text.parquet")
    width = int(about["width"])
    with vector_table(content / "features" / "text.parquet", ids=ids, width=width, metadata=about) as writer:
        for start in range(0, len(ids), BLOCK):
            some = ids[start : start + BLOCK]
            writer.write(some, rng.standard_normal((len(some), width), dtype=np.float32))
    write_table(pa.table({"item_id": pa.array(ids), "role": ["warm"] * len(ids)}), folder / "split" / "items.parquet")
    drawn = rng.integers(0, len(ids), (2, pairs))
    columns = {"query_item_id": pa.array(drawn[0]), "target_item_id": pa.array(drawn[1])}
    columns |= {name: pa.nulls(pairs, pa.string()) for name in ("query_text", "target_text")}
    columns["score"] = pa.nulls(pairs, pa.float32())
    write_table(pa.table(columns), folder / "pairs" / "drawn.parquet", metadata={"graded": False})
    return width


if __name__ == "__main__":
    main()
