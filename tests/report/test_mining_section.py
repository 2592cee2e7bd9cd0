"""The section of mined interests: the funnel's figures, and users drawn by the seed."""

from __future__ import annotations

from pathlib import Path

import fake_run
import pytest

from recdistill.contracts import names
from recdistill.contracts.tables import read_table
from recdistill.report.blocks import Section, Strips, Table, Text
from recdistill.report.folder import RunFolder
from recdistill.report.sections.mining import mining


def section(folder: Path, seed: int) -> Section:
    return mining(RunFolder(fake_run.write_run(folder, seeds=(seed,), items=60, users=20)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Section, Path]:
    folder = tmp_path_factory.mktemp("run")
    return section(folder, 0), folder


def test_the_funnel_says_users_pairs_and_why_targets_were_lost(made):
    blocks = made[0].blocks
    said = " ".join(block.text for block in blocks if isinstance(block, Text))
    assert "Of 610 users, 598 had a positive item to aim at, 40\u202f000 in all" in said
    assert "gives pairs to 580 of them" in said and "Positive behaviours: like, love" in said and "ask for 2" in said
    (table,) = (block for block in blocks if isinstance(block, Table))
    cells = {row.head: [cell.text for cell in row.cells] for row in table.rows}
    assert cells["Content, single peak"][:3] == ["27\u202f100", "67.8 %", "580"]
    assert cells["Content, single peak"][3].startswith(
        "fewer than 3 positive behaviours 9\u202f000, behaviours disagree"
    )


def test_each_user_shows_a_query_and_its_target_by_perspective(made):
    found, folder = made
    pairs = read_table(folder / "seed-0/time/mine/final/interest_pairs.parquet").to_pandas()
    titles = read_table(folder / "data/items.parquet").to_pandas().set_index(names.ITEM_ID)["text_title"]
    users = [block for block in found.blocks if isinstance(block, Strips)]
    assert len({block.heading for block in users}) == 3
    for block in users:
        own = pairs[pairs[names.USER_ID] == block.heading.removeprefix("User ")]
        latest = own.sort_values(names.TIMESTAMP).drop_duplicates(names.PERSPECTIVE, keep="last")
        assert len(block.strips) == 4
        for strip, row in zip(block.strips, latest.itertuples(), strict=True):
            assert strip.target is not None and strip.target.title == titles[row.target_item_id]
            assert [item.title for item in strip.items] == [titles[item] for item in row.query_item_ids[-6:]]


def test_the_seed_draws_the_users(made, tmp_path):
    def drawn(of: Section) -> list[str]:
        return [block.heading for block in of.blocks if isinstance(block, Strips)]

    again, other = section(tmp_path / "again", 0), section(tmp_path / "other", 1)
    assert drawn(again) == drawn(made[0]) != drawn(other)
