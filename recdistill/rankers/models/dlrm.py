"""A DLRM from TorchRec's parts (Naumov et al., arXiv 1906.00091)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchrec.models.dlrm import DenseArch, InteractionArch, OverArch, SparseArch

from recdistill.rankers.config import DlrmConfig
from recdistill.rankers.inputs import How, Inputs, Scored, SparseFeature, Task, gather_bags
from recdistill.rankers.models.network import Network, fused_tables, train_network


class Dlrm(Network):
    """Dense branch and bags, the products of all pairs of them, and layers above.

    Args:
        features: F sparse features.
        dense: c, number of dense features.
    """

    def __init__(self, features: Sequence[SparseFeature], dense: int, config: DlrmConfig) -> None:
        super().__init__()
        self.features = tuple(features)
        width, count = config.width, len(self.features)
        self.sparse_arch = SparseArch(fused_tables(features, width=width, learning_rate=config.embedding_learning_rate))
        self.dense_arch = DenseArch(dense, [*config.dense_layers, width])
        self.interaction = InteractionArch(count)
        self.over = OverArch(width + count * (count + 1) // 2, [*config.over_layers, 1])

    def forward(self, inputs: Inputs) -> Tensor:
        sparse = self.sparse_arch(gather_bags(self.features, inputs.bags))
        return self.over(self.interaction(self.dense_arch(inputs.dense), sparse)).squeeze(1)


def train_dlrm(config: DlrmConfig, task: Task, how: How) -> Scored:
    """Train and score."""
    return train_network(config, lambda features, dense: Dlrm(features, dense, config), task, how)
