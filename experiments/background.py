"""The queue: one process works through experiments/ranked.py in the background, in a git worktree of its own.

The worktree stays at the commit of the queue's start, so changes of the checkout do not affect a study.
Everything is inside it: runs in runs/studies/, records in experiments/results/, the log in runs/queue.log. A killed
worker is started again; if its keeper is killed too, the same command continues.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

from dnnlib.util import UserError
from experiments import data_sets, engine, records
from experiments.ranked import RANKED
from experiments.study import data_names, load_study
from torch_utils.stop import Stopped

try:
    import fcntl
except ImportError:
    fcntl = None

PIDS, LOG = "runs/queue.pid", "runs/queue.log"
PAUSE = 1.0  # seconds before a killed worker is started again


def jobs():
    """All jobs of the list, in its order, without duplicates."""
    return list({job.record: job for entry in RANKED for job in jobs_of(entry)}.values())


def jobs_of(entry):
    study, root = load_study(entry.study), records.ROOT
    work, results = root / "runs" / "studies", root / "experiments" / "results"
    return engine.jobs_of(entry.study, study, work, results, entry.seeds, list(entry.rows))


def start(root, say):
    """Start the queue in the worktree `root`, which is created from HEAD if missing.

    Raises UserError if a queue is running in it.
    """
    if not (root / "experiments" / "run.py").exists():
        _git("worktree", "add", "--quiet", "--detach", str(root), "HEAD")
    (root / "runs").mkdir(exist_ok=True)
    lock = _lock(root)
    with open(root / LOG, "a") as log:
        keeper = subprocess.Popen(
            [sys.executable, "experiments/run.py", "queue", "--keep", str(lock)],
            cwd=root, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=[lock],
        )  # fmt: skip
    os.close(lock)  # the keeper and its worker have inherited it
    say(f"the queue works at {_git('rev-parse', '--short', 'HEAD', at=root)} in {root} (process {keeper.pid})")
    say(f"log: tail -f {root / LOG}")


def keep(lock, say):
    """Run workers until one ends without being killed. Returns its exit code."""
    worker = None

    def stop(*_):
        nonlocal stopping
        stopping = True
        if worker:
            worker.terminate()

    stopping = False
    signal.signal(signal.SIGTERM, stop)
    while True:
        worker = subprocess.Popen([sys.executable, "experiments/run.py", "queue", "--work"], pass_fds=[lock])
        os.truncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()} {worker.pid}".encode(), 0)
        if stopping:
            worker.terminate()
        code = worker.wait()
        if stopping or code != -signal.SIGKILL:
            return code if code >= 0 else 128 - code
        say(f"{time.strftime('%H:%M:%S')} the worker was killed: another one continues")
        time.sleep(PAUSE)


def work(say):
    """Run the jobs without a record, one at a time, on one thread. Returns the exit code: 0, or that of a stop."""
    waiting = jobs()
    names = [name for job in waiting for name in data_names(job.study.settings(job.row))]
    data_sets.make(names, records.ROOT / "runs" / "studies" / "data", say)
    try:
        engine.run(waiting, say=say, at_once=1)
    except Stopped as stopped:
        return stopped.exit_code
    return 0


def stop(root, say):
    """Stop the queue in `root` and its run, whose state is saved."""
    pids = _pids(root)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    while _pids(root):
        time.sleep(0.1)
    say(f"stopped: {root}" if pids else f"no queue is at work in {root}")


def status(say):
    """Print the recorded runs of each entry, the running ones, and an estimate of the remaining time."""
    for entry in RANKED:
        name = f"{entry.study} {','.join(entry.rows)}".strip()
        of_entry = jobs_of(entry)
        done = sum(engine.is_recorded(job) for job in of_entry)
        say(f"{done:4} of {len(of_entry):4} runs, {entry.hours:5.1f} h in all: {name}")
    pids = _pids(records.ROOT)
    say(f"at work: processes {' and '.join(map(str, pids))}" if pids else "no queue is at work here")


def collect(root, say):
    """Copy the records of the queue in `root` into this checkout, to be committed."""
    changed = _git("status", "--porcelain", "--untracked-files=all", "--", "experiments/results", at=root)
    names = [line[3:] for line in changed.splitlines() if line.endswith(".json") and line[:2].strip() != "D"]
    for name in names:
        (records.ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, records.ROOT / name)
    say(f"{len(names)} records are in {records.ROOT / 'experiments' / 'results'}: git add and commit them")


def _lock(root):
    """A descriptor that locks the queue of `root` while any process has it open."""
    if fcntl is None:
        raise UserError("the queue needs a system with flock; run studies by their names instead")
    lock = os.open(root / PIDS, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(f"a queue is already running in {root}: see queue --status, or queue --stop") from None
    return lock


def _pids(root):
    """The processes of the queue that runs in `root`."""
    try:
        os.close(_lock(root))
        return []
    except UserError:
        return [int(word) for word in (root / PIDS).read_text().split()]
    except FileNotFoundError:
        return []


def _git(*words, at=records.ROOT):
    done = subprocess.run(["git", *words], cwd=at, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"git {words[0]} failed in {at}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return done.stdout.rstrip("\n")


def in_worktree(root, *words):
    """Run this command in the worktree, with the worktree's code. Returns the exit code."""
    program = pathlib.Path("experiments", "run.py")
    if not (root / program).exists():
        raise UserError(f"there is no queue in {root}: start one with python {program} queue")
    return subprocess.run([sys.executable, str(program), "queue", *words], cwd=root).returncode
