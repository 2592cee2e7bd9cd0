"""The embedding tables that feature groups are made of: those of the run, random ones, and what is made of them.

Shapes: I items, d width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from recdistill.contracts.log import Log
from recdistill.contracts.tables import EmbeddingTable
from recdistill.features.space import Space
from recdistill.features.transforms import erase, residual, whiten
from recdistill.rankers.names import CONTENT, needed_by, source_of

_STUDENT = "student"
# Tables a run may have been made without: a group that needs one is left out, and rank.json says so.
_OPTIONAL = frozenset({CONTENT, "kernel_ridge", "id_teacher"})


@dataclass(frozen=True)
class Tables:
    """Reads or makes a table when it is asked for; nothing is kept.

    Attributes:
        paths: of raw_content, kernel_ridge, id_teacher and student.
        item_ids: [I] the catalogue.
        training: the log, in the catalogue's numbering, that the tables' makers have seen: what is fitted to make one
            table of another is fitted on its items, and popularity is counted in it.
        centre: take the mean off before anything is fitted.
        whitening: power for ``<table>_white``.
        seed: of ``random``.
    """

    paths: Mapping[str, Path]
    item_ids: pd.Index
    training: Log
    centre: bool
    whitening: float
    seed: int

    def usable(self, groups: Iterable[str]) -> tuple[str, ...]:
        """The groups of whose tables none is optional and absent."""
        absent = {name for name in _OPTIONAL if not self.paths[name].exists()}
        return tuple(group for group in groups if not needed_by(group) & absent)

    def read(self, name: str) -> EmbeddingTable:
        """The table of that name.

        ``random`` has normal vectors as wide as the student's, for the same items; ``<table>_free`` lacks what predicts
        log(1 + training events) linearly, ``<table>_residual`` what centred content predicts linearly, and
        ``<table>_white`` is whitened.

        Raises:
            UserError: a table is missing or is not one.
        """
        source, transform = source_of(name)
        if transform is None:
            return self._random() if name == "random" else EmbeddingTable.read(self.paths[name])
        space = self._space(source)
        events = np.bincount(self.training.item, minlength=len(self.item_ids))
        present, vectors = space.present, space.vectors
        if transform == "free":
            vectors = erase(vectors, np.log1p(events)[:, None], fitted=present & (events > 0))
        elif transform == "white":
            vectors = whiten(vectors, power=self.whitening, fitted=present)
        else:
            content = self._space(CONTENT)
            present = present & content.present
            vectors = residual(vectors, content.vectors, fitted=present & (events > 0))
        return EmbeddingTable(self.item_ids[present], vectors[present], metadata={"kind": name})

    def _space(self, name: str) -> Space:
        return Space.of(self.read(name), self.item_ids, centre=self.centre)

    def _random(self) -> EmbeddingTable:
        student = EmbeddingTable.read(self.paths[_STUDENT])
        shape = len(self.item_ids), student.vectors.shape[1]
        noise = np.random.default_rng(self.seed).standard_normal(shape, dtype=np.float32)
        known = student.ids.get_indexer(self.item_ids) >= 0
        return EmbeddingTable(self.item_ids[known], noise[known], metadata={"kind": "random"})
