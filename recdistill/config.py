"""A recipe: one YAML file that says everything about an experiment, checked before anything runs."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, ValidationError, field_validator

from recdistill.distill import DistillConfig
from recdistill.errors import UserError
from recdistill.evaluation import EvaluateConfig
from recdistill.export import ExportConfig
from recdistill.ingest import DataConfig
from recdistill.mining import MiningConfig
from recdistill.rankers import RankConfig
from recdistill.settings import Settings
from recdistill.split import SplitConfig
from recdistill.students import EncodersConfig, StudentConfig
from recdistill.teachers import TeachersConfig


class Recipe(Settings):
    """The sections, one a stage; a section left out takes its stage's defaults."""

    name: str = Field(min_length=1, description="experiment name in MLflow and in the report")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="one training of everything per seed")
    data: DataConfig
    split: SplitConfig = SplitConfig()
    encoders: EncodersConfig = EncodersConfig()
    teachers: TeachersConfig = TeachersConfig()
    mining: MiningConfig = MiningConfig()
    student: StudentConfig = StudentConfig()
    distill: DistillConfig = DistillConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    rank: RankConfig = RankConfig()
    export: ExportConfig = ExportConfig()

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds) or min(seeds) < 0:
            raise ValueError("seeds must be distinct and not negative")
        return seeds


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply ``dotted.key=value`` overrides (values are YAML).

    Raises:
        UserError: the file cannot be read, or its content is not a recipe; all faults at once.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such recipe", remedy="name a file, e.g. experiments/recipes/demo.yaml") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a readable YAML recipe: {error}", remedy="mend the file") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: a recipe is a mapping of sections, not a {type(raw).__name__}")
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key:
            raise UserError(f"'{override}' is not an override", remedy="write dotted.key=value, e.g. distill.steps=500")
    try:
        merged = OmegaConf.merge(OmegaConf.create(raw), OmegaConf.from_dotlist(list(overrides)))
        values = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError) as error:
        raise UserError(f"{path}: the recipe and its overrides cannot be put together: {error}") from error
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        faults = [_explain(fault) for fault in error.errors()]
        raise UserError(
            f"{path}: {len(faults)} fault{'s' if len(faults) > 1 else ''} in the recipe:\n"
            + "\n".join(f"  - {fault}" for fault in faults),
            remedy="mend the keys above in the file or on the command line",
        ) from None


def _explain(fault: Any) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        *parents, name = fault["loc"]
        known = sorted(_keys_at(parents))
        nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
        hint = f"did you mean '{nearest[0]}'?" if nearest else f"known keys: {', '.join(known)}"
        return f"{where}: unknown key; {hint}"
    if fault["type"] == "missing":
        return f"{where}: is required"
    return f"{where}: {fault['msg']} (got {fault['input']!r})"


def _keys_at(location: Sequence[str | int]) -> set[str]:
    models: set[type[Settings]] = {Recipe}
    for part in location:
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        if fields:  # else: the index of a list or the name of a union's member, which leaves the models as they are
            models = {found for field in fields for found in _settings_in(field.annotation)}
    return {key for model in models for key in model.model_fields}


def _settings_in(annotation: Any) -> Iterator[type[Settings]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, Settings):
            yield annotation
        return
    for inner in typing.get_args(annotation):
        yield from _settings_in(inner)
