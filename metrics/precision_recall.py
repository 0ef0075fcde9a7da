"""Precision and recall of generated images, by nearest neighbours among features."""

from metrics.evaluation import require_reals
from metrics.features_metrics import precision_recall
from metrics.metric import FEATURES, FULL, OTHER, THOUSANDS_AND_RANK, Kind


def compute(metric, evaluation):
    """{name_precision, name_recall}."""
    precision, recall = evaluation.on_both_sets(metric, precision_recall)
    return {f"{metric.name}_precision": precision, f"{metric.name}_recall": recall}


KIND = Kind(
    names=("pr50k3_full", "pr50k3"),
    patterns=(f"pr({OTHER})?{THOUSANDS_AND_RANK}{FULL}",),
    needs=FEATURES,
    check=require_reals,
    compute=compute,
    larger_is_better=True,
    real_limit=200_000,
)
