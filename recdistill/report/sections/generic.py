"""JSON that a stage left, as names and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recdistill.report import wording
from recdistill.report.blocks import Facts

_LONGEST_LIST = 12


def facts(value: Mapping[str, Any], *, without: tuple[str, ...] = ()) -> Facts:
    """Nested JSON flattened: ``{"a": {"b": 1}}`` → ``a · b: 1``; long lists are counted instead of shown.

    Args:
        without: top-level keys to leave out.
    """
    pairs: list[tuple[str, str]] = []
    _walk({key: part for key, part in value.items() if key not in without}, "", pairs)
    return Facts(tuple(pairs))


def _walk(value: Any, name: str, pairs: list[tuple[str, str]]) -> None:
    if isinstance(value, Mapping):
        for key, part in value.items():
            _walk(part, f"{name} · {wording.plain(str(key))}" if name else wording.plain(str(key)), pairs)
    elif isinstance(value, list) and any(isinstance(part, Mapping | list) for part in value):
        if len(value) > _LONGEST_LIST:
            pairs.append((name, f"{len(value)} entries"))
        else:
            for at, part in enumerate(value):
                _walk(part, f"{name} {at + 1}", pairs)
    elif isinstance(value, list):
        shown = ", ".join(text(part) for part in value[:_LONGEST_LIST])
        pairs.append((name, shown + (f", … ({len(value)})" if len(value) > _LONGEST_LIST else "") or "none"))
    else:
        pairs.append((name, text(value)))


def text(value: Any) -> str:
    """A scalar as a reader wants it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return wording.count(value) if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return wording.count(value) if value.is_integer() and abs(value) >= 10_000 else f"{value:.5g}"
    return str(value)
