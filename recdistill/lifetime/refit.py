"""A ridge regression fitted again on every draw of users, from sums over each user's entries.

Shapes: E entries, c columns, U users, r draws.
"""

from __future__ import annotations

import numpy as np

from recdistill.lifetime.surrogate import PENALTY

_ROUNDING = 1e-9
_CONSTANT = 1e-12  # variance, of a column's own, below which a draw shows nothing of it


class Refits:
    """What ``surrogate.fit_ridge`` gives on the entries of drawn users.

    Memory: 4 · U · (c + 2) · (c + 3) bytes, and 8 · E · (c + 2).

    Args:
        matrix: [E, c].
        outcome: [E].
        user: [E] int below ``users``.
    """

    def __init__(self, matrix: np.ndarray, outcome: np.ndarray, user: np.ndarray, *, users: int) -> None:
        known = np.column_stack([matrix, outcome])
        self._centre = known.mean(axis=0)
        scale = known.std(axis=0)
        self._scale = np.where(scale > _ROUNDING * np.abs(known).max(axis=0), scale, 1.0)
        known = np.column_stack([np.ones(len(known)), (known - self._centre) / self._scale])
        self._pairs = np.triu_indices(known.shape[1])
        self._sums = np.stack(
            [
                np.bincount(user, weights=known[:, one] * known[:, other], minlength=users)
                for one, other in zip(*self._pairs, strict=True)
            ],
            axis=1,
        )

    def __call__(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The regressions where user u is drawn ``weight[:, u]`` times.

        Args:
            weight: [r, U].

        Returns:
            [r] intercepts and [r, c] slopes, in the columns' own units; NaN for a draw without entries.
        """
        size = len(self._centre) + 1
        sums = np.empty((len(weight), size, size))
        one, other = self._pairs
        sums[:, one, other] = sums[:, other, one] = weight @ self._sums
        entries = np.where(sums[:, 0, 0] > 0, sums[:, 0, 0], np.nan)[:, None]
        mean = sums[:, 0, 1:] / entries
        spread = sums[:, 1:, 1:] / entries[:, :, None] - mean[:, :, None] * mean[:, None, :]
        variance = np.diagonal(spread, axis1=1, axis2=2)[:, :-1]
        deviation = np.sqrt(np.where(variance > _CONSTANT, variance, 1.0))
        square = entries[:, :, None] * spread[:, :-1, :-1] / (deviation[:, :, None] * deviation[:, None, :])
        square += PENALTY * np.eye(size - 2)
        right = entries * spread[:, :-1, -1] / deviation
        slopes = np.linalg.solve(square, right[:, :, None])[:, :, 0] / deviation
        shift = mean[:, -1] - (slopes * mean[:, :-1]).sum(axis=1)
        slopes = slopes * self._scale[-1] / self._scale[:-1]
        intercept = self._centre[-1] + self._scale[-1] * shift - slopes @ self._centre[:-1]
        return intercept, slopes
