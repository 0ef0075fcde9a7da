"""Inception score of generated images, over 10 splits."""

from metrics.features_metrics import inception_score


def compute(metric, evaluation):
    """{name_mean, name_std}."""
    probs = evaluation.generated("probabilities", metric.num)
    mean, std = evaluation.on_first(lambda: inception_score(probs, num_splits=10))
    return {f"{metric.name}_mean": mean, f"{metric.name}_std": std}
