"""What the rankers of all feature groups share: rows, base features, ids, tags, histories.

Shapes: n rows, I items, H history items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recdistill.contracts.fold import Fold
from recdistill.contracts.log import Log
from recdistill.contracts.negatives import Negatives, negatives_of
from recdistill.rankers.config import RankConfig
from recdistill.rankers.counts import base_features
from recdistill.rankers.groups import TableFeatures
from recdistill.rankers.inputs import Inputs, SparseFeature, Task, by_age, last_items
from recdistill.rankers.measure import activity_splits
from recdistill.rankers.rows import Rows, cold_items, make_rows
from recdistill.rankers.tags import Tags


@dataclass(frozen=True)
class Data:
    """Rows of two windows, and what is known of them without any embedding table.

    Attributes:
        history: every event up to the test window's end.
        train, test: rows of the validation and the test window.
        unmatched: positives of either window that found no set of sampled negatives.
        cold: [I] bool items without a training interaction, of either window.
        events: [U] training interactions of each user.
        base: base features of either window's rows.
        sparse: features by id and tag, with the bags of either window's rows.
        pasts: [n, H] int32 of either window, H = 0 if no model reads them.
    """

    history: Log
    train: Rows
    test: Rows
    negatives: Negatives
    unmatched: tuple[int, int]
    cold: tuple[np.ndarray, np.ndarray]
    events: np.ndarray
    tags: Tags
    base: tuple[np.ndarray, np.ndarray]
    sparse: tuple[SparseFeature, ...]
    pasts: tuple[np.ndarray, np.ndarray]

    @classmethod
    def read(cls, config: RankConfig, fold: Fold, items: Path, *, seed: int) -> Data:
        """Make the rows of a fold.

        Raises:
            UserError: a window has no positives or no negatives, or the catalogue has changed.
        """
        history = fold.history("final")
        windows = fold.targets("selection"), fold.targets("final")
        negatives = negatives_of(*windows, min_share=config.labels.min_negative_share)
        train, test = (
            make_rows(
                window, history=history, negatives=negatives, per_positive=config.labels.sampled, seed=2 * seed + at
            )
            for at, window in enumerate(windows)
        )
        selection, final = fold.training("selection"), fold.training("final")
        live = config.item_counts == "live"
        train_base, test_base = (
            base_features(rows, history=history, training=training, smoothing=config.smoothing, live=live)
            for rows, training in ((train, selection), (test, final))
        )
        tags = Tags.read(items, item_ids=history.item_ids, most=config.max_tags)
        last = config.din.last if "din" in config.models else 0
        pasts = [
            last_items(history, rows, last=last, min_behaviours=config.match.min_behaviours) for rows in (train, test)
        ]
        users = history.user_ids.get_indexer(final.user_ids)
        events = np.zeros(len(history.user_ids), dtype=np.int64)
        asked = users >= 0  # in folds, training knows users by what judges alone, who are asked about in no window
        events[users[asked]] = np.bincount(final.user, minlength=len(final.user_ids))[asked]
        return cls(
            history,
            train,
            test,
            negatives,
            (int(windows[0].positive().sum() - train.label.sum()), int(windows[1].positive().sum() - test.label.sum())),
            (cold_items(selection, history.item_ids), cold_items(final, history.item_ids)),
            events,
            tags,
            (train_base, test_base),
            _sparse(train, history, tags, least=config.min_id_count),
            (pasts[0], pasts[1]),
        )

    def splits(self) -> dict[str, np.ndarray]:
        """[n] bool test rows of all, warm and cold items, and of light, medium and heavy users."""
        cold = self.cold[1][self.test.item]
        everyone = {"all": np.ones(len(cold), dtype=bool), "warm": ~cold, "cold": cold}
        return everyone | activity_splits(self.test, events=self.events)

    def task(self, parts: Mapping[str, TableFeatures], *, newest: float) -> Task:
        """The task of a feature group.

        Args:
            parts: what each of its tables gives.
            newest: share of the training rows that chooses how long is trained.
        """
        codes = tuple(
            SparseFeature.single(
                f"{name}_sid_{at}", torch.from_numpy(level), size=int(level.max(initial=-1)) + 1, kind="code"
            )
            for name, part in parts.items()
            for at, level in enumerate(part.sparse)
        )
        features = (*self.sparse, *codes)
        train, test = (self._inputs(at, parts, features) for at in (0, 1))
        older, chosen = by_age(self.train.time, newest=newest)
        return Task(
            features,
            (*(1,) * self.base[0].shape[1], *(width for part in parts.values() for width in part.blocks)),
            np.hstack([np.zeros((len(self.cold[0]), 0), np.float32), *(part.vectors for part in parts.values())]),
            train,
            test,
            self.train.label,
            older,
            chosen,
        )

    def _inputs(self, at: int, parts: Mapping[str, TableFeatures], features: tuple[SparseFeature, ...]) -> Inputs:
        rows = (self.train, self.test)[at]
        user, item = (torch.from_numpy(numbers.astype(np.int64)) for numbers in (rows.user, rows.item))
        return Inputs(
            torch.from_numpy(np.hstack([self.base[at], *(part.dense[at] for part in parts.values())])),
            tuple(user if feature.kind == "user" else item for feature in features),
            item,
            torch.from_numpy(self.pasts[at]),
        )

    def describe(self) -> dict[str, Any]:
        """What rank.json says of the rows."""
        return {
            name: {
                "rows": len(rows),
                "users": len(np.unique(rows.user)),
                "positive_share": float(rows.label.mean()),
                "positives_left_out": unmatched,
                "cold_share": float(cold[rows.item].mean()),
            }
            for name, rows, unmatched, cold in zip(
                ("train", "test"), (self.train, self.test), self.unmatched, self.cold, strict=True
            )
        }


def _sparse(train: Rows, history: Log, tags: Tags, *, least: int) -> tuple[SparseFeature, ...]:
    user, item = (
        _frequent(ids, least, total=len(known))
        for ids, known in ((train.user, history.user_ids), (train.item, history.item_ids))
    )
    found = [
        SparseFeature.single("user_id", torch.from_numpy(user[0]), size=user[1], kind="user"),
        SparseFeature.single("item_id", torch.from_numpy(item[0]), size=item[1], kind="item"),
    ]
    if tags.size:
        offsets, values = torch.from_numpy(tags.offsets), torch.from_numpy(tags.values)
        found.append(SparseFeature("tags", tags.size, offsets, values, kind="tags"))
    return tuple(found)


def _frequent(ids: np.ndarray, least: int, *, total: int) -> tuple[np.ndarray, int]:
    """[total] numbering of the ids with at least ``least`` training rows; all others share number 0."""
    often = np.bincount(ids, minlength=total) >= least
    return np.where(often, np.cumsum(often), 0), int(often.sum()) + 1
