"""Density and coverage of generated images, by nearest neighbours among features."""

from metrics.evaluation import require_reals
from metrics.features_metrics import density_coverage
from metrics.metric import FEATURES, FULL, OTHER, THOUSANDS_AND_RANK, Kind


def compute(metric, evaluation):
    """{name_density, name_coverage}."""
    density, coverage = evaluation.on_both_sets(metric, density_coverage)
    return {f"{metric.name}_density": density, f"{metric.name}_coverage": coverage}


KIND = Kind(
    names=("dc50k5_full", "dc50k5"),
    patterns=(f"dc({OTHER})?{THOUSANDS_AND_RANK}{FULL}",),
    needs=FEATURES,
    check=require_reals,
    compute=compute,
    larger_is_better=True,
    real_limit=200_000,
)
