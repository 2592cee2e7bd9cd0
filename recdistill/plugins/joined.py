"""What is told of rows that got columns: which lack match features, and which the student may have learned from."""

from __future__ import annotations

import warnings
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Self

import numpy as np
import pandas as pd

from recdistill.contracts.trained import warn_of_learned
from recdistill.errors import UserError
from recdistill.plugins.match_rows import MatchRows
from recdistill.plugins.times import zoned


@dataclass(frozen=True)
class Joined:
    """Counts of rows; those of several batches add up.

    Attributes:
        rows: all of them.
        unmatched: those without match features.
        too_early: those of the unmatched that are no later than the first exported match features.
        learned: those no later than what the student was trained on.
        timeless: those with nothing, or something that is no time, where their time should be.
    """

    rows: int = 0
    unmatched: int = 0
    too_early: int = 0
    learned: int = 0
    timeless: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))

    @classmethod
    def of_times(cls, times: pd.Series | None, *, until: datetime | None) -> Self:
        """Of rows without match features.

        Args:
            times: [n] their time column; None: they have none.
            until: time of the newest event that the student was trained on; None: not known.
        """
        if times is None or until is None:
            return cls()
        moments = zoned(times)
        if moments is None:
            return cls(timeless=len(times))
        return cls(learned=int((moments <= until).sum()), timeless=int(moments.isna().sum()))

    @classmethod
    def of_match(cls, found: np.ndarray, time: np.ndarray, *, first: int) -> Self:
        """
        Args:
            found: [n] bool, whether a row has match features.
            time: [n] int64 microseconds.
            first: of the exported match features.
        """
        return cls(unmatched=int((~found).sum()), too_early=int((~found & (time <= first)).sum()))

    def refuse_gaps(self, match: MatchRows) -> None:
        """
        Raises:
            UserError: some rows have match features and others none.
        """
        if not self.unmatched:
            return
        said = (
            f"{self.unmatched} of {self.rows} rows have no match features in the export, which has those of "
            f"{match.events} logged events of the test window; "
        )
        remedy = (
            "compute them for all rows alike (recdistill.features.match_table), leave 'match' out of the parts, or set "
            "partial_match where a gap says nothing of the label"
        )
        if self.too_early:
            begin = pd.Timestamp(match.first, unit="us", tz="UTC").isoformat()
            said += (
                f"{self.too_early} of these rows are no later than {begin}, where those begin: they are from before "
                "the window, or older rows of a window of more than export.max_match_rows events; "
            )
            remedy = f"for the older rows of the window raise export.max_match_rows and export again, or {remedy}"
        tells = "which rows were logged" if self.unmatched > self.too_early else "how old a row is"
        raise UserError(f"{said}a ranker could tell by the gap {tells}", remedy=remedy)

    def warn(self, until: datetime | None, *, column: str, stacklevel: int) -> bool:
        """Warn, once for all the rows, of those that the student may have learned from.

        Args:
            column: where their times stand.
            stacklevel: as in :func:`recdistill.contracts.trained.warn_of_learned`.

        Returns:
            Whether there was something to warn of.
        """
        if until is None:
            return False
        if self.timeless:
            warnings.warn(
                f"column '{column}' is no time with a zone in {self.timeless} of {self.rows} rows, so nobody can tell "
                f"whether they lie before {until.isoformat()}, up to which the export's student was trained; an "
                "offline test on such rows needs the vectors of the selection fit",
                stacklevel=stacklevel,
            )
        warn_of_learned(self.learned, self.rows, until, what="the export's student", stacklevel=stacklevel)
        return bool(self.timeless or self.learned)
