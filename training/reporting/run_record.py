"""What the files of a run's directory say, as the data of its report. Unreadable content is skipped and noted."""

import json
import pathlib
import re
import statistics
from typing import NamedTuple

from dnnlib.util import UserError, parse_json
from training.data.labels import numbered
from training.old_options import grouped
from training.run_dir import require_own_files

HUGE, TINY = 1e100, 1e-100  # numbers outside are not drawn: their squares or differences would overflow


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


# ---- Options


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
