"""Content-aware training end to end on planted groups: what it learns, resumes, shares among ranks and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted_pairs import IDS, STUDENT, Planted, group_recall, write_pairs
from ranks import launch

from recdistill.contracts.tables import EmbeddingTable, read_table
from recdistill.errors import Diverged, UserError
from recdistill.pretrain.config import PretrainConfig
from recdistill.pretrain.phases import SUBJECT
from recdistill.students import RecDistillStudent
from recdistill.world import World


def config(*phases: dict[str, Any], **settings: Any) -> PretrainConfig:
    given = [{"name": f"phase {place}", "steps": 60, **phase} for place, phase in enumerate(phases or ({},))]
    return PretrainConfig.model_validate({"phases": given, "batch_size": 32, "validate_every": 20, **settings})


def vectors(out: Path, fit: str = "final") -> np.ndarray:
    return EmbeddingTable.read(out / fit / f"{SUBJECT}.parquet").vectors


EVERYTHING = (
    {"datasets": ["together"], "specialised": False},
    {
        "hard_negatives": 3,
        "refresh_every": 25,
        "sampling": "adaptive",
        "weights": {"nce": 1, "cosent": 0.1, "micl": 0.1, "late_fusion": 0.1, "patterns": 0.1},
    },
)


def test_it_learns_what_belongs_together(planted: Planted, tmp_path: Path) -> None:
    planted.train(tmp_path, config({"datasets": ["together"], "steps": 150}, patience=0))
    table = EmbeddingTable.read(tmp_path / "final" / f"{SUBJECT}.parquet")
    content = read_table(planted.content / "raw_content.parquet")
    raw = np.stack(content["embedding"].to_pylist())
    assert table.ids.tolist() == IDS
    assert group_recall(table.vectors, table.ids) > 0.85 > 0.6 > group_recall(raw, content["item_id"].to_pandas())


def test_the_saved_student_gives_the_table(planted: Planted, tmp_path: Path) -> None:
    planted.train(tmp_path, config())
    student = RecDistillStudent.from_pretrained(tmp_path / "final" / SUBJECT)
    tags = read_table(planted.root / "data" / "items.parquet")["tags_tag"].to_pylist()
    found = student.encode([{"structured": {"tag": values}} for values in tags])
    np.testing.assert_allclose(found, vectors(tmp_path), atol=1e-5)


def test_phases_go_on_from_one_another_and_say_what_they_did(planted: Planted, tmp_path: Path) -> None:
    planted.train(tmp_path, config(*EVERYTHING))
    about = json.loads((tmp_path / "pretrain.json").read_text())["phases"]
    assert list(about) == ["phase 0", "phase 1"]
    assert about["phase 0"]["datasets"].keys() == {"together"}
    second = about["phase 1"]["datasets"]
    assert second.keys() == {"graded", "together"}
    assert sum(of["weight"] for of in second.values()) == pytest.approx(1)
    assert all(-1 < of["threshold"] < 1 for of in second.values())
    assert not list(tmp_path.glob(".*"))  # no checkpoint stays


def test_killed_anywhere_and_resumed_it_ends_with_the_same_bits(planted: Planted, tmp_path: Path) -> None:
    settings = config(*EVERYTHING, validate_every=10)
    planted.train(tmp_path / "whole", settings)

    class Killed(BaseException):
        pass

    for at in (7, 45, 70):  # validations and logs come by; a step of the second phase among them

        def log(name: str, at: int = at) -> Any:
            def curve(metrics: Any, step: int) -> None:
                if name.startswith("selection") and step + 60 * name.endswith("1") >= at:
                    raise Killed

            return curve

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("recdistill.training.fit.__kwdefaults__", _often(), raising=True)
            with pytest.raises(Killed):
                planted.train(tmp_path / "killed", settings, log=log)
    planted.train(tmp_path / "killed", settings)
    for fit in ("selection", "final"):
        assert np.array_equal(vectors(tmp_path / "whole", fit), vectors(tmp_path / "killed", fit))


def _often() -> dict[str, Any]:
    """A checkpoint after every step."""
    from recdistill.training import fit

    return {**fit.__kwdefaults__, "checkpoint_seconds": 0.0}


def test_accumulated_batches_make_one_step(planted: Planted, tmp_path: Path) -> None:
    seen: list[int] = []

    def log(name: str) -> Any:
        return lambda metrics, step: seen.append(step) if name.startswith("final") else None

    planted.train(tmp_path, config({"steps": 25}, accumulation=3, validate_every=25), log=log)
    assert max(seen) == 20  # logged every 20 steps: a step is an update, however many batches it took


def test_encoding_in_chunks_changes_nothing(planted: Planted, tmp_path: Path) -> None:
    phase = {"steps": 10, "weights": {"nce": 1, "micl": 0.5}}
    planted.train(tmp_path / "plain", config(phase, validate_every=10))
    planted.train(tmp_path / "chunks", config(phase, validate_every=10, cached_chunk=5))
    np.testing.assert_allclose(vectors(tmp_path / "plain"), vectors(tmp_path / "chunks"), atol=2e-5)


def test_bf16_trains(planted: Planted, tmp_path: Path) -> None:
    planted.train(tmp_path, config(precision="bf16"))
    assert np.isfinite(vectors(tmp_path)).all()


def on_ranks(world: World, folder: Path) -> None:
    """A short training on one of several ranks."""
    planted = Planted.of(folder / "planted")
    planted.train(folder / "ranks", config(*EVERYTHING, batch_size=32), world=world)


def test_two_ranks_learn_what_one_learns(tmp_path: Path) -> None:
    planted = Planted(tmp_path / "planted")
    planted.train(tmp_path / "alone", config(*EVERYTHING, batch_size=32))
    launch(on_ranks, 2, tmp_path)
    np.testing.assert_allclose(vectors(tmp_path / "alone"), vectors(tmp_path / "ranks"), atol=1e-3)


def test_a_batch_must_share_evenly(planted: Planted, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"batch_size \(31\) is no multiple of the 2 processes"):
        planted.train(tmp_path, config(batch_size=31), world=World(0, 2))


def test_a_loss_that_is_not_finite_names_dataset_and_pairs(planted: Planted, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"step \d+ of phase 'phase 0', in a batch of \w+ \(i\d\d → i\d\d"):
        planted.train(tmp_path, config({"learning_rate": 1e30}, clip_norm=1e30))


def test_texts_and_prompts_need_a_student_that_reads_them(planted: Planted, tmp_path: Path) -> None:
    other = Planted.of(planted.root)
    other.pairs = tmp_path / "pairs"
    for fit in ("selection", "final"):
        write_pairs(other.pairs / fit / "labels.parquet", query=IDS[:30], target_text=["war"] * 30)
    with pytest.raises(UserError, match="holds texts, but the student reads none"):
        other.train(tmp_path / "out", config())


def test_a_phase_without_pairs_says_so(planted: Planted, tmp_path: Path) -> None:
    other = Planted.of(planted.root)
    other.pairs = tmp_path / "pairs"
    for fit in ("selection", "final"):
        write_pairs(other.pairs / fit / "nothing.parquet", query=[], target=[])
    with pytest.raises(UserError, match="all datasets of 'phase 0' are empty"):
        other.train(tmp_path / "out", config())


def test_patience_ends_a_phase(planted: Planted, tmp_path: Path) -> None:
    planted.train(tmp_path, config({"steps": 400, "learning_rate": 1e-12}, patience=1))
    about = json.loads((tmp_path / "pretrain.json").read_text())["phases"]["phase 0"]
    assert about["steps"] < 400


def test_a_student_of_fewer_modalities_leaves_vision_objectives_out(planted: Planted, tmp_path: Path) -> None:
    planted.train(tmp_path, config({"weights": {"nce": 1, "late_fusion": 1}}), student=STUDENT)
    assert torch.isfinite(torch.from_numpy(vectors(tmp_path))).all()
