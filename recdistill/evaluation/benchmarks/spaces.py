"""Benchmarks that compare a subject's space with the judge's, or true with random pairs.

Shapes: C vanilla questions, J judged items, I items of the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans

from recdistill.contracts.records import Records
from recdistill.evaluation.benchmarks.judge import Judge
from recdistill.evaluation.config import EvaluateConfig
from recdistill.evaluation.metrics.structure import (
    bijective_by_row,
    kendall_by_row,
    nmi,
    overlap_by_row,
    overlap_coefficient,
)
from recdistill.evaluation.questions import Questions, splits
from recdistill.evaluation.subjects import Subject, VectorSubject
from recdistill.retrieval.hashing import hash_ids, mix


class Bijective:
    """Share of queries whose nearest target's nearest query is themselves, among users' questions."""

    def __init__(self, questions: Questions, item_ids: pd.Index, *, pairs: int, seed: int) -> None:
        draw = mix(seed, hash_ids(item_ids)[questions.target], hash_ids(questions.unit_ids)[questions.unit])
        order = np.argsort(draw, kind="stable")
        _, first = np.unique(questions.target[order], return_index=True)  # a target twice would tie with itself
        self._questions = questions.take(np.sort(order[np.sort(first)[:pairs]]))

    def record(self, records: Records, subject: Subject) -> None:
        asked = self._questions
        if len(asked) < 2:
            return
        aligned = bijective_by_row(subject.scores(asked.query, asked.target))
        for split, rows in splits(asked.known):
            unit = asked.unit[rows]
            records.add(subject.name, "bijective", split, "bijective_accuracy", unit, asked.unit_ids, aligned[rows])


class RankingConsistency:
    """Kendall's τ and top-k overlap between the subject's and the judge's rankings of the same judged items."""

    def __init__(
        self, judge: Judge, item_ids: pd.Index, *, cold: np.ndarray, anchors: int, rivals: int, top: int, seed: int
    ) -> None:
        order = np.argsort(mix(seed, hash_ids(item_ids[judge.items])), kind="stable")
        anchors = min(anchors, len(order) // 2)
        anchor, rival = np.sort(order[:anchors]), np.sort(order[anchors : anchors + rivals])  # none is its own rival
        self._anchors, self._rivals = judge.items[anchor], judge.items[rival]
        self._truth = (judge.vectors[anchor] @ judge.vectors[rival].T).astype(np.float64)
        self._item_ids, self._known, self._top = item_ids, ~cold[self._anchors], top

    def record(self, records: Records, subject: Subject) -> None:
        if len(self._rivals) < 2:
            return
        found = subject.scores(self._anchors[:, None], self._rivals)
        by_anchor = {
            "kendall_tau": kendall_by_row(found, self._truth),
            f"topk_overlap_at_{self._top}": overlap_by_row(found, self._truth, k=self._top),
        }
        for metric, values in by_anchor.items():
            for split, rows in splits(self._known):
                unit = self._anchors[rows]
                records.add(subject.name, "ranking_consistency", split, metric, unit, self._item_ids, values[rows])


class Clustering:
    """NMI of the subject's k-means clusters with the judge's clusters, and with the items' labels."""

    def __init__(
        self,
        judge: Judge,
        classes: np.ndarray | None,
        item_ids: pd.Index,
        *,
        cold: np.ndarray,
        clusters: int,
        items: int,
        seed: int,
    ) -> None:
        self._clusters, self._seed, self._cold = clusters, seed, cold
        self._tasks: list[tuple[str, np.ndarray, np.ndarray]] = []
        if len(judge.items) > clusters:
            chosen = _draw(item_ids[judge.items], items, seed)
            self._tasks.append(("nmi", judge.items[chosen], self._assign(judge.vectors[chosen])))
        if classes is not None and (classes >= 0).sum() > clusters:
            labelled = np.flatnonzero(classes >= 0)
            labelled = labelled[_draw(item_ids[labelled], items, seed)]
            self._tasks.append(("nmi_labels", labelled, classes[labelled]))

    def record(self, records: Records, subject: VectorSubject) -> None:
        for metric, items, truth in self._tasks:
            here = subject.present[items]
            if here.sum() <= self._clusters:
                continue
            found = np.full(len(items), -1)  # what has no vector is a cluster of its own
            vectors = subject.vectors[items[here]]
            found[here] = self._assign(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
            for split, rows in splits(~self._cold[items]):
                records.whole(subject.name, "clustering", split, metric, nmi(found[rows], truth[rows]))

    def _assign(self, vectors: np.ndarray) -> np.ndarray:
        return np.asarray(KMeans(self._clusters, n_init=2, random_state=self._seed).fit_predict(vectors))


class Separability:
    """True (query, target) pairs against random ones: uniform items, and targets of others (as popular as these)."""

    def __init__(self, questions: Questions, item_ids: pd.Index, *, pairs: int, seed: int) -> None:
        target, user = hash_ids(item_ids)[questions.target], hash_ids(questions.unit_ids)[questions.unit]
        drawn = np.sort(np.argsort(mix(seed, user, target), kind="stable")[:pairs])
        self._questions = questions.take(drawn)
        place = mix(seed + 1, user, target)[drawn]
        uniform = (place % np.uint64(len(item_ids))).astype(np.int64)
        self._negatives = {"random": uniform, "matched": self._of_others(np.argsort(place, kind="stable"), questions)}

    def _of_others(self, order: np.ndarray, questions: Questions) -> np.ndarray:
        """[C] targets in the order given, moved on where one is a target of the very user."""
        asked, items = self._questions, int(questions.target.max(initial=0)) + 1
        own = questions.unit.astype(np.int64) * items + questions.target
        others = asked.target[order]
        for shift in range(1, len(order)):
            wrong = np.isin(asked.unit.astype(np.int64) * items + others, own)
            if not wrong.any():
                break
            others[wrong] = asked.target[np.roll(order, shift)][wrong]
        return others

    def record(self, records: Records, subject: VectorSubject) -> pd.DataFrame:
        """Record AUC (placement of each true pair among the random ones) and overlap.

        An item without a vector stands below all others in AUC, and has no similarity that could overlap.

        Returns:
            subject, split (warm or cold), kind (true, random or matched), similarity: for plots.
        """
        asked = self._questions
        if not len(asked):
            return pd.DataFrame()
        true = subject.similarities(asked.query, asked.target)
        false = {kind: subject.similarities(asked.query, items) for kind, items in self._negatives.items()}
        for split, rows in splits(asked.known):
            for kind, metric in (("random", "auc"), ("matched", "auc_matched")):
                placed = placement(true[rows], false[kind][rows])
                records.add(subject.name, "separability", split, metric, asked.unit[rows], asked.unit_ids, placed)
            here, there = _present(true[rows]), _present(false["random"][rows])
            if len(here) and len(there):
                overlap = overlap_coefficient(here, there)
                records.whole(subject.name, "separability", split, "overlap_coefficient", overlap)
        parts = np.where(asked.known, "warm", "cold")
        frames = [
            pd.DataFrame({"subject": subject.name, "split": parts, "kind": kind, "similarity": values})
            for kind, values in {"true": true, **false}.items()
        ]
        return pd.concat(frames, ignore_index=True).dropna(ignore_index=True)


def _present(similarities: np.ndarray) -> np.ndarray:
    return similarities[~np.isnan(similarities)]


def placement(true: np.ndarray, random: np.ndarray) -> np.ndarray:
    """[n] share of random scores below each true one, ties half: its mean is the AUC. NaN stands below all."""
    true, random = (np.nan_to_num(scores, nan=-np.inf) for scores in (true, random))
    ordered = np.sort(random)
    sides = [np.searchsorted(ordered, true, side) for side in ("left", "right")]
    return np.asarray((sides[0] + sides[1]) / (2 * len(random)))


def _draw(ids: pd.Index, count: int, seed: int) -> np.ndarray:
    return np.sort(np.argsort(mix(seed, hash_ids(ids)), kind="stable")[:count])


@dataclass(frozen=True)
class Spaces:
    """The comparisons that the settings ask for."""

    bijective: Bijective | None
    ranking: RankingConsistency | None
    clustering: Clustering | None
    separability: Separability | None

    @classmethod
    def build(
        cls,
        config: EvaluateConfig,
        *,
        questions: Questions,
        judge: Judge,
        classes: np.ndarray | None,
        item_ids: pd.Index,
        cold: np.ndarray,
        seed: int,
    ) -> Spaces:
        asked, of = set(config.benchmarks), config.judge
        return cls(
            Bijective(questions, item_ids, pairs=config.bijective_pairs, seed=seed) if "bijective" in asked else None,
            RankingConsistency(judge, item_ids, cold=cold, anchors=of.anchors, rivals=of.rivals, top=of.top, seed=seed)
            if "ranking_consistency" in asked
            else None,
            Clustering(judge, classes, item_ids, cold=cold, clusters=of.clusters, items=of.cluster_items, seed=seed)
            if "clustering" in asked
            else None,
            Separability(questions, item_ids, pairs=config.separability_pairs, seed=seed)
            if "separability" in asked
            else None,
        )

    def record(self, records: Records, subject: Subject) -> pd.DataFrame:
        """Record every comparison that the subject allows; clusters and similarities need vectors.

        Returns:
            the similarities of true and random pairs, for plots; empty where there are none.
        """
        if self.bijective is not None:
            self.bijective.record(records, subject)
        if self.ranking is not None:
            self.ranking.record(records, subject)
        if not isinstance(subject, VectorSubject):
            return pd.DataFrame()
        if self.clustering is not None:
            self.clustering.record(records, subject)
        return self.separability.record(records, subject) if self.separability is not None else pd.DataFrame()
