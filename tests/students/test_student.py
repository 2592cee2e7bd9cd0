"""The student: masks, dropout of modalities, attention both ways, raw items, whatever the batch."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_world import World

from recdistill.errors import UserError
from recdistill.students import FeatureStore, RecDistillStudent, StudentConfig, build_student
from recdistill.students.fusion import FusionStudent, Perceiver
from recdistill.students.hiding import hide_modalities

KINDS: dict[str, dict[str, Any]] = {
    "linear": {"kind": "linear", "skip": None},
    "fusion": {"kind": "fusion", "skip": None},
    "linear with skip": {"kind": "linear", "skip": {}},
    "fusion with skip": {"kind": "fusion", "skip": {}},
}
SMALL: dict[str, Any] = {"dim": 12, "width": 16, "heads": 2, "depth": 2, "queries": 3, "prefixes": (8, 4, 16)}


@pytest.fixture(scope="module", params=KINDS)
def student(request: pytest.FixtureRequest, world: World) -> RecDistillStudent:
    return build_student(StudentConfig(**KINDS[request.param], **SMALL), content=world.content, seed=3).eval()


@pytest.fixture(scope="module")
def store(world: World) -> FeatureStore:
    return FeatureStore.load(world.content, pd.Index(world.ids))


def norm(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=1)


def test_the_seed_decides_the_weights_and_leaves_the_global_generator_alone(world: World) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    config = StudentConfig(**KINDS["fusion"], **SMALL)
    one, same, other = (build_student(config, content=world.content, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["body.out.weight"], other["body.out.weight"])


def test_prefixes_ascend_to_the_full_width(student: RecDistillStudent) -> None:
    assert student.prefixes == (4, 8, 12)


def test_only_the_body_is_trained(student: RecDistillStudent) -> None:
    assert {name.split(".")[0] for name, p in student.named_parameters() if p.requires_grad} == {"body"}


def test_new_items_stand_where_the_catalogue_puts_them(
    student: RecDistillStudent, world: World, store: FeatureStore
) -> None:
    table, new = student.encode_store(store), student.encode(world.given)
    assert new.dtype == np.float32
    np.testing.assert_allclose(new, table, atol=1e-4)
    np.testing.assert_allclose(norm(new), 1, atol=1e-5)
    plain = student.encode(world.given, normalize=False)
    np.testing.assert_allclose(plain / norm(plain)[:, None], new, atol=1e-5)
    assert student.config.skip or np.abs(norm(plain) - 1).max() > 0.01


def test_a_vector_depends_on_no_other_item(student: RecDistillStudent, world: World, store: FeatureStore) -> None:
    items = world.given
    together = student.encode(items)
    order = np.random.default_rng(0).permutation(len(items))
    np.testing.assert_allclose(student.encode([items[row] for row in order], batch_size=5), together[order], atol=1e-5)
    alone = np.concatenate([student.encode([item]) for item in items[:8]])
    np.testing.assert_allclose(alone, together[:8], atol=1e-5)
    np.testing.assert_allclose(student.encode_store(store, batch_size=1), student.encode_store(store), atol=1e-5)
    assert student.encode([]).shape == (0, 12)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chosen=st.sets(st.sampled_from(["text", "image", "audio", "structured"]), min_size=1),
    number=st.sampled_from([11, 23]),
)
def test_any_subset_is_encoded_and_the_rest_has_no_say(
    student: RecDistillStudent, world: World, chosen: set[str], number: int
) -> None:
    whole = world.given[number]
    assert len(whole) == 4
    part = {key: whole[key] for key in chosen}
    vector = student.encode([part])
    assert np.isfinite(vector).all()
    emptied = {**part, **{key: {} if key in ("text", "structured") else [] for key in whole if key not in chosen}}
    np.testing.assert_allclose(student.encode([emptied]), vector, atol=1e-6)
    if len(chosen) < 4:
        assert np.abs(student.encode([whole]) - vector).max() > 1e-3


def test_what_an_absent_modality_holds_has_no_influence(student: RecDistillStudent, store: FeatureStore) -> None:
    features, present = store.batch(torch.arange(len(store)))
    with torch.no_grad():
        expected = student(features, present)
        for modality in student.modalities:
            absent = ~present[modality]
            assert absent.any() or modality == "text"
            noisy = dict(features)
            noisy[modality] = torch.where(
                absent[:, None, None], torch.full_like(features[modality], torch.nan), features[modality]
            )
            torch.testing.assert_close(student(noisy, present), expected)
            without = {m: value for m, value in features.items() if m != modality}
            masked = {**present, modality: torch.zeros_like(present[modality])}
            torch.testing.assert_close(student(without, present), student(features, masked))


def test_an_item_of_which_nothing_is_known_is_finite(student: RecDistillStudent, store: FeatureStore) -> None:
    features, present = store.batch(torch.arange(4))
    nothing = {m: torch.zeros_like(mask) for m, mask in present.items()}
    vectors = student(features, nothing)
    assert vectors.isfinite().all()
    torch.testing.assert_close(vectors, vectors[:1].expand(4, -1))


def test_training_hides_modalities_and_evaluation_does_not(student: RecDistillStudent, store: FeatureStore) -> None:
    features, present = store.batch(torch.arange(len(store)))
    torch.manual_seed(0)
    student.train()
    try:
        drawn = student(features, present)
        table = student.encode_store(store, normalize=False)
        assert student.training
    finally:
        student.eval()
    assert not torch.allclose(drawn, student(features, present))
    np.testing.assert_allclose(table, student(features, present).detach(), atol=1e-5)


def test_gradients_reach_every_weight(student: RecDistillStudent, store: FeatureStore) -> None:
    student(*store.batch(torch.arange(len(store)))).square().sum().backward()
    for name, weight in student.named_parameters():
        if weight.requires_grad:
            assert weight.grad is not None, name
            assert weight.grad.abs().sum() > 0 or name.endswith("in_proj_bias"), name
    student.zero_grad()


@settings(max_examples=60, deadline=None)
@given(
    present=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=20),
    chance=st.floats(0, 0.99),
    seed=st.integers(0, 99),
)
def test_hiding_never_takes_all_and_never_adds(present: list[list[bool]], chance: float, seed: int) -> None:
    torch.manual_seed(seed)
    mask = torch.tensor(present)
    hidden = hide_modalities(mask, chance=chance)
    assert not (hidden & ~mask).any()
    assert torch.equal(hidden.any(1), mask.any(1))


def test_hiding_has_the_chance_it_says() -> None:
    torch.manual_seed(0)
    kept = hide_modalities(torch.ones(20_000, 3, dtype=torch.bool), chance=0.3).float()
    # Given that one always stays: P(kept) = .7 + .3³ / 3
    assert kept.mean().item() == pytest.approx(0.7 + 0.3**3 / 3, abs=0.005)


def test_attention_goes_both_ways() -> None:
    """A later token changes what the fuser makes of an earlier one, and the other way round."""
    torch.manual_seed(0)
    fusion = FusionStudent(
        widths={"audio": 3, "text": 3}, dim=4, width=8, depth=1, heads=2, queries=2, dropout=0.0
    ).eval()
    seen = []
    fusion.fuser.register_forward_hook(lambda module, arguments, output: seen.append(output))
    audio, text = torch.randn(1, 1, 3), torch.randn(1, 1, 3)
    both = torch.ones(1, 2, dtype=torch.bool)
    for features in (
        {"audio": audio, "text": text},
        {"audio": audio, "text": text + 1},
        {"audio": audio + 1, "text": text},
    ):
        fusion(features, both)
    assert (seen[0][0, 0] - seen[1][0, 0]).abs().max() > 1e-3  # the text is behind the audio
    assert (seen[0][0, 1] - seen[2][0, 1]).abs().max() > 1e-3


def test_fusion_is_the_mean_of_tanh_over_present_tokens() -> None:
    torch.manual_seed(0)
    fusion = FusionStudent(
        widths={"audio": 3, "text": 3}, dim=8, width=8, depth=1, heads=2, queries=2, dropout=0.0
    ).eval()
    seen = []
    fusion.fuser.register_forward_hook(lambda module, arguments, output: seen.append(output))
    features = {"audio": torch.randn(2, 1, 3), "text": torch.randn(2, 1, 3)}
    out = fusion(features, torch.tensor([[True, True], [False, True]]))
    torch.testing.assert_close(out[0], torch.tanh(seen[0][0]).mean(0))
    torch.testing.assert_close(out[1], torch.tanh(seen[0][1, 1]))


def test_the_perceiver_takes_any_number_of_frames_and_not_the_padding() -> None:
    torch.manual_seed(0)
    perceiver = Perceiver(width=8, queries=3, heads=2, dropout=0.0).eval()
    tokens = torch.randn(2, 5, 8)
    there = torch.tensor([[True] * 5, [True, True, False, False, False]])
    out = perceiver(tokens, there)
    assert out.shape == (2, 3, 8)
    torch.testing.assert_close(out[1:], perceiver(tokens[1:, :2], there[1:, :2]), atol=1e-5, rtol=0)
    shuffled = tokens[:1, torch.tensor([4, 2, 0, 1, 3])]
    torch.testing.assert_close(perceiver(shuffled, there[:1]), out[:1], atol=1e-5, rtol=0)  # frames have no order


def test_more_places_for_frames_change_nothing(student: RecDistillStudent, store: FeatureStore) -> None:
    features, present = store.batch(torch.arange(len(store)))
    wider = {**features, "image": torch.nn.functional.pad(features["image"], (0, 0, 0, 3))}
    with torch.no_grad():
        torch.testing.assert_close(student(wider, present), student(features, present), atol=1e-5, rtol=0)


def test_only_the_modalities_asked_for_are_read(world: World, store: FeatureStore) -> None:
    config = StudentConfig(modalities=("structured", "text"), **SMALL)
    student = build_student(config, content=world.content, seed=0).eval()
    assert student.modalities == ("text", "structured")
    some = FeatureStore.load(world.content, pd.Index(world.ids), modalities=student.modalities)
    np.testing.assert_array_equal(student.encode_store(some), student.encode_store(store))
    with pytest.raises(UserError, match=r"item 1 has nothing that this student reads \(text, structured\)"):
        student.encode([world.given[1], {"image": Image.new("RGB", (4, 4))}])


def test_a_modality_that_was_not_encoded_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no featurizer"):
        build_student(StudentConfig(), content=tmp_path, seed=0)


def test_media_come_in_many_forms(student: RecDistillStudent, world: World, tmp_path: Path) -> None:
    data, sound = world.media["image-1-0"], world.media["audio-3-0"]
    path, clip = tmp_path / "a.png", tmp_path / "a.wav"
    path.write_bytes(data)
    clip.write_bytes(sound)
    wave, rate = soundfile.read(io.BytesIO(sound), dtype="float32")
    pictures = [data, bytearray(data), path, str(path), Image.open(io.BytesIO(data)), [data]]
    vectors = student.encode([{"image": picture} for picture in pictures])
    np.testing.assert_allclose(vectors, vectors[:1].repeat(len(pictures), 0), atol=1e-5)
    vectors = student.encode(
        [{"audio": given} for given in (sound, clip, str(clip), (wave, rate), [(wave, rate)], (wave.tolist(), rate))]
    )
    np.testing.assert_allclose(vectors, vectors[:1].repeat(6, 0), atol=1e-5)


def test_structured_values_come_in_many_forms(student: RecDistillStudent) -> None:
    forms: list[dict[str, Any]] = [
        {"genre": "Crime", "year": 1990},
        {"genre": ["crime "], "year": "1990"},
        {"year": 1990.0, "genre": {"CRIME"}},
        {"genre": ("Crime", "Crime"), "year": np.float64(1990), "cast": None},
    ]
    vectors = student.encode([{"structured": form} for form in forms])
    np.testing.assert_allclose(vectors, vectors[:1].repeat(len(forms), 0), atol=1e-6)


def test_the_order_of_fields_does_not_matter(student: RecDistillStudent) -> None:
    one = {"text": {"title": "Heat", "plot": "Crime night."}, "structured": {"genre": ["War"], "year": 1999}}
    other = {"structured": {"year": 1999, "genre": ["War"]}, "text": {"plot": "Crime night.", "title": "Heat"}}
    np.testing.assert_array_equal(student.encode([one]), student.encode([other]))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({}, "item 1 is empty"),
        ({"text": {}}, "item 1 is empty"),
        ({"text": {"title": " "}, "image": [], "structured": {"genre": [], "year": float("nan")}}, "item 1 is empty"),
        ({"titel": "Heat"}, "item 1: unknown key 'titel'"),
        ("Heat", "item 1 is str, not a dict"),
        ({"text": "Heat"}, "item 1: text is not a dict"),
        ({"text": {"title": 3}}, "item 1: text is not a dict"),
        ({"structured": ["Crime"]}, "item 1: structured is not a dict"),
        ({"structured": {"genres": ["Crime"]}}, "item 1: the student knows no structured field 'genres'"),
        ({"structured": {"year": "long ago"}}, "item 1: structured field 'year' is a number"),
        ({"image": 3}, "item 1: image is int"),
        ({"audio": np.zeros(4)}, "item 1: audio is ndarray"),
        ({"image": b"nonsense"}, "item 1 has nothing readable: not an image"),
        ({"image": "/no/such.png"}, "item 1 has nothing readable: /no/such.png: not readable"),
        ({"text": {"title": "<br>"}}, "item 1 has nothing that this student reads"),
    ],
)
def test_mistakes_are_named_by_the_items_index(student: RecDistillStudent, item: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        student.encode([{"text": {"title": "Heat"}}, item], batch_size=1)


def test_a_bad_picture_beside_something_readable_is_warned_of(student: RecDistillStudent) -> None:
    with pytest.warns(UserWarning, match="item 0: counted as missing: not an image"):
        vector = student.encode([{"text": {"title": "Heat"}, "image": b"nonsense"}])
    np.testing.assert_allclose(vector, student.encode([{"text": {"title": "Heat"}}]), atol=1e-6)
