"""One page about runs: curves, grids of images, metrics and options, from the files of their directories.

The page is a single file that needs no network. Unreadable content is skipped and counted at the end of the page.
"""

import functools
import json
import os
import pathlib
import re
import time
from typing import NamedTuple

import jinja2

from dnnlib.util import UserError, atomic_write, format_time
from metrics.registry import better
from training.reporting.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, chart, figure, log_chart, thin
from training.reporting.pictures import group_reals, read_grids, read_nearest
from training.reporting.run_record import read_run

# Title, explanation, and a pattern of the names of the statistics.
SECTIONS = (
    ("Losses", "Means over a tick. G: generator, D: discriminator, reg: what the regularisation adds.",
     r"Loss/(G|D)/|Loss/\w+$"),
    ("Overfitting", "D's mean score, without augmentation, of held-out and training images and samples. The gap is 0 "
     "if held-out images look as real to D as training images, 1 if they look like samples.",
     r"Loss/(scores/(holdout|train|sample)|holdout/gap)"),
    ("Scores", "D's output before the loss, and its mean sign (1: always positive).",
     r"Loss/(scores|signs)/"),
    ("Augmentation", "The probability p of augmentations before D.", r"Progress/augment"),
    ("Strength of the terms", "The norm of a term's gradient up to D's features, over that of the GAN loss alone: "
     "below 0.01 a term is negligible, above 3 it is dominant.", r"Loss/strength/"),
    ("AdaptiveMix", "Distance between the features of a mixed image and the mixture of features.", r"Loss/adamix/"),
    ("SDP", "Differences between paired fakes and reals, and the number of pairs k.", r"Loss/sdp/"),
    ("aw", "Weights of the real and the fake half of D's loss, and their inputs.", r"Loss/aw/"),
    ("LeCam", "Distance of D's scores from their moving averages.", r"Loss/lecam/"),
    ("More terms", "", r"Loss/"),
    ("Time and memory", "Seconds and GiB.", r"Timing/(sec_per_kimg|maintenance_sec)|Resources/"),
    ("Gradients and losses", "Entries of gradients that were not finite and were replaced; the share of microbatches "
     "whose loss was not finite, which were skipped.", r"Progress/bad_(gradients|losses)"),
)  # fmt: skip


class Live(NamedTuple):
    """Additional content of the page while it follows a run; `nonce` marks its script and style."""

    version: str
    nonce: str
    newest: tuple | None  # (data URI, width, height) of the newest samples
    log: list
    timelapse: bool


def write_report(run_dirs, path):
    """Write the page about `run_dirs`, one or more, to `path`, atomically.

    Raises UserError for a directory without statistics, OSError if `path` cannot be written.
    """
    directories = list(dict.fromkeys(pathlib.Path(run_dir).resolve() for run_dir in run_dirs))
    runs = [read_run(directory, label) for directory, label in zip(directories, labels(directories))]
    page = render(runs)
    with atomic_write(path) as file:
        file.write(page.encode("utf-8", "replace"))


def render(runs, live=None):
    """The page as text. With `live` (for one run) it reloads when its server's `/version` changes."""
    x_max = max(run.kimg for run in runs)
    pictures = [read_grids(run, len(runs)) for run in runs]
    return _template().render(
        runs=runs,
        live=live,
        written=time.strftime("%Y-%m-%d %H:%M"),
        metric_charts=metric_charts(runs, x_max),
        metric_rows=metric_rows(runs),
        sections=statistic_sections(runs, x_max),
        pictures=pictures,
        reals=group_reals(runs),
        nearest=[found for index, run in enumerate(runs) if (found := read_nearest(run, index, len(runs)))],
        options=options_table(runs),
        frame={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM},
    )


@functools.cache
def _template():
    source = pathlib.Path(__file__).with_name("report.html.j2")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"figure": figure, "duration": format_time, "json": json.dumps}
    return environment.from_string(source.read_text(encoding="utf-8"))


def labels(directories):
    """A name for each directory: its own, with as many parents as needed to make it unique."""
    names = []
    for directory in directories:
        length = 1
        while any(other != directory and other.parts[-length:] == directory.parts[-length:] for other in directories):
            length += 1
        name = str(pathlib.Path(*directory.parts[-length:]))
        names.append(os.fsencode(name).decode("utf-8", "replace"))
    return names


# ---- Metrics and curves


def best_of(metric, points):
    """The best (kimg, value) of a metric; None for an unknown metric."""
    best = points[0]
    try:
        for point in points[1:]:
            best = point if better(metric, point[1], best[1]) else best
        better(metric, best[1], best[1])
    except UserError:
        return None
    return best


def metric_names(runs):
    return list(dict.fromkeys(name for run in runs for name in run.metrics))


def best_result(name, metric, points):
    """Like `best_of`; None for a standard deviation, which has no best value."""
    return None if name.endswith("_std") else best_of(metric, points)


def metric_charts(runs, x_max):
    """A chart for each result, with the best value of each run marked."""
    charts = []
    for name in metric_names(runs):
        curves = []
        for index, run in enumerate(runs):
            if name in run.metrics:
                metric, points = run.metrics[name]
                best = best_result(name, metric, points)
                curves.append({"run": index, "points": points, "best": best, "kind": ""})
        draw = log_chart if is_distance(runs, name) else chart
        charts.append(draw(name, curves, x_max))
    return charts


def is_distance(runs, name):
    """Whether smaller values are better, so that a logarithmic scale fits."""
    metric = next(run.metrics[name][0] for run in runs if name in run.metrics)
    return best_result(name, metric, [(0, 1), (0, 2)]) == (0, 1)


def metric_rows(runs):
    """(result's name, rows (run's index, last point, best point, whether it is the best of all runs))."""
    table = []
    for name in metric_names(runs):
        rows, bests = [], {}
        for index, run in enumerate(runs):
            if name in run.metrics:
                metric, points = run.metrics[name]
                bests[index] = best_result(name, metric, points)
                rows.append((index, points[-1], bests[index]))
        winner = best_of(metric, list(bests.values())) if len(rows) > 1 and all(bests.values()) else None
        table.append((name, [(*row, winner is not None and row[2][1] == winner[1]) for row in rows]))
    return table


def statistic_sections(runs, x_max):
    """[(title, explanation, charts)] for the statistics in `SECTIONS`."""
    names = sorted({name for run in runs for name in run.statistics})
    for bad in ("Progress/bad_gradients", "Progress/bad_losses"):
        if not any(value for run in runs for _, value in run.statistics.get(bad, [])):
            names = [name for name in names if name != bad]
    sections = []
    for title, explanation, pattern in SECTIONS:
        here = [name for name in names if re.match(pattern, name)]
        names = [name for name in names if name not in here]
        charts = [statistic_chart(runs, stem, kinds, x_max) for stem, kinds in pairs(here).items()]
        if charts:
            sections.append((title, explanation, charts))
    return sections


def pairs(names):
    """Chart's title -> names of its curves: a single statistic, or one of real and of generated images."""
    charts = {}
    for name in names:
        stem, _, kind = name.rpartition("/")
        both = kind in ("real", "fake") and {f"{stem}/real", f"{stem}/fake"} <= set(names)
        charts.setdefault(stem if both else name, []).append(name)
    return charts


def statistic_chart(runs, title, names, x_max):
    curves = []
    for index, run in enumerate(runs):
        for name in reversed(names):  # real before fake
            if name in run.statistics:
                kind = name.rpartition("/")[2] if len(names) > 1 else ""
                curves.append({"run": index, "points": thin(run.statistics[name]), "best": None, "kind": kind})
    return chart(title, curves, x_max, "solid: real, dashed: fake" if len(names) > 1 else "")


# ---- Options


def options_table(runs):
    """[(name, values of all runs, whether they differ)], the values that differ first."""
    names = dict.fromkeys(name for run in runs for name in run.options)
    rows = [(name, [run.options.get(name, "–") for run in runs]) for name in names]
    rows = [(name, values, len(set(values)) > 1) for name, values in rows]
    return sorted(rows, key=lambda row: not row[2])
