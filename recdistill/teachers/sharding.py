"""TorchRec's embedding collections with row-wise Adagrad in the backward pass: in one process, or sharded over several.

Both take a KeyedJaggedTensor and give a KeyedTensor, and keep weights and optimizer state under the same names.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.types import ParameterConstraints
from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise, table_wise
from torchrec.distributed.types import ModuleShardingPlan, ShardingEnv, ShardingType
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection
from torchrec.optim import RowWiseAdagrad

from recdistill.world import World

Sharding = Literal["table_wise", "row_wise", "planned"]
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
                if sharding == "row_wise"
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


def _whole_tables(tables: Sequence[EmbeddingBagConfig], world: World) -> list[int]:
    """A rank for each table: the largest first, each to the rank with the fewest rows so far."""
    load, ranks = [0] * world.size, [0] * len(tables)
    for number in sorted(range(len(tables)), key=lambda number: -tables[number].num_embeddings):
        ranks[number] = load.index(min(load))
        load[ranks[number]] += tables[number].num_embeddings
    return ranks


def _planned(whole: EmbeddingBagCollection, sharder: EmbeddingBagCollectionSharder, world: World) -> ModuleShardingPlan:
    """TorchRec's planner, kept to the shardings that equal one process (column-wise does not, on a CPU)."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    planner = EmbeddingShardingPlanner(
        topology=Topology(
            world_size=world.size, local_world_size=world.size, compute_device="cpu", ddr_cap=memory // world.size
        ),
        constraints={
            table.name: ParameterConstraints(
                sharding_types=[ShardingType.TABLE_WISE.value, ShardingType.ROW_WISE.value],
                compute_kernels=[_KERNEL],
            )
            for table in whole.embedding_bag_configs()
        },
    )
    plan = planner.collective_plan(whole, [sharder], dist.group.WORLD).get_plan_for_module("")
    if plan is None:
        raise ValueError("TorchRec's planner made no plan for the tables")
    return plan
