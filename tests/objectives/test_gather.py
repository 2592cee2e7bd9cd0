"""Two real ranks with gathered candidates, plain and cached: value and gradient of the whole batch in one process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ranks import launch
from torch import Tensor, nn

from recdistill.objectives.cached import encode_cached
from recdistill.objectives.cosent import cosent
from recdistill.objectives.gather import gather
from recdistill.objectives.infonce import infonce
from recdistill.objectives.late_fusion import LateFusionGate, late_fusion
from recdistill.objectives.micl import micl
from recdistill.world import World

SIZE, VIEWS, WIDTH = 2, 3, 4


class Model(nn.Module):
    """An encoder with dropout, and what losses learn besides."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, WIDTH))
        self.gate = LateFusionGate(WIDTH)
        self.temperature = nn.Parameter(torch.tensor(0.3))

    def encode(self, chunk: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        query, target, query_valid, target_valid, score = chunk
        return self.net(query), self.net(target), query_valid, target_valid, score

    def whole(self, query: Tensor, target: Tensor, query_valid: Tensor, target_valid: Tensor, score: Tensor) -> Tensor:
        """Every objective of content-aware training on [B, S, …] views, the last of which is the fused one."""
        tau = self.temperature
        own = torch.arange(len(query))
        views = [part.transpose(0, 1) for part in (query, target, query_valid, target_valid)]
        vision = (query[:, 0], query[:, -1]), (target[:, 0], target[:, -1]), query_valid[:, 0], target_valid[:, 0]
        return (
            infonce(query[:, -1], target[:, -1], own, temperature=tau)
            + micl(*views, temperature=tau)
            + late_fusion(*vision, gate=self.gate, temperature=tau)
            + cosent(query[:, -1], target[:, -1], score, temperature=tau)
        )


def batch(rows: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(rows)
    query, target = torch.randn(2, rows, VIEWS, 5, generator=generator)
    query_valid, target_valid = torch.rand(2, rows, VIEWS, generator=generator) < 0.7
    return [query, target, query_valid, target_valid, torch.randint(3, (rows,), generator=generator).float()]


def learned(model: Model, loss: Tensor, world: World) -> dict[str, list]:
    """The mean over the ranks of a loss and of its gradients: what DistributedDataParallel steps with."""
    model.zero_grad()
    loss.backward()
    values = [
        loss.detach().clone(),
        *(parameter.grad for parameter in model.parameters() if parameter.grad is not None),
    ]
    world.average_(values)
    return {"own": loss.item(), "values": [value.flatten().tolist() for value in values]}


def everything_gathered(world: World, rows: int) -> dict[str, list]:
    model = Model()
    part = [tensor[world.share(rows)] for tensor in batch(rows)]
    return learned(model, model.whole(*(gather(each, world=world) for each in model.encode(tuple(part)))), world)


def own_queries(world: World, rows: int) -> dict[str, list]:
    """Each rank asks its own queries, among everyone's candidates."""
    model = Model()
    query, target, *_ = model.encode(tuple(tensor[world.share(rows)] for tensor in batch(rows)))
    place = torch.arange(rows)[world.share(rows)]
    candidates = gather(target[:, -1], world=world)
    return learned(model, infonce(query[:, -1], candidates, place, temperature=model.temperature), world)


def cached(world: World, rows: int, *, cache: bool, dropout: float) -> dict[str, list]:
    """As ``everything_gathered``, in chunks of uneven sizes, with or without cached gradients."""
    model = Model(dropout)
    torch.manual_seed(world.rank)
    part = [tensor[world.share(rows)].split([1, 2, 1][: 2 + world.rank]) for tensor in batch(rows)]
    chunks = list(zip(*part, strict=True))
    if cache:
        encoded = encode_cached(model.encode, chunks)
    else:
        encoded = tuple(torch.cat(each) for each in zip(*map(model.encode, chunks), strict=True))
    return learned(model, model.whole(*(gather(each, world=world) for each in encoded)), world)


def work(world: World, folder: Path) -> None:
    found = {
        "uneven": everything_gathered(world, 7),
        "own queries": own_queries(world, 6),
        "cached": cached(world, 7, cache=True, dropout=0.0),
        "cached, dropout": cached(world, 7, cache=True, dropout=0.5),
        "plain, dropout": cached(world, 7, cache=False, dropout=0.5),
        "empty": gather(torch.full((2 * world.rank, 2), True), world=world).tolist(),
    }
    world.barrier()
    (folder / f"{world.rank}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("gather")
    launch(work, SIZE, folder)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(SIZE)]


def assert_equal(each: dict, expected: dict) -> None:
    for one, other in zip(each["values"], expected["values"], strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)


def test_gathered_is_the_whole_batch(found):
    alone = everything_gathered(World(), 7)
    for each in found:
        assert_equal(each["uneven"], alone)
        assert each["uneven"]["own"] == pytest.approx(alone["own"])  # on every rank, not in the mean only


def test_own_queries_among_gathered_candidates_are_the_whole_batch_in_the_mean(found):
    alone = own_queries(World(), 6)
    for each in found:
        assert_equal(each["own queries"], alone)
    assert found[0]["own queries"]["own"] != pytest.approx(found[1]["own queries"]["own"])


def test_cached_over_ranks_is_the_whole_batch(found):
    for each in found:
        assert_equal(each["cached"], everything_gathered(World(), 7))
        assert_equal(each["cached, dropout"], each["plain, dropout"])
    assert found[0]["cached, dropout"]["own"] != pytest.approx(found[0]["cached"]["own"])


def test_ranks_without_rows_take_part(found):
    assert [each["empty"] for each in found] == [[[True, True]] * 2] * SIZE


def test_alone_it_is_the_tensor_itself():
    rows = torch.ones(2, 3)
    assert gather(rows, world=World()) is rows
