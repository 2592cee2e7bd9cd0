"""What a step takes: draws by dataset, hard negatives that are remembered, rows under instructions, validation."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from planted_pairs import IDS, OF_GROUP, STUDENT, Planted, group

from recdistill.contracts.tables import write_table
from recdistill.errors import UserError
from recdistill.pretrain.batches import Sampler
from recdistill.pretrain.config import BalancingConfig, Sides
from recdistill.pretrain.datasets import PairDataset, PairDatasets
from recdistill.pretrain.encoder import Instructions, RowEncoder, Snapshot
from recdistill.pretrain.mining import refresh
from recdistill.pretrain.sampling import dataset_weights
from recdistill.pretrain.temperatures import Temperatures
from recdistill.pretrain.texts import text_features, with_texts
from recdistill.pretrain.trainee import Trainee
from recdistill.pretrain.validation import held_out_ndcg
from recdistill.students import EncodersConfig, FeatureStore, StudentConfig, build_student, encode
from recdistill.training import step_generator


def dataset(
    name: str, pairs: list[tuple[int, int]], *, rows: int = 100, held: list[tuple[int, int]] | None = None
) -> PairDataset:
    query, target = torch.tensor(pairs).T
    held_query, held_target = torch.tensor(held or [(0, 0)]).T[:, : len(held or ())]
    return PairDataset(name, False, rows, query, target, torch.ones(len(pairs)), held_query, held_target)


def titled(folder: Path, titles: list[str]) -> Path:
    """A catalogue of titles, encoded by the packaged text tower."""
    table = pa.table({"item_id": pa.array(IDS[: len(titles)]), "text_title": pa.array(titles)})
    write_table(table, folder / "data" / "items.parquet")
    media = {name: pa.array([], pa.string()) for name in ("media_id", "path")}
    write_table(pa.table({**media, "bytes": pa.array([], pa.binary())}), folder / "data" / "media.parquet")
    encoders = {"text": {"lexical": 2}, "image": None, "audio": None, "structured": None, "cache": folder / "cache"}
    encode(EncodersConfig.model_validate(encoders), data=folder / "data", out=folder / "content")
    return folder / "content"


def unit_vectors(trainee: Trainee, encoder: RowEncoder, name: str, side: int, rows: torch.Tensor) -> torch.Tensor:
    return Snapshot(trainee, encoder, [(name, side, rows)]).vectors(name, side, rows)


ONE = dataset("one", [(number, number + 1) for number in range(10)])
TWO = dataset("two", [(50 + number, 60 + number) for number in range(5)])


def test_a_specialised_batch_is_of_one_dataset_as_often_as_its_weight_says() -> None:
    sampler = Sampler([ONE, TWO], [0.25, 0.75], specialised=True)
    drawn = [sampler.draw(8, step_generator(0, step)) for step in range(400)]
    assert all(len(batch.dataset.unique()) == 1 for batch in drawn)
    share = np.mean([int(batch.dataset[0]) for batch in drawn])
    assert abs(share - 0.75) < 0.08
    for batch in drawn:
        source = (ONE, TWO)[int(batch.dataset[0])]
        pairs = set(zip(source.query.tolist(), source.target.tolist(), strict=True))
        assert set(zip(batch.query.tolist(), batch.target.tolist(), strict=True)) <= pairs


def test_a_mixed_batch_holds_both_and_each_pair_is_its_dataset_s() -> None:
    batch = Sampler([ONE, TWO], [0.5, 0.5], specialised=False).draw(200, step_generator(0, 1))
    assert 60 < int(batch.dataset.sum()) < 140
    offset = torch.where(batch.dataset == 0, 1, 10)
    assert torch.equal(batch.target - batch.query, offset)
    assert torch.equal(batch.query >= 50, batch.dataset == 1)


def test_equal_generators_draw_alike() -> None:
    sampler = Sampler([ONE, TWO], [0.5, 0.5], specialised=False)
    first, second = (sampler.draw(16, step_generator(3, 4)) for _ in range(2))
    assert torch.equal(first.query, second.query)
    assert torch.equal(first.dataset, second.dataset)


def test_each_pair_s_negatives_are_excluded_by_its_own_dataset() -> None:
    sampler = Sampler([ONE, TWO], [0.5, 0.5], specialised=False)
    batch = sampler.draw(64, step_generator(0, 2))
    excluded = sampler.excluded(batch, batch.target)
    # Of the chain "one" a query knows both neighbours, and is a target itself.
    expected = (batch.target[None] == batch.target[:, None]) | (batch.target[None] == batch.query[:, None])
    expected |= (batch.target[None] == batch.query[:, None] - 1) & (batch.dataset == 0)[:, None]
    assert torch.equal(excluded, expected)


def test_hard_negatives_come_with_their_pair_and_survive_a_restart() -> None:
    sampler = Sampler([ONE, TWO], [1.0, 0.0], specialised=True, hard_negatives=2)
    assert bool((sampler.draw(4, step_generator(0, 0)).hard == -1).all())
    mined = torch.stack([ONE.query + 20, ONE.query + 30], dim=1)
    sampler.mined(0, mined, 0.25)
    batch = sampler.draw(4, step_generator(0, 0))
    assert torch.equal(batch.hard, torch.stack([batch.query + 20, batch.query + 30], dim=1))
    again = Sampler([ONE, TWO], [1.0, 0.0], specialised=True, hard_negatives=2)
    again.load_state_dict(sampler.state_dict())
    assert torch.equal(again.draw(4, step_generator(0, 0)).hard, batch.hard)
    assert again.thresholds[0] == 0.25
    assert torch.isnan(again.thresholds[1])


@pytest.fixture(scope="module")
def trainee(planted: Planted) -> Trainee:
    student = build_student(STUDENT, content=planted.content, seed=0)
    return Trainee(student, Temperatures(1, initial=0.1, low=0.01, high=1.0), None)


@pytest.fixture(scope="module")
def encoder(planted: Planted) -> RowEncoder:
    store = FeatureStore.load(planted.content, pd.Index(IDS))
    return RowEncoder(store, Instructions(None, {}), item_ids=pd.Index(IDS), texts=())


def test_mined_negatives_are_near_unrelated_and_below_the_threshold(trainee: Trainee, encoder: RowEncoder) -> None:
    pairs = [(row, other) for row in range(0, 72, 3) for other in range(72) if group(row) == group(other) != row]
    source = dataset("groups", [(q, t) for q, t in pairs if q != t], rows=72)
    sampler = Sampler([source], [1.0], specialised=True, hard_negatives=3)
    refresh(sampler, trainee, encoder, most_queries=1000, seed=0)
    batch = sampler.draw(200, step_generator(0, 0))
    unit = unit_vectors(trainee, encoder, "groups", 0, torch.arange(72))
    threshold = float(sampler.thresholds[0])
    for query, hard in zip(batch.query.tolist(), batch.hard, strict=True):
        cosine = unit[query] @ unit.T
        allowed = [t for t in source.targets.tolist() if group(t) != group(query) and float(cosine[t]) < threshold]
        best = sorted(allowed, key=lambda row: -float(cosine[row]))[:3]
        assert hard.tolist() == best + [-1] * (3 - len(best))


def test_mining_warns_of_nothing(trainee: Trainee, encoder: RowEncoder) -> None:
    sampler = Sampler([dataset("pairs", [(0, 1), (3, 4)], rows=72)], [1.0], specialised=True, hard_negatives=1)
    torch.set_warn_always(True)  # else torch tells a thing once a process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            refresh(sampler, trainee, encoder, most_queries=1000, seed=0)
    finally:
        torch.set_warn_always(False)


def test_the_threshold_is_found_by_few_queries_where_told(trainee: Trainee, encoder: RowEncoder) -> None:
    source = dataset("groups", [(row, (row + 1) % 72) for row in range(72)], rows=72)
    sampler = Sampler([source], [1.0], specialised=True, hard_negatives=1)
    refresh(sampler, trainee, encoder, most_queries=5, seed=0)
    assert -1 < float(sampler.thresholds[0]) < 1
    assert bool((sampler.draw(50, step_generator(0, 0)).hard >= 0).any())


def test_held_out_pairs_are_ranked_among_the_targets_without_known_ones(trainee: Trainee, encoder: RowEncoder) -> None:
    source = dataset("some", [(0, 5), (0, 9), (3, 7)], rows=72, held=[(0, 7), (3, 3)])
    unit = unit_vectors(trainee, encoder, "some", 0, torch.arange(72)).double()
    candidates = [3, 7]  # of query 0: its known targets 5 and 9 are left out
    ranks = [1 + sum(float(unit[0] @ unit[c]) > float(unit[0] @ unit[7]) for c in candidates)]
    others = [3, 5, 9]  # of query 3, which asks for itself; 7 is known to belong to it
    ranks.append(1 + sum(float(unit[3] @ unit[c]) > float(unit[3] @ unit[3]) + 1e-9 for c in others))
    expected = np.mean([1 / math.log2(1 + rank) for rank in ranks])
    assert held_out_ndcg(trainee, [source], encoder)["some"] == pytest.approx(expected)
    assert held_out_ndcg(trainee, [ONE], encoder) == {}


def test_weights_by_size_alike_and_by_likeness(trainee: Trainee, encoder: RowEncoder) -> None:
    near = dataset("near", [(row, row + 1) for row in range(OF_GROUP - 1)], rows=72, held=[(0, 2), (3, 5), (6, 8)])
    far = dataset("far", [(row, row + 1) for row in range(48, 71)], rows=72)
    config = BalancingConfig(centroids=4, temperature=0.02)

    def weights(how: str) -> list[float]:
        return dataset_weights(how, config, [near, far], benchmarks=[near], trainee=trainee, encoder=encoder, seed=0)

    assert weights("uniform") == [0.5, 0.5]
    assert weights("size") == pytest.approx([11 / 34, 23 / 34])
    adaptive = weights("adaptive")
    assert sum(adaptive) == pytest.approx(1)
    assert adaptive[0] > 0.6
    with pytest.raises(UserError, match="held-out pairs, of which there are none"):
        dataset_weights("adaptive", config, [near, far], benchmarks=[far], trainee=trainee, encoder=encoder, seed=0)


def test_an_instruction_changes_a_row_s_key_and_vector(tmp_path: Path) -> None:
    content = titled(tmp_path, ["Night train", "Quiet water", "Old war", "The king", "Two dogs"])
    settings = StudentConfig(dim=8, prefixes=(), instructions={"find": "Find items like this one."})
    student = build_student(settings, content=content, seed=0)
    told = RowEncoder(
        FeatureStore.load(content, pd.Index(IDS[:5])),
        Instructions.read({"asked": Sides(query="find", target=None)}, student),
        item_ids=pd.Index(IDS[:5]),
        texts=(),
    )
    trainee = Trainee(student, Temperatures(1, initial=0.1, low=0.01, high=1.0), None)
    rows = torch.arange(5)
    assert torch.equal(told.keys("asked", 1, rows), rows)
    assert bool((told.keys("asked", 0, rows) != rows).all())
    query, target = (unit_vectors(trainee, told, "asked", side, rows) for side in (0, 1))
    torch.testing.assert_close(target, unit_vectors(trainee, told, "another", 0, rows))
    assert float(F.cosine_similarity(query, target).max()) < 0.999
    with pytest.raises(
        UserError, match=r"names search, which the student does not know \(student.instructions: find\)"
    ):
        Instructions.read({"asked": Sides(query="search")}, student)


def test_a_text_has_the_vector_of_an_item_with_this_text_alone(tmp_path: Path) -> None:
    titles = ["Night train", "Quiet water", "Old war", "The king", "Two dogs"]
    content = titled(tmp_path, titles)
    student = build_student(StudentConfig(dim=8, prefixes=()), content=content, seed=0)
    items = FeatureStore.load(content, pd.Index(IDS[:5]))
    joint = with_texts(items, ("a dog on a train", "war"), student, cache=tmp_path / "cache")
    assert len(joint) == 7
    features, present = joint.batch(torch.tensor([5, 6]))
    assert {modality: there.tolist() for modality, there in present.items()} == {"text": [True, True]}
    single = text_features(student, ["war"], cache=tmp_path / "cache")
    torch.testing.assert_close(features["text"][1], single[0])
    # The second time the cache answers: a tower that cannot be asked would fail.
    parts = sorted((tmp_path / "cache").rglob("part-*"))
    with_texts(items, ("war", "a dog on a train"), student, cache=tmp_path / "cache")
    assert sorted((tmp_path / "cache").rglob("part-*")) == parts


def test_texts_stand_behind_the_items_under_their_names(encoder: RowEncoder) -> None:
    named = RowEncoder(encoder.source, encoder.instructions, item_ids=pd.Index(["a", "b"]), texts=("genre: war",))
    assert [named.name(row) for row in range(3)] == ["a", "b", "'genre: war'"]


def test_all_datasets_of_a_folder_are_read_unless_some_are_chosen(planted: Planted) -> None:
    folder = planted.pairs / "final"
    read = PairDatasets.read(folder, pd.Index(IDS), held_out=0.1, max_held_out=20, chosen=None)
    assert list(read.datasets) == ["graded", "together"]
    assert [of.graded for of in read.datasets.values()] == [True, False]
    assert max(len(of.held_query) for of in read.datasets.values()) <= 20
