"""Features of tuned towers, prepared batch by batch: whose they are, what is missing, and what is prepared ahead."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import soundfile
import torch
from tiny_world import make_items, tiny_clap, wav, write_catalogue

from recdistill.contracts.tables import write_table
from recdistill.students import EncodersConfig, StudentConfig, build_student, encode, feature_source
from recdistill.students.encoders.media import BadMediaError
from recdistill.students.live import LiveFeatures, LiveMedia
from recdistill.students.media_files import MediaFiles
from recdistill.students.raw import RawUnits

Make = Callable[..., EncodersConfig]
COUNT = 12


class Small:
    """An encoded catalogue in a folder of its own, which a test may damage."""

    def __init__(self, folder: Path, make_config: Make, **media: bytes | None) -> None:
        """``media``: contents in place of those of ``make_items``, None takes one away."""
        self.items, given = make_items(COUNT)
        self.media = {name: content for name, content in {**given, **media}.items() if content is not None}
        self.data, self.content, self.files = folder / "data", folder / "content", folder / "media"
        self.ids = write_catalogue(self.data, self.items, {})
        self.files.mkdir()
        for name, content in self.media.items():
            (self.files / name).write_bytes(content)
        # As many media are files as are bytes in the table.
        apart = {name: place % 2 == 0 for place, name in enumerate(self.media)}
        columns = {
            "media_id": pa.array(list(self.media), pa.string()),
            "path": pa.array([str(self.files / n) if apart[n] else None for n in self.media], pa.string()),
            "bytes": pa.array([None if apart[n] else self.media[n] for n in self.media], pa.binary()),
        }
        write_table(pa.table(columns), self.data / "media.parquet")
        audio = {"name": str(tiny_clap(folder / "clap")), "width": None}
        self.config = make_config(folder / "cache", audio=audio)
        encode(self.config, data=self.data, out=self.content)

    def source(
        self, *modalities: str, ids: list[Any] | None = None, **other: Any
    ) -> tuple[StudentConfig, LiveFeatures]:
        config = StudentConfig.model_validate(
            {"skip": None, "dim": 8, "tuning": dict.fromkeys(modalities, "full"), **other}
        )
        index = pd.Index(self.ids if ids is None else ids)
        source = feature_source(config, content=self.content, data=self.data, item_ids=index)
        assert isinstance(source, LiveFeatures)
        return config, source


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, make_config: Make) -> Small:
    return Small(tmp_path_factory.mktemp("small"), make_config)


def raw_of(source: LiveFeatures, modality: str, rows: list[int]) -> tuple[RawUnits, torch.Tensor]:
    features, present = source.batch(torch.tensor(rows, dtype=torch.long))
    raw = features[modality]
    assert isinstance(raw, RawUnits)
    return raw, present[modality]


def same(left: RawUnits, right: RawUnits) -> None:
    assert (left.items, len(left.owner)) == (right.items, len(right.owner))
    for name, value in left.inputs.items() if len(left.owner) else ():
        torch.testing.assert_close(value[..., : right.inputs[name].shape[-1]], right.inputs[name])
    for one, other in ((left.owner, right.owner), (left.place, right.place), (left.weight, right.weight)):
        torch.testing.assert_close(one, other)
    if left.beside is not None and right.beside is not None:
        torch.testing.assert_close(left.beside, right.beside)


def test_only_tuned_modalities_are_raw(small: Small) -> None:
    _, source = small.source("image", modalities=("image", "text"))
    features, present = source.batch(slice(2, 5))
    assert features.keys() == present.keys() == {"image", "text"}
    assert isinstance(features["image"], RawUnits) and isinstance(features["text"], torch.Tensor)
    assert len(features["image"]) == len(features["text"]) == 3
    plain = feature_source(StudentConfig(), content=small.content, data=small.data, item_ids=pd.Index(small.ids))
    assert set(plain.batch(slice(0, 2))[0]) == {"audio", "image", "text", "structured"}


def test_rows_of_a_batch_are_the_batch_of_those_rows(small: Small) -> None:
    _, source = small.source("audio", "image", "text")
    for modality in ("audio", "image", "text"):
        whole, there = raw_of(source, modality, list(range(COUNT)))
        for rows in ([4, 1, 1, 8], [], [11]):
            part, mask = raw_of(source, modality, rows)
            same(whole[torch.tensor(rows, dtype=torch.long)], part)
            assert mask.tolist() == there[rows].tolist()
        same(whole[3:9], raw_of(source, modality, list(range(3, 9)))[0])


def test_frames_have_places_and_clips_are_averaged(small: Small) -> None:
    _, source = small.source("audio", "image")
    image, _ = raw_of(source, "image", [2, 0, 1])  # two frames, none, one
    assert image.owner.tolist() == [0, 0, 2]
    assert (image.place.tolist(), image.places, image.weight.tolist()) == ([0, 1, 0], 2, [1, 1, 1])
    audio, there = raw_of(source, "audio", [3, 4])
    assert (audio.owner.tolist(), audio.weight.tolist(), there.tolist()) == ([0], [1], [True, False])


def test_items_that_the_catalogue_does_not_know_have_nothing(small: Small) -> None:
    _, source = small.source("image", "text", ids=["i003", "stranger", "i001"])
    assert len(source) == 3
    for modality, known in (("image", [False, False, True]), ("text", [True, False, True])):
        assert raw_of(source, modality, [0, 1, 2])[1].tolist() == known


def test_short_sounds_are_repeated_and_long_ones_averaged(tmp_path: Path, make_config: Make) -> None:
    """10 s are what is heard at once: 2.5 s are heard four times, 25 s are three pieces."""
    short, long = wav(1, seconds=2.5, rate=4000), wav(1, seconds=25)
    samples, _ = soundfile.read(io.BytesIO(short), dtype="int16")
    four = io.BytesIO()
    soundfile.write(four, np.tile(samples, 4), 4000, format="WAV", subtype="PCM_16")
    small = Small(tmp_path, make_config, **{"audio-3-0": short, "audio-7-0": four.getvalue(), "audio-11-0": long})
    config, source = small.source("audio", modalities=("audio",))
    raw, _ = raw_of(source, "audio", [3, 7, 11])
    assert raw.owner.tolist() == [0, 1, 2, 2, 2]
    assert raw.place.tolist() == [0] * 5
    torch.testing.assert_close(raw.weight, torch.tensor([1, 1, 1 / 3, 1 / 3, 1 / 3]))
    torch.testing.assert_close(raw.inputs["input_features"][0], raw.inputs["input_features"][1])
    student = build_student(config, content=small.content, seed=0).eval()
    network, dense = student.tuned.networks["audio"], student.featurizer.towers["audio"]
    with torch.no_grad():
        pieces = network(**raw.inputs)
        features = student.tuned({"audio": raw}, student.featurizer, reads=("audio",))["audio"]
    torch.testing.assert_close(features[2], dense(pieces[2:].mean(0)), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(features[1], dense(pieces[1]), atol=1e-5, rtol=1e-5)


def test_a_bad_picture_counts_as_missing_and_is_listed(tmp_path: Path, make_config: Make) -> None:
    small = Small(tmp_path, make_config, **{"image-2-0": b"\xff\xd8\xff\xe0 truncated", "image-4-0": None})
    _, source = small.source("image")
    image, there = raw_of(source, "image", [1, 2, 4])
    assert there.tolist() == [True, True, False]
    assert (image.owner.tolist(), image.place.tolist()) == ([0, 1], [0, 0])
    live = source.live["image"]
    assert isinstance(live, LiveMedia) and not live.faults  # what the encode stage has listed is not tried again
    victim = next(path for path in sorted(small.files.iterdir()) if path.name.startswith("image-7"))
    victim.unlink()
    with pytest.warns(UserWarning, match="image-7-0: counted as missing"):
        assert raw_of(source, "image", [7, 1])[1].tolist() == [False, True]
    assert "not readable" in live.faults["image-7-0"]


def test_what_is_prepared_ahead_is_what_is_asked(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    _, source = small.source("image")
    plain, _ = raw_of(source, "image", [1, 2, 5])
    opened: list[str] = []
    open_medium = MediaFiles.open

    def counting(files: MediaFiles, medium: str) -> bytes | Path:
        opened.append(medium)
        return open_medium(files, medium)

    monkeypatch.setattr(MediaFiles, "open", counting)
    source.prefetch(torch.tensor([1, 2, 5]))
    same(raw_of(source, "image", [1, 2, 5])[0], plain)
    assert sorted(opened) == ["image-1-0", "image-2-0", "image-2-1", "image-5-0", "image-5-1"]
    source.prefetch(torch.tensor([8]))
    same(raw_of(source, "image", [1, 2, 5])[0], plain)  # another batch than the one prepared
    assert raw_of(source, "image", [8])[0].owner.tolist() == [0, 0]


def test_media_are_found_by_id(small: Small) -> None:
    files = MediaFiles(small.data / "media.parquet", set(small.media))
    for name, content in small.media.items():
        found = files.open(name)
        assert (found.read_bytes() if isinstance(found, Path) else found) == content
    assert {type(files.open(name)) for name in small.media} == {bytes, type(small.files)}
    with pytest.raises(BadMediaError, match="not in the media table"):
        files.open("stranger")


def test_texts_are_kept_as_tokens(small: Small) -> None:
    config, source = small.source("text")
    student = build_student(config, content=small.content, seed=0)
    raw, _ = raw_of(source, "text", [0, 1])
    lengths = raw.inputs["attention_mask"].sum(1)
    assert raw.inputs["input_ids"].shape[1] == lengths.max()
    assert raw.beside is not None and raw.beside.shape == (2, 1, 8)
    vectors = student.tuned.networks["text"](**raw.inputs)
    ids = raw.inputs["input_ids"][:1, : lengths[0]]
    alone = student.tuned.networks["text"](input_ids=ids, attention_mask=torch.ones_like(ids))
    np.testing.assert_allclose(vectors[0].detach(), alone[0].detach(), atol=1e-5)
