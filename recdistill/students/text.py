"""Titled text fields → one clean text (METHOD 2: cleaned, de-duplicated, joined)."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

_FIELD_CHARACTERS = 20_000
_TAG = re.compile(r"<[a-zA-Z/!][^<>]{0,500}>")
_SPACE = re.compile(r"\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_WORD = re.compile(r"\w+")


def clean(text: str) -> str:
    """Without HTML tags and entities, control characters, lone surrogates, runs of white space; 20,000 characters."""
    text = html.unescape(text[:_FIELD_CHARACTERS])
    if "<" in text:
        text = _TAG.sub(" ", text)
    text = unicodedata.normalize("NFC", text)
    if not text.isprintable():
        text = "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)
    return _SPACE.sub(" ", text).strip()


def titled(fields: Mapping[str, str | None]) -> dict[str, str]:
    """Field → ``title: Toy Story``, without empty fields and sentences that occurred before."""
    seen: set[str] = set()
    parts = {}
    for name, value in fields.items():
        kept = []
        for sentence in _SENTENCE_END.split(clean(value or "")):
            folded = sentence.casefold()
            if sentence and folded not in seen:
                seen.add(folded)
                kept.append(sentence)
        if kept:
            parts[name] = f"{name.replace('_', ' ')}: {' '.join(kept)}"
    return parts


def compose(fields: Mapping[str, str | None]) -> str:
    """``title: Toy Story plot: A cowboy doll is …``: the titled fields as one text."""
    return " ".join(titled(fields).values())


def text_units(
    items: Sequence[Mapping[str, str | None]], places: Sequence[str]
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """What a text tower encodes of n items.

    Args:
        places: fields, each of which is a unit of its own; none: an item's fields are composed into one.

    Returns:
        the u units' texts; [u] each one's item, ascending; [u] its place among ``places``, ascending within an item.
    """
    texts, owner, place = [], [], []
    for row, fields in enumerate(items):
        mine = titled(fields)
        units = (
            [(places.index(name), text) for name, text in mine.items()] if places else [(0, " ".join(mine.values()))]
        )
        for at, text in sorted(units):
            if text:
                texts.append(text)
                owner.append(row)
                place.append(at)
    return texts, np.array(owner, dtype=np.int64), np.array(place, dtype=np.int64)


def words(fields: Mapping[str, str | None]) -> list[str]:
    """Lower-case words of at least two characters, of all fields, in order."""
    found = []
    for value in fields.values():
        if value:
            found += [word for word in _WORD.findall(clean(value).casefold()) if len(word) > 1]
    return found
