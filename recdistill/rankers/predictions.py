"""What every ranker says of every test row, for who compares rankers further than the stage does.

Columns of ``predictions.parquet``: user_id, item_id, timestamp, ``label`` (pleased), ``logged`` (false for a sampled
negative), a bool column for each split, and float32 ``<model>/<group>`` logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from recdistill.contracts import names
from recdistill.contracts.log import Log
from recdistill.contracts.tables import read_table, write_table
from recdistill.rankers.names import ModelName
from recdistill.rankers.rows import Rows

LABEL, LOGGED = "label", "logged"


def write_predictions(
    path: Path,
    rows: Rows,
    logits: Mapping[ModelName, Mapping[str, np.ndarray]],
    *,
    history: Log,
    splits: Mapping[str, np.ndarray],
    seed: int,
) -> None:
    """Write the table.

    Args:
        rows: n rows in the history's numbering.
        logits: model → group → [n].
        splits: [n] bool of each split.
    """
    columns = {
        names.USER_ID: pa.array(history.user_ids[rows.user]),
        names.ITEM_ID: pa.array(history.item_ids[rows.item]),
        names.TIMESTAMP: pa.array(rows.time, pa.timestamp("us", "UTC")),
        LABEL: pa.array(rows.label),
        LOGGED: pa.array(rows.logged),
        **{split: pa.array(inside) for split, inside in splits.items()},
        **{
            f"{model}/{group}": pa.array(logit.astype(np.float32))
            for model, of in logits.items()
            for group, logit in of.items()
        },
    }
    write_table(pa.table(columns), path, metadata={"seed": seed})


@dataclass(frozen=True)
class Predictions:
    """The table of one seed, read again.

    Attributes:
        user: [n] user ids numbered in the order of their first rows.
        rows: [n, 3] what tells rows apart: user, item and time, the last in microseconds.
        label: [n] bool.
        splits: [n] bool by name.
        logits: [n] float64 by ``<model>/<group>``.
    """

    user: np.ndarray
    rows: pa.Table
    label: np.ndarray
    splits: dict[str, np.ndarray]
    logits: dict[str, np.ndarray]

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read the table of :func:`write_predictions`.

        Raises:
            UserError: there is none.
        """
        table = read_table(path)
        told = (names.USER_ID, names.ITEM_ID, names.TIMESTAMP, LABEL, LOGGED)
        user = table[names.USER_ID].combine_chunks().dictionary_encode().indices.to_numpy()
        others = {name: table[name].to_numpy() for name in table.column_names if name not in told}
        return cls(
            user,
            table.select(told),
            table[LABEL].to_numpy(),
            {name: column for name, column in others.items() if "/" not in name},
            {name: column.astype(np.float64) for name, column in others.items() if "/" in name},
        )
