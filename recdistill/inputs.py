"""What a recipe takes from outside the run folder, and what of its settings a result depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from recdistill.config import Recipe
from recdistill.errors import UserError
from recdistill.extras import need
from recdistill.ingest import DataConfig
from recdistill.students import EncodersConfig, StudentConfig
from recdistill.students.config import PACKAGED

# No stage's result depends on these: where things are kept, which seeds and folds are run, how mining is done.
_PLACES = {"root", "cache"}
_RUNS = {"one_fold_a_seed"}
_HOW = {"engine", "partition_events", "threads"}


def sections(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The stages' sections, JSON-able, without those of stages that the recipe leaves out."""
    found = {name: getattr(recipe, name) for name in Recipe.model_fields if name not in ("name", "seeds")}
    return {name: section.model_dump(mode="json") for name, section in found.items() if section is not None}


def placeless_sections(recipe: Recipe) -> dict[str, Any]:
    """The sections without what decides nothing. A file's contents count in place of its place, of which the ending
    says how it is read."""
    return {
        name: _placeless(getattr(recipe, name).model_dump(exclude=_PLACES | _RUNS | _HOW)) for name in sections(recipe)
    }


def _placeless(value: Any) -> Any:
    if isinstance(value, Path):
        return "".join(value.suffixes)
    if isinstance(value, Mapping):
        return {key: _placeless(part) for key, part in value.items()}
    return [_placeless(part) for part in value] if isinstance(value, list | tuple) else value


def input_places(recipe: Recipe) -> Iterator[Path]:
    """The files and folders that the recipe's stages read."""
    data = recipe.data
    labels = data.items.labels.values() if data.items is not None else ()
    for table in (data.interactions, data.items, data.queries, *labels, data.images, data.audio):
        if table is not None:
            yield from map(data.resolve, table.files)
    yield from media_folders(data)
    yield from (table.path for table in recipe.teachers.external)
    if recipe.mining.content is not None:
        yield recipe.mining.content
    if recipe.export.continue_ids is not None:
        yield recipe.export.continue_ids
    yield from local_towers(recipe.encoders)
    yield from local_fuser(recipe.student)


def roots(data: DataConfig) -> list[Path]:
    """The folders in which an adapter looks for the files it knows."""
    folders = {"movielens": (Path(),), "mind": data.mind.folders}.get(data.adapter, ())
    return [data.resolve(folder) for folder in folders]


def media_folders(data: DataConfig) -> list[Path]:
    """The folders of pictures and sounds."""
    found = (media.folder for media in (data.images, data.audio) if media is not None)
    return [data.resolve(folder) for folder in found if folder is not None]


def local_towers(encoders: EncodersConfig) -> list[Path]:
    """The folders of the towers that are neither packaged nor a hub's."""
    return _folders(tower.name for tower in (encoders.text, encoders.image, encoders.audio) if tower is not None)


def local_fuser(student: StudentConfig) -> list[Path]:
    """The folder of the student's fuser, if it has one by name that is no hub's."""
    return _folders([student.fuser] if student.fuser is not None else [])


def _folders(models: Iterable[str]) -> list[Path]:
    folders = (Path(name).expanduser() for name in models if not name.startswith(PACKAGED))
    return [folder.resolve() for folder in folders if folder.is_dir()]


def refuse_missing(recipe: Recipe, stages: Collection[str]) -> None:
    """Refuse to begin what would end in one of these stages for want of an extra's package or of a file.

    Nothing is trained then, and nothing earlier is removed. A baseline that lacks its own package is left out and said,
    so that it is not asked for here.

    Raises:
        UserError: naming the setting that needs it.
    """
    if "teach" in stages and recipe.teachers.ials is not None:
        need("implicit", what="teachers.ials")
    if "mine" in stages and recipe.mining.engine == "spark":
        need("spark", what="mining.engine=spark", otherwise="mining.engine=local")
    coded = bool({"match", "semantic_ids"} & set(recipe.rank.features))
    for stage, section, used in (("rank", recipe.rank, coded), ("export", recipe.export, True)):
        if stage in stages and used and section.semantic_ids.method == "rqvae":
            method = f"{stage}.semantic_ids.method"
            need("rqvae", what=f"{method}=rqvae", otherwise=f"{method}=residual_kmeans")
    earlier = recipe.export.continue_ids
    if "export" in stages and earlier is not None and not earlier.is_file():
        raise UserError(
            f"export.continue_ids: {earlier}: no such file",
            remedy="name the semantic_ids.parquet of the export of an earlier run, or set export.continue_ids to null",
        )


def digest(path: Path) -> str:
    """SHA-256 of a file; "" if there is none, which the stage that reads it then says."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
