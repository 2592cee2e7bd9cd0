"""TorchRec's embedding collections with row-wise Adagrad in the backward pass: in one process, or sharded over several.

Both take a KeyedJaggedTensor and give a KeyedTensor, and hold the same weights and optimizer state.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from torch.distributed._shard.sharded_tensor import init_from_local_shards
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed._shard.sharded_tensor.shard import Shard
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import ParameterConstraints
from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise, table_wise
from torchrec.distributed.types import ModuleShardingPlan, ShardingEnv, ShardingType
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection
from torchrec.optim import RowWiseAdagrad

from recdistill.teachers.config import Sharding
from recdistill.world import World

# What TorchRec and torch say of each other's interfaces, at every table and step, no user can make anything of.
for message in ("Please use DTensor instead", r"`torch\.distributed\.\w+` is deprecated"):
    warnings.filterwarnings("ignore", message, FutureWarning)
logging.getLogger("torchrec.distributed.planner").setLevel(logging.ERROR)
# TorchRec's first lookup makes torch warn of a change to come in torch.fx.
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)

_KERNEL = EmbeddingComputeKernel.FUSED.value


def fused(tables: Sequence[EmbeddingBagConfig], *, learning_rate: float, eps: float) -> Any:
    """The collection of one process."""
    return FusedEmbeddingBagCollection(
        tables=list(tables),
        optimizer_type=RowWiseAdagrad,
        optimizer_kwargs={"lr": learning_rate, "eps": eps},
    )


def sharded(
    tables: Sequence[EmbeddingBagConfig], *, learning_rate: float, eps: float, world: World, sharding: Sharding
) -> Any:
    """The collection spread over the ranks of ``world``; no rank allocates more than its shards."""
    whole = EmbeddingBagCollection(tables=list(tables), device=torch.device("meta"))
    sharder = EmbeddingBagCollectionSharder(
        fused_params={"optimizer": EmbOptimType.EXACT_ROWWISE_ADAGRAD, "learning_rate": learning_rate, "eps": eps}
    )
    group = dist.group.WORLD
    plan = (
        _planned(whole, sharder, world)
        if sharding == "planned"
        else construct_module_sharding_plan(
            whole,
            {
                table.name: row_wise(compute_kernel=_KERNEL)
                if sharding == "row_wise" and _reaches_all(table.num_embeddings, world)
                else table_wise(rank=rank, compute_kernel=_KERNEL)
                for table, rank in zip(tables, _whole_tables(tables, world), strict=True)
            },
            sharder=sharder,
            local_size=world.size,
            world_size=world.size,
            device_type="cpu",
        )
    )
    return sharder.shard(whole, plan, ShardingEnv.from_process_group(group), torch.device("cpu"))


def weights_and_accumulators(bags: Any, *, world: World) -> dict[str, tuple[Any, Any]]:
    """Each table's weight [R, d] and accumulator [R], live: plain tensors, or ShardedTensors in several processes.

    TorchRec's own sharded accumulators are missing on ranks without a part of the table, so they are made here.
    """
    optimizer = bags.fused_optimizer() if world.size == 1 else bags.fused_optimizer
    # The two collections name a table's optimizer state differently, but both begin with the table's name.
    accumulators = {
        name.split(".")[0]: state for of in optimizer.state_dict()["state"].values() for name, state in of.items()
    }
    weights = {name.split(".")[1]: weight for name, weight in bags.state_dict().items()}
    if world.size == 1:
        return {name: (weight, accumulators[name]) for name, weight in weights.items()}
    return {name: (weight, _spread(accumulators.get(name), weight, world)) for name, weight in weights.items()}


def _spread(accumulator: ShardedTensor | None, weight: ShardedTensor, world: World) -> ShardedTensor:
    """The accumulators [R] of a table, spread like its rows; None where this rank has no row."""
    shards = [] if accumulator is None else accumulator.local_shards()
    return init_from_local_shards(
        [Shard.from_tensor_and_offsets(each.tensor, each.metadata.shard_offsets, world.rank) for each in shards],
        weight.size()[0],
    )


def _reaches_all(rows: int, world: World) -> bool:
    """Whether row-wise sharding, in parts of ceil(rows / size), leaves every rank a row: FBGEMM fails on none."""
    return -(-rows // world.size) * (world.size - 1) < rows


def _whole_tables(tables: Sequence[EmbeddingBagConfig], world: World) -> list[int]:
    """A rank for each table: the largest first, each to the rank with the fewest rows so far."""
    load, ranks = [0] * world.size, [0] * len(tables)
    for number in sorted(range(len(tables)), key=lambda number: -tables[number].num_embeddings):
        ranks[number] = load.index(min(load))
        load[ranks[number]] += tables[number].num_embeddings
    return ranks


def _planned(whole: EmbeddingBagCollection, sharder: EmbeddingBagCollectionSharder, world: World) -> ModuleShardingPlan:
    """TorchRec's planner, kept to whole tables: on a CPU it refuses row-wise, and column-wise gives other numbers."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    planner = EmbeddingShardingPlanner(
        topology=Topology(
            world_size=world.size, local_world_size=world.size, compute_device="cpu", ddr_cap=memory // world.size
        ),
        # Its own guess at the memory of everything else does not know tables that are not allocated yet.
        storage_reservation=FixedPercentageStorageReservation(percentage=0.15),
        constraints={
            table.name: ParameterConstraints(sharding_types=[ShardingType.TABLE_WISE.value], compute_kernels=[_KERNEL])
            for table in whole.embedding_bag_configs()
        },
    )
    plan = planner.collective_plan(whole, [sharder], dist.group.WORLD).get_plan_for_module("")
    if plan is None:
        raise ValueError("TorchRec's planner made no plan for the tables")
    return plan
