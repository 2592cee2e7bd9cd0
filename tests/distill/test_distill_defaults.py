"""The stage as it is shipped: a skip connection, all figures choose, two modalities of which one is noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from topical_world import JUDGING, QUESTIONS, STUDENT, TopicalWorld

from recdistill.contracts.tables import EmbeddingTable
from recdistill.distill.config import DistillConfig, Trial
from recdistill.distill.subjects import Subject
from recdistill.distill.training import Training
from recdistill.distill.validation import Validation
from recdistill.retrieval.questions import fold_cases
from recdistill.students.config import SkipConfig

SHIPPED = STUDENT.model_copy(update={"skip": SkipConfig()})
# The last trial is the sequence student's first as well; the first, of a teacher of noise, has anchors of the whole
# catalogue.
TRIALS: tuple[dict[str, Any], ...] = (
    {"weights": {"ranking": 9.0}, "teachers": ("noise",), "ranking": {"depth": 8, "catalogue_anchors": 16}},
    {"weights": {"relational": 0.0}},
)
SHORT: dict[str, Any] = {"steps": 30, "validate_every": 15, "batch_size": 48, "learning_rate": 5e-3}


@pytest.fixture(scope="module")
def ran(titled_world: TopicalWorld, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("ran")
    return out, titled_world.distill(out, *TRIALS, student=SHIPPED, choose_by="all", **SHORT)


def test_noise_is_weighed_down_and_every_figure_is_told(ran: tuple[Path, dict[str, Any]]) -> None:
    for subject in ("content_student", "sequence_student", "student"):
        told = ran[1][subject]
        assert told["modality_weights"].keys() == {"structured"} and told["modality_weights"]["structured"] < 0.5
        assert {name for name in told if name.startswith("validation_")} == {
            "validation_recall_at_10", "validation_gid_at_100", "validation_frontier_area",
        }  # fmt: skip
        figures = [told[f"validation_{name}"] for name in ("recall_at_10", "gid_at_100", "frontier_area")]
        assert told["chosen"] == told["trials"][int(np.argmax(np.prod(figures, axis=0)))]


@pytest.mark.parametrize("name", ["student", "sequence_student"])
def test_what_is_written_is_what_one_training_gives(
    titled_world: TopicalWorld, ran: tuple[Path, dict[str, Any]], tmp_path: Path, name: str
) -> None:
    """Though the student's is not trained by itself: the sequence student's first trial is the same training."""
    out, told = ran[0], ran[1][name]
    if name == "student":
        assert told["chosen"] == told["trials"][1] == ran[1]["sequence_student"]["trials"][0]
    trial = Trial.model_validate(told["chosen"])
    training = Training(
        DistillConfig.model_validate({"trials": [trial], **SHORT}),
        SHIPPED,
        Subject(name, (trial,), may_start_pretrained=True),
        trial,
        replace(titled_world.inputs(), modality_weights=told["modality_weights"]),
        of="selection",
        seed=0,
    )
    cases = fold_cases(QUESTIONS, titled_world.fold, "selection", seed=0)
    asked = Validation(cases, titled_world.fold, JUDGING, "recall", 0)
    fitted = training.run(tmp_path / "c", "key", lambda *_: None, validation=asked)
    assert fitted.best_step == told["steps"]
    np.testing.assert_array_equal(
        EmbeddingTable.read(out / "selection" / f"{name}.parquet").vectors, training.vectors()
    )
