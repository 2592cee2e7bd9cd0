"""What each part of content-aware training is worth: modalities, fusion, objectives, sampling, phases (METHOD 3).

Purpose: the report's ablation on a log of one's own. Each row adds one part to the row before; all rows train the same
number of steps on the same pair datasets of training and validation window, and are judged in the test window. The test
tunes nothing: rate, steps, dropout and the perceiver's queries were chosen for the linear and the fusing student
together by held-out pairs of the validation window (those of recdistill pretrain), and there is no early stopping.
Command: python experiments/ablations/content_aware.py RECIPE [data.root=FOLDER] --out FOLDER [--seeds 0,1,2]
         [--steps 400] [--batch 128] [--rows "text only,…"]
Time: about a minute a row and seed on two cores, encoding and teachers apart. Memory: 3 GB.
Expected: a table of i2i recall at 50 in %, by content (labels, else tags) and by co-consumption (lift), of all, warm
and cold items, with 95 % intervals over items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from lab import BENCHMARKS, Lab, ablate, arguments, print_table

from recdistill.exits import exit_codes
from recdistill.pretrain.phases import Pretraining

# The instructions that a row with them gives the two sides of its datasets.
PROMPTS = {"together": "same audience", "content": "same content", "label": "its labels", "text": "a label"}
TASKS = {
    "co_consumption": ("together", "together"),
    "session": ("together", "together"),
    "teacher_space": ("together", "together"),
    "id_cluster": ("together", "together"),
    "same_tag": ("content", "content"),
    "same_author": ("content", "content"),
    "text_ngram": ("content", "content"),
    "item_label": ("label", "text"),
}
ASKED_FOR = {"content_i2i": "content", "copair_i2i": "together"}


@dataclass(frozen=True)
class Row:
    """One row: what it adds to the settings of the row before."""

    name: str
    student: Mapping[str, Any]
    phase: Mapping[str, Any]
    progressive: bool = False
    instructed: bool = False


def rows(modalities: tuple[str, ...]) -> list[Row]:
    """The rows for a catalogue of these modalities, each with all that the rows before it have."""
    found: list[Row] = []
    student: dict[str, Any] = {
        "kind": "linear",
        "modalities": [],
        "modality_dropout": 0.1,
        "dropout": 0.0,
        "queries": 2,
    }
    phase: dict[str, Any] = {"specialised": False, "sampling": "size"}

    def add(name: str, *, of_phase: Mapping[str, Any] | None = None, **changes: Any) -> None:
        student.update(changes)
        phase.update(of_phase or {})
        flags = {flag: student.pop(flag, False) or _had(found, flag) for flag in ("progressive", "instructed")}
        found.append(Row(name, dict(student), dict(phase), **flags))

    for modality, label in (
        ("text", "text only"),
        ("structured", "+ structured"),
        ("image", "+ vision"),
        ("audio", "+ audio"),
    ):
        if modality in modalities:
            read = [*student["modalities"], modality]
            add(label, modalities=read)
    add("perceiver and fusion, causal", kind="fusion", attention="causal")
    add("+ bidirectional", attention="bidirectional")
    add("+ instructions", instructed=True)
    add("+ hard negatives", of_phase={"hard_negatives": 1})
    add("+ balancing", of_phase={"sampling": "adaptive"})
    add("+ specialisation", of_phase={"specialised": True})
    add("+ mICL and late fusion", of_phase={"weights": {"nce": 1.0, "micl": 0.1, "late_fusion": 0.1}})
    weights = {"nce": 1.0, "micl": 0.1, "late_fusion": 0.1, "patterns": 0.1}
    add("+ pattern matching", of_phase={"weights": weights})
    add("+ progressive", progressive=True)
    return found


def _had(rows: list[Row], flag: str) -> bool:
    return bool(rows) and bool(getattr(rows[-1], flag))


def phases(row: Row, steps: int, datasets: tuple[str, ...]) -> list[dict[str, Any]]:
    """One phase of all steps; of the progressive row three that add up to them: diverse, near the task, hard."""
    if not row.progressive:
        return [{"name": "all", "steps": steps, **row.phase}]
    near = [name for name in ("co_consumption", "same_tag") if name in datasets] or list(datasets)
    last = steps // 4
    soft = {key: value for key, value in row.phase.items() if key != "hard_negatives"}
    return [
        {"name": "diverse", "steps": steps - 2 * last, **soft},
        {"name": "near", "steps": last, "datasets": near, **soft},
        {"name": "hard", "steps": last, "datasets": near, **row.phase},
    ]


def train(lab: Lab, row: Row, *, steps: int, batch: int) -> Pretraining:
    """A student of the row."""
    sides = {
        name: {"query": query, "target": target}
        for name, (query, target) in TASKS.items()
        if name in lab.datasets and row.instructed
    }
    return lab.train(
        {**row.student, "instructions": PROMPTS if row.instructed else {}},
        {"phases": phases(row, steps, lab.datasets), "batch_size": batch, "instructions": sides},
    )


def _vectors(trained: Pretraining, row: Row) -> dict[str, np.ndarray]:
    """The catalogue's vectors, told what each benchmark asks for if the student takes instructions."""
    student = trained.student.eval()
    if not row.instructed:
        return dict.fromkeys(BENCHMARKS, student.encode_store(trained.items))
    return {name: student.encode_store(trained.items, instruction=told) for name, told in ASKED_FOR.items()}


@exit_codes()
def main() -> None:
    """Train and judge every row with every seed; print the tables."""
    parser = arguments(__doc__, steps=400)
    parser.add_argument("--rows", help="names of rows, separated by commas; default all")
    of = parser.parse_args()

    def experiment(lab: Lab) -> None:
        lab.judge("untrained content", dict.fromkeys(BENCHMARKS, lab.final.content))
        for row in rows(lab.modalities):
            if of.rows is None or row.name in of.rows.split(","):
                lab.judge(row.name, _vectors(train(lab, row, steps=of.steps, batch=of.batch), row))
                print(f"seed {lab.seed}, {lab.fold.name}: {row.name}", flush=True)

    records, judged_by = ablate(of, (), "records", experiment)
    print_table(records)
    if judged_by == "tags":
        print("content is judged by tags here, on which same_tag, same_author and item_label trained")


if __name__ == "__main__":
    main()
