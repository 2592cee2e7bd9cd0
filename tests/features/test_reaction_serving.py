"""What a service computes of reactions, alone and beside match features, is what a batch computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from plain_match import DAY
from torch import Tensor

from recdistill.contracts import names
from recdistill.contracts.log import Log
from recdistill.contracts.tables import EmbeddingTable
from recdistill.features.config import MatchConfig, ReactionConfig
from recdistill.features.match_basis import MatchBasis
from recdistill.features.match_items import MatchItems
from recdistill.features.match_log import match_log
from recdistill.features.semantic_ids import to_table
from recdistill.features.serving import save_program
from recdistill.features.space import Space

USERS, ITEMS, NOW = 12, 60, 40 * DAY
REACTION = ReactionConfig(last=9, temperatures=(0.05, 0.3, 1.0))
Asked = tuple[Tensor, Tensor, Tensor]  # history, age, pleased


@pytest.fixture(scope="module")
def items() -> MatchItems:
    rng = np.random.default_rng(3)
    table = EmbeddingTable(pd.Index(np.arange(ITEMS)), rng.normal(size=(ITEMS, 16)).astype(np.float32))
    space = Space.of(table, table.ids, centre=True)
    basis = MatchBasis.fit(space, MatchConfig(last=5, interests=4), seed=0, reaction=REACTION)
    return MatchItems.of(basis, table, to_table(table.ids, rng.integers(3, size=(ITEMS, 2))))


@pytest.fixture(scope="module")
def log() -> Log:
    """400 events, many of them at equal times, on items that are not known (-1), or after what is asked about."""
    rng = np.random.default_rng(1)
    columns = {
        names.USER_ID: rng.integers(USERS, size=400),
        names.ITEM_ID: rng.integers(ITEMS + 4, size=400),
        names.TIMESTAMP: pa.array(rng.integers(45, size=400) * DAY, pa.timestamp("us", "UTC")),
        names.BEHAVIOURS: pa.array([["like"] * liked for liked in rng.integers(2, size=400)], pa.list_(pa.string())),
    }
    return Log.of([pa.table(columns)], item_ids=pd.Index(np.arange(ITEMS + 4)))


def _asked(log: Log, *, width: int = 45) -> Asked:
    """Histories as a service keeps them: everything, in order, with what is not older, and padding anywhere."""
    rng = np.random.default_rng(2)
    history, age = np.full((USERS, width), -1), np.full((USERS, width), np.nan)
    pleased = rng.integers(2, size=(USERS, width)).astype(bool)  # what is said of padding does not count
    for user in range(USERS):
        mine = np.flatnonzero(log.user == user)
        mine = mine[np.lexsort((log.behaviours[mine], log.item[mine], log.time[mine]))][-width:]
        places = np.sort(rng.permutation(width)[: len(mine)])
        history[user, places] = np.where(log.item[mine] < ITEMS, log.item[mine], -1)
        age[user, places] = (NOW - log.time[mine]) / DAY
        pleased[user, places] = log.positive()[mine]
    return torch.from_numpy(history), torch.from_numpy(age), torch.from_numpy(pleased)


def test_a_service_computes_what_the_batch_does(items: MatchItems, log: Log) -> None:
    assert items.reaction is not None
    candidates = np.random.default_rng(4).integers(-1, ITEMS, size=(USERS, 1000))
    user = np.repeat(np.arange(USERS), 1000)
    batch = match_log(items, log, user=user, item=candidates.ravel(), time=np.full(len(user), NOW))
    served = items.served(*_asked(log), torch.from_numpy(candidates)).numpy().reshape(len(user), -1)
    np.testing.assert_allclose(served, batch, rtol=0, atol=1e-6)
    alone = items.reaction(*_asked(log), torch.from_numpy(candidates)).numpy().reshape(len(user), -1)
    np.testing.assert_allclose(alone, batch[:, -3:], rtol=0, atol=1e-6)
    assert items.columns[-3:] == ("reaction_1", "reaction_2", "reaction_3") and len(items.columns) == batch.shape[1]
    assert np.nanstd(alone, axis=0).min() > 0.01 and np.isnan(alone).any()


def test_an_unknown_user_and_a_history_of_nothing_older_give_nothing(items: MatchItems, log: Log) -> None:
    assert items.reaction is not None
    history, _, pleased = _asked(log)
    never = torch.full(history.shape, -1.0, dtype=torch.float64)
    found = items.reaction(history, never, pleased, torch.arange(5).expand(USERS, 5))
    assert found.shape == (USERS, 5, 3) and found.isnan().all()
    batch = match_log(items, log, user=np.array([-1, 0]), item=np.array([1, 1]), time=np.array([NOW, -1]))
    assert np.isnan(batch[:, -3:]).all()


@pytest.fixture(scope="module")
def loaded(items: MatchItems, tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    """The program of all columns, in a file that holds the vectors once."""
    path = tmp_path_factory.mktemp("program") / "served.pt2"
    save_program(items.served, path)
    told = {"columns": ""}
    program = torch.export.load(path, extra_files=told)
    assert tuple(told["columns"].split("\n")) == items.columns
    vectors = [tensor for name, tensor in program.state_dict.items() if name.endswith("vectors")]
    assert len(vectors) == 2 and vectors[0].data_ptr() == vectors[1].data_ptr()
    return program.module()


@pytest.mark.parametrize("way", ["exported", "scripted"])
@pytest.mark.parametrize(("users", "rows", "asked"), [(12, 45, 5), (1, 45, 1), (3, 1, 7), (1, 1, 1), (2, 20, 200)])
def test_a_program_gives_what_the_module_gives_at_any_size(
    items: MatchItems, log: Log, loaded: torch.nn.Module, way: str, users: int, rows: int, asked: int
) -> None:
    past = [whole[:users, -rows:] for whole in _asked(log)]
    candidates = torch.from_numpy(np.random.default_rng(users).integers(-1, ITEMS, size=(users, asked)))
    program: Callable[..., Tensor] = loaded if way == "exported" else torch.jit.script(items.served)
    torch.testing.assert_close(
        program(*past, candidates), items.served(*past, candidates), rtol=0, atol=1e-7, equal_nan=True
    )


def test_the_basis_keeps_what_reactions_are_and_whether_there_are_any(items: MatchItems, tmp_path: Path) -> None:
    items.basis.save(tmp_path / "basis.safetensors")
    again = MatchBasis.load(tmp_path / "basis.safetensors")
    assert again.reaction == REACTION and again.settings()["reaction"] == REACTION.model_dump(mode="json")
    MatchBasis(again.mean, again.centroids, again.config).save(tmp_path / "basis.safetensors")
    without = MatchBasis.load(tmp_path / "basis.safetensors")
    assert without.reaction is None and without.settings()["reaction"] is None
    table = EmbeddingTable(items.ids, items.module.vectors[:-1].numpy())
    plain = MatchItems.of(without, table)
    assert plain.served is plain.module and not [name for name in plain.columns if name.startswith("reaction_")]
