"""Only one process trains a run: a second one is refused, and a killed one loses the lock."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from places import ROOT
from train_runs import TINY, refusal, start

import train
from dnnlib.util import UserError
from training import run_lock
from training.run_dir import new_run_dir
from training.run_lock import is_locked, locked

HOLD = (
    "import os, sys, time\n"
    "from training.run_lock import locked\n"
    "with locked(sys.argv[1]):\n"
    "    if not os.fork():\n"  # like a loader process, which may outlive its parent
    "        os.execvp('sleep', ['sleep', '60']) if sys.argv[2:] else time.sleep(60)\n"
    "    print('held', flush=True)\n"
    "    time.sleep(60)\n"
)


def holder(run_dir, *args):
    """A process that holds the lock of a run, and has a child."""
    command = [sys.executable, "-c", HOLD, str(run_dir), *args]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("child", ["forked", "another program"])
def test_a_lock_names_its_holder_and_ends_with_it_even_if_its_children_live(child, tmp_path):
    first = holder(tmp_path, *(["exec"] if child == "another program" else []))
    try:
        assert is_locked(tmp_path)
        with pytest.raises(UserError, match=rf"is in use by process {first.pid} on \S+, since 20"):
            locked(tmp_path).__enter__()
        first.kill()
        first.wait()
        assert not is_locked(tmp_path)
        with locked(tmp_path):
            pass
    finally:
        os.killpg(first.pid, signal.SIGKILL)


def test_the_text_of_a_lock_file_is_shown_escaped_and_shortened(tmp_path):
    first = holder(tmp_path)
    try:
        (tmp_path / run_lock.NAME).write_text("\x1b]0;title\x07" * 1000)
        with pytest.raises(UserError) as refused:
            locked(tmp_path).__enter__()
        assert str(refused.value).isprintable() and len(str(refused.value)) < 1500
    finally:
        os.killpg(first.pid, signal.SIGKILL)


def test_without_locks_a_line_says_so_and_the_run_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_lock, "fcntl", None)
    with locked(tmp_path):
        assert "cannot be locked" in capsys.readouterr().err
    monkeypatch.undo()
    os.symlink(tmp_path / "elsewhere", tmp_path / "link")
    os.replace(tmp_path / "link", tmp_path / run_lock.NAME)
    with locked(tmp_path):
        assert "cannot be locked" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()


def test_a_second_resume_of_a_run_is_refused_in_every_form(tmp_path):
    """The first process has no state yet when `--resume auto` is tried, but has one when the other forms are."""
    command = ["--outdir", tmp_path / "runs", *TINY, "--kimg", "1000"]
    first = start(*command, "--state-minutes", "0.001")
    try:
        while not list(tmp_path.glob("runs/*/.lock")):
            time.sleep(0.02)
        (run_dir,) = tmp_path.glob("runs/*")
        expected = re.compile(rf"is in use by process {first.pid} on \S+, since")
        while not (run_dir / "log.txt").exists():
            time.sleep(0.02)
        assert expected.search(refusal(train.main, *command, "--resume", "auto"))
        while not (run_dir / "training-state.pt").exists():
            time.sleep(0.02)
        first.send_signal(signal.SIGSTOP)  # a process that hangs has not ended
        latest = ["--resume", "latest", "--outdir", tmp_path / "runs"]
        for how in (["--resume", run_dir], latest, [*latest, "--gpus", "2"]):
            assert expected.search(refusal(train.main, *how))
        assert first.poll() is None and len(list(tmp_path.glob("runs/*"))) == 1
    finally:
        first.kill()
        first.wait()


START = (
    "import os, sys, time\n"
    "from training.run_dir import new_run_dir\n"
    "begin = time.time() + 0.5\n"
    "children = []\n"
    "for name in 'aabc':\n"
    "    if not (child := os.fork()):\n"
    "        for round in range(60):\n"
    "            time.sleep(max(begin + round / 100 - time.time(), 0))\n"
    "            new_run_dir(f'{sys.argv[1]}/{round}', name)\n"
    "        os._exit(0)\n"
    "    children.append(child)\n"
    "sys.exit(any(os.waitpid(child, 0)[1] for child in children))\n"
)


def test_four_runs_that_start_together_get_different_numbers_in_sixty_rounds(tmp_path):
    subprocess.run([sys.executable, "-c", START, str(tmp_path)], cwd=ROOT, check=True)
    for round in range(60):
        found = sorted(path.name for path in (tmp_path / str(round)).iterdir())
        assert [name[:5] for name in found] == ["00000", "00001", "00002", "00003"]
        assert sorted(name[6:] for name in found) == ["a", "a", "b", "c"]


def test_a_reserved_number_is_skipped(tmp_path):
    (tmp_path / ".00000").mkdir()  # a process was killed after it reserved the number
    assert new_run_dir(tmp_path, "x").name == "00001-x"
