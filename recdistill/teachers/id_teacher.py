"""The ID teacher: item vectors from which of a user's items went together, order left aside.

Each step draws users; a random part of a user's positives (at most ``history``) makes the user's vector, all
the others are targets (the multinomial likelihood of Liang et al., WWW 2018, with item vectors for an encoder),
each against the items that are not the user's own. With ``user_form="table"`` the user's vector is a row of a
user table instead and every positive a target: matrix factorisation.

Shapes: V vocabulary items, d width, B users of a batch, N their positives, M candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import dropout, normalize

from recdistill.teachers.indexing import gather, is_member
from recdistill.teachers.losses import MASKED, bpr_loss, candidate_bias, length_penalty, softmax_loss
from recdistill.teachers.positives import NegativeSampler, UserBatches
from recdistill.teachers.tables import IdTable
from recdistill.training import Stateful, step_generator


@dataclass(frozen=True)
class _Batch:
    user: Tensor  # [B] rows of users
    group: Tensor  # [N] which drawn user each positive belongs to
    item: Tensor  # [N]
    weight: Tensor  # [N] of each as a target; a user's targets sum to 1
    queried: Tensor  # [N] bool: makes the user's vector; the others are targets


class IdTeacher:
    """Tables and one training step. Memory: 4·(V + U)·(d + 1) bytes and 12·B·M a step, M = V under full softmax.

    Args:
        full_softmax: every item is a candidate; else ``negatives`` sampled ones, with logQ correction.
        logq: 1 leaves the popularity of items in the vectors, 0 takes it out (Menon et al., ICLR 2021).
        behaviour_weight: a target with b behaviours weighs 1 + this × (b - 1).
        l2: weight of the mean squared length of the item vectors that a step reads.
        seed: of initial values and of every step's draw.
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
    ) -> None:
        self._users = users
        self._cosine, self._temperature = geometry == "cosine", temperature
        self._loss, self._full, self._negatives = loss, full_softmax, negatives
        self._history, self._dropout, self._batch, self._seed = history, dropout, batch, seed
        self._l2 = l2
        self._behaviour_weight = behaviour_weight
        self._sampler = NegativeSampler(users.support, power=negatives_power)
        shares = (users.support.float() + 1) / (users.support.float() + 1).sum()
        self._prior = (1 - logq) * shares.log()
        self._items = IdTable(len(users.item_ids), dim=dim, seed=seed, scale=init_scale, learning_rate=learning_rate)
        self._user_table = (
            IdTable(users.users, dim=dim, seed=seed + 1, scale=init_scale, learning_rate=learning_rate)
            if user_form == "table"
            else None
        )

    @property
    def state(self) -> Mapping[str, Stateful]:
        """Everything that a step changes."""
        return {"items": self._items} | ({"users": self._user_table} if self._user_table else {})

    def vectors(self) -> Tensor:
        """[V, d] item vectors; of length 1 in cosine geometry."""
        return self._compared(self._items.weight).clone()

    def step(self, step: int) -> dict[str, float]:
        """Draw the step's batch, and update the tables."""
        generator = step_generator(self._seed, step)
        batch = self._draw(step, generator)
        if self._full:
            candidates, log_expected = torch.arange(len(self._users.item_ids)), None
            rows = self._items.lookup(candidates)
            vectors, item = self._compared(rows), batch.item
            others = vectors
        else:
            candidates, log_expected = self._sampler.draw(self._negatives, generator)
            needed, place = torch.unique(torch.cat([batch.item, candidates]), return_inverse=True)
            rows = self._items.lookup(needed)
            vectors, item = self._compared(rows), place[: len(batch.item)]
            others = gather(vectors, place[len(batch.item) :])
        users = self._user_vectors(batch, vectors, item)
        prior = self._prior[candidates]
        scores = users @ others.T
        group, target, weight = batch.group[~batch.queried], item[~batch.queried], batch.weight[~batch.queried]
        if self._full:
            targets = scores.flatten()[group * len(candidates) + target] + prior[target]
        else:
            targets = (gather(users, group) * gather(vectors, target)).sum(1) + self._prior[batch.item[~batch.queried]]
        if self._loss == "softmax":
            scores = self._mask_own(scores + candidate_bias(prior, log_expected), batch, candidates)
            loss = softmax_loss(targets, group, scores, weight=weight)
        else:
            scores = self._mask_own(scores + prior, batch, candidates)
            column = torch.randint(len(candidates), (len(group),), generator=generator)
            loss = bpr_loss(targets, group, scores, column=column, weight=weight)
        if self._l2:
            loss = loss + length_penalty(rows, l2=self._l2)
        loss.backward()
        return {"loss": float(loss.detach())}

    def _draw(self, step: int, generator: torch.Generator) -> _Batch:
        drawn = self._users.draw(step, self._batch, generator)
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
        return _Batch(drawn.user, group, item, weight / total[group], queried)

    def _user_vectors(self, batch: _Batch, vectors: Tensor, item: Tensor) -> Tensor:
        """[B, d], divided by the temperature."""
        if self._user_table is not None:
            users = self._compared(self._user_table.lookup(batch.user))
        else:
            group, queried = batch.group[batch.queried], gather(vectors, item[batch.queried])
            total = torch.zeros(self._batch, vectors.shape[1]).index_add(0, group, dropout(queried, self._dropout))
            size = torch.bincount(group, minlength=self._batch).unsqueeze(1)
            users = self._compared(total / size)
        return users / self._temperature if self._cosine else users

    def _mask_own(self, scores: Tensor, batch: _Batch, candidates: Tensor) -> Tensor:
        if self._full:
            own = torch.zeros(scores.shape, dtype=torch.bool)
            own[batch.group, batch.item] = True
        else:
            own = is_member(batch.group, batch.item, candidates, size=self._batch, vocabulary=len(self._users.item_ids))
        return scores.masked_fill(own, MASKED)

    def _compared(self, vectors: Tensor) -> Tensor:
        return normalize(vectors, dim=1) if self._cosine else vectors
