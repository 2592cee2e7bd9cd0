"""``co_consumption``: items that the same users were positive about."""

from __future__ import annotations

from recdistill.contracts.log import Log
from recdistill.pairs.associations import met_in_groups
from recdistill.pairs.catalogue import Catalogue
from recdistill.pairs.config import CoConsumptionConfig
from recdistill.pairs.found import Found
from recdistill.retrieval.hashing import hash_ids


def co_consumption(config: CoConsumptionConfig, catalogue: Catalogue, log: Log, *, seed: int) -> Found:
    """Pairs of the training log; score: shrunk NPMI over users."""
    log = log.take(log.positive(config.min_positive))
    return met_in_groups(
        config, catalogue, group=log.user, item=log.item, group_hashes=hash_ids(log.user_ids), seed=seed
    )
