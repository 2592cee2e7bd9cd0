"""Interest pairs: weights, sampling correction, and the masking of a user's own positives."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from recdistill.contracts.log import Log
from recdistill.contracts.tables import write_table
from recdistill.distill.heads import MeanHead, TransformerHead
from recdistill.distill.pairs import InterestPairs
from recdistill.errors import UserError
from recdistill.training import step_generator

ITEMS = pd.Index(["a", "b", "c", "d"])


@pytest.fixture
def training() -> Log:
    # User 0 likes a, b and sees c without liking it; user 1 likes c.
    return Log(
        pd.Index(["u0", "u1"]),
        ITEMS,
        np.array([0, 0, 0, 1], np.int32),
        np.array([0, 1, 2, 2], np.int32),
        np.arange(4),
        np.array([1, 1, 0, 1], np.int32),
        ("like",),
        np.full(4, np.nan, np.float32),
    )


def write_pairs(path, rows):
    user, query, target = zip(*rows, strict=True) if rows else ((), (), ())
    write_table(
        pa.table(
            {
                "user_id": pa.array(user, pa.string()),
                "query_item_ids": pa.array(query, pa.list_(pa.string())),
                "target_item_id": pa.array(target, pa.string()),
            }
        ),
        path,
    )


def test_a_batch_has_padded_queries_and_masks_the_users_own_positives(tmp_path, training):
    write_pairs(tmp_path / "p.parquet", [("u0", ["a"], "b"), ("u1", ["b", "a", "d"], "c")])
    pairs = InterestPairs(tmp_path / "p.parquet", training, history_power=0.5)
    batch = pairs.draw(64, step_generator(0, 0))
    first = batch.target == 1
    assert first.any() and (~first).any()
    assert batch.query[first].unique(dim=0).tolist() == [[0, -1, -1]]
    assert batch.query[~first].unique(dim=0).tolist() == [[1, 0, 3]]
    # By the log u0 owns a and b, not c which it did not like, and u1 c; by what was mined u1 owns b, a and d as well.
    assert torch.equal(batch.excluded, ~first[:, None] | first[None, :])


def test_pairs_are_drawn_in_proportion_to_their_weights_and_log_q_says_so(tmp_path, training):
    write_pairs(tmp_path / "p.parquet", [("u0", ["a"], "b")] * 4 + [("u1", ["a"], "c")])
    pairs = InterestPairs(tmp_path / "p.parquet", training, history_power=0.5)
    # u0's four pairs weigh 1/2 each, u1's one pair 1: two thirds of the draws have target b.
    assert pairs.log_q[1:3].exp().tolist() == pytest.approx([2 / 3, 1 / 3])
    assert torch.isneginf(pairs.log_q[[0, 3]]).all()
    drawn = pairs.draw(6000, step_generator(1, 0)).target
    assert (drawn == 1).float().mean().item() == pytest.approx(2 / 3, abs=0.03)


def test_a_batch_is_a_function_of_seed_and_step(tmp_path, training):
    write_pairs(tmp_path / "p.parquet", [("u0", ["a"], "b"), ("u1", ["b"], "c")])
    pairs = InterestPairs(tmp_path / "p.parquet", training, history_power=0.5)
    one, same, other = (pairs.draw(32, step_generator(3, step)).target for step in (5, 5, 6))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_no_pair_is_an_error_that_names_the_settings(tmp_path, training):
    write_pairs(tmp_path / "p.parquet", [])
    with pytest.raises(UserError, match="kept no interest pair"):
        InterestPairs(tmp_path / "p.parquet", training, history_power=0.5)


def test_the_mean_head_by_hand():
    vectors = torch.tensor([[[3.0, 0.0], [0.0, 2.0], [9.0, 9.0]]])
    assert MeanHead()(vectors, torch.tensor([[True, True, False]])).tolist() == [[0.5, 0.5]]


def test_the_transformer_head_ignores_padding_and_heeds_order():
    torch.manual_seed(0)
    head = TransformerHead(width=8, length=4).eval()
    vectors = torch.randn(1, 4, 8)
    present = torch.tensor([[True, True, True, False]])
    out = head(vectors, present)
    changed = vectors.clone()
    changed[0, 3] = 7.0
    assert torch.allclose(out, head(changed, present), atol=1e-6)
    assert not torch.allclose(out, head(vectors[:, [1, 0, 2, 3]], present), atol=1e-4)
