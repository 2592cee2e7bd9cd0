"""Building the ``items`` table of the generic adapter from the items file and the files of labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recdistill.contracts import names
from recdistill.contracts.checker import Checker, Origin
from recdistill.contracts.schema import load_contract
from recdistill.contracts.violations import Violations
from recdistill.ingest.columns import Columns
from recdistill.ingest.config import DataConfig, IdType, ItemsConfig, LabelsColumn, MediaConfig
from recdistill.ingest.convert import is_list, lists_of, plain, to_lists, unify_ids
from recdistill.ingest.readers import Block, Source, blocks, read_whole, sources


@dataclass(frozen=True)
class Catalogue:
    """Items as an adapter gives them.

    Attributes:
        table: canonical, one row an item, sorted by id.
        keys: columns of the items file by which media are found, one value an item.
        counts: rows read and dropped, for the report.
    """

    table: pa.Table
    keys: Mapping[str, pa.Array] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ids(self) -> pa.Array:
        return plain(self.table[names.ITEM_ID])


def read_items(config: DataConfig, items: ItemsConfig, into: Violations) -> Catalogue | None:
    """Read the items file and its labels; None, with the reasons noted, if there is none to be had."""
    checker = Checker(load_contract("items"), into=into)
    parts: list[tuple[pa.Table, dict[str, pa.Array]]] = []
    read, without_id = 0, 0
    wanted = media_columns(config.images, config.audio)
    named = {media.item_column for media in (config.images, config.audio) if media is not None}
    for source in sources(items, config.root, into):
        block = read_whole(source, [*_columns(items), *wanted], into)
        if block is None:
            continue
        kept = block.table[items.id].is_valid()
        read, without_id = read + len(kept), without_id + pc.sum(pc.invert(kept), min_count=0).as_py()
        block = Block(block.table.filter(kept), block.rows[kept.to_numpy()])
        table, keys, origin = _convert(items, source, block, {column: column in named for column in wanted}, into)
        checker.add(table, origin)
        parts.append((table, keys))
    checker.finish()
    if not parts:
        return None
    ids = same_type(
        [plain(table[names.ITEM_ID]) for table, _ in parts], config.item_ids, str(items.files[0]), items.id, into
    )
    table = pa.concat_tables([_with_ids(table, part) for (table, _), part in zip(parts, ids, strict=True)])
    for name, labels in items.labels.items():
        if labels.item is not None:
            table = table.append_column(
                names.LABELS_PREFIX + name, labels_of(labels, config, plain(table[names.ITEM_ID]), into)
            )
    order = pc.sort_indices(table[names.ITEM_ID])
    joined = {column: _joined([keys[column] for _, keys in parts]).take(order) for column in wanted}
    return Catalogue(table.take(order), joined, {"rows_read": read, "dropped": {"no id": without_id}})


def media_columns(*configs: MediaConfig | None) -> list[str]:
    """The items file's columns by which media are found."""
    found = [
        column for config in configs if config is not None for column in (config.item_key, config.item_column) if column
    ]
    return list(dict.fromkeys(found))


def same_type(parts: list[pa.Array], kind: IdType, file: str, column: str, into: Violations) -> list[pa.Array]:
    """Ids of all parts in one type; noted if they cannot have the type asked for."""
    unified, holds = unify_ids(parts, kind=kind)
    if not holds:
        into.add(
            file=file,
            column=column,
            rule="ids that are not integers, though int64 is asked for",
            remedy="set data.item_ids to auto or string",
        )
    return unified


def ids_only(ids: pa.Array) -> Catalogue:
    """A catalogue of distinct ids without content."""
    (ids,), _ = unify_ids([ids])
    return Catalogue(pa.table({names.ITEM_ID: ids.take(pc.sort_indices(ids))}))


def add_items(catalogue: Catalogue, ids: pa.Array) -> tuple[Catalogue, int]:
    """The catalogue with those of some distinct ids that it lacks, without content, and their number."""
    have = catalogue.ids
    (have, ids), _ = unify_ids([have, ids])
    new = ids.filter(pc.invert(pc.is_in(ids, value_set=have)))
    columns: dict[str, pa.Array] = {}
    for name in catalogue.table.column_names:
        old = have if name == names.ITEM_ID else plain(catalogue.table[name])
        columns[name] = pa.concat_arrays([old, new if name == names.ITEM_ID else _blank(old.type, len(new))])
    table = pa.table(columns)
    order = pc.sort_indices(table[names.ITEM_ID])
    keys = {
        name: pa.concat_arrays([key, pa.nulls(len(new), key.type)]).take(order) for name, key in catalogue.keys.items()
    }
    return Catalogue(table.take(order), keys, catalogue.counts), len(new)


def _blank(kind: pa.DataType, count: int) -> pa.Array:
    return pa.array([[]] * count, kind) if pa.types.is_list(kind) else pa.nulls(count, kind)


def _columns(items: ItemsConfig) -> Iterable[str]:
    yield items.id
    yield from items.text.values()
    yield from (tags.column for tags in items.tags.values())
    yield from items.numbers.values()
    yield from (labels.column for labels in items.labels.values() if labels.item is None)


def _convert(
    items: ItemsConfig, source: Source, block: Block, keys: Mapping[str, bool], into: Violations
) -> tuple[pa.Table, dict[str, pa.Array], Origin]:
    """Canonical columns, keys of media and where they come from; ``keys``: column → whether it may hold lists."""
    given = Columns(source, block, into)
    columns, spelt = {names.ITEM_ID: given.ids(items.id)}, {names.ITEM_ID: items.id}
    for name, column in items.text.items():
        texts = given.text(column)
        columns[names.TEXT_PREFIX + name] = pc.if_else(
            pc.equal(pc.utf8_trim_whitespace(texts), ""), pa.scalar(None, pa.string()), texts
        )
        spelt[names.TEXT_PREFIX + name] = column
    for name, tags in items.tags.items():
        columns[names.TAGS_PREFIX + name] = given.lists(tags.column, separator=tags.separator)
    for name, column in items.numbers.items():
        columns[names.NUMBER_PREFIX + name] = given.numbers(column)
        spelt[names.NUMBER_PREFIX + name] = column
    for name, labels in items.labels.items():
        if labels.item is None:
            columns[names.LABELS_PREFIX + name] = given.lists(labels.column, separator=labels.separator)
    found = {
        column: given.lists(column) if lists and is_list(block.table[column].type) else given.text(column)
        for column, lists in keys.items()
    }
    return pa.table(columns), found, Origin(source.shown, block.rows, spelt)


def _joined(parts: list[pa.Array]) -> pa.Array:
    """Keys of all files, as lists if some file has lists."""
    lists = any(is_list(part.type) for part in parts)
    return pa.concat_arrays([to_lists(part)[0] if lists else part for part in parts])


def _with_ids(table: pa.Table, ids: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(names.ITEM_ID), names.ITEM_ID, ids)


def labels_of(labels: LabelsColumn, config: DataConfig, ids: pa.Array, into: Violations) -> pa.Array:
    """[items] list<string>: each item's labels in a file of their own, the most frequent first."""
    known = ids.cast(pa.string())
    found: list[pd.DataFrame] = []
    read = 0
    given = sources(labels, config.root, into)
    for source in given:
        for block in blocks(source, [str(labels.item), labels.column], into):
            read += len(block.rows)
            columns = Columns(source, block, into)
            lists = columns.lists(labels.column, separator=labels.separator)
            owners = columns.ids(str(labels.item)).cast(pa.string())
            found_at = pc.index_in(owners, value_set=known, skip_nulls=True)
            rows = pc.fill_null(found_at, -1).to_numpy(zero_copy_only=False)
            frame = pd.DataFrame(
                {"item": rows[pc.list_parent_indices(lists).to_numpy()], "label": lists.flatten().to_pandas()}
            )
            found.append(frame[frame["item"] >= 0])
    pairs = (
        pd.concat(found, ignore_index=True)
        if found
        else pd.DataFrame({"item": pd.Series(dtype=np.int64), "label": pd.Series(dtype=str)})
    )
    if read and pairs.empty:
        into.add(
            file=given[0].shown,
            column=str(labels.item),
            rule="no label belongs to an item",
            remedy="check that this column holds the same ids as the items file",
        )
    counted = (
        pairs.value_counts(["item", "label"])
        .reset_index()
        .sort_values(["item", "count", "label"], ascending=[True, False, True])
    )
    return lists_of(pa.array(counted["label"], pa.string()), counted["item"].to_numpy(np.int64), count=len(ids))
