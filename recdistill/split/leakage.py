"""The leakage report: what must hold between the parts of a fold.

The parts are checked against what the fold was cut by (the cut times, or the users and items drawn), not against roles:
roles are read off the parts, so a leak would change both and show in neither.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recdistill.errors import UserError
from recdistill.split.assign import PARTS, HeldOut

_TRAIN, _VALIDATION, _TEST, _VALIDATION_JUDGE, _ = range(len(PARTS))


def check(
    by: tuple[int, int] | HeldOut,
    *,
    part: np.ndarray,
    time: np.ndarray,
    user: np.ndarray,
    item: np.ndarray,
    roles: np.ndarray,
) -> dict[str, Any]:
    """Count the parts and prove that training cannot see what is asked.

    Args:
        by: the cut times in microseconds, or what was drawn to be held out.
        part: [n] index into ``PARTS``; time: [n] microseconds; user, item: [n] row numbers; roles: [I].

    Returns:
        ``{"counts": …, "users": …, "items": …, "checks": {name: True}}``.

    Raises:
        UserError: a window is empty, or a check does not hold.
    """
    windows = {"train": part == _TRAIN, "validation": part == _VALIDATION, "test": part == _TEST}
    for name, window in windows.items():
        if not window.any():
            raise UserError(
                f"split: the {name.replace('train', 'training')} window is empty",
                remedy="give it a larger share, or bring more interactions",
            )
    if isinstance(by, HeldOut):
        checks = _held_out(by, part=part, user=user, item=item, roles=roles)
    else:
        checks = _windows(by, part=part, time=time, item=item, roles=roles)
    broken = [name for name, holds in checks.items() if not holds]
    if broken:
        raise UserError(
            f"split: the leakage check failed: {'; '.join(broken)}", remedy="this is a fault of recdistill: report it"
        )
    counts = {file.removesuffix(".parquet"): int((part == index).sum()) for index, file in enumerate(PARTS)}
    users = {name: int(np.count_nonzero(np.bincount(user[window]))) for name, window in windows.items()}
    cold = {role: int((roles == role).sum()) for role in ("warm", "validation_cold", "test_cold")}
    return {"counts": counts, "users": users, "items": cold, "checks": checks}


def _windows(
    cuts: tuple[int, int], *, part: np.ndarray, time: np.ndarray, item: np.ndarray, roles: np.ndarray
) -> dict[str, bool]:
    first, second = cuts
    return {
        "no test-cold item before the test window": not (roles == "test_cold")[item[time < second]].any(),
        "no cold item in training": bool((roles == "warm")[item[time < first]].all()),
        "training ends before validation begins": bool(
            time[part == _TRAIN].max() < first <= time[part == _VALIDATION].min()
        ),
        "validation ends before the test begins": bool(
            time[part == _VALIDATION].max() < second <= time[part == _TEST].min()
        ),
    }


def _held_out(
    held: HeldOut, *, part: np.ndarray, user: np.ndarray, item: np.ndarray, roles: np.ndarray
) -> dict[str, bool]:
    # The final fit trains on all three.
    before_test = np.isin(part, (_TRAIN, _VALIDATION, _VALIDATION_JUDGE))
    trained = part == _TRAIN
    return {
        "no test-cold item before the test window": not held.test_item[item[before_test]].any(),
        "no cold item in training": not (held.test_item | held.validation_item)[item[trained]].any(),
        "held-out items are marked cold": bool(
            (roles[held.test_item] == "test_cold").all() and (roles[held.validation_item] != "warm").all()
        ),
        "test users are not in training": not held.test_user[user[before_test]].any(),
        "validation users are not in training": not held.validation_user[user[trained]].any(),
        "only held-out users are asked": bool(
            held.test_user[user[part == _TEST]].all() and held.validation_user[user[part == _VALIDATION]].all()
        ),
    }
