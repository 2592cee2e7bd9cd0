"""What one fit may learn from of the log and the query table, in the catalogue's numbering.

Shapes: n events, I items, Q distinct queries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from recdistill.contracts import names
from recdistill.contracts.fold import Fit, Fold
from recdistill.contracts.log import Log
from recdistill.contracts.tables import read_table


def training_log(fold: Fold, fit: Fit, ids: pd.Index) -> Log:
    """The fit's training events, with items as rows of ``ids``; those of other items are left out."""
    log = fold.training(fit)
    rows = ids.get_indexer(log.item_ids)[log.item]
    kept = rows >= 0
    return replace(log.take(kept), item_ids=ids, item=rows[kept].astype(np.int32))


@dataclass(frozen=True)
class Searches:
    """Search events that led to items of the catalogue.

    Attributes:
        texts: [Q] distinct queries, ascending; differences of case and white space do not count.
        query, item: [n] rows of ``texts`` and of the catalogue.
        clicks: [n] int64, how many clicks each event stands for.
        score: [n] float64 judgements in [0, 1], NaN where there is none.
        left_out: events that the fit may not learn from, or of items that the catalogue lacks.
    """

    texts: pd.Index
    query: np.ndarray
    item: np.ndarray
    clicks: np.ndarray
    score: np.ndarray
    left_out: int

    @classmethod
    def read(cls, path: Path, fold: Fold, fit: Fit, ids: pd.Index) -> Searches:
        """Read the ``queries`` table. Memory: the table, and about 60 bytes an event."""
        table = read_table(path)
        row = ids.get_indexer(pd.Index(table[names.ITEM_ID].to_pandas()))
        kept = fold.may_learn(fit, table) & (row >= 0)
        text = pd.Series(table[names.QUERY_TEXT].to_pandas().to_numpy(dtype=object)[kept], dtype=object)
        query, texts = pd.factorize(text.str.split().str.join(" ").str.casefold(), sort=True)
        clicks = np.ones(len(table), dtype=np.int64)
        if names.CLICKS in table.column_names:
            clicks = table[names.CLICKS].fill_null(1).to_numpy()
        score = np.full(len(table), np.nan)
        if names.SCORE in table.column_names:
            score = table[names.SCORE].to_numpy().astype(np.float64)
        return cls(
            pd.Index(texts, dtype=object),
            query.astype(np.int64),
            row[kept].astype(np.int64),
            clicks[kept],
            score[kept],
            int((~kept).sum()),
        )
