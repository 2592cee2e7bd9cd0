"""What modalities count in the skip connection: what is of use counts, and what is not read has no say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from topical_world import IDS, JUDGING, STUDENT, TopicalWorld

from recdistill.contracts.tables import EmbeddingTable
from recdistill.distill.config import DistillConfig, Trial, Weights
from recdistill.distill.modalities import modality_weights
from recdistill.distill.subjects import Subject
from recdistill.distill.training import Training
from recdistill.students import FeatureStore, StudentConfig, build_student
from recdistill.students.config import SkipConfig

SKIP = STUDENT.model_copy(update={"skip": SkipConfig()})


def weights(world: TopicalWorld, student: StudentConfig = SKIP, content: Path | None = None) -> dict[str, float]:
    return dict(modality_weights(student, JUDGING, fold=world.fold, content=content or world.content, seed=0))


def test_a_modality_of_noise_counts_less_than_one_that_tells_the_topic(titled_world: TopicalWorld) -> None:
    (chosen,) = weights(titled_world).items()
    assert chosen[0] == "structured" and chosen[1] < 0.5


@pytest.mark.parametrize(
    "update",
    [{"skip": None}, {"skip": SkipConfig(weights={"text": 2.0})}, {"modalities": ("structured",)}],
    ids=["no skip", "set", "one modality"],
)
def test_where_there_is_nothing_to_choose_nothing_is(titled_world: TopicalWorld, update: dict[str, object]) -> None:
    assert weights(titled_world, SKIP.model_copy(update=update)) == {}


def test_a_modality_that_the_student_does_not_read_has_no_say(titled_world: TopicalWorld, tmp_path: Path) -> None:
    """A third one, encoded but not read, leaves the others' weights as they are without it."""
    table = EmbeddingTable.read(titled_world.content / "raw_content.parquet")
    third = np.random.default_rng(0).normal(size=(len(table.ids), 5)).astype(np.float32)
    third /= np.linalg.norm(third, axis=1, keepdims=True)
    vectors = np.concatenate([third, table.vectors], axis=1) / 2**0.5
    widths = [["image", 5], *table.metadata["widths"]]
    EmbeddingTable(table.ids, vectors, metadata=table.metadata | {"widths": widths}).write(
        tmp_path / "raw_content.parquet"
    )
    readers = [SKIP.model_copy(update={"modalities": read}) for read in (("text", "structured"), None)]
    two, three = (weights(titled_world, of, tmp_path) for of in readers)
    assert two == weights(titled_world)
    assert set(three) == {"text", "structured"}


def test_who_starts_pretrained_has_the_content_columns_of_who_does_not(
    titled_world: TopicalWorld, tmp_path: Path
) -> None:
    """And the weights that content-aware training left in the others."""
    settings = DistillConfig(trials=(Trial(weights=Weights(relational=0)),))
    left = build_student(SKIP, content=titled_world.content, seed=3)
    left.save_pretrained(tmp_path / "selection" / "pretrained_student")
    chosen, store = {"structured": 0.1}, FeatureStore.load(titled_world.content, IDS)
    fresh, begun = (
        Training(
            settings,
            SKIP,
            Subject("student", settings.trials, may_start_pretrained=True),
            settings.trials[0],
            replace(titled_world.inputs(), modality_weights=chosen, pretrain=pretrain),
            of="selection",
            seed=0,
        ).student.encode_store(store)
        for pretrain in (None, tmp_path)
    )
    before = left.encode_store(store)
    np.testing.assert_allclose(begun[:, 8:], fresh[:, 8:], atol=1e-6)
    assert not np.allclose(begun[:, 8:], before[:, 8:], atol=1e-2)
    np.testing.assert_allclose(begun[:, :8], before[:, :8], atol=1e-6)
    assert not np.allclose(begun[:, :8], fresh[:, :8], atol=1e-2)
