"""Whether a log tells of what did not please: where several stages ask it, they must agree."""

from __future__ import annotations

from typing import Literal

import numpy as np

from recdistill.contracts.log import Log

Negatives = Literal["logged", "sampled"]


def negatives_of(*windows: Log, min_share: float) -> Negatives:
    """Whether enough events are without positive behaviour to serve as the negatives.

    Args:
        windows: a fold's validation and test windows (``Fold.targets``), whose events rankers learn from and are
            tested on.
        min_share: of their events.
    """
    share = np.concatenate([window.behaviours == 0 for window in windows]).mean()
    return "logged" if share >= min_share else "sampled"
