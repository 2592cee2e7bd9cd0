"""With what probability a shown item is looked at: by the log's order, by another order, by rank where none is told.

Shapes: n rows (an item shown in a group: a page, or all that a user was shown in a window), M positions.

Two models. *Position-based* (Craswell et al., WSDM 2008; Joachims, Swaminathan, Schnabel, WSDM 2017): an item at
position k is looked at with probability ``look[k − 1]``, whatever it is, and pleases, if looked at, wherever it stands.
*By rank*: where a log tells no positions it is taken to have been looked at evenly, and a policy looks at an item the
less, the larger the share of its group that its ranker puts first (``looks_by_rank``).
"""

from __future__ import annotations

import numpy as np
from scipy.stats import nhypergeom


def look_propensities(position: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Estimate the look at each position, relative to the first, as the positions' rates of positives.

    Only of pages in *random* order: there what stands at a position says nothing of the item. In a ranker's own order
    the better items stand first, and their merit would pass for looks; regressing the merit away (Wang et al., WSDM
    2018) leaves as much of that as the regression does not know. So a small share of traffic has to be shuffled.

    Args:
        position: [n] int ≥ 1.
        positive: [n] bool.

    Returns:
        [M] float64, the first 1.

    Raises:
        ValueError: a position without rows, or no positive at the first.
    """
    shown = np.bincount(position - 1)
    pleased = np.bincount(position - 1, weights=positive, minlength=len(shown))
    if not shown.all() or pleased[0] == 0:
        raise ValueError("every position needs rows, and the first one positives")
    rate = pleased / shown
    return np.asarray(rate / rate[0])


def ranked_positions(group: np.ndarray, score: np.ndarray) -> np.ndarray:
    """[n] int64 position 1, 2, … of each row in its group by descending score; rows of equal score keep their order."""
    order = np.lexsort((np.arange(len(group)), -score, group))
    ordered = group[order]
    new = np.ones(len(group), dtype=bool)
    new[1:] = ordered[1:] != ordered[:-1]
    place = np.arange(len(group))
    position = np.empty(len(group), dtype=np.int64)
    position[order] = place - np.maximum.accumulate(np.where(new, place, 0)) + 1
    return position


def look_of_random_subset(look: np.ndarray, *, shown: int, candidates: int) -> np.ndarray:
    """Expected look that a policy gives an item which is its r-th best of a random page.

    A page of ``shown`` items drawn evenly from ``candidates`` stands for all of them: the page's r-th best item has
    rank R among the candidates with the negative hypergeometric distribution, and the policy shows ranks 1 … M.

    Args:
        look: [M] at the positions of the policy's page.

    Returns:
        [shown] float64 for r = 1 … shown; ``look`` itself where all candidates are shown.
    """
    rank = np.arange(1, shown + 1)
    better = np.arange(candidates - shown + 1)  # unseen candidates ahead of the item
    chance = nhypergeom.pmf(better[None, :], candidates, candidates - shown, rank[:, None])
    at = np.zeros(candidates + 1)
    at[1 : 1 + min(len(look), candidates)] = look[:candidates]
    return np.asarray((chance * at[rank[:, None] + better[None, :]]).sum(axis=1))


def looks_by_rank(group: np.ndarray, score: np.ndarray, *, sharpness: float, groups: int) -> np.ndarray:
    """[n] look ∝ exp(−sharpness · q) within a group, with mean 1 there: what an even look of 1 becomes.

    q is the share of the group that is scored higher, a row itself and those of its score counting half. So a group's
    first has up to exp(sharpness) times the look of its last, however many they are, and how far scores lie apart does
    not matter. Without ties no look exceeds sharpness / (1 − exp(−sharpness)).

    Args:
        group: [n] int below ``groups``.
    """
    size = np.bincount(group, minlength=groups)
    order = np.lexsort((-score, group))
    of, scored = group[order], score[order]
    new = np.ones(len(group), dtype=bool)  # a run of rows of one group and score
    new[1:] = (of[1:] != of[:-1]) | (scored[1:] != scored[:-1])
    first = np.flatnonzero(new)
    run = np.diff(np.append(first, len(group)))
    higher = np.repeat(first + run / 2, run) - (np.cumsum(size) - size)[of]
    look = np.empty(len(group))
    look[order] = np.exp(-sharpness * higher / size[of])
    total = np.bincount(group, weights=look, minlength=groups)
    return np.asarray(look * (size / np.maximum(total, 1e-300))[group])
