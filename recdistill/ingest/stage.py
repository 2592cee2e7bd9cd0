"""The ``ingest`` stage: a recipe's data → canonical tables that satisfy their contracts.

Memory: the converted log and its sorting (about 200 bytes an event), the items file, one batch of media. The planted
world and the checks run part by part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from recdistill.contracts import names
from recdistill.contracts.schema import load_contract
from recdistill.contracts.tables import read_table, write_json, write_table
from recdistill.contracts.validate import latest_allowed, validate_file
from recdistill.contracts.violations import Violations
from recdistill.ingest import mind, movielens
from recdistill.ingest.config import DataConfig, MediaConfig, TableFile
from recdistill.ingest.files import INTERACTIONS, ITEMS, MEDIA, QUERIES
from recdistill.ingest.generic import read_generic
from recdistill.ingest.media import Found, find_media, write_media
from recdistill.ingest.queries import read_queries
from recdistill.ingest.readers import sources
from recdistill.ingest.summary import summarise_interactions, summarise_items, summarise_queries
from recdistill.ingest.synthetic import write_world

VALIDATION = "validation.json"

_READERS = {"generic": read_generic, "movielens": movielens.read_movielens, "mind": mind.read_mind}
_TABLES = ("interactions", "items", "media")


def ingest(config: DataConfig, *, out: Path) -> None:
    """Write ``out/{interactions,items,media}.parquet``, ``queries`` if there are any, and ``out/validation.json``.

    ``validation.json`` says what was read, kept and dropped and why, and gives warnings. A user without any positive
    behaviour is legitimate and counted; a log without any is refused.

    Raises:
        ContractViolations: the data break their contracts or cannot be read; every violation of every file is listed.
        UserError: files of a known set are not where the recipe says.
    """
    if config.adapter == "synthetic":
        write_world(config.world, out=out)
        report: dict[str, Any] = {}
    else:
        report = _read(config, out)
    check_tables(out, tolerance_hours=config.future_tolerance_hours)
    log, items = summarise_interactions(out / INTERACTIONS), summarise_items(out / ITEMS)
    warnings = _warnings(log, items, report)
    searches = {"queries": summarise_queries(out / QUERIES)} if config.queries is not None else {}
    versions = {name: load_contract(name).version for name in (*_TABLES, *searches)}
    write_json(
        {
            "adapter": config.adapter,
            "read": report,
            "interactions": log,
            "items": items,
            **searches,
            "contracts": versions,
            "warnings": warnings,
        },
        out / VALIDATION,
    )


def check_tables(data: Path, *, tolerance_hours: float) -> None:
    """Check the tables that ``ingest`` has written (or that the user brings) against their contracts.

    Raises:
        ContractViolations: all violations.
    """
    into = Violations()
    media = validate_file(data / MEDIA, "media", into=into)
    known = {}
    if media and not len(into):
        known["media.media_id"] = _column(data / MEDIA, names.MEDIA_ID)
    elif not len(into):
        known["media.media_id"] = pa.array([], pa.string())
    validate_file(data / ITEMS, "items", into=into, known=known)
    if not len(into):
        known["items.item_id"] = _column(data / ITEMS, names.ITEM_ID)
    latest = latest_allowed(tolerance_hours)
    validate_file(data / INTERACTIONS, "interactions", into=into, known=known, latest=latest)
    if (data / QUERIES).exists():
        validate_file(data / QUERIES, "queries", into=into, known=known, latest=latest)
    into.raise_if_any()


def input_fingerprint(config: DataConfig) -> str:
    """SHA-256 over the contents of all input files, in the recipe's order; of a planted world, over its settings.

    Files within a media folder count with their names, since those say which item they belong to. The place of the
    data does not count.

    Raises:
        UserError: a file is missing.
    """
    digest = hashlib.sha256()
    if config.adapter == "synthetic":
        digest.update(json.dumps(config.world.model_dump(mode="json"), sort_keys=True).encode())
        return digest.hexdigest()
    for role, path in _inputs(config):
        digest.update(f"{role}\n".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _read(config: DataConfig, out: Path) -> dict[str, Any]:
    into = Violations()
    raw = _READERS[config.adapter](config, into)
    into.raise_if_any()
    assert raw is not None
    table, report, found = raw.catalogue.table, dict(raw.counts), list[Found]()
    for kind in ("images", "audio"):
        media: MediaConfig | None = getattr(config, kind)
        if media is None:
            continue
        part = find_media(kind, media, config, raw.catalogue, into)
        if part is not None:
            found.append(part)
            table = table.append_column({"images": names.IMAGES, "audio": names.AUDIO}[kind], part.references)
            report[kind] = part.counts
    searches = None
    if config.queries is not None:
        searches = read_queries(
            config,
            config.queries,
            into,
            item_ids=raw.catalogue.ids,
            user_type=raw.interactions.schema.field(names.USER_ID).type,
        )
    into.raise_if_any()
    write_media(found, out / MEDIA)
    if searches is not None:
        report["queries"] = searches[1]
        write_table(searches[0], out / QUERIES, metadata={"adapter": config.adapter})
    write_table(table, out / ITEMS, metadata={"adapter": config.adapter})
    write_table(raw.interactions, out / INTERACTIONS, metadata={"adapter": config.adapter})
    return report


def _warnings(log: dict[str, Any], items: dict[str, Any], report: dict[str, Any]) -> list[str]:
    found = []
    if negative := log["users_without_positive"]:
        who = "user has" if negative == 1 else "users have"
        found.append(f"{negative:,} {who} no positive behaviour (of {log['users']:,}): nothing is asked about them")
    for reason, count in report.get("interactions", {}).get("dropped", {}).items():
        if count:
            found.append(f"interactions dropped: {count:,} ({reason})")
    for table in ("items", "queries"):
        for reason, count in report.get(table, {}).get("dropped", {}).items():
            if count:
                found.append(f"{table} dropped: {count:,} ({reason})")
    if added := report.get("items", {}).get("added from the log"):
        found.append(f"{added:,} items are known from the log only, without content")
    for kind in ("images", "audio"):
        for what, count in report.get(kind, {}).items():
            if count and what not in ("media", "items_with"):
                found.append(f"{kind}: {count:,} {what.replace('_', ' ')}")
    if items["items"] > log["items"]:
        found.append(f"{items['items'] - log['items']:,} of {items['items']:,} items have no interaction")
    return found


def _inputs(config: DataConfig) -> Iterator[tuple[str, Path]]:
    """What the fingerprint covers: (role, file)."""
    into = Violations()
    tables: list[tuple[str, TableFile]] = []
    if config.adapter == "movielens":
        _, files = movielens.find_files(config)
        yield from ((part, config.resolve(path)) for part, path in sorted(files.items()))
    elif config.adapter == "mind":
        for pair in mind.find_files(config):
            yield from ((str(path.parent), config.resolve(path)) for path in pair)
    if config.interactions is not None:
        tables.append(("interactions", config.interactions))
    if config.items is not None:
        tables.append(("items", config.items))
        tables += [(f"labels/{name}", labels) for name, labels in config.items.labels.items() if labels.files]
    if config.queries is not None:
        tables.append(("queries", config.queries))
    for kind in ("images", "audio"):
        media: MediaConfig | None = getattr(config, kind)
        if media is not None and media.files:
            tables.append((kind, TableFile(paths=media.files)))
        elif media is not None and media.folder is not None:
            folder = config.resolve(media.folder)
            if not folder.is_dir():
                into.add(
                    file=str(media.folder), rule=f"no such folder ({folder})", remedy="check data.root and the folder"
                )
            yield from (
                (f"{kind}/{path.relative_to(folder)}", path) for path in sorted(folder.rglob("*")) if path.is_file()
            )
    for role, form in tables:
        yield from ((f"{role}/{number}", source.path) for number, source in enumerate(sources(form, config.root, into)))
    into.raise_if_any()


def _column(path: Path, name: str) -> pa.Array:
    return read_table(path, columns=[name])[name].combine_chunks()
