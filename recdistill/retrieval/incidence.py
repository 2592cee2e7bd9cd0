"""Which group (a user, a session, a query) has which item, as a sparse matrix.

Shapes: n events, G groups, I items.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from recdistill.retrieval.cases import positions
from recdistill.retrieval.hashing import mix


def incidence(
    group: np.ndarray, item: np.ndarray, *, group_hashes: np.ndarray, item_hashes: np.ndarray, most: int, seed: int
) -> sparse.csr_matrix:
    """[G, I] float64, 1 where a group has an item; of a group's items at most ``most``, drawn by (seed, group, item).

    Memory: 40 bytes an event.

    Args:
        group, item: [n] row numbers; an event may occur more than once.
        group_hashes, item_hashes: [G], [I] uint64, by which the draw does not depend on the numbering.
    """
    items = len(item_hashes)
    pairs = np.unique(group.astype(np.int64) * items + item)
    group, item = pairs // max(items, 1), pairs % max(items, 1)
    draw = mix(seed, group_hashes[group], item_hashes[item])
    order = np.lexsort((draw, group))
    kept = order[positions(group[order]) < most]
    return sparse.csr_matrix((np.ones(len(kept)), (group[kept], item[kept])), (len(group_hashes), items))
