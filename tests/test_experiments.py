"""The engine of the studies: kills change no figure, records and verdicts are what they say, errors are one line."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest
from conftest import ROOT

from experiments import engine, records
from experiments.study import Claim, Row, Study

TINY = {"--cfg": "demo", "--data": "{data}/tiny", "--batch": 8, "--aug": "noaug", "--kimg": 3, "--snap": 1}
TINY |= {"--workers": 0, "--device": "cpu", "--state-minutes": 0.005}
STUDY = Study(
    title="Tiny",
    about="About.",
    base=TINY,
    rows={"plain": Row("plain"), "mix": Row("with AdaptiveMix", {"--adamix": True})},
    claims=(Claim("Paper, Table 1", "it is better", "2 → 1", row="mix", against="plain"),),
    baseline="plain",
    metrics=("lipschitz20_real", "lipschitz20"),
    seeds=1,
)


# ---- Kills


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work directory with a data set of 24 noisy 8x8 images."""
    work = tmp_path_factory.mktemp("work")
    (work / "data" / "tiny").mkdir(parents=True)
    rng = np.random.RandomState(0)
    for i in range(24):
        PIL.Image.fromarray(rng.randint(0, 256, [8, 8, 3], np.uint8)).save(work / "data" / "tiny" / f"{i:02}.png")
    return work


def start_engine(work, results):
    """The engine on one row of the tiny study, as a process of its own, which may be killed."""
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "from experiments import engine\n"
        "from test_experiments import KILLED\n"
        f"jobs = engine.jobs_of('tiny', KILLED, {str(work)!r}, {str(results)!r})\n"
        "engine.run(jobs, say=lambda line: print(line, flush=True))"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


KILLED = STUDY._replace(rows={"mix": STUDY.rows["mix"]}, baseline="", metrics=("lipschitz20",))


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kimg_of(directory):
    ticks = [line for file in directory.glob("*/stats.jsonl") for line in records.lines(file)]
    return ticks[-1]["Progress/kimg"]["mean"] if ticks else 0


def test_a_killed_engine_and_its_killed_run_end_in_the_record_of_an_undisturbed_one(work, tmp_path):
    (tmp_path / "data").symlink_to(work / "data")
    whole = start_engine(work, tmp_path / "whole")
    first, directory = start_engine(tmp_path, tmp_path / "killed"), tmp_path / "tiny" / "mix-seed0"
    wait_for(lambda: kimg_of(directory) >= 1 and engine.has_state(next(directory.glob("0*"))))
    first.kill()
    os.kill(int((directory / "lock").read_text()), signal.SIGKILL)
    assert kimg_of(directory) < 3
    output = start_engine(tmp_path, tmp_path / "killed").communicate(timeout=100)[0]
    assert "continue mix-seed0" in output, output
    assert "record mix-seed0" in whole.communicate(timeout=100)[0]
    expected, actual = (records.read(tmp_path / name / "tiny" / "mix-seed0.json") for name in ("whole", "killed"))
    assert expected["curves"] == actual["curves"] and expected["snapshots"] == actual["snapshots"]
    assert [s["kimg"] for s in actual["snapshots"]] == [1, 2, 3] and "lipschitz20_real" in actual["snapshots"][0]
    assert len(actual["starts"]) == 2 and len(expected["starts"]) == 1
    again = start_engine(tmp_path, tmp_path / "killed").communicate(timeout=100)[0]
    assert again == "1 of 1 runs are recorded\n"
