"""The ``split`` stage: interactions → one folder a fold.

Memory: about 60 bytes an interaction, beside the table as Arrow holds it, twice while it is put in order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.contracts import fold as layout
from recdistill.contracts import names
from recdistill.contracts.tables import read_table, write_json, write_table
from recdistill.split import assign
from recdistill.split.config import SplitConfig
from recdistill.split.leakage import check


def split(config: SplitConfig, *, data: Path, out: Path) -> None:
    """Write ``out/<fold>/{train,validation,test,validation_judge,test_judge,items}.parquet`` and ``split.json``.

    Args:
        data: folder with the canonical ``interactions.parquet`` and ``items.parquet``.

    Raises:
        UserError: a window would be empty, or the leakage check fails.
    """
    interactions = read_table(data / "interactions.parquet")
    users, items = (_categories(interactions[column]) for column in (names.USER_ID, names.ITEM_ID))
    time = _microseconds(interactions[names.TIMESTAMP])
    order = _order(users, items, time, config.seed)
    interactions = interactions.take(pa.array(order))
    user, time = users.codes[order], time[order]
    catalogue = pd.Index(read_table(data / "items.parquet", columns=[names.ITEM_ID])[names.ITEM_ID].to_pandas())
    item = catalogue.get_indexer(items.categories).astype(np.int32)[items.codes[order]]

    rng = np.random.default_rng(config.seed)
    user_group = assign.groups(len(users.categories), parts=config.folds, rng=rng)
    item_group = assign.groups(len(catalogue), parts=config.folds, rng=rng)
    for k, name in enumerate(config.fold_names()):
        bounds: dict[str, Any]
        by: tuple[int, int] | assign.HeldOut
        if config.protocol == "time":
            by = assign.time_cuts(time, validation=config.validation, test=config.test)
            part = assign.by_time(time, by)
            bounds = {
                cut: pd.Timestamp(at, unit="us", tz="UTC").isoformat()
                for cut, at in zip(("validation_from", "test_from"), by, strict=True)
            }
        else:
            test_user, test_item = user_group == k, item_group == k
            by = assign.HeldOut(
                test_user=test_user,
                test_item=test_item,
                validation_user=_draw(~test_user, config.validation_users, rng),
                validation_item=_draw(~test_item, config.validation_items, rng),
            )
            part = assign.by_fold(user, item, by)
            bounds = {"fold": k, "of": config.folds}
        roles = assign.item_roles(item, part, len(catalogue))
        report = check(by, part=part, time=time, user=user, item=item, roles=roles)
        provenance = {"protocol": config.protocol, "seed": config.seed, **bounds}
        for index, file in enumerate(assign.PARTS):
            write_table(interactions.filter(pa.array(part == index)), out / name / file, metadata=provenance)
        write_table(
            pd.DataFrame({names.ITEM_ID: catalogue, names.ROLE: roles}), out / name / layout.ITEMS, metadata=provenance
        )
        write_json({**provenance, **report}, out / name / "split.json")


def _order(user: pd.Categorical, item: pd.Categorical, time: np.ndarray, seed: int) -> np.ndarray:
    """Row order by (user, time), ties by a seeded hash of the event: file order would leak the item id."""
    keys = pd.DataFrame({"user": user, "item": item, "time": time, "seed": seed}, copy=False)
    tie = pd.util.hash_pandas_object(keys, index=False).to_numpy()
    return np.lexsort((tie, time, user.codes))


def _microseconds(times: pa.ChunkedArray) -> np.ndarray:
    """[n] int64 microseconds since 1970 (in pandas, times with a zone become Python objects)."""
    return times.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()


def _categories(ids: pa.ChunkedArray) -> pd.Categorical[Any]:
    """Ids as int32 codes in the ids' order; they hash as the ids do, each distinct id once."""
    codes, distinct = pd.factorize(ids.to_pandas(), sort=True)
    categories: pd.Index[Any] = pd.Index(distinct)
    return pd.Categorical.from_codes(codes, categories=categories)


def _draw(allowed: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    members = np.flatnonzero(allowed)
    chosen = np.zeros(len(allowed), dtype=bool)
    chosen[rng.choice(members, size=max(1, round(share * len(members))), replace=False)] = True
    return chosen
