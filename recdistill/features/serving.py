"""Match features and reactions as a program for a service that has neither this package nor pandas.

A service keeps for each user the rows of the last events' items, oldest first, their times, and whether they pleased; a
row is an item's place in ``item_embeddings.parquet``. ``MatchItems.read(export).served`` is what is exported for it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from recdistill.contracts.tables import atomic
from recdistill.features.match_module import MatchModule
from recdistill.features.reaction_module import MatchAndReactions, ReactionModule

Served = MatchModule | ReactionModule | MatchAndReactions


def export_program(module: Served) -> ExportedProgram:
    """The module's ``forward`` with any number of users, history rows and candidates (each at least one)."""
    users, rows, asked = Dim("users", min=1), Dim("history", min=1), Dim("candidates", min=1)
    past, now = {0: users, 1: rows}, {0: users, 1: asked}
    arguments = {
        "history": (torch.zeros((2, 3), dtype=torch.int64), past),
        "age": (torch.ones((2, 3), dtype=torch.float64), past),
        "pleased": (torch.ones((2, 3), dtype=torch.bool), past),
        "candidates": (torch.zeros((2, 4), dtype=torch.int64), now),
    }
    if isinstance(module, MatchModule):  # all of its history pleased
        del arguments["pleased"]
    examples = tuple(example for example, _ in arguments.values())
    shapes = {name: shape for name, (_, shape) in arguments.items()}
    with torch.inference_mode():
        return torch.export.export(module.eval(), examples, dynamic_shapes=shapes, strict=False)


def save_program(module: Served, path: Path) -> None:
    """Write :func:`export_program` as a ``.pt2`` file, with its items and settings, for ``torch.export.load``.

    ``extra = {"columns": ""}; torch.export.load(path, extra_files=extra)`` gives the columns' names too, a line each.
    """
    with atomic(path) as temporary, temporary.open("wb") as stream:
        torch.export.save(export_program(module), stream, extra_files={"columns": "\n".join(module.columns)})
