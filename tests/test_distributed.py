"""Two processes compute the same as one: `--gpus 2` on the CPU, through torchrun, over gloo."""

import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from places import ROOT
from train_runs import TERMS, TINY, assert_same_state, finish, one_thread, run_here, start, write_images

from dnnlib.util import stop_signals
from torch_utils import launch
from training.state import load_state

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
SHARED = [*TINY, "--batch", "16", "--batch-gpu", "8"]


def train(outdir, *args):
    """The directory of a finished run. Each process has one thread, so that one and two processes compute the same."""
    code, output = finish("--outdir", outdir, *args)
    assert code == 0, output
    (run_dir,) = outdir.iterdir()
    return run_dir


@pytest.mark.long
def test_two_processes_train_as_one(tmp_path):
    options = [*SHARED, *TERMS, "--cond", "1", "--kimg", "0.064"]
    one, two = (load_state(train(tmp_path / gpus, *options, "--gpus", gpus)) for gpus in ("1", "2"))
    for network, tensors in one["networks"].items():
        for name, tensor in tensors.items():
            torch.testing.assert_close(
                two["networks"][network][name], tensor, rtol=0, atol=5e-5, msg=f"{network} {name}"
            )
    torch.testing.assert_close(one["augment_pipe"]["p"], two["augment_pipe"]["p"])
    torch.testing.assert_close(one["loss"]["lecam"]["real"]["average"], two["loss"]["lecam"]["real"]["average"])


@pytest.mark.long
def test_two_processes_resume_exactly(tmp_path):
    """The whole state is equal, with every term on: G, D, G_ema, the optimisers' moments, averages and counters."""
    whole = train(tmp_path / "whole", *SHARED, *TERMS, "--gpus", "2", "--kimg", "0.064")
    train(tmp_path / "half", *SHARED, *TERMS, "--gpus", "2", "--kimg", "0.032")
    half = train(tmp_path / "half", "--resume", "latest", "--kimg", "0.064")
    assert_same_state(half, whole)


@pytest.mark.long
def test_two_processes_with_batch_normalisation_keep_equal_networks_and_resume_exactly(tmp_path):
    """Each process normalises its own images. Unless running statistics are averaged, the snapshot's check fails."""
    data = [
        "--data",
        write_images(tmp_path / "data", [32] * 16),
        "--resolution",
        "32",
        "--aug",
        "noaug",
        "--workers",
        "0",
    ]
    words = [*TINY, *data, "--cfg", "autogan", "--width", "0.03", "--decay-kimg", "0.064", "--gpus", "2"]
    whole = train(tmp_path / "whole", *words, "--kimg", "0.064")
    train(tmp_path / "half", *words, "--kimg", "0.032")
    half = train(tmp_path / "half", "--resume", "latest", "--kimg", "0.064")
    assert_same_state(half, whole)


@pytest.mark.long
def test_torchrun_continues_after_a_killed_worker(tmp_path):
    """With --max-restarts the workers start again and the run continues from its training state."""
    options = ["--outdir", tmp_path, *SHARED, "--kimg", "3", "--state-minutes", "0.001"]
    process = start(*options, launcher=[*TORCHRUN, "--max-restarts=1"])
    while not list(tmp_path.glob("*/training-state-previous.pt")):
        time.sleep(0.05)
        assert process.poll() is None
    workers = [p for p in psutil.Process(process.pid).children() if "train.py" in " ".join(p.cmdline())]
    workers[1].kill()
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    (run_dir,) = tmp_path.iterdir()
    log = (run_dir / "log.txt").read_text()
    assert "resuming at" in log and "done: 3 kimg" in log


@pytest.mark.long
def test_a_killed_worker_ends_the_run(tmp_path):
    process = start("--outdir", tmp_path, *SHARED, "--gpus", "2", "--kimg", "60")
    while not list(tmp_path.glob("*/stats.jsonl")):
        time.sleep(0.05)
        assert process.poll() is None
    workers = [p for p in psutil.Process(process.pid).children(recursive=True) if "--gpus" in p.cmdline()]
    workers[-1].kill()
    killed = time.monotonic()
    output = process.communicate(timeout=90)[0]
    assert process.returncode != 0 and time.monotonic() - killed < 60
    assert "SIGKILL" in output


@pytest.mark.long
@pytest.mark.parametrize("who", ["train.py", "torchrun"])
def test_processes_whose_parent_is_killed_save_their_state_and_end(tmp_path, who):
    process = start("--outdir", tmp_path, *SHARED, "--gpus", "2", "--kimg", "60")
    while not list(tmp_path.glob("*/stats.jsonl")):
        time.sleep(0.05)
        assert process.poll() is None
    started = psutil.Process(process.pid).children(recursive=True)
    (process if who == "train.py" else started[0]).kill()
    assert len(started) >= 3 and not psutil.wait_procs(started, timeout=60)[1]
    process.communicate(timeout=60)
    (run_dir,) = tmp_path.iterdir()
    assert load_state(run_dir)["counters"]["cur_nimg"] >= 1000


def test_torchrun_adds_nothing_to_the_errors_of_the_processes(tmp_path):
    script = tmp_path / "fails.py"
    script.write_text("import os\nos.write(2, b'fails.py: error: no luck\\n')\nraise SystemExit(1)\n")
    command = [sys.executable, ROOT / "torch_utils" / "torchrun.py", "--standalone", "--nproc-per-node=2", script]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=one_thread())
    assert ended.returncode == 1 and set(ended.stderr.splitlines()) == {"fails.py: error: no luck"}


def test_processes_on_a_cpu_share_the_cores(tmp_path, monkeypatch):
    """torchrun's own default is one thread per process."""
    script = tmp_path / "threads.py"
    script.write_text(
        "import os, sys\nopen(sys.argv[1] + os.environ['RANK'], 'w').write(os.environ['OMP_NUM_THREADS'])\n"
    )
    handlers = {number: signal.getsignal(number) for number in stop_signals()}
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / "rank")])
    monkeypatch.setattr(launch, "cpu_cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with pytest.raises(SystemExit) as ended:
        launch.launch(2, "cpu")
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert ended.value.code == 0
    assert [(tmp_path / f"rank{rank}").read_text() for rank in range(2)] == ["3", "3"]


def test_replicas_that_differ_are_detected(tmp_path):
    """One bit of one tensor differs; every process prints one line."""
    script = tmp_path / "replicas.py"
    script.write_text(
        "import sys, torch\n"
        "from torch_utils import distributed\n"
        "distributed.init('cpu')\n"
        "tensors = [torch.ones(3), torch.ones(2, 2)]\n"
        "distributed.check_replicas(tensors)\n"
        "assert distributed.gather(distributed.rank()) == [0, 1]\n"
        "tensors[1][1, 1] += distributed.rank() * 2.0**-23\n"
        "try:\n"
        "    distributed.check_replicas(tensors)\n"
        "except FloatingPointError as error:\n"
        "    print(error, flush=True)\n"
        "distributed.finish()\n"
    )
    command = [sys.executable, *TORCHRUN, str(script)]
    result = subprocess.run(command, env=one_thread(PYTHONPATH=str(ROOT)), capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("differ: their results cannot be trusted") == 2


@pytest.mark.skipif(
    torch.cuda.is_available() or torch.backends.mps.is_available(), reason="needs a machine without GPU"
)
def test_several_processes_without_a_gpu_are_announced(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(launch, "launch", lambda count, device: sys.exit(0))
    monkeypatch.setattr(sys, "argv", ["train.py"])
    for more, said in (([], 1), (["--device", "cpu"], 0)):
        with pytest.raises(SystemExit):
            run_here("--outdir", tmp_path, *TINY, "--gpus", "2", *more)
        assert capsys.readouterr().err.count("no GPU was found: --gpus 2") == said
