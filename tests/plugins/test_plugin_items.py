"""Ids, vectors and dense columns of the TorchRec plug-in."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plugin_exports import vectors_of
from torchrec import EmbeddingBagCollection
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection

from recdistill.errors import UserError
from recdistill.plugins import DenseColumns, ItemVocabulary, StudentTable


def saved_and_read(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    stream = io.BytesIO()
    torch.save(module.state_dict(), stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)


@pytest.mark.parametrize("ids", [["a", "ä€", "c c"], [7, -3, 2**40], np.array([7, 3, 5], dtype=np.int32)])
def test_known_ids_have_their_rows_and_unknown_ones_none(ids) -> None:
    vocabulary = ItemVocabulary(ids)
    other = "zz" if isinstance(ids[0], str) else 99
    assert vocabulary.rows([ids[2], other, ids[0]]).tolist() == [2, -1, 0]
    assert vocabulary.rows(pd.Series([ids[1]]).astype("category")).tolist() == [1]
    assert vocabulary.rows([]).tolist() == []


@pytest.mark.parametrize(
    ("known", "asked", "says"),
    [
        (["1", "2"], [1, 2], "integers .e.g. 1., the export's are strings .e.g. '1'"),
        ([1, 2], ["1"], "strings .e.g. '1'., the export's are integers"),
        ([1, 2], [1.0, 2.0], "float64 .e.g. 1.0., neither"),
        ([1, 2], [1.0, None], "1 of 2 ids are null"),
        (["a"], ["a", None], "1 of 2 ids are null"),
        (["a"], ["a", 1], "neither strings nor integers"),
    ],
)
def test_ids_of_another_kind_are_an_error_not_unknown(known, asked, says) -> None:
    with pytest.raises(UserError, match=says):
        ItemVocabulary(known).rows(asked)


@pytest.mark.parametrize("ids", [[], ["a", "b", "a"], [1, 1]])
def test_a_vocabulary_has_each_id_once(ids) -> None:
    with pytest.raises(UserError, match=r"no item ids|stand in the vocabulary already"):
        ItemVocabulary(ids)


@given(
    st.lists(st.text(st.characters(blacklist_categories=["Cs"])), min_size=1, unique=True)
    | st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, unique=True)
)
def test_ids_travel_in_the_state_whatever_they_are(ids) -> None:
    vocabulary = ItemVocabulary(ids)
    read = ItemVocabulary(["another"])
    read.load_state_dict(saved_and_read(vocabulary))
    assert read.ids.tolist() == ids
    assert read.rows(ids).tolist() == list(range(len(ids)))


def test_appended_ids_stand_behind_and_known_ones_are_refused() -> None:
    vocabulary = ItemVocabulary(["a", "b"])
    vocabulary.append(["c"])
    assert vocabulary.rows(["c", "a"]).tolist() == [2, 0]
    with pytest.raises(UserError, match=r"1 item ids stand in the vocabulary already, e.g. \['b'\]"):
        vocabulary.append(["d", "b"])
    assert vocabulary.ids.tolist() == ["a", "b", "c"]
    assert saved_and_read(vocabulary)["ends"].tolist() == [0, 1, 2, 3]


def test_an_unknown_item_has_the_zero_vector_and_says_so() -> None:
    table = StudentTable(np.array([[3, 4], [0, 0], [1, 0]], dtype=np.float32), centre=False, trainable=False)
    vectors, known = table(torch.tensor([0, -1, 1]))
    assert vectors.tolist() == [[3, 4], [0, 0], [0, 0]]
    assert known.tolist() == [1, 0, 1]


def test_a_bag_is_the_mean_of_its_known_items() -> None:
    table = StudentTable(np.array([[2, 0], [0, 4]], dtype=np.float32), centre=False, trainable=False)
    vectors, known = table(torch.tensor([0, 1, -1, -1, 0]), torch.tensor([3, 0, 1, 1]))
    assert vectors.tolist() == [[1, 2], [0, 0], [0, 0], [2, 0]]
    assert known.tolist() == [1, 0, 0, 1]


def test_centred_vectors_are_directions_less_their_mean() -> None:
    table = StudentTable(np.array([[2, 0], [0, 5]], dtype=np.float32), centre=True, trainable=False)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(table.weight.detach(), [[half, -half], [-half, half]], atol=1e-6)
    table.append(np.array([[-1, 0]], dtype=np.float32))  # [-1, 0] less [.5, .5] has the direction [-3, -1]
    np.testing.assert_allclose(table.weight[2].detach(), np.array([-3, -1]) / np.sqrt(10), atol=1e-6)


def test_only_a_trainable_table_learns_and_only_where_it_was_looked_up() -> None:
    frozen, trained = (StudentTable(vectors_of(5), centre=True, trainable=yes) for yes in (False, True))
    assert not frozen(torch.tensor([1]))[0].requires_grad
    trained(torch.tensor([1, -1, 3]))[0].sum().backward()
    assert trained.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [1, 3]


@pytest.mark.parametrize("trainable", [False, True])
def test_a_state_brings_its_rows_however_many(trainable) -> None:
    ours, theirs = (StudentTable(vectors_of(items), centre=True, trainable=trainable) for items in (3, 30))
    weight = ours.weight
    ours.load_state_dict(saved_and_read(theirs))
    assert ours.weight is weight  # an optimizer made before knows it still
    assert torch.equal(ours.weight, theirs.weight)
    theirs.append(vectors_of(32)[30:])
    ours.append(vectors_of(32)[30:])  # the mean that is taken off came along
    assert torch.equal(ours.weight, theirs.weight)


def test_another_students_vectors_are_refused() -> None:
    table = StudentTable(vectors_of(40), centre=True, trainable=False)
    rows = torch.arange(40)
    table.check_space(rows, vectors_of(40))
    with pytest.raises(UserError, match="another student: those of 16 items"):
        table.check_space(rows, vectors_of(40, seed=1))
    with pytest.raises(UserError, match="7 wide, the table 8"):
        table.check_space(rows, vectors_of(40, width=7))


@pytest.mark.parametrize("fused", [False, True])
def test_the_table_stands_in_a_collection_of_bags(fused) -> None:
    table = StudentTable(vectors_of(6), centre=True, trainable=False)
    tables = [table.config(["item"])]
    if fused:
        bags = FusedEmbeddingBagCollection(tables, optimizer_type=torch.optim.SGD, optimizer_kwargs={"lr": 0.1})
        table.fill(bags)
    else:
        bags = EmbeddingBagCollection(tables=tables)
    rows, lengths = torch.tensor([2, -1, 5, 0]), torch.tensor([1, 1, 2])
    pooled = bags(table.bags(rows, lengths, feature="item"))
    np.testing.assert_allclose(pooled["item"].detach(), table(rows, lengths)[0].detach(), atol=1e-6)
    pooled.values().sum().backward()
    if fused:  # its optimizer has stepped
        moved = (bags.state_dict()["embedding_bags.student.weight"] != table.weight).any(dim=1)
        assert moved.nonzero().flatten().tolist() == [0, 2, 5]


def test_filling_a_collection_without_the_table_is_an_error() -> None:
    table, other = (StudentTable(vectors_of(items), centre=True, trainable=False) for items in (6, 7))
    with pytest.raises(UserError, match=r"no table 'student' of shape \[6, 8\] \(found: student \[7, 8\]\)"):
        table.fill(EmbeddingBagCollection(tables=[other.config(["item"])]))


def test_dense_columns_by_hand() -> None:
    columns = DenseColumns(["a", "b", "c"])
    frame = pd.DataFrame({"b": [1, 1], "a": [0.0, 2.0], "c": [np.nan, np.nan]})
    columns.fit(columns.read(frame))
    given = columns(columns.read(pd.DataFrame({"a": [1.0, np.nan, 1e9], "b": [3, 1, 1], "c": [np.nan, 0.5, 0.0]})))
    expected = [[0, 2, 0, 1, 1, 0], [0, 0, 0.5, 0, 1, 1], [5, 0, 0, 1, 1, 1]]
    np.testing.assert_allclose(given, expected, atol=1e-6)
    read = DenseColumns(["a", "b", "c"])
    read.load_state_dict(saved_and_read(columns))
    assert torch.equal(read(columns.read(frame)), columns(columns.read(frame)))


def test_dense_columns_name_what_is_missing() -> None:
    with pytest.raises(UserError, match=r"missing: \['b'\]; that are not numbers: \['a'\]"):
        DenseColumns(["a", "b"]).read(pd.DataFrame({"a": ["x"]}))
