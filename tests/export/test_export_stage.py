"""The export stage with a real student: tables, codes, match features, and the MLflow model."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from downstream_helpers import World, planted_world

from recdistill.contracts.fold import FITS
from recdistill.contracts.log import Log
from recdistill.contracts.tables import EmbeddingTable, read_metadata
from recdistill.contracts.validate import violations_of
from recdistill.errors import UserError
from recdistill.export import ExportConfig, export
from recdistill.features.config import SemanticIdConfig
from recdistill.features.content_level import ContentLevel
from recdistill.features.match_items import MatchItems
from recdistill.features.match_table import write_match_features
from recdistill.features.semantic_ids import Codebooks
from recdistill.plugins import Exported, feature_frame
from recdistill.retrieval.config import LevelConfig, QuestionsConfig
from recdistill.retrieval.questions import fold_cases
from recdistill.students import EncodersConfig, FeatureStore, StudentConfig, build_student, encode

CONFIG = ExportConfig(semantic_ids=SemanticIdConfig(sizes=(4, 4)), max_match_rows=500)


QUESTIONS = QuestionsConfig(min_history=1)


def _export(
    world: World,
    out: Path,
    config: ExportConfig = CONFIG,
    *,
    level: LevelConfig | None = None,
    of: Path | None = None,
    min_negative_share: float = 0.05,
) -> None:
    export(
        config,
        level or LevelConfig(level=0.25),
        QUESTIONS,
        data=world.root / "data",
        fold=world.fold,
        distill=of or world.root / "distill",
        min_negative_share=min_negative_share,
        out=out,
        seed=0,
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A planted world and an untrained student that reads titles' words and tags."""
    made = planted_world(tmp_path_factory.mktemp("world"), users=60)
    root = made.root
    encoders = EncodersConfig(text=None, image=None, audio=None, cache=root / "cache")
    encode(encoders, data=root / "data", out=root / "content")
    student = build_student(StudentConfig(dim=8), content=root / "content", seed=0).eval()
    student.save_pretrained(root / "distill" / "final" / "student")
    vectors = student.encode_store(FeatureStore.load(root / "content", made.item_ids), normalize=False)
    support = np.arange(len(vectors), dtype=np.int64)
    metadata = {"kind": "student", "geometry": "cosine"}
    for fit in ("selection", "final"):
        EmbeddingTable(made.item_ids, vectors, support=support, metadata=metadata).write(
            root / "distill" / fit / "student.parquet"
        )
    return made


@pytest.fixture(scope="module")
def exported(world: World) -> Path:
    out = world.root / "export"
    _export(world, out)
    return out


def test_tables_keep_their_contracts(exported: Path) -> None:
    for name in ("item_embeddings", "semantic_ids", "match_features"):
        assert violations_of(exported / f"{name}.parquet", name) == []
    assert violations_of(exported / "recall_embeddings.parquet", "item_embeddings") == []


def test_a_dot_product_serves_scores_with_the_level(world: World, exported: Path) -> None:
    table, served = (
        EmbeddingTable.read(exported / f"{name}.parquet") for name in ("item_embeddings", "recall_embeddings")
    )
    known = np.unique(world.fold.training("final").item)
    new = ~np.isin(np.arange(len(table.ids)), world.fold.item_ids().get_indexer(table.ids)[known])
    assert new.any()
    assert table.level is not None
    np.testing.assert_array_equal(table.level, np.where(new, np.float32(0.25), 0))
    query = np.append(table.vectors[:5].mean(axis=0), np.float32(1))
    np.testing.assert_allclose(served.vectors @ query, table.vectors @ query[:-1] + table.level, atol=1e-6)
    np.testing.assert_array_equal(served.vectors[:, :-1], table.vectors)
    assert served.metadata["geometry"] == "dot"
    manifest = json.loads((exported / "export.json").read_text())
    assert (manifest["new_item_level"], manifest["new_items"]) == (0.25, int(new.sum()))


def test_the_level_is_the_validation_windows(world: World, tmp_path: Path) -> None:
    """A level by share, counted here as recommended lists are made: all scores, the best ten, how many are new."""
    distill, config = tmp_path / "distill", CONFIG.model_copy(update={"mlflow_model": False})
    shutil.copytree(world.root / "distill", distill)
    rng = np.random.default_rng(0)  # no two items alike, so that every share can be met
    vectors = rng.normal(size=(len(world.item_ids), 8)).astype(np.float32)
    EmbeddingTable(world.item_ids, vectors).write(distill / "selection" / "student.parquet")
    _export(world, tmp_path / "out", config, level=LevelConfig(level="share", share=0.3), of=distill)
    level = json.loads((tmp_path / "out" / "export.json").read_text())["new_item_level"]
    cases = fold_cases(QUESTIONS, world.fold, "selection", seed=0)
    vectors = EmbeddingTable(world.item_ids, vectors).align(cases.item_ids)[0].astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    new = ~np.isin(np.arange(len(vectors)), np.unique(world.fold.training("selection").item))
    assert new.any()
    held = 0
    for case in range(len(cases)):
        query = vectors[cases.query[case][cases.query[case] >= 0]].mean(axis=0)
        scores = vectors @ query + level * new
        excluded = cases.exclude_items[cases.exclude_offsets[case] : cases.exclude_offsets[case + 1]]
        scores[np.setdiff1d(excluded, cases.target[case])] = -np.inf
        held += new[np.argsort(-scores)[:10]].sum()
    assert held / (10 * len(cases)) == pytest.approx(0.3, abs=0.01)


def test_embeddings_are_the_students_own(world: World, exported: Path) -> None:
    table = EmbeddingTable.read(exported / "item_embeddings.parquet")
    before = EmbeddingTable.read(world.root / "distill" / "final" / "student.parquet")
    pd.testing.assert_index_equal(table.ids, before.ids)
    unit = before.vectors / np.linalg.norm(before.vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(table.vectors, unit, atol=1e-6)
    np.testing.assert_array_equal(table.support, before.support)
    assert table.metadata["fit"] == "final"


def test_semantic_ids_come_from_the_saved_codebooks(exported: Path) -> None:
    table = EmbeddingTable.read(exported / "item_embeddings.parquet")
    codes = Codebooks.load(exported / "semantic_id_codebooks.safetensors").encode(table.vectors)
    written = pd.read_parquet(exported / "semantic_ids.parquet")
    assert written.codes.map(list).tolist() == codes.tolist()
    items = pd.read_parquet(exported / "sid_items.parquet")
    assert sorted(item for group in items.item_ids for item in group) == sorted(table.ids)
    back = {item: sid for sid, group in zip(items.semantic_id, items.item_ids, strict=True) for item in group}
    assert [back[item] for item in written.item_id] == written.semantic_id.tolist()


def test_earlier_ids_go_on_and_the_export_says_how_many_stayed(world: World, exported: Path, tmp_path: Path) -> None:
    earlier = pd.read_parquet(exported / "semantic_ids.parquet")
    renamed = earlier.assign(codes=[[3 - code[0], code[1]] for code in earlier.codes])[:-20]  # numbers of no fit
    renamed.to_parquet(tmp_path / "earlier.parquet")
    update = {"mlflow_model": False, "continue_ids": tmp_path / "earlier.parquet"}
    _export(world, tmp_path / "out", CONFIG.model_copy(update=update))
    now = pd.read_parquet(tmp_path / "out" / "semantic_ids.parquet").set_index("item_id").codes.map(list)
    same = sum(now[item] == list(code) for item, code in zip(renamed.item_id, renamed.codes, strict=True))
    stayed = json.loads((tmp_path / "out" / "export.json").read_text())["semantic_ids"]["kept"]
    assert stayed["items"] == len(renamed)
    assert stayed["whole"] == pytest.approx(same / len(renamed)) and stayed["whole"] > 0.9


def test_match_features_are_the_newest_test_rows_against_what_was_before(world: World, exported: Path) -> None:
    table = pd.read_parquet(exported / "match_features.parquet")
    assert len(table) == 500
    window = world.fold.targets("final")
    assert table.timestamp.astype("datetime64[us, UTC]").astype("int64").min() >= np.sort(window.time)[-500]
    history: Log = world.fold.history("final")
    vectors = EmbeddingTable.read(exported / "item_embeddings.parquet").align(history.item_ids)[0]
    vectors = vectors - vectors.mean(axis=0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    for row in table.sample(25, random_state=0).itertuples():
        user = history.user_ids.get_loc(row.user_id)
        asked = row.timestamp.value // 1000
        mine = (history.user == user) & (history.time < asked) & history.positive()
        similar = vectors[history.item[mine][-50:]] @ vectors[history.item_ids.get_loc(row.item_id)]
        assert row.match_items == len(similar)
        if len(similar):
            assert row.match_mean == pytest.approx(similar.mean(), abs=1e-5)
            assert row.match_max == pytest.approx(similar.max(), abs=1e-5)
        else:
            assert np.isnan(row.match_mean)
        met = (history.user == user) & (history.time < asked)
        if met.any():
            weight = np.exp((vectors[history.item[met]] @ vectors[history.item_ids.get_loc(row.item_id)] - 1) / 0.3)
            pleased = history.positive()[met].astype(float)
            expected = (weight * (pleased - pleased.mean())).sum() / (weight.sum() + np.exp(-0.5 / 0.3))
            assert row.reaction_2 == pytest.approx(expected, abs=1e-5)
        else:
            assert np.isnan(row.reaction_2)
    assert table.reaction_1.std() > 0.01


def test_a_log_without_negatives_of_its_own_gets_no_reactions(world: World, exported: Path, tmp_path: Path) -> None:
    """The share of events that did not please decides, of both windows together, as it does for rankers."""
    windows = [world.fold.targets(fit).behaviours == 0 for fit in FITS]
    share = np.concatenate(windows).mean()
    config = CONFIG.model_copy(update={"mlflow_model": False})
    for out, least, negatives in (("over", share + 1e-9, "sampled"), ("at", share, "logged")):
        _export(world, tmp_path / out, config, min_negative_share=least)
        manifest = json.loads((tmp_path / out / "export.json").read_text())
        assert manifest["negatives"] == negatives
        table = pq.read_table(tmp_path / out / "match_features.parquet")
        assert manifest["match_columns"] == table.column_names[3:] == list(MatchItems.read(tmp_path / out).columns)
        assert ("reaction_1" in table.column_names) == (negatives == "logged")
        said = read_metadata(tmp_path / out / "match_features.parquet")["reaction"]
        assert said == (None if negatives == "sampled" else config.reaction.model_dump(mode="json"))
        matched = [name for name in table.column_names if not name.startswith("reaction_")]
        assert table.select(matched).equals(pq.read_table(exported / "match_features.parquet", columns=matched))
        assert violations_of(tmp_path / out / "match_features.parquet", "match_features") == []


def test_the_exported_folder_gives_the_same_match_features_for_any_table(
    world: World, exported: Path, tmp_path: Path
) -> None:
    items, root = MatchItems.read(exported), world.fold.root
    history = [root / name for name in ("train.parquet", "validation.parquet", "test.parquet")]
    rows = write_match_features([history[-1]], history, items, out=tmp_path / "match.parquet", chunk_events=500)
    assert rows == pq.read_metadata(history[-1]).num_rows >= 500
    keys = ["user_id", "item_id", "timestamp"]
    ours, theirs = (pd.read_parquet(path) for path in (tmp_path / "match.parquet", exported / "match_features.parquet"))
    both = theirs.merge(ours.drop_duplicates(keys), on=keys, suffixes=("", "_again"))
    assert len(both) == len(theirs)
    manifest = json.loads((exported / "export.json").read_text())
    assert manifest["match_columns"] == list(items.columns) == ours.columns[3:].tolist()
    assert {"match_interest", "match_interest_share", "match_sid_1", "match_sid_2"} < set(ours.columns)
    assert {"reaction_1", "reaction_2"} < set(ours.columns)
    for name in items.columns:
        np.testing.assert_allclose(both[name], both[f"{name}_again"], rtol=0, atol=1e-6)


def test_the_export_tells_until_when_it_was_trained_and_warns_of_earlier_rows(world: World, exported: Path) -> None:
    files = [pd.read_parquet(world.fold.root / f"{name}.parquet") for name in ("train", "validation", "test")]
    until = files[1].timestamp.max()
    assert json.loads((exported / "export.json").read_text())["provenance"]["trained_until"] == until.isoformat()
    for name in ("item_embeddings", "recall_embeddings", "semantic_ids", "sid_items", "match_features"):
        assert read_metadata(exported / f"{name}.parquet")["trained_until"] == until.isoformat()
    assert Exported.read(exported).trained_until == MatchItems.read(exported).trained_until == until
    keys = ["user_id", "item_id", "timestamp"]
    rows = pd.concat([files[1], files[2][:7]])[keys]
    with pytest.warns(UserWarning, match=f"and {len(rows) - 7} of {len(rows)} rows are no later"):
        feature_frame(rows, exported, parts=("vectors", "semantic_ids"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        feature_frame(files[2][keys], exported, partial_match=True)


def test_codes_of_another_method_are_not_continued(world: World, exported: Path, tmp_path: Path) -> None:
    flat = SemanticIdConfig(method="kmeans", sizes=(4, 4))
    update = {"mlflow_model": False, "continue_ids": exported / "semantic_ids.parquet", "semantic_ids": flat}
    with pytest.raises(UserError, match="by residual_kmeans cannot be continued by kmeans"):
        _export(world, tmp_path / "out", CONFIG.model_copy(update=update))


def test_manifest_holds_every_files_hash(exported: Path) -> None:
    manifest = json.loads((exported / "export.json").read_text())
    assert {"item_embeddings.parquet", "student/model.safetensors", "mlflow_model/MLmodel"} <= manifest["sha256"].keys()
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == digest
    assert (manifest["items"], manifest["width"], manifest["match_rows"]) == (160, 8, 500)
    coded = manifest["semantic_ids"]
    assert (coded["method"], coded["sizes"], coded["items"]) == ("residual_kmeans", [4, 4], 160)
    assert 0 <= coded["collision_rate"] <= 1
    assert coded["tags"]["genre"]["nmi"][1] > coded["tags"]["genre"]["chance"][1]  # the student reads nothing but tags
    assert coded["neighbours"]["shared"][0] > coded["neighbours"]["chance"][0]
    assert read_metadata(exported / "semantic_ids.parquet")["sizes"] == [4, 4]


def test_student_folder_loads_and_encodes(world: World, exported: Path) -> None:
    from transformers import AutoModel

    student = AutoModel.from_pretrained(exported / "student")
    items = [{"structured": {"genre": ["even"]}}]
    assert student.encode(items).shape == (1, 8)


def test_mlflow_model_predicts_as_the_student_does(world: World, exported: Path) -> None:
    import mlflow.pyfunc
    from transformers import AutoModel

    model = mlflow.pyfunc.load_model(str(exported / "mlflow_model"))
    student = AutoModel.from_pretrained(exported / "student")
    by_columns = model.predict(pd.DataFrame({"tags_genre": [["even", "of 0"], ["odd"]]}))
    by_json = model.predict(pd.DataFrame({"item": ['{"structured": {"genre": ["even", "of 0"]}}']}))
    expected = student.encode([{"structured": {"genre": ["even", "of 0"]}}, {"structured": {"genre": ["odd"]}}])
    np.testing.assert_allclose(np.stack(by_columns.embedding), expected, atol=1e-6)
    np.testing.assert_allclose(np.stack(by_json.embedding), expected[:1], atol=1e-6)
    known = pd.read_parquet(exported / "semantic_ids.parquet").set_index("item_id").semantic_id
    assert by_columns.semantic_id[0] == known["i0000"]  # a catalogue item with those tags
    assert by_columns.level.tolist() == [0.25, 0.25]  # an item that the model has never seen is new
    assert not list((exported / "mlflow_model").rglob("*.pkl"))
    signature = {column.name: column.required for column in model.metadata.get_input_schema()}
    assert signature == {"text_title": False, "tags_genre": False, "image": False, "audio": False, "item": False}


def test_the_model_gives_a_new_item_the_level_that_the_table_gives_it(world: World, tmp_path: Path) -> None:
    import mlflow.pyfunc

    distill = tmp_path / "distill"
    shutil.copytree(world.root / "distill", distill)
    rng = np.random.default_rng(0)
    told = ContentLevel(rng.normal(size=8), 0.5)
    table = EmbeddingTable.read(distill / "final" / "student.parquet")
    unit = table.vectors / np.linalg.norm(table.vectors, axis=1, keepdims=True)
    known = np.isin(table.ids, world.fold.item_ids()[np.unique(world.fold.training("final").item)])
    levels = np.where(known, 2.0, told(unit)).astype(np.float32)  # of known items what users say
    EmbeddingTable(table.ids, table.vectors, metadata=table.metadata, level=levels).write(
        distill / "final" / "student.parquet"
    )
    with pytest.raises(UserError, match=r"student_level\.safetensors: no such file"):
        _export(world, tmp_path / "out", of=distill)
    told.save(distill / "final" / "student_level.safetensors")
    _export(world, tmp_path / "out", of=distill)
    written = EmbeddingTable.read(tmp_path / "out" / "item_embeddings.parquet")
    items = pd.read_parquet(world.root / "data" / "items.parquet").set_index("item_id").loc[written.ids[~known]]
    answer = mlflow.pyfunc.load_model(str(tmp_path / "out" / "mlflow_model")).predict(items.reset_index(drop=True))
    assert len(answer) > 5 and answer.level.std() > 0.01
    np.testing.assert_allclose(answer.level, written.level[~known], atol=1e-5)


def test_exporting_again_replaces_everything(world: World, exported: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"mlflow_model": False})
    (tmp_path / ".student.partial").mkdir()
    (tmp_path / ".student.partial" / "half").write_text("a run that was killed")
    for _ in range(2):
        _export(world, tmp_path, config)
    assert not (tmp_path / "mlflow_model").exists()
    assert not list(tmp_path.glob(".*"))
    assert not (tmp_path / "student" / "half").exists()
    for name in ("item_embeddings", "semantic_ids", "sid_items", "match_features"):
        assert pq.read_table(tmp_path / f"{name}.parquet").equals(pq.read_table(exported / f"{name}.parquet"))


def test_a_table_that_does_not_cover_the_catalogue_is_refused(world: World, tmp_path: Path) -> None:
    table = EmbeddingTable.read(world.root / "distill" / "final" / "student.parquet")
    EmbeddingTable(table.ids[1:], table.vectors[1:]).write(tmp_path / "final" / "student.parquet")
    with pytest.raises(UserError, match="1 of the catalogue's 160 items have no vector"):
        _export(world, tmp_path / "out", of=tmp_path)


def test_the_model_folder_serves_from_a_tracking_store(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logged as a run's artifact in SQLite, it loads by its run like any MLflow model."""
    import mlflow

    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    try:
        with mlflow.start_run() as run:
            mlflow.log_artifacts(str(exported / "mlflow_model"), "model")
        model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    finally:
        mlflow.set_tracking_uri(before)
    answer = model.predict(pd.DataFrame({"tags_genre": [["even"]]}))
    assert len(answer.embedding[0]) == 8
