"""What collaboration-aware training must show, as comparisons that one run's records answer.

A bar is the least ratio of the student's figure to another subject's. Superiority (a bar of 1 or more) is tested
against no difference; a loss that is accepted (a bar below 1) against that very loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from frontiers import AREA, BENCHMARK, CONTENT, PLACES_NEW_ITEMS, STUDENT, VALIDATION

from recdistill.evaluation import summarise
from recdistill.evaluation.by_unit import KEY
from recdistill.evaluation.significance import Contrast, contrast

SEQUENCE_STUDENT, KERNEL_RIDGE = "sequence_student", "kernel_ridge"
# Who is best of all items without content-and-behaviour training; the best on the test window is the bar.
ALL_ITEMS = ("ials", "ease", "ease_content", KERNEL_RIDGE)
RIVALS = ("dropoutnet", "clcrec", "aldi")
# Who places new items and is no student of ours.
OUTSIDE = (*PLACES_NEW_ITEMS, *RIVALS)


@dataclass(frozen=True)
class Claim:
    """The student's figure is at least ``bar`` times another's.

    Attributes:
        other: None where none of ``among`` is known.
        ours: the subject whose figure it is, where it is not the student's at no level.
        among: of whom the other is the best.
    """

    name: str
    benchmark: str
    metric: str
    other: str | None
    bar: float
    ours: str = STUDENT
    split: str = "all"
    among: tuple[str, ...] = ()

    @property
    def null(self) -> float:
        """The ratio that is tested."""
        return min(self.bar, 1.0)

    def contrast(self, records: pd.DataFrame) -> Contrast | None:
        """What the records say, None if they lack one of the two."""
        if self.other is None:
            return None
        return contrast(
            records,
            self.ours,
            self.other,
            benchmark=self.benchmark,
            split=self.split,
            metric=self.metric,
            null=self.null,
        )


def claims(records: pd.DataFrame, *, protocol: str, all_at: int, cold_at: int) -> Iterator[Claim]:
    """Those of one world and protocol.

    Under ``folds`` the judge's users are unknown to training: gid_i2i is the judge of others too.

    Args:
        records: of the evaluate stage and of the frontiers.
        all_at, cold_at: k of the frontiers' recalls of all and of new items.
    """
    vanilla, filtered, gid = "seq2item_vanilla", "seq2item_filtered", "gid_i2i"
    others = gid if protocol == "folds" else "gid_others_i2i"
    yield Claim("floor: vanilla R@10", vanilla, "recall_at_10", CONTENT, 1.277)
    yield Claim("floor: filtered R@10", filtered, "recall_at_10", CONTENT, 1.228)
    yield Claim("floor: gid R@50", gid, "recall_at_50", CONTENT, 1.138)
    figures = summarise(records[records["metric"].isin(["recall_at_10", AREA])], draws=2)
    value = {tuple(row[part] for part in KEY): row["value"] for row in figures.to_dict("records")}
    if protocol == "folds":
        best = best_of(ALL_ITEMS, {name: value.get((name, vanilla, "all", "recall_at_10")) for name in ALL_ITEMS})
        yield Claim("all items: vanilla R@10", vanilla, "recall_at_10", best, 1.10, among=ALL_ITEMS)
        yield Claim("all items: filtered R@10", filtered, "recall_at_10", best, 1.10, among=ALL_ITEMS)
    yield Claim("gid R@100, test judge", gid, "recall_at_100", KERNEL_RIDGE, 1.25)
    yield Claim("gid R@100, judge of others", others, "recall_at_100", KERNEL_RIDGE, 1.05)
    yield Claim("distillation adds: vanilla R@10", vanilla, "recall_at_10", SEQUENCE_STUDENT, 1.05)
    yield Claim("distillation adds: gid R@100", gid, "recall_at_100", SEQUENCE_STUDENT, 1.10)
    yield Claim("nothing lost: content R@50", "content_i2i", "recall_at_50", CONTENT, 0.97)
    yield Claim("nothing lost: copair R@50, by lift", "copair_i2i", "recall_at_50", CONTENT, 1.0)
    everyone = (*OUTSIDE, CONTENT)
    areas = {name: value.get((name, BENCHMARK, "all", AREA)) for name in everyone}
    yield Claim("cold: frontier area, strongest other", BENCHMARK, AREA, best_of(everyone, areas), 1.0, among=everyone)
    best = best_of(OUTSIDE, {name: value.get((name, BENCHMARK, VALIDATION, AREA)) for name in OUTSIDE})
    # Validation says at which level the student gets as much of new items; whether it does so on the test is a claim of
    # its own, without which the two below would compare it at another new recall than they say.
    there = f"{STUDENT}@{best}" if best else STUDENT
    at_all, at_cold = f"recall_at_{all_at}", f"recall_at_{cold_at}"
    yield Claim(f"cold: new R@{cold_at} there", BENCHMARK, at_cold, best, 1.0, there, "cold", OUTSIDE)
    of_best = f"cold: all R@{all_at} at its new R, best on validation"
    yield Claim(of_best, BENCHMARK, at_all, best, 1.3, there, among=OUTSIDE)
    own = STUDENT if best else None
    yield Claim(f"cold: all R@{all_at} there of the student's own best", BENCHMARK, at_all, own, 0.85, there)


def best_of(names: tuple[str, ...], values: dict[str, float | None]) -> str | None:
    """The name of the largest value; None where none is known."""
    known = {name: found for name in names if (found := values[name]) is not None}
    return max(known, key=known.__getitem__) if known else None
