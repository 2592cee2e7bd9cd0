"""Which part of a fold each interaction belongs to.

Shapes: n interactions, U users, I items. A part is an index into :data:`PARTS`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recdistill.contracts import fold as layout
from recdistill.errors import UserError

PARTS = (layout.TRAIN, layout.VALIDATION, layout.TEST, layout.VALIDATION_JUDGE, layout.TEST_JUDGE)
_TRAIN, _VALIDATION, _TEST, _VALIDATION_JUDGE, _TEST_JUDGE = range(len(PARTS))


@dataclass(frozen=True)
class HeldOut:
    """What a user-disjoint, item-cold fold keeps from training.

    Attributes:
        test_user, validation_user: [U] bool, disjoint.
        test_item, validation_item: [I] bool, disjoint.
    """

    test_user: np.ndarray
    test_item: np.ndarray
    validation_user: np.ndarray
    validation_item: np.ndarray


def time_cuts(time: np.ndarray, *, validation: float, test: float) -> tuple[int, int]:
    """Cut times such that about ``validation`` and ``test`` of the events fall behind them.

    Args:
        time: [n] int64 microseconds.

    Returns:
        (first, second): training is ``time < first``, validation ``first <= time < second``, test ``second <= time``.

    Raises:
        UserError: the times do not spread enough to leave three windows that are not empty.
    """
    first, second = np.quantile(time, [1 - validation - test, 1 - test], method="higher")
    if not time.min() < first < second:
        raise UserError(
            "split: the timestamps do not spread over three windows (too many events share one time)",
            remedy="check the timestamp column and its unit, or use split.protocol=folds",
        )
    return int(first), int(second)


def by_time(time: np.ndarray, cuts: tuple[int, int]) -> np.ndarray:
    """[n] int8 part of each interaction under half-open windows."""
    return np.searchsorted(np.asarray(cuts), time, side="right").astype(np.int8)


def groups(count: int, *, parts: int, rng: np.random.Generator) -> np.ndarray:
    """[count] int group of each member: a random partition into ``parts`` groups of equal size (± 1)."""
    return rng.permutation(np.arange(count) % parts)


def by_fold(user: np.ndarray, item: np.ndarray, held: HeldOut) -> np.ndarray:
    """[n] int8 part of each interaction in a user-disjoint, item-cold fold.

    Args:
        user, item: [n] row numbers.
    """
    part = np.full(len(user), _TRAIN, dtype=np.int8)
    part[held.validation_item[item]] = _VALIDATION_JUDGE
    part[held.validation_user[user]] = _VALIDATION
    part[held.test_item[item]] = _TEST_JUDGE
    part[held.test_user[user]] = _TEST
    return part


def item_roles(item: np.ndarray, part: np.ndarray, count: int) -> np.ndarray:
    """[I] role of each item: warm if training has it, else cold from the validation or from the test window on."""
    trained = np.bincount(item[part == _TRAIN], minlength=count) > 0
    validated = np.bincount(item[(part == _VALIDATION) | (part == _VALIDATION_JUDGE)], minlength=count) > 0
    return np.where(trained, "warm", np.where(validated, "validation_cold", "test_cold"))
