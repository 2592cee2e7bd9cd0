"""A recipe: one YAML file that says everything about an experiment, checked before anything runs."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, LiteralString

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from recdistill.distill import DistillConfig
from recdistill.distill.config import KERNEL_RIDGE
from recdistill.errors import UserError
from recdistill.evaluation import EvaluateConfig
from recdistill.export import ExportConfig
from recdistill.ingest import DataConfig
from recdistill.mining import MiningConfig
from recdistill.pairs import PairsConfig
from recdistill.pairs.config import OF_QUERIES
from recdistill.pretrain import PretrainConfig
from recdistill.rankers import RankConfig
from recdistill.retrieval.config import QuestionsConfig
from recdistill.settings import Settings
from recdistill.split import SplitConfig
from recdistill.students import EncodersConfig, StudentConfig
from recdistill.teachers import TeachersConfig
from recdistill.teachers.config import ID_TEACHER
from recdistill.teachers.config import NAMES as TRAINED_HERE


class Recipe(Settings):
    """The sections, one a stage; a section left out takes its stage's defaults, or leaves out a stage
    (``pairs``, ``pretrain``)."""

    name: str = Field(min_length=1, description="experiment name in MLflow and in the report")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="one training of everything per seed")
    data: DataConfig
    split: SplitConfig = SplitConfig()
    encoders: EncodersConfig = EncodersConfig()
    teachers: TeachersConfig = TeachersConfig()
    mining: MiningConfig = MiningConfig()
    pairs: PairsConfig | None = Field(None, description="pair datasets for content-aware training; null: none are made")
    pretrain: PretrainConfig | None = Field(None, description="content-aware training of the student; null: none")
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

    @model_validator(mode="after")
    def _teachers_are_made(self) -> Recipe:
        """A stage that is told of a teacher that no section makes would die late, or leave out what needs it."""
        sections = {kind: of for kind, of in dict(self.teachers).items() if f"{kind}_teacher" in TRAINED_HERE}
        made = [f"{kind}_teacher" for kind, of in sections.items() if isinstance(of, Settings)]
        made += [table.name for table in self.teachers.external]
        choices = {"distill": [*made, KERNEL_RIDGE] if made else []}  # it predicts one of those that are made
        off = {f"{kind}_teacher": kind for kind, of in sections.items() if of is None}
        faults = [
            InitErrorDetails(type=_no_teacher(name, choices.get(str(key[0]), made), off=off), loc=key, input=name)
            for key, name in self._named()
            if name not in made
        ]
        if faults:
            raise ValidationError.from_exception_data(type(self).__name__, faults)
        return self

    @model_validator(mode="after")
    def _pretraining_can_be_done(self) -> Recipe:
        """A stage that is told of a dataset or an instruction that no section gives would die late."""
        faults = [
            InitErrorDetails(type=PydanticCustomError("pretraining", why), loc=loc, input=got)
            for loc, why, got in self._missing_of_pretraining()
        ]
        if faults:
            raise ValidationError.from_exception_data(type(self).__name__, faults)
        return self

    def _missing_of_pretraining(self) -> Iterator[tuple[tuple[str | int, ...], LiteralString, str]]:
        """Key, what is wrong with it, and what it says."""
        if self.pretrain is None:
            if self.distill.start == "pretrained":
                yield ("distill", "start"), "there is no section 'pretrain'", self.distill.start
            return
        made = self.pairs.datasets() if self.pairs is not None else ()
        if not made:
            yield ("pretrain",), "there are no pair datasets: add a section 'pairs', e.g. {}", "no pairs"
        for loc, name in self.pretrain.datasets():
            if made and name not in made:
                yield ("pretrain", *loc), "the section 'pairs' makes no such dataset", name
            elif name in OF_QUERIES and self.data.queries is None:
                yield ("pretrain", *loc), "this dataset needs a query table: name one under data.queries", name
        told = self.pretrain.instruction
        if told is not None and told not in self.student.instructions:
            yield ("pretrain", "instruction"), "student.instructions has no such name", told
        for dataset, sides in self.pretrain.instructions.items():
            for side, told in (("query", sides.query), ("target", sides.target)):
                if told is not None and told not in self.student.instructions:
                    yield ("pretrain", "instructions", dataset, side), "student.instructions has no such name", told

    def runs(self) -> tuple[tuple[int, str], ...]:
        """The (seed, name of the fold) pairs that are trained and judged; export takes the first."""
        return self.split.runs(self.seeds)

    def questions(self) -> QuestionsConfig:
        """What is chosen is chosen by the questions that judge, asked of the validation window."""
        asked = self.evaluate.seq2item.model_dump(include=set(QuestionsConfig.model_fields))
        return QuestionsConfig.model_validate(asked)

    def judging(self) -> dict[str, Any]:
        """What the distill stage reads of the section ``evaluate`` beside the questions; {} if nothing.

        The stage is handed no more than that, so that nothing else of the section can decide anything there.
        """
        predicts = KERNEL_RIDGE in {name for _, name in self.distill.named_teachers()}
        weighs = self.student.skip is not None and self.student.skip.weights is None
        by_gid = self.distill.choose_by in ("gid", "both", "all")
        by_area = self.distill.choose_by in ("frontier", "all") or bool(self.distill.rivals)
        read = {
            "baselines": (
                *(("trials", "tune_at") if predicts or weighs else ()),
                *(("teacher", "kernel_ridge") if predicts else ()),
                *(("raw_content",) if weighs else ()),
            ),
            "i2i": ("neighbours", "max_queries", "min_support") if by_gid else (),
            "judge": ("dim", "shift", "max_items", "max_per_user") if by_gid else (),
            "new_items": ("all_at", "cold_at") if by_area else (),
        }
        of = self.evaluate.model_dump(mode="json")
        return {section: {key: of[section][key] for key in keys} for section, keys in read.items() if keys}

    def _named(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Keys that name a teacher, with the name; a default that nothing reads is left out."""
        if self.mining.tags is None or self.mining.teacher != ID_TEACHER:
            yield ("mining", "teacher"), self.mining.teacher
        if self.pairs is not None:
            for dataset, name in self.pairs.teachers():
                yield ("pairs", dataset, "teacher"), name
        predicted = False
        for key, name in self.distill.named_teachers():
            if name == KERNEL_RIDGE:
                predicted = True
            else:
                yield ("distill", *key), name
        baselines = self.evaluate.baselines
        regressed = predicted or {"ridge", "kernel_ridge"} & set(baselines.include)
        if regressed or baselines.teacher != ID_TEACHER:
            yield ("evaluate", "baselines", "teacher"), baselines.teacher


def load_recipe(path: Path, overrides: Sequence[str] = (), *, changes: Sequence[Path] = ()) -> Recipe:
    """Read a recipe, and apply files of changes and then ``dotted.key=value`` overrides (values are YAML).

    Args:
        changes: YAML mappings of sections, as of a recipe, that are laid over it one behind the other; a list takes the
            place of the recipe's.

    Raises:
        UserError: the file cannot be read, or its content is not a recipe; all faults at once.
    """
    raw = _read(path)
    try:
        merged = OmegaConf.merge(*(OmegaConf.create(part) for part in (raw, *map(_read, changes))))
        for override in overrides:
            OmegaConf.update(merged, *_parse(override))
        missing = sorted(OmegaConf.missing_keys(merged))
        values = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError) as error:
        raise UserError(f"{path}: the recipe and its overrides cannot be put together: {error}") from error
    if missing:
        raise UserError(
            f"{path}: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} required",
            remedy=f"give {' '.join(f'{key}=…' for key in missing)} on the command line, or write it in the recipe",
        )
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        faults = [_explain(fault) for fault in error.errors() if not _follows(fault)]
        raise UserError(
            f"{path}: {len(faults)} fault{'s' if len(faults) > 1 else ''} in the recipe:\n"
            + "\n".join(f"  - {fault}" for fault in faults),
            remedy="mend the keys above in the file or on the command line",
        ) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such recipe", remedy="name a file, e.g. experiments/recipes/demo.yaml") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a readable YAML recipe: {error}", remedy="mend the file") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: a recipe is a mapping of sections, not a {type(raw).__name__}")
    return raw


def _parse(override: str) -> tuple[str, Any]:
    """``dotted.key=value`` → key and value; a number among the keys is a place in a list."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"'{override}' is not an override", remedy="write dotted.key=value, e.g. distill.steps=500")
    value = yaml.safe_load(text)
    return key, text if value == "" and text.strip() not in (
        "''",
        '""',
    ) else value  # a bare | is YAML for an empty block


def _no_teacher(name: str, made: Sequence[str], *, off: Mapping[str, str]) -> PydanticCustomError:
    why = f"teachers.{off[name]} is null" if name in off else "no section makes it"
    known = f"set this key to one of: {', '.join(made)}" if made else "there is no teacher: set one under teachers"
    return PydanticCustomError(
        "unknown_teacher", "no teacher '{name}' ({why}); {known}", {"name": name, "why": why, "known": known}
    )


def _follows(fault: Any) -> bool:
    """Whether it says that a list is too short for nothing but members that have faults of their own."""
    return fault["type"] == "too_short" and len(fault["input"]) >= fault["ctx"]["min_length"]


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
