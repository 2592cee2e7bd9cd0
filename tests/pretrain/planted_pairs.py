"""A catalogue whose tags say little of what belongs together, and pair tables that say it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.contracts.fold import FITS, Fold
from recdistill.contracts.tables import write_table
from recdistill.pretrain.config import PretrainConfig
from recdistill.pretrain.stage import pretrain
from recdistill.students import EncodersConfig, StudentConfig, encode
from recdistill.world import World

GROUPS, OF_GROUP = 6, 12
IDS = [f"i{number:02d}" for number in range(GROUPS * OF_GROUP)]
STUDENT = StudentConfig(dim=16, prefixes=(8,), dropout=0.0, skip=None)


def group(row: int) -> int:
    return row // OF_GROUP


def write_pairs(
    path: Path,
    *,
    query: Sequence[str] | None = None,
    query_text: Sequence[str] | None = None,
    target: Sequence[str] | None = None,
    target_text: Sequence[str] | None = None,
    score: Sequence[float] | None = None,
    graded: bool = False,
) -> None:
    """A pair dataset's table."""
    size = len(query or query_text or ())
    columns: dict[str, Any] = {
        "query_item_id": query,
        "query_text": query_text,
        "target_item_id": target,
        "target_text": target_text,
    }
    table = {name: pa.array(values or [None] * size, pa.string()) for name, values in columns.items()}
    scores = pa.array(score or [None] * size, pa.float32())
    write_table(pa.table({**table, "score": scores}), path, metadata={"graded": graded})


class Planted:
    """A folder with ``content``, ``fold`` and ``pairs``: 72 items in 6 groups; pairs never leave a group."""

    @classmethod
    def of(cls, root: Path) -> Planted:
        """The same folder, made before."""
        found = cls.__new__(cls)
        found._name(root)
        return found

    def _name(self, root: Path) -> None:
        self.root, self.content, self.pairs = root, root / "content", root / "pairs"
        self.fold = Fold(root / "split" / "time")

    def __init__(self, root: Path) -> None:
        self._name(root)
        rng = np.random.default_rng(0)
        # A tag of the group among tags that are drawn at random: content shows the groups only to who looks for them.
        tags = [
            [f"group {group(row)}", *(f"noise {value}" for value in rng.choice(40, 6, replace=False))]
            for row in range(len(IDS))
        ]
        items = pa.table({"item_id": pa.array(IDS), "tags_tag": pa.array(tags, pa.list_(pa.string()))})
        write_table(items, root / "data" / "items.parquet")
        media = {name: pa.array([], pa.string()) for name in ("media_id", "path")}
        write_table(pa.table({**media, "bytes": pa.array([], pa.binary())}), root / "data" / "media.parquet")
        encoders = EncodersConfig.model_validate(
            {
                "text": None,
                "image": None,
                "audio": None,
                "structured": {"direct_values": 64, "number_bins": 0},
                "cache": root / "cache",
            }
        )
        encode(encoders, data=root / "data", out=self.content)
        roles = pa.table({"item_id": pa.array(IDS), "role": pa.array(["warm"] * len(IDS))})
        write_table(roles, root / "split" / "time" / "items.parquet")
        for fit in FITS:
            first, second = rng.integers(0, len(IDS), 400), rng.integers(0, OF_GROUP, 400)
            second = first // OF_GROUP * OF_GROUP + second
            kept = first != second
            query, target = ([IDS[row] for row in rows[kept]] for rows in (first, second))
            write_pairs(self.pairs / fit / "together.parquet", query=query, target=target)
            grades = rng.choice([0.2, 0.9], kept.sum()).tolist()
            write_pairs(self.pairs / fit / "graded.parquet", query=query, target=target, score=grades, graded=True)

    def train(self, out: Path, config: PretrainConfig, *, student: StudentConfig = STUDENT, **more: Any) -> None:
        """The whole stage."""
        given: dict[str, Any] = {
            "data": self.root / "data",
            "cache": self.root / "cache",
            "seed": 0,
            "key": "key",
            "log": lambda _: _unlogged,
            "world": World(),
        }
        pretrain(config, student, fold=self.fold, content=self.content, pairs=self.pairs, out=out, **{**given, **more})


def _unlogged(_: Any, __: int) -> None:
    """No curve."""


def group_recall(vectors: np.ndarray, ids: pd.Index) -> float:
    """Share of the ten nearest other items that are of the item's own group."""
    groups = np.array([group(IDS.index(name)) for name in ids])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    near = np.argsort(-cosine, axis=1)[:, :10]
    return float((groups[near] == groups[:, None]).mean())
