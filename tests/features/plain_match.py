"""Match features as they would be written for one event, with loops; and small random worlds to compare on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recdistill.features.match import MatchFeatures
from recdistill.features.match_module import MatchModule

DAY = 86_400_000_000


@dataclass(frozen=True)
class Positive:
    """What pleased a user."""

    user: int
    item: int
    time: int


@dataclass(frozen=True)
class Few:
    """A handful of items, and the settings."""

    vectors: np.ndarray
    interest: np.ndarray
    codes: np.ndarray
    last: int = 10
    top_k: int = 2
    half_life_days: float = 1.0

    def module(self) -> MatchModule:
        return MatchModule(
            vectors=self.vectors,
            interest=self.interest,
            codes=self.codes,
            interests=int(self.interest.max()) + 1,
            last=self.last,
            top_k=self.top_k,
            half_life_days=self.half_life_days,
        )

    def batch(self, positives: list[Positive], *, users: int = 3, block: int = 1 << 20) -> MatchFeatures:
        user, item, time = (
            np.array([getattr(one, name) for one in positives], dtype=np.int64) for name in ("user", "item", "time")
        )
        return MatchFeatures(self.module(), user=user, item=item, time=time, users=users, block=block)

    def history(self, positives: list[Positive], *, user: int, before: int) -> list[Positive]:
        """Oldest first; those with a vector, ``last`` at most."""
        mine = [one for one in positives if one.user == user and one.time < before and self.interest[one.item] >= 0]
        return sorted(mine, key=lambda one: (one.time, one.item))[-self.last :]

    def plainly(self, positives: list[Positive], *, user: int, item: int, time: int) -> list[float]:
        """The columns of one event."""
        history = self.history(positives, user=user, before=time)
        levels = self.codes.shape[1]
        if not history or item < 0 or self.interest[item] < 0:
            return [np.nan] * (6 + levels) + [0]
        mine = self.vectors[item].astype(np.float64)
        cosine = [float(mine @ self.vectors[one.item].astype(np.float64)) for one in history]
        weight = [2 ** ((one.time - time) / DAY / self.half_life_days) for one in history]
        of_interest: dict[int, list[float]] = {}
        for one, similar in zip(history, cosine, strict=True):
            of_interest.setdefault(int(self.interest[one.item]), []).append(similar)
        near, size = max((round(float(np.mean(found)), 9), len(found)) for found in of_interest.values())
        shares = []
        for level in range(1, levels + 1):
            mine_too = [(self.codes[one.item][:level] == self.codes[item][:level]).all() for one in history]
            shares.append(np.nan if self.codes[item, 0] < 0 else float(np.mean(mine_too)))
        best = sorted(cosine)[::-1][: self.top_k]
        decayed = float(np.average(cosine, weights=weight))
        of_cosines = [np.mean(cosine), max(cosine), np.mean(best), decayed, near, size / len(history)]
        return [float(value) for value in of_cosines] + shares + [len(history)]


def random_few(
    seed: int, *, items: int = 40, width: int = 6, interests: int = 4, levels: int = 2, **settings: int
) -> Few:
    """Items of random vectors, interests and codes; some have no vector, some no codes."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(items, width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    interest = rng.integers(interests, size=items)
    interest[rng.random(items) < 0.1] = -1
    vectors[interest < 0] = 0
    codes = rng.integers(3, size=(items, levels))
    codes[(rng.random(items) < 0.1) | (interest < 0)] = -1
    return Few(vectors.astype(np.float32), interest, codes, **settings)
