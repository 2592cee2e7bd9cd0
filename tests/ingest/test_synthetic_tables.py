"""The planted world as tables: contracts, determinism, time, ids, truth read back."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image
from pydantic import ValidationError

from recdistill.contracts import names
from recdistill.contracts.log import Log
from recdistill.errors import UserError
from recdistill.ingest import check_tables
from recdistill.ingest.synthetic import Truth, WorldConfig, stage, write_world
from recdistill.ingest.synthetic.affinity import BEHAVIOURS
from recdistill.ingest.synthetic.audience import Users, blocks, build_users, user_numbers
from recdistill.ingest.synthetic.catalogue import Catalogue
from recdistill.ingest.synthetic.exposure import Request
from recdistill.ingest.synthetic.simulate import simulate_block

TINY = WorldConfig.tiny()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    write_world(TINY, out=out)
    return out


@pytest.fixture(scope="module")
def log(world: Path) -> pd.DataFrame:
    return pq.read_table(world / "interactions.parquet").to_pandas()


def digests(folder: Path) -> dict[str, str]:
    files = sorted(folder.rglob("*.*"))
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()}


def test_same_config_same_bytes_and_another_seed_another_world(world: Path, tmp_path: Path) -> None:
    write_world(TINY, out=tmp_path / "again")
    assert digests(tmp_path / "again") == digests(world)
    assert set(digests(world)) == {
        "interactions.parquet", "items.parquet", "media.parquet",
        "truth/items.parquet", "truth/users.parquet", "truth/visits.parquet", "truth/world.json",
    }  # fmt: skip
    write_world(WorldConfig.tiny(seed=1), out=tmp_path / "other")
    other = digests(tmp_path / "other")
    assert all(other[name] != digest for name, digest in digests(world).items())


def test_tables_satisfy_their_contracts(world: Path) -> None:
    check_tables(world, tolerance_hours=24)


def test_tables_have_the_canonical_types(world: Path, log: pd.DataFrame) -> None:
    schema = pq.read_schema(world / "interactions.parquet")
    assert schema.field(names.TIMESTAMP).type == pa.timestamp("us", "UTC")
    assert schema.field(names.BEHAVIOURS).type == pa.list_(pa.string())
    assert schema.field(names.POSITION).type == pa.int16()
    assert schema.field(names.DWELL).type == pa.float32()
    items = pq.read_schema(world / "items.parquet")
    for name in items.names:
        prefix = name.split("_")[0]
        expected = {"text": pa.string(), "number": pa.float64(), "item": pa.string()}.get(prefix, pa.list_(pa.string()))
        assert items.field(name).type == expected, name
    assert len(Log.read([world / "interactions.parquet"])) == len(log)


def test_every_medium_is_referenced_once_and_can_be_decoded(world: Path) -> None:
    items, media = (pq.read_table(world / f"{t}.parquet").to_pandas() for t in ("items", "media"))
    referenced = [m for column in (names.IMAGES, names.AUDIO) for row in items[column] for m in row]
    assert sorted(referenced) == sorted(media.media_id)
    assert media.media_id.is_unique
    assert media.path.isna().all()
    for row in media.itertuples():
        if row.media_id.endswith(".png"):
            image = Image.open(io.BytesIO(row.bytes))
            assert (image.size, image.mode) == ((24, 24), "RGB")
        else:
            wave, rate = soundfile.read(io.BytesIO(row.bytes), dtype="int16")
            assert (rate, wave.shape) == (16_000, (16_000,))
            assert np.abs(wave).max() > 3_000


def test_some_items_lack_a_modality_and_some_have_two_images(world: Path) -> None:
    items = pq.read_table(world / "items.parquet").to_pandas()
    images = items[names.IMAGES].str.len()
    assert set(images) == {0, 1, 2}
    assert 0.1 < (items[names.AUDIO].str.len() == 0).mean() < 0.6
    assert 0 < items.text_description.isna().mean() < 0.4
    assert items.text_title.notna().all()


def test_without_media_the_tables_still_hold(tmp_path: Path) -> None:
    write_world(TINY.model_copy(update={"media": 0.0}), out=tmp_path)
    assert pq.read_table(tmp_path / "media.parquet").num_rows == 0
    check_tables(tmp_path, tolerance_hours=24)


def test_media_do_not_change_what_users_do(world: Path, tmp_path: Path) -> None:
    write_world(TINY.model_copy(update={"media": 0.0, "clarity": 0.2}), out=tmp_path)
    assert digests(tmp_path)["interactions.parquet"] == digests(world)["interactions.parquet"]


def test_impressions_are_pages_with_ascending_positions_and_times(log: pd.DataFrame) -> None:
    pages = log.sort_values(["user_id", "timestamp"], kind="stable").groupby(names.IMPRESSION_ID)
    assert (pages[names.POSITION].apply(list).map(lambda p: p == list(range(1, len(p) + 1)))).all()
    assert pages.size().max() <= TINY.slots
    assert (pages[names.SESSION_ID].nunique() == 1).all()
    assert (pages[names.USER_ID].nunique() == 1).all()
    sessions = log.groupby(names.SESSION_ID).timestamp.agg(["min", "max"])
    assert (sessions["min"].dt.date == sessions["max"].dt.date).all()
    assert (sessions["max"] - sessions["min"]).max() < pd.Timedelta(hours=1)


def test_a_users_times_ascend_strictly_and_no_item_is_shown_twice(log: pd.DataFrame) -> None:
    ordered = log.sort_values(["user_id", "timestamp"])
    gaps = ordered.groupby("user_id").timestamp.diff().dropna()
    assert (gaps > pd.Timedelta(seconds=1)).all()
    assert not log.duplicated(["user_id", "item_id"]).any()
    start = pd.Timestamp(TINY.start, tz="UTC")
    assert log.timestamp.between(start, start + pd.Timedelta(days=TINY.days), inclusive="left").all()


def test_non_clicks_are_rows_and_the_other_behaviours_need_a_click(log: pd.DataFrame) -> None:
    sets = log.behaviours.map(tuple)
    assert (sets == ()).mean() > 0.5
    acted = sets[sets != ()]
    assert all(s[0] == "click" and list(s) == sorted(s, key=BEHAVIOURS.index) for s in acted)
    assert set().union(*acted) == set(BEHAVIOURS)
    assert (log[names.DWELL].notna() == (sets != ())).all()
    assert (log[names.DWELL].dropna() > 0).all()


def test_no_item_is_shown_before_it_arrived(world: Path, log: pd.DataFrame) -> None:
    arrival = pq.read_table(world / "truth" / "items.parquet").to_pandas().set_index("item_id").arrival
    lead = log.timestamp - log.item_id.map(arrival)
    assert (lead > pd.Timedelta(0)).all()
    late = arrival[arrival >= pd.Timestamp(TINY.start, tz="UTC")]
    assert len(late) == round(TINY.new_items * TINY.items)
    # and the new ones do reach users, soon
    assert lead[log.item_id.isin(late.index)].groupby(log.item_id).min().median() < pd.Timedelta(days=4)


def test_released_day_says_the_arrival_and_nothing_later(world: Path) -> None:
    items = pq.read_table(world / "items.parquet").to_pandas()
    truth = pq.read_table(world / "truth" / "items.parquet").to_pandas()
    assert (items.item_id == truth.item_id).all()
    days = (truth.arrival - pd.Timestamp(TINY.start, tz="UTC")) / pd.Timedelta(days=1)
    given = items.number_released_day.notna()
    np.testing.assert_allclose(items.number_released_day[given], days[given], atol=1e-3)


def test_ids_and_row_order_say_nothing() -> None:
    config = WorldConfig(users=3_000, items=3_000)
    catalogue = Catalogue.build(config)
    users = build_users(config, catalogue, block=0, numbers=user_numbers(config))
    number = pd.Series(catalogue.item_ids).str.slice(1).astype(int).to_numpy()
    facts = [catalogue.topic, catalogue.quality, catalogue.popularity, catalogue.arrival, *catalogue.views.T]
    limit = 4 / np.sqrt(3_000)
    assert all(abs(np.corrcoef(number, fact)[0, 1]) < limit for fact in facts)
    assert all(
        abs(np.corrcoef(users.numbers, f)[0, 1]) < limit for f in (users.topics[:, 0], users.return_base, users.signup)
    )
    assert len(set(catalogue.item_ids)) == len(set(users.user_ids)) == 3_000


def test_items_are_written_in_order_of_their_id(world: Path) -> None:
    for name in ("items.parquet", "truth/items.parquet"):
        ids = pq.read_table(world / name)[names.ITEM_ID].to_pylist()
        assert ids == sorted(ids)


def test_a_block_alone_equals_its_part_of_the_world(log: pd.DataFrame) -> None:
    assert blocks(TINY) == 3
    catalogue, numbers = Catalogue.build(TINY), user_numbers(TINY)
    for block in (2, 0):
        users = build_users(TINY, catalogue, block=block, numbers=numbers)
        events = simulate_block(TINY, catalogue, users, block=block)
        part = log[log.user_id.isin(users.user_ids)]
        assert part.user_id.tolist() == users.user_ids[events.user].tolist()
        assert part.item_id.tolist() == catalogue.item_ids[events.item].tolist()
        assert part.timestamp.astype("int64").tolist() == events.time.tolist()
        assert (part.behaviours.str.len() > 0).tolist() == (events.reactions > 0).tolist()


def test_many_events_become_a_folder_of_parts_that_reads_alike(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pq.read_table(world / "interactions.parquet")
    monkeypatch.setattr(stage, "SINGLE_FILE_ROWS", 2_000)
    monkeypatch.setattr(stage, "PART_ROWS", 1_000)
    for _ in range(2):  # a folder in the way is replaced
        write_world(TINY, out=tmp_path)
        assert len(list((tmp_path / "interactions.parquet").iterdir())) > 1
        assert pq.read_table(tmp_path / "interactions.parquet").equals(whole)
    monkeypatch.undo()
    write_world(TINY, out=tmp_path)
    assert (tmp_path / "interactions.parquet").is_file()
    assert pq.read_table(tmp_path / "interactions.parquet").equals(whole)


def test_a_failure_leaves_the_former_log_and_no_rubbish(tmp_path: Path) -> None:
    write_world(TINY, out=tmp_path)
    before = digests(tmp_path)

    def breaks(config: WorldConfig, catalogue: Catalogue, users: Users, request: Request) -> np.ndarray:
        raise RuntimeError("the policy failed")

    with pytest.raises(RuntimeError, match="the policy failed"):
        write_world(TINY, out=tmp_path, policy=breaks)
    assert digests(tmp_path) == before


def test_truth_read_back_is_the_truth(world: Path) -> None:
    truth, catalogue, numbers = Truth.read(world), Catalogue.build(TINY), user_numbers(TINY)
    order = np.argsort(catalogue.item_ids)
    np.testing.assert_array_equal(truth.catalogue.style, catalogue.style[order])
    np.testing.assert_array_equal(truth.catalogue.arrival, catalogue.arrival[order])
    np.testing.assert_array_equal(truth.catalogue.audience, catalogue.audience)
    assert truth.catalogue.start == catalogue.start
    users = build_users(TINY, catalogue, block=1, numbers=numbers)
    rows = truth.user_ids.get_indexer(users.user_ids)
    np.testing.assert_array_equal(rows, np.arange(50, 100))
    np.testing.assert_array_equal(truth.users.style_end[rows], users.style_end)
    np.testing.assert_array_equal(truth.users.numbers[rows], users.numbers)
    assert truth.day(
        np.array([catalogue.start - 1, catalogue.start, catalogue.start + 2 * 86_400_000_000])
    ).tolist() == [-1, 0, 2]


def test_truth_of_no_world_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"world\.json: no such file"):
        Truth.read(tmp_path)


def test_settings_refuse_what_cannot_be() -> None:
    for bad in ({"candidates": 3}, {"personalised": 0.95}, {"topics": 25}, {"days": 91}, {"user": 3}):
        with pytest.raises(ValidationError):
            WorldConfig.model_validate(bad)


def test_extreme_worlds_can_be_written(tmp_path: Path) -> None:
    lone = WorldConfig(users=1, items=8, topics=2, days=2, new_items=0.9, media=0.0)
    write_world(lone, out=tmp_path / "lone")
    crowded = WorldConfig(
        users=30,
        items=8,
        topics=3,
        days=90,
        candidates=30,
        slots=20,
        return_base=2.0,
        media=0.0,
        personalised=0.0,
        fresh=1.0,
    )
    write_world(crowded, out=tmp_path / "crowded")
    log = pq.read_table(tmp_path / "crowded" / "interactions.parquet").to_pandas()
    assert not log.duplicated(["user_id", "item_id"]).any()
    assert log.user_id.nunique() == 30
    assert log.groupby("user_id").size().max() == 8
