"""What each part of content-aware training is worth: modalities, fusion, objectives, sampling, phases (METHOD 3).

Purpose: the report's ablation on a log of one's own. Each row adds one part to the row before; all rows train the same
number of steps on the same pair datasets of training and validation window, and are judged in the test window. The test
tunes nothing: rate, steps, dropout and the perceiver's queries were chosen for the linear and the fusing student
together by held-out pairs of the validation window (those of recdistill pretrain), and there is no early stopping.
Command: python experiments/ablations/content_aware.py RECIPE [data.root=FOLDER] --out FOLDER [--seeds 0,1,2]
         [--steps 400] [--batch 128] [--rows "text only,…"]
Time: about a minute a row and seed on two cores, encoding and teachers apart. Memory: 3 GB.
Expected: a table of i2i recall at 50 in %, by content (labels, else tags) and by co-consumption (lift), of all, warm
and cold items, with 95 % intervals over items.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recdistill.config import Recipe, load_recipe
from recdistill.contracts.fold import Fold
from recdistill.contracts.records import Records
from recdistill.contracts.tables import read_table
from recdistill.evaluation import summarise
from recdistill.evaluation.baselines.material import Material
from recdistill.evaluation.gains import record_retrieval
from recdistill.evaluation.stage import Bench
from recdistill.evaluation.subjects import VectorSubject
from recdistill.flow import run
from recdistill.pretrain.config import PretrainConfig
from recdistill.pretrain.phases import Pretraining
from recdistill.students import StudentConfig
from recdistill.world import World

BENCHMARKS = ("content_i2i", "copair_i2i")
METRIC = "recall_at_50"

# The instructions that a row with them gives the two sides of its datasets.
PROMPTS = {"together": "same audience", "content": "same content", "label": "its labels", "text": "a label"}
TASKS = {
    "co_consumption": ("together", "together"),
    "session": ("together", "together"),
    "teacher_space": ("together", "together"),
    "id_cluster": ("together", "together"),
    "same_tag": ("content", "content"),
    "same_author": ("content", "content"),
    "text_ngram": ("content", "content"),
    "item_label": ("label", "text"),
}
ASKED_FOR = {"content_i2i": "content", "copair_i2i": "together"}


@dataclass(frozen=True)
class Row:
    """One row: what it adds to the settings of the row before."""

    name: str
    student: Mapping[str, Any]
    phase: Mapping[str, Any]
    progressive: bool = False
    instructed: bool = False


def rows(modalities: tuple[str, ...]) -> list[Row]:
    """The rows for a catalogue of these modalities, each with all that the rows before it have."""
    found: list[Row] = []
    student: dict[str, Any] = {
        "kind": "linear",
        "modalities": [],
        "modality_dropout": 0.1,
        "dropout": 0.0,
        "queries": 2,
    }
    phase: dict[str, Any] = {"specialised": False, "sampling": "size"}

    def add(name: str, *, of_phase: Mapping[str, Any] | None = None, **changes: Any) -> None:
        student.update(changes)
        phase.update(of_phase or {})
        flags = {flag: student.pop(flag, False) or _had(found, flag) for flag in ("progressive", "instructed")}
        found.append(Row(name, dict(student), dict(phase), **flags))

    for modality, label in (
        ("text", "text only"),
        ("structured", "+ structured"),
        ("image", "+ vision"),
        ("audio", "+ audio"),
    ):
        if modality in modalities:
            read = [*student["modalities"], modality]
            add(label, modalities=read)
    add("perceiver and fusion, causal", kind="fusion", attention="causal")
    add("+ bidirectional", attention="bidirectional")
    add("+ instructions", instructed=True)
    add("+ hard negatives", of_phase={"hard_negatives": 1})
    add("+ balancing", of_phase={"sampling": "adaptive"})
    add("+ specialisation", of_phase={"specialised": True})
    add("+ mICL and late fusion", of_phase={"weights": {"nce": 1.0, "micl": 0.1, "late_fusion": 0.1}})
    weights = {"nce": 1.0, "micl": 0.1, "late_fusion": 0.1, "patterns": 0.1}
    add("+ pattern matching", of_phase={"weights": weights})
    add("+ progressive", progressive=True)
    return found


def _had(rows: list[Row], flag: str) -> bool:
    return bool(rows) and bool(getattr(rows[-1], flag))


def phases(row: Row, steps: int, datasets: tuple[str, ...]) -> list[dict[str, Any]]:
    """One phase of all steps; of the progressive row three that add up to them: diverse, near the task, hard."""
    if not row.progressive:
        return [{"name": "all", "steps": steps, **row.phase}]
    near = [name for name in ("co_consumption", "same_tag") if name in datasets] or list(datasets)
    last = steps // 4
    soft = {key: value for key, value in row.phase.items() if key != "hard_negatives"}
    return [
        {"name": "diverse", "steps": steps - 2 * last, **soft},
        {"name": "near", "steps": last, "datasets": near, **soft},
        {"name": "hard", "steps": last, "datasets": near, **row.phase},
    ]


class Lab:
    """Data, datasets and judges of one fold."""

    def __init__(self, recipe: Recipe, out: Path, fold: str, *, seed: int) -> None:
        self.out, self.seed, self.recipe = out, seed, recipe
        self.fold = Fold(out / "split" / fold)
        self.content = out / "content"
        self.pairs = out / f"seed-{seed}" / fold / "pair" / "final"
        final = Material.read(
            self.fold,
            "final",
            content=self.content / "raw_content.parquet",
            teacher=out / "nothing",
            min_positive=recipe.evaluate.seq2item.min_positive,
        )
        asked = recipe.evaluate.model_copy(update={"benchmarks": BENCHMARKS})
        # One set of questions, whatever the seed of the training.
        self.bench = Bench.build(asked, fold=self.fold, items=out / "data" / "items.parquet", final=final, seed=0)
        self.final = final
        self.records = Records(seed, fold)

    def train(self, row: Row, *, steps: int, batch: int) -> Pretraining:
        """A student of the row, trained on what the final fit may learn from."""
        datasets = tuple(path.stem for path in sorted(self.pairs.glob("*.parquet")))
        given = {"kind": "linear", **row.student, "instructions": PROMPTS if row.instructed else {}}
        sides = {
            name: {"query": query, "target": target}
            for name, (query, target) in TASKS.items()
            if name in datasets and row.instructed
        }
        config = PretrainConfig.model_validate(
            {"phases": phases(row, steps, datasets), "batch_size": batch, "instructions": sides}
        )
        training = Pretraining(
            config,
            StudentConfig.model_validate(given),
            fold=self.fold,
            data=self.out / "data",
            content=self.content,
            pairs=self.pairs,
            cache=self.recipe.encoders.cache,
            of="final",
            seed=self.seed,
            world=World(),
        )
        with tempfile.TemporaryDirectory() as folder:  # nothing is resumed: another setting would find a finished row
            for phase in config.phases:
                training.run(phase, Path(folder) / phase.name, phase.name, lambda _, __: None, steps=phase.steps)
        return training

    def judge(self, name: str, vectors: Mapping[str, np.ndarray], asking: np.ndarray | None = None) -> None:
        """Record what the benchmarks say of [I, d] vectors, one table a benchmark; ``asking``: the query items'."""
        everything = np.ones(len(self.final.item_ids), dtype=bool)
        for benchmark, questions in self.bench.retrieval.items():
            record_retrieval(
                self.records,
                VectorSubject(name, vectors[benchmark], everything, asking=asking),
                benchmark,
                questions,
                cold=self.bench.cold,
                cutoffs=(50,),
                ndcg_at=50,
            )


def main() -> None:
    """Train and judge every row with every seed; print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rows", help="names of rows, separated by commas; default all")
    of = parser.parse_args()
    seeds = [int(seed) for seed in of.seeds.split(",")]
    recipe = load_recipe(of.recipe, [*of.overrides, f"seeds=[{','.join(map(str, seeds))}]"])
    for stage in ("encode", "pair"):
        run(recipe, out=of.out, until=stage, say=print)
    records = []
    for seed in seeds:
        for fold in recipe.split.fold_names():
            lab = Lab(recipe, of.out, fold, seed=seed)
            read = tuple(path.stem for path in sorted((of.out / "content" / "features").glob("*.parquet")))
            chosen = [row for row in rows(read) if of.rows is None or row.name in of.rows.split(",")]
            lab.judge("untrained content", dict.fromkeys(BENCHMARKS, lab.final.content))
            for row in chosen:
                trained = lab.train(row, steps=of.steps, batch=of.batch)
                lab.judge(row.name, _vectors(trained, row))
                print(f"seed {seed}, {fold}: {row.name}", flush=True)
            path = of.out / "ablation" / f"records-{seed}-{fold}.parquet"
            lab.records.write(path)
            records.append(read_table(path).to_pandas())
    print_table(summarise(pd.concat(records)))
    if lab.bench.counts["content_i2i_judged_by"] == "tags":
        print("content is judged by tags here, on which same_tag, same_author and item_label trained")


def _vectors(trained: Pretraining, row: Row) -> dict[str, np.ndarray]:
    """The catalogue's vectors, told what each benchmark asks for if the student takes instructions."""
    student = trained.student.eval()
    if not row.instructed:
        return dict.fromkeys(BENCHMARKS, student.encode_store(trained.items))
    return {name: student.encode_store(trained.items, instruction=told) for name, told in ASKED_FOR.items()}


def print_table(figures: pd.DataFrame) -> None:
    """A row a subject, a column a benchmark and split."""
    columns = [(benchmark, split) for benchmark in BENCHMARKS for split in ("all", "warm", "cold")]
    print(f"{METRIC} in %, mean over seeds ± half of the 95 % interval over query items")
    print(f"{'':<30}" + "".join(f"{benchmark.removesuffix('_i2i') + ' ' + split:>18}" for benchmark, split in columns))
    of_metric = figures[figures["metric"] == METRIC].set_index(["subject", "benchmark", "split"])
    for name in dict.fromkeys(figures["subject"]):
        cells = []
        for benchmark, split in columns:
            if (name, benchmark, split) in of_metric.index:
                cell = of_metric.loc[(name, benchmark, split)]
                cells.append(f"{100 * cell['value']:.2f} ± {50 * (cell['high'] - cell['low']):.2f}")
            else:
                cells.append("–")
        print(f"{name:<30}" + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    main()
