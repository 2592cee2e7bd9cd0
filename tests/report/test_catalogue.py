"""Pictures of the report: of hostile files, of files that are too large, and of items that share one."""

from __future__ import annotations

import io
from pathlib import Path

import fake_run
import pandas as pd
import pyarrow as pa
import pytest
from PIL import EpsImagePlugin, Image

from recdistill.contracts import names
from recdistill.contracts.tables import write_table
from recdistill.report.catalogue import Catalogue
from recdistill.report.folder import RunFolder
from recdistill.students.encoders.media import MediaLimits


def _bytes(kind: str, size: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size)).save(file, kind)
    return file.getvalue()


def _catalogue(folder: Path, images: list[list[str]], media: dict[str, bytes]) -> Path:
    ids = [f"i{at}" for at in range(len(images))]
    write_table(pd.DataFrame({names.ITEM_ID: ids, "text_title": ids, names.IMAGES: images}), folder / "items.parquet")
    schema = pa.schema(
        [(names.MEDIA_ID, pa.string()), (names.MEDIA_PATH, pa.string()), (names.MEDIA_BYTES, pa.binary())]
    )
    rows = [{names.MEDIA_ID: key, names.MEDIA_PATH: None, names.MEDIA_BYTES: data} for key, data in media.items()]
    write_table(pa.Table.from_pylist(rows, schema=schema), folder / "media.parquet")
    return folder


def _pictures(folder: Path, limits: MediaLimits) -> dict[str, str]:
    catalogue = Catalogue.read(folder, limits=limits)
    assert catalogue is not None
    return catalogue.pictures(catalogue.titles.index)


def test_items_that_share_a_picture_all_show_it(tmp_path: Path) -> None:
    folder = _catalogue(tmp_path, [["p"], ["q"], ["p"], []], {"p": _bytes("PNG"), "q": _bytes("JPEG")})
    found = _pictures(folder, MediaLimits())
    assert found.keys() == {"i0", "i1", "i2"}
    assert found["i0"] == found["i2"]


def test_no_foreign_program_is_started_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []

    def ghostscript(*arguments: object, **options: object) -> None:
        started.append(arguments)
        raise OSError

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    assert _pictures(_catalogue(tmp_path, [["p"]], {"p": _bytes("EPS")}), MediaLimits()) == {}
    assert started == []


def test_what_the_encoders_refuse_is_not_opened(tmp_path: Path) -> None:
    folder = _catalogue(tmp_path / "data", [["p"]], {"p": _bytes("PNG", 64)})
    fake_run.write_recipe(tmp_path)
    assert len(_pictures(folder, RunFolder(tmp_path).media_limits)) == 1
    for limit in ({"image": {"max_megapixels": 0.001}}, {"max_media_mb": 0.00001}):
        fake_run.write_recipe(tmp_path, encoders=limit)
        assert _pictures(folder, RunFolder(tmp_path).media_limits) == {}
