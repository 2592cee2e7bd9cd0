"""Reading a fold of the ``split`` stage: which interactions may be trained on, asked about, judged by.

A fold serves two *fits*. ``selection`` trains on the training window and is asked about the validation
window: it chooses settings, and rankers train on its vectors, which have not seen their rows.
``final`` trains on training and validation together and is asked about the test window.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recdistill.contracts import names
from recdistill.contracts.log import Log
from recdistill.contracts.tables import read_metadata, read_table

Fit = Literal["selection", "final"]
FITS: tuple[Fit, ...] = ("selection", "final")

TRAIN = "train.parquet"
VALIDATION = "validation.parquet"
TEST = "test.parquet"
# Interactions of training users with held-out items (``folds`` only; else empty): a later fit may learn from those of
# validation; those of the test are nobody's to learn from, and count as part of the whole log alone.
VALIDATION_JUDGE = "validation_judge.parquet"
TEST_JUDGE = "test_judge.parquet"
ITEMS = "items.parquet"

_TRAINING = {"selection": (TRAIN,), "final": (TRAIN, VALIDATION, VALIDATION_JUDGE)}
_TARGETS = {"selection": VALIDATION, "final": TEST}
_COLD = {"selection": ("validation_cold", "test_cold"), "final": ("test_cold",)}


@dataclass(frozen=True)
class Fold:
    """One fold's folder. ``items.parquet`` lists the whole catalogue with each item's role."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    def item_ids(self) -> pd.Index:
        """The whole catalogue, in the fold's order."""
        return pd.Index(read_table(self.root / ITEMS)[names.ITEM_ID].to_pandas())

    def cold(self, fit: Fit) -> pd.Index:
        """Items that no training interaction of this fit knows by construction of the split."""
        items = read_table(self.root / ITEMS).to_pandas()
        return pd.Index(items.loc[items[names.ROLE].isin(_COLD[fit]), names.ITEM_ID])

    def training(self, fit: Fit) -> Log:
        """What teachers, mining and students may learn from."""
        return self._log(*_TRAINING[fit])

    def training_files(self, fit: Fit) -> list[Path]:
        """The tables of :meth:`training`, in the order in which it reads them, for what outgrows memory."""
        return [self.root / file for file in _TRAINING[fit]]

    def trained_until(self, fit: Fit) -> datetime | None:
        """Time of the newest interaction in this fit's training, in UTC; None where there is none."""
        times = [
            pc.max(read_table(path, columns=[names.TIMESTAMP])[names.TIMESTAMP]).as_py()
            for path in self.training_files(fit)
        ]
        return max((time for time in times if time is not None), default=None)

    def may_learn(self, fit: Fit, events: pa.Table) -> np.ndarray:
        """Which events of another log than the interactions (searches, say) this fit may learn from.

        Never those with an item that is cold to it. Under a time cut those strictly before it; in user-disjoint folds
        those of users that it trains on, and therefore none that names no user.

        Args:
            events: n rows with item_id, timestamp and perhaps user_id.

        Returns:
            [n] bool.
        """
        allowed: np.ndarray = ~pd.Index(events[names.ITEM_ID].to_pandas()).isin(self.cold(fit))
        if read_metadata(self.root / ITEMS).get("protocol") == "folds":
            if names.USER_ID not in events.column_names:
                return np.zeros(len(events), dtype=bool)
            searched = events[names.USER_ID]
            known = pc.is_in(searched, value_set=self._trained_users(fit).cast(searched.type), skip_nulls=True)
            return allowed & known.to_numpy()
        cut = pc.min(read_table(self.root / _TARGETS[fit], columns=[names.TIMESTAMP])[names.TIMESTAMP])
        earlier = pc.less(events[names.TIMESTAMP], cut)
        return allowed & pc.fill_null(earlier, False).to_numpy()

    def targets(self, fit: Fit) -> Log:
        """The window whose positives are asked for (validation or test)."""
        return self._log(_TARGETS[fit])

    def history(self, fit: Fit, *, users: pd.Index | None = None) -> Log:
        """Everything a query may draw on, the target window included; compare times strictly.

        Args:
            users: those whose events are read; None: all.
        """
        files = (TRAIN, VALIDATION, TEST) if fit == "final" else (TRAIN, VALIDATION)
        return self._log(*files, users=users)

    def judge(self, fit: Fit) -> Log:
        """Interactions that no teacher or student of this fit saw; ID-space judges train on them.

        Of ``folds`` the asked users' alone: training users enter it with held-out items only, and a judge that reads
        both would find known items near each other for no other reason.
        """
        return self.targets(fit)

    def judge_of_others(self, fit: Fit) -> Log:
        """The part of :meth:`judge` that comes from users of whom this fit's training knows nothing.

        A teacher or student has seen what the others like, and an ID space of them may be near it for that alone. Of
        ``folds`` that is all of :meth:`judge`.
        """
        log = self.judge(fit)
        trained = log.user_ids.isin(self._trained_users(fit).to_pandas())
        return log.take(~trained[log.user])

    def _trained_users(self, fit: Fit) -> pa.Array:
        """Ids of the users in this fit's training, each once."""
        users = pa.concat_tables(
            [read_table(path, columns=[names.USER_ID]) for path in self.training_files(fit)],
            promote_options="permissive",
        )
        return pc.unique(users[names.USER_ID])

    def _log(self, *files: str, users: pd.Index | None = None) -> Log:
        return Log.read([self.root / file for file in files], item_ids=self.item_ids(), only_users=users)
