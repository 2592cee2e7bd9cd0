"""Checkpoints: every kind of value comes back bit-equal, into live tensors, and no kill leaves half of one.

Several processes and other numbers of them: teachers/test_sharded_table.py.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from recdistill import checkpoint
from recdistill.checkpoint import find, remove, save

LARGE = 1 << 18  # values of four bytes that get a file of their own


class Killed(BaseException):
    pass


def state(of: float) -> dict[str, Any]:
    return {"small": torch.full((3,), of), "large": torch.full((LARGE,), of), "plain": of}


def loaded(folder: Path, live: Any = None) -> Any:
    found = find(folder)
    assert found is not None
    return found.load(live)


def test_every_kind_of_value_comes_back(tmp_path: Path) -> None:
    memory = torch.arange(4.0 * LARGE)
    given: dict[str, Any] = {
        "number": torch.tensor(3.5),
        "step": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "bits": torch.tensor([math.nan, -0.0, math.inf]),
        "half": torch.tensor([1.5], dtype=torch.float16),
        "double": torch.tensor([0.1], dtype=torch.float64),
        "none of them": torch.zeros(0, 4),
        "turned": torch.arange(6.0).view(2, 3).T,
        "views": [memory[:2], memory[2:4], memory[: 2 * LARGE], memory[2 * LARGE :]],
        "twice": [memory, memory],
        "groups": [{"betas": (0.9, 0.999), "amsgrad": False, "foreach": None, "params": [0, 1], "lr": 1e-3}],
        "state": {0: {"step": torch.tensor(1.0)}, 1: {}},
        "text": "größer",
        "empty": {"dict": {}, "list": [], "tuple": ()},
        "score": math.nan,
    }
    save(tmp_path / "c", given, about={"step": 3, "score": math.nan})
    found = find(tmp_path / "c")
    assert found is not None and found.about["step"] == 3 and math.isnan(found.about["score"])
    _same(found.load(None), given)
    suffixes = {path.suffix for path in (tmp_path / "c").rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors"}  # no pickle among them


def _same(found: Any, given: Any) -> None:
    assert type(found) is type(given)
    if isinstance(given, torch.Tensor):
        assert found.dtype == given.dtype
        torch.testing.assert_close(found, given, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(torch.signbit(found), torch.signbit(given))
    elif isinstance(given, dict):
        assert list(found) == list(given)
        for key, value in given.items():
            _same(found[key], value)
    elif isinstance(given, list | tuple):
        assert len(found) == len(given)
        for one, other in zip(found, given, strict=True):
            _same(one, other)
    else:
        assert found == given or (math.isnan(found) and math.isnan(given))


def test_values_are_read_into_live_tensors_of_the_same_shape(tmp_path: Path) -> None:
    save(tmp_path, state(1.0), about={})
    live = {"small": torch.zeros(3, requires_grad=True), "large": torch.zeros(2)}
    found = loaded(tmp_path, live)
    assert live["small"].tolist() == [1, 1, 1] and live["small"].requires_grad
    assert found["small"].data_ptr() == live["small"].data_ptr()
    assert found["large"].shape == (LARGE,) and live["large"].tolist() == [0, 0]


def test_an_optimizer_without_a_state_gets_one(tmp_path: Path) -> None:
    def made() -> tuple[torch.nn.Linear, torch.optim.AdamW]:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    def step(model: torch.nn.Linear, optimizer: torch.optim.AdamW, number: int) -> None:
        optimizer.zero_grad()
        model(torch.full((1, 3), float(number))).square().sum().backward()
        optimizer.step()

    (model, optimizer), (other, its) = made(), made()
    for number in range(3):
        step(model, optimizer, number)
    save(tmp_path, {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, about={})
    found = loaded(tmp_path, {"model": other.state_dict(), "optimizer": its.state_dict()})
    other.load_state_dict(found["model"])
    its.load_state_dict(found["optimizer"])
    step(model, optimizer, 3)
    step(other, its, 3)
    assert torch.equal(other.weight, model.weight)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"a": {1, 2}}, TypeError, r"cannot hold a set \(state/a\)"),
        ({(1, 2): 3}, TypeError, "whole numbers, not tuple"),
        ({True: 3}, TypeError, "whole numbers, not bool"),
        ({"a": {"b": torch.zeros(1)}, "a/b": torch.zeros(1)}, ValueError, "same path of keys, state/a/b"),
    ],
)
def test_what_cannot_be_held_is_refused(tmp_path: Path, given: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        save(tmp_path, given, about={})
    assert find(tmp_path) is None


def _cut(folder: Path) -> None:
    largest = max(folder.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size - 1)


@pytest.mark.parametrize(
    "harm",
    [
        _cut,
        lambda folder: next(folder.rglob("*.safetensors")).unlink(),
        lambda folder: (folder / "latest.json").write_text("{"),
        lambda folder: (folder / "latest.json").write_text("[]"),
        lambda folder: (folder / "latest.json").unlink(),
        shutil.rmtree,
        remove,
    ],
)
def test_what_is_not_whole_is_no_checkpoint(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    save(tmp_path / "c", state(1.0), about={})
    harm(tmp_path / "c")
    assert find(tmp_path / "c") is None
    save(tmp_path / "c", state(2.0), about={})
    _same(loaded(tmp_path / "c"), state(2.0))


def test_a_failure_at_any_point_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail at the first, second … touch of the disk, before it or after it, until a save gets through."""
    points = [(checkpoint, "save_file"), (os, "fsync"), (os, "replace"), (os, "unlink"), (os, "rmdir"), (Path, "mkdir")]
    for after in (False, True):
        seen, count = set(), 0
        while True:
            count += 1
            folder = tmp_path / f"{after} {count}"
            save(folder, state(0.0), about={"of": 0.0})
            save(folder, state(1.0), about={"of": 1.0})
            left = [count]
            with monkeypatch.context() as patch:
                for owner, name in points:
                    patch.setattr(owner, name, _failing(getattr(owner, name), left, after=after))
                try:
                    save(folder, state(2.0), about={"of": 2.0})
                    through = True
                except Killed:
                    through = False
            found = find(folder)
            assert found is not None
            _same(found.load(None), state(found.about["of"]))
            seen.add(found.about["of"])
            save(folder, state(3.0), about={})
            _same(loaded(folder), state(3.0))
            assert sum(path.is_dir() for path in folder.iterdir()) == 1
            if through and left[0] > 0:
                break
        assert seen == {1.0, 2.0} and count > 8


def _failing(of: Callable[..., Any], left: list[int], *, after: bool) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and not after:
            raise Killed
        result = of(*args, **kwargs)
        if left[0] == 0:
            raise Killed
        return result

    return call


def _save_for_ever(folder: Path) -> None:
    number = 0.0
    while True:
        save(folder, state(number), about={"of": number})
        number += 1


def test_a_killed_process_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, state(0.0), about={"of": 0.0})
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["recdistill.checkpoint"])
    reached = []
    for kill in range(4):
        process = context.Process(target=_save_for_ever, args=(tmp_path,))
        process.start()
        while (found := find(tmp_path)) is None or found.about["of"] < 2:
            assert process.is_alive()
            time.sleep(0.01)
        time.sleep(0.007 * kill)
        process.kill()
        process.join()
        found = find(tmp_path)
        assert found is not None
        _same(found.load(None), state(found.about["of"]))
        reached.append(found.about["of"])
        save(tmp_path, state(0.0), about={"of": 0.0})
    assert min(reached) >= 2
