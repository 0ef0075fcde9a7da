"""Studies as cluster jobs, with submitit's local executor: each is recorded, and a preempted job starts again."""

import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest
from places import ROOT
from test_experiments import KILLED, PATIENCE, STUDY, wait_for, work  # noqa: F401 (work: a fixture)

from dnnlib.util import UserError
from experiments import cluster, engine, records, run

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the tasks of a job are found in /proc")


def study_of(kimg):
    return KILLED._replace(base={**KILLED.base, "--kimg": kimg}, metrics=())


def test_each_run_is_a_job_and_all_records_are_in_one_directory(work, tmp_path):  # noqa: F811
    (tmp_path / "data").symlink_to(work / "data")
    both = study_of(0.032)._replace(rows=STUDY.rows)
    jobs, said = engine.jobs_of("tiny", both, tmp_path, tmp_path / "results"), []
    assert cluster.run(jobs, "local", tmp_path / "cluster", say=said.append) == 0
    assert sorted(file.name for file in (tmp_path / "results" / "tiny").iterdir()) == [
        "mix-seed0.json", "plain-seed0.json",
    ]  # fmt: skip
    assert re.match("[12] jobs run on this machine, [01] wait; their logs: ", said[1]) and len(said) == 4
    assert cluster.run(jobs, "local", tmp_path / "cluster", say=said.append) == 0
    assert said[-1] == "runs recorded: 2 of 2"


def test_jobs_of_this_machine_are_as_many_at_a_time_as_asked(work, tmp_path, monkeypatch):  # noqa: F811
    (tmp_path / "data").symlink_to(work / "data")
    both, submit, handles = study_of(0.032)._replace(rows=STUDY.rows), cluster.submit, []
    jobs = engine.jobs_of("tiny", both, tmp_path, tmp_path / "results")

    def watched(*args):
        assert len(args[0]) == 1
        assert all(handle.done() for handle in handles), "a job starts before the one before it has ended"
        made = submit(*args)
        handles.extend(made.values())
        return made

    monkeypatch.setattr(cluster, "submit", watched)
    assert cluster.run(jobs, "local", tmp_path / "cluster", at_once=1, say=lambda text: None) == 0
    assert len(handles) == len(jobs)


COMMAND = """
import pathlib, sys
sys.path[:0] = {paths!r}
from experiments import cluster, engine
from test_cluster import study_of
from torch_utils.stop import Stopped
here = pathlib.Path({here!r})
try:
    cluster.run(engine.jobs_of("tiny", study_of({kimg}), here, here / "results"), "local", here / "cluster")
except Stopped:
    print("stopped")
"""


def test_ctrl_c_stops_the_jobs_of_this_machine_and_the_same_command_continues_them(work, tmp_path):  # noqa: F811
    (tmp_path / "data").symlink_to(work / "data")
    paths = [str(ROOT), str(ROOT / "tests")]
    (job,) = engine.jobs_of("tiny", study_of(2), tmp_path, tmp_path / "results")
    words = [sys.executable, "-c", COMMAND.format(paths=paths, here=str(tmp_path), kimg=2)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(words, start_new_session=True, **pipes) as command:
        wait_for(lambda: (found := engine.run_dir(job)) and engine.has_state(found), 4 * PATIENCE)
        os.killpg(command.pid, signal.SIGINT)  # as a terminal does
        said = command.communicate(timeout=4 * PATIENCE)[0].splitlines()
    assert said[-2:] == ["stopping mix-seed0: the last finished step is saved", "stopped"] and len(said) == 4
    assert not engine.is_recorded(job) and not list(tmp_path.glob("cluster/stop-*"))
    assert "stopped at" in next(job.directory.glob("*/log.txt")).read_text()
    assert cluster.run([job], "local", tmp_path / "cluster", say=lambda text: None) == 0
    assert len(records.read(job.record)["starts"]) == 2


def test_a_job_that_starts_after_a_stop_does_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "run", lambda *args, **options: pytest.fail("it runs"))
    (tmp_path / "stop").touch()
    cluster.Work(None, tmp_path / "stop")()


def test_jobs_on_this_machine_have_no_gpu(work, tmp_path):  # noqa: F811
    (tmp_path / "data").symlink_to(work / "data")
    jobs = engine.jobs_of("tiny", study_of(1), tmp_path, tmp_path / "results", device="cuda")
    with pytest.raises(UserError, match="--cluster local gives its jobs no GPU: give --device cpu"):
        cluster.run(jobs, "local", tmp_path / "cluster", say=lambda text: None)


@pytest.mark.long
def test_a_preempted_run_is_queued_again_and_ends_like_an_uninterrupted_one(work, tmp_path):  # noqa: F811
    records_of = {}
    for name in ("whole", "preempted"):
        outdir = tmp_path / name
        outdir.mkdir()
        (outdir / "data").symlink_to(work / "data")
        (job,) = jobs = engine.jobs_of("tiny", study_of(2), outdir, outdir / "results")
        handle = cluster.submit(jobs, cluster._executor("local", outdir / "cluster", (), None), outdir / "stop")[job]
        if name == "preempted":
            wait_for(lambda job=job: (found := engine.run_dir(job)) and engine.has_state(found))
            (task,) = children(handle._process.pid)
            os.kill(task, signal.SIGUSR2)  # Slurm's signal to a preempted job
        wait_for(handle.done, 4 * PATIENCE)
        records_of[name] = records.read(job.record)
    assert [len(records_of[name]["starts"]) for name in ("whole", "preempted")] == [1, 2]
    assert records_of["whole"]["curves"] == records_of["preempted"]["curves"]


def children(pid):
    return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("command", [["compare", "--data", "twemoji:faces"], ["overfit"]])
def test_without_submitit_one_line_says_what_to_install_before_anything_is_measured(monkeypatch, tmp_path, command):
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.setattr(run, "run_jobs", lambda *_: pytest.fail("it began"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--cluster needs submitit: pip install -r requirements-cluster.txt"):
        run.main.main([*command, "--cluster", "local"], standalone_mode=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["compare", "--data", "twemoji"], ["few_images"]])
def test_a_budget_which_jobs_would_not_keep_is_refused(words):
    with pytest.raises(UserError, match="--budget does not stop the jobs of --cluster"):
        run.main.main([*words, "--cluster", "local", "--budget", "5"], standalone_mode=False)
