"""What validation says of vectors as they are served: their level and geometry with them."""

from __future__ import annotations

import numpy as np
import pytest
from topical_world import IDS, ITEMS, JUDGING, QUESTIONS, TOPIC, TopicalWorld

import recdistill.distill.validation as module
from recdistill.contracts.tables import EmbeddingTable
from recdistill.distill.config import ChooseBy
from recdistill.distill.outcome import Outcome
from recdistill.distill.validation import Validation
from recdistill.evaluation.metrics import recall_at_k
from recdistill.evaluation.subjects import VectorSubject
from recdistill.retrieval.questions import fold_cases
from recdistill.training import Fitted

PLANTED = (np.eye(4, 8)[TOPIC] + np.random.default_rng(0).normal(0, 0.1, (ITEMS, 8))).astype(np.float32)
LEVEL = np.random.default_rng(1).normal(0, 0.5, ITEMS).astype(np.float32)
LONG = np.random.default_rng(2).uniform(0.2, 3.0, (ITEMS, 1)).astype(np.float32)


def validation(world: TopicalWorld, by: ChooseBy) -> Validation:
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


def test_the_frontier_prefers_whom_new_items_stand_well_with_and_recall_does_not(world_with_new: TopicalWorld):
    def both(by: ChooseBy) -> list[float]:
        asked = validation(world_with_new, by)
        assert asked.asks_about_new and asked.new.tolist() == [False] * 60 + [True] * 20
        return [asked.choice(asked.recall(of), of)[0] for of in (blind, seeing)]

    rng = np.random.default_rng(3)
    blind, seeing = PLANTED.copy(), PLANTED + rng.normal(0, 0.4, PLANTED.shape).astype(np.float32)
    sunk = np.eye(8, dtype=np.float32)[7]  # new items stand aside, below all others, each with another topic or its own
    blind[60:] = sunk + 0.4 * np.roll(PLANTED[60:], 1, axis=0)
    seeing[60:] = sunk + 0.2 * PLANTED[60:]
    recall, area = both("recall"), both("frontier")
    assert recall[0] > recall[1] and area[0] < area[1]
    _, told = validation(world_with_new, "frontier").choice(0.3, seeing)
    assert told == {"frontier_area": area[1]}


def test_without_questions_about_new_items_recall_chooses_in_the_frontier_s_stead(world: TopicalWorld):
    assert validation(world, "frontier").choice(0.3, PLANTED) == (0.3, {})


@pytest.mark.parametrize("by", ["recall", "frontier"])
def test_no_judge_is_made_where_none_chooses(world_with_new: TopicalWorld, by: ChooseBy, monkeypatch):
    monkeypatch.setattr(module, "judge", lambda *_, **__: pytest.fail("made"))
    asked = validation(world_with_new, by)
    assert asked.choice(0.3, PLANTED)[0] > 0 and asked.influences(PLANTED)


def test_a_figure_of_few_questions_has_no_say(world_with_new: TopicalWorld, monkeypatch):
    def told(least: int) -> set[str]:
        monkeypatch.setattr(module, "LEAST_ASKED", least)
        asked = validation(world_with_new, "all")
        return set(asked.choice(0.3, PLANTED)[1])

    asked = validation(world_with_new, "all")
    about_new, pairs = int(asked.new[asked.cases.target].sum()), len(asked._pairs)
    assert 30 <= about_new < pairs
    assert told(about_new) == {"gid_at_100", "frontier_area"}
    assert told(about_new + 1) == {"gid_at_100"}
    assert told(pairs + 1) == set()


def test_of_equal_scores_recall_prefers(world: TopicalWorld):
    def outcome(score: float, recall: float) -> Outcome:
        training = world.training({})
        return Outcome(training.trial, Fitted(1, 1, recall), training, score, "recall_at_10", {})

    assert outcome(0.0, 0.2).beats(outcome(0.0, 0.1)) and not outcome(0.0, 0.1).beats(outcome(0.0, 0.2))
    assert outcome(0.1, 0.1).beats(outcome(0.0, 0.2)) and not outcome(0.0, 0.2).beats(outcome(0.1, 0.1))
    assert not outcome(0.1, 0.1).beats(outcome(0.1, 0.1))
