"""Writing the journal: everything that a run says of itself, on disk before anything is sent.

``recdistill/contracts/journal.py`` says what is in it, and reads it.
"""

from __future__ import annotations

import io
import json
import math
import os
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recdistill.contracts.journal import FOLDER


def now() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


class Journal:
    """The writing end; safe to use from several threads. ``write`` raises ``OSError`` when the disk refuses."""

    def __init__(self, out: Path) -> None:
        self.path = out / FOLDER / f"journal-{time.time_ns():019d}-{os.getpid()}-{secrets.token_hex(3)}.jsonl"
        self._lock = threading.Lock()
        self._torn = False
        self._file: io.FileIO | None = None

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record with a single write."""
        line = json.dumps(encode(record), ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"
        with self._lock:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("ab", buffering=0)
            if self._torn:
                line = b"\n" + line
            self._torn = self._file.write(line) != len(line)
            if self._torn:
                raise OSError(f"{self.path}: the disk took only a part of a record")

    def close(self) -> None:
        """Close the file; a process that wrote nothing leaves none."""
        with self._lock:
            if self._file is not None:
                self._file.close()


def encode(value: Any) -> Any:
    """JSON has no NaN or infinity: they travel as text, which ``float`` reads back."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: encode(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [encode(part) for part in value]
    return value
