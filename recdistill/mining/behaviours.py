"""Which positive behaviours an event carries: the log's labels, some of them, and what rules read from other columns.

Shapes: n events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recdistill.contracts import names
from recdistill.contracts.behaviour_rule import BehaviourRule
from recdistill.errors import UserError
from recdistill.mining.config import MiningConfig


def needed_columns(config: MiningConfig) -> list[str]:
    """Columns of the interactions table that :func:`relabel` reads."""
    read = [rule.column for rule in config.behaviours if rule.column is not None]
    return [names.BEHAVIOURS, *dict.fromkeys(read)]


def relabel(table: pa.Table, config: MiningConfig) -> pa.Table:
    """The table with the behaviours that the settings ask for in place of its own.

    Raises:
        UserError: a rule's column is not in the table, or is no number where a number is compared.
    """
    if config.labels is None and not config.behaviours:
        return table
    lists = table[names.BEHAVIOURS].combine_chunks()
    rows, labels = pc.list_parent_indices(lists).to_numpy(), pc.cast(lists.flatten(), pa.string())
    if config.labels is not None:
        counts = pc.is_in(labels, value_set=pa.array(config.labels, pa.string()))
        rows, labels = rows[counts.to_numpy(zero_copy_only=False)], labels.filter(counts)
    parts, kinds = [rows], [labels]
    for rule in config.behaviours:
        holds = np.flatnonzero(_holds(rule, table))
        parts.append(holds)
        kinds.append(pa.array(np.full(len(holds), rule.name, dtype=object), pa.string()))
    row = np.concatenate(parts)
    order = np.argsort(row, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(table)))])
    values = pa.concat_arrays([part.combine_chunks() if isinstance(part, pa.ChunkedArray) else part for part in kinds])
    made = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values.take(pa.array(order)))
    return table.set_column(table.schema.get_field_index(names.BEHAVIOURS), names.BEHAVIOURS, made)


def kinds_of(tables: Iterable[pa.Table], config: MiningConfig) -> set[str]:
    """The labels that occur in tables after :func:`relabel`."""
    found: set[str] = set()
    for table in tables:
        lists = relabel(table, config)[names.BEHAVIOURS].combine_chunks()
        found.update(label for label in pc.unique(lists.flatten()).to_pylist() if label is not None)
    return found


def check_labels(kinds: Sequence[str], config: MiningConfig) -> None:
    """Refuse settings that name a label which no event carries.

    Raises:
        UserError: naming it.
    """
    absent = sorted(set(config.labels or ()) - set(kinds))
    if absent:
        raise UserError(
            f"mining.labels names {', '.join(absent)}, which no event of the training log carries",
            remedy=f"labels that occur: {', '.join(kinds) or 'none of those named'}",
        )


def _holds(rule: BehaviourRule, table: pa.Table) -> np.ndarray:
    """[n] bool."""
    if rule.column is None:
        return np.ones(len(table), dtype=bool)
    if rule.column not in table.column_names:
        raise UserError(
            f"the behaviour '{rule.name}' of mining.behaviours reads '{rule.column}', which the interactions lack",
            remedy="name a column that the log has, or give it under data.interactions.columns",
        )
    column = table[rule.column]
    if rule.one_of or isinstance(rule.equals, str):
        texts = rule.one_of or (str(rule.equals),)
        holds = pc.is_in(pc.cast(column, pa.string()), value_set=pa.array(texts, pa.string()))
    elif not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise UserError(
            f"the behaviour '{rule.name}' of mining.behaviours compares '{rule.column}' with a number; "
            f"the column is {column.type}",
            remedy="use equals or one_of with texts",
        )
    elif rule.at_least is not None:
        holds = pc.greater_equal(column, rule.at_least)
    elif rule.at_most is not None:
        holds = pc.less_equal(column, rule.at_most)
    else:
        holds = pc.equal(column, float(rule.equals or 0))
    return np.asarray(pc.fill_null(holds, False).to_numpy(zero_copy_only=False))
