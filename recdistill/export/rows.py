"""Rows of a request → the student's items.

A request describes items in columns named as in the ``items`` contract (``text_<field>``, ``tags_<field>``,
``number_<field>``), with the media themselves in ``image`` and ``audio``: bytes, or a list of bytes. Or it has one
column ``item``, each a JSON object ``{"text": {field: …}, "structured": {field: …}, "image": …, "audio": …}``. Text in
place of bytes is base64; paths are not read, since a served model must not open its host's files for a caller.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from recdistill.contracts import names
from recdistill.errors import UserError

ITEM = "item"
IMAGE = "image"
AUDIO = "audio"
_FAMILIES = ((names.TEXT_PREFIX, "text"), (names.TAGS_PREFIX, "structured"), (names.NUMBER_PREFIX, "structured"))


def items_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """One item a row, each a dict with the keys that the row has something for.

    Raises:
        UserError: no column describes items, a row describes nothing, or one is not JSON or not base64.
    """
    if ITEM in frame.columns:
        items = [_parse(value, row) for row, value in enumerate(frame[ITEM])]
    else:
        items = [{} for _ in range(len(frame))]
        for column, place, field, read in _columns(frame.columns.tolist()):
            for row, (item, value) in enumerate(zip(items, frame[column], strict=True)):
                if _given(value):
                    found = read(value, f"row {row}, column '{column}'")
                    if field is None:
                        item[place] = found
                    else:
                        item.setdefault(place, {})[field] = found
    empty = [row for row, item in enumerate(items) if not item]
    if empty:
        raise UserError(
            f"rows {empty[:5]} describe nothing", remedy="each item needs a text, tag, number, image or sound at least"
        )
    return items


def _columns(columns: Sequence[str]) -> list[tuple[str, str, str | None, Callable[[Any, str], Any]]]:
    found: list[tuple[str, str, str | None, Callable[[Any, str], Any]]] = []
    for column in columns:
        if column in (IMAGE, AUDIO):
            found.append((column, column, None, _media))
        for prefix, place in _FAMILIES:
            if column.startswith(prefix):
                found.append((column, place, column.removeprefix(prefix), _READERS[prefix]))
    if not found:
        raise UserError(
            f"no column describes items (found: {', '.join(map(str, columns)) or 'none'})",
            remedy="give text_<field>, tags_<field>, number_<field>, image or audio columns, or one JSON column 'item'",
        )
    return found


def _parse(value: Any, row: int) -> dict[str, Any]:
    try:
        item = json.loads(value) if isinstance(value, str) else dict(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"row {row}, column '{ITEM}': not a JSON object ({error})") from error
    known = {"text", "structured", IMAGE, AUDIO}
    if not isinstance(item, dict) or not item.keys() <= known:
        raise UserError(f"row {row}, column '{ITEM}': not a JSON object of {', '.join(sorted(known))}")
    return {
        key: _media(part, f"row {row}, column '{ITEM}'") if key in (IMAGE, AUDIO) else part
        for key, part in item.items()
        if _given(part)
    }


def _media(value: Any, where: str) -> Any:
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_media(part, where) for part in value]
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise _no_media(where) from error
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise _no_media(where)
    return bytes(value)


def _no_media(where: str) -> UserError:
    return UserError(f"{where}: neither bytes nor base64", remedy="send the file's content, not its path")


def _given(value: Any) -> bool:
    if value is None or value is pd.NA:
        return False
    if isinstance(value, float):
        return bool(np.isfinite(value))
    return not hasattr(value, "__len__") or len(value) > 0


def _text(value: Any, where: str) -> str:
    return str(value)


def _tags(value: Any, where: str) -> list[str]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise UserError(f"{where}: not a list of tags")
    return [str(tag) for tag in value]


def _number(value: Any, where: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: not a number") from error


_READERS: dict[str, Callable[[Any, str], Any]] = {
    names.TEXT_PREFIX: _text,
    names.TAGS_PREFIX: _tags,
    names.NUMBER_PREFIX: _number,
}
