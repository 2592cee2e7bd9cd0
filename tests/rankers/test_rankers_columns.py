"""What the rankers of the report read of a table is what a team gets of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from downstream_helpers import planted_world

from recdistill.contracts.tables import EmbeddingTable
from recdistill.features.match_basis import MatchBasis
from recdistill.features.match_items import MatchItems
from recdistill.features.match_log import match_log
from recdistill.features.space import Space
from recdistill.rankers.config import RankConfig
from recdistill.rankers.groups import table_features
from recdistill.rankers.rows import Rows


@pytest.mark.parametrize("own", [True, False])
def test_match_features_and_reactions_are_the_exported_ones(tmp_path: Path, own: bool) -> None:
    """10,000 random pairs of user and item at random times; a table that lacks some items, in another order."""
    world = planted_world(tmp_path, users=60)
    history = world.fold.history("final")
    rng = np.random.default_rng(0)
    known = rng.permutation(len(world.taste))[:-10]
    vectors = (world.taste[known] + 0.5).astype(np.float32)
    table = EmbeddingTable(world.item_ids[known], vectors)
    count = 10_000
    user, item = rng.integers(60, size=count), rng.integers(len(world.taste), size=count)
    time = rng.integers(history.time.min(), history.time.max(), size=count)
    time[::2] = rng.choice(history.time, size=count // 2)  # at which something happens
    zeros = np.zeros(count, dtype=np.int64)
    rows = Rows(user.astype(np.int32), item.astype(np.int32), time, zeros > 0, zeros, zeros == 0)

    config = RankConfig(features=("match", "reaction"))
    ranked = table_features(config, table, history=history, row_sets=(rows,), own=own, seed=3)
    space = Space.of(table, history.item_ids, centre=True)
    basis = MatchBasis.fit(space, config.match, seed=3, reaction=config.reaction if own else None)
    items = MatchItems.of(basis, table)
    exported = match_log(items, history, user=user, item=table.ids.get_indexer(history.item_ids)[item], time=time)

    dense = ranked.dense[0]
    levels = len(config.semantic_ids.sizes)  # which a team has of the export's codebooks
    reactions = len(config.reaction.temperatures) if own else 0
    assert dense.shape[1] == sum(ranked.blocks) == exported.shape[1] + levels == 6 + levels + 1 + reactions
    compared = np.hstack([dense[:, :6], np.expm1(dense[:, 6 + levels : 7 + levels]), dense[:, 7 + levels :]])
    np.testing.assert_allclose(compared[:, :6], exported[:, :6], rtol=0, atol=1e-6)
    np.testing.assert_allclose(compared[:, 6], exported[:, 6], rtol=1e-5)
    np.testing.assert_allclose(compared[:, 7:], exported[:, 7:], rtol=0, atol=1e-6)
    if own:
        assert items.columns[7:] == ("reaction_1", "reaction_2")
        assert np.nanstd(exported[:, 7:], axis=0).min() > 0.01 and np.isnan(exported[:, 7]).any()
