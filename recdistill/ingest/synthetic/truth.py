"""Asking a written world what is true: affinities, neighbours, returns. For tests, judges and simulated A/B tests.

Shapes: I items, U users, n pairs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.contracts import names
from recdistill.contracts.tables import read_table
from recdistill.errors import UserError
from recdistill.ingest.synthetic import affinity as formulas
from recdistill.ingest.synthetic.audience import INTERESTS, Users
from recdistill.ingest.synthetic.catalogue import DAY, STYLES, Catalogue
from recdistill.ingest.synthetic.config import WorldConfig
from recdistill.ingest.synthetic.stage import TRUTH, TRUTH_CONFIG, TRUTH_ITEMS, TRUTH_USERS

_SAME_AUDIENCE = 0.1
_BLOCK = 1_024


@dataclass(frozen=True)
class Truth:
    """The truth of a written world; rows are in the order of the truth tables.

    Memory: about 230 bytes a user and 150 an item.
    """

    config: WorldConfig
    item_ids: pd.Index
    user_ids: pd.Index
    catalogue: Catalogue
    users: Users

    @classmethod
    def read(cls, data: Path) -> Truth:
        """Read the truth beside the canonical tables of :func:`write_world`.

        Raises:
            UserError: the folder holds no planted world.
        """
        path = data / TRUTH / TRUTH_CONFIG
        if not path.exists():
            raise UserError(f"{path}: no such file", remedy="only a world of write_world has a truth")
        config = WorldConfig.model_validate(json.loads(path.read_text(encoding="utf-8")))
        items, users = read_table(data / TRUTH / TRUTH_ITEMS), read_table(data / TRUTH / TRUTH_USERS)
        topic = items["topic"].to_numpy()
        audience = np.zeros(config.topics, dtype=np.int16)
        audience[topic] = items["audience"].to_numpy()
        item_ids = pd.Index(items[names.ITEM_ID].to_pandas())
        user_ids = pd.Index(users[names.USER_ID].to_pandas())
        styles = (len(user_ids), INTERESTS, STYLES)
        return cls(
            config=config,
            item_ids=item_ids,
            user_ids=user_ids,
            catalogue=Catalogue(
                item_ids=item_ids.to_numpy(),
                topic=topic,
                audience=audience,
                views=_matrix(items["views"]),
                style=_matrix(items["style"]),
                quality=items["quality"].to_numpy(),
                popularity=items["popularity"].to_numpy(),
                nuisance=_matrix(items["nuisance"]),
                arrival=items["arrival"].cast(pa.int64()).to_numpy(),
                start=int(pd.Timestamp(config.start, tz="UTC").timestamp()) * 1_000_000,
            ),
            users=Users(
                user_ids=user_ids.to_numpy(),
                numbers=user_ids.str.slice(1).astype("int64").to_numpy(),
                topics=_matrix(users["topics"]),
                weight_start=_matrix(users["weight_start"]),
                weight_end=_matrix(users["weight_end"]),
                style_start=_matrix(users["style_start"]).reshape(styles),
                style_end=_matrix(users["style_end"]).reshape(styles),
                return_base=users["return_base"].to_numpy(),
                signup=users["signup_day"].to_numpy(),
            ),
        )

    def day(self, time: np.ndarray) -> np.ndarray:
        """[n] microseconds since 1970 UTC to days of the log, 0 = the first."""
        return (time - self.catalogue.start) // DAY

    def affinity(self, user: np.ndarray, item: np.ndarray, *, day: np.ndarray | float) -> np.ndarray:
        """True affinity (see :mod:`recdistill.ingest.synthetic.affinity`) of [n] pairs of rows on days of the log."""
        progress = np.asarray(day, dtype=np.float32) / self.config.days
        return formulas.affinity(
            self.users, user, self.catalogue, item, progress=progress, width=self.config.taste_width
        )

    def click_probability(self, user: np.ndarray, item: np.ndarray, *, day: np.ndarray | float) -> np.ndarray:
        """True P(click | looked at) of [n] pairs of rows; also the satisfaction the item would give."""
        return formulas.click_probability(self.affinity(user, item, day=day))

    def similarity(self, items: np.ndarray) -> np.ndarray:
        """True likeness of [n] item rows to all items.

        Two items are alike as their fans overlap: exp(-|style - style'|² / 4h²) within a topic (the overlap of two
        match kernels of width h), and a tenth of it across topics of one audience.

        Returns:
            [n, I] float32; ask for blocks.
        """
        catalogue = self.catalogue
        style = catalogue.style
        gap = (style[items] ** 2).sum(1)[:, None] - 2 * style[items] @ style.T + (style**2).sum(1)[None, :]
        kernel = np.exp(-np.maximum(gap, 0) / (4 * self.config.taste_width**2))
        same_topic = catalogue.topic[items][:, None] == catalogue.topic[None, :]
        audience = catalogue.audience[catalogue.topic]
        same_audience = audience[items][:, None] == audience[None, :]
        return kernel * np.where(same_topic, 1.0, np.where(same_audience, _SAME_AUDIENCE, 0.0)).astype(np.float32)

    def neighbours(self, items: np.ndarray, *, k: int) -> np.ndarray:
        """[n, k] rows of the truly nearest other items, nearest first."""
        found = np.empty((len(items), k), dtype=np.int64)
        for first in range(0, len(items), _BLOCK):
            rows = items[first : first + _BLOCK]
            likeness = self.similarity(rows)
            likeness[np.arange(len(rows)), rows] = -1.0
            found[first : first + len(rows)] = np.argsort(-likeness, axis=1, kind="stable")[:, :k]
        return found

    def return_probability(self, user: np.ndarray, satisfaction: np.ndarray) -> np.ndarray:
        """True P(active on a day) of [n] user rows in a state of satisfaction (0 … 1)."""
        return formulas.return_probability(self.users.return_base[user], satisfaction, slope=self.config.return_slope)

    def expected_active_days(self, user: np.ndarray, satisfaction: np.ndarray, *, days: int) -> np.ndarray:
        """True LT-n of a held state: expected active days of [n] user rows among the next ``days``."""
        return days * self.return_probability(user, satisfaction)

    def date(self, day: int) -> date:
        """The calendar day (UTC) of a day of the log."""
        return date.fromordinal(self.config.start.toordinal() + day)


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    values = column.combine_chunks()
    return values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), -1)
