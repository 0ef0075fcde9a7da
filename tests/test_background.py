"""The queue works in a worktree of its own, survives kills of its worker, and leaves records to commit."""

import os
import signal
import subprocess
import time

import pytest

from dnnlib.util import UserError
from experiments import background, records
from experiments.ranked import RANKED
from experiments.study import load_study

WORKER = """
import os, pathlib, sys, time
if "--keep" in sys.argv:
    sys.path.insert(0, PROJECT)
    from experiments import background
    sys.exit(background.keep(int(sys.argv[-1]), lambda line: print(line, flush=True)))
with open("starts", "a") as file:
    file.write("start\\n")
while not pathlib.Path("finish").exists():
    time.sleep(0.02)
"""


@pytest.fixture
def worktree(tmp_path, monkeypatch):
    """A repository whose experiments/run.py has the real keeper and a worker that only waits."""
    root = tmp_path / "queue"
    (root / "experiments" / "results" / "tiny").mkdir(parents=True)
    (root / "experiments" / "run.py").write_text(f"PROJECT = {str(records.ROOT)!r}\n{WORKER}")
    (root / "experiments" / "results" / "tiny" / "old-seed0.json").write_text("{}")
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a", "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    monkeypatch.setattr(background.records, "ROOT", tmp_path / "checkout")
    yield root
    (root / "finish").touch()
    background.stop(root, lambda line: None)


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def starts(root):
    return (root / "starts").read_text().count("start") if (root / "starts").exists() else 0


def test_a_killed_worker_is_started_again_and_a_second_queue_is_refused(worktree):
    background.start(worktree, lambda line: None)
    wait_for(lambda: starts(worktree) == 1)
    with pytest.raises(UserError, match="a queue is already running in"):
        background.start(worktree, lambda line: None)
    _, worker = background._pids(worktree)
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: starts(worktree) == 2)
    said = []
    background.stop(worktree, said.append)
    assert said == [f"stopped: {worktree}"] and background._pids(worktree) == []
    assert "the worker was killed: another one continues" in (worktree / background.LOG).read_text()


def test_stop_ends_the_worker_of_a_killed_keeper(worktree):
    background.start(worktree, lambda line: None)
    wait_for(lambda: starts(worktree) == 1)
    os.kill(background._pids(worktree)[0], signal.SIGKILL)
    with pytest.raises(UserError, match="already running"):
        background.start(worktree, lambda line: None)
    background.stop(worktree, lambda line: None)
    background.start(worktree, lambda line: None)
    wait_for(lambda: starts(worktree) == 2)


def test_only_new_records_are_copied_into_the_checkout(worktree):
    new = worktree / "experiments" / "results" / "tiny" / "new-seed0.json"
    new.write_text('{"a": 1}')
    said = []
    background.collect(worktree, said.append)
    copied = records.ROOT / "experiments" / "results" / "tiny"
    assert [file.name for file in copied.iterdir()] == ["new-seed0.json"] and said[0].startswith("1 records are in ")
    assert (copied / "new-seed0.json").read_text() == '{"a": 1}'


def test_every_ranked_entry_can_run_and_its_claims_state_effect_and_looks():
    known = [job.record for job in background.jobs()]
    assert len(known) == len(set(known)) > 0
    for entry in RANKED:
        study = load_study(entry.study)
        assert set(entry.rows) <= set(study.rows) and not study.by_hand and entry.hours > 0
        assert not study.claims or (study.looks and entry.seeds <= max(study.looks))
        assert all(claim.effect or study.effect for claim in study.claims)
