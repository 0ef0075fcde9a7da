"""A run survives kills at random moments, a full disk, and numbers that are not finite."""

import itertools
import json
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from places import ROOT
from train_runs import TERMS, TINY, assert_same_weights, finish, start, weights, write_images

from stylegan2_adamix.adaptivemix import AdaptiveMix
from stylegan2_adamix.gradients import FlatGradient
from training import training_loop
from training.dataset import open_dataset
from training.run_dir import cut_back
from training.state import NAME, load_state
from training.tick import strength_remarks

TINY = [*TINY, "--snap", "4"]


def check_kills(tmp_path, options, kills, patience):
    """Kill a run `kills` times; it must end with the weights of an uninterrupted run.

    Each kill comes within `patience` times the seconds that this machine takes from a start to the first state.
    """
    undisturbed = start("--outdir", tmp_path / "whole", *options)
    rng = random.Random(0)
    args, done, longest, began = ["--outdir", tmp_path / "killed", *options], 0, None, time.monotonic()
    for _ in range(3 * kills):
        process = start(*args)
        while process.poll() is None and not list((tmp_path / "killed").glob(f"*/{NAME}")):
            time.sleep(0.02)
        longest = longest or patience * (time.monotonic() - began)
        time.sleep(rng.uniform(0.0, longest))
        if process.poll() is None:
            process.send_signal(rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
            done += 1
        process.communicate(timeout=300)
        args = ["--resume", "latest", "--outdir", tmp_path / "killed"]
        if done == kills:
            break
    code, output = finish(*args)
    assert code == 0, output
    assert undisturbed.communicate(timeout=600) and undisturbed.returncode == 0
    (whole,), (killed,) = (list((tmp_path / name).iterdir()) for name in ("whole", "killed"))
    assert_same_weights(killed, whole)
    kimg, undisturbed_kimg = (
        [json.loads(line)["Progress/kimg"]["mean"] for line in (run / "stats.jsonl").read_text().splitlines()]
        for run in (killed, whole)
    )
    assert kimg == sorted(set(kimg)) and kimg[-1] == undisturbed_kimg[-1] >= float(options[options.index("--kimg") + 1])
    assert done == kills


@pytest.mark.long
def test_twenty_kills_change_no_bit(tmp_path):
    """By SIGKILL, SIGTERM or SIGINT. The run resumes each time and ends like an uninterrupted one."""
    check_kills(tmp_path, [*TINY, *TERMS, "--kimg", "6", "--state-minutes", "0.005"], 20, 1.5)


def kimg_within(seconds, outdir, options):
    """The kimg, from 3 to 10, that this machine trains in `seconds`, by the statistics of a short run."""
    code, output = finish("--outdir", outdir, *options, "--metrics", "none", "--kimg", "0.25")
    assert code == 0, output
    (path,) = outdir.glob("*/stats.jsonl")
    rate = json.loads(path.read_text().splitlines()[-1])["Timing/sec_per_kimg"]["mean"]
    return max(3, min(10, round(seconds / rate)))


@pytest.mark.long
def test_kills_of_a_real_demo_change_no_bit(tmp_path):
    """At 32x32, with snapshots and metrics; kills may hit their writing too. About two minutes of training."""
    options = ["--cfg", "demo", "--adamix", "--metrics", "fd_effnet200_full", "--snap", "1", "--state-minutes", "0.05"]
    kimg = kimg_within(120, tmp_path / "rate", options)
    check_kills(tmp_path, [*options, "--kimg", str(kimg)], 12, 2)


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


@pytest.mark.long
def test_a_run_whose_disk_stays_full_trains_to_its_end_and_then_fails(tmp_path):
    """No file can exceed 100 kB, so snapshots and states cannot be written."""

    open_dataset("twemoji", 8).draw()  # drawn and cached before the limit applies

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    code, output = finish("--outdir", tmp_path, *TINY, "--kimg", "1", "--snap", "1", preexec_fn=small_files)
    (run_dir,) = tmp_path.iterdir()
    assert code == 1 and "error: training is over, but the networks and their training state" in output, output
    assert "could not write network-snapshot-000001.safetensors" in (run_dir / "log.txt").read_text()
    assert "could not write training-state.pt" in output and "tick 1" in output
    assert not list(run_dir.glob("*.safetensors")) and not (run_dir / NAME).exists()
    assert not list(run_dir.glob(".*.tmp"))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB, and `remount(options)`."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk needs root")

    def remount(options):
        command = ["mount", "-o", f"remount,{options}", disk]
        for _ in range(100):  # refused while a file is open for writing
            if subprocess.run(command, capture_output=True).returncode == 0:
                return
            time.sleep(0.05)
        raise AssertionError(f"{command} was refused a hundred times")

    try:
        yield disk, remount
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_run_tries_a_full_disk_again_at_the_next_interval(small_disk, tmp_path):
    disk, remount = small_disk
    data = write_images(tmp_path / "data", [8] * 9)
    quick = ["--data", data, "--aug", "noaug", "--batch", "64", "--batch-gpu", "64"]
    options = [*TINY, *quick, "--kimg", "30", "--snap", "1", "--state-minutes", "0.01"]
    process = start("--outdir", disk / "runs", *options)

    patience = threading.Timer(120, process.kill)
    patience.start()

    def wait_for(words):
        line = next((line for line in process.stdout if all(word in line for word in words)), None)
        assert line is not None, f"the run ended before it said {words}"

    wait_for(["could not write training-state.pt", "No space left on device"])
    assert not list(disk.glob("runs/*/*.safetensors")) and not list(disk.glob("runs/*/.*.tmp"))
    remount("size=200m")
    wait_for(["tick"])
    deadline = time.monotonic() + 60
    while not list(disk.glob(f"runs/*/{NAME}")) or not list(disk.glob("runs/*/*.safetensors")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0].count("to continue") == 1 and process.returncode == 130
    patience.cancel()
    (run_dir,) = (disk / "runs").iterdir()
    assert load_state(run_dir)["counters"]["cur_nimg"] > 0


def test_a_line_is_written_completely_or_not_at_all(tmp_path):
    program = (
        "import resource, sys\n"
        "from dnnlib.util import append_line\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
        "append_line(sys.argv[1], 'first line')\n"
        "try:\n"
        "    append_line(sys.argv[1], 'second line')\n"
        "except OSError:\n"
        "    print('refused')\n"
    )
    path = tmp_path / "lines"
    command = [sys.executable, "-c", program, path]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.stdout == "refused\n" and path.read_text() == "first line\n", result.stderr


def test_damaged_lines_are_left_out(tmp_path):
    whole = {"Progress/kimg": {"mean": 1.0}, "Loss/strength/adamix": {"mean": 0.001}}
    (tmp_path / "stats.jsonl").write_bytes(json.dumps(whole).encode() + b'\n{"Progress/kimg": \xff\n')
    with open(tmp_path / "stats.jsonl", "a") as file:
        file.write("[1]\n" + '{"x":' * 100000 + '\n{"Progress/kimg": {"mean": 1%s}}\n' % ("0" * 400))
    (remark,) = strength_remarks(tmp_path)
    assert "negligible" in remark
    cut_back(tmp_path, 2)
    assert json.loads((tmp_path / "stats.jsonl").read_text()) == whole


def test_a_vanished_directory_does_not_interrupt_training(tmp_path):
    data = write_images(tmp_path / "data", [8] * 9)
    process = start("--outdir", tmp_path / "runs", *TINY, "--data", data, "--kimg", "0.2")
    while not list((tmp_path / "runs").glob("*/events.*")):
        time.sleep(0.05)
        assert process.poll() is None
    (tmp_path / "runs").rename(tmp_path / "gone")
    output = process.communicate(timeout=120)[0]
    assert "could not write" in output, output
    written = list(tmp_path.glob(f"runs/*/{NAME}")) and list(tmp_path.glob("runs/*/*.safetensors"))
    assert process.returncode == (0 if written else 1)  # TensorBoard's writer makes the directory again


def spoil_adaptivemix(monkeypatch, spoilt):
    """Make AdaptiveMix's distance NaN at the calls, counted from 0, for which `spoilt(i)` is true."""
    distance, calls = AdaptiveMix.distance, itertools.count()

    def spoilt_distance(self, target, hard):
        value = distance(self, target, hard)
        return value * torch.nan if spoilt(next(calls)) else value

    monkeypatch.setattr(AdaptiveMix, "distance", spoilt_distance)


def test_one_loss_that_is_not_finite_is_skipped_counted_and_named(tmp_path, monkeypatch):
    import train

    spoil_adaptivemix(
        monkeypatch, lambda i: i == 7
    )  # two calls a step, after those of the estimate: about the third step
    train.main.main(["--outdir", str(tmp_path), *TINY, "--adamix", "--kimg", "0.16"], standalone_mode=False)
    (run_dir,) = tmp_path.iterdir()
    assert re.search(r"adamix in Dmain was not finite 1 time\(s\), first at step \d", (run_dir / "log.txt").read_text())
    line = json.loads((run_dir / "stats.jsonl").read_text().splitlines()[-1])
    bad = line["Progress/bad_losses"]
    assert round(bad["num"] * bad["mean"]) == 1
    assert all(w.isfinite().all() for w in weights(run_dir).values())


def test_losses_that_stay_not_finite_end_the_run_and_leave_the_last_state(tmp_path, monkeypatch):
    import train

    args = ["--outdir", str(tmp_path), *TINY, "--adamix", "--kimg"]
    train.main.main([*args, "0.016"], standalone_mode=False)
    (run_dir,) = tmp_path.iterdir()
    before = (run_dir / NAME).read_bytes()
    spoil_adaptivemix(monkeypatch, lambda i: True)
    with pytest.raises(
        Exception, match=r"not finite for 20 updates, up to Dmain at step \d+ \(adamix in Dmain"
    ) as caught:
        train.main.main(["--resume", str(run_dir), "--kimg", "3.2"], standalone_mode=False)
    assert type(caught.value).__name__ == "RunFailed" and caught.value.exit_code == 1
    assert (run_dir / NAME).read_bytes() == before


def poisoned(value):
    """A hook that puts `value` into one entry of a gradient."""

    def hook(gradient):
        gradient = gradient.clone()
        gradient.view(-1)[0] = value
        return gradient

    return hook


@pytest.mark.parametrize("value, becomes", [(torch.nan, 0), (torch.inf, 1e5), (-torch.inf, -1e5)])
def test_an_entry_that_is_not_finite_is_replaced_and_counted(value, becomes):
    p, other = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))
    gradient = FlatGradient([p, other])
    gradient.add((p * torch.tensor([1.5, value, -2.0])).sum(), torch.tensor(False))
    assert gradient.finish() == 1
    assert p.grad.tolist() == [1.5, becomes, -2.0] and other.grad is None


def test_a_streak_of_bad_gradients_ends_the_run_and_names_the_phase_and_the_step(tmp_path, monkeypatch):
    import train

    built, build_networks = [], training_loop.build_networks

    def build(*args):
        networks = build_networks(*args)
        weight = networks.D.b4.out.weight.requires_grad_()
        weight.register_hook(poisoned(torch.nan))
        weight.requires_grad_(False)
        built.append(networks)
        return networks

    monkeypatch.setattr(training_loop, "build_networks", build)
    with pytest.raises(Exception, match=r"not finite for 20 updates, up to D\w+ at step \d+") as caught:
        train.main.main(["--outdir", str(tmp_path), *TINY, "--kimg", "1"], standalone_mode=False)
    assert type(caught.value).__name__ == "RunFailed"
    assert all(p.isfinite().all() for p in built[0].D.parameters())
