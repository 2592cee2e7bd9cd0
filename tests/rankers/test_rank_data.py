"""What the rankers of all groups share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from downstream_helpers import DAY, START, interactions, write_fold

from recdistill.contracts import fold as layout
from recdistill.contracts.tables import write_table
from recdistill.rankers.config import RankConfig
from recdistill.rankers.data import Data


def test_activity_is_each_users_own_where_training_knows_users_that_no_window_has(tmp_path: Path) -> None:
    """As in folds, a training user may be known by held-out items alone: ``u0003`` here, whom nobody asks about."""
    user, day = np.array([0, 0, 0, 2, 0, 2, 0, 2]), np.array([1, 2, 3, 4, 11, 12, 21, 22])
    table = interactions(user, np.arange(8) % 4, START + day * DAY, np.array([1, 0, 1, 1, 1, 0, 0, 1], dtype=bool))
    fold = write_fold(tmp_path / "fold", table, items=4, cuts=(START + 10 * DAY, START + 20 * DAY))
    judged = interactions(np.full(9, 3), np.arange(9) % 4, START + np.full(9, DAY), np.ones(9, dtype=bool))
    write_table(judged, fold.root / layout.VALIDATION_JUDGE)
    write_table(pa.table({"item_id": fold.item_ids().tolist()}), tmp_path / "items.parquet")
    data = Data.read(RankConfig(), fold, tmp_path / "items.parquet", seed=0)
    assert dict(zip(data.history.user_ids, data.events.tolist(), strict=True)) == {"u0000": 4, "u0002": 2}
