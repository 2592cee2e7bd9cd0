"""How subjects, benchmarks, metrics and numbers are worded for a reader."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from recdistill.evaluation.metrics import direction

SUBJECTS = {
    "student": "Student",
    "content_student": "Content-only student",
    "sequence_student": "Sequence-only student",
    "pretrained_student": "Pretrained student",
    "raw_content": "Raw content, centred",
    "ridge": "Ridge",
    "kernel_ridge": "Kernel ridge",
    "ease": "EASE",
    "ease_content": "EASE + content kernel",
    "ials": "iALS",
    "id_teacher": "ID teacher",
    "sequence_teacher": "Sequence teacher",
    "ials_teacher": "iALS teacher",
    "ease_teacher": "EASE's vectors",
    "fusion_teacher": "Teachers fused",
    "popularity": "Popularity",
}
_TABLES = {
    "random": "Random vectors",
    "raw_content": "Raw content",
    "kernel_ridge": "Kernel ridge",
    "id_teacher": "ID teacher",
    "student": "Student",
}
_TRANSFORMS = {
    "": "",
    "_white": ", whitened",
    "_free": ", popularity taken out",
    "_residual": ", content taken out",
}
_OF_TABLE = {
    f"{table}{transform}": f"{label}{how}" for table, label in _TABLES.items() for transform, how in _TRANSFORMS.items()
}
GROUPS = {
    "none": "No added features",
    **_OF_TABLE,
    **{
        f"raw_content+{table}": f"Raw content + {label if label[:2].isupper() else label[0].lower() + label[1:]}"
        for table, label in _OF_TABLE.items()
    },
}
RANKERS = {
    "ranker": "DLRM",
    "ranker_dcn": "DCN-v2",
    "ranker_din": "DIN",
    "ranker_trees": "Boosted trees",
}
BENCHMARKS = {
    "seq2item_vanilla": "Next item (vanilla seq2item)",
    "seq2item_filtered": "Next item within the interest (filtered seq2item)",
    "gid_i2i": "Items near in a judge's ID space (Gid-i2i)",
    "gid_others_i2i": "Items near in an ID space of users unknown to training (Gid-i2i by others)",
    "copair_i2i": "Items consumed together, by lift (Copair-i2i)",
    "copair_count_i2i": "Items consumed together, by count (measures popularity)",
    "content_i2i": "Items of like labels, or tags without labels (content-i2i)",
    "bijective": "Bijective alignment",
    "ranking_consistency": "Ranking consistency with the judge",
    "clustering": "Clustering consistency",
    "separability": "True against random pairs",
    "new_items": "New items and the level that lifts them",
    **{benchmark: f"Downstream ranker ({model})" for benchmark, model in RANKERS.items()},
    "lt": "Lifetime proxies",
}
SPLITS = {
    "all": "all items",
    "warm": "warm items",
    "cold": "cold items",
    "light_users": "light users",
    "medium_users": "medium users",
    "heavy_users": "heavy users",
}
PERSPECTIVES = {
    "content_single_peak": "Content, single peak",
    "content_multi_peak": "Content, multi-peak",
    "collaborative_single_peak": "Collaborative, single peak",
    "collaborative_multi_peak": "Collaborative, multi-peak",
}

_METRICS = {
    "auc": "AUC",
    "auc_matched": "AUC, popularity-matched",
    "gauc": "GAUC",
    "gauc_by_user": "GAUC, users alike",
    "ece": "Calibration error",
    "calibration_gap": "Predicted off observed",
    "logloss": "Log loss",
    "nmi": "NMI with the judge",
    "nmi_labels": "NMI with labels",
    "kendall_tau": "Kendall's τ",
    "bijective_accuracy": "Bijective accuracy",
    "overlap_coefficient": "Overlap",
    "frontier_area": "Frontier area",
    "lt7_proxy": "LT7 proxy",
    "lt30_proxy": "LT30 proxy",
    "r2": "R² of the surrogate",
}
_AT = re.compile(r"(?P<name>recall|ndcg|mrr|topk_overlap)_at_(?P<k>\d+)(?P<cold>_among_cold|_share_\d+|_levelled)?$")
_SHORT = {"recall": "R", "ndcg": "NDCG", "mrr": "MRR", "topk_overlap": "Top-k overlap"}
_PERCENT = ("recall", "ndcg", "mrr", "topk_overlap", "bijective_accuracy", "overlap_coefficient")
_MINUS = "−"


def metric_label(metric: str) -> str:
    """``recall_at_25_among_cold`` → ``R@25 among cold``."""
    if found := _AT.match(metric):
        return f"{_SHORT[found['name']]}@{found['k']}" + _condition(found["cold"] or "")
    if metric.endswith("_delta"):
        return f"Δ {metric_label(metric.removesuffix('_delta'))}"
    return _METRICS.get(metric, plain(metric))


def _condition(suffix: str) -> str:
    if suffix.startswith("_share_"):
        return f" with {suffix.removeprefix('_share_')} % new"
    return {"_among_cold": " among cold", "_levelled": " at the chosen level"}.get(suffix, "")


def is_percent(metric: str) -> bool:
    """Whether a metric is a share that reads best in per cent."""
    return metric.startswith(_PERCENT)


def number(metric: str, value: float, *, signed: bool = False) -> str:
    """A figure as it is shown: shares in per cent with two decimals, others with four (``lt…`` with three).

    An area between two shares is shown in per cent of per cent.
    """
    if not math.isfinite(value):
        return "–"
    if metric.startswith("frontier_area"):
        text = f"{1e4 * value:+.1f}" if signed else f"{1e4 * value:.1f}"
    elif is_percent(metric):
        text = f"{100 * value:+.2f}" if signed else f"{100 * value:.2f}"
    else:
        digits = 3 if metric.startswith("lt") else 4
        text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.replace("-", _MINUS)


def interval(metric: str, low: float | None, high: float | None, *, signed: bool = False) -> str:
    """``8.90 – 9.91``, or nothing where no interval is known."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{number(metric, low, signed=signed)} … {number(metric, high, signed=signed)}"


def lower_is_better(metric: str) -> bool:
    """Whether a smaller figure is the better one; a metric that evaluation does not classify counts upwards."""
    try:
        return direction(metric) == "lower"
    except KeyError:
        return False


def subject_label(subject: str) -> str:
    """A subject's name for readers; one we do not know keeps its own."""
    return SUBJECTS.get(subject, plain(subject))


def in_order(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """``names`` in the order of ``known``, the unknown ones behind, by name."""
    order = {name: at for at, name in enumerate(known)}
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))


def plain(name: str) -> str:
    """``some_name`` → ``some name``."""
    return name.replace("_", " ")


def count(value: float) -> str:
    """A count with thousands separated by thin spaces."""
    return f"{value:,.0f}".replace(",", "\u202f")
