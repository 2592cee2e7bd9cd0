"""Our columns beside a team's own rows, for rankers that read tables: trees, pandas, other libraries.

Shapes: n rows of the team's, k columns of a vector, L levels of the semantic IDs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recdistill.contracts import names
from recdistill.contracts.tables import atomic
from recdistill.errors import UserError
from recdistill.features.exported import MATCH, exported
from recdistill.plugins.exported import Exported
from recdistill.plugins.ids import positions
from recdistill.plugins.joined import Joined
from recdistill.plugins.match_rows import MatchRows
from recdistill.plugins.projection import Projection
from recdistill.plugins.times import microseconds

Part = Literal["vectors", "semantic_ids", "match"]
PARTS: tuple[Part, ...] = ("vectors", "semantic_ids", "match")
_WIDTH = 16


@dataclass(frozen=True)
class Keys:
    """What the rows call their user, item and time."""

    user: str = names.USER_ID
    item: str = names.ITEM_ID
    timestamp: str = names.TIMESTAMP


class FeatureJoin:
    """Adds columns of an export to rows, by id.

    ``student_<i>``: the item's vector, projected (:class:`Projection`) · ``sid_<l>``: its code in each level; the
    numbers run along the codes' first principal direction, so a threshold on them means something ·
    ``match_…``: the row's match features, by user, item and time · ``reaction_…``: its reactions, part of 'match' where
    the export has them (the log has negatives of its own). All float32, NaN for an item that is not known.

    An export's student has learned from everything before the test window, labels included, up to
    ``Exported.trained_until``. A ranker that is tested on rows that are no later gains from the leak; so the first
    frame or file that has such rows gives a warning, and so does one whose time column is no time with a zone, where
    nobody can tell. Rows without that column are not judged: items have no time.

    The exported match features are those of the logged events of the test window, of the newest
    ``export.max_match_rows`` where it has more. Rows that are not among them (drawn negatives, say) would have NaN
    where logged ones have numbers, and a ranker would learn who was logged, that is: the label. So either all rows
    have them, or it is an error; ``partial_match`` takes that responsibility.

    Args:
        export: the folder.
        parts: which columns.
        projection: None: fitted on the export's items, 16 columns. Keep it beside the ranker.
        keys: the rows' own names of user, item and time; the two others are needed for match features alone,
            but by the time it is told which rows the student may have learned from.
        partial_match: rows without match features are meant.

    Raises:
        UserError: a table of the export is missing or malformed, or a part is unknown.

    Memory: the export's tables, and 60 bytes a row of match features.
    """

    def __init__(
        self,
        export: Path | str,
        *,
        parts: Sequence[Part] = PARTS,
        projection: Projection | None = None,
        keys: Keys | None = None,
        partial_match: bool = False,
    ) -> None:
        unknown = [part for part in parts if part not in PARTS]
        if unknown:
            raise UserError(f"unknown parts {unknown}", remedy=f"known parts are {', '.join(PARTS)}")
        items = Exported.read(export)
        self.projection = projection or Projection.fit(items.embeddings.vectors, width=_WIDTH)
        self._keys = keys or Keys()
        self._partial = partial_match
        self._ids = items.embeddings.ids
        self._until = items.trained_until
        self._warned = False
        made: list[tuple[str, np.ndarray]] = []
        if "vectors" in parts:
            projected = self.projection(items.embeddings.vectors)
            made += [(f"student_{at}", projected[:, at]) for at in range(projected.shape[1])]
        if "semantic_ids" in parts:
            codes = np.where(items.codes >= 0, items.codes, np.nan).astype(np.float32)
            made += [(f"sid_{at}", codes[:, at]) for at in range(codes.shape[1])]
        # One row more, of NaN, which is where unknown items point to.
        self._of_item = {name: np.append(values, np.float32(np.nan)) for name, values in made}
        self._match = MatchRows(exported(Path(export), MATCH)) if "match" in parts else None

    @property
    def columns(self) -> list[str]:
        """Names of what is added, in order."""
        return [*self._of_item, *(self._match.columns if self._match else ())]

    def __call__(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows as they are, in their order and index, with the columns behind theirs.

        Raises:
            UserError: a column that is needed is missing, or one of ours is there already; ids are null or of another
                kind than the export's; times are null or have no time zone; or not all rows have match features.
        """
        self._check(rows.columns)
        columns, joined = self._columns(rows)
        self._tell(joined)
        return pd.concat([rows, pd.DataFrame(columns, index=rows.index)], axis=1)

    def stream(self, rows: Path, out: Path, *, batch_rows: int = 1 << 17) -> None:
        """The same from one Parquet file to another, a batch of rows in memory at a time; written whole or not at all.

        Raises:
            UserError: as for a frame.
        """
        joined = Joined()
        with atomic(out) as temporary, pq.ParquetFile(rows) as source:
            own = source.schema_arrow
            self._check(own.names)
            schema = pa.schema([*own, *(pa.field(name, pa.float32()) for name in self.columns)], own.metadata)
            with pq.ParquetWriter(temporary, schema) as writer:
                for batch in source.iter_batches(batch_size=batch_rows):
                    read = [name for name in own.names if name in (*self._needed(), self._keys.timestamp)]
                    columns, of_batch = self._columns(batch.select(read).to_pandas())
                    ours = [pa.array(values, pa.float32()) for values in columns.values()]
                    writer.write_batch(pa.record_batch([*batch.columns, *ours], schema=schema))
                    joined += of_batch
            self._tell(joined)

    def _columns(self, rows: pd.DataFrame) -> tuple[dict[str, np.ndarray], Joined]:
        """Our columns of the rows, and what is told of them."""
        item = rows[self._keys.item]
        place = positions(item, known=self._ids, what=f"column '{self._keys.item}'")
        columns = {name: values[place] for name, values in self._of_item.items()}
        joined = Joined(len(rows)) + Joined.of_times(rows.get(self._keys.timestamp), until=self._until)
        if self._match:
            time = microseconds(rows[self._keys.timestamp])
            values, found = self._match(user=rows[self._keys.user], item=item, time=time)
            columns |= {name: values[:, at] for at, name in enumerate(self._match.columns)}
            joined += Joined.of_match(found, time, first=self._match.first)
        return columns, joined

    def _needed(self) -> tuple[str, ...]:
        of_event = (self._keys.user, self._keys.timestamp) if self._match else ()
        return (self._keys.item, *of_event)

    def _check(self, columns: Iterable[str]) -> None:
        found = list(columns)
        absent = [name for name in self._needed() if name not in found]
        if absent:
            raise UserError(
                f"the rows lack column '{absent[0]}' (found: {', '.join(map(str, found))})",
                remedy="say what your rows call it: Keys(user=…, item=…, timestamp=…)",
            )
        both = [name for name in self.columns if name in found]
        if both:
            raise UserError(f"the rows have columns {both} already", remedy="rename or drop them: ours would hide them")

    def _tell(self, joined: Joined) -> None:
        if self._match and not self._partial:
            joined.refuse_gaps(self._match)
        if not self._warned:
            self._warned = joined.warn(self._until, column=self._keys.timestamp, stacklevel=4)


def feature_frame(
    rows: pd.DataFrame,
    export: Path | str,
    *,
    parts: Sequence[Part] = PARTS,
    projection: Projection | None = None,
    keys: Keys | None = None,
    partial_match: bool = False,
) -> pd.DataFrame:
    """Rows with an export's columns behind theirs: see :class:`FeatureJoin`, which serves several frames."""
    join = FeatureJoin(export, parts=parts, projection=projection, keys=keys, partial_match=partial_match)
    return join(rows)
