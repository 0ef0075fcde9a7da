"""Studies as cluster jobs, with submitit's local executor: each is recorded, and a preempted job starts again."""

import os
import pathlib
import signal
import sys
import threading

import pytest
from test_experiments import KILLED, PATIENCE, STUDY, wait_for, work  # noqa: F401 (work: a fixture)

from dnnlib.util import UserError
from experiments import cluster, engine, records, run
from torch_utils.stop import Stopped

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
    assert said[1].startswith("2 jobs on this machine; their logs: ") and len(said) == 4
    assert cluster.run(jobs, "local", tmp_path / "cluster", say=said.append) == 0
    assert said[-1] == "runs recorded: 2 of 2"


def test_jobs_of_this_machine_are_as_many_at_a_time_as_asked(work, tmp_path, monkeypatch):  # noqa: F811
    (tmp_path / "data").symlink_to(work / "data")
    both, submit, handles = study_of(0.032)._replace(rows=STUDY.rows), cluster.submit, []
    jobs = engine.jobs_of("tiny", both, tmp_path, tmp_path / "results")

    def watched(*args):
        assert all(handle.done() for handle in handles), "a job starts before the one before it has ended"
        made = submit(*args)
        handles.extend(made.values())
        return made

    monkeypatch.setattr(cluster, "submit", watched)
    assert cluster.run(jobs, "local", tmp_path / "cluster", at_once=1, say=lambda text: None) == 0
    assert len(handles) == len(jobs)


def test_a_stop_ends_the_jobs_of_this_machine(work, tmp_path, monkeypatch):  # noqa: F811
    (tmp_path / "data").symlink_to(work / "data")
    jobs, submit, handles = engine.jobs_of("tiny", study_of(2), tmp_path, tmp_path / "results")[:1], cluster.submit, []

    def watched(*args):
        handles.extend((made := submit(*args)).values())
        threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return made

    monkeypatch.setattr(cluster, "submit", watched)
    with pytest.raises(Stopped):
        cluster.run(jobs, "local", tmp_path / "cluster", say=lambda text: None)
    assert handles[0].done() and not engine.is_recorded(jobs[0])


def test_a_failed_run_is_named_with_its_log(work, tmp_path):  # noqa: F811
    (tmp_path / "data").symlink_to(work / "data")
    broken = study_of(0.032)._replace(rows={"mix": KILLED.rows["mix"]._replace(options={"--adamix-alpha": 1})})
    said = []
    jobs = engine.jobs_of("tiny", broken, tmp_path, tmp_path / "results")
    assert cluster.run(jobs, "local", tmp_path / "cluster", say=said.append) == 1
    assert "failed mix-seed0: see " in said[-1] and "mix-seed0/log.txt" in said[-1]


@pytest.mark.long
def test_a_preempted_run_is_queued_again_and_ends_like_an_uninterrupted_one(work, tmp_path):  # noqa: F811
    records_of = {}
    for name in ("whole", "preempted"):
        outdir = tmp_path / name
        outdir.mkdir()
        (outdir / "data").symlink_to(work / "data")
        (job,) = jobs = engine.jobs_of("tiny", study_of(2), outdir, outdir / "results")
        handle = cluster.submit(jobs, cluster._executor("local", outdir / "cluster", (), None))[job]
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
