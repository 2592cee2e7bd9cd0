"""The stage: what it writes, what a fit may not know, independence of row order, and logs that offer little."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_worlds import write_fold, write_items, write_queries, write_teacher

from recdistill.contracts import names
from recdistill.contracts.fold import FITS
from recdistill.contracts.tables import read_metadata, read_table
from recdistill.contracts.validate import violations_of
from recdistill.errors import UserError
from recdistill.pairs import PairsConfig, pair

IDS = [f"i{row:02d}" for row in range(24)]
CONTENT = ("same_tag", "same_author", "text_ngram", "item_label")
ALL = PairsConfig()
WIDE = PairsConfig.model_validate(  # everything that a small world can give
    {
        "co_consumption": {"min_together": 1},
        "session": {"min_together": 1},
        "same_tag": {"max_share": 1.0},
        "same_author": {"max_share": 1.0},
        "text_ngram": {"max_share": 1.0, "words": 2},
        "item_label": {"min_items": 1},
        "teacher_space": {"min_support": 0},
        "id_cluster": {"min_support": 0},
    }
)
CUT, SECOND_CUT, DAY = 100 * 86_400, 200 * 86_400, 86_400


class World:
    """Two taste groups; the last four items appear in the validation window, and two of those in the test alone."""

    def __init__(self, root: Path, *, order: np.random.Generator | None = None, protocol: str = "time") -> None:
        self.root = root
        rng = np.random.default_rng(0)
        events = []
        for user in range(16):
            for visit in range(6):
                at = (visit * 50 + user % 7) * DAY
                known = 20 if at < CUT else 22 if at < SECOND_CUT else 24
                chosen = rng.choice(np.arange(user % 2, known, 2), 3, replace=False)
                events += [(f"u{user}", IDS[item], at + int(item)) for item in chosen]
        searches = [(f"words of {n % 5}", IDS[n % 24], n * 10 * DAY) for n in range(30)]
        place = rng.permutation(24) if order is None else order.permutation(24)
        if order is not None:
            events = [events[row] for row in order.permutation(len(events))]
            searches = [searches[row] for row in order.permutation(len(searches))]
        ids = [IDS[row] for row in place]
        windows = [
            [event for event in events if low <= event[2] < high]
            for low, high in ((0, CUT), (CUT, SECOND_CUT), (SECOND_CUT, 9 * SECOND_CUT))
        ]
        cold = {IDS[20]: "validation_cold", IDS[21]: "validation_cold", IDS[22]: "test_cold", IDS[23]: "test_cold"}
        train, validation, test = windows
        self.fold = write_fold(
            root / "time", ids, train=train, validation=validation, test=test, cold=cold, protocol=protocol
        )
        tags = [[f"tag {row % 5}", f"tag {row % 3}"] if row != 7 else [] for row in place]
        self.items = write_items(
            root / "items.parquet",
            ids,
            tags={"theme": tags, "artist": [[f"artist {row % 6}"] for row in place]},
            texts={"plot": [f"once upon a time {row % 4} of {row % 7}" if row % 8 else None for row in place]},
            labels=[[f"truth {row}"] for row in place],
        )
        self.queries = write_queries(root / "queries.parquet", searches)
        vectors = np.random.default_rng(1).normal(size=(24, 5))
        warm = [row for row in place if row < 20]
        write_teacher(root / "teach", [IDS[row] for row in warm], vectors[warm], [9] * len(warm))

    def run(self, config: PairsConfig = WIDE, *, out: str = "out", seed: int = 0, queries: bool = True) -> Path:
        pair(
            config,
            fold=self.fold,
            items=self.items,
            queries=self.queries if queries else None,
            teach=self.root / "teach",
            out=self.root / out,
            seed=seed,
        )
        return self.root / out


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return World(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def made(world) -> Path:
    return world.run()


def test_every_dataset_is_a_table_that_satisfies_its_contract(made, world):
    known = {"items.item_id": read_table(world.items)[names.ITEM_ID].combine_chunks()}
    assert set(WIDE.datasets()) == set(PairsConfig.model_fields)
    for fit in FITS:
        assert {path.stem for path in (made / fit).iterdir()} == set(WIDE.datasets())
        for name in WIDE.datasets():
            path = made / fit / f"{name}.parquet"
            assert violations_of(path, "pair_dataset", known=known) == []
            table, about = read_table(path), read_metadata(path)
            assert len(table) > 0, name
            rows = table.to_pandas()
            of_query = names.QUERY_TEXT if about["sides"][0] == "text" else names.QUERY_ITEM
            of_target = names.TARGET_TEXT if about["sides"][1] == "text" else names.TARGET_ITEM
            assert rows[of_query].notna().all() and rows[of_target].notna().all()
            assert rows.equals(rows.sort_values([of_query, of_target], ignore_index=True))
            assert not rows.duplicated([of_query, of_target]).any()
            assert about["rows"] == len(rows) and about["queries"] == rows[of_query].nunique()
            assert about["targets"] == rows[of_target].nunique() and about["why_empty"] is None
            assert about["graded"] == (rows[names.SCORE].nunique() > 1)
            assert (about["dataset"], about["kind"], about["fit"]) == (name, name, fit)


def test_the_summary_says_what_was_made(made):
    summary = json.loads((made / "pairs.json").read_text())
    assert list(summary) == list(FITS)
    for fit in FITS:
        assert list(summary[fit]) == list(WIDE.datasets())
        for name, of in summary[fit].items():
            assert of["rows"] == pq.read_metadata(made / fit / f"{name}.parquet").num_rows and of["seconds"] >= 0
    assert summary["final"]["same_author"]["field"] == "artist"
    assert summary["selection"]["session"]["users_of_one_session"] == 0


def items_of(path: Path) -> set[str]:
    table = read_table(path)
    return {item for name in (names.QUERY_ITEM, names.TARGET_ITEM) for item in table[name].to_pylist() if item}


def test_content_draws_on_new_items_and_behaviour_does_not(made):
    for name in WIDE.datasets():
        new = {fit: items_of(made / fit / f"{name}.parquet") & set(IDS[20:]) for fit in FITS}
        if name in CONTENT:
            assert new["selection"] == new["final"] == set(IDS[20:]), name
            tables = [read_table(made / fit / f"{name}.parquet") for fit in FITS]
            assert tables[0].equals(tables[1])
        else:
            assert new["selection"] == set() and new["final"] <= {IDS[20], IDS[21]}, name
    assert items_of(made / "final" / "co_consumption.parquet") >= {IDS[20], IDS[21]}


def test_labels_are_nowhere(made):
    for path in made.rglob("*.parquet"):
        assert not any("truth" in str(value) for column in read_table(path).columns for value in column.to_pylist())


@pytest.mark.parametrize("fit", FITS)
def test_no_behaviour_pair_stems_from_an_event_at_or_after_the_cut(tmp_path, fit):
    """Each pair of items here has a witness of its own, and its time decides whether the fit may know it."""
    cut = {"selection": 1000, "final": 2000}[fit]
    witnesses = {999: ("a", "b"), 1000: ("c", "d"), 1999: ("e", "f"), 2000: ("g", "h"), 2500: ("i", "j")}
    events = [(f"u{at}", item, at) for at, both in witnesses.items() for item in both]
    # Others, so that a pair is more than chance, two days before: nobody's events all lie in one session.
    ids, early = list("abcdefghij"), -2 * DAY
    events += [(f"u{at}", "z", early) for at in witnesses] + [(f"v{n}", "y", early + n) for n in range(9)]
    windows = [[e for e in events if low <= e[2] < high] for low, high in ((early, 1000), (1000, 2000), (2000, 9999))]
    fold = write_fold(tmp_path / "f", [*ids, "y", "z"], train=windows[0], validation=windows[1], test=windows[2])
    items = write_items(tmp_path / "items.parquet", [*ids, "y", "z"])
    searches = [(f"q{at}", item, at) for at, both in witnesses.items() for item in both]
    queries = write_queries(tmp_path / "q.parquet", [*searches, ("other", "y", 0)])
    config = WIDE.model_copy(update=dict.fromkeys(("teacher_space", "id_cluster"), None))
    pair(config, fold=fold, items=items, queries=queries, teach=None, out=tmp_path / "out", seed=0)
    allowed = {at: both for at, both in witnesses.items() if at < cut}
    for name in ("co_consumption", "session", "co_search"):
        table = read_table(tmp_path / "out" / fit / f"{name}.parquet")
        found = set(zip(*(table[side].to_pylist() for side in (names.QUERY_ITEM, names.TARGET_ITEM)), strict=True))
        assert {both for both in found if "z" not in both} == {
            pair for one, other in allowed.values() for pair in ((one, other), (other, one))
        }, name
    table = read_table(tmp_path / "out" / fit / "query_item.parquet")
    asked = set(zip(*(table[side].to_pylist() for side in (names.QUERY_TEXT, names.TARGET_ITEM)), strict=True))
    assert asked == {(f"q{at}", item) for at, both in allowed.items() for item in both} | {("other", "y")}


def test_user_disjoint_folds_use_searches_of_training_users_and_warm_items_only(tmp_path):
    ids = list("abcd")
    fold = write_fold(
        tmp_path / "f", ids, train=[("u1", "a", 5), ("u1", "b", 6)], validation=[("u2", "a", 1), ("u2", "c", 2)],
        test=[("u3", "a", 3), ("u3", "d", 4)], cold={"c": "validation_cold", "d": "test_cold"}, protocol="folds",
    )  # fmt: skip
    items = write_items(tmp_path / "items.parquet", ids)
    searches = [("q", "a", 900), ("q", "b", 901), ("q", "c", 902), ("r", "a", 0), ("s", "b", 0), ("t", "b", 0)]
    config = PairsConfig.model_validate(dict.fromkeys(PairsConfig.model_fields) | {"query_item": {}})
    for users, expected in (
        (["u1", "u1", "u1", "u2", "u3", None], {("q", "a"), ("q", "b")}),
        (None, set()),
    ):
        more = {} if users is None else {names.USER_ID: pa.array(users, pa.string())}
        queries = write_queries(tmp_path / "q.parquet", searches, **more)
        pair(config, fold=fold, items=items, queries=queries, teach=None, out=tmp_path / "out", seed=0)
        table = read_table(tmp_path / "out" / "selection" / "query_item.parquet")
        assert (
            set(zip(table[names.QUERY_TEXT].to_pylist(), table[names.TARGET_ITEM].to_pylist(), strict=True)) == expected
        )
        summary = json.loads((tmp_path / "out" / "pairs.json").read_text())
        assert summary["selection"]["query_item"]["events_left_out"] == 6 - len(expected)


def contents(out: Path) -> dict[str, pa.Table]:
    return {str(path.relative_to(out)): read_table(path) for path in sorted(out.rglob("*.parquet"))}


def test_the_same_run_twice_writes_the_same_bytes(made, world):
    again = world.run(out="again")
    for path in made.rglob("*.parquet"):
        assert path.read_bytes() == (again / path.relative_to(made)).read_bytes()


@settings(deadline=None, max_examples=6)
@given(order=st.integers(0, 2**32 - 1))
def test_the_tables_order_of_rows_changes_nothing(made, tmp_path_factory, order):
    shuffled = World(tmp_path_factory.mktemp("shuffled"), order=np.random.default_rng(order)).run()
    expected, found = contents(made), contents(shuffled)
    assert expected.keys() == found.keys()
    for name, table in expected.items():
        assert table.equals(found[name]), name


def test_at_most_so_many_pairs_are_kept_whatever_else_is_asked(made, world):
    changes = {name: {"max_pairs": 7} for name in WIDE.datasets()}
    few = PairsConfig.model_validate({name: of | changes[name] for name, of in WIDE.model_dump(mode="json").items()})
    for path in (out := world.run(few, out="few")).rglob("*.parquet"):
        kept, whole = read_table(path).to_pandas(), read_table(made / path.relative_to(out)).to_pandas()
        assert len(kept) == 7, path
        if path.stem != "teacher_space":  # whose queries are drawn first
            assert len(kept.merge(whole, how="inner")) == 7, path
    other = world.run(few, out="other", seed=1)
    assert not read_table(other / "final" / "same_tag.parquet").equals(read_table(out / "final" / "same_tag.parquet"))


def test_the_draw_keeps_what_it_kept_when_a_dataset_grows():
    from recdistill.pairs.found import between_items

    ids = pd.Index(IDS)
    query, target = (part.ravel() for part in np.divmod(np.arange(24 * 24), 24))
    whole = between_items(ids, query, target).draw(100, seed=5)
    half = between_items(ids, query[::2], target[::2]).draw(60, seed=5)
    of = [set(zip(found.query.rows.tolist(), found.target.rows.tolist(), strict=True)) for found in (whole, half)]
    assert len(of[0]) == 100 and len(of[1]) == 60
    in_half = {pair for pair in of[0] if (pair[0] * 24 + pair[1]) % 2 == 0}
    assert in_half <= of[1] or of[1] <= in_half  # both are the lowest hashes of the same pairs


def test_datasets_that_are_null_are_not_made(world, tmp_path):
    config = PairsConfig.model_validate(dict.fromkeys(PairsConfig.model_fields) | {"same_tag": {}})
    pair(config, fold=world.fold, items=world.items, queries=None, teach=None, out=tmp_path, seed=0)
    assert [path.name for path in (tmp_path / "final").iterdir()] == ["same_tag.parquet"]
    assert config.datasets() == ("same_tag",) and list(config.teachers()) == []


def test_a_log_that_offers_little_leaves_empty_tables_that_say_why(tmp_path):
    fold = write_fold(tmp_path / "f", [1, 2, 3], train=[("u", 1, 0)], validation=[("u", 2, 5)], test=[("u", 3, 9)])
    items = write_items(tmp_path / "items.parquet", [3, 2, 1, 99])
    write_teacher(tmp_path / "teach", [1], np.ones((1, 2)))
    pair(ALL, fold=fold, items=items, queries=None, teach=tmp_path / "teach", out=tmp_path / "out", seed=0)
    summary = json.loads((tmp_path / "out" / "pairs.json").read_text())
    for fit in FITS:
        for name, of in summary[fit].items():
            path = tmp_path / "out" / fit / f"{name}.parquet"
            assert of["rows"] == 0 and of["why_empty"] == read_metadata(path)["why_empty"] != "", name
            assert violations_of(path, "pair_dataset") == [] and not of["graded"]
            assert pq.read_schema(path).field(names.QUERY_ITEM).type == pa.int64()
    why = {name: of["why_empty"] for name, of in summary["final"].items()}
    assert "data.queries" in why["query_item"] and why["co_search"] == why["query_item"]
    assert "no tags field" in why["same_tag"] and "no text field" in why["text_ngram"]
    assert "fewer than two" in why["teacher_space"] and "thresholds" in why["co_consumption"]


def test_an_item_table_of_another_catalogue_is_refused(world, tmp_path):
    items = write_items(tmp_path / "items.parquet", ["other"])
    with pytest.raises(UserError, match="no item of the split is here"):
        pair(ALL, fold=world.fold, items=items, queries=None, teach=None, out=tmp_path / "out", seed=0)
