"""Kernel distance between generated and real images, over 100 subsets of 1,000 images (or all, if fewer)."""

from metrics.evaluation import require_reals
from metrics.features_metrics import kernel_distance
from metrics.metric import COUNT, FEATURES, FULL, OTHER, Kind


def compute(metric, evaluation):
    """{name: distance}."""
    real = evaluation.real_features(metric)
    fake = evaluation.generated("features", metric.num)
    return {
        metric.name: evaluation.processes.on_first(
            lambda: kernel_distance(real, fake, num_subsets=100, max_subset_size=1000)
        )
    }


KIND = Kind(
    names=("kid50k_full", "kid50k"),
    patterns=(f"kid({OTHER})?{COUNT}{FULL}",),
    needs=FEATURES,
    check=require_reals,
    compute=compute,
    real_limit=1_000_000,
)
