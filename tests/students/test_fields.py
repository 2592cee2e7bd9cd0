"""Fields as tokens: each in its place, centred on its own, missing without a trace, dropped in training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_world import World

from recdistill.contracts.tables import read_metadata
from recdistill.errors import UserError
from recdistill.students import EncodersConfig, FeatureStore, RecDistillStudent, StudentConfig, build_student
from recdistill.students.featurizer.featurizer import Featurizer, token_mean
from recdistill.students.featurizer.places import PlaceCentre
from recdistill.students.hiding import drop_fields
from recdistill.students.text import text_units

SIZES = {"dim": 12, "width": 16, "heads": 2, "queries": 3}


@pytest.fixture(scope="module")
def fields(
    tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., EncodersConfig], towers: dict[str, Path]
) -> World:
    folder = tmp_path_factory.mktemp("fields")
    text = {"name": str(towers["text"]), "lexical": 8, "tokens": "fields"}
    structured = {"width": 4, "direct_values": 4, "number_bins": 3, "tokens": "fields"}
    return World(folder, make_config(folder / "cache", text=text, structured=structured))


@pytest.fixture(scope="module")
def store(fields: World) -> FeatureStore:
    return FeatureStore.load(fields.content, pd.Index(fields.ids))


@pytest.fixture(scope="module", params=["linear", "fusion"])
def student(request: pytest.FixtureRequest, fields: World) -> RecDistillStudent:
    config = StudentConfig.model_validate({"kind": request.param, **SIZES})
    return build_student(config, content=fields.content, seed=1).eval()


def test_units_are_composed_texts_or_titled_fields_in_their_places() -> None:
    items = [{"plot": "A hunt. It ends.", "title": "It ends."}, {"title": None}, {"title": "Heat"}]
    texts, owner, place = text_units(items, ())
    assert texts == ["plot: A hunt. It ends.", "title: Heat"]  # the sentence stays where it comes first
    assert (owner.tolist(), place.tolist()) == ([0, 2], [0, 0])
    texts, owner, place = text_units([{"plot": "A hunt. It ends.", "title": "Heat"}, *items[1:]], ("title", "plot"))
    assert texts == ["title: Heat", "plot: A hunt. It ends.", "title: Heat"]
    assert (owner.tolist(), place.tolist()) == ([0, 0, 2], [0, 1, 0])
    texts, _, place = text_units([{"title": "It ends.", "plot": "A hunt. It ends."}], ("title", "plot"))
    assert texts == ["title: It ends.", "plot: A hunt."]


def test_each_place_has_its_own_centre_and_size() -> None:
    vectors = torch.tensor([[1.0, 0], [3, 0], [5, 7], [5, 9], [0, 0], [2, 2]])
    place = np.array([0, 0, 1, 1, 1, 3])
    fitted = PlaceCentre.fit(lambda: [(vectors[:3], place[:3]), (vectors[3:], place[3:])], places=4, width=2)
    out = fitted(vectors, torch.from_numpy(place))
    torch.testing.assert_close(out[:5], torch.tensor([[-1.0, 0], [1, 0], [0, -1], [0, 1], [0, 0]]))
    assert not out[5].any()  # alone in its place: nothing can be told apart
    assert fitted.scale.tolist() == [1, 1, 1, 1]
    doubled = PlaceCentre.fit(lambda: [(2 * vectors, place)], places=4, width=2)
    torch.testing.assert_close(doubled(2 * vectors, torch.from_numpy(place)), out)


def test_a_field_that_an_item_lacks_is_a_token_of_zeros(fields: World, store: FeatureStore) -> None:
    text, structured = store.features["text"], store.features["structured"]
    assert text.shape[1] == 2 and structured.shape[1] == 3
    tables = {"text": text, "structured": structured}
    for modality, values in tables.items():
        assert read_metadata(fields.content / "features" / f"{modality}.parquet")["tokens"] == values.shape[1]
    there = [(values != 0).any(-1) for values in tables.values()]
    given = [item.get("structured", {}) for item in fields.items]
    assert there[0].tolist() == [[True, "plot" in item["text"]] for item in fields.items]
    assert there[1].tolist() == [["genre" in of, "cast" in of, "year" in of] for of in given]


def test_fields_are_centred_each_and_of_mean_norm_one(store: FeatureStore) -> None:
    for modality, blocks in (("text", [slice(0, 24), slice(24, None)]), ("structured", [slice(None)])):
        share = len(blocks) ** -0.5
        for tokens in store.features[modality].unbind(1):
            for block in blocks:
                there = tokens[:, block][(tokens[:, block] != 0).any(1)]
                assert there.mean(0).abs().max().item() < 1e-5
                assert there.norm(dim=1).mean().item() == pytest.approx(share, abs=1e-5)


def test_structured_tokens_keep_to_their_columns(fields: World, store: FeatureStore) -> None:
    featurizer = Featurizer.load(fields.content / "featurizer")
    assert featurizer.direct is not None and featurizer.hashed is not None and featurizer.numbers is not None
    assert list(featurizer.direct.values) == ["genre"] and featurizer.hashed_fields == ("cast",)
    first, second = featurizer.direct.width, featurizer.direct.width + featurizer.hashed.width
    columns = torch.arange(featurizer.widths["structured"])
    own = torch.stack([columns < first, (columns >= first) & (columns < second), columns >= second])
    tokens = store.features["structured"]
    assert not tokens.masked_select(~own).any()
    # All of an item's fields are in the tokens' mean: more than one token there, and more than one part of it not zero.
    mean = token_mean(tokens)
    count = (tokens != 0).any(-1).sum(1)
    parts = torch.stack([(mean[:, mine] != 0).any(1) for mine in own]).sum(0)
    assert torch.equal(parts, count)


def test_new_items_stand_where_the_catalogue_puts_them(
    student: RecDistillStudent, fields: World, store: FeatureStore
) -> None:
    np.testing.assert_allclose(student.encode(fields.given, batch_size=7), student.encode_store(store), atol=1e-4)


def test_a_missing_field_is_a_token_taken_away(student: RecDistillStudent, fields: World, store: FeatureStore) -> None:
    number = 11
    item = fields.given[number]
    fewer = {**item, "text": {"title": item["text"]["title"]}, "structured": {"genre": item["structured"]["genre"]}}
    features, present = store.batch(torch.tensor([number]))
    features["text"][:, 1] = 0
    features["structured"][:, 1:] = 0
    with torch.no_grad():
        expected = student(features, present)
    np.testing.assert_allclose(student.encode([fewer], normalize=False), expected, atol=1e-5)
    assert np.abs(student.encode([item], normalize=False) - expected.numpy()).max() > 1e-3


def test_a_text_field_without_a_place_is_refused(student: RecDistillStudent) -> None:
    with pytest.raises(UserError, match=r"item 0: the student knows no text field 'plto' \(known: title, plot\)"):
        student.encode([{"text": {"plto": "Heat"}}])


def test_dropping_leaves_one_token_and_has_the_chance_it_says() -> None:
    torch.manual_seed(0)
    features = torch.ones(20_000, 3, 2)
    features[:, 2, 0] = 0.0  # a zero does not make a token absent
    kept = drop_fields(features, chance=0.3)
    there = (kept != 0).any(-1)
    assert there.any(1).all()
    assert there.float().mean().item() == pytest.approx(0.7 + 0.3**3 / 3, abs=0.005)
    assert torch.equal(kept[there], features[there])
    nothing = torch.zeros(2, 3, 2)
    assert torch.equal(drop_fields(nothing, chance=0.9), nothing)


def test_fields_are_dropped_in_training_alone(fields: World, store: FeatureStore) -> None:
    config = StudentConfig.model_validate(
        {"kind": "linear", "dim": 8, "modality_dropout": 0, "dropout": 0, "field_dropout": 0.9}
    )
    student = build_student(config, content=fields.content, seed=0)
    features, present = store.batch(torch.arange(len(store)))
    before = {modality: values.clone() for modality, values in features.items()}
    with torch.no_grad():
        whole = student.eval()(features, present)
        torch.manual_seed(0)
        dropped = student.train()(features, present)
        for modality in ("text", "structured"):  # what is left of each: one token, or as it was
            for values in (features, before):
                assert torch.equal(values[modality], before[modality])
        several = (features["text"] != 0).any(-1).sum(1) > 1
        assert ((dropped - whole).abs().amax(1) > 1e-4)[several].float().mean() > 0.8
        alone = {m: values.clone() for m, values in features.items()}
        for modality in ("text", "structured"):
            alone[modality][:, 1:] = 0
        only_first = torch.allclose(student(alone, present), student.eval()(alone, present))
    assert only_first  # an item's only field always stays


def test_pooled_students_draw_nothing_for_fields(world: World) -> None:
    """With one token a modality field dropout neither changes anything nor moves the generator."""
    store = FeatureStore.load(world.content, pd.Index(world.ids))
    drawn = []
    for chance in (0.0, 0.5):
        config = StudentConfig.model_validate({"dim": 8, "field_dropout": chance})
        student = build_student(config, content=world.content, seed=0).train()
        torch.manual_seed(0)
        with torch.no_grad():
            drawn.append(student(*store.batch(torch.arange(len(store)))))
    assert torch.equal(*drawn)
