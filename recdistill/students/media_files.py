"""Pictures and sounds of the ``media`` table at random access: training asks for a few at a time, in any order."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from recdistill.students.collect import read_media
from recdistill.students.encoders.media import BadMediaError


class MediaFiles:
    """Opens media by id.

    What the table holds as bytes is copied once into a temporary file (in TMPDIR, gone with the object or the process),
    since a Parquet file gives them in large groups only. Memory: about 200 bytes a medium.

    Args:
        path: the ``media`` table.
        wanted: ids that may be asked for.

    Raises:
        UserError: there is no such table.
    """

    def __init__(self, path: Path, wanted: Collection[str]) -> None:
        self._places: dict[str, Path | tuple[int, int]] = {}  # a file, or offset and length in the temporary one
        self._file = tempfile.TemporaryFile(prefix="recdistill-media-")  # noqa: SIM115 - as long as the object lives
        end = 0
        for medium, content in read_media(path, pa.array(list(wanted), pa.string())) if wanted else ():
            if isinstance(content, Path):
                self._places[medium] = content
            else:
                self._file.write(content)
                self._places[medium] = (end, len(content))
                end += len(content)
        self._file.flush()

    def open(self, medium: str) -> bytes | Path:
        """The medium's content, or the file that has it; from any thread.

        Raises:
            BadMediaError: the table has no such medium.
        """
        place = self._places.get(medium)
        if place is None:
            raise BadMediaError("not in the media table")
        return place if isinstance(place, Path) else os.pread(self._file.fileno(), place[1], place[0])
