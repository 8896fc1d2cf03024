"""Full ranking and its metrics, intervals and paired comparisons, and diagnostics of embedding spaces."""

from mmrec_teach.evaluation import diagnostics, metrics
from mmrec_teach.evaluation.ranking import Evaluation, compare, evaluate, evaluate_scores, top_k
from mmrec_teach.evaluation.statistics import Comparison, bootstrap_interval

__all__ = [
    "Comparison",
    "Evaluation",
    "bootstrap_interval",
    "compare",
    "diagnostics",
    "evaluate",
    "evaluate_scores",
    "metrics",
    "top_k",
]
