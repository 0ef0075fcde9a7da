"""Runs of a study as jobs of a cluster, by submitit: one job a run, queued again if it is preempted or out of time.

A job starts an engine (engine.py) with one run. All machines see one file system: there a run continues from its last
state, wherever its job is started again, and all records go into one directory.
"""

import contextlib
import importlib.util
import os
import signal
import time

from dnnlib import devices
from dnnlib.util import UserError, say
from experiments import engine
from torch_utils.stop import Stopped, StopRequest

PAUSE = 1.0  # seconds between two checks of the jobs
HOURS = 24  # limit of a job's time; then it is queued again
TIMEOUTS = 1000  # how often a job may be queued again after its time limit; preemption is not counted


class Work:
    """What a job does; submitit pickles it. It ends at once if there is a file `stop`."""

    def __init__(self, job, stop):
        self.job, self.stop = job, stop

    def __call__(self):
        if not self.stop.exists():
            engine.run([self.job], at_once=1, lock=lambda job: job.directory)

    def checkpoint(self):
        """The job to queue again, after submitit's signal has stopped the run, which has saved its state."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run(jobs, kind, folder, options=(), at_once=None, say=say, begin=lambda: None):
    """Submit the jobs that are not recorded yet, and wait for them. Returns how many runs failed. Raises Stopped where
    a signal asks for it; the jobs of Slurm continue, those of this machine are stopped.

    kind: `slurm`, or `local`, this machine. folder: for the jobs' files and logs. options: of sbatch, `partition=gpu`.
    at_once: the number of jobs at a time. None: 1000 with Slurm, otherwise one for each core. begin: called once
    nothing is refused.
    """
    local = kind == "local"
    waiting = left(jobs, local)
    executor = _executor(kind, folder, options, at_once) if waiting else None
    begin()
    say(f"runs recorded: {len(jobs) - len(waiting)} of {len(jobs)}")
    if not waiting:
        return 0
    limit = (at_once or devices.cpu_cores()) if local else len(waiting)
    stop_file = folder.resolve() / f"stop-{os.getpid()}"
    submitted, failures, said = {}, 0, False
    with StopRequest() as stop:
        try:
            while (waiting or submitted) and not stop:
                if room := waiting[: limit - len(submitted)]:
                    submitted |= submit(room, executor, stop_file)
                    waiting = waiting[len(room) :]
                if not said:
                    say(f"{_announcement(len(submitted), len(waiting), local)}; their logs: {folder}")
                    said = True
                for job in [job for job, handle in submitted.items() if handle.done()]:
                    handle, recorded = submitted.pop(job), engine.is_recorded(job)
                    failures += not recorded
                    where = job.record if recorded else f"see {handle.paths.stderr} and {job.directory}/log.txt"
                    say(f"{time.strftime('%H:%M:%S')} {'record' if recorded else 'failed'} {job.title}: {where}")
                time.sleep(PAUSE)
        finally:
            if local and submitted:
                stop_all(submitted, stop_file, say)
    if stop:
        raise Stopped(stop.signal)
    return failures


def left(jobs, local):
    """The jobs that are not recorded yet. Raises UserError for one that cannot be started."""
    waiting = [job for job in jobs if not engine.is_recorded(job)]
    for job in waiting:
        engine.check(job)
        if local and job.device == "cuda":
            raise UserError("--cluster local gives its jobs no GPU: give --device cpu, or leave --cluster out")
    return waiting


def _announcement(submitted, waiting, local):
    if local:
        return f"{submitted} jobs run on this machine, {waiting} wait"
    return f"{submitted} jobs are submitted and do not need this command"


def submit(jobs, executor, stop_file):
    """{job: submitit's job}."""
    with _inherited(), executor.batch():
        return {job: executor.submit(Work(job, stop_file)) for job in jobs}


@contextlib.contextmanager
def _inherited():
    """What processes that are started in the block inherit: the path of our code, and that SIGINT is ignored.

    Otherwise Ctrl-C would also reach submitit's processes on this machine, which kill jobs that save their state.
    """
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(engine.ROOT), *([path] if path else [])])
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        os.environ["PYTHONPATH"] = path or ""


def stop_all(submitted, stop_file, say):
    """Stop the jobs of this machine, and wait until they have saved their states."""
    say(f"stopping {', '.join(job.title for job in submitted)}: the last finished step is saved")
    stop_file.touch()  # for a job that starts just now, and would miss the signal
    for handle in submitted.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(handle.job_id), signal.SIGTERM)
    while not all(handle.done() for handle in submitted.values()):
        time.sleep(PAUSE)
    stop_file.unlink()


def require_installed():
    """Refuse --cluster without submitit, before a command measures anything."""
    if importlib.util.find_spec("submitit") is None:
        raise UserError("--cluster needs submitit: pip install -r requirements-cluster.txt")


def _executor(kind, folder, options, at_once):
    import submitit

    executor = submitit.AutoExecutor(folder=folder, cluster=kind, slurm_max_num_timeout=TIMEOUTS)
    words = [option.partition("=")[::2] for option in options]
    executor.update_parameters(
        name="study",
        timeout_min=HOURS * 60,
        cpus_per_task=1,
        slurm_array_parallelism=at_once or 1000,
        slurm_additional_parameters=dict(words),
    )
    return executor
