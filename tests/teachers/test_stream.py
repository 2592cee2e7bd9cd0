"""Positives on disk: the same as in memory, drawn as often, in bounded memory, whatever goes wrong."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.contracts.fold import Fit, Fold
from recdistill.contracts.tables import ROW_GROUP, write_table
from recdistill.errors import UserError
from recdistill.teachers import parts as parts_module
from recdistill.teachers.build import build_id_teacher, build_sequence_teacher
from recdistill.teachers.config import IdTeacherConfig, SequenceTeacherConfig
from recdistill.teachers.parts import MANIFEST, Parts, write_parts
from recdistill.teachers.positives import InMemory, Positives, UserBatch
from recdistill.teachers.stream import Schedule, Streamed, _Window
from recdistill.training import step_generator

Event = tuple[int, int, int, list[str]]  # user, item, second, behaviours
FILES = ("train", "validation", "validation_judge")
GIVEN = {"min_behaviours": 1, "last": 1_000, "seed": 7}
LABELS = ["like", "share", "finish"]

events = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 7), st.integers(0, 3), st.lists(st.sampled_from(LABELS), max_size=3)),
    max_size=40,
)


def write_fold(root: Path, files: list[list[Event]], *, ids: Callable[[str, int], Any], by_user: bool = True) -> Fold:
    """A fold of three training files; its catalogue is in no order and has items that nobody met."""
    for name, rows in zip(FILES, files, strict=True):
        ordered = sorted(rows, key=lambda row: (ids("u", row[0]), row[2])) if by_user else rows
        columns = {
            "user_id": pd.Series([ids("u", row[0]) for row in ordered], dtype=type(ids("u", 0))),
            "item_id": pd.Series([ids("i", row[1]) for row in ordered], dtype=type(ids("i", 0))),
            "timestamp": pa.array([1_000_000 * row[2] for row in ordered], pa.timestamp("us", "UTC")),
            "behaviours": pa.array([row[3] for row in ordered], pa.list_(pa.string())),
        }
        write_table(pa.table(columns), root / f"{name}.parquet")
    catalogue = [ids("i", item) for item in (5, 9, 0, 3, 7, 1, 8, 4, 2, 6)]
    write_table(pd.DataFrame({"item_id": catalogue, "role": "warm"}), root / "items.parquet")
    return Fold(root)


def text(kind: str, number: int) -> str:
    return f"{kind}{'é' if number % 3 else 'z'}{number}"


def whole(kind: str, number: int) -> int:
    return (number - 4) * 2**40 if kind == "u" else 100 - number


def together(parts: Parts) -> Positives:
    """All parts as one."""
    blocks = [parts.read(part) for part in range(len(parts))]
    counts = torch.cat([block.counts for block in blocks])
    return Positives(
        item_ids=parts.item_ids,
        user_ids=blocks[0].user_ids.append([block.user_ids for block in blocks[1:]]),
        item=torch.cat([block.item for block in blocks]),
        behaviours=torch.cat([block.behaviours for block in blocks]),
        time=torch.cat([block.time for block in blocks]),
        starts=torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]),
        support=parts.support,
    )


def assert_equal(found: Positives, expected: Positives) -> None:
    for name in ("item_ids", "user_ids"):
        pd.testing.assert_index_equal(getattr(found, name), getattr(expected, name), check_names=False)
    for name in ("item", "behaviours", "time", "starts", "support"):
        mine, theirs = getattr(found, name), getattr(expected, name)
        assert mine.dtype == theirs.dtype and torch.equal(mine, theirs), name


@settings(max_examples=60, deadline=None)
@given(
    files=st.tuples(events, events, events).map(list),
    fit=st.sampled_from(["selection", "final"]),
    ids=st.sampled_from([text, whole]),
    by_user=st.booleans(),
    chunk=st.integers(1, 60),
    size=st.integers(1, 12),
    last=st.integers(2, 5),
    at_least=st.integers(1, 2),
)
def test_parts_put_together_equal_the_log_in_memory(
    files: list[list[Event]],
    fit: Fit,
    ids: Callable[[str, int], Any],
    by_user: bool,
    chunk: int,
    size: int,
    last: int,
    at_least: int,
) -> None:
    """Ties, repeated meetings (also over files), unmet items, users without positives, both kinds of ids."""
    given = {"min_behaviours": at_least, "last": last, "seed": 3}
    with tempfile.TemporaryDirectory() as folder:
        fold = write_fold(Path(folder), files, ids=ids, by_user=by_user)

        def stream() -> Parts:
            return write_parts(
                fold, fit, Path(folder) / "parts", key="k", part_positives=size, chunk_events=chunk, **given
            )

        try:
            expected = Positives.of(fold.training(fit), **given)
        except UserError:
            with pytest.raises(UserError, match="no user has two training positives"):
                stream()
            return
        parts = stream()
        assert_equal(together(parts), expected)
        for part in range(len(parts) - 1):  # the fewest users that reach the size
            counts = parts.read(part).counts
            assert size <= parts.positives[part] < size + int(counts[-1])


def many(users: int = 60, *, seed: int = 0) -> list[list[Event]]:
    """Users with 1 … 8 positives; the first ones have the most."""
    rng = np.random.default_rng(seed)
    rows = [
        (user, int(item), int(rng.integers(50)), LABELS[: int(rng.integers(1, 4))])
        for user in range(users)
        for item in rng.permutation(10)[: max(1, 8 - user // 6)]
    ]
    return [rows, [], []]


@pytest.fixture
def fold(tmp_path: Path) -> Fold:
    return write_fold(tmp_path / "fold", many(), ids=lambda kind, number: f"{kind}{number:03d}")


@pytest.fixture
def folder(fold: Fold, tmp_path: Path) -> Path:
    """Some 14 parts."""
    write_parts(fold, "selection", tmp_path / "parts", key="k", part_positives=20, **GIVEN)
    return tmp_path / "parts"


@pytest.fixture
def memory(fold: Fold) -> Positives:
    return Positives.of(fold.training("selection"), **GIVEN)


def drawn(source: Streamed | InMemory, step: int, size: int = 16) -> UserBatch:
    return source.draw(step, size, step_generator(5, step))


def same(mine: UserBatch, theirs: UserBatch) -> bool:
    names = ("user", "counts", "item", "behaviours", "time")
    return all(torch.equal(getattr(mine, name), getattr(theirs, name)) for name in names)


def streamed(folder: Path, *, window_parts: int = 3, power: float = 1.0, seed: int = 0, batch: int = 4) -> Any:
    return closing(Streamed(Parts.open(folder), power=power, seed=seed, batch=batch, window_parts=window_parts))


@pytest.mark.parametrize("power", [0.0, 0.3, 1.0])
def test_one_window_draws_what_memory_draws(folder: Path, memory: Positives, power: float) -> None:
    with streamed(folder, window_parts=99, power=power) as source:
        expected = InMemory(memory, power=power)
        assert source.users == expected.users and torch.equal(source.support, expected.support)
        assert source.item_ids.equals(expected.item_ids)
        for step in (0, 1, 50, 3, 10_000):
            assert same(drawn(source, step), drawn(expected, step))


def test_teachers_of_one_window_equal_teachers_from_memory(folder: Path, memory: Positives) -> None:
    def states(source: Streamed | InMemory) -> list[torch.Tensor]:
        table = IdTeacherConfig(dim=8, batch=8, user_form="table", full_softmax_up_to=0, negatives=4)
        order = SequenceTeacherConfig(dim=8, batch=8, length=5, layers=1, heads=1)
        found = []
        for teacher in (build_id_teacher(table, source, seed=1), build_sequence_teacher(order, source, seed=1)):
            torch.manual_seed(0)
            for step in range(6):
                teacher.step(step)
            found.append(teacher.vectors())
        return found

    with streamed(folder, window_parts=99, power=0.5) as source:
        for mine, theirs in zip(states(source), states(InMemory(memory, power=0.5)), strict=True):
            assert torch.equal(mine, theirs)


def test_a_step_draws_the_same_wherever_training_begins(folder: Path) -> None:
    with streamed(folder) as source:
        steps = range(3 * source.steps_an_epoch)
        expected = [drawn(source, step) for step in steps]
    with streamed(folder) as source:
        for step in np.random.default_rng(0).permutation(steps).tolist():
            assert same(drawn(source, step), expected[step]), step
    with streamed(folder) as source:
        assert all(same(drawn(source, step), expected[step]) for step in steps[17:])
    with streamed(folder, seed=1) as source:
        assert not all(same(drawn(source, step), expected[step]) for step in steps)


def test_a_batch_holds_the_users_it_names(folder: Path, memory: Positives) -> None:
    with streamed(folder) as source:
        for step in range(source.steps_an_epoch):
            batch = drawn(source, step)
            assert torch.equal(batch.counts, memory.counts[batch.user])
            for user, item, time in zip(
                batch.user.tolist(), batch.item.split(batch.counts.tolist()), batch.time.split(batch.counts.tolist()),
                strict=True,
            ):  # fmt: skip
                own = slice(int(memory.starts[user]), int(memory.starts[user + 1]))
                assert torch.equal(item, memory.item[own]) and torch.equal(time, memory.time[own])


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_users_are_drawn_as_often_as_from_memory(folder: Path, memory: Positives, power: float) -> None:
    """Windows of very unequal weight; over epochs every user's share is right, and no user of one positive comes."""
    weights = torch.where(memory.counts >= 2, memory.counts.double() ** power, 0.0)
    expected = weights / weights.sum()
    with streamed(folder, power=power, batch=2) as source:
        counted = torch.zeros(source.users, dtype=torch.int64)
        epochs = 40
        for step in range(epochs * source.steps_an_epoch):
            counted += torch.bincount(drawn(source, step, 32).user, minlength=source.users)
    assert not counted[memory.counts < 2].any()
    wanted = expected * counted.sum()
    # Steps choose 32 users at once: their windows' steps are rounded, which adds little to the draw's own variance.
    deviation = (counted - wanted)[wanted > 0] / wanted[wanted > 0].sqrt()
    assert deviation.square().mean() < 1.6
    assert deviation.abs().max() < 5


@given(
    weights=st.lists(st.integers(0, 9), min_size=1, max_size=9).filter(any),
    steps=st.integers(1, 50),
    window=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_an_epoch_visits_windows_in_proportion(weights: list[int], steps: int, window: int, seed: int) -> None:
    schedule = Schedule(np.array(weights, dtype=np.float64), steps=steps, window_parts=window, seed=seed)
    visits = []
    step = 2 * steps  # the third epoch
    while step < 3 * steps:
        visit = schedule.at(step)
        assert visit.first == step < visit.stop
        assert all(schedule.at(inside) == visit for inside in range(visit.first, visit.stop))
        visits.append(visit)
        step = visit.stop
    assert step == 3 * steps
    seen = [part for visit in visits for part in visit.parts]
    assert len(seen) == len(set(seen))
    for visit in visits:
        share = sum(weights[part] for part in visit.parts) / sum(weights)
        assert abs((visit.stop - visit.first) - share * steps) < 1 and share > 0


def test_the_order_of_parts_is_another_one_every_epoch() -> None:
    schedule = Schedule(np.ones(8), steps=8, window_parts=1, seed=0)
    orders = {tuple(schedule.at(8 * epoch + step).parts for step in range(8)) for epoch in range(5)}
    assert len(orders) == 5 and all(len(set(order)) == 8 for order in orders)


def test_two_windows_are_the_most_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[_Window]] = []
    alive: list[int] = []  # beside the one being made
    real = _Window.of

    def of(parts: Parts, chosen: Sequence[int], *, power: float) -> _Window:
        alive.append(sum(window() is not None for window in made))
        window = real(parts, chosen, power=power)
        made.append(weakref.ref(window))
        return window

    monkeypatch.setattr(_Window, "of", of)
    with streamed(folder, window_parts=2) as source:
        for step in [*range(2 * source.steps_an_epoch), *np.random.default_rng(0).permutation(60).tolist()]:
            drawn(source, step)
    assert len(made) > 30 and set(alive) == {0, 1}
    assert not any(window() is not None for window in made)


def test_the_next_window_is_read_ahead_and_then_nothing_more(folder: Path) -> None:
    with streamed(folder) as source:
        drawn(source, 0)
        visit = source._schedule.at(0)
        source._next[1].result()
        shutil.rmtree(folder)
        waited = source.waited
        for step in range(visit.stop, source._schedule.at(visit.stop).stop):
            drawn(source, step)
        assert 0 < waited <= source.waited <= source.drawn
        with pytest.raises(UserError, match="no such table"):
            drawn(source, source._schedule.at(visit.stop).stop)


@pytest.mark.parametrize("harm", ["missing", "cut short", "of another preparation"])
def test_what_the_thread_finds_wrong_shows_in_draw_until_it_is_mended(folder: Path, harm: str) -> None:
    with streamed(folder, window_parts=1) as source:
        first = source._schedule.at(0)
        following = source._schedule.at(first.stop)
        path = folder / f"part-{following.parts[0]:05d}.parquet"
        good = path.read_bytes()
        if harm == "missing":
            path.unlink()
        elif harm == "cut short":
            path.write_bytes(good[: len(good) // 2])
        else:
            other = next(p for p in range(14) if source._parts.users[p] != source._parts.users[following.parts[0]])
            path.write_bytes((folder / f"part-{other:05d}.parquet").read_bytes())
        for step in range(first.stop):
            drawn(source, step)
        for _ in range(2):
            with pytest.raises(UserError, match=path.name):
                drawn(source, first.stop)
        path.write_bytes(good)
        found = drawn(source, first.stop)
    with streamed(folder, window_parts=1) as source:
        assert same(found, drawn(source, first.stop))


def threads() -> int:
    return sum(thread.name.startswith("recdistill-parts") for thread in threading.enumerate())


def test_closing_ends_the_thread(folder: Path) -> None:
    before = threads()
    with streamed(folder) as source:
        expected = drawn(source, 4)
        assert threads() == before + 1
    assert threads() == before
    assert same(drawn(source, 4), expected)  # begins anew
    source.close()
    assert threads() == before


def written(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


@pytest.fixture
def dies_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the preparation die when it begins to write a file."""

    def arm(name: str) -> None:
        for writer in ("write_table", "write_json"):
            real = getattr(parts_module, writer)

            def write(value: Any, path: Path, real: Callable[..., None] = real) -> None:
                if path.name == name:
                    raise KeyboardInterrupt
                real(value, path)

            monkeypatch.setattr(parts_module, writer, write)

    return arm


@pytest.mark.parametrize("at", ["part-00000.parquet", "part-00003.parquet", "vocabulary.parquet", MANIFEST])
def test_a_torn_preparation_is_redone_and_a_whole_one_left_alone(
    at: str, fold: Fold, folder: Path, tmp_path: Path, memory: Positives,
    dies_at: Callable[[str], None], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def prepare(key: str, size: int = 20) -> Parts:
        return write_parts(fold, "selection", folder, key=key, part_positives=size, **GIVEN)

    before = written(folder)
    assert_equal(together(prepare("k")), memory)
    assert written(folder) == before
    dies_at(at)
    with pytest.raises(KeyboardInterrupt):
        prepare("other", 30)  # of another key: the old parts go
    with pytest.raises(UserError, match="no parts"):
        Parts.open(folder)
    monkeypatch.undo()
    (folder / ".part-00001.parquet.killed.tmp").write_text("half")
    parts = prepare("other", 60)
    assert_equal(together(parts), memory)
    names = {path.name for path in folder.iterdir()}
    assert names == {f"part-{p:05d}.parquet" for p in range(len(parts))} | {
        "vocabulary.parquet", "counts.parquet", MANIFEST,
    }  # fmt: skip
    again = written(folder)
    prepare("other", 60)
    assert written(folder) == again
    assert prepare("other", 30).positives != parts.positives  # any argument counts


def test_parts_of_another_version_are_refused_and_made_again(fold: Fold, folder: Path) -> None:
    told = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(told | {"version": 0}))
    with pytest.raises(UserError, match="no parts of this version"):
        Parts.open(folder)
    write_parts(fold, "selection", folder, key="k", part_positives=20, **GIVEN)
    assert json.loads((folder / MANIFEST).read_text()) == told


def test_an_item_that_the_catalogue_lacks_is_the_users_mistake(tmp_path: Path) -> None:
    fold = write_fold(tmp_path, [[(0, 1, 0, ["like"]), (0, 77, 1, ["like"])], [], []], ids=whole)
    with pytest.raises(UserError, match="1 item ids that the item table does not have"):
        write_parts(fold, "selection", tmp_path / "parts", key="k", part_positives=20, **GIVEN)


def test_large_tables_have_row_groups_that_a_range_of_users_skips(tmp_path: Path) -> None:
    rows = 5 * ROW_GROUP
    write_table(pa.table({"user_id": np.arange(rows) // 10}), tmp_path / "table.parquet")
    (fragment,) = ds.dataset(tmp_path / "table.parquet").get_fragments()
    assert len(fragment.row_groups) == 5
    middle = ds.field("user_id") == pa.scalar(rows // 20)
    assert len(fragment.split_by_row_group(middle)) == 1
