"""Reading tables that outgrow memory by users: chunk after chunk, each with all events of its users."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from recdistill.contracts import names
from recdistill.contracts.events import decoded
from recdistill.errors import UserError

# Events of a file are sampled so finely that a chunk is at most 1/32 a file larger than asked for.
_SAMPLES_A_CHUNK = 32
_BATCH = 1 << 16


def user_bounds(
    files: Sequence[Path], *, chunk_events: int, columns: Sequence[str], visit: Callable[[pa.RecordBatch], None]
) -> pa.Array:
    """The user ids after which to cut, ascending, so that a chunk has about ``chunk_events`` events.

    Args:
        files: Parquet tables with ``user_id``, none of them empty.
        columns: further columns that ``visit`` is to see.
        visit: is given every batch of every file on the way.

    Raises:
        UserError: a row has no user; it would be in no chunk.
    """
    every = max(1, chunk_events // _SAMPLES_A_CHUNK)
    sample: list[pa.Array] = []
    for path in files:
        row = nulls = 0
        for batch in pq.ParquetFile(path).iter_batches(_BATCH, columns=[names.USER_ID, *columns]):
            visit(batch)
            rows = np.arange(every - 1 - row % every, len(batch), every)
            users = decoded(batch[names.USER_ID])
            sample.append(users.take(pa.array(rows)))
            row, nulls = row + len(batch), nulls + users.null_count
        if nulls:
            raise UserError(
                f"{path}: column '{names.USER_ID}' is null in {nulls} of {row} rows",
                remedy="drop those rows, or give them an id that nobody has",
            )
    if not sample:
        return pa.array([], pa.int64())
    # Text is string in one file and large_string in another, numbers are of 32 bits and of 64.
    alike = pa.concat_tables([pa.table([ids], [names.USER_ID]) for ids in sample], promote_options="permissive")
    ids = alike[names.USER_ID].combine_chunks().sort()
    cuts = np.arange(_SAMPLES_A_CHUNK - 1, len(ids), _SAMPLES_A_CHUNK)
    return pc.unique(ids.take(pa.array(cuts)))


def user_chunks(
    files: Sequence[Path], bounds: pa.Array, *, columns: Sequence[str], where_given: Sequence[str] = ()
) -> Iterator[list[pa.Table]]:
    """All events of the users up to each bound and above the one before, a table a file in the files' order.

    None is lost: :func:`user_bounds` has refused rows without a user.

    Tables that are sorted by user, as the split stage leaves them, are decoded once in all; others once a chunk.

    Args:
        columns: what is read of every file.
        where_given: further columns, of the files that have them.
    """
    # Without the buffers of whole row groups that Arrow keeps for slow file systems.
    form = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=False))
    sets = [ds.dataset(path, format=form) for path in files]
    wanted = [[*columns, *(name for name in where_given if name in each.schema.names)] for each in sets]
    user = ds.field(names.USER_ID)
    for low, high in zip([None, *bounds], [*bounds, None], strict=True):
        condition = None if low is None else user > low
        if high is not None:
            condition = user <= high if condition is None else condition & (user <= high)
        # Row groups of other users are skipped by their statistics.
        tables = [
            each.to_table(columns=chosen, filter=condition, batch_size=_BATCH, batch_readahead=4)
            for each, chosen in zip(sets, wanted, strict=True)
        ]
        if any(map(len, tables)):
            yield tables
