"""An embedding table by id on TorchRec's fused path: the optimizer runs inside the backward pass.

On a CPU this is the fast way for sequences as well, one id a bag, where the un-pooled collections are several
times slower. Gradients of repeated ids are summed before the one update a row gets.

Shapes: R rows, d width, n ids, B bags.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor
from torchrec import EmbeddingBagConfig, KeyedJaggedTensor, PoolingType
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection
from torchrec.optim import RowWiseAdagrad

_KEY = "id"
# FBGEMM's CPU kernels read rows as vectors of four floats.
WIDTH_MULTIPLE = 4
# TorchRec's first lookup makes torch warn of a change to come in torch.fx, of which no user can make anything.
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)


class IdTable:
    """R vectors with row-wise Adagrad (one accumulator a row).

    A lookup's backward pass updates the table: there is no optimizer step to call, and one lookup a training
    step gives one update a row. Weight decay belongs into the loss: FBGEMM's own does nothing on a CPU.
    Memory: 4·R·(d + 1) bytes.

    Args:
        rows: R.
        dim: d, a multiple of 4.
        seed: of the initial values, which depend on nothing else.
        scale: standard deviation of the initial values.
        learning_rate: of row-wise Adagrad.
    """

    def __init__(
        self, rows: int, *, dim: int, seed: int, scale: float, learning_rate: float, eps: float = 1e-8
    ) -> None:
        if dim % WIDTH_MULTIPLE:
            raise ValueError(f"dim must be a multiple of {WIDTH_MULTIPLE}, not {dim}")
        table = EmbeddingBagConfig(
            name=_KEY, embedding_dim=dim, num_embeddings=rows, feature_names=[_KEY], pooling=PoolingType.SUM
        )
        self._bags = FusedEmbeddingBagCollection(
            tables=[table],
            optimizer_type=RowWiseAdagrad,
            optimizer_kwargs={"lr": learning_rate, "eps": eps},
        )
        self._weight = next(iter(self._bags.state_dict().values())).detach()
        state = self._bags.fused_optimizer().state_dict()["state"]
        self._accumulator: Tensor = next(iter(next(iter(state.values())).values()))
        self._weight.normal_(0.0, scale, generator=torch.Generator().manual_seed(seed))

    @property
    def weight(self) -> Tensor:
        """[R, d] the live values, outside autograd."""
        return self._weight

    def lookup(self, ids: Tensor) -> Tensor:
        """[n] row numbers → [n, d]."""
        return self.pool(ids, torch.ones_like(ids))

    def pool(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Sum each bag's vectors.

        Args:
            ids: [n] row numbers, bag after bag.
            lengths: [B] ids in each bag; an empty bag gives zeros.

        Returns:
            [B, d]
        """
        features = KeyedJaggedTensor(keys=[_KEY], values=ids, lengths=lengths)
        return self._bags(features).values()

    def state_dict(self) -> dict[str, Any]:
        """Values and optimizer state as plain tensors (live, not copies)."""
        return {"weight": self._weight, "accumulator": self._accumulator}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Copy a state into the table."""
        self._weight.copy_(state_dict["weight"])
        self._accumulator.copy_(state_dict["accumulator"])
