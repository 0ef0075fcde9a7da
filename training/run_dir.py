"""Run directories: create them, find them, and cut back their files when a run is resumed."""

import contextlib
import copy
import dataclasses
import errno
import fnmatch
import json
import os
import pathlib
import re

from dnnlib.util import UserError, atomic_write, parse_json, printable
from training.old_options import grouped
from training.options import from_values, set_by_length
from training.run_data import FLAGS, same_content
from training.run_lock import NAME as LOCK
from training.run_lock import is_locked
from training.state import NAME, has_state, load_state

OPTIONS = "training_options.json"
CHANGEABLE = (
    "kimg",
    "snap",
    "metrics",
    "detector",
    "workers",
    "device",
    "gpus",
    "batch_gpu",
    "threads",
    "state_minutes",
    "keep_snapshots",
    "wandb",
    "quiet",
)  # when a run is resumed

DECAY_END = "networks.decay_end_kimg"

# Files that a resumed run reads or writes.
REWRITTEN = (
    OPTIONS,
    LOCK,
    "training-state*",
    "log.txt",
    "*.jsonl",
    "*.png",
    "best.json",
    "nearest.json",
    "report.html",
    "timelapse*",
)


def require_writable(directory):
    """Raise UserError unless `directory` is writable, or can be created in its nearest existing parent."""
    path = pathlib.Path(directory).absolute()
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{path} is not UTF-8, which TensorBoard needs: give another --outdir") from None
    while not path.exists():
        path = path.parent
    if not path.is_dir() or not os.access(path, os.W_OK):
        raise UserError(f"{path} is not writable: give another --outdir")


def new_run_dir(outdir, name):
    """Create `outdir/NNNNN-name` with the next free number; concurrent runs get different numbers."""
    outdir = pathlib.Path(outdir)
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        number = max(_numbers(outdir), default=-1) + 1
        while True:
            with contextlib.suppress(FileExistsError), _reserved(outdir / f".{number:05d}"):
                if number not in _numbers(outdir):
                    run_dir = outdir / f"{number:05d}-{name}"
                    run_dir.mkdir()
                    return run_dir
            number += 1
    except OSError as error:
        advice = "a shorter --outdir" if error.errno == errno.ENAMETOOLONG else "a writable --outdir"
        raise UserError(f"cannot create a run in {outdir} ({error.strerror}): give {advice}") from None


@contextlib.contextmanager
def _reserved(directory):
    """A temporary directory as a lock: only one process can create it. FileExistsError for the others."""
    directory.mkdir()
    try:
        yield
    finally:
        directory.rmdir()


def _numbers(outdir):
    """The numbers of all run directories."""
    return {number for d in outdir.iterdir() if (number := _number(d)) is not None}


def latest_run(outdir):
    """The newest run directory under `outdir` that holds a training state."""
    run = next(run_dirs(outdir), None)
    if run is None:
        raise UserError(f"{outdir} holds no run with a {NAME}: start one without --resume, or give the run's directory")
    return run


def unfinished_run(outdir, options, kimg=None):
    """The newest run under `outdir` that was made with `options`, or None if it has reached `kimg` (None: its own).

    Options that may change when a run is resumed may differ, and the same images may be at another path. A run that is
    being trained is unfinished, with or without a state.
    """
    for run_dir in run_dirs(outdir, lambda run_dir: has_state(run_dir) or is_locked(run_dir)):
        with contextlib.suppress(UserError):  # an unreadable run cannot be resumed
            begun = read_options(run_dir)
            moved = {name for name in FLAGS if same_content(begun, options, name)}
            by_length = dict(begun.run.by_length)
            if DECAY_END not in options.run.by_length:  # --decay-kimg was given
                by_length.pop(DECAY_END, None)
            if _settled(begun, by_length, moved) == _settled(options, by_length, moved):
                if is_locked(run_dir):
                    return run_dir
                shown = load_state(run_dir, warn=lambda text: None)["counters"]["cur_nimg"]
                length = kimg or begun.run.kimg
                return run_dir if length is None or shown < length * 1000 else None
    return None


def _settled(options, by_length, moved):
    """The options that cannot change when a run is resumed, except durations that follow from its length and paths of
    data sets with the same content (`moved`)."""
    changing = dict.fromkeys((*CHANGEABLE, "graphs", "name", "resume", "launch", "program"))
    fixed = copy.deepcopy(options)
    fixed.run = dataclasses.replace(fixed.run, **changing, by_length=by_length)
    set_by_length(fixed, None)
    fixed.data.fingerprints = None
    fixed.networks.D.pop("weights", None)  # the SHA-256 tells whether they are the same
    for field in FLAGS:
        ignored = ("class_names", "rules", *(["path"] if field in moved else []))  # a resumed run keeps its own
        arguments = getattr(fixed.data, field)
        setattr(fixed.data, field, arguments and {k: v for k, v in arguments.items() if k not in ignored})
    # A term that an earlier version lacks is the same as a term that is off.
    fixed.loss.terms = {name: value for name, value in fixed.loss.terms.items() if value is not None}
    return json.loads(json.dumps(dataclasses.asdict(fixed)))


def run_dirs(outdir, wanted=has_state):
    """Run directories for which `wanted` is true (default: they have a state), newest first."""
    runs = [d for d in pathlib.Path(outdir).glob("[0-9]*-*") if _number(d) is not None and d.is_dir() and wanted(d)]
    return iter(sorted(runs, key=lambda d: (_number(d), d.name), reverse=True))


def snapshots(run_dir):
    """[(kimg, path)] of the snapshots in a run directory, the oldest first."""
    named = [(re.fullmatch(r"network-snapshot-(\d+)\.safetensors", path.name), path) for path in run_dir.iterdir()]
    return sorted((int(match[1]), path) for match, path in named if match and path.is_file())


def _number(directory):
    """The number of a run directory; None for other directories, such as a renamed copy of a run."""
    number, dash, _ = directory.name.partition("-")
    return int(number) if dash and number.isdecimal() else None


def read_options(run_dir):
    """`RunOptions` of a run."""
    require_own_files(run_dir)
    return options_in(pathlib.Path(run_dir, OPTIONS))


def options_in(path):
    """`RunOptions` in a file, a run's training_options.json or a copy of one."""
    try:
        return from_values(grouped(parse_json(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} cannot be read ({printable(error)}): is it the options of a run?") from None


def require_own_files(run_dir):
    """Raise UserError if a run directory holds a pipe, a socket or a device, on which reading could block forever, or a
    link under a name that a resumed run reads or writes: it could lead to any file."""
    with contextlib.suppress(OSError):  # if it cannot be listed, its options cannot be read either
        for path in sorted(pathlib.Path(run_dir).iterdir()):
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise UserError(f"{path} is a pipe, a socket or a device: remove it")
            if path.is_symlink() and any(fnmatch.fnmatch(path.name, name) for name in REWRITTEN):
                raise UserError(f"{path} is a link, and links are not followed there: delete it")


def program_remark(before, now):
    """A line if a run of the program `before` is resumed by another version, `now`; otherwise None."""
    if before == now:
        return None
    earlier = before and printable(before, 80) or "an earlier version, which stored no version"
    return f"last trained by {earlier}; from now on by {now}: results may differ from those of a single version"


def write_json(path, value):
    """Write `value` as JSON, atomically."""
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=2)


def read_json(path):
    """The dictionary in a JSON file; an empty one if it is missing or invalid."""
    try:
        content = parse_json(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def cut_back(run_dir, kimg):
    """Drop the lines of statistics, warnings and metrics after `kimg`: the run will write them again."""
    run_dir = pathlib.Path(run_dir)
    for path in [run_dir / "stats.jsonl", run_dir / "warnings.jsonl", *run_dir.glob("metric-*.jsonl")]:
        if not path.exists():
            continue
        lines = path.read_text(errors="replace").splitlines()
        lines = [line for line in lines if (at := _line_kimg(line)) is not None and at <= kimg]
        with atomic_write(path, "w") as file:
            file.write("".join(line + "\n" for line in lines))


def _line_kimg(line):
    """The kimg in a line of a run's files; None for a damaged line.

    Figures of another file than a run's snapshot, such as an exported G, count as 0: nothing would measure it again.
    """
    try:
        record = parse_json(line)
        if "Progress/kimg" in record:
            return float(record["Progress/kimg"]["mean"])
        if "warning" in record:
            return float(record["kimg"])
        number = re.fullmatch(r"network-snapshot-(\d+)", pathlib.Path(record["snapshot"]).stem)
        return int(number[1]) if number else 0
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
