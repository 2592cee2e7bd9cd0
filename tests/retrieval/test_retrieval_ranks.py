"""Ranks: golden values, the definition, exact ties, and independence of blocks and order."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recdistill.retrieval.cases import Cases
from recdistill.retrieval.ranks import (
    case_ranks,
    mean_query,
    ranks_of_scores,
    seq2item_ndcg,
    target_ranks,
    topk,
)


def naive(
    scores: Tensor, targets: Tensor, excluded: list[list[int]], candidates: Tensor, present: Tensor, asker: Tensor
) -> Tensor:
    ranks = []
    for case, target in enumerate(targets.tolist()):
        rivals = candidates.clone()
        rivals[excluded[case]] = False
        rivals[target] = False
        row = torch.where(present, scores[asker[case]], torch.tensor(-torch.inf, dtype=scores.dtype))
        above, equal = (row[rivals] > row[target]).sum(), (row[rivals] == row[target]).sum()
        ranks.append(1 + above + equal / 2)
    return torch.stack(ranks).double()


def ragged(excluded: list[list[int]]) -> tuple[Tensor, Tensor]:
    sizes = torch.tensor([0] + [len(items) for items in excluded])
    return sizes.cumsum(0), torch.tensor([item for items in excluded for item in items], dtype=torch.int32)


def test_golden_ranks() -> None:
    items = torch.tensor([[3.0], [1.0], [2.0], [2.0], [0.0]])
    targets = torch.tensor([0, 2, 4])
    queries = torch.ones(3, 1)
    assert target_ranks(queries, items, targets).tolist() == [1.0, 2.5, 5.0]
    assert target_ranks(-queries, items, targets).tolist() == [5.0, 3.5, 1.0]
    offsets, excluded = ragged([[0, 1], [0, 3], [0, 4]])  # a target that excludes itself still takes part
    assert target_ranks(queries, items, targets, exclude_offsets=offsets, exclude_items=excluded).tolist() == [
        1.0,
        1.0,
        4.0,
    ]


def test_items_without_a_vector_stand_last_and_tied() -> None:
    items = torch.tensor([[3.0], [1.0], [0.0], [0.0], [-5.0]])
    present = torch.tensor([True, True, False, False, True])
    ranks = target_ranks(torch.ones(3, 1), items, torch.tensor([4, 2, 3]), present=present)
    assert ranks.tolist() == [3.0, 4.5, 4.5]


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cases=st.integers(1, 9),
    catalogue=st.integers(1, 12),
    width=st.integers(1, 5),
    block=st.integers(1, 12),
    shared=st.booleans(),
)
def test_against_definition(seed: int, cases: int, catalogue: int, width: int, block: int, shared: bool) -> None:
    rng = np.random.default_rng(seed)
    asker = torch.from_numpy(np.sort(rng.integers(0, 4, cases)) if shared else np.arange(cases))
    queries = torch.from_numpy(rng.integers(-2, 3, (4 if shared else cases, width))).float()
    items = torch.from_numpy(rng.integers(-2, 3, (catalogue, width))).float()
    targets = torch.from_numpy(rng.integers(0, catalogue, cases))
    excluded = [np.flatnonzero(rng.random(catalogue) < 0.3).tolist() for _ in range(cases)]
    candidates, present = (torch.from_numpy(rng.random(catalogue) < 0.7) for _ in range(2))
    offsets, members = ragged(excluded)
    expected = naive(queries @ items.T, targets, excluded, candidates, present, asker)
    rest = {
        "asker": asker,
        "exclude_offsets": offsets,
        "exclude_items": members,
        "candidates": candidates,
        "present": present,
        "block": block,
    }
    assert torch.equal(target_ranks(queries, items, targets, **rest), expected)
    scored = ranks_of_scores(lambda rows: queries[rows] @ items.T, targets, catalogue=catalogue, **rest)
    assert torch.equal(scored, expected)


@pytest.mark.parametrize("width", [3, 64, 700])
def test_blocks_and_order_change_no_bit(width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    queries, items = (torch.randn(count, width, generator=generator) for count in (700, 1500))
    items[700:800] = items[:100]  # ties that only exact arithmetic keeps
    targets = torch.randint(1500, (700,), generator=generator)
    whole = target_ranks(queries, items, targets)
    for block in (1, 37, 512, 5000):
        assert torch.equal(target_ranks(queries, items, targets, block=block), whole)
    order, places = torch.randperm(700, generator=generator), torch.randperm(1500, generator=generator)
    moved = target_ranks(queries[order], items[places], places.argsort()[targets[order]])
    assert torch.equal(moved, whole[order])
    ties = target_ranks(queries[:50], items, torch.arange(50))
    assert torch.equal(ties, target_ranks(queries[:50], items, torch.arange(700, 750)))
    assert (ties % 1 == 0.5).all()


def test_exact_scores_agree_with_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, items = (torch.randn(count, 96, generator=generator, dtype=torch.float64) for count in (100, 3000))
    targets = torch.randint(3000, (100,), generator=generator)
    scores = queries @ items.T
    expected = (scores > scores[torch.arange(100), targets].unsqueeze(1)).sum(dim=1) + 1
    assert (target_ranks(queries, items, targets) - expected).abs().max() <= 1  # 3,000 scores, steps of 1e-6


def test_bad_vectors_are_refused() -> None:
    items = torch.ones(3, 2)
    with pytest.raises(ValueError, match="finite"):
        target_ranks(torch.tensor([[1.0, torch.nan]]), items, torch.tensor([0]))
    with pytest.raises(ValueError, match="queries"):
        target_ranks(torch.ones(1, 3), items, torch.tensor([0]))


def test_no_cases_and_zero_vectors() -> None:
    none = torch.zeros(0, dtype=torch.long)
    assert target_ranks(torch.ones(0, 2), torch.ones(3, 2), none).tolist() == []
    assert ranks_of_scores(lambda rows: torch.ones(1, 3), none, asker=none, catalogue=3).tolist() == []
    assert target_ranks(torch.zeros(1, 2), torch.zeros(5, 2), torch.tensor([1])).tolist() == [3.0]


def test_mean_query_leaves_padding_out() -> None:
    vectors = torch.tensor([[1.0, 0.0], [3.0, 2.0], [100.0, 100.0]])
    query = torch.tensor([[0, 1, -1], [-1, -1, -1], [1, -1, -1]])
    assert mean_query(vectors, query).tolist() == [[2.0, 1.0], [0.0, 0.0], [3.0, 2.0]]


def _cases(query: list[list[int]], target: list[int]) -> Cases:
    count = len(target)
    return Cases(
        pd.Index(range(4)),
        np.arange(count),
        pd.Index(range(count)),
        np.array(target),
        np.array(query),
        np.zeros(count + 1, dtype=np.int64),
        np.empty(0, dtype=np.int32),
        np.zeros(count, dtype=np.int64),
        np.zeros((count, 2), dtype=np.int64),
    )


def test_ranks_and_ndcg_of_cases() -> None:
    vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [20.0, 20.0]], dtype=np.float32)
    cases = _cases([[0, -1], [0, -1]], [1, 2])
    assert case_ranks(vectors, cases).tolist() == [2.0, 4.0]
    assert case_ranks(vectors, cases, cosine=False).tolist() == [3.0, 4.0]
    assert seq2item_ndcg(vectors, cases, k=4) == pytest.approx((1 / np.log2(3) + 1 / np.log2(5)) / 2)
    nothing = _cases([], [])
    assert np.isnan(seq2item_ndcg(vectors, nothing))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 9), block=st.integers(1, 8))
def test_topk_against_sorting(seed: int, k: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    items = torch.from_numpy(rng.integers(-2, 3, (7, 2))).double()
    queries = torch.from_numpy(rng.integers(-2, 3, (5, 2))).double()
    candidates = torch.from_numpy(rng.random(7) < 0.8)
    own = torch.from_numpy(rng.integers(0, 7, 5))
    rows, scores = topk(queries, items, k=k, own=own, candidates=candidates, block=block)
    for case in range(5):
        left = [item for item in range(7) if candidates[item] and item != own[case]]
        every = (queries @ items.T)[case]
        best = sorted(left, key=lambda item: -float(every[item]))[:k]
        kept = rows[case][rows[case] >= 0].tolist()
        assert every[kept].tolist() == every[best].tolist()
        assert scores[case][: len(kept)].tolist() == every[best].tolist()
        assert set(kept) <= set(left)
        assert (rows[case][len(kept) :] == -1).all()
        assert (scores[case][len(kept) :] == -torch.inf).all()
