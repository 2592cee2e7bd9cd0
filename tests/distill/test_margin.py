"""How far a figure may differ by chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_validation import LEVEL, PLANTED, validation
from topical_world import TopicalWorld

from recdistill.distill.config import ChooseBy
from recdistill.distill.margin import ratio_influences, standard_error


def test_influences_and_their_error_by_hand():
    # Three questions of two users, two of them answered: the mean is 2/3.
    found = ratio_influences(np.array([1, 0, 1]), np.array([7, 7, 9]))
    assert found == pytest.approx([(1 - 4 / 3) * 2 / 3, (1 - 2 / 3) * 2 / 3])
    assert standard_error([found], [np.zeros(2)]) == pytest.approx(2 / 9)
    assert standard_error([found], [found]) == 0.0
    twice = standard_error([found, found], [np.zeros(2), np.zeros(2)])  # two samples: variances add up
    assert twice == pytest.approx(math.sqrt(2) * 2 / 9)
    assert standard_error([np.zeros(1)], [np.zeros(1)]) is None


@pytest.mark.parametrize("by", ["recall", "gid", "both", "frontier", "all"])
def test_influences_are_what_leaving_one_out_says(world_with_new: TopicalWorld, by: ChooseBy, monkeypatch):
    monkeypatch.setattr("recdistill.distill.validation._GID_AT", 10)
    asked = validation(world_with_new, by)
    found = asked.influences(PLANTED, level=LEVEL)
    assert [len(of) > 10 for of in found] == [True] * (2 if by in ("both", "all") else 1)
    assert all(abs(of.mean()) < 1e-9 and of.std() > 0 for of in found)
    if by == "gid":
        return
    # Of a user left out, the figure moves by − influence / (users − 1), to first order.
    whole, _ = asked.choice(asked.recall(PLANTED, level=LEVEL), PLANTED, level=LEVEL)
    users, moved = np.unique(asked.cases.user), []
    for user in users:
        fewer = validation(world_with_new, by)
        object.__setattr__(fewer, "cases", asked.cases.take(asked.cases.user != user))
        moved.append(fewer.choice(fewer.recall(PLANTED, level=LEVEL), PLANTED, level=LEVEL)[0] - whole)
    expected = -np.array(moved) * (len(users) - 1)
    assert np.corrcoef(found[0], expected)[0, 1] > 0.99
    assert found[0].std() == pytest.approx(expected.std(), rel=0.1)
