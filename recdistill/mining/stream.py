"""Mining a log that may outgrow memory: partition after partition of whole users, several side by side.

Memory: (threads + 1) · (250 · E + 40 MB + P) + 4 · I · (d + 6) bytes, where a partition has E events
(``mining.partition_events``, or one user's) and P bytes of pairs, the catalogue I items, content d components; and
Arrow's own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recdistill.contracts.by_user import user_bounds, user_chunks
from recdistill.contracts.log import COLUMNS, Log
from recdistill.contracts.tables import read_table
from recdistill.mining.behaviours import check_labels, kinds_of, needed_columns, relabel
from recdistill.mining.config import MiningConfig
from recdistill.mining.interests import Mined, mine_log
from recdistill.mining.knowledge import Knowledge
from recdistill.progress import track


@dataclass(frozen=True)
class Survey:
    """What must be known of a whole log before its parts are mined.

    Attributes:
        files: its tables, without the empty ones (one of them if all are empty).
        events: how many.
        kinds: the kinds of positive behaviour that occur, ascending.
        bounds: user ids after which to cut.
    """

    files: Sequence[Path]
    events: int
    kinds: tuple[str, ...]
    bounds: pa.Array

    @classmethod
    def of(cls, files: Sequence[Path], config: MiningConfig) -> Survey:
        """Read the users and behaviours once. Memory: a batch, and 32 user ids a partition.

        Raises:
            UserError: the settings name a label or column that the log lacks.
        """
        sizes = {path: pq.read_metadata(path).num_rows for path in files}
        kinds: set[str] = set()

        def visit(batch: pa.RecordBatch) -> None:
            kinds.update(kinds_of([pa.Table.from_batches([batch])], config))

        filled = [path for path, size in sizes.items() if size]
        bounds = user_bounds(filled, chunk_events=config.partition_events, columns=needed_columns(config), visit=visit)
        check_labels(sorted(kinds), config)
        return cls(filled or files[:1], sum(sizes.values()), tuple(sorted(kinds)), bounds)


def event_columns(config: MiningConfig) -> list[str]:
    """Columns of the interactions table that mining reads."""
    return list(dict.fromkeys([*COLUMNS, *needed_columns(config)]))


def mine_tables(
    tables: Sequence[pa.Table], item_ids: pd.Index, known: Knowledge, config: MiningConfig, *, kinds: int, seed: int
) -> Mined:
    """Mine some users' events, as the interactions contract has them; this is what every engine calls."""
    log = Log.of([relabel(table, config) for table in tables], item_ids=item_ids)
    return mine_log(log, known, config, kinds=kinds, seed=seed)


def mine_stream(
    survey: Survey, item_ids: pd.Index, known: Knowledge, config: MiningConfig, *, threads: int, seed: int
) -> Iterator[Mined]:
    """Yield what each partition of users holds, in the order of their ids."""
    columns = event_columns(config)

    def work(tables: list[pa.Table]) -> tuple[Mined, int]:
        mined = mine_tables(tables, item_ids, known, config, kinds=len(survey.kinds), seed=seed)
        return mined, sum(map(len, tables))

    if not survey.events:
        yield work([read_table(survey.files[0], columns=columns)])[0]
        return
    item_ids.get_indexer(item_ids[:1])  # the index's table is built before threads share it
    waiting: deque[Future[tuple[Mined, int]]] = deque()
    with ThreadPoolExecutor(threads) as pool, track("mine · events", survey.events) as advance:
        for tables in user_chunks(survey.files, survey.bounds, columns=columns):
            waiting.append(pool.submit(work, tables))
            if len(waiting) > threads:
                mined, events = waiting.popleft().result()
                advance(events)
                yield mined
        while waiting:
            mined, events = waiting.popleft().result()
            advance(events)
            yield mined
