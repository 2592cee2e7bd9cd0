"""Requests of the MLflow model → the student's items."""

from __future__ import annotations

import base64

import numpy as np
import pandas as pd
import pytest

from recdistill.errors import UserError
from recdistill.export.rows import items_of


def test_columns_become_items() -> None:
    frame = pd.DataFrame(
        {
            "text_title": ["Heat", None],
            "tags_genre": [np.array(["Crime", "Drama"]), []],
            "number_year": [1995.0, np.nan],
            "image": [b"\x01", base64.b64encode(b"\x02\x03").decode()],
            "unrelated": [1, 2],
        }
    )
    assert items_of(frame) == [
        {"text": {"title": "Heat"}, "structured": {"genre": ["Crime", "Drama"], "year": 1995.0}, "image": b"\x01"},
        {"image": b"\x02\x03"},
    ]


def test_json_items() -> None:
    sound = base64.b64encode(b"RIFF").decode()
    frame = pd.DataFrame({"item": ['{"text": {"title": "Heat"}, "image": null}', f'{{"audio": ["{sound}"]}}']})
    assert items_of(frame) == [{"text": {"title": "Heat"}}, {"audio": [b"RIFF"]}]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"name": ["x"]}), "no column describes items"),
        (pd.DataFrame({"text_title": ["x", None]}), r"rows \[1\] describe nothing"),
        (pd.DataFrame({"item": ["{", "{}"]}), "row 0, column 'item': not a JSON object"),
        (pd.DataFrame({"item": ['["text"]']}), "row 0, column 'item': not a JSON object"),
        (pd.DataFrame({"item": ['{"title": "x"}']}), "not a JSON object of"),
        (pd.DataFrame({"image": ["/etc/hosts"]}), "row 0, column 'image': neither bytes nor base64"),
        (pd.DataFrame({"image": [5]}), "row 0, column 'image': neither bytes nor base64"),
        (pd.DataFrame({"image": [3.5]}), "row 0, column 'image': neither bytes nor base64"),
        (pd.DataFrame({"audio": [[b"\x01", None]]}), "row 0, column 'audio': neither bytes nor base64"),
        (pd.DataFrame({"item": ['{"image": [1, 2]}']}), "row 0, column 'item': neither bytes nor base64"),
        (pd.DataFrame({"number_year": ["old"]}), "row 0, column 'number_year'"),
        (pd.DataFrame({"tags_genre": [3]}), "row 0, column 'tags_genre'"),
    ],
)
def test_what_cannot_be_read_is_named(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(UserError, match=message):
        items_of(frame)
