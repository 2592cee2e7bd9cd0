"""Popularity as a level: predicted from content for new items; simulated new items in training."""

from __future__ import annotations

import numpy as np
import pytest

from recdistill.distill.popularity import log_popularity


def test_content_tells_the_popularity_of_new_items() -> None:
    rng = np.random.default_rng(0)
    content = rng.normal(size=(400, 5))
    planted = 3 + content @ np.array([1.0, -0.5, 0.0, 0.0, 0.3])
    support = np.round(np.expm1(np.maximum(planted, 0.7)) + 1).astype(int)
    known = np.arange(400) < 300
    found = log_popularity(np.where(known, support, 0), content)
    truth = np.log1p(support)
    centre = truth[known].mean()
    np.testing.assert_allclose(found[known], truth[known] - centre)
    assert np.corrcoef(found[~known], truth[~known])[0, 1] > 0.95
    assert np.abs(found[~known] - (truth[~known] - centre)).mean() < 0.3


def test_where_everything_or_nothing_is_known() -> None:
    content = np.ones((3, 2))
    assert log_popularity(np.array([1, 1, 3]), content) == pytest.approx(np.log([2, 2, 4]) - np.log([2, 2, 4]).mean())
    assert log_popularity(np.zeros(3, int), content).tolist() == [0.0, 0.0, 0.0]
