"""The chances of a phase's datasets to be a step's (SAIL-Embedding 3.1.3, adaptive balancing; or simpler)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from recdistill.pretrain.balancing import balance
from recdistill.pretrain.config import BalancingConfig
from recdistill.pretrain.datasets import PairDataset
from recdistill.pretrain.encoder import RowEncoder
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
    """
    if how == "uniform":
        return [1 / len(datasets)] * len(datasets)
    if how == "size":
        total = sum(len(dataset) for dataset in datasets)
        return [len(dataset) / total for dataset in datasets]

    def sample(dataset: PairDataset, query: Tensor, target: Tensor) -> np.ndarray:
        drawn = torch.randperm(len(query), generator=torch.Generator().manual_seed(seed))[: config.samples]
        vectors = [
            encoder.unit_vectors(trainee, dataset.name, side, rows[drawn]) for side, rows in enumerate((query, target))
        ]
        return torch.cat(vectors).numpy()

    weights = balance(
        {one.name: sample(one, one.query, one.target) for one in datasets},
        {one.name: sample(one, one.held_query, one.held_target) for one in benchmarks if len(one.held_query)},
        clusters=config.centroids,
        regularisation=config.regularisation,
        temperature=config.temperature,
        seed=seed,
    )
    return [weights[dataset.name] for dataset in datasets]
