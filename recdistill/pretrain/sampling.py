"""The chances of a phase's datasets to be a step's (SAIL-Embedding 3.1.3, adaptive balancing; or simpler)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from recdistill.errors import UserError
from recdistill.pretrain.balancing import balance
from recdistill.pretrain.config import BalancingConfig
from recdistill.pretrain.datasets import PairDataset
from recdistill.pretrain.encoder import RowEncoder, Snapshot
from recdistill.pretrain.trainee import Trainee


def dataset_weights(
    how: Literal["uniform", "size", "adaptive"],
    config: BalancingConfig,
    datasets: Sequence[PairDataset],
    *,
    benchmarks: Sequence[PairDataset],
    trainee: Trainee,
    encoder: RowEncoder,
    seed: int,
) -> list[float]:
    """One chance a dataset, adding up to 1.

    Args:
        benchmarks: datasets whose held-out pairs are what is asked.
        trainee: gives the embeddings that are compared.

    Raises:
        UserError: there are no held-out pairs to compare with.
    """
    if how == "uniform":
        return [1 / len(datasets)] * len(datasets)
    if how == "size":
        total = sum(len(dataset) for dataset in datasets)
        return [len(dataset) / total for dataset in datasets]

    def drawn(dataset: PairDataset, query: Tensor, target: Tensor) -> list[tuple[str, int, Tensor]]:
        some = torch.randperm(len(query), generator=torch.Generator().manual_seed(seed))[: config.samples]
        return [(dataset.name, side, rows[some]) for side, rows in enumerate((query, target))]

    trained = {one.name: drawn(one, one.query, one.target) for one in datasets}
    asked = {one.name: drawn(one, one.held_query, one.held_target) for one in benchmarks if len(one.held_query)}
    if not asked:
        raise UserError(
            "adaptive sampling compares with held-out pairs, of which there are none",
            remedy="raise pretrain.held_out, or set the phase's sampling to uniform",
        )
    now = Snapshot(trainee, encoder, itertools.chain.from_iterable([*trained.values(), *asked.values()]))

    def embedded(samples: Mapping[str, Sequence[tuple[str, int, Tensor]]]) -> dict[str, np.ndarray]:
        return {name: torch.cat([now.vectors(*of) for of in sides]).numpy() for name, sides in samples.items()}

    weights = balance(
        embedded(trained),
        embedded(asked),
        clusters=config.centroids,
        regularisation=config.regularisation,
        temperature=config.temperature,
        seed=seed,
    )
    return [weights[dataset.name] for dataset in datasets]
