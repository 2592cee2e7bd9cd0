"""Match features as a program for a service that has neither this package nor pandas.

A service keeps for each user the rows of the last positives' items, oldest first, and their times; the rows are places
in ``item_embeddings.parquet``. It asks for [users, candidates, columns] with the ages in days.
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
    """Write :func:`export_program` as a ``.pt2`` file, for ``torch.export.load``; its metadata names the columns.

    Items, settings and columns are within it: ``torch.export.load(path, extra_files={"columns": ""})`` tells the latter.
    """
    with atomic(path) as temporary, temporary.open("wb") as stream:
        torch.export.save(export_program(module), stream, extra_files={"columns": "\n".join(module.columns)})
