"""``session``: items that a user was positive about in one session.

Shapes: n events, S sessions.
"""

from __future__ import annotations

import numpy as np

from recdistill.contracts.log import Log
from recdistill.pairs.associations import met_in_groups
from recdistill.pairs.catalogue import Catalogue
from recdistill.pairs.config import SessionConfig
from recdistill.pairs.found import Found, nothing
from recdistill.retrieval.hashing import hash_ids, mix


def session(config: SessionConfig, catalogue: Catalogue, log: Log, *, seed: int) -> Found:
    """Pairs of the training log; score: shrunk NPMI over sessions.

    Many logs are filled in one sitting. A session that holds all that a user was positive about says no more than the
    user does: the summary counts such users, and where all are such there are no pairs.
    """
    log = log.take(log.positive(config.min_positive))
    number, starts = sessions(log, gap=int(config.gap_seconds * 1e6))
    owner = log.user[starts]
    count = np.bincount(owner, minlength=len(log.user_ids))
    several = np.bincount(log.user, minlength=len(log.user_ids)) > 1
    one = int((count[several] == 1).sum())
    about = {"sessions": len(starts), "users": int(several.sum()), "users_of_one_session": one}
    if several.any() and one == several.sum():
        return nothing(
            catalogue.ids, "every user's events lie in one session: the pairs are those of co_consumption", about=about
        )
    return met_in_groups(
        config,
        catalogue,
        group=number,
        item=log.item,
        group_hashes=mix(seed, hash_ids(log.user_ids)[owner], log.time[starts].astype(np.uint64)),
        seed=seed,
        about=about,
    )


def sessions(log: Log, *, gap: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut each user's events where more than ``gap`` microseconds pass between two.

    Returns:
        [n] the session of each event, numbered in the log's order, and [S] the row of each session's first event.
    """
    if not len(log):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    first = np.ones(len(log), dtype=bool)
    first[1:] = (log.user[1:] != log.user[:-1]) | (np.diff(log.time) > gap)
    return np.cumsum(first) - 1, np.flatnonzero(first)
