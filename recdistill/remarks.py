"""What a stage that ended well still wants the user to know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recdistill.config import Recipe
from recdistill.contracts.tables import read_table
from recdistill.distill.config import DistillConfig
from recdistill.distill.validation import AREA, FIGURES, GID, LEAST_ASKED
from recdistill.pairs.config import OF_QUERIES


def remarks(recipe: Recipe, stage: str, folder: Path) -> list[str]:
    """Of one stage, from what it wrote into its folder; none is an error."""
    if stage == "validate":
        found: list[str] = json.loads((folder / "validation.json").read_text(encoding="utf-8"))["warnings"]
        return found
    if stage == "teach":
        about = json.loads((folder / "teachers.json").read_text(encoding="utf-8"))
        popularity = about["validation"]["popularity"]["ndcg_at_10"]
        short = [
            f"{name} saw {part['selection']['epochs']:.0%} of an epoch before validation stopped it: raise its "
            "patience or steps, or teachers.stream.window_parts"
            for name, part in about["teachers"].items()
            if part["selection"].get("epochs", 1) < 1
        ]
        return short + [
            f"{name} is no better than popularity on validation (NDCG@10 {part['scores']['mean']['ndcg_at_10']:.4f} "
            f"against {popularity:.4f}): see {folder / 'teachers.json'}"
            for name, part in about["teachers"].items()
            if not part["beats_popularity"]
        ]
    if stage == "pair":
        made: dict[str, dict[str, Any]] = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))
        why: dict[tuple[str, str], list[str]] = {}
        for fit, datasets in made.items():
            for name, of in datasets.items():
                # Without searches there are no pairs of them: nobody who names no query table expects any.
                if of["why_empty"] and (recipe.data.queries is not None or name not in OF_QUERIES):
                    why.setdefault((name, of["why_empty"]), []).append(fit)
        return [
            f"pair dataset {name} is empty ({' and '.join(fits)}): {reason}; see {folder / 'pairs.json'}"
            for (name, reason), fits in why.items()
        ]
    if stage == "distill":
        told = json.loads((folder / "distill.json").read_text(encoding="utf-8"))
        return _choices_without(recipe.distill, told) + [
            f"distill: {name} {_little(verdict, subject)} on validation "
            f"({_figures(verdict['with'])} with it, {_figures(verdict['without'])} without: {_difference(verdict)}), "
            "and is left out"
            for subject, of in told.items()
            for name, verdict in of.get("teachers", {}).items()
            if not verdict["kept"]
        ]
    if stage == "rank":
        lifetime = json.loads((folder / "rank.json").read_text(encoding="utf-8"))["lifetime"]
        return [
            f"rank: {horizon.upper()} proxies{'' if 'caution' in part else ' are left out'}: {said}"
            for horizon, part in lifetime.items()
            if (said := part.get("caution") or part.get("reason"))
        ]
    if stage == "export" and len(folds := recipe.split.fold_names()) > 1:
        return [
            f"the exported student is that of {recipe.runs()[0][1]} of {len(folds)}: it has not trained on that fold's "
            "users and items; for one that has seen the whole log's past take split.protocol=time"
        ]
    if stage == "encode" and (bad := read_table(folder / "bad_media.parquet").to_pylist()):
        first = "; ".join(f"item {row['item_id']}: {row['reason']}" for row in bad[:3])
        return [
            f"{len(bad)} picture or sound files cannot be read and count as missing ({first}); "
            f"see {folder / 'bad_media.parquet'}"
        ]
    return []


def _choices_without(config: DistillConfig, told: dict[str, Any]) -> list[str]:
    """What was to choose, and had no say since the validation window asks too little."""
    why = {GID: "judges fewer than {} pairs of items", AREA: "has fewer than {} questions about new items"}
    asked = {name: FIGURES["frontier" if name in config.rivals else config.choose_by] for name in told}
    silent: dict[str, list[str]] = {}
    for name, figures in asked.items():
        for figure in figures:
            if f"validation_{figure}" not in told[name]:
                silent.setdefault(figure, []).append(name)
    return [
        f"distill: {_shown(figure)} had no say in what was chosen of {', '.join(subjects)}: the validation window "
        f"{why[figure].format(LEAST_ASKED)}"
        for figure, subjects in silent.items()
    ]


def _little(verdict: dict[str, Any], subject: str) -> str:
    """How little a teacher does that is left out."""
    if verdict["difference"] <= 0:
        return f"does not help {subject}"
    if verdict["standard_error"] is None:
        return f"helps {subject} by what one unit alone cannot tell from nothing"
    return f"helps {subject} by no more than one standard error"


def _difference(verdict: dict[str, Any]) -> str:
    error = verdict["standard_error"]
    return f"a difference of {verdict['difference']:.4f}" + (
        f", standard error {error:.4f}" if error is not None else ""
    )


def _figures(of: dict[str, float]) -> str:
    return ", ".join(f"{_shown(name.removeprefix('validation_'))} {value:.4f}" for name, value in of.items())


def _shown(figure: str) -> str:
    return figure.replace("_at_", "@").replace("_", " ")
