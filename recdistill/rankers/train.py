"""Training one ranker and scoring rows with it.

Shapes: n rows, c dense features, F sparse features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.rankers.config import DlrmConfig
from recdistill.rankers.model import Ranker, SparseFeature, gather_bags
from recdistill.training import Fitted, LogFn, fit, step_generator

_SCORE_BATCH = 8192


@dataclass(frozen=True)
class Inputs:
    """What a ranker reads of some rows.

    Attributes:
        dense: [n, c] float32, standardised.
        bags: F tensors [n] int64: which bag of each sparse feature a row looks up.
    """

    dense: Tensor
    bags: tuple[Tensor, ...]

    def take(self, rows: Tensor) -> Inputs:
        return Inputs(self.dense[rows], tuple(bags[rows] for bags in self.bags))


def train_ranker(
    config: DlrmConfig,
    features: Sequence[SparseFeature],
    inputs: Inputs,
    *,
    label: np.ndarray,
    time: np.ndarray,
    checkpoint: Path,
    key: str,
    description: str,
    seed: int,
    log: LogFn,
) -> tuple[Ranker, Fitted]:
    """Train on the older rows by log loss; keep the epoch that scores best on the newest ones.

    Args:
        label: [n] bool.
        time: [n] int64, by which the newest share is set aside (whole moments: equal times stay together).

    Returns:
        The ranker at its best epoch, and how training went (scores are minus log loss on the newest rows).
    """
    cut = np.quantile(time, 1 - config.validation, method="lower")
    older = time < cut
    if not older.any():  # one moment only: nothing is newer than anything
        older = np.arange(len(time)) < (1 - config.validation) * len(time)
    train, newest = (torch.from_numpy(np.flatnonzero(rows)) for rows in (older, ~older))
    target = torch.from_numpy(label.astype(np.float32))
    torch.manual_seed(seed)
    ranker = Ranker(
        sizes={feature.name: feature.size for feature in features},
        dense=inputs.dense.shape[1],
        width=config.width,
        dense_layers=config.dense_layers,
        over_layers=config.over_layers,
        embedding_learning_rate=config.embedding_learning_rate,
    )
    optimizer = torch.optim.AdamW(ranker.layers(), lr=config.learning_rate, weight_decay=config.weight_decay)
    per_epoch = -(-len(train) // config.batch_size)

    @lru_cache(maxsize=1)
    def order(epoch: int) -> Tensor:
        return torch.randperm(len(train), generator=step_generator(seed, epoch))

    def step(number: int) -> dict[str, float]:
        epoch, at = divmod(number, per_epoch)
        rows = train[order(epoch)[at * config.batch_size : (at + 1) * config.batch_size]]
        part = inputs.take(rows)
        ranker.train()
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(ranker(part.dense, gather_bags(features, part.bags)), target[rows])
        loss.backward()
        optimizer.step()
        return {"loss": loss.item()}

    def validate() -> float:
        logits = torch.from_numpy(score(ranker, features, inputs.take(newest)))
        return -binary_cross_entropy_with_logits(logits, target[newest].double()).item()

    fitted = fit(
        step,
        steps=config.epochs * per_epoch,
        seed=seed,
        checkpoint=checkpoint,
        key=key,
        description=description,
        log=log,
        validate=validate,
        validate_every=per_epoch,
        patience=config.patience,
        state={"ranker": ranker, "optimizer": optimizer, "tables": ranker.tables.fused_optimizer()},
    )
    return ranker, fitted


@torch.no_grad()  # fbgemm has no CPU kernels for inference mode
def score(ranker: Ranker, features: Sequence[SparseFeature], inputs: Inputs) -> np.ndarray:
    """[n] float64 logits, in batches."""
    ranker.eval()
    parts = [inputs.take(rows) for rows in torch.arange(len(inputs.dense)).split(_SCORE_BATCH)]
    logits = [ranker(part.dense, gather_bags(features, part.bags)) for part in parts]
    return torch.cat(logits).double().numpy()
