"""The feature cache under killed and concurrent writers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from recdistill.students.cache import FeatureCache, default_cache, text_key

WRITER = """
import sys, numpy as np
from pathlib import Path
from recdistill.students.cache import FeatureCache, text_key
cache = FeatureCache(Path(sys.argv[1]), "tower")
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    keys = [text_key(f"{number}-{row}") for row in range(8)]
    cache.put(keys, np.full((8, 1, 256), number, dtype=np.float32))
    print(number, flush=True)
"""


def keys_of(number: int) -> list[bytes]:
    return [text_key(f"{number}-{row}") for row in range(8)]


def start(root: Path, first: int, last: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), str(first), str(last)], stdout=subprocess.PIPE, text=True
    )


def test_what_is_put_is_read_in_any_order_and_by_a_new_reader(tmp_path: Path) -> None:
    cache, vectors = FeatureCache(tmp_path, "tower"), np.random.default_rng(0).normal(size=(8, 3, 5)).astype(np.float32)
    cache.put(keys_of(1), vectors)
    cache.put(keys_of(2), vectors + 1)
    wanted = [*keys_of(2)[::-1], keys_of(1)[3]]
    expected = np.concatenate([(vectors + 1)[::-1], vectors[3:4]])
    for reader in (cache, FeatureCache(tmp_path, "tower")):
        assert reader.shape == (3, 5)
        np.testing.assert_array_equal(reader.read(wanted), expected)
    assert FeatureCache(tmp_path, "another tower").missing(wanted[:1]) == [0]


def test_missing_names_each_absent_key_once(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "tower")
    a, b, c = keys_of(0)[:3]
    assert cache.missing([b, a, b]) == [0, 1]
    cache.put([a], np.zeros((1, 1, 2)))
    assert cache.missing([a, b, b, c]) == [1, 3]
    with pytest.raises(KeyError, match="1 keys"):
        cache.read([a, b])
    assert cache.missing([]) == []


def test_keys_that_end_in_zero_bytes_stay_themselves(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "tower")
    keys = [b"a" * 15 + b"\0", b"a" * 14 + b"\0\0", b"\0" * 16]
    cache.put(keys[:2], np.arange(2, dtype=np.float32).reshape(2, 1, 1))
    assert cache.missing(keys) == [2]
    assert cache.read(keys[:2]).ravel().tolist() == [0, 1]


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "other shape"])
def test_a_damaged_part_is_ignored(tmp_path: Path, damage: str) -> None:
    cache = FeatureCache(tmp_path, "tower")
    cache.put(keys_of(0), np.zeros((8, 1, 4)))
    part = next((tmp_path / "tower").glob("part-*"))
    bad = part.with_name("part-zzz.safetensors")
    data = part.read_bytes()
    if damage == "other shape":
        FeatureCache(tmp_path, "other").put(keys_of(1), np.zeros((8, 1, 5)))
        data = next((tmp_path / "other").glob("part-*")).read_bytes()
    bad.write_bytes({"cut": data[:-7], "empty": b"", "noise": b"\xff" * 100, "other shape": data}[damage])
    again = FeatureCache(tmp_path, "tower")
    assert again.ignored == [bad]
    assert again.missing(keys_of(0) + keys_of(1)) == list(range(8, 16))


def test_two_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    writers = [start(tmp_path, 0, 40), start(tmp_path, 30, 70)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    cache = FeatureCache(tmp_path, "tower")
    assert cache.ignored == []
    for number in range(70):
        np.testing.assert_array_equal(cache.read(keys_of(number)), np.full((8, 1, 256), number))


def test_a_killed_writer_leaves_only_whole_parts(tmp_path: Path) -> None:
    writer = start(tmp_path, 0, 1_000_000)
    assert writer.stdout is not None
    writer.stdout.readline()
    time.sleep(0.2)
    os.kill(writer.pid, signal.SIGKILL)
    said = writer.communicate()[0].split()
    cache = FeatureCache(tmp_path, "tower")
    assert cache.ignored == []
    for number in range(int(said[-1]) + 1):
        np.testing.assert_array_equal(cache.read(keys_of(number)), np.full((8, 1, 256), number))


def test_the_folder_is_the_environments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECDISTILL_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("RECDISTILL_CACHE")
    assert default_cache() == Path.home() / ".cache" / "recdistill"
