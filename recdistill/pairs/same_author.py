"""``same_author``: items of the same people."""

from __future__ import annotations

from recdistill.pairs.catalogue import Catalogue, chosen_fields
from recdistill.pairs.config import SameAuthorConfig
from recdistill.pairs.found import Found, nothing
from recdistill.pairs.shared_values import of_like_values

AUTHORS = (
    "author", "authors", "artist", "artists", "director", "directors", "creator", "creators", "channel", "publisher",
)  # fmt: skip


def same_author(config: SameAuthorConfig, catalogue: Catalogue, *, seed: int) -> Found:
    """Pairs of the whole catalogue; score: Jaccard weighted by inverse document frequency.

    Raises:
        UserError: the field that the settings name is not there.
    """
    asked = [config.field] if config.field is not None else None
    known = chosen_fields(asked, catalogue.tag_fields, what="tags", key="pairs.same_author.field")
    by_name = {name.casefold(): name for name in known}
    field = config.field or next((by_name[name] for name in AUTHORS if name in by_name), None)
    if field is None:
        return nothing(
            catalogue.ids, f"no tags field is named {', '.join(AUTHORS)}: name one in pairs.same_author.field"
        )
    return of_like_values(config, catalogue, catalogue.described([field]), seed=seed, about={"field": field})
