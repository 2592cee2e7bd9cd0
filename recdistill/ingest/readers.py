"""Reading text and Parquet files block by block: raw columns with the numbers of their rows.

Memory: one block (text: 8 MiB of file; Parquet: 131,072 rows), except for text with a delimiter of several
characters, which is read whole.
"""

from __future__ import annotations

import codecs
import difflib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from recdistill.contracts.violations import SHOWN, Violations
from recdistill.ingest.config import TableFile
from recdistill.ingest.convert import plain
from recdistill.ingest.diagnose import diagnose

_BLOCK_BYTES = 8 << 20
_BATCH_ROWS = 1 << 17
_PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
_TABBED = (".tsv", ".tab", ".data")
_OTHER_DELIMITERS = (",", "\t", ";", "|", "::")
_STAND_IN = "\x1f"  # for a delimiter of several characters, which Arrow does not take


@dataclass(frozen=True)
class Source:
    """One file of a table.

    Attributes:
        path: where it is; shown: as the user named it; form: how it is read.
    """

    path: Path
    shown: str
    form: TableFile

    @property
    def is_parquet(self) -> bool:
        return _plain_suffix(self.path) == ".parquet"

    @property
    def delimiter(self) -> str:
        return self.form.delimiter or ("\t" if _plain_suffix(self.path) in _TABBED else ",")

    @property
    def quote(self) -> str | None:
        if self.form.quote == "auto":
            return None if self.delimiter == "\t" else '"'
        return self.form.quote


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a file.

    Attributes:
        table: the raw columns asked for; text files give strings.
        rows: [n] int64 the rows' numbers in the file, from 1, without the header.
    """

    table: pa.Table
    rows: np.ndarray


def sources(form: TableFile, root: Path | None, into: Violations) -> list[Source]:
    """The files of a table, folders replaced by the files in them; missing ones are noted."""
    found = []
    for given in form.files:
        path = given.expanduser() if root is None else root.expanduser() / given.expanduser()
        if path.is_dir():
            parts = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith((".", "_")))
            found += [Source(part, str(given / part.name), form) for part in parts]
            if not parts:
                into.add(
                    file=str(given),
                    rule="a folder without files",
                    remedy="name the file, or the folder that holds the part files",
                )
        elif path.exists():
            found.append(Source(path, str(given), form))
        else:
            into.add(
                file=str(given),
                rule=f"no such file ({path.absolute()})",
                remedy="check data.root and the path" + _near_file(path),
            )
    return found


def blocks(source: Source, columns: Sequence[str], into: Violations) -> Iterator[Block]:
    """Read some columns of a file. Whatever is wrong with the file is noted, and ends the iteration."""
    wanted = list(dict.fromkeys(columns))
    yield from (_parquet_blocks if source.is_parquet else _text_blocks)(source, wanted, into)


def read_whole(source: Source, columns: Sequence[str], into: Violations) -> Block | None:
    """All rows of some columns, None if the file cannot be read."""
    parts = list(blocks(source, columns, into))
    if not parts:
        return None
    return Block(pa.concat_tables([part.table for part in parts]), np.concatenate([part.rows for part in parts]))


def header(source: Source, into: Violations) -> list[str] | None:
    """Names of a file's columns, None if it cannot be read."""
    try:
        if source.is_parquet:
            with open_parquet(source) as file:
                return list(file.schema_arrow.names)
        return list(_open_text(source, None, _Skipped()).schema.names)
    except (OSError, pa.ArrowInvalid, UnicodeError, LookupError) as error:
        explain(source, error, into)
        return None


def check_columns(source: Source, wanted: Sequence[str], found: Sequence[str], into: Violations) -> bool:
    """Note every wanted column that a file lacks or has twice; True if it has each once."""
    repeated = [column for column in dict.fromkeys(wanted) if list(found).count(column) > 1]
    for column in repeated:
        into.add(
            file=source.shown,
            column=column,
            rule=f"{list(found).count(column)} columns of this name",
            remedy="give every column a name of its own",
        )
    missing = [column for column in wanted if column not in found]
    for column in missing:
        near = difflib.get_close_matches(column, found, n=1)
        remedy = (f"did you mean '{near[0]}'? " if near else "") + f"map one of the columns found: {', '.join(found)}"
        other = [d for d in _OTHER_DELIMITERS if d != source.delimiter and len(found) == 1 and d in found[0]]
        if other and not source.is_parquet:
            remedy = f"the file has one column, '{found[0]}': it seems to be delimited by {other[-1]!r}; set delimiter"
        if f'"{column}"' in found:
            remedy = "the file's values are quoted: set quote: '\"'"
        into.add(file=source.shown, column=column, rule="missing column", remedy=remedy)
    return not missing and not repeated


def open_bytes(path: Path) -> pa.NativeFile:
    """A file's bytes, unpacked if its name says that it is packed."""
    return pa.input_stream(str(path), compression=_PACKED.get(path.suffix.lower()))


@contextmanager
def open_parquet(source: Source) -> Iterator[pq.ParquetFile]:
    """A Parquet file; a packed one, which cannot be read from its end, is unpacked into a temporary file."""
    with ExitStack() as stack:
        if source.path.suffix.lower() not in _PACKED:
            yield stack.enter_context(pq.ParquetFile(source.path))
            return
        unpacked = stack.enter_context(tempfile.TemporaryFile())
        with open_bytes(source.path) as packed:
            shutil.copyfileobj(packed, unpacked, _BLOCK_BYTES)
        unpacked.seek(0)
        yield stack.enter_context(pq.ParquetFile(unpacked))


def is_utf8(path: Path) -> bool:
    """Whether a text file is UTF-8 throughout; False too if it cannot be read."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with open_bytes(path) as stream:
            while chunk := stream.read(_BLOCK_BYTES):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except (OSError, UnicodeDecodeError):
        return False
    return True


class _Skipped:
    """Rows of a text file that have too few or too many values."""

    def __init__(self) -> None:
        self.lines: list[int] = []
        self.texts: list[str] = []
        self.widths = ""

    def __call__(self, row: csv.InvalidRow) -> str:
        self.lines.append(row.number)
        self.texts.append(row.text or "")
        self.widths = self.widths or f"{row.actual_columns} values instead of {row.expected_columns}"
        return "skip"


class _Lines:
    """A byte stream that counts its lines."""

    closed = False

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self._feeds = self._returns = 0
        self._last = b"\n"

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data: bytes = self._stream.read(None if size < 0 else size)
        values = np.frombuffer(data, np.uint8)  # counts several times as fast as bytes do
        self._feeds += int(np.count_nonzero(values == ord("\n")))
        self._returns += int(np.count_nonzero(values == ord("\r")))
        self._last = data[-1:] or self._last
        return data

    def close(self) -> None:
        """Close the stream beneath."""
        self._stream.close()
        self.closed = True

    @property
    def count(self) -> int:
        """Lines read so far."""
        return max(self._feeds, self._returns) + (self._last not in b"\r\n")


def _text_blocks(source: Source, columns: list[str], into: Violations) -> Iterator[Block]:
    found = header(source, into)
    if found is None or not check_columns(source, columns, found, into):
        return
    skipped, headed = _Skipped(), not source.form.column_names
    try:
        with open_bytes(source.path) as stream:
            lines = _Lines(stream)
            done = 0  # rows given
            for block in _numbered(_open_text(source, columns, skipped, lines), skipped, headed):
                done += len(block.rows)
                yield block
        # Blank lines mean nothing; but what else a line was that is no row must have been within quotes.
        if source.quote is not None and not source.form.multiline and lines.count > done + len(skipped.lines) + headed:
            _note_swallowed(source, found, into)
    except (OSError, pa.ArrowInvalid, UnicodeError) as error:
        explain(source, error, into)
    if skipped.lines:
        into.add(
            file=source.shown,
            rule=f"wrong number of values ({skipped.widths})",
            count=len(skipped.lines),
            rows=[line - int(headed) for line in skipped.lines[:5]],
            values=skipped.texts[:5],
            remedy="check delimiter and quote; a value that contains the delimiter must be quoted",
        )


def _numbered(reader: csv.CSVStreamingReader, skipped: _Skipped, headed: bool) -> Iterator[Block]:
    done = 0  # rows given
    for batch in reader:
        rows = np.arange(done + 1, done + len(batch) + 1)
        lost = np.asarray(skipped.lines, dtype=np.int64) - int(headed)
        # The k-th row lost has lost - k rows before it that were kept.
        rows += np.searchsorted(lost - np.arange(1, len(lost) + 1), rows, side="left")
        done += len(batch)
        yield Block(pa.Table.from_batches([batch]), rows)
    if not done:
        yield Block(reader.schema.empty_table(), np.empty(0, np.int64))


def _note_swallowed(source: Source, names: list[str], into: Violations) -> None:
    """Note values of any column that look like several rows: the quote that began one ended in another row."""
    skipped, width = _Skipped(), len(names)
    delimiter = source.delimiter if len(source.delimiter) == 1 else _STAND_IN
    for block in _numbered(_open_text(source, names, skipped, every=True), skipped, not source.form.column_names):
        for place, name in enumerate(names):
            texts = plain(block.table.column(place))
            broken = pc.fill_null(pc.match_substring_regex(texts, r"[\r\n]"), False).to_numpy(zero_copy_only=False)
            rows = [
                row for row in np.flatnonzero(broken) if _like_rows(texts[int(row)].as_py(), delimiter, place, width)
            ]
            if rows:
                into.add(
                    file=source.shown,
                    column=name,
                    rule="line breaks and delimiters within a value, as if an unbalanced quote had swallowed rows",
                    count=len(rows),
                    rows=block.rows[rows[:SHOWN]],
                    values=[texts[int(row)].as_py() for row in rows[:SHOWN]],
                    remedy="mend the quotes; or set quote: null if quotes mean nothing, "
                    "or multiline: true if these are single values",
                )


def _like_rows(text: str, delimiter: str, place: int, width: int) -> bool:
    """Whether a value of column ``place`` of ``width`` is the end of a row, whole rows, and the start of a row."""
    first, *rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    rest = [line for line in rest if line]
    if not rest:
        return False
    whole = all(line.count(delimiter) == width - 1 for line in rest[:-1])
    return whole and first.count(delimiter) == width - 1 - place and rest[-1].count(delimiter) == place


def _open_text(
    source: Source, columns: list[str] | None, skipped: _Skipped, lines: _Lines | None = None, *, every: bool = False
) -> csv.CSVStreamingReader:
    form, delimiter = source.form, source.delimiter
    stream = lines or open_bytes(source.path)
    if len(delimiter) > 1:
        mark = len("".encode(form.encoding))  # the byte order mark that UTF-16 begins with
        before, after = (text.encode(form.encoding)[mark:] for text in (delimiter, _STAND_IN))
        stream = pa.BufferReader(stream.read().replace(before, after))
    names = list(form.column_names)
    return csv.open_csv(
        stream,
        # Arrow numbers faulty rows only without threads; one thread parses about 6M rows a second.
        read_options=csv.ReadOptions(
            use_threads=False, block_size=_BLOCK_BYTES, encoding=form.encoding, column_names=names or None
        ),
        parse_options=csv.ParseOptions(
            delimiter=delimiter if len(delimiter) == 1 else _STAND_IN,
            quote_char=source.quote or False,
            newlines_in_values=source.quote is not None,
            invalid_row_handler=skipped,
        ),
        convert_options=csv.ConvertOptions(
            include_columns=None if every else columns,
            column_types=dict.fromkeys(columns or (), pa.string()),
            null_values=list(form.null_values),
            strings_can_be_null=True,
        ),
    )


def _parquet_blocks(source: Source, columns: list[str], into: Violations) -> Iterator[Block]:
    found = header(source, into)
    if found is None or not check_columns(source, columns, found, into):
        return
    done = 0
    try:
        with open_parquet(source) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
                table = pa.table({name: plain(batch.column(name)) for name in columns})
                yield Block(table, np.arange(done + 1, done + len(batch) + 1))
                done += len(batch)
            if not done:
                empty = file.schema_arrow.empty_table()
                table = pa.table({name: plain(empty[name]) for name in columns})
                yield Block(table, np.empty(0, np.int64))
    except (OSError, pa.ArrowInvalid) as error:
        explain(source, error, into)


def explain(source: Source, error: Exception, into: Violations) -> None:
    """Note why a file could not be read."""
    if isinstance(error, PermissionError):
        into.add(
            file=source.shown, rule="may not be read: permission denied", remedy="give yourself the right to read it"
        )
    elif not source.is_parquet:
        diagnose(source.path, shown=source.shown, encoding=source.form.encoding, error=error, into=into)
    elif source.path.stat().st_size == 0:
        into.add(
            file=source.shown,
            rule="empty file",
            remedy="check that it was written to the end, or take it out of the recipe",
        )
    else:
        into.add(
            file=source.shown,
            rule=f"not a readable Parquet file: {error}",
            remedy="write it again: it may have been cut short",
        )


def _plain_suffix(path: Path) -> str:
    path = Path(path.stem) if path.suffix.lower() in _PACKED else path
    return path.suffix.lower()


def _near_file(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    near = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
