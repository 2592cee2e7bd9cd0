"""A TorchRec DLRM with and without our features: what a team adds to its own model.

Purpose: torchrec.models.dlrm.DLRM on user id, item id and counters; then the same model with the student's vectors,
semantic IDs, match features and reactions of an export. What is added stands in Inputs and build. Trained on a run's
validation window, tested on its test window, with the vectors of the fit that has seen neither; the newest fifth of the
training rows chooses the epoch.
Command: python experiments/plugins/torchrec_dlrm.py RUN --out FOLDER [--seeds 3]
         (RUN: recdistill run RECIPE --out RUN)
Time: a minute or two on two cores for 30,000 rows in each window. Memory: about 1.5 GB.
Expected: AUC with our features above AUC without.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import torch
from run_rows import BASE, LABEL, RunRows, arguments, print_aucs, read_run
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchrec import EmbeddingBagConfig, KeyedJaggedTensor, PoolingType
from torchrec.models.dlrm import DLRM
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection

from recdistill.contracts import names
from recdistill.exits import exit_codes
from recdistill.plugins import DenseColumns, FeatureJoin, ItemFeatures

WIDTH = 16
BATCH = 512
EPOCHS = 15
PATIENCE = 2
OWN = (names.USER_ID, names.ITEM_ID)
LEAST_ROWS = 5  # of an id, or it shares the vector of rare ones


@dataclass(frozen=True)
class Ours:
    """What an export adds to the model."""

    items: ItemFeatures
    match: DenseColumns


@dataclass(frozen=True)
class Inputs:
    """A window's rows: [n, c] dense columns, [n, 2] own ids, [n] item rows, [n, m] match features and reactions."""

    dense: Tensor
    ids: Tensor
    item: Tensor
    match: Tensor
    label: Tensor

    def batch(self, rows: Tensor, ours: Ours | None) -> tuple[Tensor, KeyedJaggedTensor]:
        """The model's two arguments; the team's own without ours."""
        dense, ids = self.dense[rows], self.ids[rows]
        sparse = KeyedJaggedTensor(
            keys=list(OWN), values=ids.T.reshape(-1), lengths=torch.ones(ids.numel(), dtype=torch.int64)
        )
        if ours is None:
            return dense, sparse
        item = self.item[rows]
        dense = torch.cat([dense, ours.items.dense(item), ours.match(self.match[rows])], dim=1)
        return dense, KeyedJaggedTensor.concat([sparse, ours.items.sids(item)])


class Reader:
    """From frames to tensors, as fitted on the training rows."""

    def __init__(self, training: pd.DataFrame, ours: Ours) -> None:
        self._base = DenseColumns(BASE)
        self._base.fit(self._base.read(training))
        self._ours = ours
        ours.match.fit(ours.match.read(training))
        counts = {name: training[name].value_counts() for name in OWN}
        self._frequent = {name: pd.Index(of.index[of >= LEAST_ROWS]) for name, of in counts.items()}
        self.sizes = {name: len(ids) + 1 for name, ids in self._frequent.items()}

    def __call__(self, frame: pd.DataFrame) -> Inputs:
        ids = [self._frequent[name].get_indexer(frame[name]) + 1 for name in OWN]  # 0: a rare id
        return Inputs(
            dense=self._base(self._base.read(frame)),
            ids=torch.from_numpy(np.stack(ids, axis=1)).to(torch.int64),
            item=self._ours.items.rows(frame[names.ITEM_ID]),
            match=self._ours.match.read(frame),
            label=torch.tensor(frame[LABEL].to_numpy(dtype=np.float32)),
        )


def build(sizes: dict[str, int], ours: Ours | None) -> DLRM:
    """The team's model; with ours it has more tables and a wider dense input, and nothing else changes."""
    tables = [
        EmbeddingBagConfig(
            name=name, embedding_dim=WIDTH, num_embeddings=size, feature_names=[name], pooling=PoolingType.MEAN
        )
        for name, size in sizes.items()
    ]
    dense = 2 * len(BASE)
    if ours is not None:
        tables += ours.items.sids.configs(WIDTH)
        dense += ours.items.width + ours.match.width
    bags = FusedEmbeddingBagCollection(
        tables=tables, optimizer_type=torch.optim.Adagrad, optimizer_kwargs={"lr": 0.002, "eps": 1e-8}
    )
    with torch.no_grad():
        for weight in bags.parameters():
            weight.normal_(std=0.01)  # an id that training never met adds next to nothing
    return DLRM(bags, dense, [64, WIDTH], [64, 32, 1])


def train(model: DLRM, fit: Inputs, stop: Inputs, ours: Ours | None, *, seed: int) -> None:
    """By log loss; the epoch that is best on ``stop`` is kept."""
    layers = [weight for name, weight in model.named_parameters() if "embedding_bags" not in name]
    optimizer = torch.optim.AdamW(layers, lr=3e-3, weight_decay=0.3)  # the tables step themselves
    best, kept, since = float("inf"), deepcopy(model.state_dict()), 0
    for epoch in range(EPOCHS):
        order = torch.randperm(len(fit.label), generator=torch.Generator().manual_seed(seed * EPOCHS + epoch))
        for rows in order.split(BATCH):
            optimizer.zero_grad()
            loss = binary_cross_entropy_with_logits(model(*fit.batch(rows, ours)).squeeze(1), fit.label[rows])
            loss.backward()
            optimizer.step()
        missed = binary_cross_entropy_with_logits(torch.from_numpy(logits(model, stop, ours)), stop.label).item()
        since = 0 if missed < best else since + 1
        if missed < best:
            best, kept = missed, deepcopy(model.state_dict())
        if since > PATIENCE:
            break
    model.load_state_dict(kept)


@torch.no_grad()
def logits(model: DLRM, inputs: Inputs, ours: Ours | None) -> np.ndarray:
    """[n] float32."""
    parts = torch.arange(len(inputs.label)).split(8192)
    return torch.cat([model(*inputs.batch(rows, ours)).squeeze(1) for rows in parts]).numpy()


@dataclass(frozen=True)
class Data:
    """The windows as tensors, and what an export adds."""

    fit: Inputs
    stop: Inputs
    test: Inputs
    sizes: dict[str, int]
    ours: Ours

    @classmethod
    def read(cls, rows: RunRows) -> Self:
        """Join the match features and fit the columns' scales on the training rows."""
        join = FeatureJoin(rows.export, parts=("match",))
        fit, stop, test = (join(part) for part in (rows.fit, rows.stop, rows.test))
        ours = Ours(ItemFeatures.read(rows.export), DenseColumns(join.columns))
        reader = Reader(fit, ours)
        return cls(reader(fit), reader(stop), reader(test), reader.sizes, ours)


def scores(rows: RunRows, *, seeds: int) -> dict[str, list[np.ndarray]]:
    """[test rows] logits of each training, without and with our features."""
    data = Data.read(rows)
    found: dict[str, list[np.ndarray]] = {}
    for name, ours in (("DLRM, without", None), ("DLRM, with our features", data.ours)):
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = build(data.sizes, ours)
            train(model, data.fit, data.stop, ours, seed=seed)
            found.setdefault(name, []).append(logits(model, data.test, ours))
    return found


@exit_codes()
def main() -> None:
    """Train both, and print their AUC."""
    of = arguments(__doc__).parse_args()
    rows = read_run(of.run, out=of.out)
    print_aucs(scores(rows, seeds=of.seeds), rows.test)


if __name__ == "__main__":
    main()
