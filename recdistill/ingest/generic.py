"""The ``generic`` adapter: any log and any items file, by the mapping of the recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recdistill.contracts import names, rules
from recdistill.contracts.behaviour_rule import BehaviourRule
from recdistill.contracts.checker import Checker, Origin
from recdistill.contracts.schema import load_contract
from recdistill.contracts.validate import latest_allowed
from recdistill.contracts.violations import Violations
from recdistill.ingest.columns import Columns
from recdistill.ingest.config import DataConfig, InteractionsConfig
from recdistill.ingest.convert import plain
from recdistill.ingest.events import MASK, Behaviours, finish
from recdistill.ingest.items import Catalogue, add_items, ids_only, read_items
from recdistill.ingest.readers import Block, Source, blocks, sources

_TRUE = ("true", "t", "yes", "1")


@dataclass(frozen=True)
class Raw:
    """What an adapter gives: canonical tables, and what became of the rows read."""

    interactions: pa.Table
    catalogue: Catalogue
    counts: dict[str, Any] = field(default_factory=dict)


def read_generic(config: DataConfig, into: Violations) -> Raw | None:
    """Read by the recipe's mapping; None, with all reasons noted, if the data cannot be used.

    Memory: the converted log (about 30 bytes an event, plus ids that are texts) three times while it is put in order.
    """
    assert config.interactions is not None
    catalogue = read_items(config, config.items, into) if config.items is not None else None
    return assemble(config, config.interactions, catalogue, into, has_items=config.items is not None)


def assemble(
    config: DataConfig, log: InteractionsConfig, catalogue: Catalogue | None, into: Violations, *, has_items: bool
) -> Raw | None:
    """Read the log of ``log`` against a catalogue (None: it could not be read, or there is none to read)."""
    behaviours = Behaviours()
    known = None if catalogue is None else catalogue.ids
    latest = latest_allowed(config.future_tolerance_hours)
    refused = {"items.item_id": known} if known is not None and config.unknown_items == "error" else {}
    checker = Checker(
        load_contract("interactions"), into=into, latest=latest, known=refused, ignore=(names.BEHAVIOURS,)
    )
    chunks: list[pa.Table] = []
    unknown_events = 0
    given = sources(log, config.root, into)
    for source in given:
        for block in blocks(source, _columns(log), into):
            chunk, rows = _convert(log, source, block, behaviours, into)
            checker.add(chunk, Origin(source.shown, rows, _spelt(log)))
            if known is not None and config.unknown_items == "drop":
                unknown = rules.is_unknown(plain(chunk[names.ITEM_ID]), known)
                unknown_events += int(unknown.sum())
                chunk = chunk.filter(pa.array(~unknown))
            chunks.append(chunk)
    checker.finish()
    if len(into) or (has_items and catalogue is None):
        return None
    file = ", ".join(source.shown for source in given)
    if unknown_events == checker.rows:
        into.add(
            file=file,
            column=log.columns.item,
            rule="no event's item is in the items file",
            remedy="check that both columns hold the same ids",
        )
        return None
    done = finish(
        chunks,
        behaviours,
        user_ids=config.user_ids,
        item_ids=config.item_ids,
        merge_within_seconds=log.merge_within_seconds,
        file=file,
        into=into,
    )
    if done is None:
        return None
    table, added = done.table, 0
    if catalogue is None:
        catalogue = ids_only(pc.unique(table[names.ITEM_ID]))
    elif config.unknown_items == "add":
        catalogue, added = add_items(catalogue, pc.unique(table[names.ITEM_ID]))
    if pa.types.is_integer(table[names.ITEM_ID].type) != pa.types.is_integer(catalogue.ids.type):
        table = table.set_column(1, names.ITEM_ID, table[names.ITEM_ID].cast(catalogue.ids.type))
    counts = {
        "interactions": {
            "rows_read": checker.rows,
            "rows_kept": len(table),
            "dropped": {
                "exact duplicate": done.duplicates,
                "merged into a later event": done.merged,
                "unknown item": unknown_events,
            },
        },
        "items": {**catalogue.counts, "added from the log": added},
    }
    return Raw(table, catalogue, counts)


def _columns(log: InteractionsConfig) -> list[str]:
    wanted = [name for name in log.columns.model_dump().values() if name is not None]
    wanted += [rule.column for rule in log.behaviours if rule.column is not None]
    return wanted + ([log.behaviour_column] if log.behaviour_column is not None else [])


def _spelt(log: InteractionsConfig) -> dict[str, str]:
    """Canonical column → the log's own name of it."""
    c = log.columns
    pairs = {
        names.USER_ID: c.user,
        names.ITEM_ID: c.item,
        names.TIMESTAMP: c.timestamp,
        names.VALUE: c.value,
        names.IMPRESSION_ID: c.impression,
        names.POSITION: c.position,
        names.DWELL: c.dwell,
        names.SESSION_ID: c.session,
    }
    return {name: column for name, column in pairs.items() if column is not None}


def _convert(
    log: InteractionsConfig, source: Source, block: Block, behaviours: Behaviours, into: Violations
) -> tuple[pa.Table, np.ndarray]:
    """A block's canonical columns and the numbers of its rows, without the rows that do not convert."""
    given, spelt = Columns(source, block, into), _spelt(log)
    columns = {name: given.ids(spelt[name]) for name in (names.USER_ID, names.ITEM_ID)}
    columns[names.TIMESTAMP] = given.times(spelt[names.TIMESTAMP], unit=log.timestamp_unit, origin=log.utc_origin)
    for name in (names.VALUE, names.DWELL):
        if name in spelt:
            scale = 1e-3 if name == names.DWELL and log.dwell_unit == "ms" else 1.0
            columns[name] = pc.multiply(given.numbers(spelt[name]), scale).cast(pa.float32(), safe=False)
    if names.POSITION in spelt:
        numbers = given.numbers(spelt[names.POSITION])
        faults = _no_int16(numbers)
        remedy = "mend the values, or leave position out"
        given.note(spelt[names.POSITION], "not a whole number below 32,768", faults, remedy)
        columns[names.POSITION] = pc.if_else(pa.array(faults), pa.scalar(None, pa.float64()), numbers).cast(pa.int16())
    for name in (names.IMPRESSION_ID, names.SESSION_ID):
        if name in spelt:
            columns[name] = given.text(spelt[name])
    mask = _by_rules(log.behaviours, given, behaviours, count=len(block.rows))
    if log.behaviour_column is not None:
        mask |= _by_kind(log, log.behaviour_column, given, behaviours)
    columns[MASK] = pa.array(mask)
    return pa.table(columns).filter(pa.array(~given.broken)), block.rows[~given.broken]


def _by_rules(
    rules_given: tuple[BehaviourRule, ...], given: Columns, behaviours: Behaviours, *, count: int
) -> np.ndarray:
    """[n] int64 masks."""
    mask = np.zeros(count, dtype=np.int64)
    for rule in rules_given:
        bit = behaviours.bit(rule.name)
        if rule.column is None:
            mask |= bit
            continue
        if rule.one_of or isinstance(rule.equals, (str, bool)):
            texts = given.text(rule.column)
            if isinstance(rule.equals, bool):
                holds = pc.is_in(pc.utf8_lower(texts), value_set=pa.array(_TRUE))
                holds = holds if rule.equals else pc.and_(pc.invert(holds), texts.is_valid())
            else:
                holds = pc.is_in(texts, value_set=pa.array(rule.one_of or [rule.equals], texts.type))
        elif rule.at_least is not None:
            holds = pc.greater_equal(given.numbers(rule.column), rule.at_least)
        elif rule.at_most is not None:
            holds = pc.less_equal(given.numbers(rule.column), rule.at_most)
        else:
            holds = pc.equal(given.numbers(rule.column), float(rule.equals or 0))
        mask[pc.fill_null(holds, False).to_numpy(zero_copy_only=False)] |= bit
    return mask


def _by_kind(log: InteractionsConfig, column: str, given: Columns, behaviours: Behaviours) -> np.ndarray:
    kinds = given.text(column).dictionary_encode()
    bits, unmapped = (
        np.zeros(len(kinds.dictionary) + 1, dtype=np.int64),
        np.zeros(len(kinds.dictionary) + 1, dtype=bool),
    )
    for row, kind in enumerate(kinds.dictionary.to_pylist()):
        label = log.behaviour_map.get(kind) if log.behaviour_map else kind
        unmapped[row] = bool(log.behaviour_map) and kind not in log.behaviour_map
        if label is not None:
            bits[row] = behaviours.bit(label)
    rows = pc.fill_null(kinds.indices, len(kinds.dictionary)).to_numpy(zero_copy_only=False)
    given.note(
        column,
        "kind of event that behaviour_map lacks",
        unmapped[rows],
        "add it to behaviour_map, with null if it is no positive behaviour",
    )
    return bits[rows]


def _no_int16(numbers: pa.Array) -> np.ndarray:
    values = numbers.to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        faults: np.ndarray = (np.abs(values) > np.iinfo(np.int16).max) | (np.floor(values) != values)
    return faults & ~np.isnan(values)
