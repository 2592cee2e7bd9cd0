"""Benchmarks: planted pairs are found, judges read nothing that was trained on, comparisons of spaces see agreement."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from planted_fold import ITEMS, TOPICS, Planted, plant
from scipy import sparse

from recdistill.contracts import fold as layout
from recdistill.contracts import names
from recdistill.contracts.fold import Fold
from recdistill.contracts.log import Log
from recdistill.contracts.records import Records
from recdistill.contracts.tables import read_table, write_table
from recdistill.errors import UserError
from recdistill.evaluation.benchmarks.catalogue import Catalogue, jaccard
from recdistill.evaluation.benchmarks.items import questions_of_others
from recdistill.evaluation.benchmarks.judge import Judge, judge, sppmi_vectors
from recdistill.evaluation.benchmarks.pairs import content_pairs, copairs, gid_pairs
from recdistill.evaluation.benchmarks.spaces import Bijective, Clustering, RankingConsistency, Separability, placement
from recdistill.evaluation.benchmarks.users import agreement, seq2item
from recdistill.evaluation.config import EvaluateConfig, I2IConfig, JudgeConfig, Seq2ItemConfig
from recdistill.evaluation.questions import Questions
from recdistill.evaluation.subjects import ScoreSubject, VectorSubject
from recdistill.retrieval.questions import draw_users


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


def referee(of: Planted, **settings: int) -> Judge:
    return judge(JudgeConfig(dim=8, **settings), of.fold.judge("final"), min_support=5, min_positive=1, seed=0)


def cold_of(of: Planted) -> np.ndarray:
    return np.asarray(np.bincount(of.fold.training("final").item, minlength=ITEMS) == 0)


def subject(vectors: np.ndarray, name: str = "subject") -> VectorSubject:
    return VectorSubject(name, vectors.astype(np.float32), np.ones(len(vectors), dtype=bool))


def with_window(of: Planted, root: Path, file: str, source: str) -> Fold:
    """The fold with one of its files replaced by another's content."""
    for path in of.fold.root.glob("*.parquet"):
        replaced = of.fold.root / source if path.name == file else path
        write_table(read_table(replaced), root / path.name)
    return Fold(root)


def test_judge_reads_no_training_interaction(world: Planted, tmp_path: Path) -> None:
    plain = referee(world)
    swapped = with_window(world, tmp_path / "train", layout.TRAIN, layout.VALIDATION)
    again = judge(JudgeConfig(dim=8), swapped.judge("final"), min_support=5, min_positive=1, seed=0)
    assert np.array_equal(plain.vectors, again.vectors)
    other = with_window(world, tmp_path / "test", layout.TEST, layout.TRAIN)
    moved = judge(JudgeConfig(dim=8), other.judge("final"), min_support=5, min_positive=1, seed=0)
    assert not np.array_equal(plain.support, moved.support)
    # And not one event of the judge window was there to be learned from.
    training, judging = world.fold.training("final"), world.fold.judge("final")
    events = [set(zip(log.user_ids[log.user], log.item, log.time, strict=True)) for log in (training, judging)]
    assert not events[0] & events[1]
    assert training.time.max() < judging.time.min()


def test_queries_draw_on_nothing_from_the_target_onwards(world: Planted) -> None:
    """A query item was liked by that user strictly before the target, checked event by event."""
    asked = seq2item(Seq2ItemConfig(), world.fold, "final", seed=0, cold=cold_of(world))
    history, targets = world.fold.history("final"), world.fold.targets("final")
    liked = history.positive()
    first_liked: dict[tuple[int, int], int] = {}
    for user, item, time in zip(history.user[liked], history.item[liked], history.time[liked], strict=True):
        first_liked.setdefault((int(user), int(item)), int(time))
    asked_at = {
        (int(history.user_ids.get_loc(targets.user_ids[user])), int(item)): int(time)
        for user, item, time, good in zip(targets.user, targets.item, targets.time, targets.positive(), strict=True)
        if good
    }
    assert len(asked) > 200
    for at in range(len(asked)):
        time = asked_at[int(asked.unit[at]), int(asked.target[at])]
        query = asked.query[asked.asker[at]]
        assert all(first_liked[int(asked.unit[at]), int(item)] < time for item in query if item >= 0)


def test_sppmi_golden() -> None:
    """Two pairs that never mix: PMI = log(2·8 / (2·2)) within a pair, nothing across."""
    counts = sparse.csr_matrix(np.kron(np.eye(2), [[0, 2], [2, 0]]))
    vectors = sppmi_vectors(counts, dim=3, shift=1, seed=0)
    assert vectors.shape == (4, 3)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert not sppmi_vectors(counts, dim=3, shift=1e6, seed=0).any()
    assert sppmi_vectors(sparse.csr_matrix((0, 0)), dim=3, shift=1, seed=0).shape == (0, 1)


def test_gid_pairs_find_planted_neighbours(world: Planted) -> None:
    query, target = gid_pairs(referee(world), world.ids, neighbours=5, max_queries=1000, seed=0)
    assert (world.topic[query] == world.topic[target]).mean() > 0.9
    assert (query != target).all()
    assert (np.diff(query) >= 0).all()
    few, _ = gid_pairs(referee(world), world.ids, neighbours=5, max_queries=7, seed=0)
    assert len(np.unique(few)) == 7
    assert set(few) <= set(query)


def _judge(together: np.ndarray, support: list[int], users: int) -> Judge:
    count = len(support)
    nowhere = np.zeros((count, 1))
    return Judge(np.arange(count) * 2, np.array(support, dtype=float), sparse.csr_matrix(together), users, nowhere)


def test_copairs_by_lift_and_by_count() -> None:
    together = np.array([[0.0, 9, 4], [9, 0, 2], [4, 2, 0]])
    of = _judge(together, [10, 90, 5], 100)
    ids = pd.Index(range(6))
    choose = {"neighbours": 1, "max_queries": 9, "min_together": 3, "seed": 0}
    # Item 0 was most often with the popular item 2, but its lift is with item 4: 4·100/(10·5) > 9·100/(10·90).
    assert [list(part) for part in copairs(of, ids, by_lift=True, **choose)] == [[0, 2, 4], [4, 0, 0]]
    assert [list(part) for part in copairs(of, ids, by_lift=False, **choose)] == [[0, 2, 4], [2, 0, 0]]
    assert len(copairs(of, ids, by_lift=True, **{**choose, "min_together": 10})[0]) == 0


def test_content_pairs_weigh_rare_labels() -> None:
    labels = np.array([[1, 1, 0, 1], [1, 1, 0, 1], [1, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]])
    described = sparse.csr_matrix(labels.astype(np.float32))
    query, target = content_pairs(described, pd.Index(range(5)), neighbours=1, max_queries=9, seed=0)
    # The last label is everybody's and says nothing, so the last item has no pair.
    assert dict(zip(query.tolist(), target.tolist(), strict=True)) == {0: 1, 1: 0, 2: 3, 3: 2}


def test_content_pairs_break_ties_by_a_draw() -> None:
    same = sparse.csr_matrix(np.kron(np.eye(2), np.ones((10, 1))).astype(np.float32))
    query, target = content_pairs(same, pd.Index(range(20)), neighbours=3, max_queries=20, seed=0)
    assert len(query) == 60
    assert ((query < 10) == (target < 10)).all()
    assert len(np.unique(target)) > 12  # file order would name the first three of each half only


def test_agreement_by_tags_and_by_clusters(world: Planted) -> None:
    catalogue = Catalogue.read(world.items, world.ids)
    by_tags = agreement(Seq2ItemConfig(agree_above=0.5), catalogue, np.ones((ITEMS, 2)), seed=0)
    target, past = np.array([1, 1, 1]), np.array([4, 2, 0])  # same topic, another, no tags
    assert by_tags(target, past).tolist() == [True, False, False]
    by_any_tag = agreement(Seq2ItemConfig(), catalogue, np.ones((ITEMS, 2)), seed=0)
    assert by_any_tag(target, past).tolist() == [True, True, False]
    content = np.eye(TOPICS)[world.topic]
    clusters = agreement(Seq2ItemConfig(agree_by="clusters", agree_clusters=3), catalogue, content, seed=0)
    assert clusters(target, past).tolist() == [True, False, False]
    with pytest.raises(UserError, match="no tags field 'genre'"):
        agreement(Seq2ItemConfig(agree_field="genre"), catalogue, content, seed=0)
    assert jaccard(catalogue.tags["theme"], np.array([1, 0]), np.array([2, 7])).tolist() == pytest.approx([1 / 3, 0])


def test_catalogue_follows_the_folds_order_and_misses_nothing(world: Planted) -> None:
    backwards = Catalogue.read(world.items, world.ids[::-1])
    forwards = Catalogue.read(world.items, world.ids)
    assert forwards.classes is not None and backwards.classes is not None
    common = [of.tags["theme"] @ of.tags["theme"].T for of in (forwards, backwards)]
    assert (common[0][::-1, ::-1] != common[1]).nnz == 0
    assert np.unique(np.stack([forwards.classes, world.topic]), axis=1).shape[1] == TOPICS
    with pytest.raises(UserError, match="2 items of the split are missing"):
        Catalogue.read(world.items, world.ids.append(pd.Index([-1, -2])))


def test_drawn_users_do_not_depend_on_others() -> None:
    def log(users: list[int]) -> Log:
        rows = np.arange(len(users), dtype=np.int32)
        ones = np.ones(len(users), dtype=np.int32)
        value = ones.astype(np.float32)
        return Log(pd.Index(users), pd.Index([1]), rows, 0 * rows, rows.astype(np.int64), ones, ("like",), value)

    all_users = draw_users(log(list(range(50))), count=10, min_positive=1, seed=0)
    drawn = all_users.user_ids[np.unique(all_users.user)]
    assert len(drawn) == 10
    fewer = draw_users(log([user for user in range(50) if user in drawn or user % 2]), count=10, min_positive=1, seed=0)
    assert set(fewer.user_ids[np.unique(fewer.user)]) == set(drawn)


def _value(records: Records, key: str) -> float:
    return records.values[key]


def test_the_judges_own_space_agrees_with_itself(world: Planted) -> None:
    of, cold = referee(world), cold_of(world)
    mine = np.zeros((ITEMS, of.vectors.shape[1]), dtype=np.float32)
    mine[of.items] = of.vectors
    records = Records(0, "time")
    ranking = RankingConsistency(of, world.ids, cold=cold, anchors=20, rivals=40, top=5, seed=0)
    clustering = Clustering(of, world.topic, world.ids, cold=cold, clusters=3, items=200, seed=0)
    for judged in (subject(mine, "itself"), subject(np.random.default_rng(0).normal(size=(ITEMS, 6)), "noise")):
        ranking.record(records, judged)
        clustering.record(records, judged)
    assert _value(records, "itself/ranking_consistency/all/kendall_tau") > 0.98
    assert _value(records, "itself/ranking_consistency/all/topk_overlap_at_5") > 0.95
    assert _value(records, "itself/clustering/all/nmi") == pytest.approx(1)
    labelled = [_value(records, f"{name}/clustering/all/nmi_labels") for name in ("itself", "noise")]
    assert labelled[0] > labelled[1] + 0.2
    assert abs(_value(records, "noise/ranking_consistency/all/kendall_tau")) < 0.1
    assert _value(records, "noise/clustering/all/nmi") < 0.3


def _questions(queries: list[int], targets: list[int], known: list[bool] | None = None) -> Questions:
    count = len(queries)
    return Questions(
        np.array(queries)[:, None],
        np.arange(count),
        np.array(targets),
        np.zeros(count + 1, dtype=np.int64),
        np.empty(0, dtype=np.int64),
        np.arange(count),
        pd.Index(range(count)),
        np.ones(count, dtype=bool) if known is None else np.array(known),
    )


def test_bijective_and_separability_of_a_perfect_space() -> None:
    vectors = np.vstack([np.eye(6), np.eye(6)])
    asked = _questions(list(range(6)), list(range(6, 12)), [True] * 4 + [False] * 2)
    records = Records(0, "time")
    Bijective(asked, pd.Index(range(12)), pairs=100, seed=0).record(records, subject(vectors))
    for split in ("all", "warm", "cold"):
        assert _value(records, f"subject/bijective/{split}/bijective_accuracy") == 1
    flat = ScoreSubject("flat", lambda query: torch.zeros(len(query), 12), np.ones(12, dtype=bool))
    Bijective(asked, pd.Index(range(12)), pairs=100, seed=0).record(records, flat)
    assert _value(records, "flat/bijective/all/bijective_accuracy") == 0
    plots = Separability(asked, pd.Index(range(12)), pairs=100, seed=0).record(records, subject(vectors))
    assert _value(records, "subject/separability/all/auc") > 0.75
    assert set(plots["kind"]) == {"true", "random", "matched"}
    assert plots.loc[plots["kind"] == "true", "similarity"].tolist() == pytest.approx([1] * 6)
    assert (plots["split"] == "cold").sum() == 6


def test_separability_is_the_auc(world: Planted) -> None:
    """The mean placement over units is scikit-learn's AUC of the same similarities."""
    from sklearn.metrics import roc_auc_score

    asked = seq2item(Seq2ItemConfig(), world.fold, "final", seed=0, cold=cold_of(world))
    records = Records(0, "time")
    noisy = subject(np.eye(TOPICS)[world.topic] + np.random.default_rng(0).normal(0, 1, (ITEMS, TOPICS)))
    plots = Separability(asked, world.ids, pairs=150, seed=0).record(records, noisy)
    for kind, metric in (("random", "auc"), ("matched", "auc_matched")):
        part = plots[plots["kind"].isin(["true", kind])]
        expected = roc_auc_score(part["kind"] == "true", part["similarity"])
        assert _value(records, f"subject/separability/all/{metric}") == pytest.approx(expected, abs=1e-6)


def test_scores_of_different_queries_can_be_compared() -> None:
    """The mean of e₁ and e₂ has length 1/√2; by cosine it is as near to e₁ + e₂ as e₃ is to itself."""
    vectors = subject(np.vstack([np.eye(3), [[1, 1, 0]]]))
    scores = vectors.scores(np.array([[0, 1], [2, -1]]), np.array([3, 2]))
    assert scores.ravel().tolist() == pytest.approx([1, 0, 0, 1])


def test_items_may_ask_by_other_vectors_than_they_are_found_by() -> None:
    found = np.eye(3, dtype=np.float32)
    asks = np.float32([[0, 0.1, 0], [0, 0, 1], [1, 0, 0]])  # each by its successor's
    pairs = np.array([0, 1, 2]), np.array([1, 2, 0])
    asked = Questions.of_pairs(*pairs, item_ids=pd.RangeIndex(3), cold=np.zeros(3, dtype=bool))
    subject = VectorSubject("asks", found, np.ones(3, dtype=bool), asking=asks)
    assert subject.ranks(asked).tolist() == [1, 1, 1]
    assert VectorSubject("found", found, np.ones(3, dtype=bool)).ranks(asked).tolist() == [1.5, 1.5, 1.5]
    assert subject.scores(np.array([[0]]), np.arange(3)).tolist() == [[0, 1, 0]]


def test_an_item_without_a_vector_separates_from_nothing() -> None:
    """Targets 3 and 4 have opposite cosines to their queries, target 5 has no vector: it stands below all."""
    vectors = np.array([[1, 0], [1, 0], [1, 0], [1, 0], [-1, 0], [0, 0]], dtype=np.float32)
    lacking = VectorSubject("lacking", vectors, np.arange(6) < 5)
    assert np.isnan(lacking.similarities(np.array([[0], [1]]), np.array([4, 5]))).tolist() == [False, True]
    scores = np.array([1, -1, np.nan])
    assert (3 * placement(scores, scores)).tolist() == pytest.approx([2.5, 1.5, 0.5])
    plots = Separability(_questions([0, 1, 2], [3, 4, 5]), pd.Index(range(6)), pairs=10, seed=0).record(
        Records(0, "time"), lacking
    )
    assert (plots["kind"] == "true").sum() == 2


def test_matched_items_are_no_targets_of_the_same_user(world: Planted) -> None:
    asked = seq2item(Seq2ItemConfig(), world.fold, "final", seed=0, cold=cold_of(world))
    bench = Separability(asked, world.ids, pairs=150, seed=0)
    own = set(zip(asked.unit.tolist(), asked.target.tolist(), strict=True))
    drawn = zip(bench._questions.unit.tolist(), bench._negatives["matched"].tolist(), strict=True)
    assert not own & set(drawn)


def test_the_judge_of_folds_reads_the_asked_users_alone(tmp_path: Path) -> None:
    """Training users' events with held-out items would tie known items together for no other reason."""
    world = plant(tmp_path)
    test = read_table(world.fold.root / layout.TEST)
    users = pd.Index(test[names.USER_ID].to_pandas())
    theirs = users.isin(users.unique()[:20])
    write_table(test.filter(pa.array(theirs)), world.fold.root / layout.TEST)
    write_table(test.filter(pa.array(~theirs)), world.fold.root / layout.TEST_JUDGE)
    log = world.fold.judge("final")
    assert set(log.user_ids[np.unique(log.user)]) == set(users[theirs])


def test_the_judge_of_others_reads_nobody_whom_training_knows(tmp_path: Path) -> None:
    world = plant(tmp_path)
    assert len(world.fold.judge_of_others("final")) == 0
    strangers = pd.Index([])
    for file in (layout.TRAIN, layout.VALIDATION):
        events = read_table(world.fold.root / file)
        users = pd.Index(events[names.USER_ID].to_pandas())
        strangers = users.unique().sort_values()[:25]
        write_table(events.filter(pa.array(~users.isin(strangers))), world.fold.root / file)
    log = world.fold.judge_of_others("final")
    assert set(log.user_ids[np.unique(log.user)]) == set(strangers)
    of_all = world.fold.judge("final")
    assert len(log) == of_all.user_ids.isin(strangers)[of_all.user].sum()

    def asked(config: EvaluateConfig) -> Questions | str:
        make = partial(judge, config.judge, min_support=config.i2i.min_support, min_positive=1, seed=0)
        none = np.zeros(ITEMS, dtype=bool)
        return questions_of_others(config, world.fold, make, item_ids=world.ids, cold=none, seed=0)

    config = EvaluateConfig(judge=JudgeConfig(dim=8), i2i=I2IConfig(min_support=3, neighbours=4))
    questions = asked(config)
    assert isinstance(questions, Questions)
    # Neighbours by strangers, who like one topic each, are of one topic.
    assert (world.topic[questions.query[questions.asker, 0]] == world.topic[questions.target]).mean() > 0.6
    few = asked(config.model_copy(update={"i2i": I2IConfig(min_support=26)}))
    assert few == "users whom training does not know judge no items (evaluate.i2i.min_support is 26)"
    test = read_table(world.fold.root / layout.TEST)
    theirs = pd.Index(test[names.USER_ID].to_pandas()).isin(strangers)
    write_table(test.filter(pa.array(theirs)), world.fold.root / layout.TEST)
    assert asked(config) == "training knows no user of the judge window: gid_i2i is by others already"
