"""Content-aware training end to end on planted groups: what it learns, resumes, shares among ranks and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from planted_pairs import IDS, Planted, group_recall, write_pairs
from pydantic import ValidationError
from ranks import launch

from recdistill.contracts.tables import EmbeddingTable, read_table
from recdistill.errors import Diverged, UserError
from recdistill.pretrain.batches import Sampler
from recdistill.pretrain.config import PretrainConfig
from recdistill.pretrain.phases import SUBJECT
from recdistill.students import FeatureStore, RecDistillStudent, StudentConfig
from recdistill.world import World


def config(*phases: dict[str, Any], **settings: Any) -> PretrainConfig:
    given = [{"name": f"phase {place}", "steps": 60, **phase} for place, phase in enumerate(phases or ({},))]
    return PretrainConfig.model_validate({"phases": given, "batch_size": 32, "validate_every": 20, **settings})


def vectors(out: Path, fit: str = "final") -> np.ndarray:
    return EmbeddingTable.read(out / fit / f"{SUBJECT}.parquet").vectors


EVERYTHING: tuple[dict[str, Any], ...] = (
    {"datasets": ["together"], "specialised": False},
    {
        "hard_negatives": 3,
        "refresh_every": 25,
        "sampling": "adaptive",
        "weights": {"nce": 1, "cosent": 0.1, "micl": 0.1, "patterns": 0.1},
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
    assert about["phase 0"]["selection"].keys() == about["phase 0"]["final"].keys() == {"together"}
    second = about["phase 1"]["selection"]
    assert second.keys() == {"graded", "together"}
    assert sum(of["weight"] for of in second.values()) == pytest.approx(1)
    assert all(-1 < of["threshold"] < 1 for of in second.values())
    assert not list(tmp_path.glob(".*"))  # no checkpoint stays


def test_killed_anywhere_and_resumed_it_ends_with_the_same_bits(planted: Planted, tmp_path: Path) -> None:
    settings = config(*EVERYTHING, validate_every=10)
    planted.train(tmp_path / "whole", settings)

    class Killed(BaseException):
        pass

    # Validations and logs come by; a step of the second phase and one of the final fit among them.
    for fit, at in (("selection", 7), ("selection", 45), ("selection", 70), ("final", 15)):

        def log(name: str, fit: str = fit, at: int = at) -> Any:
            def curve(metrics: Any, step: int) -> None:
                if name.startswith(fit) and step + 60 * name.endswith("1") >= at:
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


def test_accumulated_batches_make_one_step(planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    draw = Sampler.draw

    def counted(self: Sampler, size: int, generator: torch.Generator) -> Any:
        drawn.append(size)
        return draw(self, size, generator)

    monkeypatch.setattr(Sampler, "draw", counted)
    planted.train(tmp_path / "one", config({"steps": 5}, validate_every=5))
    assert drawn == [32] * 12  # both fits, each with a step drawn ahead that is not taken
    drawn.clear()
    planted.train(tmp_path / "three", config({"steps": 5}, accumulation=3, validate_every=5))
    assert drawn == [32] * 36
    assert not np.allclose(vectors(tmp_path / "one"), vectors(tmp_path / "three"), atol=1e-4)


@pytest.mark.parametrize(("mined", "unprepared"), [(0, {0}), (1, {0, 4})])
def test_batches_are_prepared_ahead_but_where_negatives_are_mined_first(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mined: int, unprepared: set[int]
) -> None:
    ahead: list[list[int]] = []
    asked: list[tuple[list[int], bool]] = []
    batch, training = FeatureStore.batch, torch.is_grad_enabled

    def prefetched(self: FeatureStore, rows: torch.Tensor) -> None:
        ahead.append(rows.tolist())

    def recorded(self: FeatureStore, rows: torch.Tensor) -> Any:
        if training() and not torch.is_inference_mode_enabled():
            asked.append((rows.tolist(), bool(ahead) and ahead[-1] == rows.tolist()))
        return batch(self, rows)

    monkeypatch.setattr(FeatureStore, "prefetch", prefetched)
    monkeypatch.setattr(FeatureStore, "batch", recorded)
    phase = {"steps": 4, "hard_negatives": mined, "refresh_every": 2}
    planted.train(tmp_path / "out", config(phase, accumulation=2, validate_every=4))
    of_one_fit = asked[:8]  # four steps of two batches
    assert {place for place, (_, prepared) in enumerate(of_one_fit) if not prepared} == unprepared


def test_encoding_in_chunks_changes_nothing(planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = RecDistillStudent.forward

    def counted(self: RecDistillStudent, features: Any, present: Any) -> Any:
        if self.training:
            sizes.append(len(next(iter(present.values()))))
        return forward(self, features, present)

    monkeypatch.setattr(RecDistillStudent, "forward", counted)
    phase = {"steps": 10, "weights": {"nce": 1, "micl": 0.5}}
    planted.train(tmp_path / "plain", config(phase, validate_every=10))
    assert max(sizes) > 30
    sizes.clear()
    planted.train(tmp_path / "chunks", config(phase, validate_every=10, cached_chunk=5))
    assert max(sizes) == 5
    np.testing.assert_allclose(vectors(tmp_path / "plain"), vectors(tmp_path / "chunks"), atol=2e-5)


def test_bf16_rounds_and_trains(planted: Planted, tmp_path: Path) -> None:
    planted.train(tmp_path / "half", config({"steps": 20}, precision="bf16"))
    planted.train(tmp_path / "whole", config({"steps": 20}))
    difference = np.abs(vectors(tmp_path / "half") - vectors(tmp_path / "whole")).max()
    assert 1e-5 < difference < 0.2


def test_phases_draw_pairs_of_their_own(planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[int]] = []
    draw = Sampler.draw

    def noted(self: Sampler, size: int, generator: torch.Generator) -> Any:
        batch = draw(self, size, generator)
        drawn.append(batch.query.tolist())
        return batch

    monkeypatch.setattr(Sampler, "draw", noted)
    planted.train(tmp_path, config({"steps": 2}, {"steps": 2}, validate_every=2))
    assert len({tuple(query) for query in drawn[:4]}) == 4


def test_gradient_checkpointing_reaches_the_fuser(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enabled: list[bool] = []
    enable = RecDistillStudent.gradient_checkpointing_enable
    monkeypatch.setattr(
        RecDistillStudent, "gradient_checkpointing_enable", lambda self: (enabled.append(True), enable(self))[1]
    )
    fusing = StudentConfig(kind="fusion", dim=16, width=16, heads=2, prefixes=(), dropout=0, modality_dropout=0)
    for name, switch in (("plain", False), ("less", True)):
        settings = config({"steps": 4}, validate_every=4, gradient_checkpointing=switch)
        planted.train(tmp_path / name, settings, student=fusing)
    assert enabled == [True, True]  # both fits
    np.testing.assert_allclose(vectors(tmp_path / "plain"), vectors(tmp_path / "less"), atol=1e-5)


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
    seen: list[int] = []

    def log(name: str) -> Any:
        return lambda metrics, step: seen.append(step) if name.startswith("selection") else None

    planted.train(tmp_path, config({"steps": 400, "learning_rate": 1e-12}, patience=1), log=log)
    assert max(seen) == 40  # the first validation was never beaten


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ({"weights": {"nce": 1, "late_fusion": 1}}, "weighs late_fusion, but the student sees no pictures"),
        ({"weights": {"cosent": 1}, "datasets": ["together"]}, r"none of its datasets is graded \(together\)"),
    ],
)
def test_an_objective_that_would_stay_at_zero_is_refused(
    planted: Planted, tmp_path: Path, phase: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        planted.train(tmp_path, config(phase))


def test_some_objective_must_weigh() -> None:
    with pytest.raises(ValidationError, match="nothing would be learned"):
        config({"weights": {"nce": 0}})


def test_pairs_judged_not_to_belong_are_no_positives(planted: Planted, tmp_path: Path) -> None:
    other = Planted.of(planted.root)
    other.pairs = tmp_path / "pairs"
    rng = np.random.default_rng(1)
    good = [(row, row // 12 * 12 + int(rng.integers(12))) for row in rng.integers(0, 72, 300).tolist()]
    bad = [(int(a), int(b)) for a, b in rng.integers(0, 72, (300, 2)) if a // 12 != b // 12]
    pairs = [*((q, t, 1.0) for q, t in good if q != t), *((q, t, 0.0) for q, t in bad)]
    for fit in ("selection", "final"):
        query, target, score = zip(*pairs, strict=True)
        named = {"query": [IDS[row] for row in query], "target": [IDS[row] for row in target]}
        write_pairs(other.pairs / fit / "judged.parquet", **named, score=list(score), graded=True)
    other.train(tmp_path / "out", config({"steps": 150, "hard_negatives": 1}, patience=0))
    assert group_recall(vectors(tmp_path / "out"), pd.Index(IDS)) > 0.8
