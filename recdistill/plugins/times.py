"""Times of a team's rows, as pandas has them: numpy's or Arrow's.

Shapes: n rows.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.errors import UserError


def zoned(times: pd.Series) -> pd.Series | None:
    """[n] the same moments in numpy's form; None where they are no times with a zone."""
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        return times
    if isinstance(times.dtype, pd.ArrowDtype):
        kind = times.dtype.pyarrow_dtype
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            return pd.to_datetime(times, utc=True)
    return None


def microseconds(times: pd.Series) -> np.ndarray:
    """[n] int64 since 1970, UTC.

    Raises:
        UserError: they are no times with a zone, or one is null.
    """
    moments = zoned(times)
    if moments is None:
        raise UserError(
            f"column '{times.name}' is {times.dtype}, not a time with a zone",
            remedy="as UTC: pd.to_datetime(…, utc=True), or .dt.tz_localize('UTC')",
        )
    if nulls := int(moments.isna().sum()):  # numpy's null is the earliest of times
        raise UserError(
            f"column '{times.name}': {nulls} of {len(times)} times are null",
            remedy="drop those rows, or leave 'match' out of the parts",
        )
    return np.asarray(moments.dt.tz_convert("UTC").dt.as_unit("us").astype("int64"), dtype=np.int64)
