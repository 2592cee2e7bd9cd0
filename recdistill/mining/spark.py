"""Mining under Spark, for logs that outgrow one machine: partitions of whole users, each given to the same function.

Needs the extra ``spark`` (pyspark) and Java. The tables and the work folder must be where all workers find them.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recdistill.contracts import names
from recdistill.contracts.tables import read_table
from recdistill.errors import UserError
from recdistill.extras import need
from recdistill.mining.config import MiningConfig
from recdistill.mining.interests import Tally
from recdistill.mining.knowledge import Knowledge
from recdistill.mining.stream import Survey, event_columns, mine_tables
from recdistill.mining.writer import PairsWriter

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_PLACE = "_place"  # of an event in the log's order
_TALLY = "_tally"  # the row of a partition that says what became of its targets
_ERROR = "_error"  # instead of it: the user's mistake that ended the partition's mining
_FILE_EVENTS = 1 << 40  # more than a file has


def session() -> SparkSession:
    """The active Spark session, or a new one on this machine's processors.

    Raises:
        UserError: pyspark is not installed, or Java does not start.
    """
    need("spark", what="mining.engine=spark")
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    try:
        return SparkSession.builder.appName("recdistill").getOrCreate()
    except (PySparkException, OSError) as error:
        raise UserError(f"Spark does not start: {error}", remedy="install Java 17 or set JAVA_HOME") from error


def mine_spark(
    spark: SparkSession,
    survey: Survey,
    item_ids: pd.Index,
    known: Knowledge,
    config: MiningConfig,
    *,
    work: Path,
    writer: PairsWriter,
    seed: int,
) -> Tally:
    """Mine a log's files and give the pairs to ``writer``, in the order in which they are found on one machine.

    Memory: a worker's as one partition of :mod:`recdistill.mining.stream`; the driver's a row group.

    Args:
        work: a folder that is not there, for what the workers write; the caller removes it.

    Raises:
        UserError: a worker's, as mining here raises it.
    """
    wanted = event_columns(config)
    events = None
    for at, path in enumerate(survey.files):
        place = f"_metadata.row_index + {at * _FILE_EVENTS} AS {_PLACE}"
        table = spark.read.parquet(str(path.absolute())).selectExpr(*(f"`{name}`" for name in wanted), place)
        events = table if events is None else events.unionByName(table)
    assert events is not None
    parts = max(1, math.ceil(survey.events / config.partition_events))
    shared = spark.sparkContext.broadcast((item_ids, known, config))
    kinds = len(survey.kinds)

    nothing = read_table(survey.files[0], columns=wanted).slice(0, 0)
    empty = mine_tables([nothing], item_ids, known, config, kinds=kinds, seed=seed).pairs[config.perspectives[0]]
    schema = _travelling(empty.schema)

    def mine_partition(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        found = [pa.Table.from_batches([batch]) for batch in batches]
        if not any(map(len, found)):
            return
        ids, knowledge, settings = shared.value
        table = pa.concat_tables(found)
        table = table.take(pc.sort_indices(table, sort_keys=[(_PLACE, "ascending")])).drop_columns([_PLACE])
        try:
            mined = mine_tables([table], ids, knowledge, settings, kinds=kinds, seed=seed)
        except UserError as error:  # raised, it would come to the driver as text in a fault of Spark's
            told = {names.PERSPECTIVE: _ERROR, _TALLY: json.dumps([error.message, error.remedy])}
            yield pa.RecordBatch.from_pylist([told], schema=schema)
            return
        for pairs in mined.pairs.values():
            yield from pairs.append_column(_TALLY, pa.nulls(len(pairs), pa.string())).cast(schema).to_batches()
        told = {names.PERSPECTIVE: _TALLY, _TALLY: json.dumps(vars(mined.tally))}
        yield pa.RecordBatch.from_pylist([told], schema=schema)

    # A range of users is a partition, and partitions stand in the order of users.
    ranged = events.repartitionByRange(parts, names.USER_ID)
    ranged.mapInArrow(mine_partition, schema=_ddl(schema)).write.parquet(str(work.absolute()))
    shared.destroy()
    return _collect(work, config, writer, empty.schema)


def _collect(work: Path, config: MiningConfig, writer: PairsWriter, schema: pa.Schema) -> Tally:
    """Give the workers' pairs to the writer, perspective after perspective, and add up what they tell."""
    files = sorted(work.glob("part-*.parquet"))  # a file a partition, numbered alike
    for message, remedy in _told(files, _ERROR):
        raise UserError(message, remedy=remedy)
    for name in config.perspectives:
        writer.add(name, schema.empty_table())
        for path in files:
            pairs = read_table(path, only=(names.PERSPECTIVE, pd.Index([name]))).drop_columns([_TALLY])
            writer.add(name, pairs.cast(schema))
    whole = Tally()
    for tally in _told(files, _TALLY):
        whole.add(Tally.of(tally))
    return whole


def _told(files: Iterable[Path], what: str) -> Iterator[Any]:
    """What the partitions tell beside pairs, of one kind."""
    for path in files:
        for row in read_table(path, columns=[_TALLY], only=(names.PERSPECTIVE, pd.Index([what]))).to_pylist():
            yield json.loads(row[_TALLY])


def _travelling(schema: pa.Schema) -> pa.Schema:
    """The pairs' columns as they leave a worker, with that of tallies: of types that Spark's Parquet keeps."""
    fields = []
    for field in schema:
        kind = field.type
        if pa.types.is_timestamp(kind):
            kind = pa.int64()
        elif pa.types.is_list(kind) and pa.types.is_large_string(kind.value_type):
            kind = pa.list_(pa.string())
        elif pa.types.is_large_string(kind):
            kind = pa.string()
        fields.append(pa.field(field.name, kind))
    return pa.schema([*fields, pa.field(_TALLY, pa.string())])


def _ddl(schema: pa.Schema) -> str:
    spelt = {pa.int64(): "bigint", pa.string(): "string"}
    spelt |= {pa.list_(kind): f"array<{name}>" for kind, name in spelt.items()}
    return ", ".join(f"`{field.name}` {spelt[field.type]}" for field in schema)
