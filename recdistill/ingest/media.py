"""Finding the pictures and sounds of items, and writing the ``media`` table batch by batch.

Nothing is decoded here: the encoders count what does not decode. Memory: one batch of rows (512) and one text a medium.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recdistill.contracts.tables import atomic
from recdistill.contracts.violations import SHOWN, Violations
from recdistill.ingest.config import DataConfig, MediaConfig, TableFile
from recdistill.ingest.convert import lists_of, not_text, plain, to_ids, to_lists
from recdistill.ingest.files import MEDIA_SCHEMA
from recdistill.ingest.items import Catalogue
from recdistill.ingest.readers import Source, check_columns, explain, header, open_parquet, sources

Kind = Literal["images", "audio"]

_BATCH = 512
_STRANGER, _EMPTY = -1, -2
_ENDINGS: dict[Kind, tuple[str, ...]] = {
    "images": (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    "audio": (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"),
}


@dataclass(frozen=True)
class Found:
    """The media of one kind.

    Attributes:
        references: [items] list<string> media ids of each item of the catalogue.
        counts: for the report.
        files: media id → path, for media that are files.
        packed: sources and, for each, the media id of every row (null: not wanted), for media that are bytes.
    """

    references: pa.Array
    counts: dict[str, int]
    files: dict[str, str] = field(default_factory=dict)
    packed: list[tuple[Source, str, pa.Array]] = field(default_factory=list)


def find_media(
    kind: Kind, media: MediaConfig, config: DataConfig, catalogue: Catalogue, into: Violations
) -> Found | None:
    """Match media with the items; None, with the reason noted, if none of them match."""
    if media.folder is None:
        return _in_tables(kind, media, config, catalogue, into)
    folder = Path(os.path.abspath(config.resolve(media.folder)))
    if not folder.is_dir():
        into.add(file=str(media.folder), rule=f"no such folder ({folder})", remedy="check data.root and the folder")
        return None
    if media.item_column is not None:
        return _named_files(kind, media, folder, plain(catalogue.keys[media.item_column]), into)
    return _files_by_key(kind, media, folder, _keys(media, catalogue), into)


def write_media(found: list[Found], path: Path) -> None:
    """Write the ``media`` table atomically."""
    with atomic(path) as temporary, pq.ParquetWriter(temporary, MEDIA_SCHEMA) as writer:
        for part in found:
            if part.files:
                ids, paths = pa.array(part.files, pa.string()), pa.array(part.files.values(), pa.string())
                writer.write_table(pa.table([ids, paths, pa.nulls(len(ids), pa.binary())], schema=MEDIA_SCHEMA))
            for source, column, ids in part.packed:
                for start, batch in _batches(source, [column]):
                    wanted = ids.slice(start, len(batch))
                    kept, data = wanted.is_valid(), _bytes_in(batch.column(0))
                    assert data is not None
                    if (some := wanted.filter(kept)) and len(some):
                        columns = [some, pa.nulls(len(some), pa.string()), data.filter(kept).cast(pa.binary())]
                        writer.write_table(pa.table(columns, schema=MEDIA_SCHEMA))


def _keys(media: MediaConfig, catalogue: Catalogue) -> pd.Index:
    """[items] the text by which each item's media are found, null if it has none."""
    keys = catalogue.ids if media.item_key is None else plain(catalogue.keys[media.item_key])
    return pd.Index(keys.cast(pa.string()).to_pandas())


def _in_tables(
    kind: Kind, media: MediaConfig, config: DataConfig, catalogue: Catalogue, into: Violations
) -> Found | None:
    key, column = str(media.key), str(media.bytes)
    keys = _keys(media, catalogue)
    known = pd.Index(keys.dropna().unique())
    seen = np.zeros(len(known), dtype=np.int64)  # media of each key so far
    packed: list[tuple[Source, str, pa.Array]] = []
    owners: list[np.ndarray] = []
    all_ids: list[pa.Array] = []
    rows_read = empty = strangers = 0
    given = sources(TableFile(paths=media.files), config.root, into)
    for source in given:
        parts: list[pa.Array] = []
        for owner in _owners(source, key, column, known, into):
            rows_read, empty = rows_read + len(owner), empty + int((owner == _EMPTY).sum())
            strangers += int((owner == _STRANGER).sum())
            wanted, owner = owner >= 0, owner[owner >= 0]
            order = pd.Series(owner).groupby(owner).cumcount().to_numpy() + seen[owner]
            np.add.at(seen, owner, 1)
            texts = np.full(len(wanted), None, dtype=object)
            texts[wanted] = [f"{kind}:{known[row]}:{number}" for row, number in zip(owner, order, strict=True)]
            parts.append(pa.array(texts, pa.string()))
            all_ids.append(parts[-1].drop_null())
            owners.append(owner)
        if parts:
            packed.append((source, column, pa.concat_arrays(parts)))
    if rows_read and not any(len(owner) for owner in owners):
        into.add(
            file=given[0].shown,
            column=key,
            rule="no row belongs to an item",
            count=rows_read,
            remedy=f"check key and item_key: the items have e.g. {known[:3].tolist()}",
        )
    if not all_ids:
        return None
    by_key = _gather(pa.concat_arrays(all_ids), np.concatenate(owners), len(known))
    counts = {"media": sum(map(len, all_ids)), "rows_without_item": strangers, "rows_without_bytes": empty}
    return _found(_of_items(by_key, known, keys), counts, packed=packed)


def _owners(source: Source, key: str, column: str, known: pd.Index, into: Violations) -> Iterator[np.ndarray]:
    """Batch by batch: [n] int, which known key each medium belongs to, or ``_STRANGER`` or ``_EMPTY``."""
    if not source.is_parquet:
        remedy = "pack bytes into Parquet, or give a folder of files"
        into.add(file=source.shown, rule="not a .parquet file", remedy=remedy)
        return
    found = header(source, into)
    if found is None or not check_columns(source, (key, column), found, into):
        return
    try:
        for _, batch in _batches(source, [key, column]):
            data = _bytes_in(batch.column(1))
            if data is None:
                rule = f"wrong type: {batch.column(1).type} instead of binary"
                into.add(file=source.shown, column=column, rule=rule, remedy="store the encoded file as bytes")
                return
            keys, broken = to_ids(batch.column(0))
            if broken.any():
                rule, remedy = not_text(batch.column(0).type)
                into.add(file=source.shown, column=key, rule=rule, count=int(broken.sum()), remedy=remedy)
                return
            owner = known.get_indexer(keys.cast(pa.string()).to_pandas())
            yield np.where(data.is_null().to_numpy(zero_copy_only=False), _EMPTY, owner)
    except (OSError, pa.ArrowInvalid) as error:
        explain(source, error, into)


def _files_by_key(kind: Kind, media: MediaConfig, folder: Path, keys: pd.Index, into: Violations) -> Found | None:
    known = pd.Index(keys.dropna().unique())
    places: list[tuple[str, str]] = []  # key, path
    strangers = 0
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.is_dir():
            inner = [
                (entry.name, p.path)
                for p in sorted(os.scandir(entry.path), key=lambda e: e.name)
                if _ending(p.name) in _ENDINGS[kind]
            ]
            places += inner if entry.name in known else []
            strangers += 0 if entry.name in known else len(inner)
        elif _ending(entry.name) in _ENDINGS[kind]:
            stem = entry.name[: -len(_ending(entry.name))]
            front, _, number = stem.rpartition("_")
            key = stem if stem in known else front if number.isdigit() else ""
            if key in known:
                places.append((key, entry.path))
            else:
                strangers += 1
    if not places:
        into.add(
            file=str(media.folder),
            rule=f"no file's name is an item's ({strangers:,} files with the endings of {kind})",
            remedy=f"files are named <key>.<ending>; the items have e.g. {known[:3].tolist()}",
        )
        return None
    owners = known.get_indexer([key for key, _ in places])
    order = np.argsort(owners, kind="stable")
    numbers = pd.Series(owners[order]).groupby(owners[order]).cumcount()
    files = {f"{kind}:{places[row][0]}:{number}": places[row][1] for row, number in zip(order, numbers, strict=True)}
    by_key = _gather(pa.array(files, pa.string()), owners[order], len(known))
    return _found(_of_items(by_key, known, keys), {"media": len(files), "files_without_item": strangers}, files=files)


def _named_files(kind: Kind, media: MediaConfig, folder: Path, column: pa.Array, into: Violations) -> Found | None:
    lists, _ = to_lists(column, separator=media.separator)
    named = lists.flatten()
    parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    distinct = pc.unique(named).to_pylist()
    files = {}
    for name in distinct:
        path = os.path.normpath(folder / name)
        if os.path.commonpath([path, folder]) == str(folder) and os.path.isfile(path):
            files[name] = path
    if distinct and not files:
        into.add(
            file=str(media.folder),
            column=str(media.item_column),
            rule="none of the files named is in the folder",
            count=len(distinct),
            values=distinct[:SHOWN],
            remedy="file names are relative to the folder",
        )
        return None
    there = pc.is_in(named, value_set=pa.array(files, pa.string()))
    ids = pc.binary_join_element_wise(pa.scalar(kind), named.filter(there), ":")
    references = _gather(ids, parents[there.to_numpy(zero_copy_only=False)], len(lists))
    counts = {"media": len(files), "missing_files": len(distinct) - len(files)}
    return _found(references, counts, files={f"{kind}:{name}": path for name, path in files.items()})


def _found(
    references: pa.Array,
    counts: dict[str, int],
    *,
    files: dict[str, str] | None = None,
    packed: list[tuple[Source, str, pa.Array]] | None = None,
) -> Found:
    with_media = int(pc.sum(pc.greater(pc.list_value_length(references), 0)).as_py() or 0)
    return Found(references, {"items_with": with_media, **counts}, files or {}, packed or [])


def _gather(ids: pa.Array, owners: np.ndarray, count: int) -> pa.Array:
    """[count] list<string>: each owner's ids in order."""
    order = np.argsort(owners, kind="stable")
    return lists_of(ids.take(pa.array(order)), owners[order], count=count)


def _of_items(by_key: pa.Array, known: pd.Index, keys: pd.Index) -> pa.Array:
    """[items] list<string>: the ids of each item's key, none for an item without a key."""
    rows = known.get_indexer(keys)
    rows = np.where((rows < 0) | keys.isna(), len(known), rows)
    return pa.concat_arrays([by_key, pa.array([[]], by_key.type)]).take(pa.array(rows))


def _batches(source: Source, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    start = 0
    with open_parquet(source) as file:
        for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
            yield start, batch.select(columns)
            start += len(batch)


def _bytes_in(column: pa.Array) -> pa.Array | None:
    """The encoded media: the column itself, or the field ``bytes`` of a struct, as Hugging Face's datasets have it."""
    values = plain(column)
    if pa.types.is_struct(values.type) and values.type.get_field_index("bytes") >= 0:
        values = pc.struct_field(values, "bytes")
    kind = values.type
    packed = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return values if packed else None


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()
