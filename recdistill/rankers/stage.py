"""The ``rank`` stage: what each feature group adds to downstream rankers.

No leak by construction: rankers train on the *validation* window, with features from the *selection* fit's tables,
whose teachers and students have not seen that window. They are tested on the *test* window with those same tables
(a ranker trained on one table and served another would compare spaces, not groups). Counters and histories read only
events strictly before a row. How long is trained is chosen on the newest part of the rankers' own training rows, whose
figures are in rank.json too: by them, and never by the test's, a group or a setting may be chosen.

Memory: about 250 bytes a row and group in work (trees: 12 bytes a row and column more), 4 bytes a row and history item
where a model reads histories, 100 bytes an event, and two embedding tables (12 · I · d bytes each).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recdistill.contracts import fold as layout
from recdistill.contracts.fold import Fold
from recdistill.contracts.log import Log
from recdistill.contracts.records import Records
from recdistill.contracts.tables import write_json
from recdistill.rankers import metrics
from recdistill.rankers.config import RankConfig
from recdistill.rankers.data import Data
from recdistill.rankers.groups import table_features
from recdistill.rankers.inputs import How, Scored, Task
from recdistill.rankers.measure import measure
from recdistill.rankers.models import train_model
from recdistill.rankers.names import CONTENT, ModelName, benchmark_of, tables_of
from recdistill.rankers.predictions import write_predictions
from recdistill.rankers.proxies import lifetime_proxies
from recdistill.rankers.rows import Rows
from recdistill.rankers.tables import Tables
from recdistill.training import LogFn


def rank(
    config: RankConfig,
    *,
    fold: Fold,
    items: Path,
    teach: Path,
    distill: Path,
    evaluate: Path,
    out: Path,
    seed: int,
    key: str,
    log: Callable[[str], LogFn],
) -> None:
    """Write ``out/metric_records.parquet``, ``out/predictions.parquet`` and ``out/rank.json``.

    Benchmark ``ranker`` (the DLRM) and ``ranker_<model>`` (the others): see :func:`recdistill.rankers.measure.measure`,
    for all, warm and cold items (cold: no training interaction) and for users of few, middling and many training
    events. Benchmark ``lt``: see :mod:`recdistill.rankers.proxies`; it reads the scores of the first model.

    Args:
        items: the canonical ``items`` table.
        teach, distill, evaluate: folders with ``selection/``; groups whose table is optional and absent are left out.
        key: fingerprint that a checkpoint must carry to be resumed.
        log: gives the curve of a name.

    Raises:
        UserError: a table is missing or malformed, or a window has no positives or no negatives.
    """
    data = Data.read(config, fold, items, seed=seed)
    tables = Tables(
        {
            CONTENT: evaluate / "selection" / "raw_content.parquet",
            "kernel_ridge": evaluate / "selection" / "kernel_ridge.parquet",
            "id_teacher": teach / "selection" / "id_teacher.parquet",
            "student": distill / "selection" / "student.parquet",
        },
        item_ids=data.history.item_ids,
        training=fold.training("selection"),
        centre=config.centre,
        whitening=config.whitening,
        seed=seed,
    )
    used = tables.usable(config.groups)
    made = {
        name: table_features(
            config,
            tables.read(name),
            history=data.history,
            row_sets=(data.train, data.test),
            own=data.negatives == "logged",
            seed=seed,
        )
        for name in sorted({name for group in used for name in tables_of(group)})
    }
    logits: dict[ModelName, dict[str, np.ndarray]] = {model: {} for model in config.models}
    about: dict[str, dict[str, Any]] = {benchmark_of(model): {} for model in config.models}
    for group in used:
        task = data.task({name: made[name] for name in tables_of(group)}, newest=config.validation)
        for model in config.models:
            benchmark, name = benchmark_of(model), group.replace("+", "_")
            how = How(
                out / f".{benchmark}_{name}.checkpoint",
                f"{key}/{benchmark}/{group}",
                f"rank · {model} · {group}",
                seed,
                log(f"{benchmark}_{name}"),
            )
            scored = train_model(model, config, task, how)
            logits[model][group] = scored.test
            about[benchmark][group] = _describe(task, scored, data)

    records, splits = Records(seed, fold.name), data.splits()
    tests = {
        benchmark_of(model): measure(
            data.test,
            of,
            benchmark=benchmark_of(model),
            splits=splits,
            user_ids=data.history.user_ids,
            records=records,
            draws=config.draws,
            seed=seed,
        )
        for model, of in logits.items()
    }
    write_predictions(out / "predictions.parquet", data.test, logits, history=data.history, splits=splits, seed=seed)
    everything = _whole_log(fold)
    returns = lifetime_proxies(
        config.lifetime,
        log=everything,
        rows=_renumber(data.test, data.history, everything),
        logits=logits[config.models[0]],
        category=data.tags.category(),
        records=records,
        draws=config.draws,
        seed=seed,
    )
    provenance = {
        "negatives": data.negatives,
        "gauc": "groups are users; gauc weighs them by impressions, gauc_by_user all alike",
        "features_from": "selection",
        "skipped_groups": [group for group in config.groups if group not in used],
    }
    records.write(out / "metric_records.parquet", metadata=provenance)
    write_json(
        {
            **provenance,
            "rows": data.describe(),
            "groups": about,
            "tests": tests,
            "values": records.values,
            "undefined": records.undefined,
            "lifetime": returns,
        },
        out / "rank.json",
    )


def _describe(task: Task, scored: Scored, data: Data) -> dict[str, Any]:
    """What rank.json says of a ranker: what it read, and what it reached on the newest of its training rows."""
    user, label = data.train.user[task.newest], task.label[task.newest]
    users = len(data.history.user_ids)
    reached = {
        "logloss": metrics.mean_log_loss(user, label, scored.newest, users=users).value(),
        "auc": float(metrics.auc(label, scored.newest)),
        "gauc": metrics.gauc(user, label, scored.newest, users=users, by_rows=True).value(),
    }
    return {
        "dense_features": task.train.dense.shape[1],
        "sparse_features": [feature.name for feature in task.features],
        "best_step": scored.best_step,
        **{f"validation_{name}": value if np.isfinite(value) else None for name, value in reached.items()},
    }


def _whole_log(fold: Fold) -> Log:
    """Every event of the fold, judges' included: users return on days that no training sees, too."""
    files = (layout.TRAIN, layout.VALIDATION, layout.TEST, layout.VALIDATION_JUDGE, layout.TEST_JUDGE)
    return Log.read([fold.root / file for file in files], item_ids=fold.item_ids())


def _renumber(rows: Rows, of: Log, to: Log) -> Rows:
    user = to.user_ids.get_indexer(of.user_ids)[rows.user].astype(np.int32)
    return Rows(user, rows.item, rows.time, rows.label, rows.behaviours, rows.logged)
