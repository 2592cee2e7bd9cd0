"""Processes that train together: what each of three gets, and that one alone needs no process group."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from ranks import launch

from recdistill.errors import Diverged, UserError
from recdistill.training import fit
from recdistill.world import World

SIZE = 3


@given(st.integers(0, 50), st.integers(1, 7))
def test_shares_are_contiguous_and_even(count: int, size: int) -> None:
    parts = [World(rank, size).share(count) for rank in range(size)]
    assert [row for part in parts for row in range(count)[part]] == list(range(count))
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths) - min(lengths) <= 1


def test_alone_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # a cluster's own affair, as long as torchrun names no rank
    with World.joined() as world:
        assert world == World() and world.leads and not dist.is_initialized()
        assert (world.agree({"a": 1}), world.first(lambda: 2.5), world.most(3)) == ({"a": 1}, 2.5, 3)
        gradient = torch.tensor([1.0, 2.0])
        world.average_([gradient])
        world.barrier()
        assert gradient.tolist() == [1, 2]


class Model:
    """One weight, whose gradient is the mean over the ranks of what each sees: the rank's own number."""

    def __init__(self, world: World) -> None:
        self.world, self.weight = world, torch.zeros(2)

    def step(self, step: int) -> dict[str, float]:
        gradient = torch.tensor([float(self.world.rank), float(step)])
        self.world.average_([gradient])
        self.weight += gradient
        return {"loss": float(self.world.rank + step)}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"weight": self.weight}

    def load_state_dict(self, state_dict: dict[str, torch.Tensor], /) -> None:
        self.weight.copy_(state_dict["weight"])


def work(world: World, folder: Path) -> None:
    rank = world.rank
    found: dict[str, object] = {
        "leads": world.leads,
        "agreed": world.agree({"where": ["größer", None, 1.5][rank], "rank": rank}),
        "nan": math.isnan(world.agree(math.nan if world.leads else 1.0)),
        "first": world.first(lambda: f"of rank {rank}"),
        "refused": refused(world),
        "most": world.most([4, 9, 2][rank]),
    }
    gradients = [torch.full((2, 2), float(rank)), torch.tensor(10.0 * rank)]
    world.average_(gradients)
    found["average"] = [gradient.tolist() for gradient in gradients]
    found.update(fitted(world, folder))
    world.barrier()
    (folder / f"{rank}.json").write_text(json.dumps(found))


def refused(world: World) -> str:
    """A user's mistake that the leader alone finds is everyone's."""

    def find() -> None:
        raise UserError("a mistake", remedy="mend it")

    with pytest.raises(UserError) as caught:
        world.first(find)
    return f"{caught.value.message}: {caught.value.remedy}"


def fitted(world: World, folder: Path) -> dict[str, object]:
    """Train where ranks would disagree if each decided for itself."""
    model, logged = Model(world), []
    # The leader's score falls from step 2 on, the others' rises: they stop with the leader.
    scores = iter([1.0, 3.0, 2.0, 2.0, 2.0] if world.leads else [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    result = fit(
        model.step, steps=6, seed=1, state={"model": model}, checkpoint=folder / "fit", key="k", description="three",
        log=lambda metrics, step: logged.append([dict(metrics), step]), validate=lambda: next(scores),
        validate_every=1, patience=2, checkpoint_seconds=0, log_every=1, world=world,
    )  # fmt: skip
    # One rank's loss is not finite: all of them stop, at the same step.
    try:
        fit(
            lambda step: {"loss": math.nan if step == 2 and world.rank == 1 else 0.0}, steps=5, seed=1, state={},
            checkpoint=folder / "diverging", key="k", description="three", log=lambda metrics, step: None, world=world,
        )  # fmt: skip
        diverged = ""
    except Diverged as error:
        diverged = error.message
    return {
        "steps": [result.steps, result.best_step, result.best_score],
        "weight": model.weight.tolist(),
        "logged": logged,
        "diverged": diverged,
        "left": (folder / "fit").exists(),
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    folder = tmp_path_factory.mktemp("world")
    launch(work, SIZE, folder)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(SIZE)]


def test_ranks_agree_add_up_and_average(found: list[dict[str, object]]) -> None:
    assert [each["leads"] for each in found] == [True, False, False]
    for each in found:
        assert each["agreed"] == {"where": "größer", "rank": 0}
        assert each["nan"]
        assert each["first"] == ("of rank 0" if each["leads"] else None)
        assert each["refused"] == "a mistake: mend it"
        assert each["most"] == 9
        assert each["average"] == [[[1.0, 1.0], [1.0, 1.0]], 10.0]


def test_a_training_decides_on_all_ranks_what_the_leader_decides(found: list[dict[str, object]]) -> None:
    for each in found:
        assert each["steps"] == [4, 2, 3.0]
        assert each["weight"] == [2.0, 1.0]  # the best state: two steps, of a mean rank of one
        assert not each["left"]
    losses = [entry for entry in found[0]["logged"] if "loss" in entry[0]]  # type: ignore[attr-defined]
    assert losses == [[{"loss": 1.0 + step}, step] for step in range(4)]  # the mean over the ranks
    assert [each["logged"] for each in found[1:]] == [[], []]


def test_one_ranks_divergence_stops_them_all(found: list[dict[str, object]]) -> None:
    assert [each["diverged"] for each in found] == ["three: loss is not finite at step 2 (seed 1)"] * SIZE
