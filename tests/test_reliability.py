"""A run survives what happens to runs: kills at random moments, a disk that refuses, numbers that go wrong."""

import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch

from stylegan2_adamix.adaptivemix import AdaptiveMix
from training.dataset import open_dataset
from training.state import NAME, load_state

ROOT = pathlib.Path(__file__).resolve().parent.parent
TINY = ["--cfg", "demo", "--resolution", "8", "--metrics", "none", "--snap", "4"]
TERMS = ["--adamix", "--sdp", "--sdp-start", "0", "--aw", "--aug", "apa", "--with-dataaug", "1", "--lecam", "3e-7"]
KILLS = 20


def start(*args, **options):
    """train.py in one thread: two runs at a time would wait for each other's threads more than compute."""
    options["env"] = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "train.py"), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def finish(*args, **options):
    process = start(*args, **options)
    output = process.communicate(timeout=300)[0]
    return process.returncode, output


def weights(run_dir):
    state = load_state(run_dir)
    return {f"{n}/{key}": tensor for n, tensors in state["networks"].items() for key, tensor in tensors.items()}


def test_twenty_kills_change_no_bit(tmp_path):
    """By SIGKILL, SIGTERM or SIGINT; the run goes on each time and ends where an undisturbed one does."""
    options = [*TINY, *TERMS, "--kimg", "6", "--state-minutes", "0.005"]
    undisturbed = start("--outdir", tmp_path / "whole", *options)
    rng = random.Random(0)
    args, kills = ["--outdir", tmp_path / "killed", *options], 0
    for _ in range(3 * KILLS):
        process = start(*args)
        while kills < KILLS and process.poll() is None and not list((tmp_path / "killed").glob(f"*/{NAME}")):
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 4.0))
        if kills < KILLS and process.poll() is None:
            process.send_signal(rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
            kills += 1
        process.communicate(timeout=300)
        args = ["--resume", "latest", "--outdir", tmp_path / "killed"]
        if kills == KILLS:
            break
    code, output = finish(*args)
    assert code == 0, output
    assert undisturbed.communicate(timeout=300) and undisturbed.returncode == 0
    (whole,), (killed,) = (list((tmp_path / name).iterdir()) for name in ("whole", "killed"))
    expected, actual = weights(whole), weights(killed)
    assert [name for name in expected if not torch.equal(expected[name], actual[name])] == []
    kimg = [json.loads(line)["Progress/kimg"]["mean"] for line in (killed / "stats.jsonl").read_text().splitlines()]
    assert kimg == sorted(set(kimg)) and kimg[-1] == 6
    assert kills == KILLS


def test_a_second_ctrl_c_ends_at_once():
    code = (
        "import os, signal, time\n"
        "from torch_utils.stop import StopRequest\n"
        "with StopRequest() as stop:\n"
        "    for wait in (0, 0.1, 1.2):\n"
        "        time.sleep(wait)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(0.05)\n"
        "        print(bool(stop), flush=True)\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert process.returncode == -signal.SIGTERM and process.stdout.count("True") == 2


def test_a_disk_that_refuses_does_not_end_the_run(tmp_path):
    """Files may grow to 100 kB only, so snapshots and states cannot be written."""

    open_dataset("twemoji", 8)  # drawn and cached before the disk refuses

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    code, output = finish("--outdir", tmp_path, *TINY, "--kimg", "1", "--snap", "1", preexec_fn=small_files)
    (run_dir,) = tmp_path.iterdir()
    assert code == 0, output
    assert "could not write network-snapshot-000001.safetensors" in (run_dir / "log.txt").read_text()
    assert "could not write training-state.pt" in output and "training goes on" in output
    assert not list(run_dir.glob("*.safetensors")) and not (run_dir / NAME).exists()
    assert not list(run_dir.glob(".*.tmp"))


def test_a_vanished_directory_does_not_end_the_run(tmp_path):
    process = start("--outdir", tmp_path / "runs", *TINY, "--kimg", "2")
    while not list((tmp_path / "runs").glob("*/events.*")):
        time.sleep(0.05)
        assert process.poll() is None
    (tmp_path / "runs").rename(tmp_path / "gone")
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0 and "could not write" in output, output


def test_a_loss_that_is_not_finite_names_its_term_and_leaves_the_last_state(tmp_path, monkeypatch):
    import train

    args = ["--outdir", str(tmp_path), *TINY, "--adamix", "--kimg"]
    train.main.main([*args, "0.016"], standalone_mode=False)
    (run_dir,) = tmp_path.iterdir()
    before = (run_dir / NAME).read_bytes()
    monkeypatch.setattr(AdaptiveMix, "distance", lambda self, target, hard: target.flatten(1).mean(1) * torch.nan)
    with pytest.raises(Exception, match=r"AdaptiveMix \(fake, Dmain\) is not finite at step \d+") as caught:
        train.main.main(["--resume", str(run_dir), "--kimg", "0.032"], standalone_mode=False)
    assert type(caught.value).__name__ == "UserError"
    assert (run_dir / NAME).read_bytes() == before
