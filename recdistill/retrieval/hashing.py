"""Random draws that are pure functions of (seed, ids), so that no row order or batch can change them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pandas.util import hash_array

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def hash_ids(ids: pd.Index) -> np.ndarray:
    """A fixed 64-bit hash of each id (string or int64), the same on every machine.

    Returns:
        [len(ids)] uint64.
    """
    values = ids.to_numpy()
    return np.asarray(hash_array(values if values.dtype.kind in "iu" else values.astype(object), categorize=False))


def mix(seed: int, *parts: np.ndarray) -> np.ndarray:
    """Combine a seed and arrays of uint64 (broadcast together) into one uint64 each.

    The finaliser is that of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, Fig. 13).
    """
    state = np.asarray(np.uint64(seed % 2**64))
    with np.errstate(over="ignore"):
        for part in parts:
            state = combine(state, spread(part.astype(np.uint64)))
    return state


def combine(state: np.ndarray, part: np.ndarray) -> np.ndarray:
    """One step of :func:`mix`: a state and a part that was spread, uint64, broadcast together."""
    return spread(state + _GOLDEN + part)


def spread(value: np.ndarray) -> np.ndarray:
    """Every bit of the result depends on every bit of the uint64 given."""
    value = (value ^ (value >> np.uint64(30))) * _FIRST
    value = (value ^ (value >> np.uint64(27))) * _SECOND
    return np.asarray(value ^ (value >> np.uint64(31)))
