"""How far semantic IDs agree with what the catalogue says of its items.

Shapes: n items, P pairs of an item and a tag that it has, L levels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.metrics import normalized_mutual_info_score

from recdistill.contracts import names
from recdistill.contracts.tables import read_table
from recdistill.errors import UserError

Pairs = tuple[np.ndarray, np.ndarray]
_ITEMS_A_TAG = 10  # of a field on average: clusters of fewer say nothing


def tag_pairs(path: Path, item_ids: pd.Index) -> dict[str, Pairs]:
    """Of each tag or label field of the item table at ``path``, the pairs (row of the item, number of the tag).

    Fields whose tags have fewer than ten items each, on average, are left out: names of people, say.

    Args:
        item_ids: [n] whose rows the pairs give.

    Raises:
        UserError: there is no such table, or it lacks an item.
    """
    table = read_table(path)
    rows = pd.Index(table[names.ITEM_ID].to_pandas()).get_indexer(item_ids)
    if (rows < 0).any():
        raise UserError(f"{path}: {int((rows < 0).sum())} of the items are missing", remedy="run validate again")
    table = table.take(pa.array(rows))
    found = {}
    for column in table.column_names:
        if column.startswith((names.TAGS_PREFIX, names.LABELS_PREFIX)):
            lists = table[column].combine_chunks()
            tags = pd.factorize(lists.flatten().to_pandas())[0]  # -1: null
            items = pc.list_parent_indices(lists).to_numpy()[tags >= 0]
            tags = tags[tags >= 0]
            if len(tags) and len(np.unique(items)) >= _ITEMS_A_TAG * (tags.max() + 1):
                found[column.split("_", 1)[1]] = (items, tags)
    return found


def agreement(buckets: np.ndarray, pairs: Pairs, *, seed: int) -> dict[str, list[float]]:
    """NMI between an item's bucket and its tags, over pairs of an item and a tag.

    Args:
        buckets: [n, L].
        pairs: [P] rows of ``buckets``, and [P] tags.

    Returns:
        ``nmi`` of each level, and ``chance``: what it is if the items swap their buckets by lot, for NMI grows with the
        number of buckets, whatever is in them.
    """
    items, tags = pairs
    lot = np.random.default_rng(seed).permutation(len(buckets))
    return {
        name: [float(normalized_mutual_info_score(tags, level[items])) for level in given.T]
        for name, given in (("nmi", buckets), ("chance", buckets[lot]))
    }
