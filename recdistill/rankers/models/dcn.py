"""DCN-v2 from TorchRec's parts (Wang et al., arXiv 2008.13535, its stacked form with low-rank matrices)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchrec.models.dlrm import DenseArch, InteractionDCNArch, OverArch, SparseArch
from torchrec.modules.crossnet import LowRankCrossNet

from recdistill.rankers.config import DcnConfig
from recdistill.rankers.inputs import How, Inputs, Scored, SparseFeature, Task, gather_bags
from recdistill.rankers.models.network import Network, fused_tables, train_network


class Dcn(Network):
    """Dense branch and bags side by side, crossed layer by layer with themselves, and layers above.

    Args:
        features: F sparse features.
        dense: c, number of dense features.
    """

    def __init__(self, features: Sequence[SparseFeature], dense: int, config: DcnConfig) -> None:
        super().__init__()
        self.features = tuple(features)
        crossed = config.width * (len(self.features) + 1)
        self.sparse_arch = SparseArch(
            fused_tables(features, width=config.width, learning_rate=config.embedding_learning_rate)
        )
        self.dense_arch = DenseArch(dense, [*config.dense_layers, config.width])
        crossnet = LowRankCrossNet(crossed, num_layers=config.cross_layers, low_rank=config.cross_rank)
        self.interaction = InteractionDCNArch(len(self.features), crossnet)
        self.over = OverArch(crossed, [*config.over_layers, 1])

    def forward(self, inputs: Inputs) -> Tensor:
        sparse = self.sparse_arch(gather_bags(self.features, inputs.bags))
        return self.over(self.interaction(self.dense_arch(inputs.dense), sparse)).squeeze(1)


def train_dcn(config: DcnConfig, task: Task, how: How) -> Scored:
    """Train and score."""
    return train_network(config, lambda features, dense: Dcn(features, dense, config), task, how)
