"""The stage: what it writes, that it goes on where it was, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from recdistill.contracts.fold import Fold
from recdistill.contracts.tables import EmbeddingTable
from recdistill.errors import UserError
from recdistill.retrieval.config import QuestionsConfig
from recdistill.teachers import TeachersConfig, teach
from recdistill.teachers.config import ExternalTeacherConfig, IdTeacherConfig, SequenceTeacherConfig
from recdistill.teachers.trained import Trained
from recdistill.teachers.validation import Questions, Score
from recdistill.training import LogFn

CONFIG = TeachersConfig(
    id=IdTeacherConfig(dim=16, batch=16, steps=40, validate_every=20),
    sequence=SequenceTeacherConfig(dim=16, batch=16, length=10, steps=40, validate_every=20),
)

QUESTIONS = QuestionsConfig(min_history=1)


class Killed(Exception):
    pass


class Curves:
    """Collects what is logged, and dies at a given point of a given curve."""

    def __init__(self, die: tuple[str, int] | None = None) -> None:
        self.die = die
        self.seen: dict[str, list[int]] = {}

    def __call__(self, name: str) -> LogFn:
        def log(_: Mapping[str, float], step: int) -> None:
            self.seen.setdefault(name, []).append(step)
            if self.die == (name, step):
                raise Killed

        return log


@pytest.fixture(scope="module")
def taught(fold: Fold, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("taught")
    run(fold, out)
    return out


def run(
    fold: Fold, out: Path, *, config: TeachersConfig = CONFIG, log: Curves | None = None, seed: int = 0, key: str = "k"
) -> None:
    items = fold.root / "items.parquet"
    teach(config, QUESTIONS, fold=fold, items=items, out=out, seed=seed, key=key, log=log or Curves())


def tables(out: Path) -> dict[str, EmbeddingTable]:
    return {str(path.relative_to(out)): EmbeddingTable.read(path) for path in sorted(out.glob("*/*.parquet"))}


def test_tables_hold_the_met_items_with_support_and_confidence(taught: Path) -> None:
    found = tables(taught)
    kinds = ("id_teacher", "sequence_teacher")
    assert set(found) == {f"{fit}/{kind}.parquet" for fit in ("selection", "final") for kind in kinds}
    for path, table in found.items():
        assert len(table.ids) == 41 and "x" in table.ids and "cold" not in table.ids
        assert table.support is not None and table.confidence is not None
        x = table.ids.get_loc("x")
        assert table.support[x] == 0 and table.confidence[x] == 0
        # 60 users take 8 items in the training window, 2 in the validation window.
        assert table.support.sum() == (480 if path.startswith("selection") else 480 + 2 * 60)
        np.testing.assert_allclose(table.confidence, table.support / (table.support + 5), rtol=1e-6)
        assert table.vectors.shape == (41, 16)
        np.testing.assert_allclose(np.linalg.norm(table.vectors, axis=1), 1, rtol=1e-5)
        assert table.metadata["geometry"] == "cosine" and table.metadata["seed"] == 0
    final, selection = (found[f"{fit}/id_teacher.parquet"].metadata for fit in ("final", "selection"))
    assert final["steps"] == selection["steps"] and "scores" not in final


def test_states_of_the_users_rank_what_comes_next_on_their_circle(taught: Path) -> None:
    """Each user of the sequence teacher has a vector to be multiplied with the items', as of the window's end."""
    for which in ("selection", "final"):
        users = EmbeddingTable.read(taught / which / "users" / "sequence_teacher.parquet", id_column="user_id")
        items = EmbeddingTable.read(taught / which / f"{users.metadata['item_table']}.parquet")
        assert users.ids.tolist() == [f"u{user:03d}" for user in range(60)]
        assert users.support is not None and set(users.support) == ({8} if which == "selection" else {10})
        best = items.ids[(users.vectors @ items.vectors.T).argmax(axis=1)]
        assert np.mean([user % 2 == "ab".index(item[0]) for user, item in enumerate(best)]) > 0.95
    assert not (taught / "final" / "users" / "id_teacher.parquet").exists()  # its users are means of their items


def test_report_shows_each_teacher_beside_popularity(taught: Path) -> None:
    report = json.loads((taught / "teachers.json").read_text())
    assert report["validation"]["users"] == 60
    popularity = report["validation"]["popularity"]["ndcg_at_10"]
    for kind, forms in (("id_teacher", {"mean"}), ("sequence_teacher", {"mean", "state"})):
        part = report["teachers"][kind]
        assert set(part["scores"]) == forms
        assert part["beats_popularity"] and part["scores"]["mean"]["ndcg_at_10"] > popularity
        assert [step for step, _ in part["curve"]] == [20, 40]
        assert part["selection"] == {"items": 41, "coverage": round(41 / 42, 4)}
    best = max(score for _, score in report["teachers"]["id_teacher"]["curve"])
    assert report["teachers"]["id_teacher"]["scores"]["mean"]["ndcg_at_10"] == pytest.approx(best)


@pytest.mark.parametrize(
    "die", [("id_teacher", 20), ("id_teacher_final", 0), ("sequence_teacher", 40), ("sequence_teacher_final", 0)]
)
def test_killed_anywhere_and_started_again_gives_the_same(
    die: tuple[str, int], fold: Fold, taught: Path, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        run(fold, tmp_path, log=Curves(die))
    curves = Curves()
    run(fold, tmp_path, log=curves)
    if die[0].startswith("sequence"):
        assert not any(name.startswith("id_teacher") for name in curves.seen)  # what was finished is kept
    whole, again = tables(taught), tables(tmp_path)
    assert whole.keys() == again.keys()
    for path, table in whole.items():
        np.testing.assert_array_equal(again[path].vectors, table.vectors)
        assert again[path].metadata == table.metadata
    assert (tmp_path / "teachers.json").read_bytes() == (taught / "teachers.json").read_bytes()
    assert not list(tmp_path.rglob("*.checkpoint"))


def test_another_key_trains_anew_and_another_seed_differs(fold: Fold, taught: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"sequence": None})
    shutil.copytree(taught / "selection", tmp_path / "selection")
    curves = Curves()
    run(fold, tmp_path, config=config, log=curves, seed=1, key="other")
    assert set(curves.seen) == {"id_teacher", "id_teacher_final"}
    first, second = (EmbeddingTable.read(root / "selection/id_teacher.parquet") for root in (taught, tmp_path))
    assert not np.array_equal(first.vectors, second.vectors)
    assert second.metadata["key"] == "other"


def test_external_table_travels_under_its_name_and_is_scored(fold: Fold, taught: Path, tmp_path: Path) -> None:
    source = EmbeddingTable.read(taught / "selection/id_teacher.parquet")
    ids = source.ids.append(pd.Index(["cold", "unheard"]))
    vectors = np.vstack([source.vectors, np.ones((2, 16), np.float32)])
    EmbeddingTable(ids, vectors).write(tmp_path / "production.parquet")
    external = ExternalTeacherConfig(name="production", path=tmp_path / "production.parquet")
    config = TeachersConfig(id=None, sequence=None, external=[external])
    run(fold, tmp_path / "out", config=config)
    table = EmbeddingTable.read(tmp_path / "out/final/production.parquet")
    assert table.ids.equals(source.ids) and table.metadata["kind"] == "external"
    report = json.loads((tmp_path / "out/teachers.json").read_text())["teachers"]["production"]
    assert (report["final"]["unknown_ids"], report["final"]["withheld_cold_ids"]) == (1, 1)
    own = json.loads((taught / "teachers.json").read_text())["teachers"]["id_teacher"]
    assert report["scores"]["mean"] == own["scores"]["mean"]


def test_a_bad_external_table_is_refused_before_training(fold: Fold, tmp_path: Path) -> None:
    vectors = np.full((1, 4), np.inf, np.float32)
    EmbeddingTable(pd.Index(["a00"]), vectors).write(tmp_path / "bad.parquet")
    external = ExternalTeacherConfig(name="production", path=tmp_path / "bad.parquet")
    with_external = CONFIG.model_copy(update={"external": [external]})
    curves = Curves()
    with pytest.raises(UserError, match="NaN or infinite"):
        run(fold, tmp_path, config=with_external, log=curves)
    assert not curves.seen


def test_killed_between_training_and_writing_nothing_is_trained_again(
    fold: Fold, taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Trained, "_write_items", die)
        with pytest.raises(Killed):
            run(fold, tmp_path)
    curves = Curves()
    run(fold, tmp_path, log=curves)
    assert "id_teacher" not in curves.seen and "id_teacher_final" in curves.seen
    for path, table in tables(taught).items():
        np.testing.assert_array_equal(tables(tmp_path)[path].vectors, table.vectors)
    assert not list(tmp_path.rglob("*.checkpoint"))


def test_confidence_that_cannot_be_had_shows_before_any_training(fold: Fold, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"confidence": "halves"})  # fifty neighbours among forty items
    curves = Curves()
    with pytest.raises(UserError, match="confidence"):
        run(fold, tmp_path, config=config, log=curves)
    assert not curves.seen


def test_a_window_that_asks_nothing_is_the_users_mistake(fold: Fold, tmp_path: Path) -> None:
    shutil.copytree(fold.root, tmp_path / "fold")
    shutil.copy(tmp_path / "fold/test_judge.parquet", tmp_path / "fold/validation.parquet")
    with pytest.raises(UserError, match="validation window asks nothing"):
        run(Fold(tmp_path / "fold"), tmp_path)


def test_score_counts_an_unknown_target_as_a_miss() -> None:
    score = Score.of(np.array([1.0, 3.0, 11.0, np.inf]))
    assert score.recall_at_10 == pytest.approx(2 / 4)
    assert score.ndcg_at_10 == pytest.approx((1 + 1 / np.log2(4)) / 4)


def test_popularity_by_hand(fold: Fold) -> None:
    """The target stands behind the more popular items that the user has not met."""
    questions = Questions(QUESTIONS, fold, state_length=5, seed=0)
    assert len(questions) == 2 * 60 and questions.users == 60
    catalogue = questions.drawn.item_ids
    support = np.zeros(len(catalogue), dtype=np.int64)
    target = questions.drawn.target[0]
    met = set(questions.drawn.exclude_items[: questions.drawn.exclude_offsets[1]].tolist())
    rivals = [row for row in range(len(catalogue)) if row not in met and row != target][:3]
    support[rivals], support[list(met)] = 5, 9
    support[target] = 2
    everyone = np.ones(len(catalogue), dtype=bool)
    questions.drawn = questions.drawn.take(np.array([0]))
    score = Score.of(questions.of_popularity(support, everyone))
    assert score.ndcg_at_10 == pytest.approx(1 / np.log2(1 + 4))


def test_states_see_the_last_items_in_order_and_only_known_ones(fold: Fold) -> None:
    questions = Questions(QUESTIONS, fold, state_length=5, seed=0)
    catalogue = questions.drawn.item_ids
    known = np.array([row for row, item in enumerate(catalogue) if item != "a03"])
    asked: list[np.ndarray] = []
    times: list[np.ndarray] = []

    def states(query: torch.Tensor, seen_at: torch.Tensor, asked_at: torch.Tensor) -> torch.Tensor:
        """One-hot of the item behind the query's last on its circle."""
        asked.append(query.numpy())
        times.append(torch.where(query >= 0, asked_at.unsqueeze(1) - seen_at, -1).numpy())
        last = query.gather(1, (query >= 0).sum(1, keepdim=True) - 1).squeeze(1)
        following = [f"{item[0]}{(int(item[1:]) + 1) % 20:02d}" for item in catalogue[known[last.numpy()]]]
        place = torch.from_numpy(catalogue[known].get_indexer(following).copy())
        return torch.nn.functional.one_hot(place.clamp(min=0), len(known)).float() * (place >= 0).unsqueeze(1)

    score = Score.of(questions.of_states(states, np.eye(len(known), dtype=np.float32), known))
    for row in asked[0]:
        walk = [int(item[1:]) for item in catalogue[known[row[row >= 0]]]]
        assert 4 <= len(walk) <= 5 and (row[len(walk) :] == -1).all()  # the unknown item leaves no hole
        assert all((after - before) % 20 in (1, 2) for before, after in pairwise(walk))
    for row, ago in zip(asked[0], times[0], strict=True):
        walk = [int(item[1:]) for item in catalogue[known[row[row >= 0]]]]
        steps = (10_000_000 * (walk[-1] - place) % 200_000_000 for place in walk)  # one takes a step in ten seconds
        assert [moment - ago[len(walk) - 1] for moment in ago[: len(walk)]] == [*steps]
        assert ago[len(walk) - 1] in (10_000_000, 20_000_000)
    targets = catalogue[questions.in_order.target]
    told = ~targets.isin(["a03", "a04"])  # the unknown item itself, and the one behind it
    assert score.recall_at_10 == pytest.approx(told.mean())
