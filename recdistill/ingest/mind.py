"""The ``mind`` adapter: impression logs with clicks and real non-clicks.

MIND (Wu et al., "MIND: A Large-scale Dataset for News Recommendation", ACL 2020, section 3): ``behaviors.tsv`` has an
impression a line, with the news shown (clicked or not) and the user's click history; ``news.tsv`` has the content.

The history has no times. It was collected in the weeks before the log, so its clicks are laid strictly before the
log's first impression (of all users and folders): the k-th last click of a user at ``first - k * spacing``. Their order
is kept, their times mean nothing else. A user's history is taken from the user's first impression: later ones repeat
it, and what was clicked in between is in the log itself.

``position`` counts from 1 in the order of the file, which MIND's authors have shuffled. News that only the log names
become items without content.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recdistill.contracts import names
from recdistill.contracts.checker import Checker, Origin
from recdistill.contracts.schema import load_contract
from recdistill.contracts.validate import latest_allowed
from recdistill.contracts.violations import Violations
from recdistill.errors import UserError
from recdistill.ingest.columns import note
from recdistill.ingest.config import DataConfig, TableFile
from recdistill.ingest.convert import plain, to_lists
from recdistill.ingest.events import MASK, Behaviours, finish
from recdistill.ingest.generic import Raw
from recdistill.ingest.items import Catalogue, add_items, ids_only, media_columns
from recdistill.ingest.readers import Block, Source, header, open_bytes, read_whole

BEHAVIOURS = "behaviors.tsv"
NEWS = "news.tsv"
CLICK = "click"
_LOG_COLUMNS = ("impression_id", "user_id", "time", "history", "impressions")
_NEWS_COLUMNS = (
    "news_id",
    "category",
    "subcategory",
    "title",
    "abstract",
    "url",
    "title_entities",
    "abstract_entities",
)
_SHOWN = r"^(?P<item>.+)-(?P<clicked>[01])$"
_WELL_QUOTED = re.compile(rb'"(?:[^"]|"")*"')
_SNIFFED = 1 << 20


@dataclass(frozen=True)
class Impressions:
    """Rows of behaviors.tsv of one folder. [r] rows; ``time`` in microseconds."""

    prefix: str
    impression: pa.Array
    user: pa.Array
    time: np.ndarray
    history: pa.Array
    shown: pa.Array


def find_files(config: DataConfig) -> list[tuple[Path, Path]]:
    """(behaviors, news) of each folder, relative to the root.

    Raises:
        UserError: a folder lacks one of them.
    """
    found = []
    for folder in config.mind.folders:
        pair = []
        for name in (BEHAVIOURS, NEWS):
            there = next((folder / n for n in (name, f"{name}.gz") if config.resolve(folder / n).is_file()), None)
            if there is None:
                raise UserError(
                    f"{config.resolve(folder)}: neither {name} nor {name}.gz is here",
                    remedy="set data.root and data.mind.folders to the unpacked set",
                )
            pair.append(there)
        found.append((pair[0], pair[1]))
    return found


def read_mind(config: DataConfig, into: Violations) -> Raw | None:
    """Read a set; None, with the reasons noted, if it cannot be used.

    Memory: the text of behaviors.tsv twice, and about 60 bytes a shown or formerly clicked item.
    """
    files = find_files(config)
    logs = [_read_log(config, path, into, prefix=f"{path.parent}/" if len(files) > 1 else "") for path, _ in files]
    catalogue = _read_news(config, [path for _, path in files], into)
    if len(into) or catalogue is None:
        return None
    behaviours = Behaviours()
    click = behaviours.bit(CLICK)
    read = [log for log in logs if log is not None]
    chunks = [_explode(log, click) for log in read]
    shown = sum(map(len, chunks))
    past = _past(read, click, spacing=int(config.mind.history_spacing_seconds * 1e6)) if config.mind.history else None
    chunks += [past] if past is not None else []
    done = finish(
        chunks,
        behaviours,
        user_ids=config.user_ids,
        item_ids=config.item_ids,
        merge_within_seconds=None,
        file=", ".join(str(path) for path, _ in files),
        into=into,
    )
    if done is None:
        return None
    catalogue, added = add_items(catalogue, pc.unique(done.table[names.ITEM_ID]))
    counts = {
        "interactions": {
            "rows_read": sum(len(log.time) for log in read),
            "shown_items": shown,
            "history_clicks": len(past) if past is not None else 0,
            "rows_kept": len(done.table),
            "dropped": {"exact duplicate": done.duplicates},
        },
        "items": {**catalogue.counts, "added from the log": added},
    }
    return Raw(done.table, catalogue, counts)


def _source(config: DataConfig, path: Path, columns: tuple[str, ...], into: Violations) -> Source:
    """The file with the right guess of header line and quoting: the original has neither, rewritten copies both."""
    plain_form = TableFile(path=path, delimiter="\t", quote=None, column_names=columns)
    bare = Source(config.resolve(path), str(path), plain_form)
    first = header(Source(bare.path, bare.shown, plain_form.model_copy(update={"column_names": ()})), into)
    headed = first is not None and columns[0] in first
    try:
        with open_bytes(bare.path) as stream:
            quoted = _is_quoted(stream.read(_SNIFFED))
    except OSError:  # noted when it is read
        quoted = False
    update = {"column_names": () if headed else columns, "quote": '"' if quoted else None}
    return Source(bare.path, bare.shown, plain_form.model_copy(update=update))


def _is_quoted(start: bytes) -> bool:
    """Whether the start of a file was written with quoting: quotes are doubled, and every field with one is quoted."""
    if b'""' not in start:
        return False
    whole = start[: start.rfind(b"\n") + 1] or start
    fields = (field for line in whole.splitlines() if b'"' in line for field in line.split(b"\t") if b'"' in field)
    return all(_WELL_QUOTED.fullmatch(field) for field in fields)


def _read_log(config: DataConfig, path: Path, into: Violations, *, prefix: str) -> Impressions | None:
    source = _source(config, path, _LOG_COLUMNS, into)
    block = read_whole(source, _LOG_COLUMNS, into)
    if block is None:
        return None
    table = block.table
    for column in ("impression_id", "user_id", "time", "impressions"):
        note(source, column, "null", table[column].is_null().to_numpy(), block, into, "drop those rows")
    times = pd.to_datetime(table["time"].to_pandas(), format="%m/%d/%Y %I:%M:%S %p", errors="coerce", utc=True)
    broken = times.isna().to_numpy() & table["time"].is_valid().to_numpy()
    note(
        source,
        "time",
        "not a time like 11/15/2019 8:55:22 AM",
        broken,
        block,
        into,
        "write times as MIND does: m/d/Y h:M:S AM or PM",
    )
    shown = pc.utf8_split_whitespace(plain(table["impressions"]))
    faulty = pc.match_substring_regex(shown.flatten(), _SHOWN).to_numpy(zero_copy_only=False)
    rows = np.zeros(len(table), dtype=bool)
    rows[pc.list_parent_indices(shown).to_numpy()[~faulty]] = True
    note(
        source,
        "impressions",
        "not 'newsid-0 newsid-1 …'",
        rows,
        block,
        into,
        "each shown item ends in -1 (clicked) or -0; MIND's test set has no clicks",
    )
    stamps = pa.array(times, pa.timestamp("us", "UTC"))
    if not len(into):
        checked = pa.table(
            {
                names.USER_ID: plain(table["user_id"]),
                names.ITEM_ID: plain(table["impressions"]),
                names.TIMESTAMP: stamps,
            }
        )
        checker = Checker(
            load_contract("interactions"),
            into=into,
            latest=latest_allowed(config.future_tolerance_hours),
            ignore=(names.BEHAVIOURS,),
        )
        checker.add(checked, Origin(source.shown, block.rows, {names.TIMESTAMP: "time"}))
        checker.finish()
    history = to_history(plain(table["history"]))
    return Impressions(
        prefix,
        plain(table["impression_id"]),
        plain(table["user_id"]),
        stamps.cast(pa.int64()).to_numpy(zero_copy_only=False),
        history,
        shown,
    )


def to_history(texts: pa.Array) -> pa.Array:
    """[r] list<string> of clicked items, repeats kept; null and empty texts give empty lists."""
    trimmed = pc.fill_null(pc.utf8_trim_whitespace(texts), "")
    lists = pc.utf8_split_whitespace(trimmed)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar([], lists.type), lists)


def _explode(log: Impressions, click: int) -> pa.Table:
    parents = pc.list_parent_indices(log.shown).to_numpy()
    starts = np.concatenate([[0], np.cumsum(pc.list_value_length(log.shown).to_numpy())])
    split = pc.extract_regex(log.shown.flatten(), _SHOWN)
    rows = pa.array(parents)
    clicked = pc.equal(pc.struct_field(split, "clicked"), "1").to_numpy(zero_copy_only=False)
    return pa.table({
        names.USER_ID: log.user.take(rows),
        names.ITEM_ID: pc.struct_field(split, "item"),
        names.TIMESTAMP: pa.array(log.time[parents], pa.timestamp("us", "UTC")),
        names.IMPRESSION_ID: pc.binary_join_element_wise(log.prefix, log.impression.take(rows), ""),
        names.POSITION: pa.array((np.arange(len(parents)) - starts[parents] + 1).astype(np.int16)),
        MASK: pa.array(np.where(clicked, click, 0).astype(np.int64)),
    })  # fmt: skip


def _past(logs: list[Impressions], click: int, *, spacing: int) -> pa.Table:
    """Each user's history, as of the user's first impression, before the log."""
    users = pa.concat_arrays([log.user for log in logs])
    time = np.concatenate([log.time for log in logs])
    history = pa.concat_arrays([log.history for log in logs])
    lengths = pc.list_value_length(history).to_numpy()
    # The longest history decides among impressions of one second: it is the latest.
    first = pd.DataFrame({"user": users.to_pandas(), "time": time, "length": -lengths}).sort_values(
        ["user", "time", "length"], kind="stable"
    )
    chosen = pa.array(np.sort(first.drop_duplicates("user").index.to_numpy()))
    history, users = history.take(chosen), users.take(chosen)
    parents = pc.list_parent_indices(history).to_numpy()
    ends = np.cumsum(pc.list_value_length(history).to_numpy())
    before = ends[parents] - np.arange(len(parents))  # 1 for the last click
    return pa.table({
        names.USER_ID: users.take(pa.array(parents)),
        names.ITEM_ID: history.flatten(),
        names.TIMESTAMP: pa.array(time.min() - before * spacing, pa.timestamp("us", "UTC")),
        names.IMPRESSION_ID: pa.nulls(len(parents), pa.string()),
        names.POSITION: pa.nulls(len(parents), pa.int16()),
        MASK: pa.array(np.full(len(parents), click, dtype=np.int64)),
    })  # fmt: skip


def _read_news(config: DataConfig, paths: list[Path], into: Violations) -> Catalogue | None:
    if media_columns(config.images, config.audio):
        raise UserError(
            "MIND's news.tsv has no column of media",
            remedy="name media files by the news id, without item_key and item_column",
        )
    parts, read = [], 0
    for path in paths:
        source = _source(config, path, _NEWS_COLUMNS, into)
        block = read_whole(source, _NEWS_COLUMNS[:5], into)
        if block is None:
            continue
        read += len(block.rows)
        parts.append(_news(source, block, into))
    if not parts:
        return None
    table = pa.concat_tables(parts)
    rows = pd.Index(table[names.ITEM_ID].to_pandas())
    table = table.filter(pa.array(~rows.duplicated()))  # folders share news
    if not len(table):
        return ids_only(pa.array([], pa.string()))
    if config.item_ids == "int64":
        into.add(
            file=str(paths[0]),
            column="news_id",
            rule="ids that are not integers, though int64 is asked for",
            remedy="set data.item_ids to auto or string",
        )
    return Catalogue(
        table.take(pc.sort_indices(table[names.ITEM_ID])),
        {},
        {"rows_read": read, "dropped": {"repeats in another folder": read - len(table)}},
    )


def _news(source: Source, block: Block, into: Violations) -> pa.Table:
    raw = block.table
    table = pa.table({
        names.ITEM_ID: plain(raw["news_id"]),
        f"{names.TEXT_PREFIX}title": plain(raw["title"]),
        f"{names.TEXT_PREFIX}abstract": plain(raw["abstract"]),
        f"{names.TAGS_PREFIX}category": to_lists(raw["category"])[0],
        f"{names.TAGS_PREFIX}subcategory": to_lists(raw["subcategory"])[0],
    })  # fmt: skip
    checker = Checker(load_contract("items"), into=into)
    checker.add(table, Origin(source.shown, block.rows, {names.ITEM_ID: "news_id"}))
    checker.finish()
    return table
