"""What modalities count in the skip connection: what is of use counts, and what is not read has no say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from topical_world import JUDGING, STUDENT, TopicalWorld

from recdistill.contracts.tables import EmbeddingTable
from recdistill.distill.modalities import modality_weights
from recdistill.students import StudentConfig
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
