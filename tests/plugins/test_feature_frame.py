"""Our columns beside a team's own rows."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from plugin_exports import codes_of, vectors_of, write_export, write_match

from recdistill.errors import UserError
from recdistill.features.match_items import MatchItems
from recdistill.plugins import Exported, FeatureJoin, Keys, Projection, feature_frame

TIMES = pd.to_datetime(["2025-01-01 00:00:01", "2025-01-01 00:00:02", "2025-01-02 00:00:00"], utc=True).as_unit("us")


def keys(user: list, item: list, times: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"user_id": user, "item_id": item, "timestamp": TIMES[times]})


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Items 10, 20, 30 and 40, of which 40 has no codes; match features of five events, one of them twice."""
    folder = write_export(
        tmp_path / "export", [10, 20, 30, 40], vectors=vectors_of(4), codes=codes_of(3), coded=[10, 20, 30]
    )
    logged = keys(["a", "a", "b", "b", "b"], [10, 20, 10, 30, 30], [0, 1, 2, 0, 0])
    write_match(folder, logged, match_mean=[0.1, 0.2, 0.3, np.nan, np.nan], match_items=[1, 2, 3, 0, 0])
    return folder


def test_rows_keep_their_order_and_index_and_get_what_is_theirs(export) -> None:
    rows = keys(["b", "a", "b"], [10, 20, 30], [2, 1, 0]).assign(label=[1, 0, 1]).set_index(pd.Index([7, 7, 3]))
    joined = feature_frame(rows, export)
    pd.testing.assert_frame_equal(joined[rows.columns.tolist()], rows)
    # item i of n has codes (i % 4, i // 4 % 3): 10 is the first
    assert joined["sid_0"].tolist() == [0, 1, 2]
    assert joined["sid_1"].tolist() == [0, 0, 0]
    np.testing.assert_allclose(joined["match_mean"], [0.3, 0.2, np.nan], atol=1e-7)
    assert joined["match_items"].tolist() == [3, 2, 0]
    unit = vectors_of(4) / np.linalg.norm(vectors_of(4), axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    ours = joined[[name for name in joined if name.startswith("student_")]].to_numpy()
    assert ours.shape == (3, 8)  # no more than the vectors are wide
    np.testing.assert_allclose(ours @ ours.T, centred[[0, 1, 2]] @ centred[[0, 1, 2]].T, atol=1e-5)  # a rotation
    assert all(joined[name].dtype == np.float32 for name in joined.columns.difference(rows.columns))


def test_reactions_come_with_the_match_features_where_the_export_has_them(export) -> None:
    rows = keys(["b", "a"], [10, 20], [2, 1])
    assert not [name for name in FeatureJoin(export).columns if name.startswith("reaction_")]
    write_match(export, rows, match_items=[3, 2], reaction_1=[-0.5, np.nan], reaction_2=[0.25, 0.0])
    joined = feature_frame(rows[::-1], export, parts=("match",))
    assert joined.columns.tolist()[3:] == ["match_items", "reaction_1", "reaction_2"]
    np.testing.assert_array_equal(joined["reaction_1"], np.float32([np.nan, -0.5]))
    np.testing.assert_array_equal(joined["reaction_2"], np.float32([0.0, 0.25]))


def test_unknown_items_have_gaps(export) -> None:
    joined = feature_frame(pd.DataFrame({"item_id": [40, 99]}), export, parts=("vectors", "semantic_ids"))
    assert joined["student_0"].isna().tolist() == [False, True]
    assert joined["sid_0"].isna().tolist() == [True, True]
    assert "match_mean" not in joined


def test_rows_without_match_features_are_an_error_unless_they_are_meant(export) -> None:
    rows = keys(["a", "a", "a"], [10, 10, 30], [0, 1, 0])  # a drawn negative has no row in the export, nor its time
    with pytest.raises(UserError, match=r"2 of 3 rows have no match features .* tell by the gap"):
        feature_frame(rows, export)
    joined = feature_frame(rows, export, partial_match=True)
    np.testing.assert_allclose(joined["match_items"], [1, np.nan, np.nan])
    assert "match_items" not in feature_frame(rows, export, parts=("vectors",))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"item_id": ["10", "20"]}, "column 'item_id': ids are strings .*, the export's are integers"),
        ({"item_id": [10.0, 20.0]}, "column 'item_id': ids are float64"),
        ({"item_id": pd.array([10, None], dtype="Int64")}, "column 'item_id': 1 of 2 ids are null"),
        ({"user_id": [1, 2]}, "column 'user_id': ids are integers .*, the export's are strings"),
        ({"timestamp": TIMES[:2].tz_localize(None)}, r"column 'timestamp' is datetime64\[us\], not a time with a zone"),
        ({"timestamp": [1, 2]}, "column 'timestamp' is int64"),
        ({"timestamp": [TIMES[0], pd.NaT]}, "column 'timestamp': 1 of 2 times are null"),
        ({"sid_0": [1, 2]}, r"columns \['sid_0'\] already"),
        ({"match_mean": [1, 2], "student_3": [1, 2]}, r"columns \['student_3', 'match_mean'\] already"),
        ({"user_id": None}, "lack column 'user_id'"),
    ],
)
def test_what_does_not_fit_is_an_error_that_names_the_column(export, change, says) -> None:
    rows = keys(["a", "a"], [10, 20], [0, 1])
    changed = rows.drop(columns="user_id") if change == {"user_id": None} else rows.assign(**change)
    with pytest.raises(UserError, match=says):
        feature_frame(changed, export)


def test_names_zones_and_resolutions_may_be_the_teams_own(export) -> None:
    rows = keys(["a", "b"], [10, 10], [0, 2])
    own = pd.DataFrame(
        {
            "who": rows["user_id"].astype("category"),
            "what": rows["item_id"].astype("int32"),
            "when": rows["timestamp"].dt.tz_convert("Asia/Tokyo").dt.as_unit("ns"),
        }
    )
    joined = feature_frame(own, export, keys=Keys(user="who", item="what", timestamp="when"))
    np.testing.assert_allclose(joined["match_mean"], [0.1, 0.3], atol=1e-7)


def in_arrow(times: pd.Series, *, zone: str | None = "Asia/Tokyo") -> pd.Series:
    return (times if zone else times.dt.tz_localize(None)).astype(pd.ArrowDtype(pa.timestamp("us", zone)))


def test_times_in_arrows_form_are_times(export, trained, tmp_path) -> None:
    rows = keys(["a", "b"], [10, 10], [0, 2])
    theirs = rows.assign(timestamp=in_arrow(rows["timestamp"]))
    joined = feature_frame(theirs, export)
    np.testing.assert_allclose(joined["match_mean"], [0.1, 0.3], atol=1e-7)
    assert joined["timestamp"].dtype == theirs["timestamp"].dtype
    theirs.to_parquet(tmp_path / "rows.parquet")
    FeatureJoin(export).stream(tmp_path / "rows.parquet", tmp_path / "out.parquet")
    np.testing.assert_allclose(pq.read_table(tmp_path / "out.parquet")["match_mean"], [0.1, 0.3], atol=1e-7)
    (said,) = told(lambda: FeatureJoin(trained, parts=("vectors",))(theirs))
    assert "1 of 2 rows are no later" in said
    bare = rows.assign(timestamp=in_arrow(rows["timestamp"], zone=None))
    with pytest.raises(UserError, match=r"is timestamp\[us\]\[pyarrow\], not a time with a zone"):
        feature_frame(bare, export)


@pytest.mark.parametrize("form", [lambda times: times, in_arrow])
def test_a_time_that_is_null_is_no_early_one(export, trained, form) -> None:
    """A gap that is meant is not asked after: the row would have NaN and nobody would hear of it."""
    rows = keys(["a", "a"], [10, 20], [0, 1])
    holed = rows.assign(timestamp=form(rows["timestamp"].where([True, False])))
    for partial_match in (False, True):
        with pytest.raises(UserError, match="column 'timestamp': 1 of 2 times are null"):
            feature_frame(holed, export, partial_match=partial_match)
    unknown, learned = told(lambda: FeatureJoin(trained, parts=("vectors",))(holed))
    assert "no time with a zone in 1 of 2 rows" in unknown and "1 of 2 rows are no later" in learned


def test_a_saved_projection_means_the_same_for_a_later_export(export, tmp_path) -> None:
    join = FeatureJoin(export, parts=("vectors",))
    join.projection.save(tmp_path / "projection.safetensors")
    ids = [10, 20, 30, 40, *range(100, 130)]
    later = write_export(tmp_path / "later", ids, vectors=vectors_of(34), codes=codes_of(34))
    rows = pd.DataFrame({"item_id": [10, 40]})
    kept = FeatureJoin(later, parts=("vectors",), projection=Projection.load(tmp_path / "projection.safetensors"))
    pd.testing.assert_frame_equal(kept(rows), join(rows), atol=1e-6)
    anew = FeatureJoin(later, parts=("vectors",))
    assert np.abs(anew(rows)["student_0"] - join(rows)["student_0"]).max() > 0.01  # what is to be avoided


def test_projection_is_of_the_first_principal_directions() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.standard_normal((500, 6)) * [5, 1, 1, 0.1, 0.1, 0.1]).astype(np.float32)
    projected = Projection.fit(vectors, width=2, centre=False)(vectors)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert abs(np.corrcoef(projected[:, 0], units[:, 0])[0, 1]) > 0.999
    with pytest.raises(UserError, match="5 wide, the projection's 6"):
        Projection.fit(vectors, width=2)(vectors[:, :5])


def test_streaming_a_file_gives_what_a_frame_gives(export, tmp_path) -> None:
    rows = pd.concat([keys(["a", "b", "b"], [10, 10, 30], [0, 2, 0])] * 5, ignore_index=True)
    rows["note"] = pd.Series([["x"], None, []] * 5)  # what is not ours passes through untouched
    table = pa.Table.from_pandas(rows)
    pq.write_table(table, tmp_path / "rows.parquet")
    join = FeatureJoin(export)
    join.stream(tmp_path / "rows.parquet", tmp_path / "out.parquet", batch_rows=4)
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.select(table.column_names).equals(table)
    expected = join(rows)
    for name in join.columns:
        np.testing.assert_array_equal(found[name].to_numpy(), expected[name])


def test_a_stream_that_fails_leaves_no_file(export, tmp_path) -> None:
    rows = pd.concat([keys(["a"], [10], [0])] * 3 + [keys(["a"], [10], [2])], ignore_index=True)
    rows.to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(UserError, match="1 of 4 rows have no match features"):
        FeatureJoin(export).stream(tmp_path / "rows.parquet", tmp_path / "out.parquet", batch_rows=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "rows.parquet"]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """An export whose student was trained up to the second of ``TIMES``, and match features of none of its events."""
    folder = write_export(
        tmp_path / "trained", [10, 20], vectors=vectors_of(2), codes=codes_of(2), until="2025-01-01T00:00:02+00:00"
    )
    write_match(folder, keys(["a"], [10], [2]), match_mean=[0.1], match_items=[1])
    return folder


def told(call: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(warning.filename == __file__ for warning in caught)
    return [str(warning.message) for warning in caught]


def test_rows_that_the_student_may_have_learned_from_are_warned_of_once(trained, tmp_path) -> None:
    join = FeatureJoin(trained, parts=("vectors", "semantic_ids"))
    later, mixed = keys(["a", "b"], [10, 20], [2, 2]), keys(["a", "b", "b"], [10, 20, 10], [0, 1, 2])
    assert told(lambda: join(later)) == []
    assert told(lambda: join(later.drop(columns="timestamp"))) == []  # items have no time
    (said,) = told(lambda: join(mixed))
    assert "trained on events up to 2025-01-01T00:00:02+00:00, and 2 of 3 rows are no later" in said
    assert "selection fit" in said
    assert told(lambda: join(mixed)) == []
    pd.concat([mixed] * 3).to_parquet(tmp_path / "rows.parquet")
    anew = FeatureJoin(trained, parts=("vectors",))
    (said,) = told(lambda: anew.stream(tmp_path / "rows.parquet", tmp_path / "out.parquet", batch_rows=4))
    assert "and 6 of 9 rows are no later" in said
    assert len(pq.read_table(tmp_path / "out.parquet")) == 9


def test_a_time_that_cannot_be_compared_is_warned_of(trained) -> None:
    rows = keys(["a", "b"], [10, 20], [0, 2])
    for times in ([1, 2], rows["timestamp"].dt.tz_localize(None), ["2025-01-01", "2025-01-02"]):
        join = FeatureJoin(trained, parts=("vectors",))
        (said,) = told(lambda join=join, times=times: join(rows.assign(timestamp=times)))
        assert "column 'timestamp' is no time with a zone" in said
    tokyo = rows.assign(timestamp=rows["timestamp"].dt.tz_convert("Asia/Tokyo").dt.as_unit("ns"))
    (said,) = told(lambda: FeatureJoin(trained, parts=("vectors",))(tokyo))
    assert "1 of 2 rows are no later" in said


def test_an_unknown_part_is_refused_with_the_names_of_those_there_are(export) -> None:
    rows = keys(["a"], [10], [0])
    for parts in (["embeddings"], ("vectors", "sids"), "vectors"):
        with pytest.raises(UserError, match=r"(?s)unknown parts \['.*known parts are vectors, semantic_ids, match"):
            feature_frame(rows, export, parts=parts)


def test_rows_before_the_exported_ones_are_told_from_rows_that_were_never_logged(export) -> None:
    early = keys(["a", "a"], [10, 10], [0, 1]).assign(
        timestamp=pd.to_datetime(["2025-01-01 00:00:01", "2024-12-31 00:00:00"], utc=True)
    )
    with pytest.raises(UserError, match=r"1 of 2 rows .* those of 5 logged events") as caught:
        feature_frame(early, export)
    assert "1 of these rows are no later than 2025-01-01T00:00:01+00:00, where those begin" in caught.value.message
    assert caught.value.message.endswith("could tell by the gap how old a row is")
    assert "raise export.max_match_rows and export again" in caught.value.remedy
    drawn = pd.concat([early, keys(["a"], [30], [1])])
    with pytest.raises(UserError, match=r"2 of 3 rows .* 1 of these rows are no later .* gap which rows were logged"):
        feature_frame(drawn, export)
    with pytest.raises(UserError, match="1 of 1 rows have no match features") as caught:
        feature_frame(keys(["a"], [30], [1]), export)
    assert "max_match_rows" not in str(caught.value)


def test_what_is_no_export_is_told_which_stage_writes_one(export, tmp_path) -> None:
    with pytest.raises(UserError, match=r"(?s)nowhere: no such folder.*stage export"):
        FeatureJoin(tmp_path / "nowhere")
    for read, name in (
        (FeatureJoin, "item_embeddings.parquet"),
        (Exported.read, "semantic_ids.parquet"),
        (FeatureJoin, "match_features.parquet"),
        (MatchItems.read, "match_basis.safetensors"),
    ):
        shutil.rmtree(tmp_path / "less", ignore_errors=True)
        shutil.copytree(export, tmp_path / "less")
        (tmp_path / "less" / name).unlink(missing_ok=True)  # the basis is not among what these tests write
        with pytest.raises(UserError, match=rf"(?s)no {name} in this folder.*stage export"):
            read(tmp_path / "less")
    FeatureJoin(export, parts=("vectors",))


def test_an_empty_frame_gets_empty_columns(export) -> None:
    joined = feature_frame(keys([], [], []), export)
    assert len(joined) == 0
    assert joined.columns.tolist()[3:] == FeatureJoin(export).columns
