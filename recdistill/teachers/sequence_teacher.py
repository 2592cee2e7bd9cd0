"""The sequence teacher: what a user takes next, from what they took before, in order.

SASRec or HSTU with one item table for input and output. Beside the Transformer's state, the plain mean of the
items so far predicts the next item too (``pooled_weight``): the exported table then means something without the
Transformer, which distillation and mining never see.

Shapes: V vocabulary items, d width, B users of a batch, L positions, P real (not padded) positions, M candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from recdistill.teachers.config import Sharding
from recdistill.teachers.indexing import gather
from recdistill.teachers.losses import (
    MASKED,
    candidate_bias,
    full_softmax_loss,
    gbce_loss,
    gbce_power,
    length_penalty,
    softmax_loss,
)
from recdistill.teachers.positives import NegativeSampler, Positives, UserBatches, UserVectors
from recdistill.teachers.split_step import shared_dropout, shared_loss
from recdistill.teachers.tables import IdTable
from recdistill.teachers.transformer import CausalTransformer, running_mean
from recdistill.training import Stateful, step_generator
from recdistill.world import World

_USERS_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class _Batch:
    seen: Tensor  # [B, L] items, padded with item 0 behind
    following: Tensor  # [B, L] the item after each
    seen_at: Tensor  # [B, L] microseconds: when each item was taken
    asked_at: Tensor  # [B, L] microseconds: when the item after each was
    real: Tensor  # [B, L] bool

    def part(self, users: slice) -> _Batch:
        """Some of the users; L stays that of all."""
        return _Batch(*(getattr(self, field.name)[users] for field in fields(self)))


class SequenceTeacher:
    """Table, Transformer and one training step.

    Memory: 4·V·(d + 1) bytes, 16 a Transformer parameter, and about 12·P·M a step, M = V under full softmax.

    Args:
        full_softmax: every item is a candidate; else ``negatives`` sampled ones, with logQ correction.
        logq: 1 leaves the popularity of items in the vectors, 0 takes it out.
        block: the Transformer's: "sasrec", or "hstu", which sees times. State i sees the time at which item i + 1 was
            asked for, in training as in :meth:`user_states`, but of item i + 1 nothing else.
        eras: as :class:`CausalTransformer`'s.
        loss, gbce_t: softmax, or gSASRec's binary cross-entropy and its calibration.
        pooled_weight: of the running mean's loss.
        l2: weight of the mean squared length of the candidates' rows.
        seed: of initial values and of every step's draw.
        world, sharding: the processes that train together, and how the table is spread over them.
    """

    def __init__(
        self,
        users: UserBatches,
        *,
        dim: int,
        geometry: Literal["cosine", "dot"],
        temperature: float,
        length: int,
        block: Literal["sasrec", "hstu"],
        loss: Literal["softmax", "gbce"],
        gbce_t: float,
        layers: int,
        heads: int,
        eras: int,
        full_softmax: bool,
        negatives: int,
        negatives_power: float,
        logq: float,
        pooled_weight: float,
        dropout: float,
        batch: int,
        learning_rate: float,
        init_scale: float,
        l2: float,
        dense_learning_rate: float,
        weight_decay: float,
        seed: int,
        world: World,
        sharding: Sharding,
    ) -> None:
        self._users, self._world = users, world
        self._cosine, self._temperature = geometry == "cosine", temperature
        self._full, self._negatives, self._pooled_weight = full_softmax, negatives, pooled_weight
        self._length, self._batch, self._dropout, self._seed = length, batch, dropout, seed
        size = len(users.item_ids)
        drawn = size - 1 if full_softmax else negatives
        self._beta = gbce_power(negatives=drawn, items=size, t=gbce_t) if loss == "gbce" else None
        self._l2 = l2
        self._sampler = NegativeSampler(users.support, power=negatives_power)
        shares = (users.support.float() + 1) / (users.support.float() + 1).sum()
        self._prior, self._priors = (1 - logq) * shares.log(), logq < 1
        self._items = IdTable(
            size,
            dim=dim,
            seed=seed,
            scale=init_scale,
            learning_rate=learning_rate,
            world=world,
            sharding=sharding,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._model = CausalTransformer(
                dim=dim,
                length=length,
                block=block,
                layers=layers,
                heads=heads,
                eras=eras,
                times=users.times,
            )
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=dense_learning_rate, weight_decay=weight_decay)

    @property
    def state(self) -> Mapping[str, Stateful]:
        """Everything that a step changes."""
        return {"items": self._items, "model": self._model, "optimizer": self._optimizer}

    def vectors(self) -> Tensor:
        """[V, d] item vectors; of length 1 in cosine geometry. Collective in several processes."""
        return self._compared(self._items.read(0, len(self._users.item_ids)))

    def rows(self) -> Tensor:
        """[V] the vocabulary rows that :meth:`vectors` are of."""
        return torch.arange(len(self._users.item_ids))

    def user_vectors(self, vectors: Tensor, blocks: Callable[[], Iterator[Positives]]) -> UserVectors | None:
        """States behind the users' last positives, as asked for at the latest time of all; None but on the leader.

        Args:
            vectors: [V, d] of :meth:`vectors`.
            blocks: gives all users, some at a time.
        """
        if not self._world.leads:
            return None
        asked_at, states, supports = self._users.times[1], [], []
        for block in blocks():
            supports.append(block.counts)
            for users in torch.arange(len(block.counts)).split(_USERS_AT_ONCE):
                ends, counts = block.starts[users + 1], block.counts[users].clamp(max=self._length)
                place = torch.arange(int(counts.max()))
                real = place < counts.unsqueeze(1)
                row = torch.where(real, (ends - counts).unsqueeze(1) + place, 0)
                items = torch.where(real, block.item[row], -1)
                asked = torch.full((len(users),), asked_at)
                states.append(self.user_states(vectors, items, block.time[row], asked))
        every = torch.arange(self._users.users)
        return UserVectors(every, torch.cat(states), torch.cat(supports).clamp(max=self._length), asked_at=asked_at)

    def user_states(
        self, vectors: Tensor, items: Tensor, seen_at: Tensor, asked_at: Tensor, *, block: int = 128
    ) -> Tensor:
        """The state behind each sequence's last item; its product with the vectors ranks the next item.

        Args:
            vectors: [V, d] of :meth:`vectors`.
            items: [B, L] vocabulary rows, oldest first, padded with -1 behind, L at most ``length``.
            seen_at: [B, L] int64 microseconds: when each item was taken.
            asked_at: [B] int64 microseconds: when the question is put.

        Returns:
            [B, d]; zero where a sequence is empty.
        """
        parts = []
        with torch.no_grad():
            for rows, seen, asked in zip(items.split(block), seen_at.split(block), asked_at.split(block), strict=True):
                counts = (rows >= 0).sum(1)
                longest = max(int(counts.max()), 1)
                end = (counts - 1).clamp(min=0).unsqueeze(1)
                requests = seen.roll(-1, dims=1).scatter(1, end, asked.unsqueeze(1))  # behind each item, the next one's
                inputs = vectors[rows[:, :longest].clamp(min=0)]
                states = self._compared(self._model(inputs, seen[:, :longest], requests[:, :longest]))
                parts.append(states[torch.arange(len(rows)), end.squeeze(1)] * (counts > 0).unsqueeze(1))
        return torch.cat(parts)

    def step(self, step: int) -> dict[str, float]:
        """Draw the step's batch, and update the table and the Transformer by this rank's part of it."""
        generator = step_generator(self._seed, step)
        whole, share = self._draw(step, generator), self._world.share(self._batch)
        batch = whole.part(share)
        size = batch.seen.numel()
        if self._full:
            candidates, log_expected = torch.arange(len(self._users.item_ids)), None
            rows = self._items.lookup(candidates)
            vectors = self._compared(rows)
            seen, following, others = batch.seen, batch.following, vectors
        else:
            candidates, log_expected = self._sampler.draw(self._negatives, generator)
            if self._beta is not None:
                log_expected = None  # β does what the correction does for the softmax
            every = torch.cat([batch.seen.flatten(), batch.following.flatten(), candidates])
            needed, place = torch.unique(every, return_inverse=True)
            rows = self._items.lookup(needed)
            vectors = self._compared(rows)
            seen, following = place[:size].view_as(batch.seen), place[size : 2 * size].view_as(batch.seen)
            others = gather(vectors, place[2 * size :])
        target = batch.following[batch.real]  # [P]
        goal = gather(vectors, following[batch.real])
        bias = candidate_bias(self._prior[candidates], log_expected)

        def loss_of(states: Tensor) -> Tensor:
            states = self._compared(states[batch.real])
            states = states / self._temperature if self._cosine else states
            if self._full and self._beta is None:
                loss = full_softmax_loss(states, others, bias if self._priors else None, target)
            else:
                own, weight = torch.arange(len(states)), torch.ones(len(states))
                goals = (states * goal).sum(1) + self._prior[target]
                negatives = torch.addmm(bias, states, others.T).masked_fill(
                    target.unsqueeze(1) == candidates, MASKED
                )  # the target is no negative of its own
                if self._beta is not None:
                    loss = gbce_loss(goals, own, negatives, beta=self._beta, weight=weight)
                else:
                    loss = softmax_loss(goals, own, negatives, weight=weight)
            return shared_loss(loss, weight=len(target), total=int(whole.real.sum()), world=self._world)

        inputs = gather(vectors, seen)  # [B, L, d]
        drop = partial(shared_dropout, p=self._dropout, part=share, total=self._batch)
        parts = {"state_loss": loss_of(self._model(inputs, batch.seen_at, batch.asked_at, drop=drop))}
        loss = parts["state_loss"]
        if self._pooled_weight:
            parts["pooled_loss"] = loss_of(running_mean(inputs))
            loss = loss + self._pooled_weight * parts["pooled_loss"]
        if self._l2:
            candidate_rows = rows if self._full else gather(rows, place[2 * size :])
            loss = loss + length_penalty(candidate_rows, l2=self._l2)
        self._optimizer.zero_grad()
        loss.backward()
        self._world.average_([values.grad for values in self._model.parameters() if values.grad is not None])
        self._optimizer.step()
        return {name: float(value.detach()) for name, value in {"loss": loss, **parts}.items()}

    def _draw(self, step: int, generator: torch.Generator) -> _Batch:
        """A window of each drawn user's positives, at a random place if there are more than fit."""
        drawn = self._users.draw(step, self._batch, generator)
        steps = drawn.counts - 1
        spare = (steps - self._length).clamp(min=0)
        offset = (torch.rand(self._batch, generator=generator, dtype=torch.float64) * (spare + 1)).long()
        length = steps.clamp(max=self._length)
        place = torch.arange(int(length.max()))
        real = place < length.unsqueeze(1)
        row = torch.where(real, (drawn.starts + offset).unsqueeze(1) + place, 0)
        after = torch.where(real, row + 1, 0)
        seen, following = (torch.where(real, drawn.item[at], 0) for at in (row, after))
        return _Batch(seen, following, drawn.time[row], drawn.time[after], real)

    def _compared(self, vectors: Tensor) -> Tensor:
        return normalize(vectors, dim=-1) if self._cosine else vectors
