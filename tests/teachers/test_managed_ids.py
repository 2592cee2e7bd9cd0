"""Managed ids: who gets a row and keeps it, what may be exported, resume, and the traps of TorchRec's module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchrec import JaggedTensor
from torchrec.modules.mc_modules import LFU_EvictionPolicy, LRU_EvictionPolicy, MCHManagedCollisionModule

from recdistill.teachers.managed import EMPTY, POLICIES, Admission, ManagedIds, Policy
from recdistill.teachers.tables import IdTable


def feed(managed: ManagedIds, *steps: list[int]) -> Admission:
    for ids in steps:
        admission = managed.admit(torch.tensor(ids, dtype=torch.int64))
    return admission


def holders(managed: ManagedIds) -> set[int]:
    return set(managed.resident(min_steps=0)[0].tolist())


def test_an_id_gets_a_row_once_it_was_met_often_enough_over_all_intervals() -> None:
    managed = ManagedIds(8, policy="lru", admit_after=3, every=2)
    feed(managed, [5, 6], [5, 5])
    assert holders(managed) == {5}
    feed(managed, [6], [])
    assert holders(managed) == {5}
    feed(managed, [7], [6])  # the third time, in the third interval
    assert holders(managed) == {5, 6}


def test_rows_are_given_at_evictions_only() -> None:
    managed = ManagedIds(4, policy="lfu", admit_after=1, every=3)
    assert not feed(managed, [1, 2], [1]).resident.any()
    admission = feed(managed, [1, 9])
    assert admission.resident.all()
    assert sorted(admission.changed.tolist()) == sorted(managed.resident(min_steps=0)[1].tolist())
    rows, resident = managed.rows(torch.tensor([9, 4, 1]))
    assert resident.tolist() == [True, False, True]
    assert rows[1] == managed.sink == 3
    assert rows[[0, 2]].tolist() == admission.rows.tolist()[::-1]


def test_lfu_keeps_the_frequent_and_lru_the_recent() -> None:
    stream = [[1, 1, 1, 1, 2, 2, 2], [3, 3, 3, 4], [4, 4], [5]]
    kept = {}
    for policy in POLICIES:
        managed = ManagedIds(4, policy=policy, admit_after=1, every=1)
        feed(managed, *stream)
        kept[policy] = holders(managed)
    assert kept["lfu"] == {1, 2, 3}  # 4 was met three times as well: those who are in stay
    assert kept["lru"] == {3, 4, 5}
    # Counts since they came in, over 1 + the steps since: 1: 4/4, 2: 3/4, 3: 3/3, 4: 3/2, 5: 1/1; at a draw who is in.
    assert kept["distance_lfu"] == {1, 3, 4}


def test_distance_lfu_without_decay_keeps_counts() -> None:
    managed = ManagedIds(3, policy="distance_lfu", admit_after=1, every=1, decay=0.0)
    feed(managed, [1, 1, 1, 2, 2], *[[3]] * 9)
    assert holders(managed) == {1, 2}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_new_tenant_starts_afresh_and_owes_the_old_one_nothing(policy: Policy) -> None:
    """Its row ends as in a table that never knew the old tenant."""
    managed = ManagedIds(2, policy=policy, admit_after=1, every=1)
    table = IdTable(2, dim=4, seed=0, scale=1.0, learning_rate=0.5)
    alone = IdTable(2, dim=4, seed=0, scale=1.0, learning_rate=0.5)
    ids = [1] * 3 + [2] * 6
    left_old = False
    for step, raw in enumerate(ids):
        gradient = torch.randn(1, 4, generator=torch.Generator().manual_seed(step))
        changed, rows, resident = managed.admit(torch.tensor([raw]))
        for each in (table, alone):
            each.reset(changed, generation=step)
        if resident.any():
            table.lookup(rows[resident]).backward(gradient)
            if raw == 2:
                alone.lookup(torch.tensor([0])).backward(gradient)
            left_old |= raw == 1
    assert left_old
    exported, rows = managed.resident()
    assert exported.tolist() == [2] and rows.tolist() == [0]
    for name, values in table.state_dict().items():
        assert torch.equal(values[0], alone.state_dict()[name][0]), name


def test_a_tenant_is_exported_only_after_it_was_trained() -> None:
    managed = ManagedIds(4, policy="lfu", admit_after=1, every=2)
    feed(managed, [1, 1], [2])  # both get a row in the second step, which trains 2 alone
    assert holders(managed) == {1, 2}
    assert managed.resident()[0].tolist() == [2]
    feed(managed, [2, 2, 2])
    assert managed.resident(min_steps=2)[0].tolist() == [2]  # steps, not lookups
    assert managed.resident(min_steps=3)[0].tolist() == []
    feed(managed, [1])
    assert sorted(managed.resident()[0].tolist()) == [1, 2]


def test_an_id_that_comes_back_is_not_exported_for_its_first_stay() -> None:
    managed = ManagedIds(2, policy="lru", admit_after=1, every=2)
    feed(managed, [], [1], [1], [2], [1], [])  # 1 is trained in two steps, is put out by 2, and comes back unseen
    assert holders(managed) == {1}
    assert managed.resident()[0].tolist() == []


def test_the_mark_of_an_empty_slot_is_no_id() -> None:
    managed = ManagedIds(4, policy="lfu", admit_after=1, every=1)
    admission = feed(managed, [EMPTY, EMPTY, 3], [EMPTY, 3])
    assert admission.rows.tolist()[0] == managed.sink and admission.resident.tolist() == [False, True]
    feed(managed, [EMPTY - 1, -EMPTY - 1], *[[EMPTY]] * 9)  # both ends of the range are ids
    assert holders(managed) == {3, EMPTY - 1, -EMPTY - 1}


STREAMS = st.lists(st.lists(st.one_of(st.integers(-4, 9), st.just(EMPTY)), max_size=7), max_size=25)


@settings(max_examples=150, deadline=None)
@given(STREAMS, st.sampled_from(list(POLICIES)), st.integers(2, 6), st.integers(1, 3), st.integers(1, 4))
def test_every_export_is_what_was_written_for_its_id(
    stream: list[list[int]], policy: Policy, slots: int, admit_after: int, every: int
) -> None:
    managed = ManagedIds(slots, policy=policy, admit_after=admit_after, every=every, width=8)
    table: list[tuple[int, int] | None] = [None] * slots  # what stands in each row: (id, step of writing)
    latest: dict[int, tuple[int, int]] = {}
    for step, ids in enumerate(stream):
        changed, rows, resident = feed(managed, ids)
        for row in changed.tolist():
            table[row] = None
        for raw, row, own in zip(ids, rows.tolist(), resident.tolist(), strict=True):
            assert own == (row != managed.sink)
            if own:
                standing = table[row]
                assert standing is None or standing[0] == raw  # nobody trains what another left behind
                table[row] = latest[raw] = (raw, step)
        exported, rows = managed.resident()
        pairs = list(zip(exported.tolist(), rows.tolist(), strict=True))
        assert len({raw for raw, _ in pairs}) == len({row for _, row in pairs}) == len(pairs) < slots
        for raw, row in pairs:
            assert row != managed.sink and table[row] == latest[raw]
        written = {place[0] for place in table if place}
        assert written == set(exported.tolist())  # nothing trained is lost to the export either
        again, own = managed.rows(exported)
        assert own.all() and torch.equal(again, rows)


def test_the_report_adds_up() -> None:
    managed = ManagedIds(3, policy="lru", admit_after=2, every=1)
    feed(managed, [1, 1, 2, 2], [1, 3], [4, 4, 5, 5], [6])
    assert managed.report() == {
        "recorded": 11,
        "distinct": 6,
        "served": 9 / 11,
        "admitted": 4,
        "evicted": 2,
        "resident": 2,
        "trained": 2,
        "evicted_most_trained": [(1, 2), (2, 1)],
    }


def test_the_most_trained_of_the_evicted_are_named_first_and_ten_at_most() -> None:
    managed = ManagedIds(2, policy="lru", admit_after=1, every=1)
    for raw in range(15):
        feed(managed, *[[raw]] * (1 + raw % 13))
    examples = managed.report()["evicted_most_trained"]
    assert examples == [(raw, raw + 1) for raw in range(12, 2, -1)]


def batch_of(step: int) -> Tensor:
    """Batches that grow, so that the history does."""
    generator = torch.Generator().manual_seed(step)
    size = 5 + 7 * (step % 9)
    return (60 ** torch.rand(size, generator=generator, dtype=torch.float64)).long() * 1_000_003 - 9


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("stop", [0, 1, 4, 13, 15])
def test_resumed_in_the_middle_of_an_interval_it_goes_on_bit_equal(policy: Policy, stop: int, tmp_path: Path) -> None:
    def make() -> ManagedIds:
        return ManagedIds(12, policy=policy, admit_after=2, every=5, width=16)

    whole, first, second = make(), make(), make()
    for step in range(stop):
        whole.admit(batch_of(step))
        first.admit(batch_of(step))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    feed(second, [1, 2, 3], [4], [5])  # what it held before is gone
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(stop, stop + 23):
        for ours, theirs in zip(second.admit(batch_of(step)), whole.admit(batch_of(step)), strict=True):
            assert torch.equal(ours, theirs)
    assert whole.report() == second.report()
    state, expected = second.state_dict(), whole.state_dict()
    assert state.keys() == expected.keys()
    for name, values in expected.items():
        assert torch.equal(state[name], values), name


@pytest.mark.parametrize("other", [{"slots": 6}, {"policy": "lru"}, {"every": 3}])
def test_the_state_of_other_settings_is_refused(other: dict[str, Any]) -> None:
    def make(slots: int = 5, policy: Policy = "lfu", every: int = 2) -> ManagedIds:
        return ManagedIds(slots, policy=policy, admit_after=1, every=every)

    with pytest.raises(ValueError, match="does not fit"):
        make(**other).load_state_dict(make().state_dict())


def test_a_table_of_the_sink_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        ManagedIds(1, policy="lfu", admit_after=1, every=1)


def test_lfu_forgets_so_that_a_new_favourite_gets_in() -> None:
    """The old ones' counts of 1,000 would keep the new ones, 600 each, out for ever."""
    managed = ManagedIds(3, policy="lfu", admit_after=1, every=1, width=64)
    feed(managed, *[[1] * 10 + [2] * 10] * 100)
    assert holders(managed) == {1, 2}
    feed(managed, *[[3] * 20 + [4] * 20] * 30)
    assert holders(managed) == {3, 4}


def test_who_is_in_needs_no_second_admission_after_counts_were_halved() -> None:
    managed = ManagedIds(3, policy="lru", admit_after=3, every=1, width=64)
    feed(managed, [1] * 3, [2] * 1_024, [1], [3] * 3)  # the 1,024 events leave 1 with a count of 1
    assert holders(managed) == {1, 3}


def test_a_history_that_grows_keeps_its_times() -> None:
    managed = ManagedIds(3, policy="lru", admit_after=1, every=3)
    feed(managed, [1, 1], [2], [3] * 20)
    assert holders(managed) == {2, 3}


# TorchRec's traps, each on its own module and on ours. Where TorchRec's half fails, it was mended there.


def bare(slots: int, policy: Any, *, every: int) -> MCHManagedCollisionModule:
    return MCHManagedCollisionModule(slots, torch.device("cpu"), policy, every)


def feed_bare(module: MCHManagedCollisionModule, *steps: list[int]) -> set[int]:
    for ids in steps:
        module({"id": JaggedTensor(values=torch.tensor(ids), lengths=torch.tensor([len(ids)]))})
    return set(module._mch_sorted_raw_ids.tolist()) - {EMPTY}


def test_a_threshold_does_not_starve_those_who_are_in() -> None:
    stream = [[1, 1, 2, 2], *[[2]] * 3, [3, 3]]  # 2 is met in every step but the last
    policy = LRU_EvictionPolicy(threshold_filtering_func=lambda counts: (counts >= 2, 2))
    assert feed_bare(bare(3, policy, every=1), *stream) == {1, 3}  # 1 and 2 seem equally old
    managed = ManagedIds(3, policy="lru", admit_after=2, every=1)
    feed(managed, *stream)
    assert holders(managed) == {2, 3}


def test_an_id_met_once_in_each_interval_gets_in() -> None:
    stream = [[1, 1], *[[5]] * 10]
    assert feed_bare(bare(2, LFU_EvictionPolicy(), every=1), *stream) == {1}
    managed = ManagedIds(2, policy="lfu", admit_after=1, every=1)
    feed(managed, *stream)
    assert holders(managed) == {5}


def test_a_large_batch_after_a_small_one_is_not_cut() -> None:
    stream = [[1], list(range(2, 10))]
    assert len(feed_bare(bare(20, LFU_EvictionPolicy(), every=2), *stream)) == 2
    managed = ManagedIds(20, policy="lfu", admit_after=1, every=2)
    feed(managed, *stream)
    assert holders(managed) == set(range(1, 10))


def test_history_and_the_time_of_the_last_eviction_are_in_our_state_only() -> None:
    first, second = (bare(4, LFU_EvictionPolicy(), every=2) for _ in range(2))
    feed_bare(first, [1])
    second.load_state_dict(first.state_dict())
    assert feed_bare(first, [2]) == {1, 2}
    assert feed_bare(second, [2]) == set()
