"""The encode stage: tables, the cache across runs, bad media, and what must not matter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_world import World, make_items, write_catalogue, write_media

from recdistill.contracts.tables import EmbeddingTable, read_metadata, read_table, write_table
from recdistill.errors import UserError
from recdistill.students import EncodersConfig, FeatureStore, encode

Make = Callable[..., EncodersConfig]
MODALITIES = ("audio", "image", "text", "structured")


def summary(content: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((content / "encode.json").read_text())
    return found


def test_tables_hold_the_items_that_have_the_modality(world: World) -> None:
    have = {
        "audio": ["audio" in item for item in world.items],
        "image": ["image" in item for item in world.items],
        "text": ["text" in item for item in world.items],
        "structured": ["structured" in item for item in world.items],
    }
    for modality in MODALITIES:
        path = world.content / "features" / f"{modality}.parquet"
        table, metadata = read_table(path), read_metadata(path)
        expected = [item for item, has in zip(world.ids, have[modality], strict=True) if has]
        assert table["item_id"].to_pylist() == expected
        assert metadata["modality"] == modality
        assert table.schema.field("embedding").type.list_size == metadata["tokens"] * metadata["width"]
        values = table["embedding"].combine_chunks().flatten().to_numpy()
        assert np.isfinite(values).all()
    assert read_metadata(world.content / "features" / "image.parquet")["tokens"] == 2


def test_features_are_centred_and_of_mean_norm_one(world: World) -> None:
    store = FeatureStore.load(world.content, pd.Index(world.ids))
    for modality in ("audio", "structured"):
        there = store.features[modality][store.present[modality]][:, 0]
        # Numbers are centred as their own block; every block has its own missing items.
        assert there.norm(dim=1).mean().item() == pytest.approx(1, abs=0.15), modality
    audio = store.features["audio"][store.present["audio"]][:, 0]
    assert audio.mean(0).abs().max().item() < 1e-5
    frames = store.features["image"].flatten(0, 1)
    frames = frames[(frames != 0).any(1)]
    assert frames.mean(0).abs().max().item() < 1e-5
    assert frames.norm(dim=1).mean().item() == pytest.approx(1, abs=1e-5)


def test_raw_content_is_of_norm_one_and_says_its_geometry(world: World) -> None:
    for name, kind in (("raw_content", "raw_content"), ("raw_content_towers", "raw_content_towers")):
        table = EmbeddingTable.read(world.content / f"{name}.parquet")
        assert table.metadata["geometry"] == "cosine"
        assert table.metadata["kind"] == kind
        np.testing.assert_allclose(np.linalg.norm(table.vectors, axis=1), 1, atol=1e-5)
        assert table.ids.tolist() == world.ids


def test_raw_content_says_whose_its_columns_are(world: World) -> None:
    """An item has values in a modality's columns just if it has a vector of that modality."""
    table = EmbeddingTable.read(world.content / "raw_content.parquet")
    end = 0
    for modality, width in table.metadata["widths"]:
        mine = np.abs(table.vectors[:, end : end + width]).sum(axis=1) > 0
        assert set(table.ids[mine]) == set(EmbeddingTable.read(world.content / "features" / f"{modality}.parquet").ids)
        end += width
    assert end == table.vectors.shape[1]


def test_a_second_run_encodes_nothing_and_gives_the_same(world: World, tmp_path: Path) -> None:
    first = summary(world.content)
    assert {m: first["modalities"][m]["encoded"] for m in ("text", "audio")} == {"text": 24, "audio": 6}
    encode(world.config, data=world.data, out=tmp_path)
    second = summary(tmp_path)
    assert all(second["modalities"][m]["encoded"] == 0 for m in ("text", "image", "audio"))
    for path in sorted(world.content.rglob("*.parquet")):
        assert (tmp_path / path.relative_to(world.content)).read_bytes() == path.read_bytes(), path


def test_bad_media_are_listed_and_count_as_missing(tmp_path: Path, make_config: Make) -> None:
    items, media = make_items(8)
    write_catalogue(tmp_path, items, {**media, "image-1-0": b"\xff\xd8\xff\xe0 truncated", "audio-3-0": b""})
    out = tmp_path / "content"
    encode(make_config(tmp_path / "cache"), data=tmp_path, out=out)
    bad = read_table(out / "bad_media.parquet").to_pandas()
    assert bad[["media_id", "item_id"]].to_numpy().tolist() == [["image-1-0", "i001"], ["audio-3-0", "i003"]]
    assert bad["reason"].tolist() == ["not a readable image: Truncated File Read", "empty file"]
    assert summary(out)["bad_media"] == 2
    store = FeatureStore.load(out, pd.Index([f"i{n:03d}" for n in range(8)]))
    assert not store.present["image"][1]
    assert not store.features["image"][1].any()
    assert store.present["image"][2]
    encode(make_config(tmp_path / "cache"), data=tmp_path, out=out)
    assert read_table(out / "bad_media.parquet").to_pandas().equals(bad)


def test_labels_have_no_influence(world: World, tmp_path: Path) -> None:
    table = read_table(world.data / "items.parquet")
    at = table.column_names.index("labels_secret")
    labels = pa.array([[str(n)] for n in range(len(table))], pa.list_(pa.string()))
    write_table(table.set_column(at, "labels_secret", labels), tmp_path / "items.parquet")
    write_media(tmp_path, world.media)
    encode(world.config, data=tmp_path, out=tmp_path / "content")
    for path in sorted(world.content.rglob("*.parquet")):
        assert (tmp_path / "content" / path.relative_to(world.content)).read_bytes() == path.read_bytes(), path


def test_the_order_of_rows_does_not_matter(world: World, tmp_path: Path) -> None:
    order = np.random.default_rng(3).permutation(len(world.ids))
    write_table(read_table(world.data / "items.parquet").take(pa.array(order)), tmp_path / "items.parquet")
    write_media(tmp_path, dict(sorted(world.media.items(), reverse=True)))
    encode(world.config, data=tmp_path, out=tmp_path / "content")
    ids = pd.Index(world.ids)
    one, other = (
        EmbeddingTable.read(world.content / "raw_content.parquet"),
        EmbeddingTable.read(tmp_path / "content" / "raw_content.parquet"),
    )
    # Components of like variance may turn into each other: compare what they are used for.
    left, right = one.align(ids)[0], other.align(ids)[0]
    np.testing.assert_allclose(left @ left.T, right @ right.T, atol=1e-3)


def test_integer_ids_and_null_fields(tmp_path: Path, make_config: Make) -> None:
    items, media = make_items(6)
    write_catalogue(tmp_path, items, media, ids=list(range(100, 106)))
    encode(make_config(tmp_path / "cache", audio=None, structured=None), data=tmp_path, out=tmp_path / "content")
    ids = pd.Index([105, 999, 100])
    store = FeatureStore.load(tmp_path / "content", ids)
    assert sorted(store.features) == ["image", "text"]
    assert store.present["text"].tolist() == [True, False, True]
    assert not store.features["text"][1].any()
    features, present = store.batch(torch.tensor([2]))
    assert features["text"].shape == (1, 1, store.features["text"].shape[2])
    assert present["image"].tolist() == [False]
    with pytest.raises(UserError, match="no features of audio"):
        FeatureStore.load(tmp_path / "content", ids, modalities=["audio"])


def test_nothing_to_encode_is_the_users_mistake(tmp_path: Path, make_config: Make) -> None:
    write_table(
        pa.table({"item_id": ["a", "b"], "images": pa.array([[], []], pa.list_(pa.string()))}),
        tmp_path / "items.parquet",
    )
    with pytest.raises(UserError, match="no item has content"):
        encode(make_config(tmp_path / "cache"), data=tmp_path, out=tmp_path / "content")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"text": {"name": "packaged:other"}}, "no such packaged encoder"),
        ({"text": {"name": "/no/such/folder"}}, "no such folder"),
        ({"image": {"name": "."}}, "no .*safetensors"),
    ],
)
def test_towers_that_are_not_there(tmp_path: Path, make_config: Make, section: dict[str, Any], message: str) -> None:
    items, media = make_items(3)
    write_catalogue(tmp_path, items, media)
    with pytest.raises(UserError, match=message):
        encode(make_config(tmp_path / "cache", **section), data=tmp_path, out=tmp_path / "content")


KILLED = """
import sys
from pathlib import Path
import recdistill.students.collect as collect
from recdistill.students import EncodersConfig, encode
collect._AT_ONCE, collect._SAVE_UNITS = 2, 2  # many small parts
tower = collect.encode_media
def slow(*arguments):
    import time
    print("at work", flush=True)
    time.sleep(0.1)
    return tower(*arguments)
collect.encode_media = slow
encode(EncodersConfig.model_validate_json(sys.argv[1]), data=Path(sys.argv[2]), out=Path(sys.argv[3]))
"""


def test_killed_it_goes_on_from_the_cache(world: World, tmp_path: Path) -> None:
    config = world.config.model_copy(update={"cache": tmp_path / "cache"})
    arguments = [sys.executable, "-c", KILLED, config.model_dump_json(), str(world.data), str(tmp_path / "content")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(4):
        process.stdout.readline()
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "content" / "encode.json").exists()
    encode(config, data=world.data, out=tmp_path / "content")
    again = summary(tmp_path / "content")["modalities"]
    assert again["text"]["encoded"] == 0
    assert again["image"]["encoded"] + again["audio"]["encoded"] < again["image"]["units"] + again["audio"]["units"]
    left = pq.read_table(world.content / "raw_content.parquet")["embedding"].combine_chunks().flatten().to_numpy()
    right = (
        pq.read_table(tmp_path / "content" / "raw_content.parquet")["embedding"].combine_chunks().flatten().to_numpy()
    )
    np.testing.assert_allclose(left, right, atol=1e-4)
