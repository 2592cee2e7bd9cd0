"""Tables spread over two and three real processes: every sharding equals one process, saved or live.

One launch of each size does the work of all the tests here; what it found comes back as files.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import launch
from torch import Tensor

from recdistill.checkpoint import find, save
from recdistill.teachers.tables import BLOCK, IdTable, SparseFeature
from recdistill.training import fit, step_generator
from recdistill.world import World

SHARDINGS = ("table_wise", "row_wise", "planned")
ROWS, DIM, STEPS = BLOCK + 7, 4, 4
# Ids of three steps: numbers that no count of ranks divides, rows of both blocks, and rows that ranks share.
DRAWN = (0, 5, BLOCK + 6, 5, BLOCK - 1, 5, 40_000, 0, BLOCK, 21_900, 21_900)


def features() -> list[SparseFeature]:
    """Tags, 0 to 3 an item, and an author whom all share: a table of one row has nothing for other ranks."""
    counts = torch.arange(ROWS) % 4
    values = torch.arange(int(counts.sum())) % 11
    tags = SparseFeature("tags.of an item", 11, values, torch.cat([torch.zeros(1).long(), counts.cumsum(0)]))
    return [tags, SparseFeature("author", 1, torch.zeros(ROWS).long(), torch.arange(ROWS + 1))]


def table(world: World, sharding: Any = "row_wise", *, seed: int = 5) -> IdTable:
    return IdTable(
        ROWS, dim=DIM, seed=seed, scale=0.1, learning_rate=0.5, features=features(), world=world, sharding=sharding
    )


def train(of: IdTable, world: World, steps: range) -> None:
    """Each rank looks up its part of the step's ids; the loss of the whole is the mean over the ids."""
    for step in steps:
        ids = torch.tensor(DRAWN[: len(DRAWN) - step])
        own = world.share(len(ids))
        goal = torch.randn(len(ids), DIM, generator=torch.Generator().manual_seed(step))
        lengths = torch.tensor([2] * (len(ids[own]) // 2) + [len(ids[own]) % 2, 0])
        error = (of.lookup(ids[own]) - goal[own]).square().sum(1)
        (error.sum() / len(ids) * world.size).backward()
        # Bags cannot be cut between ranks at will: each row of a bag counts by itself.
        of.pool(ids[own], lengths).sum().div(len(ids) / world.size).backward()


class Model:
    """A table, a dense layer and AdamW: what a teacher is made of."""

    def __init__(self, world: World, sharding: Any = "row_wise", *, die_at: int | None = None) -> None:
        self.world, self.table, self.die_at = world, table(world, sharding), die_at
        torch.manual_seed(3)
        self.dense = torch.nn.Linear(DIM, DIM)
        self.optimizer = torch.optim.AdamW(self.dense.parameters(), lr=0.01)
        self.state = {"items": self.table, "model": self.dense, "optimizer": self.optimizer}

    def step(self, step: int) -> dict[str, float]:
        if step == self.die_at:
            raise KeyboardInterrupt
        ids = torch.randint(200, (9,), generator=step_generator(1, step)) * 320
        own = self.world.share(len(ids))
        error = (self.dense(self.table.lookup(ids[own])) - 1).square().sum(1)
        loss = error.sum() / len(ids) * self.world.size
        self.optimizer.zero_grad()
        loss.backward()
        self.world.average_([parameter.grad for parameter in self.dense.parameters()])
        self.optimizer.step()
        return {"loss": float(loss.detach())}

    def validate(self) -> float:
        """Best at step 4, before the kill: what is restored in the end comes from the checkpoint."""
        return -abs(float(self.dense(self.table.read(0, 6_400)[::320]).mean().detach()) - 0.65)

    def fit(self, folder: Path) -> dict[str, Any]:
        fitted = fit(
            self.step, steps=8, seed=1, state=self.state, checkpoint=folder, key="k", description="model",
            log=lambda metrics, step: None, validate=self.validate, validate_every=2, checkpoint_seconds=0,
            world=self.world,
        )  # fmt: skip
        assert fitted.best_step == 4
        dense = {name: value.clone() for name, value in self.dense.state_dict().items()}
        return {"curve": torch.tensor(fitted.curve), "read": self.table.read(0, ROWS), **dense}


def die(model: Model, folder: Path) -> None:
    model.die_at = 5
    with pytest.raises(KeyboardInterrupt):
        model.fit(folder)


def work(world: World, folder: Path) -> None:
    for sharding in SHARDINGS:
        name = f"{world.size} {sharding}"
        spread = table(world, sharding)
        save(folder / f"{name} fresh", spread.state_dict(), about={}, world=world)
        found = {"all": spread.read(0, ROWS), "some": spread.read(BLOCK - 2, BLOCK + 3)}
        train(spread, world, range(STEPS))
        torch.save(found | {"trained": spread.read(0, ROWS)}, folder / f"{name} read by {world.rank}.pt")
        save(folder / f"{name} trained", spread.state_dict(), about={}, world=world)
        # What others saved, loaded into these shards, and saved again from them.
        for other in sorted(
            path.name for path in folder.glob("* trained") if not path.name.startswith(f"{world.size}")
        ):
            into = table(world, sharding, seed=6)
            load(into, folder / other, world)
            save(folder / f"{other} through {name}", into.state_dict(), about={}, world=world)
    with pytest.raises(ValueError, match="several processes"):
        _ = spread.weight
    with pytest.raises(ValueError, match="several processes"):
        spread.reset(torch.tensor([1]), generation=0)
    for sharding in ("table_wise", "row_wise"):
        whole = Model(world, sharding).fit(folder / "whole")
        if world.size == 2:
            killed = folder / f"killed {sharding}"
            die(Model(world, sharding), killed)
            if world.leads:
                shutil.copytree(killed, folder / f"resumed {sharding}")
            world.barrier()
            again = Model(world, sharding).fit(folder / f"resumed {sharding}")
        else:
            again = Model(world, sharding).fit(folder / f"killed {sharding}")
        if world.leads:
            torch.save({"whole": whole, "again": again}, folder / f"{world.size} {sharding} fitted.pt")


def load(into: IdTable, folder: Path, world: World) -> None:
    found = find(folder, world=world)
    assert found is not None
    into.load_state_dict(found.load(into.state_dict()))


def saved(folder: Path) -> dict[str, Tensor]:
    found = find(folder)
    assert found is not None
    whole: dict[str, Tensor] = found.load(None)
    return whole


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    alone = table(World())
    train(alone, World(), range(STEPS))
    save(folder / "1 trained", alone.state_dict(), about={})
    launch(work, 2, folder)
    for sharding in ("table_wise", "row_wise"):
        shutil.copytree(folder / f"killed {sharding}", folder / f"alone {sharding}")
    launch(work, 3, folder)
    return folder


SPREAD = [(size, sharding) for size in (2, 3) for sharding in SHARDINGS]


@pytest.mark.parametrize(("size", "sharding"), SPREAD)
def test_initial_values_do_not_depend_on_the_processes(folder: Path, size: int, sharding: str) -> None:
    fresh = saved(folder / f"{size} {sharding} fresh")
    assert list(fresh) == [
        f"{name}.{kind}" for name in ("id", "tags.of an item", "author") for kind in ("weight", "accumulator")
    ]
    for name, values in table(World()).state_dict().items():
        assert torch.equal(fresh[name], values), name


@pytest.mark.parametrize(("size", "sharding"), SPREAD)
def test_parts_of_a_batch_train_what_the_whole_trains(folder: Path, size: int, sharding: str) -> None:
    alone, fresh = saved(folder / "1 trained"), table(World()).state_dict()
    spread = saved(folder / f"{size} {sharding} trained")
    for name, values in alone.items():
        assert not torch.equal(values, fresh[name]), name
        torch.testing.assert_close(spread[name], values, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("size", "sharding"), SPREAD)
def test_every_rank_reads_whole_vectors(folder: Path, size: int, sharding: str) -> None:
    fresh, trained = table(World()), table(World())
    trained.load_state_dict(saved(folder / "1 trained"))
    for rank in range(size):
        found = torch.load(folder / f"{size} {sharding} read by {rank}.pt", weights_only=True)
        torch.testing.assert_close(found["all"], fresh.read(0, ROWS), rtol=0, atol=1e-6)
        assert torch.equal(found["some"], found["all"][BLOCK - 2 : BLOCK + 3])
        torch.testing.assert_close(found["trained"], trained.read(0, ROWS), rtol=1e-6, atol=2e-6)


def test_a_checkpoint_has_the_same_bits_in_every_other_world(folder: Path) -> None:
    passed = sorted(folder.glob("* through *"))
    assert len(passed) == 3 + 3 + 3 * 3  # from 1 into 2 and 3, from 2 into 3; test_parts_… reads them all into 1
    for path in passed:
        first, again = saved(folder / path.name.split(" through ")[0]), saved(path)
        assert first.keys() == again.keys()
        for name, values in first.items():
            assert torch.equal(again[name], values), (path.name, name)


@pytest.mark.parametrize("sharding", ["table_wise", "row_wise"])
def test_a_training_killed_at_two_ranks_resumes_at_one_two_and_three(folder: Path, sharding: str) -> None:
    two, three = (torch.load(folder / f"{size} {sharding} fitted.pt", weights_only=True) for size in (2, 3))
    expected = Model(World()).fit(folder / "never")
    one = Model(World()).fit(folder / f"alone {sharding}")
    for name, values in expected.items():
        assert torch.equal(two["again"][name], two["whole"][name]), name
        for other in (one, two["whole"], three["whole"], three["again"]):
            torch.testing.assert_close(other[name], values, rtol=1e-6, atol=5e-6, msg=name)
