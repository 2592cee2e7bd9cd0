"""Data contracts as code reads them.

The files in ``data_contracts`` follow the Open Data Contract Standard v3
(https://bitol-io.github.io/open-data-contract-standard). Three conventions of ours are written in its extension points:
``physicalType`` may name alternatives (``string | int64``); the custom property ``prefix`` makes a property stand for
all columns that begin with its name, and ``optional`` says that a column may be absent; quality rules of the engine
``recdistill`` are those of ``contracts.rules``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa
from open_data_contract_standard.model import DataQuality, OpenDataContractStandard, SchemaProperty

from recdistill.errors import UserError
from recdistill.resources import data_contracts

ENGINE = "recdistill"

_SCALARS: Mapping[str, tuple[pa.DataType, ...]] = {
    "string": (pa.string(), pa.large_string()),
    "binary": (pa.binary(), pa.large_binary()),
    "int16": (pa.int16(),),
    "int32": (pa.int32(),),
    "int64": (pa.int64(),),
    "float32": (pa.float32(),),
    "float64": (pa.float64(),),
    "timestamp[us, UTC]": (pa.timestamp("us", "UTC"),),
}


@dataclass(frozen=True)
class Rule:
    """A quality rule of the engine ``recdistill``: its name and its arguments."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One property of a contract.

    Attributes:
        name: the column's name, or the beginning of a family's names.
        types: physical types allowed, as they are spelt in the contract.
        required: nulls are refused.
        optional: the column may be absent.
        prefix: stands for all columns that begin with ``name``.
        elements_required: nulls within lists are refused.
        minimum, maximum: closed bounds of numbers, if any.
        pattern: regular expression that strings satisfy, if any.
    """

    name: str
    types: tuple[str, ...]
    description: str
    required: bool
    optional: bool
    prefix: bool
    elements_required: bool
    minimum: float | None
    maximum: float | None
    pattern: str | None
    rules: tuple[Rule, ...]

    def accepts(self, kind: pa.DataType) -> bool:
        """Whether a column of this Arrow type satisfies the contract.

        Large and fixed-size forms count alike; a column of nulls only may have lost its type.
        """
        return pa.types.is_null(kind) or any(_accepts(spelt, kind) for spelt in self.types)


@dataclass(frozen=True)
class Contract:
    """One table's contract.

    Attributes:
        primary_key: columns that together identify a row; () if rows have no identity.
        rules: rules about the table as a whole.
    """

    name: str
    version: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    rules: tuple[Rule, ...]

    def present(self, found: Sequence[str]) -> Iterator[tuple[Column, str]]:
        """Pairs of a property and the name of a column found that it stands for."""
        for column in self.columns:
            for name in found:
                if name == column.name or (column.prefix and name.startswith(column.name)):
                    yield column, name

    def missing(self, found: Sequence[str]) -> list[Column]:
        """Properties without a column, though they need one."""
        return [c for c in self.columns if not (c.optional or c.prefix or c.name in found)]


@cache
def load_contract(name: str) -> Contract:
    """Read ``data_contracts/<name>.yaml``.

    Raises:
        UserError: there is no contract of that name.
    """
    path = data_contracts() / f"{name}.yaml"
    if not path.exists():
        near = difflib.get_close_matches(name, contract_names(), n=1)
        raise UserError(
            f"there is no data contract '{name}'" + (f"; did you mean '{near[0]}'?" if near else ""),
            remedy=f"known contracts: {', '.join(contract_names())}",
        )
    document = OpenDataContractStandard.from_file(str(path))
    (table,) = document.schema_ or []
    properties = table.properties or []
    keys = sorted((p.primaryKeyPosition or 0, str(p.name)) for p in properties if p.primaryKey)
    return Contract(
        name=name,
        version=str(document.version),
        columns=tuple(_column(p) for p in properties),
        primary_key=tuple(key for _, key in keys),
        rules=_rules(table.quality),
    )


def contract_names() -> list[str]:
    """Names of all contracts, sorted."""
    return sorted(path.stem for path in data_contracts().glob("*.yaml"))


def contract_versions() -> dict[str, str]:
    """Name → version of every contract, for provenance."""
    return {name: load_contract(name).version for name in contract_names()}


def _column(declared: SchemaProperty) -> Column:
    custom = {str(p.property): p.value for p in declared.customProperties or []}
    options = declared.logicalTypeOptions or {}
    return Column(
        name=str(declared.name),
        types=tuple(part.strip() for part in str(declared.physicalType).split("|")),
        description=declared.description or "",
        required=bool(declared.required),
        optional=bool(custom.get("optional", False)),
        prefix=bool(custom.get("prefix", False)),
        elements_required=bool(declared.items and declared.items.required),
        minimum=options.get("minimum"),
        maximum=options.get("maximum"),
        pattern=options.get("pattern"),
        rules=_rules(declared.quality),
    )


def _rules(quality: list[DataQuality] | None) -> tuple[Rule, ...]:
    rules = []
    for entry in quality or []:
        if entry.engine == ENGINE and isinstance(entry.implementation, dict):
            arguments = dict(entry.implementation)
            rules.append(Rule(arguments.pop("rule"), arguments))
    return tuple(rules)


def _accepts(spelt: str, kind: pa.DataType) -> bool:
    if spelt.startswith("list<"):
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        return is_list and _accepts(spelt.removeprefix("list<").removesuffix(">"), kind.value_type)
    return kind in _SCALARS[spelt]
