"""The whole flow, and the one module that knows all stages.

    raw logs + item content
      → validate   data/                     canonical tables, checked against data_contracts/
      → encode     content/                  frozen towers → features of every item (cached)
      → split      split/<fold>/             training, validation, test; cold items; leakage report
      → teach      seed-<s>/<fold>/teach/    TorchRec teachers → teacher_embeddings
      → mine       seed-<s>/<fold>/mine/     four perspectives → interest_pairs
      → pair       seed-<s>/<fold>/pair/     where the recipe asks: log, content → pair datasets
      → pretrain   seed-<s>/<fold>/pretrain/ where the recipe asks: content-aware training → student, item_embeddings
      → distill    seed-<s>/<fold>/distill/  student and content student → item_embeddings
      → evaluate   seed-<s>/<fold>/evaluate/ benchmarks × metrics, baselines beside → metric_records
      → rank       seed-<s>/<fold>/rank/     a ranker with and without our features; LT proxies → metric_records
      → export     export/                   embeddings, semantic IDs, match features, the student
      → report     metrics.json report.html  mean over seeds, intervals over users

Stages meet through the tables in those folders only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from recdistill.config import Recipe
from recdistill.contracts.fold import Fold
from recdistill.contracts.tables import read_table, write_json
from recdistill.crew import Crew
from recdistill.distill import distill
from recdistill.evaluation import EvaluateConfig, compare, evaluate, summarise, to_metrics_json
from recdistill.export import export
from recdistill.ingest import ingest
from recdistill.inputs import digest, local_fuser, local_towers, media_folders, placeless_sections, sections
from recdistill.mining import mine
from recdistill.pairs import pair
from recdistill.rankers import rank
from recdistill.report import build_report
from recdistill.resources import data_contracts
from recdistill.runs import Stage
from recdistill.split import split
from recdistill.students import encode
from recdistill.students.encoders.source import folder_digest
from recdistill.tracking import Tracker
from recdistill.training import LogFn

_RECORDS = "metric_records.parquet"
_SUMMARIES_BY = ("summary", "by_unit", "whole")
# What the distill stage imports of the evaluation, directly or not.
_JUDGES = (
    "config", "questions", "subjects", "metrics", "baselines",
    *(f"benchmarks/{name}" for name in ("catalogue", "judge", "pairs", "users")),
)  # fmt: skip
_CHECKED = ("interactions", "items", "media")  # the contracts that validate checks, beside that of queries if any
_SUMMARIES = {
    "validation.json", "encode.json", "split.json", "teachers.json", "funnel.json", "pairs.json",
    "pretrain.json", "distill.json", "evaluate.json", "rank.json", "export.json",
}  # fmt: skip


def stages(recipe: Recipe, *, inputs: str, out: Path, tracker: Tracker, crew: Crew) -> list[Stage]:
    """The recipe's stages in an order in which each finds what it reads.

    Args:
        inputs: digest of the raw data.
        crew: runs the teach and pretrain stages.
    """
    data = out / "data"
    settings = sections(recipe)
    deciding = placeless_sections(recipe)
    parents = seed_runs(recipe)
    checked = (*_CHECKED, "queries") if recipe.data.queries is not None else _CHECKED
    first_seed, first_fold = recipe.runs()[0]

    def make(
        name: str,
        folder: str,
        work: Callable[[Path, str, Callable[[str], LogFn]], None],
        *,
        uses: Sequence[str],
        reads: Sequence[str],
        code: Sequence[str],
        seed: int | None = None,
        fold: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Stage:
        used = {section: settings[section] for section in uses}

        def tracked(folder_path: Path, key: str) -> None:
            run_log = tracker.run(
                folder, parent=parents[first_seed if seed is None else seed], params=used, tags={"stage": name}
            )
            work(folder_path, key, lambda curve: _prefixed(run_log.log, curve))
            for summary in sorted(folder_path.rglob("*.json")):
                if summary.name in _SUMMARIES:
                    run_log.artifact(summary, folder=str(summary.parent.relative_to(folder_path)).removeprefix("."))
            if name == "validate":
                run_log.dataset(
                    recipe.name,
                    inputs[:32],
                    read_table(folder_path / "interactions.parquet", columns=[]).num_rows,
                    recipe.data.adapter,
                )
            run_log.finish()

        shared = ("contracts", "training", "checkpoint", "world")
        depends = {section: deciding[section] for section in uses}
        return Stage(
            name, folder, {**depends, "seed": seed, "fold": fold, **(extra or {})}, reads, (*code, *shared), tracked
        )

    found = [
        make(
            "validate",
            "data",
            lambda to, key, log: ingest(recipe.data, out=to),
            uses=["data"],
            reads=[],
            code=["ingest"],
            extra={
                "inputs": inputs,
                "contracts": [digest(data_contracts() / f"{name}.yaml") for name in checked],
                # The media table names the files of a folder, whose place therefore does count.
                "media": [str(path.absolute()) for path in media_folders(recipe.data)],
            },
        ),
        make(
            "encode",
            "content",
            lambda to, key, log: encode(recipe.encoders, data=data, out=to),
            uses=["encoders"],
            reads=["data"],
            code=["students"],
            extra={"towers": {str(path): folder_digest(path) for path in local_towers(recipe.encoders)}},
        ),
        make(
            "split",
            "split",
            lambda to, key, log: split(recipe.split, data=data, out=to),
            uses=["split"],
            reads=["data"],
            code=["split"],
        ),
    ]
    records, paired = list[str](), list[str]()
    for seed, name in recipe.runs():
        found += _fold_stages(make, recipe, out=out, seed=seed, fold=Fold(out / "split" / name), crew=crew)
        records += [f"seed-{seed}/{name}/evaluate", f"seed-{seed}/{name}/rank"]
        paired += [f"seed-{seed}/{name}/pair"] if recipe.pairs is not None else []
    first = f"seed-{first_seed}/{first_fold}"
    found.append(
        make(
            "export",
            "export",
            lambda to, key, log: export(
                recipe.export,
                recipe.evaluate.new_items,
                recipe.questions(),
                data=data,
                fold=Fold(out / "split" / first_fold),
                distill=out / first / "distill",
                min_negative_share=recipe.rank.labels.min_negative_share,
                out=to,
                seed=first_seed,
            ),
            uses=["export"],
            reads=["data", "split", f"{first}/distill"],
            code=["export", "features", "retrieval"],
            extra={
                "continue": None if recipe.export.continue_ids is None else digest(recipe.export.continue_ids),
                "level": recipe.evaluate.new_items.model_dump(mode="json"),
                "min_negative_share": recipe.rank.labels.min_negative_share,
                "questions": recipe.questions().model_dump(mode="json"),
            },
        )
    )

    def report(to: Path, key: str, log: Callable[[str], LogFn]) -> None:
        metrics = collect([out / folder / _RECORDS for folder in records])
        write_json(metrics, out / "metrics.json")
        page = build_report(out, title=recipe.name)
        for seed, parent in parents.items():
            of_seed = collect([out / folder / _RECORDS for folder in records if folder.startswith(f"{parent}/")])
            run_log = tracker.run(parent, parent=None)
            run_log.metrics({metric: figure["value"] for metric, figure in of_seed.items()})
            if seed == first_seed:
                for artifact in (page, out / "metrics.json"):
                    run_log.artifact(artifact)
                for made, place in (("student", "student"), ("mlflow_model", "model")):
                    if (out / "export" / made).is_dir():  # the model is left out if the recipe says so
                        run_log.artifact(out / "export" / made, folder=place)
            run_log.finish()
        write_json({"metrics": len(metrics), "page": page.name}, to / "built.json")

    found.append(
        make(
            "report",
            "report",
            report,
            uses=[],
            reads=[*records, *paired, "export"],
            code=["report", *(f"evaluation/{part}" for part in _SUMMARIES_BY), "students/encoders/media"],
            extra={"name": recipe.name},
        )
    )
    return found


def _fold_stages(
    make: Callable[..., Stage], recipe: Recipe, *, out: Path, seed: int, fold: Fold, crew: Crew
) -> list[Stage]:
    """Teach, mine, pair and pretrain (if the recipe asks for them), distill, evaluate and rank of one seed and fold."""
    base = f"seed-{seed}/{fold.name}"
    items, content = out / "data" / "items.parquet", out / "content"
    teaching, mining, distilling, evaluating = (out / base / name for name in ("teach", "mine", "distill", "evaluate"))
    of = {"seed": seed, "fold": fold.name}
    asked = recipe.questions()
    questions = {"questions": asked.model_dump(mode="json")}
    judging = recipe.judging()
    pretraining = out / base / "pretrain"
    trained = [f"{base}/pretrain"] if recipe.pretrain is not None else []
    begun = trained if recipe.distill.start == "pretrained" else []
    return [
        make(
            "teach",
            f"{base}/teach",
            lambda to, key, log: crew.teach(fold=fold, items=items, out=to, seed=seed, key=key, log=log),
            uses=["teachers"],
            reads=["data", "split"],
            code=["teachers", "retrieval"],
            extra={**questions, "external": [digest(table.path) for table in recipe.teachers.external]},
            **of,
        ),
        make(
            "mine",
            f"{base}/mine",
            lambda to, key, log: mine(
                recipe.mining,
                fold=fold,
                items=items,
                content=content / "raw_content.parquet",
                teach=teaching,
                out=to,
                seed=seed,
            ),
            uses=["mining"],
            reads=["data", "split", "content", f"{base}/teach"],
            code=["mining", "retrieval"],
            extra={"content": None if recipe.mining.content is None else digest(recipe.mining.content)},
            **of,
        ),
        *_content_aware_stages(make, recipe, out=out, seed=seed, fold=fold, crew=crew),
        make(
            "distill",
            f"{base}/distill",
            lambda to, key, log: distill(
                recipe.distill,
                recipe.student,
                asked,
                EvaluateConfig.model_validate({**judging, "seq2item": asked.model_dump()}),
                fold=fold,
                data=items.parent,
                content=content,
                teach=teaching,
                mine=mining,
                pretrain=pretraining if begun else None,
                out=to,
                seed=seed,
                key=key,
                log=log,
            ),
            uses=["distill", "student"],
            extra={
                **questions,
                "fuser": [folder_digest(path) for path in local_fuser(recipe.student)],
                "judging": judging,
            },
            reads=["data", "split", "content", f"{base}/teach", f"{base}/mine", *begun],
            code=[
                "distill",
                "objectives",
                "students",
                "retrieval",
                "features/content_level",
                *(f"evaluation/{part}" for part in _JUDGES if judging),
            ],
            **of,
        ),
        make(
            "evaluate",
            f"{base}/evaluate",
            lambda to, key, log: evaluate(
                recipe.evaluate,
                fold=fold,
                items=items,
                content=content,
                teach=teaching,
                students=[distilling, pretraining] if trained else [distilling],
                out=to,
                seed=seed,
            ),
            uses=["evaluate"],
            reads=["data", "split", "content", f"{base}/teach", f"{base}/distill", *trained],
            code=["evaluation", "retrieval"],
            **of,
        ),
        make(
            "rank",
            f"{base}/rank",
            lambda to, key, log: rank(
                recipe.rank,
                fold=fold,
                items=items,
                teach=teaching,
                distill=distilling,
                evaluate=evaluating,
                out=to,
                seed=seed,
                key=key,
                log=log,
            ),
            uses=["rank"],
            reads=["data", "split", f"{base}/teach", f"{base}/distill", f"{base}/evaluate"],
            code=["rankers", "features", "lifetime"],
            **of,
        ),
    ]


def _content_aware_stages(
    make: Callable[..., Stage], recipe: Recipe, *, out: Path, seed: int, fold: Fold, crew: Crew
) -> Iterator[Stage]:
    """Pair and pretrain of one seed and fold, as far as the recipe asks for them."""
    base = f"seed-{seed}/{fold.name}"
    of = {"seed": seed, "fold": fold.name}
    pairs, pretraining = recipe.pairs, recipe.pretrain
    if pairs is not None:
        taught = any(pairs.teachers())
        yield make(
            "pair",
            f"{base}/pair",
            lambda to, key, log: pair(
                pairs,
                fold=fold,
                items=out / "data" / "items.parquet",
                queries=out / "data" / "queries.parquet" if recipe.data.queries is not None else None,
                teach=out / base / "teach" if taught else None,
                out=to,
                seed=seed,
            ),
            uses=["pairs"],
            reads=["data", "split", *([f"{base}/teach"] if taught else [])],
            code=["pairs", "retrieval", "features"],
            **of,
        )
    if pretraining is not None:
        yield make(
            "pretrain",
            f"{base}/pretrain",
            lambda to, key, log: crew.pretrain(
                fold=fold,
                data=out / "data",
                content=out / "content",
                pairs=out / base / "pair",
                out=to,
                seed=seed,
                key=key,
                log=log,
            ),
            uses=["pretrain", "student"],
            extra={"fuser": [folder_digest(path) for path in local_fuser(recipe.student)]},
            reads=["data", "split", "content", f"{base}/pair"],
            code=["pretrain", "objectives", "students", "retrieval"],
            **of,
        )


def collect(paths: Sequence[Path]) -> dict[str, Any]:
    """Metric records of several seeds, folds and stages → the content of ``metrics.json``."""
    records: pd.DataFrame = pa.concat_tables(
        [read_table(path) for path in paths], promote_options="permissive"
    ).to_pandas()
    return to_metrics_json(summarise(records), compare(records, "student", "content_student"))


def seed_runs(recipe: Recipe) -> dict[int, str]:
    """Each seed's tracked run, in which those of its stages are nested."""
    return {seed: f"seed-{seed}" for seed in recipe.seeds}


def _prefixed(log: LogFn, prefix: str) -> LogFn:
    return lambda metrics, step: log({f"{prefix}/{name}": value for name, value in metrics.items()}, step)
