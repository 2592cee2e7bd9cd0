"""All columns of the ``match_features`` table for events of a log's users: what every batch calls.

Shapes: n events, F columns.
"""

from __future__ import annotations

import numpy as np

from recdistill.contracts.log import Log
from recdistill.features.match import MatchFeatures
from recdistill.features.match_items import MatchItems
from recdistill.features.reactions import ReactionFeatures


def match_log(items: MatchItems, history: Log, *, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Match features and, where the items have them, reactions.

    Memory: that of :class:`MatchFeatures`, then of :class:`ReactionFeatures`, one after the other, beside the columns.

    Args:
        history: what the users did; its positives (``min_behaviours`` of the settings) are match features' history, and
            what pleased; its other events did not please.
        user: [n] rows of the history's users, -1 for one that it lacks.
        item: [n] rows of ``items``, -1 for one that they lack.
        time: [n] int64 microseconds.

    Returns:
        [n, F] float32, columns as ``items.columns``.
    """
    ours = history.item_ids is items.ids
    met = history.item if ours else items.ids.get_indexer(history.item_ids)[history.item]
    pleased = history.positive(items.basis.config.min_behaviours)
    users = len(history.user_ids)
    found = [
        MatchFeatures(
            items.module,
            user=history.user[pleased],
            item=met[pleased],
            time=history.time[pleased],
            users=users,
        )(user, item, time)
    ]
    if items.reaction is not None:
        reactions = ReactionFeatures(
            items.reaction, user=history.user, item=met, time=history.time, pleased=pleased, users=users
        )
        found.append(reactions(user, item, time))
    return np.hstack(found)
