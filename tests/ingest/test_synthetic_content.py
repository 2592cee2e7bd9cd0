"""What the planted content shows of the truth, what it hides, and what behaviour knows beyond it.

The checks use simple features: TF-IDF of words, means of pixels, a spectrum in bands, tags.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeCV

from recdistill.contracts.log import Log
from recdistill.ingest.synthetic import Truth, WorldConfig, write_world
from recdistill.ingest.synthetic.catalogue import HIDDEN_STYLE, Catalogue
from recdistill.ingest.synthetic.text import write_texts
from recdistill.ingest.synthetic.vocabulary import TOPICS

CONFIG = WorldConfig(users=1_800, items=720, topics=12, days=60, image_pixels=32)
CHANCE = 1 / CONFIG.topics
RIDGES = np.geomspace(1e-2, 1e3, 11)


@dataclass(frozen=True)
class World:
    """Items are rows in order of id everywhere.

    Attributes:
        log: all positives; those before ``cut`` train.
        counts: [I] clicks in training.
        clicks: [U, I] 0/1 in training.
        teacher: [I, 32] vectors from training co-clicks.
    """

    truth: Truth
    features: dict[str, np.ndarray]
    log: Log
    cut: int
    counts: np.ndarray
    clicks: np.ndarray
    teacher: np.ndarray

    @property
    def content(self) -> np.ndarray:
        return np.hstack(list(self.features.values()))


def _scaled(x: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Centred over the items that have it, zero for the others, of mean square length 1."""
    x = (x - x[present].mean(axis=0)) * present[:, None]
    return x / np.sqrt((x[present] ** 2).sum(axis=1).mean())


def _features(folder: Path) -> dict[str, np.ndarray]:
    items = pq.read_table(folder / "items.parquet").to_pandas()
    media = pq.read_table(folder / "media.parquet").to_pandas().set_index("media_id")["bytes"]
    words = items.text_title + " " + items.text_description.fillna("")
    text = TfidfVectorizer(sublinear_tf=True, max_features=600).fit_transform(words).toarray()
    genre, kind = (pd.get_dummies(items[c].str[0]).to_numpy(dtype=float) for c in ("tags_genre", "tags_format"))
    image, audio = np.zeros((len(items), 8 * 8 * 3)), np.zeros((len(items), 48))
    edges = np.geomspace(60, 8_000, 49)
    for row, (frames, sounds) in enumerate(zip(items.images, items.audio, strict=True)):
        if len(frames):
            pixels = np.asarray(Image.open(io.BytesIO(media[frames[0]])), dtype=float)
            image[row] = pixels.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3)).ravel()
        if len(sounds):
            wave, rate = soundfile.read(io.BytesIO(media[sounds[0]]))
            power = np.abs(np.fft.rfft(wave)) ** 2
            band = np.digitize(np.fft.rfftfreq(len(wave), 1 / rate), edges) - 1
            inside = (band >= 0) & (band < 48)
            audio[row] = np.log(np.bincount(band[inside], power[inside], 48) + 1e-3)
    seen, heard = (items.images.str.len() > 0).to_numpy(), (items.audio.str.len() > 0).to_numpy()
    image, audio = _scaled(image, seen), _scaled(audio, heard)
    image = _scaled(PCA(32, random_state=0).fit_transform(image), seen)
    audio = _scaled(PCA(24, random_state=0).fit_transform(audio), heard)
    every = np.ones(len(items), dtype=bool)
    return {
        "text": _scaled(text, every),
        "image": image,
        "audio": audio,
        "tags": _scaled(np.hstack([genre, kind]), every),
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    out = tmp_path_factory.mktemp("content")
    write_world(CONFIG, out=out)
    truth = Truth.read(out)
    log = Log.read([out / "interactions.parquet"], item_ids=truth.item_ids, user_ids=truth.user_ids)
    log = log.take(log.positive())
    cut = int(np.quantile(log.time, 0.8))
    train = log.take(log.time < cut)
    clicks = np.zeros((CONFIG.users, CONFIG.items), dtype=np.float32)
    clicks[train.user, train.item] = 1
    return World(truth, _features(out), log, cut, clicks.sum(axis=0), clicks, _sppmi_svd(clicks, width=32))


def _log_lift(clicks: np.ndarray) -> np.ndarray:
    """[I, I] how much more often two items are clicked by the same user than their popularity says, in log."""
    pairs = clicks.T @ clicks
    np.fill_diagonal(pairs, 0)
    degree = pairs.sum(axis=1)
    expected = np.maximum(degree[:, None] * degree[None, :] / pairs.sum(), 1e-9)
    return np.asarray(np.log(np.maximum(pairs, 1e-9) / expected))


def _sppmi_svd(clicks: np.ndarray, *, width: int) -> np.ndarray:
    """[I, width] vectors of the positive PMI of co-clicks (Levy & Goldberg 2014)."""
    u, s, _ = np.linalg.svd(np.maximum(_log_lift(clicks), 0))
    return u[:, :width] * np.sqrt(s[:width])


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def _same_topic(world: World, vectors: np.ndarray, *, rows: np.ndarray | None = None) -> float:
    """Share of the ten nearest items (centred cosine) that have the item's topic."""
    rows = np.arange(CONFIG.items) if rows is None else rows
    v, topic = _unit(vectors[rows] - vectors[rows].mean(axis=0)), world.truth.catalogue.topic[rows]
    likeness = v @ v.T
    np.fill_diagonal(likeness, -9)
    nearest = np.argsort(-likeness, axis=1)[:, :10]
    return float((topic[nearest] == topic[:, None]).mean())


def _explained(features: np.ndarray, target: np.ndarray) -> np.ndarray:
    """R² of each target on the 30 % of items that the ridge has not seen."""
    seen = np.random.default_rng(0).random(len(target)) < 0.7
    found = RidgeCV(RIDGES).fit(features[seen], target[seen]).predict(features[~seen]).reshape(-1, target.shape[1])
    asked = target[~seen]
    return np.asarray(1 - ((asked - found) ** 2).sum(axis=0) / ((asked - asked.mean(axis=0)) ** 2).sum(axis=0))


def _recall_at_10(world: World, vectors: np.ndarray | None, *, warm: bool) -> float:
    """Vanilla seq2item: ten random of the last hundred positives before a target of the test window, full ranking."""
    rng, hits = np.random.default_rng(0), []
    v = None if vectors is None else _unit(vectors)
    for user in range(CONFIG.users):
        rows = slice(world.log.starts[user], world.log.starts[user + 1])
        item, time = world.log.item[rows], world.log.time[rows]
        for place in np.flatnonzero(time >= world.cut)[-30:]:
            if place < 3 or (world.counts[item[place]] > 0) != warm:
                continue
            query = rng.permutation(item[max(0, place - 100) : place])[:10]
            score = world.counts.astype(float) if v is None else v @ v[query].sum(axis=0)
            target = score[item[place]]
            score[item[:place]] = -np.inf
            hits.append((score > target).sum() + (score == target).sum() / 2 - 0.5 < 10)
    return float(np.mean(hits))


@pytest.fixture(scope="module")
def learned(world: World) -> np.ndarray:
    """[I, d] the linear map of content that behaviour teaches: ridge from content to warm items' co-click vectors."""
    warm = world.counts > 0
    centred = world.teacher - world.teacher[warm].mean(axis=0)
    return np.asarray(RidgeCV(RIDGES).fit(world.content[warm], centred[warm]).predict(world.content))


def test_co_clicks_recover_the_topics(world: World) -> None:
    often = np.flatnonzero(world.counts >= 10)
    assert len(often) > 0.6 * CONFIG.items
    assert _same_topic(world, world.teacher, rows=often) > 5 * CHANCE


def test_content_neighbours_share_the_topic_more_than_by_chance_but_not_reliably(world: World) -> None:
    assert 1.5 * CHANCE < _same_topic(world, world.content) < 0.4


def test_behaviour_teaches_which_content_matters(world: World, learned: np.ndarray) -> None:
    cold = np.flatnonzero(world.counts == 0)
    assert _same_topic(world, learned) > _same_topic(world, world.content) + 0.15
    # also for items that nobody has clicked: so it is content, not memory
    assert len(cold) > 40
    assert _same_topic(world, learned, rows=cold) > _same_topic(world, world.content, rows=cold) + 0.08


def test_order_of_baselines(world: World, learned: np.ndarray) -> None:
    candidates = {
        "popularity": None,
        "text": world.features["text"],
        "all": world.content,
        "taught": learned,
        "ids": world.teacher,
    }
    recall = {name: _recall_at_10(world, vectors, warm=True) for name, vectors in candidates.items()}
    assert 10 / CONFIG.items < recall["popularity"] < recall["text"]
    assert 10 / CONFIG.items < recall["all"]
    assert max(recall["text"], recall["all"]) < 0.6 * recall["taught"]
    assert recall["taught"] < recall["ids"]
    assert _recall_at_10(world, None, warm=False) == 0


def test_content_explains_a_part_of_the_style_and_nothing_of_the_hidden_axis(world: World) -> None:
    explained = _explained(world.content, world.truth.catalogue.style)
    shown = np.delete(explained, HIDDEN_STYLE)
    assert explained[HIDDEN_STYLE] < 0.05
    assert (shown > 0.1).all()
    assert 0.2 < shown.mean() < 0.55


def test_each_modality_shows_its_own_views_and_no_single_one_the_mixed_axis(world: World) -> None:
    views, style = world.truth.catalogue.views, world.truth.catalogue.style
    own: dict[str, list[int]] = {"text": [0, 3], "image": [1, 4], "audio": [2], "tags": []}
    for name, features in world.features.items():
        explained = _explained(features, views)
        others = [v for v in range(views.shape[1]) if v not in own[name]]
        assert (explained[own[name]] > 0.1).all(), (name, explained)
        assert (explained[others] < 0.05).all(), (name, explained)
    alone = [_explained(features, style[:, 3:4])[0] for features in world.features.values()]
    assert _explained(world.content, style[:, 3:4])[0] > max(alone) + 0.03


def test_nuisance_is_loud_in_content(world: World) -> None:
    nuisance = world.truth.catalogue.nuisance  # register, hue, tone, pitch, duration, format
    assert _explained(world.features["text"], nuisance[:, :1])[0] > 0.6
    assert _explained(world.features["image"], nuisance[:, 2:3])[0] > 0.5
    assert _explained(world.features["audio"], nuisance[:, 3:4])[0] > 0.4
    assert _explained(world.features["tags"], nuisance[:, 5:6])[0] > 0.8
    # louder than the taste beside it in the same modality
    register, taste = nuisance[:, :1], world.truth.catalogue.views[:, :1]
    assert _explained(world.features["text"], register)[0] > 2 * _explained(world.features["text"], taste)[0]


def test_behaviour_knows_every_axis_of_style_also_the_hidden_one_and_no_nuisance(world: World) -> None:
    """Within a topic the items that the same users click are near in style, and not nearer in nuisance."""
    often = np.flatnonzero(world.counts >= 10)
    catalogue = world.truth.catalogue
    lift = np.maximum(_log_lift(world.clicks)[np.ix_(often, often)], -3)
    upper = np.triu(np.ones_like(lift, dtype=bool), 1)
    pairs = upper & (catalogue.topic[often][:, None] == catalogue.topic[often][None, :])

    def pull(axis: np.ndarray) -> float:
        gap = (axis[often][:, None] - axis[often][None, :]) ** 2
        return -float(np.corrcoef(gap[pairs], lift[pairs])[0, 1])

    style, nuisance = [pull(a) for a in catalogue.style.T], [pull(a) for a in catalogue.nuisance.T]
    assert min(style) > 0.04, style
    assert max(nuisance) + 0.02 < min(style), nuisance


def test_truth_is_the_best_neighbour(world: World) -> None:
    rows = np.arange(0, CONFIG.items, 7)
    nearest = world.truth.neighbours(rows, k=10)
    topic = world.truth.catalogue.topic
    assert (topic[nearest] == topic[rows][:, None]).mean() > 0.97
    likeness = world.truth.similarity(rows)
    np.testing.assert_allclose(likeness[np.arange(len(rows)), rows], 1, atol=1e-4)
    assert (nearest != rows[:, None]).all()
    kept = np.sort(np.delete(likeness[0], rows[0]))[::-1][:10]
    np.testing.assert_allclose(likeness[0, nearest[0]], kept)


def test_without_clarity_content_shows_nothing_of_taste(world: World, tmp_path: Path) -> None:
    write_world(CONFIG.model_copy(update={"clarity": 0.0, "users": 10, "items": 400}), out=tmp_path)
    features, dim = _features(tmp_path), Truth.read(tmp_path).catalogue

    def target(catalogue: Catalogue) -> np.ndarray:
        return np.hstack([np.delete(catalogue.style, HIDDEN_STYLE, axis=1), np.eye(CONFIG.topics)[catalogue.topic]])

    shown = _explained(np.hstack(list(features.values())), target(dim)).mean()
    assert shown < 0.02 < 0.2 < _explained(world.content, target(world.truth.catalogue)).mean()
    assert _explained(features["text"], dim.nuisance[:, :1])[0] > 0.6


def test_words_tell_the_topic_now_and_then(world: World) -> None:
    """A title or description has a word of its own topic for most items, but rarely more than a few."""
    writing = write_texts(CONFIG, world.truth.catalogue)
    vocabularies: Sequence[tuple[str, ...]] = list(TOPICS.values())
    share = []
    for title, text, topic in zip(writing.title, writing.description, world.truth.catalogue.topic, strict=True):
        tokens = f"{title} {text or ''}".lower().replace(".", "").split()
        share.append(np.mean([token in vocabularies[topic] for token in tokens]))
    assert 0.03 < np.mean(share) < 0.12
    assert pd.Series(share).gt(0).mean() > 0.5
