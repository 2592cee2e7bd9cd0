"""Kernel ridge as a teacher, and what the recipe must say for it."""

from __future__ import annotations

import numpy as np
import pytest
from topical_world import IDS, JUDGING, TOPIC, TopicalWorld

from recdistill.config import load_recipe
from recdistill.contracts.tables import EmbeddingTable
from recdistill.distill.predicted import predict
from recdistill.errors import UserError

SYNTHETIC = "name: x\ndata: {adapter: synthetic}\n"


def judging(teacher: str):
    baselines = JUDGING.baselines.model_copy(update={"teacher": teacher, "trials": 3})
    return JUDGING.model_copy(update={"baselines": baselines})


def test_it_places_items_that_the_teacher_does_not_know(world: TopicalWorld, tmp_path):
    predict(judging("good"), fold=world.fold, content=world.content, teach=world.root / "teach", out=tmp_path, seed=0)
    taught = EmbeddingTable.read(world.root / "teach" / "selection" / "good.parquet")
    for fit in ("selection", "final"):
        table = EmbeddingTable.read(tmp_path / fit / "kernel_ridge.parquet")
        vectors, present = table.align(IDS)
        assert present.all() and table.metadata["of"] == "good" and table.metadata["geometry"] == "cosine"
        unknown = ~IDS.isin(taught.ids)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        centres = np.stack([unit[~unknown & (topic == TOPIC)].mean(axis=0) for topic in range(4)])
        assert unknown.sum() == 8 and ((unit[unknown] @ centres.T).argmax(axis=1) == TOPIC[unknown]).mean() > 0.6


def test_a_teacher_that_there_is_not_cannot_be_predicted(world: TopicalWorld, tmp_path):
    with pytest.raises(UserError, match="kernel_ridge predicts 'gone'"):
        predict(
            judging("gone"), fold=world.fold, content=world.content, teach=world.root / "teach", out=tmp_path, seed=0
        )


def test_a_recipe_may_name_it_where_there_is_something_to_predict(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(SYNTHETIC)
    bare = ["student.skip=null", "distill.trials=[{}]", "distill.choose_by=recall"]

    def read(*overrides: str) -> set[str]:
        return set(load_recipe(path, [*bare, *overrides]).judging())

    assert read("distill.teachers=[id_teacher,kernel_ridge]") == {"baselines"} and not read()
    assert read("student.skip={}") == {"baselines"} and not read("student.skip={weights: {text: 2}}")
    assert read("distill.choose_by=both") == {"i2i", "judge"}
    assert read("distill.choose_by=all") == {"i2i", "judge", "new_items"}
    for asks_for_areas in ("distill.choose_by=frontier", "distill.rivals=[aldi]"):
        assert read(asks_for_areas) == {"new_items"}
    off = ["teachers.id=null", "mining.teacher=sequence_teacher", "evaluate.baselines.include=[popularity]"]
    with pytest.raises(UserError, match=r"evaluate\.baselines\.teacher: no teacher 'id_teacher'"):
        load_recipe(path, [*off, "distill.trials=[{}]", "distill.teachers=[kernel_ridge]"])
    with pytest.raises(UserError, match=r"trials\.0\.soft_targets\.teacher: no teacher 'ease_teacher'"):
        load_recipe(path, ["distill.trials=[{weights: {soft_targets: 1}, soft_targets: {teacher: ease_teacher}}]"])
    with pytest.raises(UserError, match=r"trials\.0\.teachers\.1: no teacher 'ials_teacher'"):
        load_recipe(path, ["distill.trials=[{teachers: [id_teacher, ials_teacher]}]"])


def test_a_teacher_left_out_is_remarked(tmp_path):
    from recdistill.contracts.tables import write_json
    from recdistill.remarks import remarks

    path = tmp_path / "r.yaml"
    path.write_text(SYNTHETIC + "distill: {choose_by: recall}\n")
    better, worse = ({"validation_recall_at_10": value} for value in (0.2, 0.1))
    verdicts = {
        "noise": {"with": worse, "without": better, "difference": -0.1, "standard_error": 0.03, "kept": False},
        "hair": {"with": better, "without": worse, "difference": 0.0018, "standard_error": 0.003, "kept": False},
        "lone": {"with": better, "without": worse, "difference": 0.1, "standard_error": None, "kept": False},
        "good": {"with": better, "without": worse, "difference": 0.1, "standard_error": 0.03, "kept": True},
    }
    found = {"validation_recall_at_10": [0.1, 0.2]}
    write_json({"student": {**found, "teachers": verdicts}, "content_student": found}, tmp_path / "distill.json")
    noise, hair, lone = remarks(load_recipe(path), "distill", tmp_path)
    assert noise == (
        "distill: noise does not help student on validation (recall@10 0.1000 with it, recall@10 0.2000 without: "
        "a difference of -0.1000, standard error 0.0300), and is left out"
    )
    assert "hair helps student by no more than one standard error on validation" in hair
    assert "a difference of 0.0018, standard error 0.0030)" in hair
    assert "lone helps student by what one unit alone cannot tell" in lone and "a difference of 0.1000)" in lone
