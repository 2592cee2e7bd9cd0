"""Random draws that belong to (seed, perspective, user, target, candidate), so that no partition can change them.

Shapes: U users, T targets, M entries.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from recdistill.contracts.log import Log
from recdistill.mining.config import PERSPECTIVES, Perspective
from recdistill.retrieval.hashing import combine, hash_ids, mix

_UNIT = 2.0**-32


class Draws:
    """A log's draws: hashes of the ids and the target's time, never of a row number."""

    def __init__(self, log: Log, *, item_keys: np.ndarray, seed: int) -> None:
        """``item_keys``: [I] uint64, the spread hash of each item's id."""
        self._log, self._item_keys, self._seed = log, item_keys, seed

    @cached_property
    def _users(self) -> np.ndarray:
        return hash_ids(self._log.user_ids)

    def targets(self, perspective: Perspective, targets: np.ndarray) -> np.ndarray:
        """[T] uint64 state of each target (a row of the log) in one perspective."""
        log = self._log
        parts = (self._users[log.user[targets]], self._item_keys[log.item[targets]], log.time[targets])
        which = np.uint64(PERSPECTIVES.index(perspective))
        return mix(self._seed, np.asarray(which), *parts)

    def draw(self, states: np.ndarray, owner: np.ndarray, item: np.ndarray) -> np.ndarray:
        """[M] uint32, uniform: one draw an entry.

        Args:
            states: [T] of :meth:`targets`; owner: [M] rows of it; item: [M] the candidates' items.
        """
        bits = combine(states[owner], self._item_keys[item])
        return (bits >> np.uint64(32)).astype(np.uint32)


def race(draw: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """[M] uint32: the entries with the smallest are a sample without replacement in proportion to the weights.

    Exponential times −log(1 − v) / w (Efraimidis and Spirakis, Information Processing Letters 97, 2006); their float32
    bits ascend as they do.

    Args:
        draw: [M] uint32, uniform; weight: [M] float64 > 0.
    """
    times = -np.log1p(-(draw + 0.5) * _UNIT) / weight
    return times.astype(np.float32).view(np.uint32)
