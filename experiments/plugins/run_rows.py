"""What the examples beside it share: a finished run's rows for a ranker, and an export as of their time.

The ranker is trained on the validation window and tested on the test window. So its features come from the *selection*
fit, whose teachers and student have seen neither; the run's own ``export/`` is of the final fit, which has learned from
the validation window, and is for rankers that are trained on later days: joined to earlier rows it warns of them.
Counters, match features and reactions read only events strictly before a row. Logged rows alone: an event without
positive behaviour is a negative.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.metrics import roc_auc_score

from recdistill.contracts import fold as layout
from recdistill.contracts import names
from recdistill.contracts.fold import Fold
from recdistill.contracts.log import Log
from recdistill.contracts.tables import EmbeddingTable, read_metadata, write_table
from recdistill.contracts.trained import until_metadata
from recdistill.errors import UserError
from recdistill.features.config import MatchConfig, ReactionConfig, SemanticIdConfig
from recdistill.features.exported import EMBEDDINGS, MATCH, SEMANTIC_IDS
from recdistill.features.match_basis import MatchBasis
from recdistill.features.match_items import MatchItems
from recdistill.features.match_log import match_log
from recdistill.features.semantic_ids import fit_codebooks, to_table
from recdistill.features.space import Space

LABEL = "label"
NEW = "new_item"  # bool: no event of the item before the test window
BASE = (
    "item_events",
    "item_positives",
    "item_rate",
    "item_days",
    "user_events",
    "user_positives",
    "user_rate",
    "user_days",
    "met_before",
)
_SMOOTHING = 10.0
_LEAST_NEGATIVES = 0.05


@dataclass(frozen=True)
class RunRows:
    """Rows of the two windows, oldest first: user_id, item_id, timestamp, ``LABEL``, ``NEW`` and ``BASE``.

    ``fit`` and ``stop`` are the older four fifths and the newest fifth of the validation window's, by time: the fifth
    tells when to stop.
    """

    fit: pd.DataFrame
    stop: pd.DataFrame
    test: pd.DataFrame
    export: Path


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The arguments that the examples have in common."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run with the time protocol")
    parser.add_argument("--out", type=Path, required=True, help="where the export as of the selection fit is written")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each ranker")
    return parser


def read_run(run: Path, *, out: Path) -> RunRows:
    """Read a run's first seed, and write ``out/export``: vectors, semantic IDs, all rows' match features and reactions.

    Raises:
        UserError: the run is not finished, not of the time protocol, or its log has no negatives of its own.
    """
    fold = Fold(run / "split" / "time")
    student = min(run.glob("seed-*/time/distill/selection/student.parquet"), default=None)
    if student is None or read_metadata(fold.root / layout.ITEMS).get("protocol") == "folds":
        raise UserError(
            f"{run}: no student of the selection fit of a run with the time protocol",
            remedy="recdistill run RECIPE --out FOLDER, with split.protocol=time",
        )
    history = fold.history("final")
    events = _frame(history)
    windows = [_rows(fold.targets(fit), events) for fit in layout.FITS]
    before = events[names.TIMESTAMP] < windows[1][names.TIMESTAMP].min()
    for rows in windows:
        rows[NEW] = ~rows[names.ITEM_ID].isin(events.loc[before, names.ITEM_ID])
    cut = windows[0][names.TIMESTAMP].quantile(0.8)
    older = windows[0][names.TIMESTAMP] < cut
    table = EmbeddingTable.read(student)
    table = replace(table, metadata={**table.metadata, **until_metadata(fold.trained_until("selection"))})
    _export(table, history, pd.concat(windows), out / "export")
    return RunRows(windows[0][older], windows[0][~older], windows[1], out / "export")


def print_aucs(scores: Mapping[str, Sequence[np.ndarray]], test: pd.DataFrame) -> None:
    """AUC in % of each ranker's scores of the test rows, mean ± s.d. over its trainings; all items and new ones."""
    label, new = test[LABEL].to_numpy(), test[NEW].to_numpy()
    print(f"{len(test)} test rows, {100 * label.mean():.1f} % positive, {100 * new.mean():.1f} % with new items")
    print(f"{'AUC in %':<34}{'all items':>16}{'new items':>16}")
    for name, trainings in scores.items():
        cells = []
        for rows in (np.ones(len(test), dtype=bool), new):
            if len(np.unique(label[rows])) < 2:
                cells.append("–")
                continue
            values = [100 * roc_auc_score(label[rows], score[rows]) for score in trainings]
            cells.append(f"{np.mean(values):.2f} ± {np.std(values):.2f}")
        print(f"{name:<34}{cells[0]:>16}{cells[1]:>16}")


def _rows(window: Log, events: pd.DataFrame) -> pd.DataFrame:
    rows = _frame(window).sort_values(names.TIMESTAMP, kind="stable", ignore_index=True)
    if 1 - rows[LABEL].mean() < _LEAST_NEGATIVES:
        raise UserError(
            "hardly an event of the window is without positive behaviour: the examples draw no negatives",
            remedy="take a run whose log has negatives of its own, or see the rank stage",
        )
    typical = events.loc[events[names.TIMESTAMP] < rows[names.TIMESTAMP].min(), LABEL].mean()
    for of, key in (("item", names.ITEM_ID), ("user", names.USER_ID)):
        met = _before(rows, events, [key])
        rows[f"{of}_events"], rows[f"{of}_positives"] = met["events"], met["positives"]
        rows[f"{of}_rate"] = (met["positives"] + _SMOOTHING * typical) / (met["events"] + _SMOOTHING)
        rows[f"{of}_days"] = (rows[names.TIMESTAMP] - met["last"]).dt.total_seconds() / 86_400
    rows["met_before"] = _before(rows, events, [names.USER_ID, names.ITEM_ID])["events"]
    return rows


def _before(rows: pd.DataFrame, events: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Events and positives with the same keys strictly before each row, and the last one's time; in the rows' order."""
    of_keys = events.groupby(keys, sort=False)
    met = events[[*keys, names.TIMESTAMP]].assign(
        events=of_keys.cumcount() + 1.0, positives=of_keys[LABEL].cumsum().astype(float), last=events[names.TIMESTAMP]
    )
    met = met.drop_duplicates([*keys, names.TIMESTAMP], keep="last")
    found = pd.merge_asof(rows[[*keys, names.TIMESTAMP]], met, on=names.TIMESTAMP, by=keys, allow_exact_matches=False)
    return found.fillna({"events": 0.0, "positives": 0.0})


def _frame(log: Log) -> pd.DataFrame:
    """A log as a frame, oldest first."""
    frame = pd.DataFrame(
        {
            names.USER_ID: log.user_ids[log.user],
            names.ITEM_ID: log.item_ids[log.item],
            names.TIMESTAMP: pd.to_datetime(log.time, unit="us", utc=True).as_unit("us"),
            LABEL: log.positive().astype(np.int8),
        }
    )
    return frame.sort_values(names.TIMESTAMP, kind="stable", ignore_index=True)


def _export(table: EmbeddingTable, history: Log, rows: pd.DataFrame, out: Path) -> None:
    """The tables that an export has, made of a selection fit's vectors."""
    table.write(out / EMBEDDINGS)
    space = Space.of(table, table.ids, centre=True)
    books = fit_codebooks(SemanticIdConfig(), table.ids, table.vectors, mean=space.mean, seed=0)
    coded = to_table(table.ids, books.encode(table.vectors))
    about = {**table.metadata, "method": SemanticIdConfig().method, "sizes": list(books.sizes)}
    write_table(coded, out / SEMANTIC_IDS, metadata=about)

    basis = MatchBasis.fit(space, MatchConfig(), seed=0, reaction=ReactionConfig())
    items = MatchItems.of(basis, table, coded)
    values = match_log(
        items,
        history,
        user=history.user_ids.get_indexer(rows[names.USER_ID]),
        item=items.ids.get_indexer(rows[names.ITEM_ID]),
        time=rows[names.TIMESTAMP].astype("int64").to_numpy(),
    )
    columns = {name: pa.array(rows[name]) for name in (names.USER_ID, names.ITEM_ID)}
    columns[names.TIMESTAMP] = pa.array(rows[names.TIMESTAMP]).cast(pa.timestamp("us", "UTC"))
    columns |= {name: pa.array(values[:, at], pa.float32()) for at, name in enumerate(items.columns)}
    write_table(pa.table(columns), out / MATCH, metadata=table.metadata)
