"""The new-item level: one pass answers what a full ranking at each level answers; the frontier's area and choice."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.retrieval.config import LevelConfig
from recdistill.retrieval.frontier import Frontier, area, choose_level
from recdistill.retrieval.levels import Crossings, crossings, vector_scores, with_level
from recdistill.retrieval.ranks import ranks_of_scores, target_ranks

INF = math.inf


def cross(scores: torch.Tensor, targets: list[int], new: list[bool], **rest: object) -> Crossings:
    count = len(targets)
    given = {
        "cutoffs": (1, 2),
        "places": 2,
        "asker": torch.arange(count),
        "exclude_offsets": torch.zeros(count + 1, dtype=torch.long),
        "exclude_items": torch.zeros(0, dtype=torch.long),
        "present": torch.ones(scores.shape[1], dtype=torch.bool),
        **rest,
    }
    return crossings(
        lambda rows: (scores[rows].clone(), torch.ones(len(scores[rows]), 1)),
        torch.tensor(targets),
        new=torch.tensor(new),
        **given,  # type: ignore[arg-type]
    )


def test_golden_levels() -> None:
    """Known items score 5, 3, 1; new ones 4, 0."""
    scores = torch.tensor([[5.0, 3.0, 1.0, 4.0, 0.0]])
    new = [False, False, False, True, True]
    best = cross(scores, [0], new)
    assert best.critical.tolist() == [[1.0, 5.0]]  # the first new item passes 5 at 1, the second at 5
    second = cross(scores, [1], new)
    assert second.critical.tolist() == [[-INF, -1.0]]  # never first; second while 4 + δ < 3
    third = cross(scores, [2], new)
    assert third.critical.tolist() == [[-INF, -INF]]
    lifted = cross(scores, [3], new)
    assert lifted.critical.tolist() == [[1.0, -1.0]]  # first above 5 − 4, second above 3 − 4
    last = cross(scores, [4], new)
    assert last.critical.tolist() == [[INF, 5.0]]  # 4 + δ stands above it at every level
    assert best.entries.tolist() == [[-1.0, 5.0]]  # into the first two places: past 3, then past 5 too
    assert [best.share(level) for level in (-2.0, 0.0, 6.0)] == [0.0, 0.5, 1.0]
    assert [best.share(best.level_of_share(share)) for share in (0.0, 0.5, 1.0)] == [0.0, 0.5, 1.0]


def test_without_new_items_no_level_changes_anything() -> None:
    alone = cross(torch.tensor([[2.0, 1.0]]), [1], [False, False])
    assert alone.critical.tolist() == [[-INF, INF]]
    assert alone.share(3.0) == 0.0
    assert alone.level_of_share(0.5) == 0.0


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cases=st.integers(1, 8),
    catalogue=st.integers(1, 14),
    block=st.integers(1, 9),
    shared=st.booleans(),
    halves=st.integers(-9, 9),
)
def test_one_pass_equals_ranking_at_each_level(
    seed: int, cases: int, catalogue: int, block: int, shared: bool, halves: int
) -> None:
    rng = np.random.default_rng(seed)
    asker = np.sort(rng.integers(0, 3, cases)) if shared else np.arange(cases)
    scores = torch.from_numpy(rng.integers(-3, 4, (max(3, cases), catalogue))).float()
    new, present = (torch.from_numpy(rng.random(catalogue) < chance) for chance in (0.4, 0.8))
    excluded = [np.flatnonzero(rng.random(catalogue) < 0.3) for _ in range(cases)]
    offsets = torch.tensor([0, *np.cumsum([len(items) for items in excluded])])
    targets = rng.integers(0, catalogue, cases).tolist()
    rest = {
        "asker": torch.from_numpy(asker),
        "exclude_offsets": offsets,
        "exclude_items": torch.from_numpy(np.concatenate(excluded)),
        "present": present,
        "block": block,
    }
    level = halves / 2  # whole ones meet exact ties
    found = cross(scores, targets, new.tolist(), cutoffs=(1, 3, 20), places=3, **rest)
    raised = scores + level * new
    ranks = ranks_of_scores(
        lambda rows: raised[rows].clone(), torch.tensor(targets), catalogue=catalogue, **rest
    ).numpy()
    for cutoff in (1, 3, 20):
        assert found.hits(level, cutoff).tolist() == (ranks <= cutoff).tolist(), cutoff
    if halves % 2:  # between ties the list of the first three is told
        places = 0
        for case in range(cases):
            allowed = present.clone()
            allowed[excluded[case][excluded[case] != targets[case]]] = False
            row = torch.where(allowed, raised[asker[case]], -torch.inf)
            first = row.topk(min(3, catalogue)).indices
            places += int((new[first] & allowed[first]).sum())
        assert found.share(level) == pytest.approx(places / (3 * cases))


def test_a_dot_product_serves_the_level_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    # Multiples of 2^-10: float64 sums of their products have no rounding error, so the equality is exact.
    queries, items = (
        torch.randint(-1024, 1025, (count, 16), generator=generator).double() / 1024 for count in (40, 90)
    )
    new = torch.arange(90) >= 70
    level = torch.where(new, 0.1875, 0.0).double()
    served = with_level(queries, torch.ones(40)) @ with_level(items, level).T
    assert torch.equal(served, queries @ items.T + level)
    targets = torch.arange(40) * 2 + 3
    rest = {
        "asker": torch.arange(40),
        "exclude_offsets": torch.zeros(41, dtype=torch.long),
        "exclude_items": torch.zeros(0, dtype=torch.long),
    }
    found = crossings(
        vector_scores(queries, items),
        targets,
        new=new,
        cutoffs=(20,),
        places=5,
        present=torch.ones(90, dtype=torch.bool),
        **rest,
    )
    ranks = target_ranks(with_level(queries, torch.ones(40)), with_level(items, level), targets, **rest)
    assert found.hits(0.1875, 20).tolist() == (ranks <= 20).tolist()
    assert 0 < found.hits(0.1875, 20).sum() < 40


def test_golden_area() -> None:
    """Pairs (A, C) of (.5, .1), (.6, .2), (.2, .4): .1 · .6 + .1 · .6 + .2 · .2, the first pair standing below."""
    assert area(np.array([0.5, 0.6, 0.2]), np.array([0.1, 0.2, 0.4])) == pytest.approx(0.16)
    assert area(np.array([[0.5], [0.4]]), np.array([[0.2], [0.0]])).tolist() == pytest.approx([0.1, 0.0])


def planted(users: int, *, seed: int) -> tuple[Crossings, np.ndarray]:
    """Ten questions a user, some of new items, whose critical levels the user's own luck moves."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(users), 10)
    new = rng.random(len(unit)) < 0.3
    critical = rng.normal(0, 1, len(unit)) + 0.5 * rng.normal(0, 1, users)[unit] + np.where(new, 0.3, 0.0)
    found = Crossings(
        (10, 25),
        new,
        np.stack([critical, critical - 0.5 * new], axis=1),
        np.zeros((len(unit), 2), dtype=bool),
        np.sort(rng.normal(0, 1, (len(unit), 10)), axis=1),
    )
    return found, unit


def test_the_frontier_recalls_what_hits_say() -> None:
    found, unit = planted(20, seed=1)
    frontier = Frontier.trace(found, unit, all_at=10, cold_at=25)
    everyone, cold = frontier.curve()
    for at in (0, len(frontier.levels) // 2, -1):
        level = frontier.levels[at]
        assert everyone[at] == pytest.approx(found.hits(level, 10).mean())
        assert cold[at] == pytest.approx(found.hits(level, 25)[found.new].mean())
    assert (np.diff(cold) >= 0).all()
    best = frontier.best_all(cold=0.5)
    assert cold[best] >= 0.5
    assert everyone[best] == everyone[cold >= 0.5].max()
    coarse = Frontier.trace(found, unit, all_at=10, cold_at=25, levels=100)
    assert float(coarse.area()) == pytest.approx(float(frontier.area()), rel=0.02)


def test_influences_have_the_areas_value_and_error() -> None:
    found, unit = planted(150, seed=2)
    frontier = Frontier.trace(found, unit, all_at=10, cold_at=25)
    influences = frontier.influences()
    assert influences.mean() == pytest.approx(float(frontier.area()), abs=1e-12)
    rng = np.random.default_rng(0)
    drawn = frontier.area(rng.multinomial(150, np.full(150, 1 / 150), size=400).astype(float))
    assert influences.std(ddof=1) / math.sqrt(150) == pytest.approx(drawn.std(ddof=1), rel=0.15)


def test_levels_are_chosen_as_asked() -> None:
    found, unit = planted(60, seed=3)
    assert choose_level(LevelConfig(level=0.25), found, unit) == 0.25
    frontier = Frontier.trace(found, unit, all_at=10, cold_at=25)
    best = frontier.curve()[0].max()
    chosen = [choose_level(LevelConfig(keep=keep), found, unit) for keep in (1.0, 0.9, 0.6)]
    assert chosen == sorted(chosen)
    for level, keep in zip(chosen, (1.0, 0.9, 0.6), strict=True):
        assert found.hits(level, 10).mean() >= keep * best - 1e-12
        higher = [found.hits(other, 25)[found.new].mean() for other in frontier.levels if other > level]
        kept = [found.hits(other, 10).mean() >= keep * best for other in frontier.levels if other > level]
        mine = found.hits(level, 25)[found.new].mean()
        assert all(value <= mine for value, keeps in zip(higher, kept, strict=True) if keeps)
    shared = choose_level(LevelConfig(level="share", share=0.3), found, unit)
    assert found.share(shared) == pytest.approx(0.3, abs=1 / found.entries.size)
    nothing = Crossings((10, 25), np.zeros(600, dtype=bool), found.critical, found.inclusive, found.entries)
    assert choose_level(LevelConfig(), nothing, unit) == 0.0
