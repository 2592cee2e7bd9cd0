"""Mining as one would write it down: user by user, target by target, with plain lists. What the fast way must equal."""

from __future__ import annotations

import numpy as np
import pandas as pd

from recdistill.contracts.log import Log
from recdistill.mining.config import PERSPECTIVES, MiningConfig, Perspective
from recdistill.mining.draws import race
from recdistill.mining.knowledge import Knowledge
from recdistill.retrieval.hashing import combine, hash_ids, mix, spread


def plain_pairs(log: Log, known: Knowledge, config: MiningConfig, *, seed: int) -> list[tuple]:
    """(perspective, user id, target id, time, query ids) in the order of the ``interest_pairs`` table."""
    return [
        (perspective, *found)
        for perspective in config.perspectives
        for user in range(len(log.user_ids))
        for found in _of_user(perspective, log, user, known, config, seed)
    ]


def _of_user(perspective, log, user, known, config, seed):
    events = [row for row in np.flatnonzero(log.user == user) if log.behaviours[row]]
    able = [row for row in events if int(log.behaviours[row]).bit_count() >= config.target_behaviours]
    for target in able[-config.targets_per_user :]:
        earlier = [row for row in events if log.time[row] < log.time[target]][-config.history :]
        latest = {log.item[row]: row for row in earlier if log.item[row] != log.item[target]}
        candidates = sorted(latest.values())
        query = _query(perspective, log, target, candidates, known, config, seed)
        if len(query) >= config.min_length:
            yield (
                log.user_ids[user],
                log.item_ids[log.item[target]],
                pd.Timestamp(log.time[target], unit="us", tz="UTC"),
                [log.item_ids[log.item[row]] for row in query],
            )


def _query(perspective: Perspective, log, target, candidates, known, config, seed):
    single = perspective.endswith("single_peak")
    needed = config.single_peak_needs(len(log.behaviour_names)) if single else config.multi_peak_behaviours
    left = [row for row in candidates if int(log.behaviours[row]).bit_count() >= needed]
    if perspective in ("content_multi_peak", "collaborative_single_peak"):
        left = [row for row in left if _jaccard(log.behaviours[row], log.behaviours[target]) > config.jaccard]
    if perspective == "content_single_peak":
        vectors = known.content
        left = [row for row in left if vectors[log.item[row]].any() and vectors[log.item[target]].any()]
        near = {row: np.einsum("d,d->", vectors[log.item[row]], vectors[log.item[target]]) for row in left}
        left = [row for row in left if near[row] >= config.content_similarity]
        return sorted(sorted(left, key=lambda row: (-near[row], row))[: config.length])
    share: dict[int, float] = {}
    for row in candidates:
        cluster = known.cluster[log.item[row]]
        if cluster >= 0:
            share[cluster] = share.get(cluster, 0) + 1
    share = {cluster: count / sum(share.values()) for cluster, count in share.items()}
    if perspective != "content_multi_peak":
        left = [row for row in left if known.cluster[log.item[row]] >= 0]
    if perspective == "collaborative_single_peak":
        carrying, covered = set(), 0.0
        for cluster in sorted(share, key=lambda cluster: (-share[cluster], cluster)):
            if covered < config.coverage:
                carrying.add(cluster)
            covered += share[cluster]
        left = [row for row in left if known.cluster[log.item[row]] in carrying]
    if len(left) < config.min_length:
        return []
    draw = {row: _draw(perspective, log, target, row, seed) for row in left}
    if perspective == "collaborative_multi_peak":
        of = [known.cluster[log.item[row]] for row in left]
        draw = {
            row: race(np.array([draw[row]]), np.array([share[cluster] / of.count(cluster)]))[0]
            for row, cluster in zip(left, of, strict=True)
        }
    return sorted(sorted(left, key=lambda row: (draw[row], row))[: config.length])


def _draw(perspective, log, target, row, seed) -> int:
    def item(at):
        return hash_ids(log.item_ids[[log.item[at]]])

    which = np.array([PERSPECTIVES.index(perspective)], dtype=np.uint64)
    user = hash_ids(log.user_ids[[log.user[target]]])
    # Items' hashes are spread once before, and once more by mix.
    state = mix(seed, which, user, spread(item(target)), log.time[[target]])
    return int(combine(state, spread(item(row)))[0] >> np.uint64(32))


def _jaccard(a, b) -> float:
    return int(a & b).bit_count() / max(int(a | b).bit_count(), 1)
