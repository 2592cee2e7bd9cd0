"""``item_label``: an item and the text of each of its tags: classification as item → text (METHOD 3)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from recdistill.pairs.catalogue import Catalogue, chosen_fields
from recdistill.pairs.config import ItemLabelConfig
from recdistill.pairs.found import Found, Side, nothing


def item_label(config: ItemLabelConfig, catalogue: Catalogue) -> Found:
    """Pairs of the whole catalogue, the target written ``field: value``; without a score.

    Raises:
        UserError: a field that the settings name is not there.
    """
    fields = chosen_fields(config.fields, catalogue.tag_fields, what="tags", key="pairs.item_label.fields")
    if not fields:
        return nothing(catalogue.ids, "the items table has no tags field")
    items, texts = [], []
    for field in fields:
        described, values = catalogue.tags[field]
        count = np.asarray(described.sum(axis=0)).ravel()
        kept = (count >= config.min_items) & (count <= config.max_share * len(catalogue.ids))
        written = np.array([f"{field.replace('_', ' ')}: {value}" for value in values], dtype=object)
        item, value = described.nonzero()
        items.append(item[kept[value]].astype(np.int64))
        texts.append(written[value[kept[value]]])
    item, text = np.concatenate(items), np.concatenate(texts)
    label, labels = pd.factorize(text, sort=True)
    pairs = np.unique(item * max(len(labels), 1) + label)  # two fields may write one text
    item, label = np.divmod(pairs, max(len(labels), 1))
    return Found(
        Side(catalogue.ids, item),
        Side(pd.Index(labels, dtype=object), label, text=True),
        about={"fields": fields, "labels": len(labels)},
    )
