"""How popular items are, and what content says of those that nobody has met.

Shapes: I items, d width.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import RidgeCV

from recdistill.features.content_level import ContentLevel

_PENALTIES = np.logspace(-2, 3, 11)


def log_popularity(support: np.ndarray, content: np.ndarray) -> np.ndarray:
    """[I] float64 log(1 + users) of known items, and what content predicts of the others; the known ones' mean is 0.

    Args:
        support: [I] users who were positive about each item in training; 0 = not known.
        content: [I, d].
    """
    known = support > 0
    logs = np.log1p(support.astype(np.float64))
    if known.any():
        logs -= logs[known].mean()
    if not known.all():
        logs[~known] = predicted_popularity(support, content)(content[~known])
    return logs


def predicted_popularity(support: np.ndarray, content: np.ndarray) -> ContentLevel:
    """What :func:`log_popularity` says of an item that nobody has met: ridge regression on content.

    The penalty is chosen by leave-one-out error over the known items; without any, all are alike.
    """
    known = support > 0
    if not known.any():
        return ContentLevel(np.zeros(content.shape[1]), 0.0)
    logs = np.log1p(support[known].astype(np.float64))
    model = RidgeCV(alphas=_PENALTIES).fit(content[known], logs - logs.mean())
    return ContentLevel(np.asarray(model.coef_, dtype=np.float64), float(model.intercept_))
