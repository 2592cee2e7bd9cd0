"""The F1 threshold and the hard negatives below it, against hand and brute force."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.retrieval.hard_negatives import BINS, dataset_threshold, f1_threshold, mine

BIN = 2 / BINS


def f1(positive, negative, threshold):
    true, false = (positive >= threshold).sum().item(), (negative >= threshold).sum().item()
    return 2 * true / (true + false + len(positive))


def test_threshold_by_hand():
    positive, negative = torch.tensor([0.9, 0.8, 0.3]), torch.tensor([0.85, 0.4, 0.35, 0.1])
    # At 0.8: 2 hits, 1 false alarm, 1 miss: 4 / 6. At 0.3: 3 hits, 3 false alarms: 6 / 9, equally good, but lower.
    threshold, score = f1_threshold(positive, [negative])
    assert score == pytest.approx(2 / 3)
    assert 0.8 - BIN < threshold <= 0.8


def test_parted_cosines_are_parted():
    threshold, score = f1_threshold(torch.tensor([0.5, 0.75]), [torch.tensor([[-1.0, 0.1], [0.25, 0.0]])])
    assert (threshold, score) == (0.5, 1.0)


def test_the_ends_of_the_scale_count():
    # Rounding takes cosines a little past 1.
    assert f1_threshold(torch.tensor([1.0000001, 1.0]), [torch.tensor([-1.0000001])]) == (1 - BIN, 1.0)
    assert f1_threshold(torch.tensor([-1.0]), [])[0] == -1.0


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="positive pair"):
        f1_threshold(torch.zeros(0), [torch.ones(1)])
    with pytest.raises(ValueError, match="positive pair"):
        dataset_threshold(torch.ones(1, 2), torch.ones(1, 2), torch.zeros(0, 2).long())
    for positive, negative in ((torch.nan, 0.0), (0.0, torch.nan)):
        with pytest.raises(ValueError, match="finite"):
            f1_threshold(torch.tensor([positive]), [torch.tensor([negative])])


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(0, 60), st.integers(0, 10_000))
def test_no_threshold_is_better(positives, negatives, seed):
    generator = torch.Generator().manual_seed(seed)
    # Cosines inside of bins, never on an edge, so that a threshold between two of them is an edge between their bins.
    positive, negative = (
        (torch.randint(0, BINS, (count,), generator=generator).double() + 0.5) * BIN - 1
        for count in (positives, negatives)
    )
    threshold, score = f1_threshold(positive, negative.split(7))
    assert score == pytest.approx(f1(positive, negative, threshold))
    thresholds = torch.cat([positive, negative]).tolist()
    best = max(f1(positive, negative, each) for each in thresholds)
    assert score == pytest.approx(best)
    highest = max(each for each in thresholds if f1(positive, negative, each) == pytest.approx(best))
    assert abs(threshold - highest) <= BIN


def brute(query, target, pairs, itself):
    """Cosines, and whether each combination is positive or the query itself."""
    cosine = torch.nn.functional.normalize(query.double()) @ torch.nn.functional.normalize(target.double()).T
    positive = torch.zeros(cosine.shape, dtype=torch.bool)
    positive[pairs[:, 0], pairs[:, 1]] = True
    own = torch.zeros_like(positive)
    rows = (itself >= 0).nonzero().flatten()
    own[rows, itself[rows]] = True
    return cosine, positive, own


def drawn(seed, queries=23, targets=31):
    generator = torch.Generator().manual_seed(seed)
    query, target = (torch.randn(rows, 6, generator=generator) for rows in (queries, targets))
    pairs = torch.stack([torch.randint(rows, (40,), generator=generator) for rows in (queries, targets)], dim=1)
    itself = torch.randint(-1, targets, (queries,), generator=generator)
    return query, target, pairs, itself


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 5, 23, 100]), st.integers(1, 40), st.floats(-0.5, 1.0))
def test_mining_equals_brute_force_at_any_block(seed, block, count, threshold):
    query, target, pairs, itself = drawn(seed)
    mined = mine(query, target, pairs, threshold=threshold, count=count, itself=itself, block=block)
    cosine, positive, own = brute(query, target, pairs, itself)
    assert mined.shape == (len(query), count) and mined.dtype == torch.int64
    for row, found in enumerate(mined.tolist()):
        allowed = [
            column for column in cosine[row].argsort(descending=True).tolist()
            if cosine[row, column] < threshold and not positive[row, column] and not own[row, column]
        ]  # fmt: skip
        assert found == (allowed + [-1] * count)[:count]


@pytest.mark.parametrize("block", [1, 4, 50])
def test_dataset_threshold_equals_brute_force(block):
    query, target, pairs, itself = drawn(seed=2)
    query = query + 2 * target[torch.arange(23)]  # so that some pairs are near
    pairs = torch.cat([pairs, torch.arange(23)[:, None].expand(-1, 2), pairs[:5]])
    threshold, score = dataset_threshold(query, target, pairs, itself=itself, block=block)
    cosine, positive, own = brute(query, target, pairs, itself)
    negative = cosine[~positive & ~own]
    best = max(f1(cosine[positive], negative, each) for each in cosine[positive].tolist())
    assert score == pytest.approx(best, abs=0.02)
    assert score == pytest.approx(f1(cosine[positive], negative, threshold))


def test_equally_near_targets_come_by_row_whatever_the_block():
    torch.manual_seed(0)
    query, few = torch.randn(9, 33), torch.randn(3, 33)
    target = few.repeat(50, 1) * torch.tensor([1.0, 2.0, 4.0]).repeat_interleave(50)[:, None]
    nearest = (torch.nn.functional.normalize(query) @ torch.nn.functional.normalize(few).T).argmax(1)
    expected = nearest[:, None] + 3 * torch.arange(7)
    for block in (1, 2, 9):
        mined = mine(query, target, torch.zeros(0, 2).long(), threshold=1.1, count=7, block=block)
        assert torch.equal(mined, expected)


def test_near_duplicates_are_left_out_and_hard_negatives_found():
    """Planted: each query has a positive and an unlabelled copy of it at cosine ≥ .9, two hard ones, and far ones."""
    generator = torch.Generator().manual_seed(3)
    queries, width = 40, 64
    centre = torch.nn.functional.normalize(torch.randn(queries, width, generator=generator))

    def beside(cosine: float) -> torch.Tensor:
        other = torch.randn(queries, width, generator=generator)
        other = torch.nn.functional.normalize(other - (other * centre).sum(1, keepdim=True) * centre)
        return cosine * centre + (1 - cosine**2) ** 0.5 * other

    positive = beside(0.92)
    target = torch.cat([positive, positive, beside(0.75), beside(0.7), torch.randn(200, width, generator=generator)])
    rows = torch.arange(queries)
    pairs = torch.stack([rows, rows], dim=1)
    threshold, _ = dataset_threshold(centre, target, pairs)
    assert 0.75 < threshold <= 0.92
    mined = mine(centre, target, pairs, threshold=threshold, count=2)
    assert torch.equal(mined, torch.stack([rows + 2 * queries, rows + 3 * queries], dim=1))


def test_vectors_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        mine(torch.tensor([[torch.nan, 1.0]]), torch.ones(1, 2), torch.zeros(1, 2).long(), threshold=1.0, count=1)


def test_at_the_threshold_is_not_below_it():
    target = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    mined = mine(torch.tensor([[1.0, 0.0]]), target, torch.zeros(0, 2).long(), threshold=1.0, count=2)
    assert mined.tolist() == [[1, -1]]
