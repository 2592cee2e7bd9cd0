"""Ranks → metric records of one subject and one retrieval benchmark."""

from __future__ import annotations

import numpy as np

from recdistill.contracts.records import Records
from recdistill.evaluation.metrics.retrieval import list_gains
from recdistill.evaluation.questions import Questions, splits
from recdistill.evaluation.subjects import Subject

AMONG_COLD = "_among_cold"


def record_retrieval(
    records: Records,
    subject: Subject,
    benchmark: str,
    questions: Questions,
    *,
    cold: np.ndarray,
    cutoffs: tuple[int, ...],
    ndcg_at: int,
) -> None:
    """Recall and NDCG of all, warm and cold questions; of cold targets also among cold candidates only.

    Args:
        cold: [I] bool: items absent from training.
    """
    if not len(questions):
        return
    ranks = subject.ranks(questions)
    for split, rows in splits(questions.known):
        _record(records, subject.name, benchmark, split, questions, rows, ranks, cutoffs, ndcg_at, "")
    among = cold[questions.target]
    if among.any():
        ranks = subject.ranks(questions, candidates=cold)
        _record(records, subject.name, benchmark, "cold", questions, among, ranks, cutoffs, ndcg_at, AMONG_COLD)


def _record(
    records: Records,
    subject: str,
    benchmark: str,
    split: str,
    questions: Questions,
    rows: np.ndarray,
    ranks: np.ndarray,
    cutoffs: tuple[int, ...],
    ndcg_at: int,
    suffix: str,
) -> None:
    ranks, unit, lists = ranks[rows], questions.unit[rows], questions.asker[rows]
    for k in cutoffs:
        records.add(subject, benchmark, split, f"recall_at_{k}{suffix}", unit, questions.unit_ids, ranks <= k)
    gain, ideal = list_gains(ranks, lists=lists, k=ndcg_at)
    _, first = np.unique(lists, return_index=True)
    records.add(subject, benchmark, split, f"ndcg_at_{ndcg_at}{suffix}", unit[first], questions.unit_ids, gain / ideal)
