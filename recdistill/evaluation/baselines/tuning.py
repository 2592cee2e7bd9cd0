"""Choosing settings by validation: the same number of trials for whoever is tuned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

Range = tuple[float, float]


@dataclass(frozen=True)
class Chosen:
    """The best settings, their validation score, and all (settings, score) tried, in order."""

    settings: dict[str, float]
    score: float
    tried: list[tuple[dict[str, float], float]]

    @classmethod
    def best(cls, tried: list[tuple[dict[str, float], float]]) -> Chosen:
        """The earliest of equals."""
        settings, score = max(tried, key=lambda pair: pair[1])
        return cls(settings, score, tried)


def points(ranges: Mapping[str, Range], *, count: int) -> list[dict[str, float]]:
    """Settings that cover the box of ranges evenly on a log scale (Halton's sequence, its first point left out).

    More trials add points to those of fewer.
    """
    sequence = qmc.Halton(d=len(ranges), scramble=False)
    sequence.fast_forward(1)
    low, high = (np.log([bound[at] for bound in ranges.values()]) for at in (0, 1))
    return [
        {name: float(value) for name, value in zip(ranges, np.exp(low + (high - low) * place), strict=True)}
        for place in sequence.random(count)
    ]


def choose(
    ranges: Mapping[str, Range],
    score: Callable[[dict[str, float]], float],
    *,
    count: int,
    start: dict[str, float] | None = None,
) -> Chosen:
    """Try ``count`` settings, ``start`` first if given, and keep the best; the earliest of equals."""
    trials = points(ranges, count=count) if start is None else [start, *points(ranges, count=count - 1)]
    return Chosen.best([(settings, score(settings)) for settings in trials])
