"""What a stage that ended well still wants the user to know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recdistill.config import Recipe
from recdistill.contracts.tables import read_table
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
        return [
            f"distill: {name} {_little(verdict, subject)} on validation "
            f"({_figures(verdict['with'])} with it, {_figures(verdict['without'])} without), and is left out"
            for subject, of in told.items()
            for name, verdict in of.get("teachers", {}).items()
            if not verdict["kept"]
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


def _little(verdict: dict[str, Any], subject: str) -> str:
    """How little a teacher does that is left out."""
    difference, error = verdict["difference"], verdict["standard_error"]
    if difference <= 0:
        return f"does not help {subject}"
    of = "an error that one unit alone cannot tell" if error is None else f"one standard error ({error:.4f})"
    return f"helps {subject} by {difference:.4f}, no more than {of},"


def _figures(of: dict[str, float]) -> str:
    return ", ".join(
        f"{name.removeprefix('validation_').replace('_at_', '@')} {value:.4f}" for name, value in of.items()
    )
