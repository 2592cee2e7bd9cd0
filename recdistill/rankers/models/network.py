"""What the networks share: their tables, their training, their scores.

Shapes: n rows, B batch, D table width, c dense features, F sparse features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchrec import EmbeddingBagConfig, PoolingType
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection

from recdistill.rankers.config import NetworkConfig
from recdistill.rankers.counts import Standardiser
from recdistill.rankers.inputs import How, Inputs, Scored, SparseFeature, Task
from recdistill.training import Fitted, Stateful, fit, step_generator

_SCORE_BATCH = 8192


class Network(nn.Module):
    """Logit of a positive for each of a batch's rows.

    Its tables are fused bag collections that apply row-wise sparse Adagrad in their backward pass, so a step costs no
    time or memory for ids outside its batch; all other parameters are ``layers``.
    """

    def forward(self, inputs: Inputs) -> Tensor:
        """[B] logits."""
        raise NotImplementedError

    def tables(self) -> dict[str, FusedEmbeddingBagCollection]:
        """The collections by their module names; they step themselves."""
        return {name: part for name, part in self.named_modules() if isinstance(part, FusedEmbeddingBagCollection)}

    def layers(self) -> list[nn.Parameter]:
        """Parameters outside the tables."""
        stepped = {id(weight) for table in self.tables().values() for weight in table.parameters()}
        return [weight for weight in self.parameters() if id(weight) not in stepped]


BuildNetwork = Callable[[Sequence[SparseFeature], int], Network]


def fused_tables(features: Iterable[SparseFeature], *, width: int, learning_rate: float) -> FusedEmbeddingBagCollection:
    """One table a feature, D wide, each bag pooled by its mean; empty bags are zero."""
    bags = FusedEmbeddingBagCollection(
        tables=[
            EmbeddingBagConfig(
                name=feature.name,
                embedding_dim=width,
                num_embeddings=feature.size,
                feature_names=[feature.name],
                pooling=PoolingType.MEAN,
            )
            for feature in features
        ],
        optimizer_type=torch.optim.Adagrad,
        optimizer_kwargs={"lr": learning_rate, "eps": 1e-8},
        device=torch.device("cpu"),
    )
    with torch.no_grad():
        for weight in bags.parameters():
            weight.normal_(std=0.01)  # an id that training never met adds next to nothing
    return bags


def train_network(config: NetworkConfig, build: BuildNetwork, task: Task, how: How) -> Scored:
    """Train by log loss; keep the epoch that scores best on the newest rows.

    Args:
        build: the network of F features and c dense columns, from the seeded generator.
    """
    task = standardised(task)
    network, fitted = fit_network(config, build, task, how)
    newest = task.train.take(torch.from_numpy(task.newest))
    return Scored(score(network, newest), score(network, task.test), fitted.best_step)


def standardised(task: Task) -> Task:
    """The task with dense columns as networks like them, by the scale of its training rows."""
    scale = Standardiser(task.train.dense.numpy(), blocks=task.blocks)
    train, test = (
        replace(inputs, dense=torch.from_numpy(scale(inputs.dense.numpy()))) for inputs in (task.train, task.test)
    )
    return replace(task, train=train, test=test)


def fit_network(config: NetworkConfig, build: BuildNetwork, task: Task, how: How) -> tuple[Network, Fitted]:
    """The network at its best epoch, and how training went (scores are minus log loss on the newest rows)."""
    train, newest = torch.from_numpy(task.older), task.train.take(torch.from_numpy(task.newest))
    target = torch.from_numpy(task.label.astype(np.float32))
    newest_target = target[torch.from_numpy(task.newest)].double()
    torch.manual_seed(how.seed)
    network = build(task.features, task.train.dense.shape[1])
    optimizer = torch.optim.AdamW(network.layers(), lr=config.learning_rate, weight_decay=config.weight_decay)
    tables: dict[str, Stateful] = {
        f"tables {name}": table.fused_optimizer() for name, table in network.tables().items()
    }
    per_epoch = -(-len(train) // config.batch_size)

    @lru_cache(maxsize=1)
    def order(epoch: int) -> Tensor:
        return torch.randperm(len(train), generator=step_generator(how.seed, epoch))

    def step(number: int) -> dict[str, float]:
        epoch, at = divmod(number, per_epoch)
        rows = train[order(epoch)[at * config.batch_size : (at + 1) * config.batch_size]]
        network.train()
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(network(task.train.take(rows)), target[rows])
        loss.backward()
        optimizer.step()
        return {"loss": loss.item()}

    def validate() -> float:
        return -binary_cross_entropy_with_logits(torch.from_numpy(score(network, newest)), newest_target).item()

    fitted = fit(
        step,
        steps=config.epochs * per_epoch,
        seed=how.seed,
        checkpoint=how.checkpoint,
        key=how.key,
        description=how.description,
        log=how.log,
        validate=validate,
        validate_every=per_epoch,
        patience=config.patience,
        state={"ranker": network, "optimizer": optimizer, **tables},
    )
    return network, fitted


@torch.no_grad()  # fbgemm has no CPU kernels for inference mode
def score(network: Network, inputs: Inputs) -> np.ndarray:
    """[n] float64 logits, in batches."""
    network.eval()
    parts = torch.arange(len(inputs)).split(_SCORE_BATCH)
    return torch.cat([network(inputs.take(rows)) for rows in parts]).double().numpy()
