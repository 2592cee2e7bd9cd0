"""What the four perspectives mined: the funnel, and the interests of a few users."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from recdistill.contracts import names
from recdistill.contracts.tables import read_table
from recdistill.report import charts, wording
from recdistill.report.blocks import Block, Cell, Figure, Item, Row, Section, Strip, Strips, Table, Text, absent
from recdistill.report.catalogue import Catalogue
from recdistill.report.folder import RunFolder
from recdistill.retrieval.hashing import hash_ids, mix

_FIT = "final"
_USERS = 3
_SHOWN = 6


def mining(run: RunFolder) -> Section:
    """The funnel of the first seed and fold, and examples."""
    title = "Mined interests"
    first = run.first
    funnel: Any = None if first is None else run.json(first.relative_to(run.root), "mine", _FIT, "funnel.json")
    if not isinstance(funnel, dict) or "perspectives" not in funnel:
        return absent("mining", title, f"seed-*/<fold>/mine/{_FIT}/funnel.json")
    perspectives: dict[str, dict[str, Any]] = funnel["perspectives"]
    order = wording.in_order(perspectives, wording.PERSPECTIVES)
    bars = [
        (wording.PERSPECTIVES.get(name, wording.plain(name)), {"kept": float(of["kept_pairs"]), **_reasons(of)})
        for name in order
        if (of := perspectives[name])
    ]
    targets = max((of["targets"] for of in perspectives.values()), default=0)
    kept = max((of["kept_users"] for of in perspectives.values()), default=0)
    said = "; ".join(f"{label}: kept {parts['kept']:,.0f} of {sum(parts.values()):,.0f}" for label, parts in bars)
    caption = (
        "Targets that each perspective turned into a pair (blue), and the filter that emptied the query of the others."
    )
    blocks: list[Block] = [
        Text(
            f"Of {wording.count(funnel.get('users', 0))} users, {wording.count(funnel.get('users_with_a_target', 0))} "
            f"had a positive item to aim at, {wording.count(targets)} in all; the perspective that reaches most gives "
            f"pairs to {wording.count(kept)} of them. Everything that a pair uses lies strictly before its target in "
            "time."
        ),
        *_asked(funnel),
        Figure(charts.stacked(bars, xlabel="targets"), f"Mining funnel. {said}.", caption),
        _table(perspectives, order),
    ]
    assert first is not None
    pairs = first / "mine" / _FIT / "interest_pairs.parquet"
    catalogue = Catalogue.read(run.root / "data", limits=run.media_limits)
    if pairs.exists() and catalogue is not None:
        blocks += _examples(
            read_table(pairs).to_pandas(), catalogue, order, seed=int(first.parent.name.removeprefix("seed-"))
        )
    return Section("mining", title, tuple(blocks))


def _asked(funnel: dict[str, Any]) -> list[Block]:
    """What counted as a positive behaviour."""
    kinds = funnel.get("behaviours")
    if not kinds:
        return []
    needed = funnel.get("single_peak_behaviours")
    return [
        Text(
            f"Positive behaviours: {', '.join(map(str, kinds))}. The single-peak perspectives ask for {needed} "
            "of them on an item.",
            "note",
        )
    ]


def _reasons(of: dict[str, Any]) -> dict[str, float]:
    return {wording.plain(reason): float(count) for reason, count in of.get("lost", {}).items()}


def _table(perspectives: dict[str, dict[str, Any]], order: list[str]) -> Table:
    rows = []
    for name in order:
        of = perspectives[name]
        share = of["kept_pairs"] / of["targets"] if of.get("targets") else 0.0
        lost = sorted(of.get("lost", {}).items(), key=lambda reason: -reason[1])
        reasons = ", ".join(f"{wording.plain(reason)} {wording.count(count)}" for reason, count in lost) or "none"
        cells = (
            Cell(wording.count(of["kept_pairs"])), Cell(f"{100 * share:.1f} %"), Cell(wording.count(of["kept_users"])),
            Cell(reasons),
        )  # fmt: skip
        rows.append(Row(wording.PERSPECTIVES.get(name, wording.plain(name)), cells))
    columns = ("Pairs", "Of the targets", "Users", "Lost to")
    return Table("What each perspective kept", columns, tuple(rows), corner="Perspective", words=(3,))


def _examples(pairs: pd.DataFrame, catalogue: Catalogue, order: list[str], *, seed: int) -> list[Block]:
    """Users drawn by the seed among those whom most perspectives describe, each with one pair a perspective."""
    if pairs.empty:
        return []
    described = pairs.groupby(names.USER_ID)[names.PERSPECTIVE].nunique()
    most = described[described == described.max()].index
    drawn = mix(seed, hash_ids(most))
    chosen = most[np.argsort(drawn, kind="stable")[:_USERS]]
    latest = pairs[pairs[names.USER_ID].isin(chosen)].sort_values(names.TIMESTAMP, kind="stable")
    latest = latest.drop_duplicates([names.USER_ID, names.PERSPECTIVE], keep="last")
    shown = {
        item
        for row in latest.to_dict("records")
        for item in [*row[names.QUERY_ITEMS][-_SHOWN:], row[names.TARGET_ITEM]]
    }
    pictures = catalogue.pictures(shown)

    def item(item_id: object) -> Item:
        return Item(str(catalogue.titles.get(item_id, item_id)), pictures.get(item_id))

    blocks: list[Block] = [
        Text(
            f"Interests of {len(chosen)} users, drawn at random among the {wording.count(len(most))} whom most "
            "perspectives describe: the latest items of each mined query, and the item that it should lead to."
        )
    ]
    for user in chosen:
        rows = {row[names.PERSPECTIVE]: row for row in latest[latest[names.USER_ID] == user].to_dict("records")}
        strips = tuple(
            Strip(
                wording.PERSPECTIVES.get(name, wording.plain(name)),
                tuple(item(query) for query in rows[name][names.QUERY_ITEMS][-_SHOWN:]),
                item(rows[name][names.TARGET_ITEM]),
            )
            for name in order
            if name in rows
        )
        blocks.append(Strips(f"User {user}", strips))
    return blocks
