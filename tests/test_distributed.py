"""Two processes do what one does: `--gpus 2` on the processor, through torchrun, over gloo."""

import os
import pathlib
import subprocess
import sys
import time

import psutil
import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent
TINY = ["--cfg", "demo", "--resolution", "8", "--metrics", "none", "--batch", "16", "--batch-gpu", "8"]
TERMS = ["--adamix", "--sdp", "--sdp-start", "0", "--aw", "--aug", "apa", "--with-dataaug", "1", "--lecam", "3e-7"]


def train(*args):
    """The run's last state; one thread a process, so that both ways compute alike."""
    command = [sys.executable, str(ROOT / "train.py"), *map(str, args)]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_two_processes_train_as_one(tmp_path):
    states = []
    for gpus in (1, 2):
        train("--outdir", tmp_path / str(gpus), *TINY, *TERMS, "--cond", "1", "--kimg", "0.064", "--gpus", gpus)
        (path,) = (tmp_path / str(gpus)).glob("*/training-state.pt")
        states.append(torch.load(path, weights_only=True))
    one, two = states
    for network, tensors in one["networks"].items():
        for name, tensor in tensors.items():
            torch.testing.assert_close(
                two["networks"][network][name], tensor, rtol=0, atol=5e-5, msg=f"{network} {name}"
            )
    torch.testing.assert_close(one["augment_pipe"]["p"], two["augment_pipe"]["p"])
    torch.testing.assert_close(one["loss"]["lecam"]["real"]["average"], two["loss"]["lecam"]["real"]["average"])


def test_two_processes_go_on_exactly(tmp_path):
    train("--outdir", tmp_path / "whole", *TINY, "--gpus", "2", "--kimg", "0.064")
    train("--outdir", tmp_path / "half", *TINY, "--gpus", "2", "--kimg", "0.032")
    train("--outdir", tmp_path / "half", "--resume", "latest", "--kimg", "0.064")
    whole, half = (
        torch.load(next((tmp_path / name).glob("*/training-state.pt")), weights_only=True) for name in ("whole", "half")
    )
    for name, tensor in whole["networks"]["G"].items():
        assert torch.equal(half["networks"]["G"][name], tensor), name


def test_torchrun_goes_on_after_a_killed_worker(tmp_path):
    """With --max-restarts the workers start again and the run goes on from its training state."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    command += [str(ROOT / "train.py"), "--outdir", str(tmp_path), *TINY, "--kimg", "3", "--state-minutes", "0.001"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, env=environment, **pipes)
    while not list(tmp_path.glob("*/training-state-previous.pt")):
        time.sleep(0.05)
        assert process.poll() is None
    workers = [p for p in psutil.Process(process.pid).children() if "train.py" in " ".join(p.cmdline())]
    workers[1].kill()
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    (run_dir,) = tmp_path.iterdir()
    log = (run_dir / "log.txt").read_text()
    assert "resuming at" in log and "done: 3.0 kimg" in log


def test_a_killed_worker_ends_the_run(tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), "--outdir", str(tmp_path), *TINY, "--gpus", "2", "--kimg", "60"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes)
    while not list(tmp_path.glob("*/stats.jsonl")):
        time.sleep(0.05)
        assert process.poll() is None
    workers = [p for p in psutil.Process(process.pid).children(recursive=True) if "--gpus" in p.cmdline()]
    workers[-1].kill()
    killed = time.monotonic()
    output = process.communicate(timeout=90)[0]
    assert process.returncode != 0 and time.monotonic() - killed < 60
    assert "SIGKILL" in output


def test_replicas_that_differ_are_noticed(tmp_path):
    """By one bit of one tensor, on every process, in one line."""
    script = tmp_path / "replicas.py"
    script.write_text(
        "import sys, torch\n"
        "from dnnlib.util import UserError\n"
        "from torch_utils import distributed\n"
        "distributed.init('cpu')\n"
        "tensors = [torch.ones(3), torch.ones(2, 2)]\n"
        "distributed.check_replicas(tensors)\n"
        "tensors[1][1, 1] += distributed.rank() * 2.0**-23\n"
        "try:\n"
        "    distributed.check_replicas(tensors)\n"
        "except UserError as error:\n"
        "    print(error, flush=True)\n"
        "distributed.finish()\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("differ: the run cannot be trusted; resume it") == 2
