"""Fréchet distance of generated to real images: FID on Inception features, `fd_...` on others."""

from metrics.features_metrics import frechet_distance_from_moments
from metrics.moments import Moments


def compute(metric, evaluation):
    """{name: distance}."""
    real = evaluation.real_moments(metric)
    fake = evaluation.generated("features", metric.num)
    distance = evaluation.on_first(lambda: frechet_distance_from_moments(*real, *Moments().append(fake).result()))
    return {metric.name: distance}
