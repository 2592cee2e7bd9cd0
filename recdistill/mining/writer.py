"""The ``interest_pairs`` table, written while it is mined: perspective after perspective, users ascending."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recdistill.contracts.tables import METADATA_KEY, ROW_GROUP, atomic


class PairsWriter:
    """Takes pairs of one perspective after the other, as mining finds them. Memory: a row group."""

    def __init__(self, folder: Path, perspectives: Sequence[str], stack: ExitStack) -> None:
        # Names that a runner clears away if the stage is killed.
        self._paths = {name: folder / f".{name}.parquet.tmp" for name in perspectives}
        self._stack, self._writers = stack, dict[str, pq.ParquetWriter]()

    def add(self, perspective: str, pairs: pa.Table) -> None:
        """Append pairs of users behind all those that were added."""
        if perspective not in self._writers:
            writer = pq.ParquetWriter(self._paths[perspective], pairs.schema)
            self._writers[perspective] = self._stack.enter_context(writer)
        self._writers[perspective].write_table(pairs, row_group_size=ROW_GROUP)

    def parts(self) -> Iterator[Path]:
        """What was added, a file a perspective."""
        for name, writer in self._writers.items():
            writer.close()
            yield self._paths[name]

    def clear(self) -> None:
        """Remove the files of :meth:`parts`."""
        for path in self._paths.values():
            path.unlink(missing_ok=True)


@contextmanager
def pairs_file(path: Path, perspectives: Sequence[str], *, metadata: Mapping[str, Any]) -> Iterator[PairsWriter]:
    """Write one Parquet file that appears when all pairs are there.

    Args:
        perspectives: in the order in which they stand in the file.
        metadata: provenance.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        writer = PairsWriter(path.parent, perspectives, stack)
        stack.callback(writer.clear)
        yield writer
        parts = list(writer.parts())
        schema = pq.read_schema(parts[0]).with_metadata(
            {METADATA_KEY: json.dumps(dict(metadata), sort_keys=True).encode()}
        )
        with atomic(path) as temporary, pq.ParquetWriter(temporary, schema) as whole:
            for part in parts:
                for batch in pq.ParquetFile(part).iter_batches(ROW_GROUP):
                    whole.write_table(pa.Table.from_batches([batch]).replace_schema_metadata(schema.metadata))
