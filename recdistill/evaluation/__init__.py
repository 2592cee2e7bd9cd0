"""Students, teachers and baselines judged side by side; records, summaries and comparisons."""

from recdistill.evaluation.config import EvaluateConfig
from recdistill.evaluation.stage import evaluate
from recdistill.evaluation.summary import compare, summarise, to_metrics_json

__all__ = ["EvaluateConfig", "compare", "evaluate", "summarise", "to_metrics_json"]
