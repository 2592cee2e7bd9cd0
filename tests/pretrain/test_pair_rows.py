"""Pair tables as rows: texts, what is held out, and what is no negative."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from planted_pairs import write_pairs

from recdistill.errors import UserError
from recdistill.pretrain.datasets import PairDatasets

IDS = pd.Index([f"i{number}" for number in range(50)])


def read(folder: Path, *, held_out: float = 0.2, most: int = 1000, chosen: list[str] | None = None) -> PairDatasets:
    return PairDatasets.read(folder, IDS, held_out=held_out, max_held_out=most, chosen=chosen)


def write_ring(path: Path, *, backwards: bool = False, shuffled: bool = False) -> None:
    """Each item with its neighbour, in both directions."""
    query, target = [*IDS, *np.roll(IDS, -1)], [*np.roll(IDS, -1), *IDS]
    order = np.random.default_rng(0).permutation(len(query)) if shuffled else np.arange(len(query))
    pairs = [(target[at], query[at]) if backwards else (query[at], target[at]) for at in order]
    write_pairs(path, query=[one for one, _ in pairs], target=[other for _, other in pairs])


def test_texts_are_numbered_behind_the_items_and_once_only(tmp_path):
    write_pairs(tmp_path / "labels.parquet", query=["i3", "i4"], target_text=["genre: war", "genre: war"])
    write_pairs(tmp_path / "search.parquet", query_text=["old film", "genre: war"], target=["i1", "i3"])
    found = read(tmp_path, held_out=1e-9)
    assert found.texts == ("genre: war", "old film")
    assert found.datasets["labels"].query.tolist() == [3, 4]
    assert found.datasets["labels"].target.tolist() == [50, 50]
    assert found.datasets["search"].query.tolist() == [51, 50]
    assert found.datasets["search"].target.tolist() == [1, 3]


def test_both_directions_of_a_pair_are_held_out_together_whatever_the_order(tmp_path):
    write_ring(tmp_path / "one" / "ring.parquet")
    write_ring(tmp_path / "two" / "ring.parquet", shuffled=True)
    one, two = (read(tmp_path / name).datasets["ring"] for name in ("one", "two"))

    def pairs(query: torch.Tensor, target: torch.Tensor) -> set[tuple[int, int]]:
        return set(zip(query.tolist(), target.tolist(), strict=True))

    held, trained = pairs(one.held_query, one.held_target), pairs(one.query, one.target)
    assert held == pairs(two.held_query, two.held_target)
    assert held == {(b, a) for a, b in held}
    assert not held & trained
    assert 8 <= len(held) <= 36  # a fifth of a hundred


def test_at_most_so_many_pairs_are_held_out(tmp_path):
    write_pairs(tmp_path / "chain.parquet", query=list(IDS[:-1]), target=list(IDS[1:]))
    dataset = read(tmp_path, held_out=0.5, most=4).datasets["chain"]
    assert len(dataset.held_query) == 4
    assert 10 < len(dataset) < 40  # what is held out beyond these trains nowhere either


def test_known_pairs_in_both_directions_and_the_query_itself_are_no_negatives(tmp_path):
    score = [0.0, *[1.0] * 48]
    write_pairs(tmp_path / "chain.parquet", query=list(IDS[:-1]), target=list(IDS[1:]), score=score)
    dataset = read(tmp_path, held_out=0.3).datasets["chain"]
    rows = torch.arange(50)
    expected = np.eye(50, dtype=bool) | np.eye(50, k=1, dtype=bool) | np.eye(50, k=-1, dtype=bool)
    for query, target in [(0, 1), *zip(dataset.held_query.tolist(), dataset.held_target.tolist(), strict=True)]:
        expected[query, target] = expected[target, query] = (
            False  # judged not to belong, and what training may not know
        )
    assert np.array_equal(dataset.related(rows, rows).numpy(), expected)
    place, row = dataset.known(rows).T
    found = np.zeros((50, 50), dtype=bool)
    found[place, row] = True
    assert np.array_equal(found, expected & ~np.eye(50, dtype=bool))


def test_what_one_dataset_holds_out_no_other_trains_on(tmp_path):
    write_ring(tmp_path / "all.parquet")
    write_pairs(tmp_path / "part.parquet", query=list(IDS[:20]), target=list(IDS[1:21]))
    data = read(tmp_path, held_out=0.3, most=2).datasets
    held = {(q, t) for q, t in zip(data["part"].held_query.tolist(), data["part"].held_target.tolist(), strict=True)}
    trained = set(zip(data["all"].query.tolist(), data["all"].target.tolist(), strict=True))
    assert len(held) == 2
    assert not trained & (held | {(t, q) for q, t in held})


def test_what_is_not_there_is_named(tmp_path):
    write_ring(tmp_path / "ring.parquet")
    with pytest.raises(UserError, match=r"no pair dataset other \(there are: ring\)"):
        read(tmp_path, chosen=["other"])
    with pytest.raises(UserError, match=r"no pair dataset at all"):
        read(tmp_path / "nowhere")


def test_an_item_outside_the_catalogue_is_an_error(tmp_path):
    write_pairs(tmp_path / "broken.parquet", query=["i1", "i2"], target=["i2", "stranger"])
    with pytest.raises(UserError, match=r"1 pairs name an item outside the catalogue in target_item_id.*'stranger'"):
        read(tmp_path)
