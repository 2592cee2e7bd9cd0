"""The sequence teacher: causality, windows, one loss by hand, the planted order, and resuming."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from operator import mul
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from recdistill.teachers.build import build_sequence_teacher
from recdistill.teachers.config import SequenceTeacherConfig
from recdistill.teachers.hstu import GAP_BUCKETS, HstuBlock, gap_buckets
from recdistill.teachers.positives import InMemory, Positives
from recdistill.teachers.sequence_teacher import SequenceTeacher
from recdistill.teachers.transformer import CausalTransformer, running_mean
from recdistill.training import fit

SMALL: dict[str, Any] = {"dim": 16, "batch": 32, "length": 10, "dropout": 0.1, "learning_rate": 0.1, "eras": 0}
BLOCKS = ("sasrec", "hstu")


def following_of(positives: Positives) -> Tensor:
    """[V] the next item on each planted circle (-1 for an item on none)."""
    ids = positives.item_ids
    following = [f"{item[0]}{(int(item[1:]) + 1) % 20:02d}" if item != "x" else "" for item in ids]
    return torch.from_numpy(ids.get_indexer(following).copy())


def encoder(*, block: str, layers: int = 2, eras: int = 0) -> CausalTransformer:
    torch.manual_seed(0)
    times = (0, 1_000_000_000_000)
    model = CausalTransformer(
        dim=8,
        length=6,
        block=block,
        layers=layers,
        heads=2,
        eras=eras,
        times=times,  # type: ignore[arg-type]
    )
    for parameter in model.parameters():  # biases of place and time start at zero, where they would prove nothing
        torch.nn.init.normal_(parameter, std=0.5)
    return model


# When each of six items was taken, seconds: some in one sitting, and days between. Each asks for the next one.
SEEN_AT = torch.tensor([[0, 0, 40, 86_400, 86_400, 500_000], [5, 6, 7, 8, 8_000, 9_000]]) * 1_000_000
ASKED_AT = torch.cat([SEEN_AT[:, 1:], torch.tensor([[600_000], [9_100]]) * 1_000_000], dim=1)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_later_item_or_time_changes_no_earlier_state(block: str) -> None:
    """Position 3 sees when item 4 is asked for, and nothing else from there on."""
    model = encoder(block=block, eras=3)
    first = torch.randn(2, 6, 8)
    second, seen_at, asked_at = first.clone(), SEEN_AT.clone(), ASKED_AT.clone()
    second[:, 4:] = torch.randn(2, 2, 8)
    seen_at[:, 4:] += 1_000_000_000
    asked_at[:, 4:] += 2_000_000_000_000
    with torch.no_grad():
        before, after = model(first, SEEN_AT, ASKED_AT), model(second, seen_at, asked_at)
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4] != after[:, 4]).all()


@pytest.mark.parametrize("block", BLOCKS)
def test_an_earlier_item_and_its_place_change_later_states(block: str) -> None:
    model = encoder(block=block, layers=1)
    x = torch.randn(1, 6, 8)
    swapped = x[:, [1, 0, 2, 3, 4, 5]]
    with torch.no_grad():
        states = [model(given, SEEN_AT[:1], ASKED_AT[:1])[:, 5] for given in (x, swapped)]
    assert (states[0] - states[1]).abs().max() > 1e-4


def test_only_hstu_sees_times() -> None:
    x = torch.randn(2, 6, 8)
    for block, sees in (("sasrec", False), ("hstu", True)):
        model = encoder(block=block)
        with torch.no_grad():
            states = [model(x, SEEN_AT, asked) for asked in (ASKED_AT, ASKED_AT + 10**12)]
            later = model(x, SEEN_AT + 10**9, ASKED_AT + 10**9)
        assert torch.equal(*states) is not sees
        assert torch.equal(states[0], later)  # the date itself is seen by neither


@pytest.mark.parametrize("block", BLOCKS)
def test_eras_tell_the_last_half_quarter_and_eighth_of_the_log(block: str) -> None:
    model = encoder(block=block, eras=3)
    log = 1_000_000_000_000  # microseconds, from 0
    asked_at = torch.tensor([[0, log // 2 + 1, 3 * log // 4 + 1, 7 * log // 8 + 1, log, 2 * log]])
    halves = model.eras.detach().cumsum(0)
    expected = torch.stack([torch.zeros(8), halves[0], halves[1], halves[2], halves[2], halves[2]])
    torch.testing.assert_close(model._era(asked_at)[0].detach(), expected)
    x = torch.randn(1, 6, 8)
    with torch.no_grad():
        early, late = (model(x, asked - log // 100, asked) for asked in (asked_at[:, :1], asked_at[:, 4:5]))
    assert (early - late)[0, 0].abs().max() > 1e-3


def test_gaps_are_buckets_of_the_seconds_logarithm() -> None:
    seen_at, asked_at = torch.tensor([[0, 60, 60]]) * 1_000_000, torch.tensor([[60, 60, 86_460]]) * 1_000_000 + 999_999
    of_minute, of_day, of_both = (int(math.log(seconds) / 0.301) for seconds in (60, 86_400, 86_460))
    expected = [[of_minute, 0, 0], [of_minute, 0, 0], [of_both, of_day, of_day]]
    assert gap_buckets(asked_at, seen_at).tolist() == [expected]
    longest = gap_buckets(torch.tensor([[2**63 - 1]]), torch.tensor([[0]]))
    assert int(longest) == GAP_BUCKETS - 1


def test_an_hstu_block_by_hand() -> None:
    """Number by number, as the paper's equations 1-3 read: two heads of width 2, three positions of at most four."""
    torch.manual_seed(0)
    block = HstuBlock(dim=4, length=4, heads=2).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(1, 3, 4, dtype=torch.float64)
    gaps = torch.tensor([[[5, 0, 0], [7, 2, 0], [9, 7, 0]]])

    def silu(value: float) -> float:
        return value / (1 + math.exp(-value))

    def normed(row: list[float]) -> list[float]:
        mean = sum(row) / len(row)
        scale = math.sqrt(sum((value - mean) ** 2 for value in row) / len(row) + 1e-6)
        return [(value - mean) / scale for value in row]

    def linear(layer: torch.nn.Linear, row: list[float]) -> list[float]:
        weights, biases = layer.weight.tolist(), layer.bias.tolist()
        return [sum(map(mul, line, row)) + bias for line, bias in zip(weights, biases, strict=True)]

    scale, shift = block.norm.weight.tolist(), block.norm.bias.tolist()
    u, v, q, k = [], [], [], []
    for row in x[0].tolist():
        given = [value * by + plus for value, by, plus in zip(normed(row), scale, shift, strict=True)]
        parts = [silu(value) for value in linear(block.inputs, given)]
        for at, part in enumerate((u, v, q, k)):
            part.append(parts[4 * at : 4 * at + 4])
    expected = []
    for i, row in enumerate(x[0].tolist()):
        attended = [0.0] * 4
        for head in (0, 2):
            for j in range(i + 1):
                score = sum(q[i][head + n] * k[j][head + n] for n in range(2))
                bias = block.position_bias[i - j].item() + block.gap_bias[gaps[0, i, j]].item()
                for n in range(2):
                    attended[head + n] += silu(score + bias) / 4 * v[j][head + n]
        out = linear(block.output, [mine * gate for mine, gate in zip(normed(attended), u[i], strict=True)])
        expected.append([value + plus for value, plus in zip(row, out, strict=True)])
    torch.testing.assert_close(block(x, gaps, lambda x: x)[0], torch.tensor(expected, dtype=torch.float64))


def test_running_mean_by_hand() -> None:
    x = torch.tensor([[[1.0], [3.0], [8.0]]])
    assert running_mean(x).squeeze().tolist() == [1, 2, 4]


def test_pooled_loss_by_hand() -> None:
    """One user, items 0, 1, 2: the means of the items so far ask, and every item competes."""
    positives = Positives(
        item_ids=pd.Index(["a", "b", "c", "d"]),
        user_ids=pd.Index(["u"]),
        item=torch.tensor([0, 1, 2]),
        behaviours=torch.ones(3),
        time=torch.tensor([5, 7, 9]),
        starts=torch.tensor([0, 3]),
        support=torch.tensor([1, 1, 1, 0]),
    )
    config = SequenceTeacherConfig(dim=4, batch=3, temperature=0.5, init_scale=1)
    teacher = build_sequence_teacher(config, InMemory(positives, power=0.5), seed=0)
    vectors = normalize(teacher.state["items"].state_dict()["id.weight"].clone(), dim=1)
    means = normalize(torch.stack([vectors[0], (vectors[0] + vectors[1]) / 2]), dim=1)
    first, second = -torch.log_softmax(means @ vectors.T / 0.5, 1)[[0, 1], [1, 2]]
    expected = (first + second) / 2
    losses = teacher.step(0)
    assert losses["pooled_loss"] == pytest.approx(float(expected), abs=1e-5)
    assert losses["loss"] == pytest.approx(losses["state_loss"] + 0.5 * losses["pooled_loss"], abs=1e-5)


@pytest.mark.parametrize("length", [3, 7, 30])
def test_batches_are_windows_of_consecutive_positives(length: int, planted: Positives) -> None:
    config = SequenceTeacherConfig(**{**SMALL, "length": length, "batch": 200})
    teacher = build_sequence_teacher(config, InMemory(planted, power=0.5), seed=0)
    batch = teacher._draw(0, torch.Generator().manual_seed(0))
    following = following_of(planted)
    real = batch.real
    assert (batch.asked_at - batch.seen_at)[real].unique().tolist() == [10_000_000]  # one takes a step in ten seconds
    assert torch.equal(following[batch.seen[real]], batch.following[real])
    assert (real.sum(1) == min(length, 7)).all()
    starts = batch.seen[:, 0]
    places = {int(place) for rows in planted.item.split(8) for place in rows[: 8 - min(length, 7)]}
    assert {int(start) for start in starts} <= places
    if length == 3:  # not only the users' first items
        assert not {int(start) for start in starts} <= {int(rows[0]) for rows in planted.item.split(8)[:10]}


def next_hits(teacher: SequenceTeacher, positives: Positives) -> float:
    """Share of users whose best-scored item is the next on their circle."""
    rows = torch.stack(positives.item.split(8))[:, -5:]
    times = torch.stack(positives.time.split(8))[:, -5:]
    scores = teacher.user_states(teacher.vectors(), rows, times, times[:, -1] + 10_000_000) @ teacher.vectors().T
    return float((scores.scatter(1, rows, -torch.inf).argmax(1) == following_of(positives)[rows[:, -1]]).float().mean())


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"full_softmax_up_to": 0, "negatives": 16},
        {"block": "sasrec"},
        {"block": "sasrec", "full_softmax_up_to": 0, "negatives": 16},
        {"geometry": "dot", "pooled_weight": 0},
        {
            "full_softmax_up_to": 0,
            "negatives": 16,
            "loss": "gbce",
            "geometry": "dot",
            "pooled_weight": 0,
            "dropout": 0.0,
            "init_scale": 0.2,
        },
    ],
    ids=str,
)
def test_the_planted_order_is_learned(kind: Mapping[str, Any], planted: Positives) -> None:
    teacher = build_sequence_teacher(SequenceTeacherConfig(**{**SMALL, **kind}), InMemory(planted, power=0.5), seed=0)
    before = next_hits(teacher, planted)
    for step in range(200):
        torch.manual_seed(step)
        teacher.step(step)
    assert before < 0.3
    assert next_hits(teacher, planted) > 0.9


@pytest.mark.parametrize(("eras", "last"), [(0, False), (4, True)])
def test_eras_learn_what_is_in_fashion(eras: int, last: bool) -> None:
    """Items 0 and 1 are taken behind the same items, 0 in the first three quarters of the log and 1 in the last."""
    generator = torch.Generator().manual_seed(0)
    users = 400
    item = torch.randint(2, 10, (users, 3), generator=generator)
    time = torch.randint(10**12, (users, 1), generator=generator) + torch.tensor([-2_000_000, -1_000_000, 0])
    item[:, -1] = (time[:, -1] > 0.75e12).long()
    positives = Positives(
        item_ids=pd.Index(range(10)),
        user_ids=pd.Index(range(users)),
        item=item.flatten(),
        behaviours=torch.ones(item.numel()),
        time=time.flatten(),
        starts=torch.arange(0, item.numel() + 1, 3),
        support=torch.bincount(item.flatten(), minlength=10),
    )
    teacher = build_sequence_teacher(
        SequenceTeacherConfig(**{**SMALL, "eras": eras}), InMemory(positives, power=0.5), seed=0
    )
    for at in range(150):
        torch.manual_seed(at)
        teacher.step(at)
    asked_at = torch.full((50,), 10**12 + 5_000_000)
    states = teacher.user_states(
        teacher.vectors(), item[:50, :2], asked_at.unsqueeze(1) - torch.tensor([2_000_000, 1_000_000]), asked_at
    )
    assert bool(((states @ teacher.vectors()[:2].T).argmax(1) == 1).all()) is last


@pytest.mark.parametrize("block", BLOCKS)
def test_where_time_alone_tells_the_next_item_only_hstu_learns_it(block: str) -> None:
    """Whoever comes back within the hour takes item 0, after days item 1, whatever they took before."""
    generator = torch.Generator().manual_seed(0)
    users, before = 300, 3
    item = torch.randint(2, 10, (users, before + 1), generator=generator)
    step = torch.randint(60, 40_000, (users, before + 1), generator=generator)
    late = torch.arange(users) % 2
    item[:, -1] = late
    step[:, -1] = torch.where(late.bool(), step[:, -1] * 20 + 200_000, step[:, -1] % 3_600)
    time = step.cumsum(1) * 1_000_000
    positives = Positives(
        item_ids=pd.Index(range(10)),
        user_ids=pd.Index(range(users)),
        item=item.flatten(),
        behaviours=torch.ones(item.numel()),
        time=time.flatten(),
        starts=torch.arange(0, item.numel() + 1, before + 1),
        support=torch.bincount(item.flatten(), minlength=10),
    )
    config = SequenceTeacherConfig(**SMALL, block=block)  # type: ignore[arg-type]
    teacher = build_sequence_teacher(config, InMemory(positives, power=0.5), seed=0)
    for at in range(150):
        torch.manual_seed(at)
        teacher.step(at)
    states = teacher.user_states(teacher.vectors(), item[:, :-1], time[:, :-1], time[:, -1])
    scores = states @ teacher.vectors()[:2].T
    right = float((scores.argmax(1) == late).float().mean())
    assert right > 0.95 if block == "hstu" else right < 0.65


def test_the_table_finds_the_planted_audiences_by_itself(
    planted: Positives, purity: Callable[[np.ndarray, pd.Index], float]
) -> None:
    teacher = build_sequence_teacher(SequenceTeacherConfig(**SMALL), InMemory(planted, power=0.5), seed=0)
    for step in range(120):
        torch.manual_seed(step)
        teacher.step(step)
    assert purity(teacher.vectors().numpy(), planted.item_ids) > 0.97


@pytest.mark.parametrize("block", BLOCKS)
def test_states_depend_neither_on_padding_nor_on_the_batch(block: str, planted: Positives) -> None:
    config = SequenceTeacherConfig(**SMALL, block=block)  # type: ignore[arg-type]
    teacher = build_sequence_teacher(config, InMemory(planted, power=0.5), seed=0)
    for step in range(3):
        teacher.step(step)
    rows = torch.tensor([[3, 1, 4, -1, -1], [5, -1, -1, -1, -1], [-1, -1, -1, -1, -1], [2, 0, 6, 7, 8]])
    seen_at = torch.arange(0, 5_000_000_000, 1_000_000_000).repeat(4, 1)
    asked_at = torch.tensor([7, 8, 9, 10]) * 1_000_000_000
    together = teacher.user_states(teacher.vectors(), rows, seen_at, asked_at)
    anything = torch.where(rows < 0, torch.randint(2**60, rows.shape), seen_at)
    assert torch.equal(teacher.user_states(teacher.vectors(), rows, anything, asked_at), together)
    for row, length in zip(range(4), (3, 1, 1, 5), strict=True):
        one = slice(row, row + 1)
        alone = teacher.user_states(teacher.vectors(), rows[one, :length], seen_at[one, :length], asked_at[one])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-6, rtol=1e-5)
    assert together[2].abs().max() == 0
    by_one = teacher.user_states(teacher.vectors(), rows, seen_at, asked_at, block=1)
    torch.testing.assert_close(by_one, together, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", [{}, {"full_softmax_up_to": 0, "negatives": 64}, {"block": "sasrec"}], ids=str)
def test_threads_change_nothing_from_run_to_run(kind: Mapping[str, Any], planted: Positives) -> None:
    """Sums over repeated items must not depend on which thread comes first."""

    def train() -> Tensor:
        config = SequenceTeacherConfig(dim=64, batch=256, length=10, layers=1, **kind)
        teacher = build_sequence_teacher(config, InMemory(planted, power=0.5), seed=0)
        for step in range(3):
            torch.manual_seed(step)
            teacher.step(step)
        return teacher.vectors()

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first = train()
        assert all(torch.equal(train(), first) for _ in range(2))
    finally:
        torch.set_num_threads(threads)


class Killed(Exception):
    pass


@pytest.mark.parametrize(("at", "block"), [(2, "sasrec"), (11, "sasrec"), (11, "hstu")])
def test_resumed_equals_uninterrupted_with_validation(at: int, block: str, planted: Positives, tmp_path: Path) -> None:
    def train(checkpoint: Path, *, die_at: int | None) -> dict[str, Any]:
        config = SequenceTeacherConfig(**SMALL, full_softmax_up_to=0, negatives=8, block=block)  # type: ignore[arg-type]
        teacher = build_sequence_teacher(config, InMemory(planted, power=0.5), seed=5)

        def log(_: Mapping[str, float], step: int) -> None:
            if step == die_at:
                raise Killed

        fit(
            teacher.step, steps=15, seed=5, state=teacher.state, checkpoint=checkpoint, key="k", description="test",
            log=log, checkpoint_seconds=0, log_every=1, validate=lambda: next_hits(teacher, planted), validate_every=4,
        )  # fmt: skip
        return {"items": teacher.state["items"].state_dict(), "model": teacher.state["model"].state_dict()}

    whole = train(tmp_path / "whole", die_at=None)
    with pytest.raises(Killed):
        train(tmp_path / "killed", die_at=at)
    resumed = train(tmp_path / "killed", die_at=None)
    for name, state in whole.items():
        for key, values in state.items():
            assert torch.equal(resumed[name][key], values), (name, key)
