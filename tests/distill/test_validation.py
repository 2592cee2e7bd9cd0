"""What validation says of vectors as they are served: their level and geometry with them."""

from __future__ import annotations

from typing import Literal

import numpy as np
from topical_world import IDS, ITEMS, JUDGING, QUESTIONS, TOPIC, TopicalWorld

import recdistill.distill.validation as module
from recdistill.contracts.tables import EmbeddingTable
from recdistill.distill.validation import Validation
from recdistill.evaluation.metrics import recall_at_k
from recdistill.evaluation.subjects import VectorSubject
from recdistill.retrieval.questions import fold_cases

By = Literal["recall", "gid", "both", "frontier"]
PLANTED = (np.eye(4, 8)[TOPIC] + np.random.default_rng(0).normal(0, 0.1, (ITEMS, 8))).astype(np.float32)
LEVEL = np.random.default_rng(1).normal(0, 0.5, ITEMS).astype(np.float32)
LONG = np.random.default_rng(2).uniform(0.2, 3.0, (ITEMS, 1)).astype(np.float32)


def validation(world: TopicalWorld, by: By) -> Validation:
    return Validation(fold_cases(QUESTIONS, world.fold, "selection", seed=0), world.fold, JUDGING, by, 0)


def test_gid_judges_items_as_the_table_that_is_written_serves_them(world: TopicalWorld, monkeypatch):
    monkeypatch.setattr(module, "_GID_AT", 5)  # of eighty items a hundred are all
    asked, vectors, figures = validation(world, "gid"), PLANTED * LONG, set()
    for geometry in ("cosine", "dot"):
        for level in (None, LEVEL):
            table = EmbeddingTable(IDS, vectors, metadata={"geometry": geometry}, level=level)
            expected = recall_at_k(VectorSubject.of("x", table, IDS).ranks(asked._pairs), k=5)
            assert asked.gid(vectors, cosine=geometry == "cosine", level=level) == expected
            assert asked.choice(0.3, vectors, cosine=geometry == "cosine", level=level)[0] == expected
            figures.add(expected)
    assert len(figures) == 4
