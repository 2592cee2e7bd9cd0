"""What the ablations of content-aware training share: a run's data, pair datasets and judges, and students of them."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
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
# What training is worth is seen where nothing else says what untrained content does.
LEARNED: dict[str, Any] = {"dim": 128, "skip": None}


def arguments(description: str | None, *, steps: int) -> argparse.ArgumentParser:
    """The arguments that the ablations have in common."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch", type=int, default=128)
    return parser


class Lab:
    """Data, datasets and judges of one fold."""

    def __init__(self, recipe: Recipe, out: Path, fold: str, *, seed: int) -> None:
        self.out, self.seed, self.recipe = out, seed, recipe
        self.fold = Fold(out / "split" / fold)
        self.content = out / "content"
        self.pairs = out / f"seed-{seed}" / fold / "pair" / "final"
        self.modalities = tuple(path.stem for path in sorted((self.content / "features").glob("*.parquet")))
        self.datasets = tuple(path.stem for path in sorted(self.pairs.glob("*.parquet")))
        self.final = Material.read(
            self.fold,
            "final",
            content=self.content / "raw_content.parquet",
            teacher=out / "nothing",
            min_positive=recipe.evaluate.seq2item.min_positive,
        )
        asked = recipe.evaluate.model_copy(update={"benchmarks": BENCHMARKS})
        # One set of questions, whatever the seed of the training.
        items = out / "data" / "items.parquet"
        self.bench = Bench.build(asked, fold=self.fold, items=items, material=self.final, seed=0)
        self.records = Records(seed, fold)

    def train(self, student: Mapping[str, Any], pretrain: Mapping[str, Any]) -> Pretraining:
        """A student of these settings, trained on what the final fit may learn from."""
        config = PretrainConfig.model_validate(pretrain)
        training = Pretraining(
            config,
            StudentConfig.model_validate({**LEARNED, **student}),
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


def ablate(
    of: argparse.Namespace, settings: Sequence[str], name: str, experiment: Callable[[Lab], None]
) -> tuple[pd.DataFrame, str]:
    """Run the experiment in each seed's and fold's lab; its records, and by what content was judged.

    Args:
        of: what :func:`arguments` gave.
        settings: of the recipe, before those of the command line.
        name: of the files of records under ``out/ablation``.
    """
    seeds = f"seeds=[{','.join(map(str, of.seeds))}]"
    recipe = load_recipe(of.recipe, [*settings, *of.overrides, seeds])
    for stage in ("encode", "pair"):
        run(recipe, out=of.out, until=stage, say=print)
    records = []
    for lab in _labs(recipe, of.out):
        experiment(lab)
        path = of.out / "ablation" / f"{name}-{lab.seed}-{lab.fold.name}.parquet"
        lab.records.write(path)
        records.append(read_table(path).to_pandas())
    return pd.concat(records), lab.bench.counts["content_i2i_judged_by"]


def _labs(recipe: Recipe, out: Path) -> Iterator[Lab]:
    for seed, fold in recipe.runs():
        yield Lab(recipe, out, fold, seed=seed)


def print_table(records: pd.DataFrame) -> None:
    """A row a subject, a column a benchmark and split."""
    figures = summarise(records)
    columns = [(benchmark, split) for benchmark in BENCHMARKS for split in ("all", "warm", "cold")]
    print(f"{METRIC} in %, mean over seeds ± half of the 95 % interval over query items")
    print(f"{'':<30}" + "".join(f"{benchmark.removesuffix('_i2i') + ' ' + split:>18}" for benchmark, split in columns))
    of_metric = figures[figures["metric"] == METRIC].set_index(["subject", "benchmark", "split"])
    for name in records["subject"].unique():
        cells = []
        for benchmark, split in columns:
            if (name, benchmark, split) in of_metric.index:
                cell = of_metric.loc[(name, benchmark, split)]
                cells.append(f"{100 * cell['value']:.2f} ± {50 * (cell['high'] - cell['low']):.2f}")
            else:
                cells.append("–")
        print(f"{name:<30}" + "".join(f"{cell:>18}" for cell in cells))
