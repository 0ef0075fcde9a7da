"""A study's picture: curves over kimg if it has few rows, otherwise the final value of each row."""

import statistics

from experiments import page, verdicts
from experiments.values import first_metric, over, values

FEW = 5  # with more rows, curves are not distinguishable
SCORES = (("real", "-"), ("holdout", ":"), ("fake", "--"))  # of D, and their line styles


def draw(path, study, found):
    """Write the picture of a study from {row: [record, ...]}. Returns False if there is nothing to draw."""
    if study.by_hand or study.metrics is None or not found:
        return False
    from matplotlib.figure import Figure

    rows = [row for row in study.rows if row in found]
    if study.minutes:
        picture = draw_over_minutes(study, found, rows)
    elif len(study.rows) <= FEW:
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
            if points := over(record, first_metric(study)):
                left.plot(*zip(*points), ".-", label=None if j else study.rows[row].label, **style)
            for name, line in SCORES:
                if points := over(record, f"Loss/scores/{name}"):
                    right.plot(*zip(*points), line, **style)
    left.set(xlabel="kimg", ylabel=first_metric(study))
    right.set(xlabel="kimg", ylabel="D: real —, held out ···, generated - -")


def groups(study, rows):
    """{baseline row: indices in `rows` of it and of the rows compared with it}."""
    found = {}
    for i, row in enumerate(rows):
        found.setdefault(study.beside(row) or row, []).append(i)
    return found


def draw_over_minutes(study, found, rows):
    """The first metric over the study's minutes: a panel per baseline row, a line per seed."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    panels = groups(study, rows)
    names = dict.fromkeys(row.label.rpartition(": ")[2] for row in study.rows.values())
    colours = {name: f"C{i}" for i, name in enumerate(names)}  # the same in all panels
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    picture = Figure(figsize=(5 * columns, 3.2 * lines), layout="constrained")
    places = list(picture.subplots(lines, columns, squeeze=False).flat)
    for unused in places[len(panels) :]:
        unused.remove()
    for axes, numbers in zip(places, panels.values()):
        for row in (rows[number] for number in numbers):
            title, _, name = study.rows[row].label.rpartition(": ")
            for j, record in enumerate(found[row]):
                if points := over(record, first_metric(study)):
                    kimg, figures = zip(*points)
                    minutes = [study.minutes * shown / kimg[-1] for shown in kimg]
                    axes.plot(minutes, figures, ".-", color=colours[name], linewidth=1, label=None if j else name)
        axes.set(title=title, xlabel="planned minutes of one thread", ylabel=first_metric(study), yscale="log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")  # not powers of ten
        axes.minorticks_off()
        axes.legend(fontsize=7)
    return picture


def draw_ends(axes, study, found, rows):
    """The first metric at the end: a dot per seed, a bar at their mean, and for each baseline row the 95% interval of
    its mean, drawn across it and the rows compared with it."""
    from matplotlib.patches import Rectangle

    first = first_metric(study)
    ends = {row: values(found[row], first) for row in rows}
    for base, heights in groups(study, rows).items():
        if mean := verdicts.compare(dict(enumerate(ends.get(base, []))), 0.0):
            low, high = mean.interval()
            band = Rectangle((low, min(heights) - 0.5), high - low, max(heights) - min(heights) + 1, color="0.9")
            axes.add_patch(band).set_label(f"mean of {study.rows[base].label}, 95%")
    if axes.patches:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=7)  # above, where it hides no dot
    for height, numbers in enumerate(ends.values()):
        axes.plot(numbers, [height] * len(numbers), "o", color="C0", markersize=4)
        if numbers:
            axes.plot(statistics.fmean(numbers), height, "|", color="black", markersize=9)
    names = [f"{study.rows[row].label} ({len(numbers)})" for row, numbers in ends.items()]
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", color="0.85", linewidth=0.5)
    axes.set_xlabel(f"{first}, last snapshot; in brackets the number of seeds")
