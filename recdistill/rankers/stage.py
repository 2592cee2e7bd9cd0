"""The ``rank`` stage: what each feature group adds to a downstream ranker.

No leak by construction: rankers train on the *validation* window, with features from the *selection* fit's tables,
whose teachers and students have not seen that window. They are tested on the *test* window with those same tables
(a ranker trained on one table and served another would compare spaces, not groups). Counters and histories read only
events strictly before a row. The epoch is chosen on the newest part of the ranker's own training rows.

Memory: about 250 bytes a row and group in work, 100 bytes an event, and one embedding table (12 · I · d bytes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recdistill.contracts import fold as layout
from recdistill.contracts.fold import Fold
from recdistill.contracts.log import Log
from recdistill.contracts.records import Records
from recdistill.contracts.tables import write_json
from recdistill.rankers.config import DlrmConfig, Group, RankConfig
from recdistill.rankers.counts import Standardiser, base_features
from recdistill.rankers.groups import TableFeatures, read_tables, table_features, tables_of
from recdistill.rankers.measure import measure
from recdistill.rankers.model import SparseFeature
from recdistill.rankers.proxies import lifetime_proxies
from recdistill.rankers.rows import Negatives, Rows, cold_items, make_rows, negatives_of
from recdistill.rankers.tags import Tags
from recdistill.rankers.train import Inputs, score, train_ranker
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
    """Write ``out/metric_records.parquet`` and ``out/rank.json``.

    Benchmark ``ranker``: auc, gauc, logloss for all, warm and cold items (cold: no training interaction), and their
    deltas against ``none``. Benchmark ``lt``: see :mod:`recdistill.rankers.proxies`.

    Args:
        items: the canonical ``items`` table.
        teach, distill, evaluate: folders with ``selection/``; groups whose table is optional and absent are left out.
        key: fingerprint that a checkpoint must carry to be resumed.
        log: gives the curve of a name.

    Raises:
        UserError: a table is missing or malformed, or a window has no positives or no negatives.
    """
    data = _Data.read(config, fold, items, seed=seed)
    tables = read_tables(
        {
            "raw_content": evaluate / "selection" / "raw_content.parquet",
            "kernel_ridge": evaluate / "selection" / "kernel_ridge.parquet",
            "id_teacher": teach / "selection" / "id_teacher.parquet",
            "student": distill / "selection" / "student.parquet",
        },
        item_ids=data.history.item_ids,
        seed=seed,
    )
    used = tuple(group for group in config.groups if all(name in tables for name in tables_of(group)))
    made = {
        name: table_features(
            config, tables.pop(name), history=data.history, row_sets=(data.train, data.test), seed=seed
        )
        for name in sorted({name for group in used for name in tables_of(group)})
    }
    logits: dict[str, np.ndarray] = {}
    about: dict[str, Any] = {}
    for group in used:
        parts = {name: made[name] for name in tables_of(group)}
        logits[group], about[group] = _run(config.dlrm, group, data, parts, out=out, seed=seed, key=key, log=log)

    records = Records(seed, fold.name)
    cold = data.cold[data.test.item]
    measure(
        data.test,
        logits,
        splits={"all": np.ones(len(cold), dtype=bool), "warm": ~cold, "cold": cold},
        user_ids=data.history.user_ids,
        by_rows=config.gauc_weight == "impressions",
        records=records,
        draws=config.draws,
        seed=seed,
    )
    everything = _whole_log(fold)
    returns = lifetime_proxies(
        config.lifetime,
        log=everything,
        rows=_renumber(data.test, data.history, everything),
        logits=logits,
        category=data.tags.category(),
        records=records,
        draws=config.draws,
        seed=seed,
    )
    provenance = {
        "negatives": data.negatives,
        "gauc": f"groups are users, weighted by {config.gauc_weight}",
        "features_from": "selection",
        "skipped_groups": [group for group in config.groups if group not in used],
    }
    records.write(out / "metric_records.parquet", metadata=provenance)
    write_json(
        {
            **provenance,
            "rows": {
                "train": _describe(data.train, data.cold, unmatched=data.unmatched[0]),
                "test": _describe(data.test, data.cold, unmatched=data.unmatched[1]),
            },
            "groups": about,
            "values": records.values,
            "undefined": records.undefined,
            "lifetime": returns,
        },
        out / "rank.json",
    )


@dataclass(frozen=True)
class _Data:
    """What all groups share."""

    history: Log
    train: Rows
    test: Rows
    negatives: Negatives
    unmatched: tuple[int, int]  # positives of the train and test windows that found no set of sampled negatives
    cold: np.ndarray  # [I] bool
    tags: Tags
    base: tuple[np.ndarray, np.ndarray]  # of train and test rows
    sparse: tuple[SparseFeature, ...]  # user_id, item_id, tags
    bags: tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]  # of train and test rows

    @classmethod
    def read(cls, config: RankConfig, fold: Fold, items: Path, *, seed: int) -> _Data:
        history = fold.history("final")
        windows = fold.targets("selection"), fold.targets("final")
        negatives = negatives_of(*windows, min_share=config.labels.min_negative_share)
        train, test = (
            make_rows(
                window, history=history, negatives=negatives, per_positive=config.labels.sampled, seed=2 * seed + at
            )
            for at, window in enumerate(windows)
        )
        final = fold.training("final")
        base = tuple(
            base_features(rows, history=history, training=training, smoothing=config.smoothing)
            for rows, training in ((train, fold.training("selection")), (test, final))
        )
        tags = Tags.read(items, item_ids=history.item_ids, most=config.dlrm.max_tags)
        sparse, bags = [], []
        for name, of in (("user_id", "user"), ("item_id", "item")):
            total = len(getattr(history, f"{of}_ids"))
            ids, size = _frequent(getattr(train, of), config.dlrm.min_id_count, total=total)
            sparse.append(SparseFeature.single(name, torch.from_numpy(ids), size=size))
            bags.append((getattr(train, of), getattr(test, of)))
        if tags.size:
            sparse.append(
                SparseFeature("tags", tags.size, torch.from_numpy(tags.offsets), torch.from_numpy(tags.values))
            )
            bags.append((train.item, test.item))
        of_train, of_test = (tuple(torch.from_numpy(rows[at].astype(np.int64)) for rows in bags) for at in (0, 1))
        return cls(
            history,
            train,
            test,
            negatives,
            (int(windows[0].positive().sum() - train.label.sum()), int(windows[1].positive().sum() - test.label.sum())),
            cold_items(final, history.item_ids),
            tags,
            (base[0], base[1]),
            tuple(sparse),
            (of_train, of_test),
        )


def _run(
    config: DlrmConfig,
    group: Group,
    data: _Data,
    parts: Mapping[str, TableFeatures],
    *,
    out: Path,
    seed: int,
    key: str,
    log: Callable[[str], LogFn],
) -> tuple[np.ndarray, dict[str, Any]]:
    """Train one group's ranker and give its logits of the test rows, and what rank.json says of it."""
    raw = [np.hstack([data.base[at], *(part.dense[at] for part in parts.values())]) for at in (0, 1)]
    blocks = [1] * data.base[0].shape[1] + [width for part in parts.values() for width in part.blocks]
    standardise = Standardiser(raw[0], blocks=blocks)
    dense = [torch.from_numpy(standardise(rows)) for rows in raw]
    levels = [
        SparseFeature.single(f"{name}_sid_{at}", torch.from_numpy(level), size=int(level.max()) + 1)
        for name, part in parts.items()
        for at, level in enumerate(part.sparse)
    ]
    features = (*data.sparse, *levels)
    train, test = (
        Inputs(dense[at], (*data.bags[at], *[torch.from_numpy(rows.item.astype(np.int64))] * len(levels)))
        for at, rows in enumerate((data.train, data.test))
    )
    name = group.replace("+", "_")
    ranker, fitted = train_ranker(
        config,
        features,
        train,
        label=data.train.label,
        time=data.train.time,
        checkpoint=out / f".{name}.checkpoint",
        key=f"{key}/{group}",
        description=f"rank · {group}",
        seed=seed,
        log=log(f"ranker_{name}"),
    )
    about = {
        "dense_features": train.dense.shape[1],
        "sparse_features": [feature.name for feature in features],
        "best_step": fitted.best_step,
        "validation_logloss": -fitted.best_score,
    }
    return score(ranker, features, test), about


def _frequent(ids: np.ndarray, least: int, *, total: int) -> tuple[np.ndarray, int]:
    """[total] numbering of the ids with at least ``least`` training rows; all others share number 0."""
    often = np.bincount(ids, minlength=total) >= least
    return np.where(often, np.cumsum(often), 0), int(often.sum()) + 1


def _whole_log(fold: Fold) -> Log:
    """Every event of the fold, judges' included: users return on days that no training sees, too."""
    files = (layout.TRAIN, layout.VALIDATION, layout.TEST, layout.VALIDATION_JUDGE, layout.TEST_JUDGE)
    return Log.read([fold.root / file for file in files], item_ids=fold.item_ids())


def _renumber(rows: Rows, of: Log, to: Log) -> Rows:
    user = to.user_ids.get_indexer(of.user_ids)[rows.user].astype(np.int32)
    return Rows(user, rows.item, rows.time, rows.label, rows.behaviours, rows.logged)


def _describe(rows: Rows, cold: np.ndarray, *, unmatched: int) -> dict[str, Any]:
    return {
        "rows": len(rows),
        "users": len(np.unique(rows.user)),
        "positive_share": float(rows.label.mean()),
        "positives_left_out": unmatched,
        "cold_share": float(cold[rows.item].mean()),
    }
