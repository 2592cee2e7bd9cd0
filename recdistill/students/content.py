"""Items' content as the featurizer takes it, from the canonical table or from a user's dicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from recdistill.contracts import names
from recdistill.errors import UserError
from recdistill.students.config import MODALITIES
from recdistill.students.encoders.media import AudioSource, ImageSource, Source
from recdistill.students.featurizer.terms import normalise

_KEYS = MODALITIES
_EXAMPLE = (
    'an item is a dict, e.g. {"text": {"title": "Heat"}, "image": "heat.jpg", '
    '"structured": {"genre": ["Crime"], "year": 1995}}'
)


@dataclass(frozen=True)
class Fields:
    """Names of the content fields, in the catalogue's order."""

    text: tuple[str, ...]
    tags: tuple[str, ...]
    numbers: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """The text and structured fields of n items.

    Attributes:
        texts: per item field → text; fields in one order whatever the order of the input.
        tags: per item field → normalised values.
        numbers: [n, number fields] float64, NaN where missing.
    """

    texts: list[dict[str, str]]
    tags: list[dict[str, list[str]]]
    numbers: np.ndarray

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> Block:
        """Items that have one text each and nothing else."""
        return cls([{"text": text} for text in texts], [{} for _ in texts], np.zeros((len(texts), 0)))

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: np.ndarray) -> Block:
        """The items of some rows."""
        chosen = rows.tolist()
        return Block([self.texts[row] for row in chosen], [self.tags[row] for row in chosen], self.numbers[rows])

    @property
    def structured(self) -> np.ndarray:
        """[n] bool: has any tag or number."""
        return np.array([bool(tags) for tags in self.tags], dtype=bool) | np.isfinite(self.numbers).any(axis=1)


class Catalogue:
    """The ``items`` table's content columns; labels are never among them.

    Memory: the table's own, and Python objects of one block.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table.combine_chunks()
        self.ids = pd.Index(table[names.ITEM_ID].to_pandas())

        def family(prefix: str) -> tuple[str, ...]:
            return tuple(column.removeprefix(prefix) for column in table.column_names if column.startswith(prefix))

        self.fields = Fields(family(names.TEXT_PREFIX), family(names.TAGS_PREFIX), family(names.NUMBER_PREFIX))

    @staticmethod
    def columns(available: Sequence[str]) -> list[str]:
        """Those columns of an items table that are content."""
        families = (names.TEXT_PREFIX, names.TAGS_PREFIX, names.NUMBER_PREFIX)
        return [c for c in available if c.startswith(families) or c in (names.ITEM_ID, names.IMAGES, names.AUDIO)]

    def __len__(self) -> int:
        return len(self.ids)

    def block(self, rows: np.ndarray) -> Block:
        """The items of some rows."""
        part = self._table.take(pa.array(rows))
        texts = _by_row(part, names.TEXT_PREFIX, self.fields.text)
        tags = _by_row(part, names.TAGS_PREFIX, self.fields.tags)
        columns = [
            part[names.NUMBER_PREFIX + field].cast(pa.float64()).to_numpy(zero_copy_only=False)
            for field in self.fields.numbers
        ]
        numbers = np.stack(columns, axis=1) if columns else np.zeros((len(part), 0))
        return Block(
            [{field: text for field, text in row.items() if text} for row in texts],
            [_normalised(row) for row in tags],
            np.where(np.isfinite(numbers), numbers, np.nan),
        )

    def media_ids(self, column: str) -> list[list[str]]:
        """Per item the media ids of ``images`` or ``audio``."""
        if column not in self._table.column_names:
            return [[] for _ in range(len(self))]
        return [list(ids or ()) for ids in self._table[column].to_pylist()]


@dataclass(frozen=True)
class NewItems:
    """Items given as dicts."""

    block: Block
    images: list[list[ImageSource]]
    audio: list[list[AudioSource]]

    @classmethod
    def parse(cls, items: Sequence[Mapping[str, Any]], fields: Fields, *, text_places: Sequence[str] = ()) -> NewItems:
        """Check and sort out what a user gave.

        Args:
            text_places: the text fields that there may be; none: any.

        Raises:
            UserError: an item is not a dict, has an unknown key or field, a value of the wrong type, or nothing at all.
        """
        texts, tags, numbers, images, audio = [], [], [], [], []
        for index, item in enumerate(items):
            where = f"item {index}"
            if not isinstance(item, Mapping):
                raise UserError(f"{where} is {type(item).__name__}, not a dict", remedy=_EXAMPLE)
            unknown = [key for key in item if key not in _KEYS]
            if unknown:
                raise UserError(f"{where}: unknown key '{unknown[0]}' (known: {', '.join(_KEYS)})", remedy=_EXAMPLE)
            texts.append(_texts(item.get("text"), fields, where))
            strange = [field for field in texts[-1] if text_places and field not in text_places]
            if strange:
                raise UserError(
                    f"{where}: the student knows no text field '{strange[0]}' (known: {', '.join(text_places)})",
                    remedy="leave it out, or put it into another field",
                )
            of_tags, of_numbers = _structured(item.get("structured"), fields, where)
            tags.append(of_tags)
            numbers.append(of_numbers)
            images.append(cast(list[ImageSource], _media(item.get("image"), f"{where}: image", Image.Image)))
            audio.append(cast(list[AudioSource], _media(item.get("audio"), f"{where}: audio", tuple)))
            if not (texts[-1] or of_tags or np.isfinite(of_numbers).any() or images[-1] or audio[-1]):
                raise UserError(
                    f"{where} is empty: it has no text, image, audio or structured field with a value", remedy=_EXAMPLE
                )
        matrix = np.stack(numbers) if numbers else np.zeros((0, len(fields.numbers)))
        return cls(Block(texts, tags, matrix), images, audio)


def _by_row(table: pa.Table, prefix: str, fields: Sequence[str]) -> list[dict[str, Any]]:
    columns = [table[prefix + field].to_pylist() for field in fields]
    return (
        [dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True)]
        if columns
        else [{} for _ in range(len(table))]
    )


def _normalised(values: Mapping[str, Sequence[str] | None]) -> dict[str, list[str]]:
    found = {}
    for field, given in values.items():
        kept = dict.fromkeys(normalise(value) for value in given or () if value)
        kept.pop("", None)
        if kept:
            found[field] = list(kept)
    return found


def _texts(given: Any, fields: Fields, where: str) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(value, str | None) for value in given.values()):
        raise UserError(f"{where}: text is not a dict of field → string", remedy=_EXAMPLE)
    known = [field for field in fields.text if field in given]
    return {
        str(field): given[field]
        for field in (*known, *sorted(set(given) - set(known)))
        if given[field] and given[field].strip()
    }


def _structured(given: Any, fields: Fields, where: str) -> tuple[dict[str, list[str]], np.ndarray]:
    numbers = np.full(len(fields.numbers), np.nan)
    if given is None:
        return {}, numbers
    if not isinstance(given, Mapping):
        raise UserError(f"{where}: structured is not a dict of field → value or list of values", remedy=_EXAMPLE)
    tags = {}
    for field, value in given.items():
        if value is None:
            continue
        if field in fields.numbers:
            numbers[fields.numbers.index(field)] = _number(value, f"{where}: structured field '{field}'")
        elif field in fields.tags:
            values = (
                [value]
                if isinstance(value, str) or not isinstance(value, Sequence | set | frozenset | np.ndarray)
                else list(value)
            )
            tags[field] = [str(one) for one in values if one is not None]
        else:
            known = ", ".join((*fields.tags, *fields.numbers)) or "none"
            raise UserError(
                f"{where}: the student knows no structured field '{field}' (known: {known})",
                remedy="leave it out, or put it into text",
            )
    ordered = {field: tags[field] for field in fields.tags if field in tags}
    return _normalised(ordered), numbers


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UserError(
            f"{where} is a number, not {value!r}", remedy="give a number, or None if it is unknown"
        ) from None
    return number if math.isfinite(number) else math.nan


def _media(given: Any, where: str, kind: type) -> list[Source]:
    """One or several media → a list; strings are paths."""
    if given is None:
        return []
    found: list[Source] = []
    for one in given if isinstance(given, list) else [given]:
        if isinstance(one, str):
            one = Path(one)
        if isinstance(one, bytearray | memoryview):
            one = bytes(one)
        if not isinstance(one, bytes | Path | kind) or (isinstance(one, tuple) and len(one) != 2):
            what = "a path, bytes or a PIL image" if kind is Image.Image else "a path, bytes or (waveform, rate)"
            raise UserError(f"{where} is {type(one).__name__}, not {what}", remedy=_EXAMPLE)
        found.append(cast(Source, one))
    return found
