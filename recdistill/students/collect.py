"""Filling the cache: what of a catalogue no one has encoded yet goes through its tower."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recdistill.contracts import names
from recdistill.errors import UserError
from recdistill.progress import track
from recdistill.students.cache import FeatureCache, text_key
from recdistill.students.content import Catalogue
from recdistill.students.encoders.media import BadMediaError, MediaLimits, content_key
from recdistill.students.encoders.text import HuggingFaceText
from recdistill.students.encoders.tower import MediaTower, encode_media
from recdistill.students.text import text_units

_BLOCK = 8192  # items whose fields are Python objects at one time
_AT_ONCE = 256  # units given to a tower
_MEDIA_ROWS = 256  # rows of media, with their bytes, in memory
_SAVE_SECONDS, _SAVE_UNITS = 15.0, 8192  # what a kill can cost

MediaKind = Literal["image", "audio"]
MEDIA_COLUMNS: dict[MediaKind, str] = {"image": names.IMAGES, "audio": names.AUDIO}


@dataclass
class Effort:
    """What filling the cache took.

    Attributes:
        units: texts, pictures or sounds that items refer to.
        encoded: of these, how many went through the tower now.
        seconds: of encoding, decoding included.
    """

    units: int = 0
    encoded: int = 0
    seconds: float = 0.0

    def record(self) -> dict[str, float | int]:
        """For ``encode.json``."""
        rate = self.encoded / self.seconds if self.seconds else 0.0
        return {
            "units": self.units,
            "encoded": self.encoded,
            "seconds": round(self.seconds, 3),
            "per_second": round(rate, 1),
        }


def blocks(count: int, size: int = _BLOCK) -> Iterator[np.ndarray]:
    """Row numbers, a block at a time."""
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def fill_texts(
    catalogue: Catalogue, tower: HuggingFaceText, cache: FeatureCache, *, places: Sequence[str]
) -> tuple[list[list[bytes]], list[list[int]] | None, Effort]:
    """Encode the items' texts.

    Args:
        places: as of :func:`recdistill.students.text.text_units`.

    Returns:
        each item's keys in the cache, none for an item without text; each key's place, if there are any; what it took.
    """
    keys: list[list[bytes]] = [[] for _ in range(len(catalogue))]
    place_of: list[list[int]] | None = [[] for _ in range(len(catalogue))] if places else None
    effort, saver = Effort(), _Saver(cache)
    with track("encode · text", len(catalogue)) as advance:
        for rows in blocks(len(catalogue)):
            texts, owner, place = text_units(catalogue.block(rows).texts, places)
            written = [(text_key(text), text) for text in texts]
            for (key, _), row, at in zip(written, rows[owner].tolist(), place.tolist(), strict=True):
                keys[row].append(key)
                if place_of is not None:
                    place_of[row].append(at)
            absent = cache.missing([key for key, _ in written])
            effort.units += len(written)
            waiting = owner[absent]
            complete = np.diff(waiting, append=-1) != 0  # the last text of an item that still waits
            advance(len(rows) - int(complete.sum()))
            for start in range(0, len(absent), _AT_ONCE):
                todo = [written[at] for at in absent[start : start + _AT_ONCE]]
                started = time.perf_counter()
                vectors = tower.encode([text for _, text in todo])
                effort.seconds += time.perf_counter() - started
                effort.encoded += len(todo)
                saver.add([key for key, _ in todo], vectors)
                advance(int(complete[start : start + _AT_ONCE].sum()))
            saver.save()
    return keys, place_of, effort


@dataclass
class MediaFound:
    """Keys of the media that are readable, why the others are not, and what it took by kind."""

    keys: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    efforts: dict[str, Effort] = field(default_factory=dict)


def fill_media(
    path: Path,
    wanted: Mapping[str, MediaKind],
    towers: Mapping[MediaKind, Callable[[], MediaTower]],
    caches: Mapping[MediaKind, FeatureCache],
    limits: MediaLimits,
) -> MediaFound:
    """Encode pictures and sounds, reading the ``media`` table once.

    Args:
        wanted: media id → what it is.
        towers: gives a kind's tower when it is needed.
    """
    found = MediaFound(efforts={kind: Effort() for kind in caches})
    queues = {kind: _Queue(kind, towers[kind], caches[kind], found) for kind in caches}
    ids = pa.array(list(wanted), pa.string())
    with track("encode · media", len(wanted)) as advance:
        for medium, data in read_media(path, ids) if len(ids) else ():
            kind = wanted[medium]
            found.efforts[kind].units += 1
            try:
                found.keys[medium] = content_key(data, limits=limits)
            except BadMediaError as error:
                found.faults[medium] = str(error)
            else:
                queues[kind].add(medium, data)
            advance(1)
        for queue in queues.values():
            queue.finish()
    for medium in wanted:
        if medium not in found.keys and medium not in found.faults:
            found.faults[medium] = "not in the media table"
    return found


class _Saver:
    """Puts vectors into the cache in parts of a sensible size."""

    def __init__(self, cache: FeatureCache) -> None:
        self._cache, self._since = cache, time.monotonic()
        self._keys: list[bytes] = []
        self._vectors: list[np.ndarray] = []

    def add(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        self._keys += keys
        self._vectors.append(vectors)
        if len(self._keys) >= _SAVE_UNITS or time.monotonic() - self._since > _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        if self._keys:
            self._cache.put(self._keys, np.concatenate(self._vectors))
        self._keys, self._vectors, self._since = [], [], time.monotonic()


class _Queue:
    """Media of one kind waiting to be encoded together."""

    def __init__(
        self, kind: MediaKind, tower: Callable[[], MediaTower], cache: FeatureCache, found: MediaFound
    ) -> None:
        self._tower, self._cache, self._found, self._effort = tower, cache, found, found.efforts[kind]
        self._saver = _Saver(cache)
        self._waiting: dict[bytes, tuple[list[str], bytes | Path]] = {}  # key → media ids with this content, content

    def add(self, medium: str, data: bytes | Path) -> None:
        key = self._found.keys[medium]
        if key in self._waiting:
            self._waiting[key][0].append(medium)
        elif self._cache.missing([key]):
            self._waiting[key] = ([medium], data)
        if len(self._waiting) >= _AT_ONCE:
            self._encode()

    def finish(self) -> None:
        self._encode()
        self._saver.save()

    def _encode(self) -> None:
        if not self._waiting:
            return
        started = time.perf_counter()
        vectors, faults = encode_media(self._tower(), [data for _, data in self._waiting.values()])
        self._effort.seconds += time.perf_counter() - started
        good = []
        for (key, (media, _)), fault in zip(self._waiting.items(), faults, strict=True):
            if fault is None:
                good.append(key)
            else:
                for medium in media:
                    del self._found.keys[medium]
                    self._found.faults[medium] = fault
        if vectors is not None:
            self._effort.encoded += len(good)
            self._saver.add(good, vectors)
        self._waiting.clear()


def read_media(path: Path, wanted: pa.Array) -> Iterator[tuple[str, bytes | Path]]:
    """Ids and contents or files of the ``media`` table's rows that are wanted.

    Raises:
        UserError: there is no such table.
    """
    if not path.exists():
        raise UserError(f"{path}: no such table", remedy="run the stage that writes it first")
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(
            batch_size=_MEDIA_ROWS, columns=[names.MEDIA_ID, names.MEDIA_PATH, names.MEDIA_BYTES]
        ):
            mine = batch.filter(pc.is_in(batch[names.MEDIA_ID].cast(pa.string()), value_set=wanted))
            columns = (mine[name].to_pylist() for name in (names.MEDIA_ID, names.MEDIA_PATH, names.MEDIA_BYTES))
            for medium, place, data in zip(*columns, strict=True):
                yield medium, (data if data is not None else Path(place or ""))
