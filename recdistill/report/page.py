"""From a run folder to one HTML file that needs nothing else.

Memory: the metric records (about 100 bytes each), one embedding table, one batch of the media table; the page itself is
a few megabytes, of which the small pictures are most.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from recdistill.contracts.tables import atomic
from recdistill.errors import UserError
from recdistill.report.folder import RunFolder
from recdistill.report.sections import (
    benchmarks,
    downstream,
    exported,
    inputs,
    learning,
    mining,
    new_items,
    overview,
    pairs,
    separability,
    space,
)

REPORT = "report.html"
_TEMPLATE = Path(__file__).with_name("template")
_SECTIONS = (
    overview.overview,
    benchmarks.differences,
    space.space,
    separability.separability,
    new_items.new_items,
    benchmarks.tables,
    downstream.ranker,
    downstream.lifetime,
    exported.exported,
    mining.mining,
    pairs.pairs,
    learning.learning,
    inputs.data,
    inputs.leakage,
    inputs.settings,
)


def build_report(out: Path, *, title: str) -> Path:
    """Write ``out/report.html`` from the files in ``out``; a section whose files are absent says so.

    Args:
        out: run folder (DIR).
        title: of the page, e.g. the recipe's name.

    Raises:
        UserError: the folder does not exist, or a file in it is broken.
    """
    if not out.is_dir():
        raise UserError(f"{out}: no such run folder", remedy="give the folder that `recdistill run … --out DIR` wrote")
    run = RunFolder(out)
    page = render(
        title=title, sections=[made for make in _SECTIONS if (made := make(run)) is not None], subtitle=_subtitle(run)
    )
    path = out / REPORT
    with atomic(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render(*, title: str, sections: list[Any], subtitle: str) -> str:
    """The page of some sections; all texts are escaped by the template engine."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["script_json"] = _script_json
    style, script = (Markup((_TEMPLATE / name).read_text(encoding="utf-8")) for name in ("style.css", "map.js"))
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return environment.get_template("page.html").render(
        title=title, subtitle=subtitle, sections=sections, style=style, script=script, made=made
    )


def _script_json(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _subtitle(run: RunFolder) -> str:
    parts = []
    found = run.json("data", "validation.json")
    log = found.get("interactions") if isinstance(found, dict) else None
    if log:
        parts.append(
            f"{log['events']:,} interactions of {log['users']:,} users with {log['items']:,} items".replace(
                ",", "\u202f"
            )
        )
    seeds, folds = {path.parent.name for path in run.parts}, {path.name for path in run.parts}
    if run.parts:
        parts.append(f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}")
        parts.append(f"{len(folds)} folds" if len(folds) > 1 else f"split “{next(iter(folds))}”")
    return " · ".join(parts)
