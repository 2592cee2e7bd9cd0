"""``same_tag``: items that share rare tags."""

from __future__ import annotations

from recdistill.pairs.catalogue import Catalogue, chosen_fields
from recdistill.pairs.config import SameTagConfig
from recdistill.pairs.found import Found, nothing
from recdistill.pairs.shared_values import of_like_values


def same_tag(config: SameTagConfig, catalogue: Catalogue, *, seed: int) -> Found:
    """Pairs of the whole catalogue; score: Jaccard weighted by inverse document frequency.

    Raises:
        UserError: a field that the settings name is not there.
    """
    fields = chosen_fields(config.fields, catalogue.tag_fields, what="tags", key="pairs.same_tag.fields")
    if not fields:
        return nothing(catalogue.ids, "the items table has no tags field")
    return of_like_values(config, catalogue, catalogue.described(fields), seed=seed, about={"fields": fields})
