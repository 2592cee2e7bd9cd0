"""Embedding tables by id on TorchRec's fused path: the optimizer runs inside the backward pass.

On a CPU this is the fast way for sequences as well, one id a bag, where the un-pooled collections are several
times slower. Gradients of repeated ids are summed before the one update a row gets. In several processes the
tables are spread over them by TorchRec's sharded collection, which does the same sums and updates.

Shapes: R rows (items), d width, n ids, B bags, F sparse features, K_f rows and k_f values of feature f.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torchrec import EmbeddingBagConfig, KeyedJaggedTensor, PoolingType

from recdistill.teachers.config import Sharding
from recdistill.teachers.sharding import fused, sharded, weights_and_accumulators
from recdistill.world import World

# FBGEMM's CPU kernels read rows as vectors of four floats.
WIDTH_MULTIPLE = 4
# Initial values are drawn block by block, so that no process needs another's rows.
BLOCK = 65_536
_ID = "id"


@dataclass(frozen=True)
class SparseFeature:
    """A feature of items with any number of values each: tags, authors …

    Attributes:
        name: of the feature; "id" is taken by the items' own rows.
        rows: K, distinct values.
        values: [k] int64 value rows in 0 … K - 1, item after item.
        offsets: [R + 1] int64; item i has ``values[offsets[i]:offsets[i + 1]]``.
    """

    name: str
    rows: int
    values: Tensor
    offsets: Tensor

    def of(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The value rows of [n] items, item after item, and [n] how many each has."""
        first = self.offsets[ids]
        counts = self.offsets[ids + 1] - first
        place = torch.arange(int(counts.sum())) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        return self.values[first.repeat_interleave(counts) + place], counts


class IdTable:
    """R item vectors with row-wise Adagrad (one accumulator a row).

    An item's vector is its own row, plus for each sparse feature the mean of the rows of its values. A lookup's
    backward pass updates the tables: there is no optimizer step to call, and one lookup a training step gives one
    update a row. Weight decay belongs into the loss: FBGEMM's own does nothing on a CPU.

    In several processes lookups are collective, forth and back: each rank looks up its own ids (as many as it
    likes) and runs its own loss backward. The tables get the mean of the ranks' gradients, as dense parameters do
    under data parallelism, so a rank's loss is the mean over its part times ``size × part / whole``.

    Memory: 4·(R + Σ K_f)·(d + 1) bytes, spread over the processes, and 8·(R + k_f) for each feature in each.

    Args:
        rows: R.
        dim: d, a multiple of 4.
        seed: of the initial values, which depend on nothing else (neither on the processes nor on the sharding).
        scale: standard deviation of the initial values.
        learning_rate: of row-wise Adagrad.
        features: whose rows are trained beside the items' own.
        world: the processes to spread over.
        sharding: "table_wise" gives each process whole tables, "row_wise" each a range of rows of every table (of
            so few rows that a process would have none, the whole), "planned" places whole tables by TorchRec's planner.

    Raises:
        ValueError: the width, or a feature's name, offsets or values are not as said.
    """

    def __init__(
        self,
        rows: int,
        *,
        dim: int,
        seed: int,
        scale: float,
        learning_rate: float,
        eps: float = 1e-8,
        features: Sequence[SparseFeature] = (),
        world: World = World(),
        sharding: Sharding = "row_wise",
    ) -> None:
        if dim % WIDTH_MULTIPLE:
            raise ValueError(f"dim must be a multiple of {WIDTH_MULTIPLE}, not {dim}")
        _check(features, rows=rows)
        self._seed, self._scale = seed, scale
        self._features, self._world = tuple(features), world
        sizes = {_ID: rows} | {feature.name: feature.rows for feature in features}
        # Names are the user's, and TorchRec's may not hold a dot.
        self._keys = [f"t{number}" for number in range(len(sizes))]
        tables = [
            EmbeddingBagConfig(
                name=key, embedding_dim=dim, num_embeddings=size, feature_names=[key], pooling=PoolingType.SUM
            )
            for key, size in zip(self._keys, sizes.values(), strict=True)
        ]
        self._bags = (
            fused(tables, learning_rate=learning_rate, eps=eps)
            if world.size == 1
            else sharded(tables, learning_rate=learning_rate, eps=eps, world=world, sharding=sharding)
        )
        tensors = weights_and_accumulators(self._bags, world=world)
        self._state: dict[str, Any] = {}
        for key, (name, size) in zip(self._keys, sizes.items(), strict=True):
            weight, accumulator = tensors[key]
            self._state |= {f"{name}.weight": weight, f"{name}.accumulator": accumulator}
            for start, part in _local(weight):
                fill_(part, start=start, rows=size, seed=seed, table=name, scale=scale)

    @property
    def weight(self) -> Tensor:
        """[R, d] the live values of the items' own rows, outside autograd.

        Raises:
            ValueError: the rows are spread over several processes.
        """
        if self._world.size > 1:
            raise ValueError("a table in several processes has no weight of its own: read(start, stop) gives rows")
        weight: Tensor = self._state[f"{_ID}.weight"]
        return weight

    def lookup(self, ids: Tensor) -> Tensor:
        """[n] row numbers → [n, d] vectors."""
        ones = torch.ones_like(ids)
        if not self._features:
            return self._pooled([ids], [ones])[0]
        values, counts = zip(*(feature.of(ids) for feature in self._features), strict=True)
        vectors, *totals = self._pooled([ids, *values], [ones, *counts])
        for total, count in zip(totals, counts, strict=True):
            vectors = vectors + total / count.clamp(min=1).unsqueeze(1)
        return vectors

    def pool(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Sum each bag's vectors.

        Args:
            ids: [n] row numbers, bag after bag.
            lengths: [B] ids in each bag; an empty bag gives zeros.

        Returns:
            [B, d]
        """
        if not self._features:
            return self._pooled([ids], [lengths])[0]
        vectors = self.lookup(ids)
        bag = torch.arange(len(lengths)).repeat_interleave(lengths)
        return vectors.new_zeros(len(lengths), vectors.shape[1]).index_add(0, bag, vectors)

    def read(self, start: int, stop: int) -> Tensor:
        """[stop - start, d] whole vectors on every rank, outside autograd; collective in several processes."""
        with torch.no_grad():
            if self._world.size == 1:
                return self.lookup(torch.arange(start, stop)) if self._features else self.weight[start:stop].clone()
            own = self._world.share(stop - start)
            found = self.lookup(torch.arange(start + own.start, start + own.stop))
            vectors = found.new_zeros(stop - start, found.shape[1])
            vectors[own] = found
            return self._world.sum_(vectors)

    def reset(self, rows: Tensor, *, generation: int) -> None:
        """Make rows of the items' own like new: values drawn from (seed, generation), accumulators 0.

        Args:
            rows: [n] distinct row numbers, whose order is that of the draw.
            generation: tells one reset from another, for instance the training step.

        Raises:
            ValueError: the rows are spread over several processes.
        """
        weight = self.weight
        draw = _generator(self._seed, f"{_ID}/generation {generation}")
        weight[rows] = torch.empty(len(rows), weight.shape[1]).normal_(0.0, self._scale, generator=draw)
        self._state[f"{_ID}.accumulator"][rows] = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Values and optimizer state, live and not copies.

        Returns:
            ``id.weight`` [R, d], ``id.accumulator`` [R], and the same of each feature by its name: plain tensors,
            or in several processes ShardedTensors of these shapes.
        """
        return dict(self._state)

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Copy a state of the same kind (plain, or spread in the same way) into the tables."""
        for name, live in self._state.items():
            for (_, into), (_, saved) in zip(_local(live), _local(state_dict[name]), strict=True):
                into.copy_(saved)

    def _pooled(self, values: Sequence[Tensor], lengths: Sequence[Tensor]) -> list[Tensor]:
        """[B, d] of each table: the sums of its bags.

        Over gloo the ranks' numbers of bags must agree (its backward pass gathers equal parts), so every rank
        adds empty bags up to the most of them; the outputs are cut again, and empty bags update nothing.
        """
        bags = len(lengths[0])
        spare = self._world.most(bags) - bags
        padded = [torch.nn.functional.pad(length, (0, spare)) for length in lengths] if spare else lengths
        pooled = self._bags(KeyedJaggedTensor(keys=self._keys, values=_joined(values), lengths=_joined(padded)))
        # Slices are taken only where they must be: each costs a copy of all the gradients.
        parts = [pooled.values()] if len(values) == 1 else pooled.values().split(pooled.length_per_key(), dim=1)
        if spare:
            parts = [part[:bags] for part in parts]
        of = dict(zip(pooled.keys(), parts, strict=True))
        return [of[key] for key in self._keys]


def fill_(part: Tensor, *, start: int, rows: int, seed: int, table: str, scale: float) -> None:
    """Draw initial values for a range of a table's rows, the same whatever the range.

    Memory: one block beside the part.

    Args:
        part: [n, d] rows ``start … start + n - 1``, filled in place.
        rows: of the whole table.
    """
    for block in range(start // BLOCK, -(-(start + len(part)) // BLOCK)):
        first, last = block * BLOCK, min((block + 1) * BLOCK, rows)
        draw = (
            torch.Generator().manual_seed(seed) if table == _ID and block == 0 else _generator(seed, f"{table}/{block}")
        )
        # The first block of the items' rows is drawn from the seed itself, as torch would draw a table of that size.
        # A block is always drawn whole: how torch turns a stream into normal values depends on their number.
        values = torch.empty(last - first, part.shape[1]).normal_(0.0, scale, generator=draw)
        low, high = max(first, start), min(last, start + len(part))
        part[low - start : high - start] = values[low - first : high - first]


def _generator(seed: int, of: str) -> torch.Generator:
    digest = blake2b(f"{seed}/{of}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest))


def _local(tensor: Tensor | ShardedTensor) -> list[tuple[int, Tensor]]:
    """The parts of a tensor that this process holds, each with its first row."""
    if isinstance(tensor, ShardedTensor):
        return [(shard.metadata.shard_offsets[0], shard.tensor) for shard in tensor.local_shards()]
    return [(0, tensor)]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _check(features: Sequence[SparseFeature], *, rows: int) -> None:
    names = [_ID, *(feature.name for feature in features)]
    if len(set(names)) < len(names):
        raise ValueError(f"names of features must differ from each other and from 'id': {names[1:]}")
    for feature in features:
        ends = [] if feature.offsets.shape != (rows + 1,) else [int(feature.offsets[0]), int(feature.offsets[-1])]
        if ends != [0, len(feature.values)] or bool((feature.offsets.diff() < 0).any()):
            raise ValueError(f"{feature.name}: offsets must be {rows + 1} numbers that rise from 0 to the values' end")
        if len(feature.values) and not 0 <= int(feature.values.min()) <= int(feature.values.max()) < feature.rows:
            raise ValueError(f"{feature.name}: values must be rows in 0 … {feature.rows - 1}")
