"""The whole stage on a small world: choosing, leaving teachers out, phases, resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from topical_world import IDS, JUDGING, QUESTIONS, TOPIC, TopicalWorld, topic_recall

import recdistill.distill.training as module
from recdistill.config import load_recipe
from recdistill.contracts.tables import EmbeddingTable
from recdistill.distill.config import DistillConfig, HardNegatives, Rival, Trial, Weights
from recdistill.distill.outcome import teachers_read, without
from recdistill.distill.validation import Validation
from recdistill.errors import UserError
from recdistill.remarks import remarks
from recdistill.retrieval.questions import fold_cases
from recdistill.training import Fitted, fit

OF_THE_STUDENT = [name for name in Weights.model_fields if name not in get_args(Rival)]
PULL = {"weights": {"relational": 3.0}}
ALL = {
    "weights": dict.fromkeys(OF_THE_STUDENT, 0.5),
    "soft_targets": {"teacher": "dotted"},
    "weighting": "gradient_norm",
    "hard_negatives": {"count": 2, "refresh_every": 6},
    "catalogue_items": 8,
    "phases": [
        {"share": 0.2, "objectives": ["item_to_item"]},
        {"share": 0.3, "objectives": ["item_to_item", "sequence_to_item", "soft_targets"]},
        {"share": 0.5, "objectives": OF_THE_STUDENT},
    ],
}


def vectors(out: Path, fit_of: str = "final", subject: str = "student") -> np.ndarray:
    table = EmbeddingTable.read(out / fit_of / f"{subject}.parquet")
    assert table.ids.equals(IDS)
    return table.vectors


def test_the_student_finds_the_topics_and_the_content_student_less(world: TopicalWorld, tmp_path):
    told = world.distill(tmp_path, PULL, {"weights": {"relational": 0.0}}, choose_by="recall")
    assert topic_recall(vectors(tmp_path)) > topic_recall(vectors(tmp_path, subject="content_student")) + 0.1
    scores = told["student"]["validation_recall_at_10"]
    chosen = told["student"]["trials"][int(np.argmax(scores))]
    assert len(scores) == 2 and told["student"]["chosen"] == chosen
    assert "teachers" not in told["student"] and "validation_gid_at_100" not in told["student"]


@pytest.mark.parametrize("teacher", ["noise", "good"])
def test_a_teacher_of_noise_is_seen_and_left_out_and_a_good_one_kept(world: TopicalWorld, tmp_path, teacher):
    told = world.distill(tmp_path, PULL, teachers=(teacher,), prune_teachers=True, choose_by="both")["student"]
    verdict = told["teachers"].pop(teacher)
    found = {which: verdict[which]["validation_recall_at_10"] for which in ("with", "without")}
    assert not told["teachers"] and set(verdict["with"]) == {"validation_recall_at_10", "validation_gid_at_100"}
    assert verdict["kept"] is (teacher == "good") is (found["with"] > found["without"])
    assert verdict["kept"] is (verdict["difference"] > verdict["standard_error"])
    assert told["chosen"]["weights"]["relational"] == (3.0 if teacher == "good" else 0.0)
    other = {"weights": {"relational": told["chosen"]["weights"]["relational"]}}
    directly = world.training(other, teachers=(teacher,), steps=30, validate_every=15, learning_rate=5e-3)
    cases = fold_cases(QUESTIONS, world.fold, "selection", seed=0)
    directly.run(tmp_path / "c", "key", lambda *_: None, validation=Validation(cases, world.fold, JUDGING, "recall", 0))
    assert np.array_equal(vectors(tmp_path, "selection"), directly.vectors())


def test_a_teacher_that_helps_by_a_hair_is_left_out(world: TopicalWorld, tmp_path):
    little = {"weights": {"relational": 0.05}}
    told = world.distill(tmp_path, little, teachers=("noise",), prune_teachers=True, choose_by="recall")["student"]
    verdict = told["teachers"]["noise"]
    found = [verdict[which]["validation_recall_at_10"] for which in ("with", "without")]
    assert verdict["difference"] == found[0] - found[1]
    assert 0 < verdict["difference"] <= verdict["standard_error"] and not verdict["kept"]  # of one user's one question
    assert told["chosen"]["weights"]["relational"] == 0


def test_without_the_last_teacher_its_objectives_go_weights_and_all():
    config = DistillConfig()
    trial = Trial(weights=Weights(soft_targets=0.5, ranking=0.1, alignment=0.2))
    assert teachers_read(config, trial) == ("id_teacher", "sequence_teacher")
    left = without(config, trial, "id_teacher")
    assert left is not None
    assert {name for name, weight in dict(left.weights).items() if weight} == {
        "sequence_to_item", "item_to_item", "soft_targets",
    }  # fmt: skip
    assert teachers_read(config, left) == ("sequence_teacher",)
    soft = without(config, trial, "sequence_teacher")
    assert soft is not None and soft.weights == trial.weights.model_copy(update={"soft_targets": 0.0})
    assert without(config, Trial(weights=Weights.only(relational=1.0)), "id_teacher") is None
    two = Trial(teachers=("id_teacher", "ease_teacher"))
    assert without(config, two, "id_teacher") == two.model_copy(update={"teachers": ("ease_teacher",)})
    alone = config.trials[0].model_copy(update={"hard_negatives": HardNegatives(count=2)})
    left = without(config, alone, "kernel_ridge")
    assert left is not None and left == Trial.model_validate(left.model_dump())
    assert (left.catalogue_items, left.hard_negatives.count) == (0, 2)


def test_objectives_come_in_by_phases_and_curves_say_so(world: TopicalWorld, tmp_path):
    world.curves.clear()
    world.distill(tmp_path, ALL, steps=40, validate_every=40)
    logged = dict(world.curves["student/selection-0"])  # every 20th step, and the validations
    names = set(OF_THE_STUDENT)
    assert names & set(logged[0]) == {"item_to_item"}
    points = [of for step, of in world.curves["student/selection-0"] if step == 20 and "loss" in of]
    assert names <= set(points[0]) and points[0]["scale_sequence_to_item"] == 1.0


@pytest.mark.parametrize("trial", [ALL, {}], ids=["everything", "defaults"])
def test_a_killed_training_goes_on_to_the_same_vectors(world: TopicalWorld, tmp_path, monkeypatch, trial):
    world.distill(tmp_path / "whole", trial, steps=20, validate_every=10)

    def careful(step: Any, *, key: str, **of: Any) -> Fitted:
        seconds = 0.0 if key.endswith("/student-selection-0") else 20.0
        return fit(step, key=key, checkpoint_seconds=seconds, **of)

    monkeypatch.setattr(module, "fit", careful)
    real, taken = module.DistillStep.__call__, []

    def dying(self: Any, step: int) -> dict[str, float]:
        # In the third phase, between two minings: what was mined and the norms must have been saved.
        if "sequence_to_item" in self.terms and step == 15 and not taken:
            taken.append(step)
            raise KeyboardInterrupt
        return real(self, step)

    monkeypatch.setattr(module.DistillStep, "__call__", dying)
    with pytest.raises(KeyboardInterrupt):
        world.distill(tmp_path / "killed", trial, steps=20, validate_every=10)
    assert taken and not (tmp_path / "killed" / "distill.json").exists()
    world.distill(tmp_path / "killed", trial, steps=20, validate_every=10)
    assert np.array_equal(vectors(tmp_path / "whole"), vectors(tmp_path / "killed"))
    told = [json.loads((tmp_path / run / "distill.json").read_text()) for run in ("whole", "killed")]
    assert told[0] == told[1]


def test_choosing_by_gid_asks_the_window_s_own_id_space(world: TopicalWorld):
    cases = fold_cases(QUESTIONS, world.fold, "selection", seed=0)
    asked = Validation(cases, world.fold, JUDGING, "both", 0)
    truth = np.eye(4, 8, dtype=np.float32)[TOPIC] + np.random.default_rng(0).normal(0, 0.01, (80, 8))
    noise = np.random.default_rng(1).normal(size=(80, 8)).astype(np.float32)
    unit = [(of / np.linalg.norm(of, axis=1, keepdims=True)).astype(np.float32) for of in (truth, noise)]
    assert asked.recall(unit[0]) > asked.recall(unit[1])
    good, bad = (asked.choice(asked.recall(of), of) for of in unit)
    assert good[0] > bad[0] and set(good[1]) == {"gid_at_100"}
    assert good[0] == pytest.approx((asked.recall(unit[0]) * good[1]["gid_at_100"]) ** 0.5)
    assert Validation(cases, world.fold, JUDGING, "recall", 0).choice(0.3, unit[0]) == (0.3, {})


def test_by_the_frontier_the_trial_with_the_largest_area_is_chosen_and_told(world_with_new: TopicalWorld, tmp_path):
    lost = {"weights": Weights.only(alignment=1.0).model_dump()}
    told = world_with_new.distill(
        tmp_path, {}, lost, {"temperature": 0.3}, choose_by="frontier", steps=20, teachers=("noise",)
    )
    student, areas = told["student"], told["student"]["validation_frontier_area"]
    assert student["chosen"] == student["trials"][int(np.argmax(areas))] != student["trials"][1]
    assert len(set(areas)) == 3 and len(student["validation_recall_at_10"]) == 3


def test_a_figure_that_had_no_say_is_remarked(world: TopicalWorld, world_with_new: TopicalWorld, tmp_path):
    (tmp_path / "r.yaml").write_text("name: x\ndata: {adapter: synthetic}\ndistill: {rivals: [aldi]}\n")
    few = {"steps": 2, "validate_every": 1, "rivals": ("aldi",)}
    said = {}
    for name, of in (("old", world), ("new", world_with_new)):
        of.distill(tmp_path / name, {}, choose_by="all", **few)
        said[name] = remarks(load_recipe(tmp_path / "r.yaml"), "distill", tmp_path / name)
    assert said["new"] == []
    assert said["old"] == [
        "distill: frontier area had no say in what was chosen of content_student, sequence_student, student, aldi: "
        "the validation window has fewer than 30 questions about new items"
    ]
    alone = load_recipe(tmp_path / "r.yaml", ["distill.choose_by=recall"])
    assert "in what was chosen of aldi: " in remarks(alone, "distill", tmp_path / "old")[0]


def test_a_window_that_asks_nothing_is_told_of_before_anything_is_trained(world: TopicalWorld, tmp_path, monkeypatch):
    def train(*_: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(module.DistillStep, "__call__", train)
    monkeypatch.setattr("topical_world.QUESTIONS", QUESTIONS.model_copy(update={"min_history": 1000}))
    with pytest.raises(UserError, match=r"validation window asks nothing.*1000 earlier") as caught:
        world.distill(tmp_path, {})
    assert "min_history" in caught.value.remedy
    assert not any(tmp_path.iterdir())
