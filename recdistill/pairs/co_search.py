"""``co_search``: items that were taken from the results of the same query."""

from __future__ import annotations

from recdistill.pairs.associations import met_in_groups
from recdistill.pairs.behaviour import Searches
from recdistill.pairs.catalogue import Catalogue
from recdistill.pairs.config import CoSearchConfig
from recdistill.pairs.found import Found
from recdistill.retrieval.hashing import hash_ids


def co_search(config: CoSearchConfig, catalogue: Catalogue, searches: Searches, *, seed: int) -> Found:
    """Pairs of the query table; score: shrunk NPMI over distinct queries."""
    clicked = searches.clicks > 0
    return met_in_groups(
        config,
        catalogue,
        group=searches.query[clicked],
        item=searches.item[clicked],
        group_hashes=hash_ids(searches.texts),
        seed=seed,
        about={"events_left_out": searches.left_out},
    )
