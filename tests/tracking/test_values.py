from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.settings import Settings
from recdistill.tracking.values import MAX_VALUE, cut, flatten, is_secret, metric_key, redact


class _Inner(Settings):
    dim: int = 64
    hf_token: str = "hf_abcdefghijklmnopqrstuvwxyz"


class _Outer(Settings):
    teachers: _Inner = _Inner()
    seeds: tuple[int, ...] = (0, 1)
    root: Path = Path("data/ml")


def test_flatten_makes_dotted_parameters_and_leaves_secrets_out() -> None:
    assert flatten(_Outer()) == {"teachers.dim": "64", "seeds": "[0, 1]", "root": "data/ml"}
    nested = {
        "external": [{"path": "a"}, {"path": "b"}],
        "empty": {},
        "none": None,
        "store": {"credentials": {"user": "x"}},
    }
    assert flatten(nested) == {"external.0.path": "a", "external.1.path": "b", "empty": "{}", "none": "None"}


@pytest.mark.parametrize(
    "key", ["password", "db.password", "hf_token", "apiKey", "a.api_key", "aws_secret_access_key", "auth"]
)
def test_credentials_are_known_by_name(key: str) -> None:
    assert is_secret(key)


@pytest.mark.parametrize(
    "key", ["query_tokens", "tokenizer", "author", "monkey", "keys", "students.max_tokens", "secretary_problem"]
)
def test_innocent_names_stay(key: str) -> None:
    assert not is_secret(key)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("http://ann:s3cr3t@host:5000/x", "http://***@host:5000/x"),
        ("postgresql+psycopg://u:s3cr3t@db/mlflow", "postgresql+psycopg://***@db/mlflow"),
        ("https://h/f?a=1&X-Amz-Signature=s3cr3t&b=2", "https://h/f?a=1&X-Amz-Signature=***&b=2"),
        ("Authorization: Bearer s3cr3ts3cr3t", "Authorization: Bearer ***"),
        ("https://h/plain?page=2", "https://h/plain?page=2"),
        ("bearer of news", "bearer of news"),
    ],
)
def test_credentials_are_taken_out_of_values(text: str, left: str) -> None:
    assert redact(text) == left
    assert flatten({"value": text})["value"] == left


def test_cut_values_of_different_ends_still_differ() -> None:
    first, second = cut("x" * 5000 + "a"), cut("x" * 5000 + "b")
    assert len(first) == len(second) == MAX_VALUE
    assert first != second
    assert cut("x" * MAX_VALUE) == "x" * MAX_VALUE


def test_metric_names_that_the_flow_writes() -> None:
    assert metric_key("student/seq2item_vanilla/all/recall_at_10") == "student/seq2item_vanilla/all/recall_at_10"
    assert metric_key("raw_content+student/ranker/all/auc") == "raw_content_plus_student/ranker/all/auc"
    assert metric_key("recall@10") == "recall_at_10"


@given(st.text(max_size=400))
def test_every_metric_name_becomes_one_that_mlflow_takes(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    key = metric_key(name)
    _validate_metric_name(key)
    assert len(key) <= 250
    assert metric_key(key) == key


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=30),
        st.one_of(st.text(max_size=900), st.floats(), st.none(), st.lists(st.integers())),
    )
)
def test_flattened_values_fit_every_server(settings: dict[str, object]) -> None:
    for key, value in flatten(settings).items():
        assert len(value) <= MAX_VALUE
        assert re.fullmatch(r"[\w./\- :]*", key, re.ASCII)
