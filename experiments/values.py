"""Values of a figure in records: a metric of the snapshots, or a statistic of the run (study.Claim names them)."""

import statistics

from metrics.registry import better


def value(record, figure, rule, first):
    """A figure of one run (study.Claim); None if it was not measured. `first`: the metric that selects the best."""
    if " - " in figure:
        a, b = (value(record, part, rule, first) for part in figure.split(" - "))
        return None if a is None or b is None else a - b
    kind, _, name = figure.rpartition(":")
    if name in record["curves"]:
        entries = [entry for entry in record["curves"][name] if entry is not None]
        return statistics.fmean(entries) if entries else None
    snapshots = [snapshot for snapshot in record["snapshots"] if name in snapshot]
    if not snapshots:
        return None
    if kind == "rise":
        half = snapshots[-1]["kimg"] / 2
        return snapshots[-1][name] - min(snapshots, key=lambda snapshot: abs(snapshot["kimg"] - half))[name]
    if rule == "last":
        return snapshots[-1][name]
    return best_snapshot(snapshots, first)[name]


def best_snapshot(snapshots, metric):
    best = snapshots[0]
    for snapshot in snapshots[1:]:
        if metric in snapshot and (metric not in best or better(metric, snapshot[metric], best[metric])):
            best = snapshot
    return best


def values(found, figure, rule, first):
    """The figure of every recorded seed of a row, without diverged runs."""
    return list(by_seed(found, figure, rule, first).values())


def by_seed(found, figure, rule, first, diverged=None):
    """{seed: figure} of a row's records. diverged: the value for a diverged run; None skips it."""
    numbers = {r["seed"]: diverged if "diverged" in r else value(r, figure, rule, first) for r in found}
    return {seed: number for seed, number in numbers.items() if number is not None}


def worst(found, figure, rule, first, sign):
    """The worst figure of any run of the study {row: [record, ...]}: the largest for sign -1, the smallest for 1."""
    numbers = [value(record, figure, rule, first) for of_row in found.values() for record in of_row]
    numbers = [number for number in numbers if number is not None]
    return (min if sign > 0 else max)(numbers, default=None)


def first_metric(study):
    """The study's main figure: its first metric, or without metrics its first statistic."""
    return (study.metrics or study.shown)[0]


def over(record, figure):
    """[(kimg, figure)] of the snapshots, or of the ticks for a statistic."""
    if figure in record["curves"]:
        return list(zip(record["curves"]["kimg"], record["curves"][figure]))
    return [(s["kimg"], s[figure]) for s in record["snapshots"] if figure in s]
