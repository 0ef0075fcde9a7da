"""Fréchet distance between generated and real images: FID on Inception features, `fd_...` on others."""

from metrics.evaluation import require_reals
from metrics.features_metrics import frechet_distance_from_moments
from metrics.metric import COUNT, FEATURES, FULL, OTHER, Kind
from metrics.moments import Moments


def compute(metric, evaluation):
    """{name: distance}."""
    real = evaluation.real_moments(metric)
    fake = evaluation.generated("features", metric.num)
    distance = evaluation.processes.on_first(
        lambda: frechet_distance_from_moments(*real, *Moments().append(fake).result())
    )
    return {metric.name: distance}


KIND = Kind(
    names=("fid50k_full", "fid50k"),
    patterns=(f"fid{COUNT}{FULL}", f"fd{OTHER}{COUNT}{FULL}"),
    needs=FEATURES,
    check=require_reals,
    compute=compute,
    other_head="fd",
)
