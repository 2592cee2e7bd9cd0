"""The fitted transformations against hand-computed and independent values."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from recdistill.students.assemble import Units, mean_clips
from recdistill.students.featurizer.dense import Dense
from recdistill.students.featurizer.direct import DirectTags
from recdistill.students.featurizer.featurizer import raw_content, token_mean
from recdistill.students.featurizer.hashing import HashedBag
from recdistill.students.featurizer.numbers import Numbers
from recdistill.students.featurizer.terms import bucket, normalise, tag_terms

RNG = np.random.default_rng(0)
GOLDEN_BUCKETS = [27716, 5737, 13288]


def test_buckets_never_change() -> None:
    """They are saved in every student: another hash would scramble them."""
    assert [bucket(term, 15) for term in ("crime", "genre\x1fcrime", "日本")] == GOLDEN_BUCKETS
    code = "from recdistill.students.featurizer.terms import bucket; print(bucket('crime', 15))"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert int(other.stdout) == GOLDEN_BUCKETS[0]


def test_tags_are_normalised_and_fields_kept_apart() -> None:
    assert normalise("  Sci\u00adFi ") == "sci\u00adfi"
    assert normalise("ＣＲＩＭＥ  Story") == "crime story"
    assert tag_terms({"a": ["x"], "b": ["x"]}, ["b", "a"]) == ["b\x1fx", "a\x1fx"]


def test_dense_centres_and_scales() -> None:
    vectors = RNG.normal(3, 2, (50, 4)).astype(np.float32)
    out = Dense.fit(lambda: [vectors[:20], vectors[20:]], width=None)(torch.from_numpy(vectors))
    centred = vectors - vectors.mean(axis=0)
    np.testing.assert_allclose(out, centred / np.linalg.norm(centred, axis=1).mean(), atol=1e-5)


def test_dense_projection_is_pca_with_fixed_signs() -> None:
    vectors = (RNG.normal(size=(60, 3)) @ RNG.normal(size=(3, 6)) + 5).astype(np.float32)
    fitted = Dense.fit(lambda: [vectors[:31], vectors[31:]], width=2)
    expected = PCA(2).fit(vectors).components_.T
    assert fitted.projection is not None
    signs = np.sign(expected[np.abs(expected).argmax(axis=0), [0, 1]])
    np.testing.assert_allclose(fitted.projection, expected * signs, atol=1e-4)
    assert torch.linalg.vector_norm(fitted(torch.from_numpy(vectors)), dim=1).mean().item() == pytest.approx(
        1, abs=1e-5
    )


def test_dense_keeps_no_more_components_than_there_are() -> None:
    vectors = np.outer(np.arange(9.0), [1, 2, 0, 0]).astype(np.float32)
    assert Dense.fit(lambda: [vectors], width=3).width == 1
    constant = np.ones((5, 4), np.float32)
    same = Dense.fit(lambda: [constant], width=3)
    assert torch.equal(same(torch.from_numpy(constant)), torch.zeros(5, same.width))


def test_hashed_bag_is_tf_idf_svd() -> None:
    bags = [["a", "b", "b"], ["a", "c"], ["b", "c", "c", "c"], ["only-here", "a"], []]
    fitted = HashedBag.fit(bags, buckets_log2=12, width=2)
    assert fitted is not None
    weight = {term: math.log(6 / (1 + count)) for term, count in {"a": 3, "b": 2, "c": 2}.items()}
    dense = np.zeros((5, 3))
    for row, bag in enumerate(bags):
        for column, term in enumerate("abc"):
            if term in bag:
                dense[row, column] = (1 + math.log(bag.count(term))) * weight[term]
    dense[:4] /= np.linalg.norm(dense[:4], axis=1, keepdims=True)
    left, values, _ = np.linalg.svd(dense, full_matrices=False)
    expected = left[:4, :2] * values[:2]
    expected -= expected.mean(axis=0)
    expected /= np.linalg.norm(expected, axis=1).mean()
    out = fitted(bags).numpy()
    np.testing.assert_allclose(out[:4] @ out[:4].T, expected @ expected.T, atol=1e-5)
    assert not out[4].any()
    assert not fitted([["only-here"], ["never seen"]]).any()


def test_hashed_bag_of_unrelated_items_is_nothing() -> None:
    assert HashedBag.fit([["a"], ["b"], []], buckets_log2=12, width=4) is None


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=5), min_size=1, max_size=6))
def test_hashed_bag_sees_each_item_by_itself(bags: list[list[str]]) -> None:
    fitted = HashedBag.fit([["a", "b"], ["b", "c", "d"], ["a", "d"], ["c"]], buckets_log2=10, width=3)
    assert fitted is not None
    alone = torch.cat([fitted([bag]) for bag in bags])
    torch.testing.assert_close(fitted(bags), alone, atol=1e-6, rtol=0)


def test_direct_tags_by_hand() -> None:
    items = [{"genre": ["crime"]}, {"genre": ["crime", "war"]}, {"other": ["x"]}, {}]
    fitted = DirectTags.fit(items, fields=["genre", "other"], most=2)
    assert fitted is not None
    assert fitted.values == {"genre": ["crime", "war"]}  # 'other' has one value only
    crime, war = math.log(5 / 2), math.log(5 / 1)
    norm = math.hypot(crime, war)
    hot = np.array([[1, 0], [crime / norm, war / norm]])
    centred = hot - hot.mean(axis=0)
    expected = np.concatenate([centred / np.linalg.norm(centred, axis=1).mean(), np.zeros((2, 2))])
    np.testing.assert_allclose(fitted(items), expected, atol=1e-6)
    assert not fitted([{"genre": ["unheard of"]}]).any()
    assert DirectTags.fit(items, fields=["genre"], most=1) is None


def test_numbers_by_hand() -> None:
    values = np.array([[0.0, 5.0], [10.0, np.nan], [20.0, 5.0], [np.nan, np.nan]])
    fitted = Numbers.fit(values, bins=2)
    assert fitted is not None
    out = (fitted(values) / fitted.scale).numpy()
    spread = math.sqrt(200 / 3)
    # Knots of the first field at its quantiles 1/4 and 3/4: 5 and 15. Its mean membership is 1/2 and 1/2.
    np.testing.assert_allclose(out[0], [-10 / spread, 0.5, -0.5, -0.25, 0, 0, 0, -0.5], atol=1e-6)
    np.testing.assert_allclose(out[1], [0, 0, 0, -0.25, 0, 0, 0, 0.5], atol=1e-6)
    np.testing.assert_allclose(out[3], [0, 0, 0, 0.75, 0, 0, 0, 0.5], atol=1e-6)
    known = out[:3]
    assert fitted.scale.item() == pytest.approx(1 / np.linalg.norm(known, axis=1).mean(), abs=1e-6)


def test_numbers_ignore_a_flag_that_training_never_saw_and_bound_outliers() -> None:
    values = np.array([[1.0], [2.0], [3.0]])
    fitted = Numbers.fit(values, bins=0)
    assert fitted is not None
    assert not fitted(np.array([[np.nan]])).any()
    assert fitted(np.array([[1e30]]))[0, 0].item() == pytest.approx(4 * fitted.scale.item())
    assert Numbers.fit(np.ones((3, 1)), bins=4) is None
    assert Numbers.fit(np.zeros((3, 0)), bins=4) is None


@settings(max_examples=50, deadline=None)
@given(st.floats(-50, 250, allow_nan=False))
def test_bins_share_out_one(value: float) -> None:
    fitted = Numbers.fit(np.arange(200.0)[:, None], bins=5)
    assert fitted is not None
    member = fitted._bins(torch.tensor([[value]], dtype=torch.float64))[0, 0]
    assert member.sum().item() == pytest.approx(1, abs=1e-6)
    assert member.min() >= 0
    assert (member > 0).sum() <= 2


def test_raw_content_gives_present_modalities_equal_shares() -> None:
    features = {"a": torch.tensor([[[3.0, 4.0]], [[0.0, 2.0]]]), "b": torch.tensor([[[5.0], [0.0]], [[9.0], [9.0]]])}
    present = {"a": torch.tensor([True, True]), "b": torch.tensor([True, False])}
    out = raw_content(features, present, {"a": 2, "b": 1})
    half = 0.5**0.5
    torch.testing.assert_close(out, torch.tensor([[0.6 * half, 0.8 * half, half], [0.0, 1.0, 0.0]]))


def test_token_mean_leaves_absent_frames_out() -> None:
    features = torch.tensor([[[2.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [3.0, 3.0]], [[0.0, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(token_mean(features), torch.tensor([[2.0, 0.0], [2.0, 2.0], [0.0, 0.0]]))


def test_clips_are_averaged_by_item() -> None:
    units = Units(np.array([[[1.0]], [[3.0]], [[10.0]]], np.float32), np.array([0, 0, 4]))
    mean = mean_clips(units)
    assert mean.owner.tolist() == [0, 4]
    assert mean.vectors.ravel().tolist() == [2, 10]
    assert units.slot.tolist() == [0, 1, 0]
