"""Kernel distance of generated to real images, over 100 subsets of 1,000 (or as many as there are)."""

from metrics.features_metrics import kernel_distance


def compute(metric, evaluation):
    """{name: distance}."""
    real = evaluation.real_features(metric)
    fake = evaluation.generated("features", metric.num)
    return {
        metric.name: evaluation.on_first(lambda: kernel_distance(real, fake, num_subsets=100, max_subset_size=1000))
    }
