"""Pairs of tags and texts: scores by hand, what is too frequent, which fields count."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pair_worlds import catalogue, listed

from recdistill.errors import UserError
from recdistill.pairs.config import ItemLabelConfig, SameAuthorConfig, SameTagConfig, TextNgramConfig
from recdistill.pairs.item_label import item_label
from recdistill.pairs.same_author import same_author
from recdistill.pairs.same_tag import same_tag
from recdistill.pairs.text_ngram import text_ngram, word_runs

IDS = list("abcdef")
KEYWORDS = [["heist", "train"], ["heist"], ["train", "snow"], ["snow"], [], ["film"]]
GENRES = [["drama"], ["drama"], ["drama"], ["drama"], [], ["war"]]


def test_tags_are_weighed_by_their_rarity(tmp_path):
    """df: heist 2, train 2, snow 2, film 1 of 6 items; drama, on more than two, does not count."""
    of = catalogue(tmp_path, IDS, tags={"keywords": KEYWORDS, "genres": GENRES})
    found = same_tag(SameTagConfig(max_share=1 / 3), of, seed=0)
    pair, twice, war = math.log(3), 2 * math.log(3), math.log(6)
    assert war > pair
    ab = pair / (twice + pair - pair)
    ac = pair / (twice + twice - pair)
    expected = {("a", "b"): ab, ("b", "a"): ab, ("a", "c"): ac, ("c", "a"): ac, ("c", "d"): ab, ("d", "c"): ab}
    assert listed(found) == pytest.approx(expected)
    assert found.about == {"fields": ["keywords", "genres"]} and found.graded
    found = same_tag(SameTagConfig(fields=("keywords",), neighbours=1, max_share=1 / 3), of, seed=0)
    assert listed(found) == pytest.approx({("a", "b"): ab, ("b", "a"): ab, ("c", "d"): ab, ("d", "c"): ab})


@pytest.mark.parametrize("cap", [{"max_share": 0.4}, {"max_share": 1.0, "max_items": 3}])
def test_frequent_tags_do_not_count(tmp_path, cap):
    of = catalogue(tmp_path, IDS, tags={"genres": GENRES})
    assert not len(same_tag(SameTagConfig(**cap), of, seed=0))
    assert len(same_tag(SameTagConfig(max_share=1.0), of, seed=0)) == 12


def test_labels_are_the_judges(tmp_path):
    of = catalogue(tmp_path, IDS, labels=[["x"], ["x"], ["y"], ["y"], ["z"], ["z"]])
    for found in (same_tag(SameTagConfig(), of, seed=0), item_label(ItemLabelConfig(min_items=1), of)):
        assert not len(found) and found.why == "the items table has no tags field"
    assert of.tag_fields == of.text_fields == []


def test_a_field_that_is_not_there_is_a_users_mistake(tmp_path):
    of = catalogue(tmp_path, IDS, tags={"genres": GENRES})
    with pytest.raises(UserError, match=r"pairs\.same_tag\.fields: .*'genre'.*\n.*known tags fields: genres"):
        same_tag(SameTagConfig(fields=("genre",)), of, seed=0)
    with pytest.raises(UserError, match=r"pairs\.same_author\.field"):
        same_author(SameAuthorConfig(field="director"), of, seed=0)
    with pytest.raises(UserError, match="known text fields: none"):
        text_ngram(TextNgramConfig(fields=("plot",)), of, seed=0)


def test_authors_are_found_by_the_fields_name_or_named(tmp_path):
    people = [["Ann"], ["Ann"], ["Bo"], ["Bo"], ["Cy"], []]
    of = catalogue(tmp_path, IDS, tags={"genres": GENRES, "Director": people})
    found = same_author(SameAuthorConfig(), of, seed=0)
    assert listed(found) == pytest.approx(dict.fromkeys([("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")], 1.0))
    assert found.about == {"field": "Director"} and not found.graded
    assert same_author(SameAuthorConfig(field="genres", max_share=1.0), of, seed=0).about == {"field": "genres"}
    nobody = same_author(SameAuthorConfig(), catalogue(tmp_path, IDS, tags={"genres": GENRES}), seed=0)
    assert not len(nobody) and "pairs.same_author.field" in nobody.why


def test_runs_of_words_ignore_case_and_stay_within_their_field():
    texts = [["The old Red house, the old red HOUSE", "", "red house"], ["burns", "old red", "the old red house"]]
    runs = word_runs(texts, words=3)
    assert runs.shape[0] == 3 and set(runs.data) == {1.0}
    assert np.diff(runs.indptr).tolist() == [4, 0, 2]  # the-old-red, old-red-house, red-house-the, house-the-old
    assert word_runs([["", ""]], words=2).shape == (2, 0)


def test_texts_that_share_a_rare_run_belong_together(tmp_path):
    plots = [
        "a golden compass shows the way", "lost without a golden compass shows nothing", None, "the way home is long",
        "", "way home is where the heart is",
    ]  # fmt: skip
    of = catalogue(tmp_path, IDS, texts={"plot": plots})
    found = text_ngram(TextNgramConfig(words=3, max_share=0.4), of, seed=0)
    assert set(listed(found)) == {("a", "b"), ("b", "a"), ("d", "f"), ("f", "d")}
    # a: golden-compass-shows, compass-shows-the, shows-the-way; b: lost-without-golden, without-golden-compass,
    # golden-compass-shows, compass-shows-nothing ("a" is no word): one of six is shared, and weighs log 3, not log 6.
    shared, other = math.log(3), math.log(6)
    assert listed(found)["a", "b"] == pytest.approx(shared / (shared + 5 * other))


def test_labels_of_items_are_written_with_their_field(tmp_path):
    of = catalogue(tmp_path, IDS, tags={"key_words": KEYWORDS, "genres": GENRES})
    found = item_label(ItemLabelConfig(min_items=2), of)
    assert set(listed(found)) == {
        ("a", "key words: heist"), ("a", "key words: train"), ("b", "key words: heist"), ("c", "key words: train"),
        ("c", "key words: snow"), ("d", "key words: snow"),
    }  # fmt: skip
    assert found.target.text and not found.query.text and found.score is None and found.about["labels"] == 3
    everything = listed(item_label(ItemLabelConfig(min_items=1, max_share=1.0), of))
    assert ("f", "genres: war") in everything and ("a", "genres: drama") in everything
    assert not len(item_label(ItemLabelConfig(min_items=7), of))
