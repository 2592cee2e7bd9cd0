"""Match features as a program for a service that has neither this package nor pandas.

A service keeps for each user the rows of the last positives' items, oldest first, and their times; a row is an item's
place in ``item_embeddings.parquet``. ``MatchItems.read(export).module`` is what is exported for it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from recdistill.contracts.tables import atomic
from recdistill.features.match_module import MatchModule


def export_program(module: MatchModule) -> ExportedProgram:
    """The module's ``forward`` with any number of users, history rows and candidates (each at least one)."""
    history = torch.zeros((2, 3), dtype=torch.int64)
    age = torch.ones((2, 3), dtype=torch.float64)
    candidates = torch.zeros((2, 4), dtype=torch.int64)
    users, rows, asked = Dim("users", min=1), Dim("history", min=1), Dim("candidates", min=1)
    shapes = {
        "history": {0: users, 1: rows},
        "age": {0: users, 1: rows},
        "candidates": {0: users, 1: asked},
    }
    with torch.inference_mode():
        return torch.export.export(module.eval(), (history, age, candidates), dynamic_shapes=shapes, strict=False)


def save_program(module: MatchModule, path: Path) -> None:
    """Write :func:`export_program` as a ``.pt2`` file, with its items and settings, for ``torch.export.load``.

    ``extra = {"columns": ""}; torch.export.load(path, extra_files=extra)`` gives the columns' names too, a line each.
    """
    with atomic(path) as temporary, temporary.open("wb") as stream:
        torch.export.save(export_program(module), stream, extra_files={"columns": "\n".join(module.columns)})
