"""Items as the report shows them: a title, tags, and a small picture of some."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from recdistill.contracts import names
from recdistill.contracts.tables import read_table
from recdistill.students.encoders.media import BadMediaError, MediaLimits, decode_image

_TITLE_WORDS = ("title", "name", "headline", "caption")
_LONGEST_TITLE = 90
_PICTURE_HEIGHT = 84
_BATCH = 256
_LEAST_COVERED = 0.2


@dataclass(frozen=True)
class Catalogue:
    """The item table of a run, by item id.

    Attributes:
        titles: title of each item, its id where it has no text.
        tags: field → tags (or labels) of each item.
        images: first image's media id of each item that has one.
        media: the media table.
        limits: larger pictures are not opened.
    """

    titles: pd.Series
    tags: dict[str, pd.Series]
    images: pd.Series
    media: Path
    limits: MediaLimits

    @classmethod
    def read(cls, data: Path, *, limits: MediaLimits) -> Catalogue | None:
        """Read ``data/items.parquet``; None if it is absent."""
        path = data / "items.parquet"
        if not path.exists():
            return None
        table = read_table(path)
        ids = pd.Index(table[names.ITEM_ID].to_pandas())
        title = _title_column(table.column_names)
        texts = table[title].to_pandas().to_list() if title else [None] * len(ids)
        titles = pd.Series([_short(text) or str(item) for text, item in zip(texts, ids, strict=True)], index=ids)
        images = pd.Series([], dtype=object)
        if names.IMAGES in table.column_names:
            lists = table[names.IMAGES].combine_chunks()
            filled = pc.greater(pc.fill_null(pc.list_value_length(lists), 0), 0).to_numpy(zero_copy_only=False)
            first = pc.list_element(lists.filter(pa.array(filled)), 0).to_pylist() if filled.any() else []
            images = pd.Series(first, index=ids[filled], dtype=object)
        return cls(titles, _tags(table, ids), images, data / "media.parquet", limits)

    def pictures(self, item_ids: Iterable[Any]) -> dict[Any, str]:
        """Small JPEGs as data URIs of those items whose first image can be read.

        Memory: one batch of the media table.
        """
        wanted: dict[Any, list[Any]] = defaultdict(list)  # several items may share a picture
        for item in item_ids:
            if item in self.images.index:
                wanted[self.images[item]].append(item)
        if not wanted or not self.media.exists():
            return {}
        found: dict[Any, str] = {}
        media = ds.dataset(self.media, format="parquet")
        asked = ds.field(names.MEDIA_ID).isin(pa.array(list(wanted), media.schema.field(names.MEDIA_ID).type))
        for batch in media.to_batches(filter=asked, batch_size=_BATCH, batch_readahead=1, fragment_readahead=1):
            for row in batch.to_pylist():
                picture = _thumbnail(row, self.limits)
                if picture is not None:
                    found.update(dict.fromkeys(wanted[row[names.MEDIA_ID]], picture))
        return found


def _title_column(columns: list[str]) -> str | None:
    texts = [column for column in columns if column.startswith(names.TEXT_PREFIX)]
    known = [names.TEXT_PREFIX + word for word in _TITLE_WORDS if names.TEXT_PREFIX + word in texts]
    return next(iter([*known, *texts]), None)


def _tags(table: pa.Table, ids: pd.Index) -> dict[str, pd.Series]:
    """The tag and label fields whose ten commonest values cover a fifth of the items, of equal names the tags."""
    found: dict[str, pd.Series] = {}
    for prefix in (names.TAGS_PREFIX, names.LABELS_PREFIX):
        for column in table.column_names:
            field = column.removeprefix(prefix)
            if not column.startswith(prefix) or field in found:
                continue
            lists = [value or [] for value in table[column].to_pylist()]
            common = set(pd.Series([tag for tags in lists for tag in tags], dtype=object).value_counts().index[:10])
            if sum(any(tag in common for tag in tags) for tags in lists) > _LEAST_COVERED * len(lists):
                found[field] = pd.Series(lists, index=ids)
    return found


def _short(text: Any) -> str:
    if not isinstance(text, str):
        return ""
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_TITLE else text[: _LONGEST_TITLE - 1] + "…"


def _thumbnail(media: Mapping[str, Any], limits: MediaLimits) -> str | None:
    source = media.get(names.MEDIA_BYTES) or None
    place = media.get(names.MEDIA_PATH)
    if source is None and not place:
        return None
    try:
        small = decode_image(source if source is not None else Path(str(place)), limits=limits)
    except BadMediaError:
        return None  # counted and reported by the encode stage
    small.thumbnail((2 * _PICTURE_HEIGHT, _PICTURE_HEIGHT))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=62, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
