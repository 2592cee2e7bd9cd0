"""Titled text fields → one clean text (METHOD 2: cleaned, de-duplicated, joined)."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping

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


def compose(fields: Mapping[str, str | None]) -> str:
    """``title: Toy Story plot: A cowboy doll is …``, without empty fields and sentences that occurred before."""
    seen: set[str] = set()
    parts = []
    for name, value in fields.items():
        kept = []
        for sentence in _SENTENCE_END.split(clean(value or "")):
            folded = sentence.casefold()
            if sentence and folded not in seen:
                seen.add(folded)
                kept.append(sentence)
        if kept:
            parts.append(f"{name.replace('_', ' ')}: {' '.join(kept)}")
    return " ".join(parts)


def words(fields: Mapping[str, str | None]) -> list[str]:
    """Lower-case words of at least two characters, of all fields, in order."""
    found = []
    for value in fields.values():
        if value:
            found += [word for word in _WORD.findall(clean(value).casefold()) if len(word) > 1]
    return found
