"""The ``evaluate`` stage: every subject, every benchmark, one evaluator.

Memory: the logs (about 40 bytes an event), each table of vectors (12·I·d bytes in float32 and float64), 8 bytes per
excluded (question, item) pair, and for EASE 12·n² bytes for n items at its peak. Nothing is users × items.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from recdistill.contracts.fold import Fit, Fold
from recdistill.contracts.records import Records
from recdistill.contracts.tables import EmbeddingTable, write_json, write_table
from recdistill.errors import UserError
from recdistill.evaluation.baselines.material import Material
from recdistill.evaluation.baselines.tuned import Made, Skipped, make_baseline
from recdistill.evaluation.benchmarks.catalogue import Catalogue
from recdistill.evaluation.benchmarks.items import of_items, questions_of_others
from recdistill.evaluation.benchmarks.judge import judge
from recdistill.evaluation.benchmarks.new_items import NewItems
from recdistill.evaluation.benchmarks.spaces import Spaces
from recdistill.evaluation.benchmarks.users import agreement, seq2item
from recdistill.evaluation.config import Baseline, Benchmark, EvaluateConfig
from recdistill.evaluation.gains import record_retrieval
from recdistill.evaluation.questions import Questions
from recdistill.evaluation.subjects import Subject, VectorSubject
from recdistill.progress import track

RECORDS = "metric_records.parquet"
SEPARABILITY = "separability.parquet"
SUMMARY = "evaluate.json"
OF_OTHERS: Benchmark = "gid_others_i2i"


def evaluate(
    config: EvaluateConfig,
    *,
    fold: Fold,
    items: Path,
    content: Path,
    teach: Path,
    students: Sequence[Path],
    out: Path,
    seed: int,
) -> None:
    """Judge students, teachers and baselines on a fold's test window.

    Writes ``out/metric_records.parquet``, ``out/separability.parquet`` (similarities of true and random pairs),
    ``out/<fit>/{raw_content,ridge,kernel_ridge,ials}.parquet`` (their vectors) and ``out/evaluate.json`` (counts,
    seconds, settings chosen for the baselines, new-item levels, what was skipped and why).

    Args:
        fold: of the split stage.
        items: the canonical item table (tags and labels are read).
        content: folder with ``raw_content.parquet``.
        teach, students: folders whose ``final/*.parquet`` become subjects under their file names.
        seed: of draws; the judge's ID space uses another.

    Raises:
        UserError: a table is missing or broken, two subjects share a name, or a setting names a field that does not
            exist.
    """
    started = time.monotonic()
    tables = [path for folder in (*students, teach) for path in sorted((folder / "final").glob("*.parquet"))]
    _check_names([path.stem for path in tables], config.baselines.include)
    material = Material.of_fits(
        fold,
        content=content,
        teach=teach,
        teacher=config.baselines.teacher,
        min_positive=config.seq2item.min_positive,
    )
    final = material["final"]
    bench = Bench.build(config, fold=fold, items=items, material=final, seed=seed)
    validation = seq2item(config.seq2item, fold, "selection", seed=seed, cold=~material["selection"].known)
    records = Records(seed, fold.name)
    progress = Progress(seconds={"questions": round(time.monotonic() - started, 3)})

    choosing = NewItems(config.new_items, validation, ~material["selection"].known)

    def of_table(path: Path) -> tuple[Subject, Subject | None]:
        earlier = path.parents[1] / "selection" / path.name
        subject, before = (
            VectorSubject.of(path.stem, EmbeddingTable.read(place), final.item_ids) if place.exists() else None
            for place in (path, earlier)
        )
        assert subject is not None  # the folder listed it
        return subject, before

    def baseline(name: Baseline) -> tuple[Subject, Subject | None]:
        made = make_baseline(
            name,
            config.baselines,
            selection=material["selection"],
            final=final,
            questions=validation,
            seed=seed,
        )
        progress.note(name, made)
        _write_vectors(made, final.item_ids, out=out, seed=seed)
        return made.final, made.selection

    with track("evaluate · subjects", len(tables) + len(config.baselines.include)) as advance:
        for path in tables:
            progress.judge(path.stem, partial(of_table, path), bench, records, choosing)
            advance(1)
        for name in config.baselines.include:
            progress.judge(name, partial(baseline, name), bench, records, choosing)
            advance(1)
    records.write(out / RECORDS)
    write_table(_similarities(progress.similarities), out / SEPARABILITY)
    write_json(
        {
            **bench.counts,
            "seconds": {**progress.seconds, "all": round(time.monotonic() - started, 3)},
            "baselines": progress.baselines,
            "skipped": progress.skipped,
            "levels": progress.levels,
            "values": records.values,
        },
        out / SUMMARY,
    )


@dataclass(frozen=True)
class Bench:
    """What every subject is asked."""

    config: EvaluateConfig
    retrieval: dict[str, Questions]
    spaces: Spaces
    new_items: NewItems
    cold: np.ndarray
    counts: dict[str, Any]

    @classmethod
    def build(
        cls, config: EvaluateConfig, *, fold: Fold, items: Path, material: Material, seed: int, fit: Fit = "final"
    ) -> Bench:
        """The questions of a fit's window: the test's, or for ``selection`` the validation's, where one may choose.

        Args:
            material: what that fit may learn from.
        """
        cold = ~material.known
        catalogue = Catalogue.read(items, material.item_ids)
        make_judge = partial(
            judge,
            config.judge,
            min_support=config.i2i.min_support,
            min_positive=config.seq2item.min_positive,
            seed=seed,
        )
        referee = make_judge(fold.judge(fit))
        vanilla = seq2item(config.seq2item, fold, fit, seed=seed, cold=cold)

        def filtered() -> Questions:
            agree = agreement(config.seq2item, catalogue, material.content, seed=seed)
            return seq2item(config.seq2item, fold, fit, seed=seed, cold=cold, agree=agree)

        makers: dict[str, Callable[[], Questions]] = {
            "seq2item_vanilla": lambda: vanilla,
            "seq2item_filtered": filtered,
            **of_items(config, catalogue, referee, item_ids=material.item_ids, cold=cold, seed=seed),
        }
        left_out: dict[str, str] = {}
        if OF_OTHERS in config.benchmarks:
            of_others = questions_of_others(
                config, fold, make_judge, item_ids=material.item_ids, cold=cold, seed=seed, fit=fit
            )
            if isinstance(of_others, str):
                left_out[OF_OTHERS] = of_others
            else:
                makers[OF_OTHERS] = lambda: of_others
        retrieval: dict[str, Questions] = {name: makers[name]() for name in config.benchmarks if name in makers}
        spaces = Spaces.build(
            config,
            questions=vanilla,
            judge=referee,
            classes=catalogue.classes,
            item_ids=material.item_ids,
            cold=cold,
            seed=seed,
        )
        counts = {
            "items": len(cold),
            "cold_items": int(cold.sum()),
            "judged_items": len(referee.items),
            "users": len(np.unique(vanilla.unit)),
            "questions": {name: len(asked) for name, asked in retrieval.items()},
            "left_out": left_out,
            # Tags are an input of the student and of content baselines, labels of none.
            "content_i2i_judged_by": "labels" if catalogue.labels else "tags",
        }
        return cls(config, retrieval, spaces, NewItems(config.new_items, vanilla, cold), cold, counts)

    def ask(self, records: Records, subject: Subject, *, level: float | None = None) -> pd.DataFrame:
        """Record every benchmark; returns the similarities of true and random pairs, for plots.

        Args:
            level: of new items, chosen on the validation window.
        """
        cutoffs, ndcg_at = self.config.cutoffs, self.config.ndcg_at
        for benchmark, questions in self.retrieval.items():
            record_retrieval(records, subject, benchmark, questions, cold=self.cold, cutoffs=cutoffs, ndcg_at=ndcg_at)
        if "new_items" in self.config.benchmarks:
            self.new_items.record(records, subject, level=level)
        return self.spaces.record(records, subject)


@dataclass
class Progress:
    """What happened to each subject, for ``evaluate.json``."""

    seconds: dict[str, float]
    levels: dict[str, float] = field(default_factory=dict)
    baselines: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    similarities: list[pd.DataFrame] = field(default_factory=list)

    def judge(
        self,
        name: str,
        make: Callable[[], tuple[Subject, Subject | None]],
        bench: Bench,
        records: Records,
        choosing: NewItems,
    ) -> None:
        """Ask a subject everything.

        Args:
            make: gives the subject, and itself before the validation window was learned from, by which its new-item
                level is chosen.
            choosing: the validation window's questions.
        """
        begun = time.monotonic()
        try:
            subject, before = make()
        except Skipped as reason:
            self.skipped[name] = str(reason)
            return
        made = time.monotonic()
        level = choosing.choose(before) if "new_items" in bench.config.benchmarks else None
        if level is not None:
            self.levels[name] = level
        self.similarities.append(bench.ask(records, subject, level=level))
        self.seconds[f"{name}: fit"] = round(made - begun, 3)
        self.seconds[f"{name}: judge"] = round(time.monotonic() - made, 3)

    def note(self, name: str, made: Made) -> None:
        if made.chosen is not None:
            self.baselines[name] = {
                "settings": made.chosen.settings,
                "validation": made.chosen.score,
                "tried": [{**settings, "validation": score} for settings, score in made.chosen.tried],
            }


def _check_names(tables: list[str], baselines: tuple[Baseline, ...]) -> None:
    names = [*tables, *baselines]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(
            f"evaluate: more than one subject is named {', '.join(twice)}",
            remedy="give the external teacher another name, or take the baseline out of evaluate.baselines.include",
        )


def _write_vectors(made: Made, item_ids: pd.Index, *, out: Path, seed: int) -> None:
    """A baseline that has vectors of both fits leaves them: rankers read them."""
    if not (isinstance(made.selection, VectorSubject) and isinstance(made.final, VectorSubject)):
        return
    fits: dict[Fit, VectorSubject] = {"selection": made.selection, "final": made.final}
    for fit, subject in fits.items():
        rows = subject.present
        geometry = "cosine" if subject.cosine else "dot"
        provenance = {"kind": subject.name, "geometry": geometry, "fit": fit, "seed": seed}
        EmbeddingTable(item_ids[rows], subject.vectors[rows], metadata=provenance).write(
            out / fit / f"{subject.name}.parquet"
        )


def _similarities(frames: list[pd.DataFrame]) -> pa.Table:
    text = [(name, pa.string()) for name in ("subject", "split", "kind")]
    schema = pa.schema([*text, ("similarity", pa.float32())])
    tables = [pa.Table.from_pandas(frame, schema=schema, preserve_index=False) for frame in frames if len(frame)]
    return pa.concat_tables([schema.empty_table(), *tables])
