"""Small raw data sets for the tests of this folder."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from recdistill.contracts.violations import ContractViolations, Violation
from recdistill.ingest import DataConfig, ingest

COLUMNS = {"user": "user", "item": "item", "timestamp": "time", "value": "rating"}
LIKE = [{"name": "like", "column": "rating", "at_least": 4}]
LOG = "user,item,rating,time\nu1,1,5,1000000000\nu1,2,3,1000000060\nu2,1,4,1000000120\nu3,3,1,1000000180\n"
ITEMS = "id,title,genres,year\n1,One,a|b,1999\n2,Two,b,\n3,,,2001\n"


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """Write a file, gzipped if its name says so."""
    data = content.encode() if isinstance(content, str) else content
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    return path


def generic(
    root: Path, *, log: dict[str, Any] | None = None, items: dict[str, Any] | bool | None = True, **more: Any
) -> DataConfig:
    """A recipe's data section for ``LOG`` and ``ITEMS``, with changes."""
    section: dict[str, Any] = {
        "adapter": "generic",
        "root": str(root),
        "interactions": {"path": "log.csv", "columns": COLUMNS, "behaviours": LIKE} | (log or {}),
    }
    if items is not False:
        default = {"path": "items.csv", "id": "id", "text": {"title": "title"}, "numbers": {"year": "year"}}
        section["items"] = (
            default
            | {"tags": {"genres": {"column": "genres", "separator": "|"}}}
            | (items if isinstance(items, dict) else {})
        )
    return DataConfig.model_validate(section | more)


def run(config: DataConfig, out: Path) -> dict[str, list[dict[str, Any]]]:
    """Ingest, and give the tables as rows."""
    ingest(config, out=out)
    return {name: pq.read_table(out / f"{name}.parquet").to_pylist() for name in ("interactions", "items", "media")}


def violations(config: DataConfig, out: Path) -> list[Violation]:
    """Ingest data that are wrong; nothing may be written."""
    try:
        ingest(config, out=out)
    except ContractViolations as error:
        assert not list(out.glob("*")), "bad data must leave nothing behind"
        return list(error.violations)
    raise AssertionError("the data were accepted")
