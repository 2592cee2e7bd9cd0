"""In the planted world, whose users' interests are known, each perspective finds them; a broken one does not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.extmath import randomized_svd

from recdistill.contracts import names
from recdistill.contracts.log import Log
from recdistill.contracts.tables import EmbeddingTable
from recdistill.ingest.synthetic import Truth, WorldConfig, write_world
from recdistill.mining.config import PERSPECTIVES, MiningConfig
from recdistill.mining.interests import mine_pairs
from recdistill.mining.knowledge import Knowledge, content_vectors, item_keys
from recdistill.retrieval.clusters import clusters

_SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "ablations" / "planted_interests.py"
CONFIG = MiningConfig(single_peak_behaviours=1, targets_per_user=10, length=8, clusters=16, coverage=0.6)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("planted_interests", _SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Log, Truth, Knowledge]:
    """The log, its truth, and what can be known of the items: noisy content, and clusters of behaviour."""
    data = tmp_path_factory.mktemp("world")
    config = WorldConfig(users=300, items=480, topics=8, days=60, return_base=-1.0, media=0.0, users_per_block=300)
    write_world(config, out=data)
    truth = Truth.read(data)
    log = Log.read([data / "interactions.parquet"])
    rows = truth.item_ids.get_indexer(log.item_ids)
    rng = np.random.default_rng(0)
    topic = np.eye(config.topics)[truth.catalogue.topic[rows]]
    seen = np.hstack([3 * topic, truth.catalogue.views[rows, :5]])
    content = EmbeddingTable(log.item_ids, (seen + rng.normal(size=seen.shape)).astype(np.float32))
    liked = log.positive()
    counts = np.zeros((len(log.user_ids), len(log.item_ids)), dtype=np.float32)
    counts[log.user[liked], log.item[liked]] = 1
    counts /= np.sqrt(np.maximum(counts.sum(1, keepdims=True), 1) * np.maximum(counts.sum(0), 1))
    _, scale, vectors = randomized_svd(counts, 17, random_state=0)
    teacher = EmbeddingTable(log.item_ids, (vectors[1:] * scale[1:, None]).T.astype(np.float32))
    cluster = clusters(teacher, log.item_ids, count=CONFIG.clusters, seed=0)
    known = Knowledge(content_vectors(content, log.item_ids, width=128, seed=0), cluster, item_keys(log.item_ids))
    return log, truth, known


@pytest.fixture(scope="module")
def found(world, script) -> pd.DataFrame:
    log, truth, known = world
    return script.measure(mine_pairs(log, known, CONFIG, seed=0)[0].to_pandas(), log, truth)


def gains(frame: pd.DataFrame, script: ModuleType, perspective: str, measure: str) -> tuple[float, float, float]:
    of = frame[frame[names.PERSPECTIVE] == perspective]
    return script.interval(script.by_user(of, measure, less=f"{measure}_chance"))


def test_the_world_is_large_enough_to_judge(found):
    assert found.groupby(names.PERSPECTIVE)[names.USER_ID].nunique().min() > 150


@pytest.mark.parametrize("perspective", PERSPECTIVES)
def test_each_perspective_finds_the_users_interests(found, script, perspective):
    _, low, _ = gains(found, script, perspective, "recall")
    assert low > 0.1


@pytest.mark.parametrize(("kind", "purer"), [("content", 0.1), ("collaborative", 0.02)])
def test_single_peaks_are_purer_and_multi_peaks_nearer_the_true_mixture(found, script, kind, purer):
    _, low, _ = script.interval(script.differences(found, kind, "purity"))
    assert low > purer
    _, low, _ = script.interval(script.differences(found, kind, "distance"))
    assert low > 0


def test_single_peaks_are_purer_than_the_users_history(found, script):
    for perspective, least in (("content_single_peak", 0.1), ("collaborative_single_peak", 0.02)):
        assert gains(found, script, perspective, "purity")[1] > least


def test_a_broken_perspective_is_seen(world, script):
    """Content and clusters that belong to other items: what single peaks gained is gone."""
    log, truth, known = world
    shuffled = np.random.default_rng(1).permutation(len(log.item_ids))
    broken = Knowledge(known.content[shuffled], known.cluster[shuffled], known.keys)
    frame = script.measure(mine_pairs(log, broken, CONFIG, seed=0)[0].to_pandas(), log, truth)
    for kind in ("content", "collaborative"):
        mean, low, _ = script.interval(script.differences(frame, kind, "purity"))
        assert low < 0.02 and mean < 0.05
        assert gains(frame, script, f"{kind}_single_peak", "purity")[0] < 0.02
