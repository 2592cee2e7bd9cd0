"""The whole flow, and the one module that knows all stages.

    raw logs + item content
      → validate   data/                     canonical tables, checked against data_contracts/
      → encode     content/                  frozen towers → features of every item (cached)
      → split      split/<fold>/             training, validation, test; cold items; leakage report
      → teach      seed-<s>/<fold>/teach/    TorchRec teachers → teacher_embeddings
      → mine       seed-<s>/<fold>/mine/     four perspectives → interest_pairs
      → distill    seed-<s>/<fold>/distill/  student and content student → item_embeddings
      → evaluate   seed-<s>/<fold>/evaluate/ benchmarks × metrics, baselines beside → metric_records
      → rank       seed-<s>/<fold>/rank/     a ranker with and without our features; LT proxies → metric_records
      → export     export/                   embeddings, semantic IDs, match features, the student
      → report     metrics.json report.html  mean over seeds, intervals over users

Stages meet through the tables in those folders only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from recdistill.config import Recipe
from recdistill.contracts.fold import Fold
from recdistill.contracts.tables import read_table, write_json
from recdistill.distill import distill
from recdistill.evaluation import evaluate, summarise, to_metrics_json
from recdistill.export import export
from recdistill.ingest import ingest, input_fingerprint
from recdistill.mining import mine
from recdistill.rankers import rank
from recdistill.report import build_report
from recdistill.runs import Runner, Stage
from recdistill.split import split
from recdistill.students import encode
from recdistill.teachers import teach
from recdistill.tracking import Tracker, provenance_tags
from recdistill.training import LogFn

STAGES = ("validate", "encode", "split", "teach", "mine", "distill", "evaluate", "rank", "export", "report")
_RECORDS = "metric_records.parquet"
_SUMMARIES = {
    "validation.json", "encode.json", "split.json", "teachers.json", "funnel.json",
    "distill.json", "evaluate.json", "rank.json", "export.json",
}  # fmt: skip


def run(recipe: Recipe, *, out: Path, until: str = "report", say: Callable[[str], None]) -> dict[str, Any]:
    """Run a recipe's stages up to ``until`` in the run folder ``out``, skipping what is unchanged.

    Returns:
        the content of ``metrics.json``, {} when the report was not reached.

    Raises:
        UserError: the input, the recipe or the environment is at fault.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_json(recipe.model_dump(mode="json"), out / "recipe.json")
    runner = Runner(out, say)
    if not (out / "metrics.json").exists() or not (out / "report.html").exists():
        runner.forget("report")
    with Tracker(out, experiment=recipe.name) as tracker:
        for stage in stages(recipe, out=out, tracker=tracker):
            if STAGES.index(stage.name) <= STAGES.index(until):
                runner.execute(stage)
                for warning in _warnings(stage.name, out / stage.folder):
                    say(f"warning: {warning}")
    return json.loads((out / "metrics.json").read_text()) if until == "report" else {}


def stages(recipe: Recipe, *, out: Path, tracker: Tracker) -> list[Stage]:
    """The recipe's stages in an order in which each finds what it reads."""
    data, _content = out / "data", out / "content"
    settings = {
        name: getattr(recipe, name).model_dump(mode="json")
        for name in Recipe.model_fields
        if name not in ("name", "seeds")
    }
    parents = {seed: f"seed-{seed}" for seed in recipe.seeds}
    first_seed, first_fold = recipe.seeds[0], recipe.split.fold_names()[0]
    inputs = input_fingerprint(recipe.data)
    tags = {**provenance_tags(), "data.fingerprint": inputs}
    for seed, parent in parents.items():
        tracker.run(parent, parent=None, params={**settings, "seed": seed}, tags=tags)

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

        shared = ("contracts", "training")
        return Stage(
            name, folder, {**used, "seed": seed, "fold": fold, **(extra or {})}, reads, (*code, *shared), tracked
        )

    found = [
        make(
            "validate",
            "data",
            lambda to, key, log: ingest(recipe.data, out=to),
            uses=["data"],
            reads=[],
            code=["ingest"],
            extra={"inputs": inputs},
        ),
        make(
            "encode",
            "content",
            lambda to, key, log: encode(recipe.encoders, data=data, out=to),
            uses=["encoders"],
            reads=["data"],
            code=["students"],
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
    records = []
    for seed in recipe.seeds:
        for name in recipe.split.fold_names():
            found += _fold_stages(make, recipe, out=out, seed=seed, fold=Fold(out / "split" / name))
            records += [f"seed-{seed}/{name}/evaluate", f"seed-{seed}/{name}/rank"]
    first = f"seed-{first_seed}/{first_fold}"
    found.append(
        make(
            "export",
            "export",
            lambda to, key, log: export(
                recipe.export,
                data=data,
                fold=Fold(out / "split" / first_fold),
                distill=out / first / "distill",
                out=to,
                seed=first_seed,
            ),
            uses=["export"],
            reads=["data", "split", f"{first}/distill"],
            code=["export", "features"],
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
                run_log.artifact(out / "export" / "student", folder="student")
                run_log.artifact(out / "export" / "mlflow_model", folder="model")
            run_log.finish()
        write_json({"metrics": len(metrics), "page": page.name}, to / "built.json")

    found.append(
        make(
            "report",
            "report",
            report,
            uses=[],
            reads=[*records, "export"],
            code=["report", "evaluation/summary"],
            extra={"name": recipe.name},
        )
    )
    return found


def _fold_stages(make: Callable[..., Stage], recipe: Recipe, *, out: Path, seed: int, fold: Fold) -> list[Stage]:
    """Teach, mine, distill, evaluate and rank of one seed and fold."""
    base = f"seed-{seed}/{fold.name}"
    items, content = out / "data" / "items.parquet", out / "content"
    teaching, mining, distilling, evaluating = (out / base / name for name in ("teach", "mine", "distill", "evaluate"))
    of = {"seed": seed, "fold": fold.name}
    return [
        make(
            "teach",
            f"{base}/teach",
            lambda to, key, log: teach(recipe.teachers, fold=fold, out=to, seed=seed, key=key, log=log),
            uses=["teachers"],
            reads=["split"],
            code=["teachers", "retrieval"],
            extra={"external": [_digest(table.path) for table in recipe.teachers.external]},
            **of,
        ),
        make(
            "mine",
            f"{base}/mine",
            lambda to, key, log: mine(
                recipe.mining, fold=fold, content=content / "raw_content.parquet", teach=teaching, out=to, seed=seed
            ),
            uses=["mining"],
            reads=["split", "content", f"{base}/teach"],
            code=["mining"],
            **of,
        ),
        make(
            "distill",
            f"{base}/distill",
            lambda to, key, log: distill(
                recipe.distill,
                recipe.student,
                fold=fold,
                content=content,
                teach=teaching,
                mine=mining,
                out=to,
                seed=seed,
                key=key,
                log=log,
            ),
            uses=["distill", "student"],
            reads=["split", "content", f"{base}/teach", f"{base}/mine"],
            code=["distill", "objectives", "students", "retrieval"],
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
                distill=distilling,
                out=to,
                seed=seed,
            ),
            uses=["evaluate"],
            reads=["data", "split", "content", f"{base}/teach", f"{base}/distill"],
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
            code=["rankers", "features"],
            **of,
        ),
    ]


def collect(paths: Sequence[Path]) -> dict[str, Any]:
    """Metric records of several seeds, folds and stages → the content of ``metrics.json``."""
    records: pd.DataFrame = pa.concat_tables(
        [read_table(path) for path in paths], promote_options="permissive"
    ).to_pandas()
    return to_metrics_json(summarise(records))


def _digest(path: Path) -> str:
    """SHA-256 of a file; "" if there is none, which the stage that reads it then says."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _warnings(stage: str, folder: Path) -> list[str]:
    """What a stage that ended well still wants the user to know."""
    if stage == "validate":
        found: list[str] = json.loads((folder / "validation.json").read_text(encoding="utf-8"))["warnings"]
        return found
    if stage == "encode" and (bad := read_table(folder / "bad_media.parquet").to_pylist()):
        first = "; ".join(f"item {row['item_id']}: {row['reason']}" for row in bad[:3])
        return [
            f"{len(bad)} picture or sound files cannot be read and count as missing ({first}); "
            f"see {folder / 'bad_media.parquet'}"
        ]
    return []


def _prefixed(log: LogFn, prefix: str) -> LogFn:
    return lambda metrics, step: log({f"{prefix}/{name}": value for name, value in metrics.items()}, step)
