"""Titled fields → one text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.students.text import clean, compose, words


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("  a \n\t b  ", "a b"),
        ("Fish &amp; chips &lt;3", "Fish & chips <3"),
        ("<p>One<br/>two</p>", "One two"),
        ("x < y and y > z", "x < y and y > z"),
        ("nul\x00and\x07bell", "nul and bell"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("cafe\u0301", "café"),
    ],
)
def test_clean(raw: str, expected: str) -> None:
    assert clean(raw) == expected


@given(st.text())
def test_clean_leaves_nothing_to_clean_but_entities(text: str) -> None:
    cleaned = clean(text)
    assert cleaned == cleaned.strip()
    assert "  " not in cleaned
    cleaned.encode("utf-8")


def test_compose_titles_fields_and_drops_repeated_sentences_and_empty_fields() -> None:
    fields = {
        "title": "Heat",
        "long_plot": "A heist. A hunt. A heist.",
        "extract": "a heist.  It ends.",
        "empty": " ",
        "none": None,
    }
    assert compose(fields) == "title: Heat long plot: A heist. A hunt. extract: It ends."


def test_compose_of_nothing_is_empty() -> None:
    assert compose({"title": None, "plot": "<br>"}) == ""


def test_words_are_folded_and_of_two_characters_at_least() -> None:
    assert words({"title": "A Straße &amp; 12 x", "plot": None}) == ["strasse", "12"]
