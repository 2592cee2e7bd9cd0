"""What teachers learn from: each user's distinct positives in time order, and the draws from them.

Shapes: n positives, U users with any, V vocabulary items, B users drawn, N positives of the drawn users.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recdistill.contracts.log import Log
from recdistill.errors import UserError
from recdistill.retrieval.hashing import hash_ids, mix
from recdistill.teachers.indexing import expand


@dataclass(frozen=True)
class Positives:
    """Positives by user, earliest first, in numbers of their own.

    The vocabulary is every item with a training interaction, positive or not: items without a positive are
    negatives only. Memory: 20 bytes a positive, 16 an item, 16 a user.

    Attributes:
        item_ids: [V] ids, in the catalogue's order.
        user_ids: [U] ids, sorted.
        item: [n] int64 vocabulary rows.
        behaviours: [n] float32: how many positive behaviours the event carries.
        time: [n] int64 microseconds since 1970, UTC.
        starts: [U + 1] int64: user u's positives are rows ``starts[u]:starts[u + 1]``.
        support: [V] int64: positive interactions in the log (every event counts, also repeated ones).
    """

    item_ids: pd.Index
    user_ids: pd.Index
    item: Tensor
    behaviours: Tensor
    time: Tensor
    starts: Tensor
    support: Tensor

    @classmethod
    def of(
        cls, log: Log, *, min_behaviours: int, last: int, seed: int, vocabulary: pd.Index | None = None
    ) -> Positives:
        """Gather a log's positives. An item met several times counts once, the first time.

        Args:
            log: training interactions.
            vocabulary: the items, if the log is a part of a larger one; then its users may have few positives.
            min_behaviours: positive behaviours that make an event a positive.
            last: latest distinct positives of a user that are kept.
            seed: orders events of equal time, whose order in the file could tell the item.

        Raises:
            UserError: no user has two positives.
        """
        if vocabulary is None:
            known = np.flatnonzero(np.bincount(log.item, minlength=len(log.item_ids)))
        else:
            known = log.item_ids.get_indexer(vocabulary)
        number = np.full(len(log.item_ids), -1, dtype=np.int64)
        number[known] = np.arange(len(known))
        rows = np.flatnonzero(log.positive(min_behaviours))
        user, item = log.user[rows].astype(np.int64), number[log.item[rows]]
        support = np.bincount(item, minlength=len(known))
        tie = mix(seed, hash_ids(log.user_ids)[user], hash_ids(log.item_ids)[log.item[rows]])
        order = np.lexsort((tie, log.time[rows], user))
        user, item, rows = user[order], item[order], rows[order]
        first = np.unique(user * len(known) + item, return_index=True)[1]
        first.sort()
        user, item, rows = user[first], item[first], rows[first]
        users, count = np.unique(user, return_counts=True)
        from_end = np.repeat(np.cumsum(count), count) - np.arange(len(user))
        kept = from_end <= last
        starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.minimum(count, last))])
        if vocabulary is None and not (count >= 2).any():
            raise nobody_has_two(min_behaviours)
        return cls(
            item_ids=log.item_ids[known],
            user_ids=log.user_ids[users],
            item=torch.from_numpy(item[kept]),
            behaviours=torch.from_numpy(log.behaviour_count[rows[kept]].astype(np.float32)),
            time=torch.from_numpy(log.time[rows[kept]]),
            starts=torch.from_numpy(starts),
            support=torch.from_numpy(support),
        )

    @property
    def counts(self) -> Tensor:
        """[U] positives of each user."""
        return self.starts[1:] - self.starts[:-1]

    @property
    def times(self) -> tuple[int, int]:
        """The first and the last positive's time."""
        return int(self.time.min()), int(self.time.max())


def nobody_has_two(min_behaviours: int) -> UserError:
    """The error of a log from which nothing can be learnt."""
    return UserError(
        f"no user has two training positives (events with at least {min_behaviours} positive behaviours)",
        remedy="check data.behaviours, or lower teachers.min_behaviours",
    )


@dataclass(frozen=True)
class UserBatch:
    """Users drawn for one step with all their positives, user after user, each earliest first.

    Attributes:
        user: [B] int64 numbers of the users.
        counts: [B] int64 positives of each.
        item, behaviours, time: [N] of the positives, as in :class:`Positives`.
    """

    user: Tensor
    counts: Tensor
    item: Tensor
    behaviours: Tensor
    time: Tensor

    @property
    def starts(self) -> Tensor:
        """[B] the first positive of each user."""
        return self.counts.cumsum(0) - self.counts

    @property
    def group(self) -> Tensor:
        """[N] which drawn user each positive belongs to."""
        return torch.repeat_interleave(torch.arange(len(self.counts)), self.counts)


@dataclass(frozen=True)
class UserVectors:
    """What a teacher has learned of users.

    Attributes:
        user: [m] numbers of the users that have a vector, ascending.
        vectors: [m, d] float32.
        support: [m] positives that each vector is of.
        asked_at: the time, microseconds, that states which depend on time are of.
    """

    user: Tensor
    vectors: Tensor
    support: Tensor
    asked_at: int | None = None


class UserBatches(Protocol):
    """Where a training gets its users from; the same step and generator give the same batch."""

    @property
    def item_ids(self) -> pd.Index:
        """[V] the vocabulary."""

    @property
    def support(self) -> Tensor:
        """[V] int64 positive interactions of each item."""

    @property
    def times(self) -> tuple[int, int]:
        """The first and the last positive's time, microseconds."""

    @property
    def users(self) -> int:
        """U; a batch's user numbers are below it."""

    def draw(self, step: int, size: int, generator: torch.Generator) -> UserBatch:
        """``size`` users of two positives or more, with replacement."""


class InMemory:
    """Batches from positives that are held in memory.

    Args:
        power: users are drawn in proportion to their positives to this power.
    """

    def __init__(self, positives: Positives, *, power: float) -> None:
        self.positives = positives
        self._sampler = UserSampler(positives.counts, power=power)

    @property
    def item_ids(self) -> pd.Index:
        return self.positives.item_ids

    @property
    def support(self) -> Tensor:
        return self.positives.support

    @property
    def times(self) -> tuple[int, int]:
        return self.positives.times

    @property
    def users(self) -> int:
        return len(self.positives.counts)

    def draw(self, step: int, size: int, generator: torch.Generator) -> UserBatch:
        """As :class:`UserBatches`; every step draws from all users."""
        return gather_users(self.positives, self._sampler.draw(size, generator))


def gather_users(positives: Positives, users: Tensor) -> UserBatch:
    """[B] rows of users → the users with their positives."""
    counts = positives.starts[users + 1] - positives.starts[users]
    _, row = expand(positives.starts[users], counts)
    return UserBatch(users, counts, positives.item[row], positives.behaviours[row], positives.time[row])


class UserSampler:
    """Draws users who have two positives or more, in proportion to their positives to a power."""

    def __init__(self, counts: Tensor, *, power: float) -> None:
        weights = counts.double() ** power * (counts >= 2)
        self._cumulative = weights.cumsum(0)

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """[size] user rows, with replacement."""
        points = torch.rand(size, generator=generator, dtype=torch.float64) * self._cumulative[-1]
        return torch.searchsorted(self._cumulative, points, right=True).clamp(max=len(self._cumulative) - 1)


class NegativeSampler:
    """Draws items in proportion to (support + 1) to a power, with replacement."""

    def __init__(self, support: Tensor, *, power: float) -> None:
        weights = (support.double() + 1) ** power
        self._cumulative = weights.cumsum(0)
        self._log_probability = (weights / self._cumulative[-1]).log().float()

    def draw(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """[size] item rows, and [size] the log of how often each is expected in such a draw."""
        points = torch.rand(size, generator=generator, dtype=torch.float64) * self._cumulative[-1]
        rows = torch.searchsorted(self._cumulative, points, right=True).clamp(max=len(self._cumulative) - 1)
        return rows, self._log_probability[rows] + float(np.log(size))
