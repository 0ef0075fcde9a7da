"""A study's picture: curves over kimg where its rows are few, else what each row ended with."""

import statistics

from experiments import page, verdicts
from experiments.values import first_metric, over_kimg, values

FEW = 5  # rows whose curves can be told apart
SCORES = (("real", "-"), ("holdout", ":"), ("fake", "--"))  # of D, and their lines


def draw(path, study, found):
    """Write the picture of a study from {row: [record, ...]}. Returns False where there is nothing to draw."""
    if study.by_hand or study.metrics is None or not found:
        return False
    from matplotlib.figure import Figure

    rows = [row for row in study.rows if row in found]
    if len(study.rows) <= FEW:
        picture = Figure(figsize=(9, 3.6), layout="constrained")
        draw_curves(*picture.subplots(1, 2), study, found, rows)
        picture.legend(loc="outside right upper", fontsize=6)
    else:
        picture = Figure(figsize=(9, 1.1 + 0.21 * len(rows)), layout="constrained")
        draw_ends(picture.subplots(), study, found, rows)
    page.save_figure(path, picture)
    return True


def draw_curves(left, right, study, found, rows):
    """Over kimg: the first metric, and D's scores of real, generated and held-out images."""
    for i, row in enumerate(rows):
        for j, record in enumerate(found[row]):
            style = {"color": f"C{i}", "linewidth": 1}
            if points := over_kimg(record, first_metric(study)):
                left.plot(*zip(*points), ".-", label=None if j else study.rows[row].label, **style)
            for name, line in SCORES:
                if points := over_kimg(record, f"Loss/scores/{name}"):
                    right.plot(*zip(*points), line, **style)
    left.set(xlabel="kimg", ylabel=first_metric(study))
    right.set(xlabel="kimg", ylabel="D: real —, held out ···, generated - -")


def draw_ends(axes, study, found, rows):
    """The first metric at the end: a dot a seed, a bar at their mean, and the 95% interval of the baseline's mean."""
    first = first_metric(study)
    ends = {row: values(found[row], first, study.rule, first) for row in rows}
    if baseline := verdicts.compare(dict(enumerate(ends.get(study.baseline, []))), 0.0):
        axes.axvspan(*baseline.interval(), color="0.9", label=f"mean of {study.rows[study.baseline].label}, 95%")
        axes.legend(loc="upper right", fontsize=7)
    for height, numbers in enumerate(ends.values()):
        axes.plot(numbers, [height] * len(numbers), "o", color="C0", markersize=4)
        if numbers:
            axes.plot(statistics.fmean(numbers), height, "|", color="black", markersize=9)
    names = [f"{study.rows[row].label} ({len(numbers)})" for row, numbers in ends.items()]
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", color="0.85", linewidth=0.5)
    axes.set_xlabel(f"{first}, {study.rule} snapshot; in brackets the number of seeds")
