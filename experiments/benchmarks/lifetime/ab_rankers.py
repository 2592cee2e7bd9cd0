"""Rankers to put to the test: learned with and without features of content or behaviour, and of graded error.

Shapes: U users, I items, n pairs, d width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ab_platform import Arm, Platform, Scorer
from scipy.sparse import csr_array
from sklearn.decomposition import TruncatedSVD
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from recdistill.contracts.fold import Fold
from recdistill.contracts.tables import EmbeddingTable
from recdistill.errors import UserError
from recdistill.ingest.synthetic.catalogue import DAY as MICROSECONDS
from recdistill.ingest.synthetic.catalogue import FRESH_DAYS

_SMOOTHING = 20.0  # looks at the common rate
_FEWEST_CLICKS = 5


def unit(vectors: np.ndarray) -> np.ndarray:
    """Centred over the rows that are not zero, and of unit length."""
    known = (vectors != 0).any(axis=1)
    moved = np.where(known[:, None], vectors - vectors[known].mean(axis=0), 0.0)
    return np.asarray(moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-9), dtype=np.float32)


def spaces(platform: Platform, arm: Arm, *, until: int, seed: int) -> dict[str, np.ndarray]:
    """[I, d] unit vectors made of the days before ``until``: random, content, behaviour, and content sent to it."""
    rng = np.random.default_rng(seed)
    catalogue = platform.catalogue
    views = catalogue.views[:, :5] + 0.7 * rng.standard_normal((len(catalogue), 5))
    genre = np.eye(int(catalogue.genre.max()) + 1)[catalogue.genre]
    content = np.hstack([views, 1.5 * genre, catalogue.nuisance])
    rows = arm.events(start=0, stop=until)
    rows = rows[arm.clicked[rows]]
    clicks = csr_array(
        (np.ones(len(rows)), (arm.user[rows], arm.item[rows])), shape=(len(platform.users), len(catalogue))
    )
    often = np.asarray(clicks.sum(axis=0)).ravel()
    weighted = clicks.multiply(1 / np.sqrt(np.maximum(clicks.sum(axis=1), 1))[:, None])
    weighted = csr_array(weighted.multiply(1 / np.sqrt(np.maximum(often, 1))[None, :]))
    behaviour = TruncatedSVD(32, random_state=seed).fit(weighted).components_.T * (often > 0)[:, None]
    warm = np.flatnonzero(often >= _FEWEST_CLICKS)
    target = unit(behaviour)
    scaled = StandardScaler().fit_transform(content)
    kernel = make_pipeline(Nystroem(n_components=min(300, len(warm)), gamma=0.05, random_state=seed), Ridge(1.0))
    return {
        "random": unit(rng.standard_normal((len(catalogue), 32))),
        "content": unit(scaled),
        "behaviour": target,
        "kernel ridge": unit(kernel.fit(scaled[warm], target[warm]).predict(scaled)),
    }


def spaces_of_run(platform: Platform, folder: Path, *, until: int, seed: int) -> dict[str, np.ndarray]:
    """[I, d] unit vectors of a finished run's selection fit on this world; items without a vector get zeros.

    Raises:
        UserError: the run trained on days from ``until`` on, which rankers are to learn from.
    """
    base = next(iter(sorted(folder.glob("seed-*/*/distill")))).parent
    fold = Fold(folder / "split" / base.name)
    last = int((fold.training("selection").time.max() - platform.catalogue.start) // MICROSECONDS)
    if last >= until:
        raise UserError(
            f"{folder}: its selection fit trained up to day {last}, and rankers learn from day {until} on",
            remedy="run it with larger split.validation and split.test",
        )
    tables = {
        "content": "evaluate/selection/raw_content.parquet",
        "behaviour": "teach/selection/id_teacher.parquet",
        "kernel ridge": "evaluate/selection/kernel_ridge.parquet",
        "student": "distill/selection/student.parquet",
    }
    found = {"random": unit(np.random.default_rng(seed).standard_normal((len(platform.catalogue), 32)))}
    for name, path in tables.items():
        table = EmbeddingTable.read(base / path)
        row = table.ids.get_indexer(platform.catalogue.item_ids)
        found[name] = unit(np.where((row >= 0)[:, None], table.vectors[row], 0.0))
    return found


@dataclass(frozen=True)
class Knowledge:
    """What is known of users and items on the morning of a day.

    Attributes:
        user_rate, item_rate: [U], [I] log of smoothed clicks a look.
        popularity: [I] log of clicks.
        genres: [U, G] smoothed share of the user's clicks.
        profiles: of each space [U, d] mean vector of clicked items.
    """

    platform: Platform
    vectors: Mapping[str, np.ndarray]
    user_rate: np.ndarray
    item_rate: np.ndarray
    popularity: np.ndarray
    genres: np.ndarray
    profiles: Mapping[str, np.ndarray]

    @classmethod
    def of(
        cls, platform: Platform, arm: Arm, vectors: Mapping[str, np.ndarray], *, until: int, look: np.ndarray
    ) -> Knowledge:
        rows = arm.events(start=0, stop=until)
        looks, clicked = look[arm.position[rows] - 1], arm.clicked[rows]
        common = clicked.sum() / looks.sum()
        rates, clicks = [], []
        for of, size in ((arm.user[rows], len(platform.users)), (arm.item[rows], len(platform.catalogue))):
            clicks.append(np.bincount(of, weights=clicked, minlength=size))
            looked = np.bincount(of, weights=looks, minlength=size)
            rates.append(np.log((clicks[-1] + _SMOOTHING * common) / (looked + _SMOOTHING)))
        rows = rows[clicked]
        user, item = arm.user[rows], arm.item[rows]
        by_user = csr_array((np.ones(len(rows)), (user, item)), shape=(len(platform.users), len(platform.catalogue)))
        genre = np.eye(int(platform.catalogue.genre.max()) + 1)[platform.catalogue.genre]
        taken = by_user @ genre
        profiles = {}
        for name, vector in vectors.items():
            mean = by_user @ vector
            profiles[name] = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
        return cls(
            platform,
            vectors,
            rates[0],
            rates[1],
            np.log1p(clicks[1]),
            (taken + taken.mean(axis=0)) / (taken.sum(axis=1, keepdims=True) + taken.mean(axis=0).sum()),
            profiles,
        )

    def similarity(self, space: str, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """[n] cosine of an item to the mean of what the user clicked."""
        return np.asarray(np.einsum("nd,nd->n", self.profiles[space][user], self.vectors[space][item]))

    def fresh(self, item: np.ndarray, day: np.ndarray | int) -> np.ndarray:
        """[n] 1 for an item of the last week."""
        return (self._age(item, day) < FRESH_DAYS).astype(np.float64)

    def features(self, of: Sequence[str], user: np.ndarray, item: np.ndarray, day: np.ndarray | int) -> np.ndarray:
        """[n, 6 + spaces] what a learned ranker reads."""
        base = [
            self.user_rate[user],
            self.item_rate[item],
            self.popularity[item],
            np.log1p(np.maximum(self._age(item, day), 0)),
            self.fresh(item, day),
            self.genres[user, self.platform.catalogue.genre[item]],
        ]
        return np.column_stack(base + [self.similarity(space, user, item) for space in of])

    def _age(self, item: np.ndarray, day: np.ndarray | int) -> np.ndarray:
        catalogue = self.platform.catalogue
        return np.asarray(day - (catalogue.arrival[item] - catalogue.start) / MICROSECONDS)


@dataclass(frozen=True)
class Learned:
    """A logistic regression of clicks on features and the log of the position's look."""

    model: Pipeline
    knowledge: Knowledge
    of: tuple[str, ...]

    @classmethod
    def fit(
        cls, before: Knowledge, now: Knowledge, of: tuple[str, ...], arm: Arm, rows: np.ndarray, *, look: np.ndarray
    ) -> Learned:
        """Train on rows after ``before``'s day; rank with what is known ``now``."""
        features = before.features(of, arm.user[rows], arm.item[rows], arm.day[rows])
        features = np.column_stack([features, np.log(look[arm.position[rows] - 1])])
        model = make_pipeline(StandardScaler(), LogisticRegression(C=10.0)).fit(features, arm.clicked[rows])
        return cls(model, now, of)

    def __call__(
        self, user: np.ndarray, item: np.ndarray, day: np.ndarray | int, noise: np.ndarray | None = None
    ) -> np.ndarray:
        """[n] logit of a click on a first position."""
        features = self.knowledge.features(self.of, user, item, day)
        features = np.column_stack([features, np.zeros(len(features))])
        return np.asarray(self.model.decision_function(features))

    def probability(self, user: np.ndarray, item: np.ndarray, day: np.ndarray | int) -> np.ndarray:
        """[n] of a click on a first position."""
        return 1 / (1 + np.exp(-self(user, item, day)))


def treatments(platform: Platform, known: Knowledge, learned: Mapping[str, Learned]) -> dict[str, Scorer]:
    """The rankers that are switched on, by name; every one is compared with the platform's own."""
    popularity = (known.popularity - known.popularity.mean()) / known.popularity.std()
    made: dict[str, Scorer] = {}
    for error in (0.0, 0.15, 0.2, 0.25, 0.35, 0.4, 0.5, 0.7, 1.0):
        made[f"truth + {error:g} error"] = lambda u, i, d, e, s=error: platform.truth(u, i, d) + np.float32(s) * e
    made["random order"] = lambda u, i, d, e: e
    made["popular first"] = lambda u, i, d, e: popularity[i]
    made["fresh first"] = lambda u, i, d, e: known.fresh(i, d) + 0.01 * e
    for weight in (0.05, 0.15):
        made[f"own + {weight:g} popular"] = lambda u, i, d, e, w=weight: platform.own(u, i, d, e) + w * popularity[i]
    for weight in (0.1, 0.3):
        made[f"own + {weight:g} fresh"] = lambda u, i, d, e, w=weight: platform.own(u, i, d, e) + w * known.fresh(i, d)
    for space in known.vectors:
        if space != "random":
            made[f"near by {space}"] = lambda u, i, d, e, s=space: known.similarity(s, u, i) + 1e-3 * e
    for name, ranker in learned.items():
        made[f"learned, {name}"] = ranker
        if name != "random":
            made[f"own + learned, {name}"] = lambda u, i, d, e, r=ranker: platform.own(u, i, d, e) + 0.1 * r(u, i, d)
    return made
