"""The ID teacher: item vectors from which of a user's items went together, order left aside.

Each step draws users; a random part of a user's positives (at most ``history``) makes the user's vector, all
the others are targets (the multinomial likelihood of Liang et al., WWW 2018, with item vectors for an encoder),
each against the items that are not the user's own. With ``user_form="table"`` the user's vector is a row of a
user table instead and every positive a target: matrix factorisation.

Shapes: V vocabulary items, d width, B users of a batch, N their positives, M candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from recdistill.teachers.config import Sharding
from recdistill.teachers.indexing import gather, is_member
from recdistill.teachers.losses import MASKED, bpr_loss, candidate_bias, length_penalty, softmax_loss
from recdistill.teachers.managed import ManagedIds
from recdistill.teachers.positives import NegativeSampler, Positives, UserBatch, UserBatches, UserVectors
from recdistill.teachers.split_step import shared_dropout, shared_loss
from recdistill.teachers.tables import IdTable, SparseFeature
from recdistill.training import Stateful, step_generator
from recdistill.world import World

_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class _Batch:
    """The users drawn, or one rank's part of them; positives stand user after user."""

    user: Tensor  # [B] numbers of users
    counts: Tensor  # [B] positives of each
    item: Tensor  # [N]
    weight: Tensor  # [N] of each as a target; a user's targets sum to 1
    queried: Tensor  # [N] bool: makes the user's vector; the others are targets

    @property
    def group(self) -> Tensor:
        """[N] which user each positive belongs to."""
        return torch.repeat_interleave(torch.arange(len(self.user)), self.counts)

    def positives(self, users: slice) -> slice:
        """Where the positives of some of the users stand."""
        before = int(self.counts[: users.start].sum())
        return slice(before, before + int(self.counts[users].sum()))

    def part(self, users: slice) -> _Batch:
        """Some of the users, by themselves."""
        rows = self.positives(users)
        return _Batch(self.user[users], self.counts[users], self.item[rows], self.weight[rows], self.queried[rows])


@dataclass(frozen=True)
class _Read:
    """What a step reads of the item table."""

    candidates: Tensor  # [M] vocabulary rows
    log_expected: Tensor | None  # [M] of sampled ones
    rows: Tensor | None  # [M, d] the candidates' rows, where they are penalised
    vectors: Tensor  # [R, d] every vector that was looked up
    item: Tensor  # [N] where among them the positives are
    others: Tensor  # [M, d] the candidates' vectors


def _place(chosen: Tensor, rows: slice) -> slice:
    """Where the chosen among some rows stand among all that are chosen ([N] bool)."""
    before = int(chosen[: rows.start].sum())
    return slice(before, before + int(chosen[rows].sum()))


class IdTeacher:
    """Tables and one training step. Memory: 4·(V + U)·(d + 1) bytes and 12·B·M a step, M = V under full softmax.

    Args:
        full_softmax: every item is a candidate; else ``negatives`` sampled ones, with logQ correction.
        logq: 1 leaves the popularity of items in the vectors, 0 takes it out (Menon et al., ICLR 2021).
        behaviour_weight: a target with b behaviours weighs 1 + this × (b - 1).
        l2: weight of the mean squared length of the candidates' rows.
        seed: of initial values and of every step's draw.
        features: further sparse features of the items, whose vectors are added to the item's own.
        slots: who has a row of the item table, if it has fewer than items; positives and negatives without one are
            left out of a step, and only trained tenants have a vector in the end.
        world, sharding: the processes that train together, and how the tables are spread over them.
    """

    def __init__(
        self,
        users: UserBatches,
        *,
        dim: int,
        geometry: Literal["cosine", "dot"],
        temperature: float,
        user_form: Literal["history", "table"],
        loss: Literal["softmax", "bpr"],
        full_softmax: bool,
        negatives: int,
        negatives_power: float,
        logq: float,
        history: int,
        behaviour_weight: float,
        dropout: float,
        batch: int,
        learning_rate: float,
        init_scale: float,
        l2: float,
        seed: int,
        features: Sequence[SparseFeature],
        slots: ManagedIds | None,
        world: World,
        sharding: Sharding,
    ) -> None:
        self._users, self._world = users, world
        self._cosine, self._temperature = geometry == "cosine", temperature
        self._loss, self._full, self._negatives = loss, full_softmax, negatives
        self._history, self._dropout, self._batch, self._seed = history, dropout, batch, seed
        self._l2 = l2
        self._behaviour_weight = behaviour_weight
        self._sampler = NegativeSampler(users.support, power=negatives_power)
        shares = (users.support.float() + 1) / (users.support.float() + 1).sum()
        self._prior = (1 - logq) * shares.log()
        table = partial(IdTable, dim=dim, scale=init_scale, learning_rate=learning_rate, world=world, sharding=sharding)
        self._slots = slots
        self._items = table(slots.sink + 1 if slots else len(users.item_ids), seed=seed, features=features)
        self._user_table = table(users.users, seed=seed + 1) if user_form == "table" else None

    @property
    def state(self) -> Mapping[str, Stateful]:
        """Everything that a step changes."""
        parts: dict[str, Stateful | None] = {"items": self._items, "users": self._user_table, "slots": self._slots}
        return {name: part for name, part in parts.items() if part is not None}

    def vectors(self) -> Tensor:
        """[n, d] vectors of the items :meth:`rows`; of length 1 in cosine geometry. Collective in several processes."""
        if self._slots is None:
            return self._compared(self._items.read(0, len(self._users.item_ids)))
        ids, rows = self._slots.resident()
        return self._compared(self._items.weight[rows[ids.argsort()]])

    def rows(self) -> Tensor:
        """[n] vocabulary rows of the items that have a vector, ascending: all of them, but for managed slots."""
        return (
            torch.arange(len(self._users.item_ids)) if self._slots is None else self._slots.resident()[0].sort().values
        )

    def slots_report(self) -> dict[str, Any] | None:
        """Who came and went, with the items' own ids; None where every item has a row."""
        if self._slots is None:
            return None
        told = self._slots.report()
        numbers, steps = zip(*told["evicted_most_trained"], strict=True) if told["evicted_most_trained"] else ((), ())
        ids = self._users.item_ids[list(numbers)].tolist()
        return told | {"evicted_most_trained": list(zip(ids, steps, strict=True))}

    def user_vectors(self, vectors: Tensor, blocks: Callable[[], Iterator[Positives]]) -> UserVectors | None:
        """Rows of the user table, None without one; collective in several processes.

        Who has one positive is never drawn: that row is as it was in the beginning, and is left out.
        """
        if self._user_table is None:
            return None
        counts = torch.cat([block.counts for block in blocks()])
        drawn = torch.nonzero(counts >= 2).flatten()
        rows = self._compared(self._user_table.read(0, self._users.users))
        return UserVectors(drawn, rows[drawn], counts[drawn])

    def step(self, step: int) -> dict[str, float]:
        """Draw the step's batch, and update the tables by this rank's part of it."""
        generator = step_generator(self._seed, step)
        whole = self._draw(step, generator)
        share = self._world.share(self._batch)
        batch, positives = whole.part(share), whole.positives(share)
        read = self._read(batch.item, generator)
        if read is None:
            return {"loss": 0.0}
        queried = shared_dropout(
            gather(read.vectors, read.item[batch.queried]),
            self._dropout,
            part=_place(whole.queried, positives),
            total=int(whole.queried.sum()),
        )
        targeted = ~whole.queried
        column = (
            torch.randint(len(read.candidates), (int(targeted.sum()),), generator=generator)[
                _place(targeted, positives)
            ]
            if self._loss == "bpr"
            else None
        )
        loss = self._loss_of(self._user_vectors(batch, queried), batch, read, column=column)
        weight, total = (float(of.weight[~of.queried].sum()) for of in (batch, whole))
        loss = shared_loss(loss, weight=weight, total=total, world=self._world)
        if read.rows is not None and self._l2:
            loss = loss + length_penalty(read.rows, l2=self._l2)
        loss.backward()
        return {"loss": float(loss.detach())}

    def _read(self, item: Tensor, generator: torch.Generator) -> _Read | None:
        """Draw the step's candidates, and look them up together with the [N] positives.

        Returns:
            None while no positive or no candidate holds a slot.
        """
        if self._full:
            candidates = torch.arange(len(self._users.item_ids))
            rows = self._items.lookup(candidates)
            vectors = self._compared(rows)
            return _Read(candidates, None, rows, vectors, item, vectors)
        candidates, log_expected = self._sampler.draw(self._negatives, generator)
        if self._slots is not None:
            present = self._slots.rows(candidates)[1]
            candidates, log_expected = candidates[present], log_expected[present]
            if not len(item) or not len(candidates):
                return None
        needed, place = torch.unique(torch.cat([item, candidates]), return_inverse=True)
        rows = self._items.lookup(needed if self._slots is None else self._slots.rows(needed)[0])
        vectors, place, of_candidates = self._compared(rows), place[: len(item)], place[len(item) :]
        penalised = gather(rows, of_candidates) if self._l2 else None
        return _Read(candidates, log_expected, penalised, vectors, place, gather(vectors, of_candidates))

    def _loss_of(self, users: Tensor, batch: _Batch, read: _Read, *, column: Tensor | None) -> Tensor:
        """Mean over the batch's targets.

        Args:
            users: [B, d]
            column: [T] the candidate that each target is compared with (BPR).
        """
        targeted = ~batch.queried
        group, target, weight = batch.group[targeted], read.item[targeted], batch.weight[targeted]
        scores, prior = users @ read.others.T, self._prior[read.candidates]
        if self._full:
            targets = scores.flatten()[group * len(read.candidates) + target] + prior[target]
        else:
            targets = (gather(users, group) * gather(read.vectors, target)).sum(1) + self._prior[batch.item[targeted]]
        if column is None:
            scores = self._mask_own(scores + candidate_bias(prior, read.log_expected), batch, read.candidates)
            return softmax_loss(targets, group, scores, weight=weight)
        scores = self._mask_own(scores + prior, batch, read.candidates)
        return bpr_loss(targets, group, scores, column=column, weight=weight)

    def _draw(self, step: int, generator: torch.Generator) -> _Batch:
        """The whole batch, the same on every rank."""
        drawn = self._users.draw(step, self._batch, generator)
        if self._slots is not None:
            drawn = self._admitted(drawn, self._slots, step)
        counts, group, item = drawn.counts, drawn.group, drawn.item
        weight = 1 + self._behaviour_weight * (drawn.behaviours - 1)
        if self._user_table is not None:
            queried = torch.zeros(len(group), dtype=torch.bool)
        else:
            # A history of 1 … min(history, half of them) items: the first of a random order.
            order = torch.argsort(group + torch.rand(len(group), generator=generator, dtype=torch.float64))
            item, weight = item[order], weight[order]
            most = torch.clamp(counts // 2, max=self._history)
            size = (torch.rand(self._batch, generator=generator, dtype=torch.float64) * most).long() + 1
            queried = torch.arange(len(group)) - drawn.starts[group] < size[group]
        weight = torch.where(queried, 0.0, weight)
        total = torch.zeros(self._batch).index_add(0, group, weight)
        # A user whose every other positive has no row has no target, and no weight.
        return _Batch(drawn.user, counts, item, weight / total[group].clamp(min=_TINY), queried)

    def _admitted(self, drawn: UserBatch, slots: ManagedIds, step: int) -> UserBatch:
        """Tell the slots what was drawn, renew rows that changed hands, and keep the positives that have a row."""
        admission = slots.admit(drawn.item)
        self._items.reset(admission.changed, generation=step)
        kept = admission.resident
        counts = torch.bincount(drawn.group[kept], minlength=len(drawn.user))
        return UserBatch(drawn.user, counts, drawn.item[kept], drawn.behaviours[kept], drawn.time[kept])

    def _user_vectors(self, batch: _Batch, queried: Tensor) -> Tensor:
        """[B, d], divided by the temperature.

        Args:
            queried: [Q, d] vectors of the batch's queried positives.
        """
        if self._user_table is not None:
            users = self._compared(self._user_table.lookup(batch.user))
        else:
            group = batch.group[batch.queried]
            total = torch.zeros(len(batch.user), queried.shape[1]).index_add(0, group, queried)
            size = torch.bincount(group, minlength=len(batch.user)).clamp(min=1).unsqueeze(1)
            users = self._compared(total / size)
        return users / self._temperature if self._cosine else users

    def _mask_own(self, scores: Tensor, batch: _Batch, candidates: Tensor) -> Tensor:
        if self._full:
            own = torch.zeros(scores.shape, dtype=torch.bool)
            own[batch.group, batch.item] = True
        else:
            own = is_member(
                batch.group, batch.item, candidates, size=len(batch.user), vocabulary=len(self._users.item_ids)
            )
        return scores.masked_fill(own, MASKED)

    def _compared(self, vectors: Tensor) -> Tensor:
        return normalize(vectors, dim=1) if self._cosine else vectors
