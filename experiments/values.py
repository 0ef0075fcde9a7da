"""What a record says of a figure: a metric of its snapshots, or a statistic of the run (study.Claim names them)."""

import statistics

from metrics.registry import better


def value(record, figure, rule, first):
    """A figure of one run (study.Claim); None where it was not measured. `first`: the metric that tells the best."""
    if " - " in figure:
        a, b = (value(record, part, rule, first) for part in figure.split(" - "))
        return None if a is None or b is None else a - b
    kind, _, name = figure.rpartition(":")
    if name in record["curves"]:
        entries = [entry for entry in record["curves"][name] if entry is not None]
        return statistics.fmean(entries) if entries else None
    if kind == "rise":
        last, best = (value(record, name, which, first) for which in ("last", "best"))
        return None if last is None else last - best
    snapshots = [snapshot for snapshot in record["snapshots"] if name in snapshot]
    if not snapshots:
        return None
    if rule == "last":
        return snapshots[-1][name]
    return best_snapshot(snapshots, first)[name]


def best_snapshot(snapshots, metric):
    best = snapshots[0]
    for snapshot in snapshots[1:]:
        if metric in snapshot and (metric not in best or better(metric, snapshot[metric], best[metric])):
            best = snapshot
    return best


def values(found, figure, rule, first, seeds=None):
    """The figure of every recorded seed of a row, or of those in `seeds`; runs that diverged have none."""
    chosen = [record for record in found if "diverged" not in record and (seeds is None or record["seed"] in seeds)]
    return [number for record in chosen if (number := value(record, figure, rule, first)) is not None]


def first_metric(study):
    """What the study is about: its first metric, or without metrics the first statistic that it shows."""
    return (study.metrics or study.shown)[0]


def over_kimg(record, figure):
    """[(kimg, figure)] of the snapshots, or of the ticks for a statistic."""
    if figure in record["curves"]:
        return list(zip(record["curves"]["kimg"], record["curves"][figure]))
    return [(s["kimg"], s[figure]) for s in record["snapshots"] if figure in s]
