"""The planted truth: how much a user likes an item, what the user then does, and whether the user comes back.

For user u, item i and time f in [0, 1] (the day's share of the log), with k the interest of u in i's topic::

    w_k(f) = (1 - f) weight_start + f weight_end          c_k(f) = (1 - f) style_start + f style_end
    affinity = [k exists] w_k(f) (0.2 + 0.8 exp(-|c_k(f) - style_i|² / 2h²)) + 0.06 quality_i

    P(click | looked at) = σ(-2.5 + 6 affinity)             P(looked at) = decay^(position - 1)
    P(finish | click) = σ(-1.5 + 3.5 affinity)
    P(like | click) = σ(-3 + 4 affinity)                    P(share | click) = σ(-4.5 + 4 affinity)

A visit's satisfaction is the mean of P(click | looked at) over what was shown, weighted by P(looked at). The user's
state is a moving average of it, and the user comes on any later day with probability ``σ(return_base + return_slope
state)``, independently, until the next visit changes the state. So in a held state the expected number of active days
among the next n (LT-n) is n times that probability.
"""

from __future__ import annotations

import numpy as np

from recdistill.ingest.synthetic.audience import Users
from recdistill.ingest.synthetic.catalogue import Catalogue

BEHAVIOURS = ("click", "finish", "like", "share")

TOPIC_SHARE = 0.2
QUALITY_WEIGHT = 0.06
CLICK_LOGIT = (-2.5, 6.0)
AFTER_CLICK_LOGITS = np.array([(-1.5, 3.5), (-3.0, 4.0), (-4.5, 4.0)], dtype=np.float32)  # finish, like, share
INITIAL_SATISFACTION = 0.3


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Logistic function."""
    return 1.0 / (1.0 + np.exp(-x))


def affinity(
    users: Users,
    user: np.ndarray,
    catalogue: Catalogue,
    item: np.ndarray,
    *,
    progress: np.ndarray | float,
    width: float,
) -> np.ndarray:
    """True affinity of pairs.

    Args:
        user, item: [n] rows.
        progress: [n] or one f in [0, 1].
        width: h, the ``taste_width`` of the world.

    Returns:
        [n] float32.
    """
    match = users.topics[user] == catalogue.topic[item][:, None]
    pair = np.flatnonzero(match.any(axis=1))
    result = np.float32(QUALITY_WEIGHT) * catalogue.quality[item]
    u, k = user[pair], match[pair].argmax(axis=1)
    f = np.broadcast_to(np.asarray(progress, dtype=np.float32), user.shape)[pair]
    weight = (1 - f) * users.weight_start[u, k] + f * users.weight_end[u, k]
    centre = users.style_start[u, k]
    centre = centre + f[:, None] * (users.style_end[u, k] - centre)
    gap = centre - catalogue.style[item[pair]]
    style = np.exp(np.einsum("ns,ns->n", gap, gap) * np.float32(-0.5 / width**2))
    result[pair] += weight * (np.float32(TOPIC_SHARE) + np.float32(1 - TOPIC_SHARE) * style)
    return result


def click_probability(affinity: np.ndarray) -> np.ndarray:
    """P(click | looked at); also the satisfaction that an item gives."""
    return sigmoid(CLICK_LOGIT[0] + CLICK_LOGIT[1] * affinity)


def after_click_probabilities(affinity: np.ndarray) -> np.ndarray:
    """[n] affinities to [n, 3] probabilities of finish, like, share given a click."""
    return sigmoid(AFTER_CLICK_LOGITS[:, 0] + AFTER_CLICK_LOGITS[:, 1] * affinity[:, None])


def look_probability(position: np.ndarray, *, decay: float) -> np.ndarray:
    """P(looked at) of positions 1, 2, …"""
    return np.float32(decay) ** (position - 1)


def return_probability(return_base: np.ndarray, satisfaction: np.ndarray, *, slope: float) -> np.ndarray:
    """P(active on a day) of a user in a state of satisfaction."""
    return sigmoid(return_base + slope * satisfaction)


def expected_active_days(return_base: np.ndarray, satisfaction: np.ndarray, *, slope: float, days: int) -> np.ndarray:
    """True LT-n of a held state: expected active days among the next ``days``."""
    return days * return_probability(return_base, satisfaction, slope=slope)
