"""Who is trained: the student of sequences alone is the student without its teachers; a rival's vectors."""

from __future__ import annotations

import numpy as np
import pytest
from topical_world import IDS, STUDENT, TopicalWorld

from recdistill.distill.config import DistillConfig, Trial, Weights
from recdistill.distill.lesser import without_objectives
from recdistill.distill.subjects import subjects
from recdistill.distill.training import Training
from recdistill.students import FeatureStore
from recdistill.students.config import SkipConfig

BEFORE = {"share": 0.15, "objectives": ("item_to_item",)}
THEN = {"share": 0.45, "objectives": ("item_to_item", "sequence_to_item")}
LAST = {"share": 0.4, "objectives": ("item_to_item", "relational")}


def alone(config: DistillConfig) -> tuple[Trial, ...]:
    return next((s.trials for s in subjects(config) if s.name == "sequence_student"), ())


def trial(**of: object) -> Trial:
    return Trial.model_validate(of)


def test_it_has_the_trials_without_their_teachers_each_once_and_then_other_temperatures() -> None:
    weights = Weights(relational=2, ranking=1, item_to_item=0.5, soft_targets=1)
    read = {"catalogue_items": 64, "teachers": ("ease_teacher",), "confidence_power": 0.5, "popularity_power": 0.5}
    trials = (
        trial(weights=weights, temperature=0.05, log_q=0.8, soft_targets={"temperature": 0.3}, **read),
        trial(weights=Weights(relational=0, item_to_item=0.5), temperature=0.05, log_q=0.8),
        trial(weights=Weights(relational=1, sequence_to_item=0)),
    )
    expected = trial(weights=Weights.only(sequence_to_item=1, item_to_item=0.5), temperature=0.05, log_q=0.8)
    assert alone(DistillConfig(trials=trials)) == (
        expected,
        *(expected.model_copy(update={"temperature": of}) for of in (0.1, 0.2)),
    )
    assert alone(DistillConfig(trials=trials, sequence_student=False)) == ()
    # Who learns of no teacher is that student already.
    assert alone(DistillConfig(trials=trials[1:2])) == ()
    assert alone(DistillConfig(trials=trials[2:])) == ()


def test_by_default_its_first_trial_is_one_of_the_student_s_and_it_has_as_many() -> None:
    config = DistillConfig()
    assert alone(config)[0] in config.trials
    assert len({of.temperature for of in alone(config)}) == len(config.trials) == 3


def test_whatever_else_a_trial_says_it_says_to_that_student_too() -> None:
    said = {
        "weighting": "uncertainty",
        "phases": (BEFORE, THEN, LAST),
        "history_power": 0.5,
        "simulated_cold": 0.2,
        "hard_negatives": {"count": 3},
    }
    assert alone(DistillConfig(trials=(trial(**said),))) == (trial(weights=Weights(relational=0), **said),)


def test_a_phase_of_teachers_alone_is_gone() -> None:
    of_teachers = {"share": 0.4, "objectives": ("relational",)}
    (left,) = alone(DistillConfig(trials=(trial(phases=(BEFORE, of_teachers, THEN)),)))
    assert left == trial(weights=Weights(relational=0), phases=(BEFORE, THEN))
    # Sequences that no phase has are not learned.
    assert alone(DistillConfig(trials=(trial(phases=(BEFORE, of_teachers)),))) == ()


@pytest.mark.parametrize("lost", [("relational",), ("sequence_to_item", "relational"), tuple(Weights.model_fields)])
def test_what_is_left_is_a_trial_that_could_have_been_written(lost: tuple[str, ...]) -> None:
    whole = trial(catalogue_items=8, hard_negatives={"count": 2}, teachers=("kernel_ridge",))
    left = without_objectives(whole, lost)
    if len(lost) > 2:
        assert left is None
        return
    assert left is not None and Trial.model_validate(left.model_dump()) == left
    assert (left.catalogue_items, left.teachers) == (0, None)
    assert left.hard_negatives.count == (0 if "sequence_to_item" in lost else 2)


def test_a_rival_s_vectors_have_lengths_and_the_student_s_none_with_a_skip_connection(world: TopicalWorld) -> None:
    config = DistillConfig(teachers=("good",), rivals=("dropoutnet",), trials=(Trial(teachers=("good",)),))
    student = STUDENT.model_copy(update={"skip": SkipConfig()})
    norms = {}
    for subject in subjects(config):
        training = Training(config, student, subject, subject.trials[0], world.inputs(), of="selection", seed=0)
        store = FeatureStore.load(world.content, IDS)
        norms[subject.name] = np.linalg.norm(training.student.encode_store(store, normalize=False), axis=1)
        assert (training.student.config.skip is None) is subject.is_rival
    assert np.ptp(norms["dropoutnet"]) > 0.1 and norms["student"] == pytest.approx(1.0, abs=1e-5)
