"""Until when what made a table was trained, and rows that it may have learned from.

Vectors that have learned from a row's own event foretell its label: a ranker that is trained and tested on such rows
gains offline and nowhere else.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import datetime
from typing import Any

TRAINED_UNTIL = "trained_until"  # in a table's metadata: ISO 8601, of the newest event that was trained on


def trained_until(metadata: Mapping[str, Any]) -> datetime | None:
    """What a table's metadata say, None where they do not."""
    told = metadata.get(TRAINED_UNTIL)
    return None if told is None else datetime.fromisoformat(told)


def until_metadata(until: datetime | None) -> dict[str, str | None]:
    """What a table's metadata are to say."""
    return {TRAINED_UNTIL: None if until is None else until.isoformat()}


def warn_of_learned(learned: int, rows: int, until: datetime, *, what: str, stacklevel: int) -> None:
    """Warn that rows are no later than what was trained on, if any are.

    No error: a service asks about its past, and gaps are filled, with the newest vectors there are.

    Args:
        learned: how many of the rows are no later than ``until``.
        what: what was trained, in the warning.
        stacklevel: what :func:`warnings.warn` would be given in this function's place.
    """
    if learned:
        warnings.warn(
            f"{what} was trained on events up to {until.isoformat()}, and {learned} of {rows} rows are no later: it "
            "may have learned from them. That is no matter where a ranker serves; but one that is tested offline on "
            "such rows gains from the leak. It needs the vectors of the selection fit, as experiments/plugins/"
            "run_rows.py exports them, or later rows (of user-disjoint folds: rows of the test users)",
            stacklevel=stacklevel + 1,
        )
