"""Values of a figure in records: a metric of the snapshots, or a statistic of the run (study.Claim names them)."""

import functools
import statistics

from metrics.registry import better


def value(record, figure):
    """A figure of one run (study.Claim); None if it was not measured."""
    if " - " in figure:
        a, b = (value(record, part) for part in figure.split(" - "))
        return None if a is None or b is None else a - b
    kind, _, name = figure.rpartition(":")
    if name in record["curves"]:
        entries = [entry for entry in record["curves"][name] if entry is not None]
        return statistics.fmean(entries) if entries else None
    snapshots = [snapshot for snapshot in record["snapshots"] if name in snapshot]
    if not snapshots:
        return None
    if kind == "best":
        return functools.reduce(lambda a, b: b if better(name, b, a) else a, (snapshot[name] for snapshot in snapshots))
    last = snapshots[-1]
    if kind == "rise":
        return last[name] - min(snapshots, key=lambda snapshot: abs(snapshot["kimg"] - last["kimg"] / 2))[name]
    return last[name]


def values(found, figure):
    """The figure of every recorded seed of a row, without diverged runs."""
    return list(by_seed(found, figure).values())


def by_seed(found, figure, diverged=None):
    """{seed: figure} of a row's records. diverged: the value for a diverged run; None skips it."""
    numbers = {r["seed"]: diverged if "diverged" in r else value(r, figure) for r in found}
    return {seed: number for seed, number in numbers.items() if number is not None}


def worst(found, figure, sign):
    """The worst figure of any run of {row: [record, ...]}: the largest for sign -1, the smallest for 1."""
    numbers = [value(record, figure) for of_row in found.values() for record in of_row]
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
