"""Finding out why a text file could not be read, once reading it has failed."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from recdistill.contracts.violations import Violations, show

_CHUNK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"


def diagnose(path: Path, *, shown: str, encoding: str, error: Exception, into: Violations) -> None:
    """Read a file once more, plainly, and note the first fault found.

    Args:
        shown: the file as the user named it; encoding: the one it was read with.
        error: what the reader said, used if the file is sound up to its columns.
    """
    if path.stat().st_size == 0:
        into.add(
            file=shown, rule="empty file", remedy="check that it was written to the end, or take it out of the recipe"
        )
        return
    decoder = _decoder(encoding, shown, into)
    if decoder is None:
        return
    packed = path.suffix.lower() == ".gz"
    bytes_read = lines = 0
    try:
        for chunk in _chunks(path, packed):
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as wrong:
                # wrong.object also holds what an earlier chunk left undecoded
                start = bytes_read + len(chunk) - len(wrong.object) + wrong.start
                line = lines + wrong.object[: wrong.start].count(b"\n") + 1
                _not_text(wrong, shown, encoding, start, line, into)
                return
            bytes_read += len(chunk)
            lines += chunk.count(b"\n")
    except (EOFError, OSError, zlib.error):
        if packed and _first_bytes(path) != _GZIP_MAGIC:
            into.add(
                file=shown, rule="not a gzip file, though its name ends in .gz", remedy="rename it, or compress it"
            )
        else:
            into.add(
                file=shown,
                rule=f"truncated or corrupt gzip file: it breaks after line {lines:,} (byte {bytes_read:,} of text)",
                remedy="copy or download it again; 'gzip -t' tells when it is whole",
            )
        return
    into.add(
        file=shown,
        rule=f"not a readable table: {error}",
        remedy="check delimiter and quote: an unbalanced quote needs quote: null",
    )


def _not_text(wrong: UnicodeDecodeError, shown: str, encoding: str, start: int, line: int, into: Violations) -> None:
    near = wrong.object[max(0, wrong.start - 20) : wrong.start + 20].decode("latin-1")
    if start == 0 and wrong.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        remedy = "the file begins like UTF-16: set encoding: utf-16"
    else:
        remedy = "set encoding to what the file was written in (often latin-1 or cp1252), or convert it to UTF-8"
    into.add(
        file=shown,
        rule=f"not {encoding} text: byte 0x{wrong.object[wrong.start]:02x} at byte {start:,} (line {line:,})",
        values=[near],
        remedy=remedy,
    )


def _decoder(encoding: str, shown: str, into: Violations) -> codecs.IncrementalDecoder | None:
    try:
        return codecs.getincrementaldecoder(encoding)()
    except LookupError:
        into.add(
            file=shown,
            rule=f"unknown encoding {show(encoding)}",
            remedy="use a name that Python knows, e.g. utf-8, latin-1, cp1252, utf-16",
        )
        return None


def _chunks(path: Path, packed: bool) -> Iterator[bytes]:
    # read1 gives what was unpacked before a break; read would lose it.
    with gzip.open(path, "rb") if packed else path.open("rb") as file:
        read: Callable[[int], bytes] = _read1(file)
        while chunk := read(_CHUNK):
            yield chunk


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2)


def _read1(file: gzip.GzipFile | BinaryIO) -> Callable[[int], bytes]:
    return file.read1 if isinstance(file, gzip.GzipFile) else file.read
