"""``query_item``: a search query and an item taken from its results."""

from __future__ import annotations

import numpy as np
import pandas as pd

from recdistill.pairs.behaviour import Searches
from recdistill.pairs.catalogue import Catalogue
from recdistill.pairs.config import QueryItemConfig
from recdistill.pairs.found import Found, Side


def query_item(config: QueryItemConfig, catalogue: Catalogue, searches: Searches) -> Found:
    """Pairs of the query table.

    Where anything was judged, a pair's score is the mean judgement, and pairs that nobody judged are left out. Else it
    is log(1 + clicks) / log(1 + clicks of the most clicked pair), and pairs without a click are left out.
    """
    events = pd.DataFrame(
        {"query": searches.query, "item": searches.item, "clicks": searches.clicks, "score": searches.score}
    )
    of = events.groupby(["query", "item"], sort=True).agg(clicks=("clicks", "sum"), score=("score", "mean"))
    judged = of["score"].notna()
    if judged.any():
        of = of[judged]
        score = of["score"].to_numpy()
    else:
        of = of[of["clicks"] > 0]
        clicks = np.log1p(of["clicks"].to_numpy(dtype=np.float64))
        score = clicks / clicks.max(initial=np.log(2.0))
    query, item = (of.index.get_level_values(name).to_numpy(dtype=np.int64) for name in ("query", "item"))
    return Found(
        Side(searches.texts, query, text=True),
        Side(catalogue.ids, item),
        score,
        about={"events_left_out": searches.left_out, "scores": "judgements" if judged.any() else "clicks"},
    )
