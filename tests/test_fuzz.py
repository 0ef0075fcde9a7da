"""A short, seeded run of the fuzzers; `make fuzz` is the long one."""

import pathlib
import random
import re
import subprocess
import sys

import pytest
from fuzz import run
from fuzz.targets import CALLS, CANARY, TARGETS, pickle_offsets
from places import GOLDEN

from dnnlib.util import UserError
from training.legacy_pickle import read_pickle

RUN = pathlib.Path(__file__).with_name("fuzz") / "run.py"


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_files_give_a_result_or_one_line(target):
    command = [sys.executable, str(RUN), "--count=150", "--budget=5", "--seed=1", f"--target={target}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(rf"{target}: (\d+) files", done.stdout)[1]) >= 20, done.stdout


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupted)
    monkeypatch.setattr(sys, "argv", [str(RUN)])
    assert run.main() == 130
    assert capsys.readouterr().err == "run.py: stopped\n"


def test_a_pickle_with_an_inserted_call_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = (GOLDEN / "network-snapshot-000100.pkl").read_bytes()
    offsets = pickle_offsets(data)
    rng = random.Random(0)
    for _ in range(100):
        at = rng.choice(offsets)
        pathlib.Path("case.pkl").write_bytes(data[:at] + rng.choice(CALLS) + data[at:])
        with pytest.raises(UserError):
            read_pickle("case.pkl")
    assert not pathlib.Path(CANARY).exists()
