"""The leakage report: what must hold between the parts of a fold, checked on the parts themselves."""

from __future__ import annotations

from typing import Any

import numpy as np

from recdistill.errors import UserError
from recdistill.split.assign import PARTS

_TRAIN, _VALIDATION, _TEST = 0, 1, 2


def check(
    protocol: str, *, part: np.ndarray, time: np.ndarray, user: np.ndarray, item: np.ndarray, roles: np.ndarray
) -> dict[str, Any]:
    """Count the parts and prove that training cannot see what is asked.

    Args:
        part: [n] index into ``PARTS``; time: [n] microseconds; user, item: [n] row numbers; roles: [I].

    Returns:
        ``{"counts": …, "cold_items": …, "checks": {name: True}}``.

    Raises:
        UserError: a window is empty, or a check does not hold.
    """
    in_train, in_validation, in_test = part == _TRAIN, part == _VALIDATION, part == _TEST
    for name, window in (("training", in_train), ("validation", in_validation), ("test", in_test)):
        if not window.any():
            raise UserError(
                f"split: the {name} window is empty", remedy="give it a larger share, or bring more interactions"
            )
    before_test = ~in_test & (part != PARTS.index("test_judge.parquet"))
    checks = {
        "no test-cold item before the test window": not (roles[item[before_test]] == "test_cold").any(),
        "no cold item in training": bool((roles[item[in_train]] == "warm").all()),
    }
    if protocol == "time":
        checks["training ends before validation begins"] = bool(time[in_train].max() < time[in_validation].min())
        checks["validation ends before the test begins"] = bool(time[in_validation].max() < time[in_test].min())
    else:
        checks["test users are not in training"] = not np.intersect1d(user[in_test], user[before_test]).size
        checks["validation users are not in training"] = not np.intersect1d(user[in_validation], user[in_train]).size
    broken = [name for name, holds in checks.items() if not holds]
    if broken:
        raise UserError(
            f"split: the leakage check failed: {'; '.join(broken)}", remedy="this is a fault of recdistill: report it"
        )
    counts = {file.removesuffix(".parquet"): int((part == index).sum()) for index, file in enumerate(PARTS)}
    users = {
        name: len(np.unique(user[window]))
        for name, window in (("train", in_train), ("validation", in_validation), ("test", in_test))
    }
    cold = {role: int((roles == role).sum()) for role in ("warm", "validation_cold", "test_cold")}
    return {"counts": counts, "users": users, "items": cold, "checks": checks}
