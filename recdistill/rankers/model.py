"""A DLRM from TorchRec's parts (Naumov et al., arXiv 1906.00091).

Shapes: B batch, D table width, F sparse features, c dense features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchrec import EmbeddingBagConfig, KeyedJaggedTensor, PoolingType
from torchrec.models.dlrm import DenseArch, InteractionArch, OverArch, SparseArch
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection


@dataclass(frozen=True)
class SparseFeature:
    """One table and the bags that are looked up in it.

    Attributes:
        name: of the feature and its table.
        size: vectors in the table.
        offsets: [K + 1] int64; bag k holds ``values[offsets[k]:offsets[k + 1]]``.
        values: int64 ids below ``size``.
    """

    name: str
    size: int
    offsets: Tensor
    values: Tensor

    @classmethod
    def single(cls, name: str, ids: Tensor, *, size: int) -> SparseFeature:
        """Bags of one id each, empty where the id is negative."""
        present = ids >= 0
        offsets = torch.zeros(len(ids) + 1, dtype=torch.int64)
        offsets[1:] = present.cumsum(0)
        return cls(name, size, offsets, ids[present])


def gather_bags(features: Sequence[SparseFeature], bags: Sequence[Tensor]) -> KeyedJaggedTensor:
    """The KJT of a batch.

    Args:
        features: F features.
        bags: for each feature, [B] int64: which bag each row looks up.
    """
    values, lengths = [], []
    for feature, index in zip(features, bags, strict=True):
        begin = feature.offsets[index]
        length = feature.offsets[index + 1] - begin
        total = int(length.sum())
        within = torch.arange(total) - torch.repeat_interleave(length.cumsum(0) - length, length)
        values.append(feature.values[torch.repeat_interleave(begin, length) + within])
        lengths.append(length)
    return KeyedJaggedTensor(keys=[f.name for f in features], values=torch.cat(values), lengths=torch.cat(lengths))


class Ranker(nn.Module):
    """Logit of a positive from dense features and bags of ids.

    The tables are one fused bag collection that applies row-wise sparse Adagrad in its backward pass, so a step costs
    no time or memory for ids outside its batch.

    Args:
        sizes: table size of each sparse feature, by name.
        dense: c, number of dense features.
        width: D.
    """

    def __init__(
        self,
        *,
        sizes: dict[str, int],
        dense: int,
        width: int,
        dense_layers: Sequence[int],
        over_layers: Sequence[int],
        embedding_learning_rate: float,
    ) -> None:
        super().__init__()
        tables = [
            EmbeddingBagConfig(
                name=name, embedding_dim=width, num_embeddings=size, feature_names=[name], pooling=PoolingType.MEAN
            )
            for name, size in sizes.items()
        ]
        bags = FusedEmbeddingBagCollection(
            tables=tables,
            optimizer_type=torch.optim.Adagrad,
            optimizer_kwargs={"lr": embedding_learning_rate, "eps": 1e-8},
            device=torch.device("cpu"),
        )
        with torch.no_grad():
            for weight in bags.parameters():
                weight.normal_(std=0.01)  # an id that training never met adds next to nothing
        self.sparse_arch = SparseArch(bags)
        self.dense_arch = DenseArch(dense, [*dense_layers, width])
        self.interaction = InteractionArch(len(sizes))
        crossed = width + len(sizes) * (len(sizes) + 1) // 2
        self.over = OverArch(crossed, [*over_layers, 1])

    def forward(self, dense: Tensor, sparse: KeyedJaggedTensor) -> Tensor:
        """[B] logits of dense [B, c] and F · B bags."""
        return self.over(self.interaction(self.dense_arch(dense), self.sparse_arch(sparse))).squeeze(1)

    @property
    def tables(self) -> FusedEmbeddingBagCollection:
        return self.sparse_arch.embedding_bag_collection

    def layers(self) -> list[nn.Parameter]:
        """Parameters outside the tables; the tables step themselves."""
        return [*self.dense_arch.parameters(), *self.over.parameters()]
