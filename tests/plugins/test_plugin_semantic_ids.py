"""Semantic IDs as sparse features, and the item side of an export as one module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plugin_exports import SIZES, codes_of, vectors_of, write_export
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection

from recdistill.contracts.tables import EmbeddingTable, read_table, write_table
from recdistill.errors import UserError
from recdistill.plugins import Exported, ItemFeatures, SemanticIdBags, StudentTable

CODES = np.array([[1, 2], [-1, -1], [3, 0]], dtype=np.int32)


def names(items: int) -> list[str]:
    return [f"i{item}" for item in range(items)]


def export(folder: Path, items: int, *, seed: int = 0, coded: list[str] | None = None) -> Path:
    codes = codes_of(items if coded is None else len(coded))
    return write_export(folder, names(items), vectors=vectors_of(items, seed=seed), codes=codes, coded=coded)


def test_bags_are_prefixes_by_hand_and_empty_without_codes() -> None:
    bags = SemanticIdBags(CODES, sizes=SIZES)
    sparse = bags(torch.tensor([2, 1, -1, 0]))
    assert sparse.keys() == ["item_sid_0", "item_sid_1"]
    assert sparse["item_sid_0"].lengths().tolist() == sparse["item_sid_1"].lengths().tolist() == [1, 0, 0, 1]
    assert sparse["item_sid_0"].values().tolist() == [3, 1]
    assert sparse["item_sid_1"].values().tolist() == [3 * 3 + 0, 1 * 3 + 2]


def test_a_history_is_a_bag_of_several() -> None:
    sparse = SemanticIdBags(CODES, sizes=SIZES)(torch.tensor([0, 1, 2, -1]), torch.tensor([3, 0, 1]), role="history")
    assert sparse["history_sid_0"].lengths().tolist() == [2, 0, 0]
    assert sparse["history_sid_1"].values().tolist() == [5, 9]


def test_tables_hold_every_prefix_and_are_shared_by_roles() -> None:
    configs = SemanticIdBags(CODES, sizes=SIZES).configs(16, roles=("item", "history"))
    assert [(config.name, config.num_embeddings, config.embedding_dim) for config in configs] == [
        ("sid_0", 4, 16),
        ("sid_1", 12, 16),
    ]
    assert configs[1].feature_names == ["item_sid_1", "history_sid_1"]


@given(st.data())
def test_hashed_prefixes_stay_in_their_table_and_depend_on_the_prefix_alone(data) -> None:
    sizes = data.draw(st.lists(st.integers(1, 256), min_size=1, max_size=8))
    codes = np.array(
        data.draw(st.lists(st.tuples(*(st.integers(0, size - 1) for size in sizes)), min_size=2, max_size=20)),
        dtype=np.int32,
    )
    bags = SemanticIdBags(codes, sizes=sizes, max_rows=1000)
    total = 1
    for level, size in enumerate(sizes):
        total *= size
        rows = bags.prefixes[:, level]
        assert int(bags.table_rows[level]) == min(total, 1000)
        assert bool(((rows >= 0) & (rows < bags.table_rows[level])).all())
        same_prefix = (codes[:, None, : level + 1] == codes[None, :, : level + 1]).all(axis=-1)
        same_row = (rows[:, None] == rows[None, :]).numpy()
        assert same_row[same_prefix].all()
        if total <= 1000:  # one to one
            assert not same_row[~same_prefix].any()


def test_hashed_prefixes_spread_over_the_table() -> None:
    codes = np.stack(np.meshgrid(np.arange(100), np.arange(100)), axis=-1).reshape(-1, 2).astype(np.int32)
    rows = SemanticIdBags(codes, sizes=(100, 100), max_rows=5000).prefixes[:, 1]
    counts = torch.bincount(rows, minlength=5000).double()
    assert counts.mean() == 2
    assert 1.8 < counts.var() < 2.2  # as drawn by chance


@pytest.mark.parametrize("codes", [[[1, 3]], [[4, 0]], [[1, -1]], [[1, 2, 0]]])
def test_codes_outside_of_their_levels_are_an_error(codes) -> None:
    with pytest.raises(UserError, match="codes outside of levels of"):
        SemanticIdBags(np.array(codes), sizes=SIZES)


def collection(tables: list, *, fused: bool) -> torch.nn.Module:
    if not fused:
        return EmbeddingBagCollection(tables=tables)
    return FusedEmbeddingBagCollection(tables, optimizer_type=torch.optim.SGD, optimizer_kwargs={"lr": 1.0})


@pytest.mark.parametrize("fused", [False, True])
def test_prefixes_learn_in_a_collection_beside_a_teams_own_tables(fused, tmp_path) -> None:
    features = ItemFeatures.read(export(tmp_path, 8, coded=["i1", "i2", "i5"]))
    own = EmbeddingBagConfig(name="user", embedding_dim=4, num_embeddings=3, feature_names=["user"])
    bags = collection([own, *features.sids.configs(4)], fused=fused)
    before = {name: value.clone() for name, value in bags.state_dict().items()}
    users = KeyedJaggedTensor(keys=["user"], values=torch.tensor([2, 0, 1]), lengths=torch.ones(3, dtype=torch.int64))
    rows = features.rows(["i5", "nobody", "i3"])
    pooled = bags(KeyedJaggedTensor.concat([users, features.sids(rows)]))
    assert pooled["item_sid_0"].shape == (3, 4)
    assert not pooled["item_sid_0"][1:].any()  # an unknown item, and one without codes
    pooled.values().sum().backward()
    if not fused:
        torch.optim.SGD(bags.parameters(), lr=1.0).step()
    moved = {
        name.split(".")[1]: (value != before[name]).any(dim=1).nonzero().flatten().tolist()
        for name, value in bags.state_dict().items()
    }
    # i5 is the third of the coded items: codes 2, 0.
    assert moved == {"user": [0, 1, 2], "sid_0": [2], "sid_1": [2 * 3]}


def everything(features: ItemFeatures, ids: list[str]) -> list[torch.Tensor]:
    rows = features.rows(ids)
    sparse = features.sids(rows)
    return [features.dense(rows), sparse.values(), sparse.lengths()]


def test_the_whole_plug_in_takes_over_the_state_of_a_larger_one(tmp_path) -> None:
    small = ItemFeatures.read(export(tmp_path / "small", 3))
    large = ItemFeatures.read(export(tmp_path / "large", 20, seed=3), trainable=True)
    with torch.no_grad():
        large.student.weight.add_(1.0)  # as training does
    torch.save(large.state_dict(), tmp_path / "state.pt")
    small.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    ids = ["i19", "i2", "nobody", "i7"]
    for ours, theirs in zip(everything(small, ids), everything(large, ids), strict=True):
        assert torch.equal(ours, theirs)


def test_a_state_of_other_codebooks_is_refused(tmp_path) -> None:
    features = SemanticIdBags(CODES, sizes=SIZES)
    with pytest.raises(UserError, match=r"have sizes \[4, 4\], this ranker's \[4, 3\]"):
        features.load_state_dict(SemanticIdBags(CODES, sizes=(4, 4)).state_dict())
    with pytest.raises(UserError, match=r"have table_rows \[4, 5\], this ranker's \[4, 12\]"):
        features.load_state_dict(SemanticIdBags(CODES, sizes=SIZES, max_rows=5).state_dict())


def test_new_items_are_added_and_nothing_else_changes(tmp_path) -> None:
    features = ItemFeatures.read(export(tmp_path / "then", 20), centre=False)
    before = everything(features, names(20))
    assert features.add(Exported.read(export(tmp_path / "now", 23))) == 3
    for ours, theirs in zip(everything(features, names(20)), before, strict=True):
        assert torch.equal(ours, theirs)
    rows = features.rows(["i22"])
    np.testing.assert_array_equal(features.dense(rows)[0, :-1].detach(), vectors_of(23)[22])
    assert features.sids(rows).values().tolist() == [22 % 4, (22 % 4) * 3 + (22 // 4) % 3]
    assert features.add(Exported.read(tmp_path / "now")) == 0


def test_items_of_another_student_or_other_codebooks_are_refused_whole(tmp_path) -> None:
    features = ItemFeatures.read(export(tmp_path / "then", 20))
    later = Exported.read(export(tmp_path / "now", 23))
    with pytest.raises(UserError, match="another student"):
        features.add(Exported.read(export(tmp_path / "other", 23, seed=1)))
    other = later.codes.copy()
    other[:11] = (other[:11] + 1) % 3
    with pytest.raises(UserError, match="11 of 20 items that both know have other semantic IDs"):
        features.add(Exported(later.embeddings, other, later.sizes))
    with pytest.raises(UserError, match=r"levels of \[5, 3\] codes"):
        features.add(Exported(later.embeddings, later.codes, (5, 3)))
    assert len(features.vocabulary) == len(features.student.weight) == len(features.sids.prefixes) == 20


def test_repeated_new_items_are_refused_before_anything_is_added(tmp_path) -> None:
    features = ItemFeatures.read(export(tmp_path / "then", 20))
    later = Exported.read(export(tmp_path / "now", 23))
    ids = pd.Index([*names(20), "x", "y", "x"])
    with pytest.raises(UserError, match=r"1 item ids stand in the vocabulary already, e.g. \['x'\]"):
        features.add(Exported(EmbeddingTable(ids, later.embeddings.vectors), later.codes, later.sizes))
    assert len(features.vocabulary) == len(features.student.weight) == len(features.sids.prefixes) == 20
    z = Exported(EmbeddingTable(pd.Index(["z"]), vectors_of(23)[22:]), later.codes[22:], later.sizes)
    assert features.add(z) == 1
    expected = StudentTable(vectors_of(20), centre=True, trainable=False)
    expected.append(vectors_of(23)[22:])
    assert torch.equal(features.dense(features.rows(["z"]))[0, :-1], expected.weight[20])


def test_continued_ids_may_move_some_items_which_stay_where_they_were(tmp_path) -> None:
    features = ItemFeatures.read(export(tmp_path / "then", 20))
    later = Exported.read(export(tmp_path / "now", 23))
    continued = later.codes.copy()
    continued[:9] = (continued[:9] + 1) % 3
    before = features.sids.prefixes.clone()
    assert features.add(Exported(later.embeddings, continued, later.sizes)) == 3
    assert torch.equal(features.sids.prefixes[:20], before)


def test_levels_that_code_the_vector_itself_are_features_by_themselves(tmp_path) -> None:
    folder = export(tmp_path, 8)
    path = folder / "semantic_ids.parquet"
    write_table(read_table(path), path, metadata={"sizes": list(SIZES), "method": "kmeans"})
    sids = ItemFeatures.read(folder).sids
    assert sids.prefixes.tolist() == codes_of(8).tolist()
    assert sids.table_rows.tolist() == list(SIZES)
    hashed = SemanticIdBags(np.array([[0, 7], [1, 7], [1, 8]]), sizes=(2, 900), residual=False, max_rows=100)
    assert hashed.prefixes[0, 1] == hashed.prefixes[1, 1] != hashed.prefixes[2, 1]


def test_an_export_that_does_not_fit_together_is_refused(tmp_path) -> None:
    write_export(tmp_path, ["a", "b"], vectors=vectors_of(2), codes=codes_of(2), coded=["a", "c"])
    with pytest.raises(UserError, match=r"1 items have no vector in item_embeddings.parquet, e.g. \['c'\]"):
        Exported.read(tmp_path)
    write_export(tmp_path, ["a", "b"], vectors=vectors_of(2), codes=codes_of(2), coded=["a", "a"])
    with pytest.raises(UserError, match="item ids repeat"):
        Exported.read(tmp_path)
    write_export(tmp_path, ["a", "b"], vectors=vectors_of(2), codes=np.array([[0, 3], [0, 0]]))
    with pytest.raises(UserError, match=r"codes outside of the levels' sizes \[4, 3\]"):
        Exported.read(tmp_path)
    write_export(tmp_path, ["a", "b"], vectors=vectors_of(2), codes=np.array([[0], [1]]))
    with pytest.raises(UserError, match="codes outside of"):
        Exported.read(tmp_path)
    write_table(read_table(tmp_path / "semantic_ids.parquet").drop_columns("codes"), tmp_path / "semantic_ids.parquet")
    with pytest.raises(UserError, match="no column codes"):
        Exported.read(tmp_path)
    write_export(tmp_path, ["1", "2"], vectors=vectors_of(2), codes=codes_of(2), coded=[1, 2])
    with pytest.raises(UserError, match="ids are integers"):
        Exported.read(tmp_path)
