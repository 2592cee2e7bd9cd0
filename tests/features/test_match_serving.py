"""What a service computes is what a batch computes: the module, exported, saved and loaded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_match import DAY, Few, Positive, random_few
from torch import Tensor

from recdistill.features.serving import save_program

USERS, NOW = 12, 40 * DAY


@pytest.fixture(scope="module")
def few() -> Few:
    return random_few(3, items=60, width=16, interests=6, levels=3, last=8, top_k=3, half_life_days=5)


@pytest.fixture(scope="module")
def positives() -> list[Positive]:
    rng = np.random.default_rng(1)
    rows = np.c_[rng.integers(USERS, size=250), rng.integers(60, size=250), rng.integers(45, size=250) * DAY]
    return [Positive(*map(int, row)) for row in rows]


def _asked(few: Few, positives: list[Positive], *, width: int = 30) -> tuple[Tensor, Tensor]:
    """History rows and ages of all users as a service keeps them: everything, with what is not older, and padding."""
    rng = np.random.default_rng(2)
    rows, age = np.full((USERS, width), -1), np.full((USERS, width), np.nan)
    for user in range(USERS):
        mine = sorted((one for one in positives if one.user == user), key=lambda one: (one.time, one.item))[-width:]
        places = np.sort(rng.permutation(width)[: len(mine)])
        rows[user, places] = [one.item for one in mine]
        age[user, places] = [(NOW - one.time) / DAY for one in mine]
    return torch.from_numpy(rows), torch.from_numpy(age)


def test_a_service_computes_what_the_batch_does(few: Few, positives: list[Positive]) -> None:
    candidates = torch.from_numpy(np.random.default_rng(4).integers(-1, 60, size=(USERS, 50)))
    served = few.module()(*_asked(few, positives), candidates).numpy()
    user = np.repeat(np.arange(USERS), 50)
    asked = few.batch(positives, users=USERS)(user, candidates.numpy().ravel(), np.full(len(user), NOW))
    exact = [at for at, name in enumerate(few.module().columns) if name != "match_decayed"]
    served = served.reshape(len(user), -1)
    np.testing.assert_array_equal(served[:, exact], asked[:, exact])
    np.testing.assert_allclose(served, asked, rtol=0, atol=1e-6)
    assert np.isnan(served).any() and (served[:, -1] == 8).any()


def test_ages_in_single_precision_are_close(few: Few, positives: list[Positive]) -> None:
    history, age = _asked(few, positives)
    candidates = torch.arange(60).expand(USERS, 60)
    double, single = few.module()(history, age, candidates), few.module()(history, age.float(), candidates)
    torch.testing.assert_close(single, double, rtol=0, atol=1e-6, equal_nan=True)


@pytest.fixture(scope="module")
def loaded(few: Few, tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    path = tmp_path_factory.mktemp("program") / "match.pt2"
    save_program(few.module(), path)
    told = {"columns": ""}
    program = torch.export.load(path, extra_files=told)
    assert tuple(told["columns"].split("\n")) == few.module().columns
    return program.module()


@pytest.mark.parametrize("way", ["exported", "scripted"])
@pytest.mark.parametrize(("users", "rows", "asked"), [(12, 30, 5), (1, 30, 1), (3, 1, 7), (1, 1, 1), (2, 30, 200)])
def test_a_program_of_the_module_gives_its_bits_at_any_size(
    few: Few, positives: list[Positive], loaded: torch.nn.Module, way: str, users: int, rows: int, asked: int
) -> None:
    history, age = (whole[:users, -rows:] for whole in _asked(few, positives))
    candidates = torch.from_numpy(np.random.default_rng(users).integers(-1, 60, size=(users, asked)))
    program = loaded if way == "exported" else torch.jit.script(few.module())
    torch.testing.assert_close(
        program(history, age, candidates), few.module()(history, age, candidates), rtol=0, atol=1e-7, equal_nan=True
    )
