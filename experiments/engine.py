"""Run a study: queue its runs, one thread each, several at once, and record each when it ends.

A run is the trainer itself in a directory of its own, `WORK/STUDY/ROW-seedN/`. What to do next with it follows from the
files there alone (`next_command`), so the engine keeps no state: after a kill of the engine, of a run or of both, the
same call continues where they were.
"""

import collections
import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import time

from dnnlib.devices import cpu_cores
from dnnlib.util import UserError, atomic_write, format_time, say
from experiments import records
from experiments.study import Study, shell_line
from torch_utils.stop import Stopped, StopRequest
from training.run_lock import locked

try:
    import fcntl
except ImportError:  # Windows: runs that a killed engine left behind are not noticed
    fcntl = None

ROOT = records.ROOT
ATTEMPTS = 5  # starts of a run within one call, if it is killed each time


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """One row with one seed."""

    name: str  # of the study
    study: Study
    row: str
    seed: int
    work: pathlib.Path
    results: pathlib.Path
    device: str = "cpu"  # not a setting, because it changes only the last bits

    @property
    def title(self):
        return f"{self.row}-seed{self.seed}"

    @property
    def directory(self):
        return self.work / self.name / self.title

    @property
    def record(self):
        return records.path(self.results, self.name, self.row, self.seed)

    @property
    def command(self):
        return [*self.study.command(self.row, self.data, self.seed), "--device", self.device]

    @property
    def data(self):
        """Where data sets are, from the project's directory, in which the trainer is started."""
        data = self.work / "data"
        return data.relative_to(ROOT) if data.is_relative_to(ROOT) else data


def jobs_of(name, study, work, results, seeds=None, rows=None, device="cpu"):
    """The jobs of a study, or of its `rows`, seed by seed: so rows have the same seeds wherever the work stops.

    Raises UserError for a row that the study does not have.
    """
    seeds, rows = seeds or study.seeds, rows or list(study.rows)
    if unknown := [row for row in rows if row not in study.rows]:
        raise UserError(f"{name} has no row {unknown[0]!r}: its rows are {', '.join(study.rows)}")
    work, results = ROOT / work, ROOT / results
    numbers = range(study.first_seed, study.first_seed + seeds)
    return [Job(name, study, row, seed, work, results, device) for seed in numbers for row in rows]


def run(jobs, minutes=None, say=say, at_once=None, lock=lambda job: job.directory.parent, begin=lambda: None):
    """Run what is not recorded yet, `at_once` at a time (the cores), for `minutes` at most.

    lock: the directory of a job that other engines are kept out of. begin: called once nothing is refused. Returns how
    many runs failed. Raises Stopped where a signal asks for it, UserError where another engine is at work there.
    """
    waiting = [job for job in jobs if not is_recorded(job)]
    for job in waiting:
        check(job)
    recorded = len(jobs) - len(waiting)
    deadline = time.monotonic() + (float("inf") if minutes is None else minutes * 60)
    running, attempts, failures = {}, collections.Counter(), 0
    try:
        with contextlib.ExitStack() as held, StopRequest() as stop:
            for directory in sorted({lock(job) for job in waiting}):
                directory.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(directory))
            begin()
            say(f"runs recorded: {recorded} of {len(jobs)}")
            while (waiting or running) and not stop and time.monotonic() < deadline:
                while waiting and len(running) < (at_once or cpu_cores()):
                    job = waiting.pop(0)
                    if not settle(job, say):
                        attempts[job] += 1
                        running[job] = start(job, say)
                for job in [job for job, process in running.items() if process.poll() is not None]:
                    code = running.pop(job).returncode
                    if settle(job, say):
                        continue
                    if failed(job, code, attempts[job], say):
                        failures += 1
                    else:
                        waiting.insert(0, job)
                time.sleep(0.1)
    finally:
        stop_all(running, say)
    if stop:
        raise Stopped(stop.signal)
    return failures


def failed(job, code, attempts, say):
    """Whether to give up a run that ended early: it failed by itself, or was killed too often."""
    if code in (1, 2) or attempts >= ATTEMPTS:
        say(f"{job.title} failed: {last_line(job)} ({job.directory}/log.txt)")
        return True
    return False


def stop_all(running, say):
    """Stop runs as Ctrl-C does, which loses nothing, and record those that were at their end."""
    if running:
        say(f"stopping {', '.join(job.title for job in running)}: the last finished step is saved")
    for process in running.values():
        process.terminate()
    for job, process in running.items():
        process.wait()
        settle(job, say)


# ---- What to do next with a run, by its files


def is_recorded(job):
    """Whether the job's record exists, or another study has made and measured the same run.

    UserError where the record is of other settings than the study has now.
    """
    if not job.record.exists():
        runs = records.same_runs(job.results, job.study, job.row, job.seed)
        return any(has_figures(record, job.study.final) for record in runs)
    if records.read(job.record)["settings"] != job.study.settings(job.row):
        raise UserError(
            f"{job.record} was measured with other settings than {job.name} has now: delete it to measure again, or "
            "give the row another name"
        )
    return True


def has_figures(record, metrics):
    return all(set(records.aliases(metric)) & set(record["measured_with"]) for metric in metrics)


def check(job):
    """UserError where the job's run cannot be started: no data, or a directory that was begun with other settings."""
    job.study.check_data(job.row, ROOT / job.data)
    file = job.directory / "settings.json"
    try:
        known = json.loads(file.read_text()) if file.exists() else None
    except ValueError:
        known = "unreadable"
    if known not in (None, job.study.settings(job.row)):
        raise UserError(
            f"{job.directory} was begun with other settings than {job.name} has now: delete it, or give the row "
            "another name"
        )


def run_dir(job):
    """The run directory of the job; None before there is one."""
    return next(iter(sorted(job.directory.glob("[0-9]*-*"))), None)


def next_command(job):
    """The next command of a job, as a list from the program's name on; None if the run is complete."""
    directory = run_dir(job)
    if directory is None or not (ended := reached_end(directory)) and not has_state(directory):
        return [*job.command, "--outdir", str(job.directory)]
    if not ended:
        return [job.study.trainer, "--resume", str(directory), "--device", job.device]
    if job.study.trainer != "train.py":  # its last line of statistics comes after its last figure (small_run.py)
        return None
    known, saved = records.figures(directory), snapshots(directory)
    for snapshot in saved:
        wanted = job.study.metrics + (job.study.final if snapshot == saved[-1] else ())
        at = records.snapshot_kimg(snapshot)
        missing = [metric for metric in wanted if not any((at, name) in known for name in records.aliases(metric))]
        if missing:  # metrics of the last snapshot alone, or of a run that was stopped while it measured
            what = ["--network", str(snapshot), "--metrics", ",".join(missing)]
            return ["calc_metrics.py", *what, "--device", job.device]
    return None


def has_state(directory):
    return any(directory.glob("training-state*.pt*"))


def snapshots(directory):
    return sorted(directory.glob("network-snapshot-*.safetensors"), key=records.snapshot_kimg)


def reached_end(directory):
    """Whether the run has shown all its images and written its last snapshot."""
    try:
        options = json.loads((directory / "training_options.json").read_text())
        kimg = options.get("run", options)["kimg"]  # the classifiers' trainer has no groups
    except (OSError, ValueError, KeyError):
        return False
    ticks, saved = records.statistics(directory), snapshots(directory)
    return bool(ticks and saved) and ticks[-1]["Progress/kimg"]["mean"] >= kimg <= records.snapshot_kimg(saved[-1]) + 1


def last_line(job):
    log = job.directory / "log.txt"
    found = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(found) if line.strip()), "it said nothing")


# ---- Start and record


def start(job, say):
    """Start the next command of a job in the background, in one thread."""
    job.directory.mkdir(parents=True, exist_ok=True)
    with atomic_write(job.directory / "settings.json", "w") as file:
        json.dump(job.study.settings(job.row), file)
    lock = _lock(job)
    command = next_command(job)
    if "--outdir" in command and run_dir(job):
        shutil.rmtree(run_dir(job))  # it ended before its first state
    line = {"time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"), **records.start(job.device)}
    with open(job.directory / "starts.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")
    verb = "continue" if "--resume" in command else "measure" if command[0] == "calc_metrics.py" else "start"
    say(f"{line['time'][11:19]} {verb} {job.title}")
    with open(job.directory / "log.txt", "a") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the engine alone, which then stops its runs
            pass_fds=[lock] if lock is not None else [],
        )
    if lock is not None:
        os.truncate(lock, 0)
        os.pwrite(lock, f"{process.pid} {platform.node()}".encode(), 0)
        os.close(lock)  # the run holds it now
    return process


def _lock(job):
    """A descriptor that the run inherits and that locks its directory while the run lives; None if there are no locks.

    A killed engine may have left its run behind: that run is stopped first, and loses nothing.
    """
    if fcntl is None:
        return None
    lock = os.open(job.directory / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        with contextlib.suppress(ValueError, ProcessLookupError):
            pid, host = os.pread(lock, 300, 0).decode().split()
            if host == platform.node():  # another machine's run ends with its job
                os.kill(int(pid), signal.SIGTERM)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def settle(job, say):
    """Record the job if its run is complete, or has diverged. Returns whether it is recorded."""
    directory = run_dir(job)
    if directory is None:
        return False
    diverged = "diverged" in (line := last_line(job)) and "error" in line
    if not diverged and next_command(job) is not None:
        return False
    record = {
        "study": job.name,
        "row": job.row,
        "seed": job.seed,
        "settings": job.study.settings(job.row),
        "command": shell_line(job.command),
        "starts": records.lines(job.directory / "starts.jsonl"),
        **records.build(directory),
    }
    records.write(job.record, record | ({"diverged": line} if diverged else {}))
    final = record["snapshots"][-1] if record["snapshots"] else {}
    chosen = final if job.study.metrics is not None else job.study.shown
    figures = "  ".join(f"{name} {final[name]:.4g}" for name in chosen if name != "kimg" and name in final)
    seconds = record["seconds"] + record["metric_seconds"]
    took = f"took {format_time(seconds)}, with metrics"
    say(f"{time.strftime('%H:%M:%S')} record {job.title}: {line if diverged else figures} ({took})")
    return True
