"""One page about runs: curves, grids of images, metrics and options, from the files of their directories.

The page is a single file that needs no network. Unreadable content is skipped and counted at the end of the page.
"""

import base64
import functools
import io
import json
import os
import pathlib
import re
import statistics
import time
from typing import NamedTuple

import jinja2
import PIL.Image

from dnnlib.util import UserError, atomic_write, format_time, parse_json
from metrics.registry import better
from training.data.labels import numbered
from training.old_options import grouped
from training.reporting.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, chart, figure, log_chart, thin
from training.run_dir import require_own_files

GRIDS_PER_RUN = 16
IMAGE_BYTES = 9_000_000  # for all grids together; as base64 they are a third larger
HUGE, TINY = 1e100, 1e-100  # numbers outside are not drawn: their squares or differences would overflow
GRID_SIDES = (1024, 768, 512, 384, 256, 128)  # a grid takes the largest that fits its share

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


class RunRecord(NamedTuple):
    """The page's data of a run. Points are (kimg, value), in order of kimg."""

    label: str
    options: dict  # flat, "loss.adamix.weight" -> value
    statistics: dict  # name -> points
    metrics: dict  # result's name -> (metric's name, points)
    seconds: float
    images_per_second: float | None
    warnings: list  # (kimg, message)
    notes: list  # about unreadable files
    directory: pathlib.Path

    @property
    def kimg(self):
        measured = [points for _, points in self.metrics.values()]
        return max((points[-1][0] for points in [*self.statistics.values(), *measured]), default=0)

    @property
    def length(self):
        """The planned kimg of the run, as text; None if unknown."""
        return self.options.get("run.kimg") or self.options.get("kimg")  # earlier versions wrote flat options


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


# ---------------------------------------------------------------------- reading


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


def read_run(directory, label):
    """The `RunRecord` of a directory. Raises UserError if it holds no statistics, or links and pipes."""
    run = read_record(directory, label)
    if not run.statistics:
        reason = "; ".join(run.notes) or "no stats.jsonl, or an empty one"
        raise UserError(f"{directory} holds no statistics ({reason}): give the directory of a run that has trained")
    return run


def read_record(directory, label):
    """The `RunRecord` of a directory, even if no tick has ended yet."""
    require_own_files(directory)
    notes = []
    records = read_lines(directory / "stats.jsonl", statistics_line, notes)
    speeds = [record["Timing/sec_per_kimg"] for record in records if record.get("Timing/sec_per_kimg", 0) > 0]
    return RunRecord(
        label=label,
        options=read_options(directory / "training_options.json", notes),
        statistics=curves_of(records),
        metrics=read_metrics(directory, notes),
        seconds=total_seconds(records),
        images_per_second=1000 / statistics.median(speeds) if speeds else None,
        warnings=read_lines(directory / "warnings.jsonl", warning_line, notes),
        notes=notes,
        directory=directory,
    )


def read_lines(path, parse, notes):
    """The results of `parse` for each JSON object in a file. Invalid lines are counted in `notes`."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        notes.append(f"{path.name} cannot be read ({error.strerror})")
        return []
    parsed, damaged = [], 0
    for line in filter(str.strip, lines):
        try:
            parsed.append(parse(parse_json(line)))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            damaged += 1
    if damaged:
        notes.append(f"{path.name}: {damaged} damaged {'line' if damaged == 1 else 'lines'} left out")
    return parsed


def statistics_line(record):
    """Name -> mean, of a line of stats.jsonl."""
    means = {name: float(entry["mean"]) for name, entry in record.items() if isinstance(entry, dict)}
    if not 0 <= means["Progress/kimg"] < 1e9:
        raise ValueError("no kimg")
    return usable(means)


def warning_line(record):
    """(kimg, text) of a line of warnings.jsonl."""
    return usable({"kimg": float(record["kimg"])})["kimg"], str(record["warning"])


def usable(numbers):
    """The numbers that can be drawn: not NaN or infinity, nor the huge ones of a diverging run.

    Tiny numbers count as 0.
    """
    return {name: value if abs(value) > TINY else 0.0 for name, value in numbers.items() if abs(value) < HUGE}


def metric_line(record):
    """(metric, kimg of the snapshot, results, whether D uses the same features) of a line of a metric file."""
    results = {name: float(value) for name, value in record["results"].items()}
    kimg = kimg_of(pathlib.Path(record["snapshot"]))
    return str(record["metric"]), kimg, usable(results), record.get("flattered") is True


def kimg_of(path):
    """The kimg at the end of a file's name; 0 for one from before training. Raises ValueError for other names."""
    if path.stem.endswith("init"):
        return 0
    return int(re.search(r"[0-9]{0,9}$", path.stem)[0])


def curves_of(records):
    """Records at a kimg -> points by name. If a kimg occurs twice, as in a resumed run, the last counts."""
    by_name = {}
    for record in records:
        for name, mean in record.items():
            by_name.setdefault(name, {})[record["Progress/kimg"]] = mean
    return {name: sorted(points.items()) for name, points in by_name.items()}


def read_metrics(directory, notes):
    """Result's name -> (metric's name, points). If a snapshot was measured twice, the last value counts."""
    found = {}
    for path in sorted(directory.glob("metric-*.jsonl")):
        for metric, kimg, results, flattered in read_lines(path, metric_line, notes):
            remark = f"{metric} uses the same features as D, so its value is too good"
            if flattered and remark not in notes:
                notes.append(remark)
            for name, value in results.items():
                found.setdefault(name, (metric, {}))[1][kimg] = value
    return {name: (metric, sorted(points.items())) for name, (metric, points) in found.items()}


def metrics_at(run_dir, kimg):
    """{result's name: value} of the snapshot of a run at `kimg`."""
    results = {name: dict(points) for name, (_, points) in read_metrics(run_dir, notes=[]).items()}
    return {name: points[int(kimg)] for name, points in results.items() if int(kimg) in points}


def total_seconds(records):
    """Training time over all starts of a run; its clock restarts at each resume."""
    total = last = 0
    for now in (record.get("Timing/total_sec", 0) for record in records):
        total += last if now < last else 0
        last = now
    return total + last


def read_options(path, notes):
    """training_options.json as one flat dictionary."""
    try:
        return dict(dotted(grouped(parse_json(path.read_text(encoding="utf-8", errors="replace")))))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        notes.append(f"{path.name} cannot be read ({type(error).__name__})")
        return {}


def dotted(value, name=""):
    """Pairs (dotted name, text) of nested dictionaries, without the fingerprints of data sets."""
    if name.endswith("fingerprints"):
        return
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from dotted(inner, f"{name}.{key}" if name else key)
    elif name.endswith("class_names") and isinstance(value, list):
        yield name, numbered(value) or "none"
    else:
        value = int(value) if isinstance(value, float) and value.is_integer() else value
        special = {"{}": "defaults", "null": "none"}
        text = value if isinstance(value, str) else json.dumps(value)
        yield name or "options", special.get(text, text)


# ---------------------------------------------------------------------- metrics and curves


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


# ---------------------------------------------------------------------- grids


def read_grids(run, num_runs):
    """[(kimg, picture)] of a run's grids of generated images, at most `GRIDS_PER_RUN`, evenly spaced."""
    found = {}
    for path in run.directory.glob("fakes*.png"):
        try:
            found[kimg_of(path)] = path
        except ValueError:
            continue  # not one of the run's pictures
    chosen = evenly(sorted(found.items()), grids_per_run(num_runs))
    pictures = [(kimg, encode(path, budget(num_runs), run.notes)) for kimg, path in chosen]
    return [(kimg, picture) for kimg, picture in pictures if picture]


def grids_per_run(num_runs):
    """Fewer grids per run with many runs, so that grids do not become too small."""
    return max(2, min(GRIDS_PER_RUN, 160 // num_runs))


def budget(num_runs):
    """Bytes per grid: an equal share for all runs' grids and one grid of reals per run."""
    return IMAGE_BYTES // (num_runs * (grids_per_run(num_runs) + 1))


def evenly(items, count):
    """At most `count` evenly spaced items, including the first and the last."""
    if len(items) <= count:
        return items
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]


def group_reals(runs):
    """[(picture, indices of runs)]: runs on the same data share a picture."""
    groups = {}
    for index, run in enumerate(runs):
        path = run.directory / "reals.png"
        picture = encode(path, budget(len(runs)), run.notes) if path.exists() else None
        if picture:
            groups.setdefault(picture, []).append(index)
    return list(groups.items())


def read_nearest(run, index, num_runs):
    """The picture of samples above their nearest training images, with its figures; None if a run has none."""
    path = run.directory / "nearest.png"
    if not path.exists():
        return None
    try:
        about = parse_json((run.directory / "nearest.json").read_text(encoding="utf-8"))
        numbers = usable({name: float(about[name]) for name in ("kimg", "samples", "reference", "count")})
        shown = [float(distance) for distance in about["shown"]]
        if len(numbers) < 4 or len(usable(dict(enumerate(shown)))) < len(shown):
            raise ValueError("a distance that is not finite")
        names = {"of": str(about["of"]), "features": str(about.get("features", "efficientnet-lite0"))}
        found = {**numbers, **names, "shown": shown}
    except (OSError, ValueError, KeyError, TypeError) as error:
        run.notes.append(f"nearest.json cannot be read ({type(error).__name__})")
        return None
    picture = encode(path, budget(num_runs), run.notes)
    return picture and {"run": index, "picture": picture, **found}


def encode(path, max_bytes, notes):
    """(data URI, width, height) of a picture, reduced to `max_bytes`; None if it cannot be read."""
    try:
        about = path.stat()
        return _encoded(path, about.st_mtime_ns, about.st_size, max_bytes)
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        notes.append(f"{path.name} cannot be read ({type(error).__name__})")
        return None


@functools.lru_cache(maxsize=GRIDS_PER_RUN + 4)
def _encoded(path, modified, size, max_bytes):
    """Like `encode`, cached per version of a file, because a page that follows a run shows most pictures again."""
    with PIL.Image.open(path) as image:
        image = image.convert("RGB")
    for side in GRID_SIDES:
        image.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, format="webp", quality=82)
        if buffer.tell() <= max_bytes:
            break
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode(), *image.size


# ---------------------------------------------------------------------- options


def options_table(runs):
    """[(name, values of all runs, whether they differ)], the values that differ first."""
    names = dict.fromkeys(name for run in runs for name in run.options)
    rows = [(name, [run.options.get(name, "–") for run in runs]) for name in names]
    rows = [(name, values, len(set(values)) > 1) for name, values in rows]
    return sorted(rows, key=lambda row: not row[2])
