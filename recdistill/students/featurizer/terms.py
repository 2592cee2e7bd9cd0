"""Terms that are counted: words and (field, value), and the bucket of each."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from functools import lru_cache


@lru_cache(maxsize=1 << 18)
def bucket(term: str, log2: int) -> int:
    """A term's bucket: the same on every machine and in every process (Python's own hash is not)."""
    digest = hashlib.blake2b(term.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little") & ((1 << log2) - 1)


@lru_cache(maxsize=1 << 18)
def normalise(value: str) -> str:
    """Tags that differ in case, width or white space only are one."""
    return " ".join(unicodedata.normalize("NFKC", value).casefold().split())


def tag_terms(tags: dict[str, list[str]], fields: Sequence[str]) -> list[str]:
    """Terms of (field, value), so that equal values of two fields stay two."""
    return [f"{field}\x1f{value}" for field in fields for value in tags.get(field, ())]
