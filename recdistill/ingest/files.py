"""The tables that every adapter writes, the planted world included."""

from __future__ import annotations

import pyarrow as pa

from recdistill.contracts import names

INTERACTIONS = "interactions.parquet"
ITEMS = "items.parquet"
MEDIA = "media.parquet"
QUERIES = "queries.parquet"  # only where the recipe names a query table

MEDIA_SCHEMA = pa.schema(
    [(names.MEDIA_ID, pa.string()), (names.MEDIA_PATH, pa.string()), (names.MEDIA_BYTES, pa.binary())]
)
