"""Neighbour-based measures: precision and recall, density and coverage."""

from metrics.features_metrics import density_coverage, precision_recall


def compute(metric, evaluation):
    """{name_precision, name_recall} or {name_density, name_coverage}."""
    names, measure = {
        "pr": (("precision", "recall"), precision_recall),
        "dc": (("density", "coverage"), density_coverage),
    }[metric.kind]
    real = evaluation.real_features(metric)
    fake = evaluation.generated("features", metric.num)
    device = "cuda" if evaluation.device.type == "cuda" else "cpu"  # float64, which other devices lack
    values = evaluation.on_first(lambda: measure(real.to(device), fake.to(device), metric.k))
    return {f"{metric.name}_{name}": value for name, value in zip(names, values)}
