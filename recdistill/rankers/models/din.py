"""DIN: the candidate attends to the user's history (Zhou et al., arXiv 1706.06978, section 4).

Shapes: B batch, H history items, I items, D table width, k width of item vectors, q = D + k.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchrec import KeyedJaggedTensor
from torchrec.models.dlrm import DenseArch, OverArch, SparseArch

from recdistill.rankers.config import DinConfig
from recdistill.rankers.counts import Standardiser
from recdistill.rankers.inputs import How, Inputs, Scored, SparseFeature, Task, gather_bags
from recdistill.rankers.models.network import Network, fused_tables, train_network


class ActivationUnit(nn.Module):
    """How much each history item speaks for the candidate; PReLU between its layers.

    As in the paper the weights are no softmax: a user with many items like the candidate is more interested than one
    with few. They are divided by H alone, which keeps the sum's scale apart from the settings'.
    """

    def __init__(self, width: int, layers: Sequence[int]) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        before = 4 * width
        for size in layers:
            parts += [nn.Linear(before, size), nn.PReLU()]
            before = size
        self.layers = nn.Sequential(*parts, nn.Linear(before, 1))

    def forward(self, candidate: Tensor, history: Tensor, present: Tensor) -> Tensor:
        """[B, q] interest.

        Args:
            candidate: [B, q].
            history: [B, H, q].
            present: [B, H] bool; whatever stands in the other places counts nothing.
        """
        asked = candidate.unsqueeze(1).expand_as(history)
        weight = self.layers(torch.cat([asked, history, asked - history, asked * history], dim=2)).squeeze(2)
        return (weight * present / present.shape[1]).unsqueeze(1).bmm(history).squeeze(1)


class Din(Network):
    """Dense branch, bags, candidate, interest and their product side by side, and layers above.

    An item is its row of a table by id, which candidate and history share, beside what the feature group knows of it.

    Args:
        features: F sparse features; that of the item is looked up for candidate and history, the others as bags.
        dense: c, number of dense features.
        vectors: [I, k] of the items.
    """

    def __init__(self, features: Sequence[SparseFeature], dense: int, vectors: Tensor, config: DinConfig) -> None:
        super().__init__()
        self.bag_at = [at for at, feature in enumerate(features) if feature.kind != "item"]
        self.bags = tuple(features[at] for at in self.bag_at)
        (self.item,) = (feature for feature in features if feature.kind == "item")
        self.register_buffer("vectors", vectors, persistent=False)
        width, rate = config.width, config.embedding_learning_rate
        self.sparse_arch = SparseArch(fused_tables(self.bags, width=width, learning_rate=rate))
        # One id a bag: on a CPU a bag collection answers sequences an order of magnitude faster than TorchRec's own.
        self.item_table = fused_tables([self.item], width=width, learning_rate=rate)
        self.dense_arch = DenseArch(dense, [*config.dense_layers, width])
        of_item = width + vectors.shape[1]
        self.attention = ActivationUnit(of_item, config.attention_layers)
        self.over = OverArch(width * (1 + len(self.bags)) + 3 * of_item, [*config.over_layers, 1])

    def forward(self, inputs: Inputs) -> Tensor:
        present = inputs.history >= 0
        items = torch.cat([inputs.item.unsqueeze(1), inputs.history.clamp(min=0)], dim=1)  # [B, 1 + H]
        asked = torch.cat([torch.ones_like(present[:, :1]), present], dim=1)
        found = self._items(items, asked)
        candidate, history = found[:, 0], found[:, 1:]
        interest = self.attention(candidate, history, present)
        bags = self.sparse_arch(gather_bags(self.bags, [inputs.bags[at] for at in self.bag_at]))  # [B, F - 1, D]
        beside = [self.dense_arch(inputs.dense), bags.flatten(1), candidate, interest, candidate * interest]
        return self.over(torch.cat(beside, dim=1)).squeeze(1)

    def _items(self, items: Tensor, asked: Tensor) -> Tensor:
        """[B, 1 + H, q], with zeros of the table where ``asked`` ([B, 1 + H] bool) is false."""
        rows = items.flatten().long()
        lengths = (self.item.offsets[rows + 1] - self.item.offsets[rows]) * asked.flatten()
        values = self.item.values[self.item.offsets[rows[lengths > 0]]]
        kjt = KeyedJaggedTensor(keys=[self.item.name], values=values, lengths=lengths)
        by_id = self.item_table(kjt).values().view(*items.shape, -1)
        vectors = self.vectors
        assert isinstance(vectors, Tensor)
        return torch.cat([by_id, vectors[rows].view(*items.shape, -1)], dim=2)


def train_din(config: DinConfig, task: Task, how: How) -> Scored:
    """Train and score; item vectors get the scale that they have as a block of dense columns."""
    blocks = [task.vectors.shape[1]] if task.vectors.shape[1] else []
    width = task.vectors.shape[1]
    scaled = Standardiser(task.vectors, blocks=blocks)(task.vectors)[:, :width] if width else task.vectors
    vectors = torch.from_numpy(scaled)
    return train_network(config, lambda features, dense: Din(features, dense, vectors, config), task, how)
