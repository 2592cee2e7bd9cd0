"""Independent random streams of one world, addressed by purpose and block."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream of random numbers is for. The numbers are part of the world: never reuse one."""

    TOPICS = 1
    ITEMS = 2
    ITEM_IDS = 3
    USER_IDS = 4
    USERS = 5
    VISITS = 6
    EXPOSURE = 7
    REACTIONS = 8
    CLOCK = 9
    TEXT = 10
    IMAGE = 11
    AUDIO = 12
    CONTENT = 13


def generator(seed: int, stream: Stream, block: int = 0) -> np.random.Generator:
    """The generator of one purpose and block; the same numbers whatever else was drawn before."""
    return np.random.default_rng([seed, int(stream), block])
