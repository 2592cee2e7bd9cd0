"""Texts that are no items: queries and labels, as the student's text features.

Shapes: I items, X texts, T tokens, w width of the text features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from recdistill.errors import UserError
from recdistill.students import FeatureSource, FeatureStore, RecDistillStudent
from recdistill.students.cache import FeatureCache, default_cache, text_key
from recdistill.students.content import Block
from recdistill.students.live import LiveFeatures, LiveTexts

_TEXT = "text"
_AT_ONCE = 8192  # texts a part of the cache


def with_texts(
    items: FeatureSource, texts: Sequence[str], student: RecDistillStudent, *, cache: Path | None
) -> FeatureSource:
    """The items, and behind them the texts, of which only the text modality is present.

    Memory: 4 · X · Σ (T · W) bytes, since the rows of the other modalities are there as well.

    Raises:
        UserError: there are texts, but the student reads none.
    """
    if not texts:
        return items
    if _TEXT not in student.modalities:
        raise UserError(
            "a pair dataset holds texts, but the student reads none",
            remedy="leave out datasets with query or label texts, or let the student read text",
        )
    if isinstance(items, FeatureStore):
        return _behind(items, len(texts), text_features(student, texts, cache=cache))
    assert isinstance(items, LiveFeatures)
    tuned = items.live.get(_TEXT)
    frozen = _behind(items.frozen, len(texts), None if tuned else text_features(student, texts, cache=cache))
    live = {m: part.followed_by(len(texts)) for m, part in items.live.items()}
    if isinstance(tuned, LiveTexts):
        words = student.featurizer.text_words(Block.of_texts(texts))
        live[_TEXT] = tuned.with_texts(texts, beside=words)
    return LiveFeatures(frozen, live)


def _behind(items: FeatureStore, count: int, written: Tensor | None) -> FeatureStore:
    features, present = {}, {}
    for modality, values in items.features.items():
        more = torch.zeros(count, *values.shape[1:])
        if modality == _TEXT and written is not None:
            more[:, : written.shape[1]] = written
        features[modality] = torch.cat([values, more])
        there = torch.full((count,), modality == _TEXT)
        present[modality] = torch.cat([items.present[modality], there])
    return FeatureStore(pd.RangeIndex(len(items) + count), features, present)


@torch.inference_mode()
def text_features(student: RecDistillStudent, texts: Sequence[str], *, cache: Path | None) -> Tensor:
    """[X, 1, w] as the featurizer makes them of an item with this text alone; the tower is asked once in its life.

    Args:
        cache: folder of cached features, of which this uses the text tower's; None: the default one.
    """
    tower = student.towers.text
    known = FeatureCache(cache or default_cache(), tower.identity)
    keys = [text_key(text) for text in texts]
    absent = known.missing(keys)
    for start in range(0, len(absent), _AT_ONCE):
        some = absent[start : start + _AT_ONCE]
        known.put([keys[at] for at in some], tower.encode([texts[at] for at in some]))
    return student.featurizer.text(torch.from_numpy(known.read(keys)), Block.of_texts(texts)).clone()
