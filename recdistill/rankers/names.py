"""What models, tables and feature groups are called, in settings and in metric records."""

from __future__ import annotations

from typing import Literal, get_args

ModelName = Literal["dlrm", "dcn", "din", "trees"]
Transform = Literal["free", "residual", "white"]

NONE = "none"
CONTENT = "raw_content"
TABLES = ("random", CONTENT, "kernel_ridge", "id_teacher", "student")
TRANSFORMS: tuple[Transform, ...] = get_args(Transform)


def benchmark_of(model: ModelName) -> str:
    """The benchmark of a model's metric records: ``ranker`` is the DLRM's."""
    return "ranker" if model == "dlrm" else f"ranker_{model}"


def tables_of(group: str) -> tuple[str, ...]:
    """Names of the tables a group is made of."""
    return () if group == NONE else tuple(group.split("+"))


def source_of(table: str) -> tuple[str, Transform | None]:
    """The table that a table is made from, and by which change: ``student_free`` → ``student``, ``free``."""
    for transform in TRANSFORMS:
        if table.endswith(f"_{transform}"):
            return table.removesuffix(f"_{transform}"), transform
    return table, None


def needed_by(group: str) -> frozenset[str]:
    """The tables on disk that a group is made of, directly or not."""
    needed = set[str]()
    for table in tables_of(group):
        source, transform = source_of(table)
        needed |= {source, CONTENT} if transform == "residual" else {source}
    return frozenset(needed)


def check_group(group: str) -> None:
    """Refuse a group that no tables make.

    Raises:
        ValueError: a part of it is no table, or stands in it twice.
    """
    tables = tables_of(group)
    for table in tables:
        source, transform = source_of(table)
        if source not in TABLES or (source, transform) == (CONTENT, "residual"):
            changes = ", ".join(f"_{name}" for name in TRANSFORMS)
            raise ValueError(f"group '{group}': '{table}' is none of {', '.join(TABLES)}, alone or with {changes}")
    if len(set(tables)) < len(tables):
        raise ValueError(f"group '{group}' repeats a table")
