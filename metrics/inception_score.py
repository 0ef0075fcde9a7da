"""Inception score of generated images, over 10 splits."""

from metrics.features_metrics import inception_score
from metrics.metric import COUNT, PROBABILITIES, Kind

NUM_SPLITS = 10


def compute(metric, evaluation):
    """{name_mean, name_std}."""
    probs = evaluation.generated("probabilities", metric.num)
    mean, std = evaluation.processes.on_first(lambda: inception_score(probs, NUM_SPLITS))
    return {f"{metric.name}_mean": mean, f"{metric.name}_std": std}


KIND = Kind(
    names=("is50k",),
    patterns=(r"is(_(?P<features>effnet|user))?" + COUNT,),
    needs=PROBABILITIES,
    compute=compute,
    larger_is_better=True,
    at_least=NUM_SPLITS,
)
