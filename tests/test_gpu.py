"""The checks of `make test-gpu`: their logic on the CPU, and the message without a GPU."""

import pathlib
import subprocess
import sys

import pytest
import torch
from gpu import checks, speed
from gpu.checks import Place, Seen, Skipped
from gpu.run import ALL, run_check, table
from places import ROOT

QUICK = (checks.golden_parity, checks.half_precision, checks.no_waiting, speed.draws_under_capture, speed.fast_64)
NEEDS_CUDA = (speed.killed_run_with_graphs, speed.graphs_train_fast)
SLOW = tuple(check for check in ALL if check not in (*QUICK, *NEEDS_CUDA))
CPU = torch.device("cpu")


@pytest.mark.parametrize("check", QUICK, ids=lambda check: check.__name__)
def test_a_check_passes_on_the_cpu(check, tmp_path):
    assert check(Place(CPU, tmp_path)).text


@pytest.mark.long
@pytest.mark.parametrize("check", SLOW, ids=lambda check: check.__name__)
def test_a_check_of_whole_runs_passes_on_the_cpu(check, tmp_path):
    assert check(Place(CPU, tmp_path)).text


def test_golden_parity_detects_a_wrong_network(tmp_path, monkeypatch):
    golden_network = checks.golden_network

    def spoilt(*args):
        data, network = golden_network(*args)
        next(network.parameters()).data.mul_(1.01)
        return data, network

    monkeypatch.setattr(checks, "golden_network", spoilt)
    with pytest.raises(AssertionError, match="is off by"):
        checks.golden_parity(Place(CPU, tmp_path))


def test_checks_that_fail_or_are_skipped_have_a_row_in_the_table():
    def wrong(place):
        raise AssertionError("two | bars\nand lines")

    def absent(place):
        raise Skipped("there is one GPU")

    def right(place):
        return Seen("all", 12.34)

    rows = [run_check(check, CPU) for check in (wrong, absent, right)]
    assert [row[1] for row in rows] == ["**FAILED**", "skipped", "passed"]
    lines = table(CPU, rows).splitlines()[-3:]
    assert "two / bars and lines" in lines[0] and "there is one GPU" in lines[1] and "| 12.3 | all |" in lines[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_every_check_is_skipped_with_a_reason(tmp_path):
    command = [sys.executable, ROOT / "tests" / "gpu" / "run.py", "--out", tmp_path / "table.md"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = pathlib.Path(tmp_path / "table.md").read_text()
    assert text.count("| skipped | 0 |  | this machine has no cuda device |") == len(ALL)
    assert "device" in text and "driver" in text and torch.__version__ in text
