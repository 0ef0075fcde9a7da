"""Loader processes: signals to the whole process group, loaders that hang or are killed, damaged images."""

import os
import signal
import time

import psutil
import pytest
from train_runs import TINY, finish, make_run, start, write_images

from dnnlib.util import UserError
from training.data.loader import batches
from training.state import NAME, load_state


@pytest.fixture
def running(tmp_path):
    """A run on a folder of images with two loader processes, past its first tick, in a process group of its own."""
    data = write_images(tmp_path / "data", [8] * 40)
    args = ["--outdir", tmp_path / "runs", *TINY, "--data", data, "--workers", "2", "--kimg", "300", "--snap", "100"]
    process = start(*args, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "runs").glob("*/stats.jsonl")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    yield process, next((tmp_path / "runs").iterdir())
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_to_the_group_saves_the_run(running, number, code):
    process, run_dir = running
    os.killpg(process.pid, number)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == code and "to continue: python train.py --resume" in output, output
    assert "Traceback" not in output and load_state(run_dir)["counters"]["cur_nimg"] >= 1000


def loaders_of(process):
    loaders = [p for p in psutil.Process(process.pid).children() if p.cmdline()[:2] == process.args[:2]]
    assert len(loaders) == 2
    return loaders


def test_a_run_whose_loaders_hang_is_stopped_by_a_signal(running):
    """Loaders hang, for example, while a network disk does not answer."""
    process, run_dir = running
    loaders = loaders_of(process)
    for loader in loaders:
        loader.suspend()
    time.sleep(2)  # now the run waits for them, perhaps in the middle of a batch
    process.terminate()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 143 and "to continue: python train.py --resume" in output, output
    assert load_state(run_dir)["counters"]["cur_nimg"] >= 1000
    assert not any(loader.is_running() for loader in loaders)


def test_a_killed_loader_ends_the_run_in_one_line_and_leaves_its_state(running):
    process, run_dir = running
    loaders_of(process)[0].kill()
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 1 and "Traceback" not in output, output
    (line,) = [line for line in output.splitlines() if "error" in line]
    assert "a loader process was killed" in line and f"--resume {run_dir}" in line
    shown = load_state(run_dir)["counters"]["cur_nimg"]
    assert shown >= 1000 and (run_dir / NAME).exists()
    code, output = finish("--resume", run_dir, "--kimg", (shown + 80) / 1000)
    assert code == 0, output


def test_a_damaged_image_in_a_loader_process_gives_one_line(tmp_path):
    data = write_images(tmp_path / "data", [8] * 9)
    run = make_run(tmp_path, "--data", data, "--workers", "1")
    whole = (data / "img3.png").read_bytes()
    (data / "img3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError) as caught:
        for _ in zip(range(9), batches(run.dataset, run.options.run, 0, run.device)):
            pass
    assert "img3.png" in str(caught.value) and "Traceback" not in str(caught.value)
