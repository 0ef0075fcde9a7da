"""The record of a run: one JSON file, built from the files in the run's directory, and written atomically.

settings, command, seed, kimg   what was run
starts                          when, from which commit, on which machine and device, with which versions
snapshots                       [{"kimg": ..., "cpu_minutes": of training until then, metric: value, ...}, ...]
measured_with                   metric: detector, and how many real and generated images
curves                          {"kimg": [...], "Loss/scores/real": [...], ...}, one entry per tick
seconds, metric_seconds         of training and of measuring, pauses not counted
diverged                        the trainer's message, if the run diverged
note                            added by hand, if the command differs from the settings
"""

import functools
import json
import pathlib
import platform
import re

from dnnlib.devices import cpu_cores
from dnnlib.util import UserError, atomic_write, parse_json, printable
from dnnlib.version import commit
from metrics.registry import parse_metric, renamed

ROOT = pathlib.Path(__file__).resolve().parent.parent
CURVES = ("Loss/", "Progress/augment", "Progress/bad")  # kept of stats.jsonl
CPU_RATE = "Timing/cpu_sec_per_kimg"


def path(results, study, row, seed):
    return pathlib.Path(results, study, f"{row}-seed{seed}.json")


def write(file, record):
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file, "w") as out:
        # Settings are compared with those of the study, so they keep all digits.
        json.dump({**_rounded(record), "settings": record["settings"]}, out, indent=1, ensure_ascii=False)
        out.write("\n")


def read(file):
    """The record in `file`. Raises UserError if it is not a record."""
    return _read(file, file.stat().st_mtime_ns)


@functools.cache
def _read(file, changed):
    try:
        record = parse_json(file.read_text(encoding="utf-8"))
        if not isinstance(record["snapshots"], list) or not isinstance(record["curves"], dict):
            raise TypeError("snapshots and curves are missing")
        for part in ("settings", "measured_with"):
            if not isinstance(record[part], dict):
                raise TypeError(f"{part} is no object")
        return record | {"row": record["row"], "seed": int(record["seed"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is not a record of a run ({printable(error)}): delete it, and the run is repeated"
        ) from None


def read_study(results, name, study):
    """{row: [record, ...]} in the order of the seeds: own runs, and runs of other studies with the same settings.

    Of these, only runs with the study's seeds count: pilots have other seeds and are not used.
    """
    wanted = range(study.first_seed, study.first_seed + study.seeds)
    found = {}
    for file in sorted(pathlib.Path(results, name).glob("*-seed*.json")):
        record = read(file)
        found.setdefault(record["row"], {})[record["seed"]] = record
    for row in study.rows:
        for record in (record for record in same_runs(results, study, row) if record["seed"] in wanted):
            found.setdefault(row, {}).setdefault(record["seed"], record)
    return {row: [of_row[seed] for seed in sorted(of_row)] for row, of_row in found.items() if of_row}


def same_runs(results, study, row, seed="*"):
    """Records of runs of any study with the trainer and the settings of a row, those with most metrics first."""
    wanted = study.settings(row)
    found = [read(file) for file in sorted(pathlib.Path(results).glob(f"*/*-seed{seed}.json"))]
    same = [r for r in found if r["settings"] == wanted and r.get("command", "").split()[1:2] == [study.trainer]]
    return sorted(same, key=lambda record: -len(record["measured_with"]))


def start(device="cpu"):
    """A record's entry about a start on a device: commit, machine and versions."""
    return {"commit": commit(), "machine": machine(device), "versions": versions()}


@functools.cache
def machine(device="cpu"):
    """The CPU, torch's instruction set on it, the number of cores for this process, and the GPU if any."""
    import torch

    from torch_utils import precision

    model = platform.processor() or platform.machine()
    if pathlib.Path("/proc/cpuinfo").exists():
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    gpu = {"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}
    instructions = torch.backends.cpu.get_cpu_capability() + (", AMX" if precision.has_amx() else "")
    return {"cpu": model, "instructions": instructions, "cores": cpu_cores(), **gpu}


@functools.cache
def versions():
    import torch

    return {"python": platform.python_version(), "torch": torch.__version__}


def lines(file):
    """The JSON objects of a .jsonl file; damaged lines, which a kill may leave, are skipped."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            found.append(parse_json(line))
        except ValueError:
            continue
    return [entry for entry in found if isinstance(entry, dict)]


def statistics(run_dir):
    """The lines of a run's stats.jsonl, one per tick."""
    return [line for line in lines(run_dir / "stats.jsonl") if "Progress/kimg" in line]


def snapshot_kimg(name):
    """The kimg in a snapshot's name."""
    return int(pathlib.Path(name).stem.rsplit("-", 1)[1])


def figures(run_dir):
    """{(kimg, metric): line} of the run's metric files. Other networks in its directory may have been measured, too."""
    found = {}
    for file in sorted(run_dir.glob("metric-*.jsonl")):
        for line in lines(file):
            if re.fullmatch(r"network-snapshot-\d+\.safetensors", str(line["snapshot"])):
                found[snapshot_kimg(line["snapshot"]), line["metric"]] = line
    return found


def aliases(metric):
    """The possible names of a metric: without Inception, metrics are computed on other features."""
    return (metric, renamed(metric, "effnet")) if parse_metric(metric).features == "inception" else (metric,)


def build(run_dir):
    """The contents of a run's files: snapshots, measured_with, curves, kimg and seconds."""
    measured, ticks = figures(run_dir), statistics(run_dir)
    snapshots = {}
    for (kimg, _), line in sorted(measured.items()):
        snapshots.setdefault(kimg, {"kimg": kimg, **cpu_minutes(ticks, kimg)}).update(line["results"])
    fields = ("detector", "num_real", "num_fake")
    curve_names = sorted({name for line in ticks for name in line if name.startswith(CURVES)})
    curves = {name: [line.get(name, {}).get("mean") for line in ticks] for name in ["Progress/kimg", *curve_names]}
    return {
        "kimg": ticks[-1]["Progress/kimg"]["mean"] if ticks else 0,
        "seconds": round(sum(line["Timing/sec_per_tick"]["mean"] for line in ticks)),
        "metric_seconds": round(sum(line.get("total_time", 0) for line in measured.values())),
        "measured_with": {metric: {key: line.get(key) for key in fields} for (_, metric), line in measured.items()},
        "snapshots": list(snapshots.values()),
        "curves": {"kimg": curves.pop("Progress/kimg"), **curves},
    }


def cpu_minutes(ticks, kimg):
    """{"cpu_minutes": CPU time of all threads until the snapshot of `kimg`}; {} if it was not measured.

    Each tick's rate is multiplied by its images, so work that is repeated after a kill does not count twice.
    """
    shown, seconds = 0.0, 0.0
    for line in ticks:
        if CPU_RATE not in line:
            return {}
        now = line["Progress/kimg"]["mean"]
        seconds, shown = seconds + (now - shown) * line[CPU_RATE]["mean"], now
        if int(now) >= kimg:  # a snapshot's name has whole kimg
            break
    return {"cpu_minutes": seconds / 60}


def _rounded(value):
    """Round to six digits, more than any value here can be precise to."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, list) else value
