"""However a run ends, its state is saved once if there is a good one, and the log describes it correctly."""

import copy
import errno
import itertools
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from places import ROOT
from train_runs import TERMS, TINY, assert_same_weights, dry_run, flat, make_run, run_here, take_steps, write_images

from dnnlib.util import RunFailed, UserError
from torch_utils import stop as stopping
from torch_utils.stop import Stopped, StopRequest
from training import ending, estimate, nearest, starting, state, training_loop
from training.progress import Recorder
from training.reporting import report
from training.run_dir import new_run_dir
from training.state import NAME, load_state
from training.step import TrainingStep


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Options of the smallest run, on a folder of images."""
    return [*TINY, "--data", write_images(tmp_path_factory.mktemp("data") / "data", [8] * 9), "--workers", "0"]


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(ending, "PAUSE_SECONDS", 0)


def run_of(outdir):
    (run_dir,) = outdir.iterdir()
    return run_dir


def log_of(outdir):
    return (run_of(outdir) / "log.txt").read_text()


def signal_at_step(monkeypatch, number, step, then=lambda: None):
    """Send a signal in the middle of this step of every later run."""
    update = TrainingStep.update_average

    def update_average(self):
        if self.position.cur_step == step:
            os.kill(os.getpid(), number)
            time.sleep(0.01)  # another thread may take it
            then()
        update(self)

    monkeypatch.setattr(TrainingStep, "update_average", update_average)


# ---- signals


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_closed_terminal_stops_the_run_with_its_state(tmp_path, options, monkeypatch):
    signal_at_step(monkeypatch, signal.SIGHUP, 2)
    with pytest.raises(SystemExit) as ended:
        run_here("--outdir", tmp_path, *options, "--kimg", "0.08")
    assert ended.value.code == 129
    assert load_state(run_of(tmp_path))["counters"]["cur_step"] == 3
    assert "SIGHUP: saving the last finished step" in log_of(tmp_path)


def test_a_hangup_that_is_ignored_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_handler_prints_nothing(tmp_path):
    """Output from the handler could appear in the middle of another line."""
    with StopRequest() as stop:
        said = []

        def say(line):
            signal.raise_signal(signal.SIGTERM)
            said.append(line)

        signal.raise_signal(signal.SIGTERM)
        assert said == []
        for _ in range(2):
            stop.obey(False, say)
        with pytest.raises(Stopped):
            stop.obey(True, say)
        assert len(said) == 1 and said[0].startswith("SIGTERM: saving")


def test_a_second_sigterm_does_not_lose_the_state_that_is_being_written(tmp_path, options, monkeypatch):
    ended, write, send = [], state.save_state, os.kill

    def save(*args):
        signal.raise_signal(signal.SIGTERM)
        write(*args)

    def kill(pid, number):
        if number == 0:  # a library asks whether a process lives
            send(pid, 0)
        else:
            ended.append((number, (run_of(tmp_path) / NAME).exists()))

    monkeypatch.setattr(stopping, "SAME_SECONDS", 0)
    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(state, "save_state", save)
    monkeypatch.setattr(training_loop.Run, "choose_threads", lambda run: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit):
        run_here("--outdir", tmp_path, *options, "--kimg", "0.08")
    assert ended == [(signal.SIGTERM, True)]


def test_a_hangup_after_ctrl_c_does_not_interrupt_saving(monkeypatch):
    monkeypatch.setattr(stopping.time, "monotonic", itertools.count(0, 10).__next__)  # ten seconds between signals
    with StopRequest() as stop:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            signal.raise_signal(number)
        assert stop.signal == signal.SIGINT


def test_a_stop_does_not_wait_for_the_compiler_or_for_the_first_estimate(tmp_path, options, monkeypatch):
    """Both can take minutes before the first step."""

    def estimate_for_ever(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(estimate, "seconds_per_step", estimate_for_ever)
    began = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        run_here("--outdir", tmp_path, *options, "--kimg", "0.08")
    assert ended.value.code == 143 and time.monotonic() - began < 50
    assert load_state(run_of(tmp_path))["counters"]["cur_step"] == 0


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="this system has no signal masks")
def test_a_signal_to_the_group_stops_the_run_but_not_the_compilers_processes():
    program = (
        "import os, signal, subprocess, sys, time\n"
        "from torch_utils.stop import StopRequest, kept_from_children\n"
        "with StopRequest() as stop, kept_from_children():\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(0.5); print(1)'])\n"
        "    time.sleep(0.2)\n"
        "    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
        "        os.killpg(0, number)\n"
        "    assert child.wait() == 0\n"
        "    print(bool(stop))\n"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, start_new_session=True, timeout=60)
    assert ended.stdout == "1\nTrue\n", ended.stderr


def test_an_error_of_the_compiler_after_a_signal_is_a_stop(tmp_path, options, monkeypatch):
    """Ctrl-C also ends the compiler's processes, and the step that waits for them raises an error."""

    def broken():
        raise RuntimeError("CppCompileError")

    monkeypatch.setattr(TrainingStep, "compile", lambda self, log: None)
    signal_at_step(monkeypatch, signal.SIGINT, 0, then=broken)
    with pytest.raises(SystemExit) as ended:
        run_here("--outdir", tmp_path, *options, "--kimg", "0.08", "--compile", "1")
    assert ended.value.code == 130
    assert load_state(run_of(tmp_path))["counters"]["cur_step"] == 0


# ---- errors


def test_an_error_between_two_steps_saves_the_run_once(tmp_path, options, monkeypatch):
    def fail(*args):
        raise KeyError("no such luck")

    saved, save = [], state.save_state
    monkeypatch.setattr(state, "save_state", lambda *args: (saved.append(1), save(*args)))
    with monkeypatch.context() as context:
        context.setattr(Recorder, "line", fail)
        with pytest.raises(KeyError):
            run_here("--outdir", tmp_path, *options, "--kimg", "0.032")
    run_dir = run_of(tmp_path)
    assert len(saved) == 1 and load_state(run_dir)["counters"]["cur_nimg"] == 32
    assert f"KeyError at 0.032 kimg; to continue: python train.py --resume {run_dir}" in log_of(tmp_path)
    run_here("--resume", run_dir, "--kimg", "0.048")
    whole = run_here("--outdir", tmp_path / "whole", *options, "--kimg", "0.048")
    assert_same_weights(run_dir, whole)


def test_an_error_within_a_step_keeps_the_last_state(tmp_path, options, monkeypatch):
    def fail():
        raise KeyError("no such luck")

    run_dir = run_here("--outdir", tmp_path, *options, "--kimg", "0.016")
    before = (run_dir / NAME).read_bytes()
    signal_at_step(monkeypatch, signal.SIGWINCH, 3, then=fail)
    with pytest.raises(KeyError):
        run_here("--resume", run_dir, "--kimg", "0.08")
    assert (run_dir / NAME).read_bytes() == before
    with pytest.raises(KeyError):
        run_here("--outdir", tmp_path / "other", *options, "--kimg", "0.08")
    assert "KeyError at 0.024 kimg" in log_of(tmp_path / "other")
    assert "holds no state to continue from" in log_of(tmp_path / "other")


def test_an_error_while_speed_is_measured_does_not_change_the_state(tmp_path, options, monkeypatch):
    """A run sometimes measures its speed between two steps. These losses must not enter its averages."""
    run = make_run(tmp_path, *options)
    take_steps(run, 1)
    before = copy.deepcopy(flat(run.state()))
    muted, measured = estimate.training_stats.muted, []

    def fail_after_two_phases():
        measured.append(1)
        if len(measured) == 3:
            raise KeyError("no such luck")
        return muted()

    monkeypatch.setattr(estimate.training_stats, "muted", fail_after_two_phases)
    with pytest.raises(KeyError):
        run._seconds_per_step()
    after = flat(run.state())
    tensors = [name for name, value in before.items() if isinstance(value, torch.Tensor)]
    assert tensors and all(torch.equal(before[name], after[name]) for name in tensors)


@pytest.mark.parametrize("error", [ZeroDivisionError(), UserError("no such luck"), MemoryError(), OSError(28, "full")])
def test_an_error_of_the_report_ends_no_run(tmp_path, options, monkeypatch, error):
    def fail(*args, **names):
        raise error

    monkeypatch.setattr(report, "write_report", fail)
    monkeypatch.setattr(nearest, "NearestImages", fail)
    monkeypatch.setattr(Recorder, "scalars", fail)
    run_dir = run_here("--outdir", tmp_path, *options, "--kimg", "0.016", "--metrics", "lipschitz8")
    lines = (run_dir / "log.txt").read_text().splitlines()
    assert sum("done: 0.016 kimg" in line for line in lines) == 1
    for what in ("report.html", "nearest training images", "TensorBoard"):
        assert any(line.startswith(("could not make " + what, "could not write " + what)) for line in lines)


# ---- the disk


def refuse(monkeypatch, module, name, times):
    """The function `name` of `module` meets a full disk `times` times."""
    write, calls = getattr(module, name), []

    def refusing(*args):
        calls.append(1)
        if len(calls) <= times:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*args)

    monkeypatch.setattr(module, name, refusing)


def test_a_run_finishes_if_a_later_attempt_to_write_succeeds(tmp_path, options, monkeypatch, no_pause):
    from training import tick

    refuse(monkeypatch, state, "save_state", 2)
    refuse(monkeypatch, tick, "save_snapshot", 2)
    run_dir = run_here("--outdir", tmp_path, *options, "--kimg", "0.016")
    assert (run_dir / "network-snapshot-000000.safetensors").exists() and (run_dir / NAME).exists()


def test_a_run_fails_if_the_disk_stays_full(tmp_path, options, monkeypatch, no_pause):
    from training import tick

    with monkeypatch.context() as context:
        refuse(context, state, "save_state", 99)
        refuse(context, tick, "save_snapshot", 99)
        with pytest.raises(RunFailed, match="the networks and their training state could not be written: make room"):
            run_here("--outdir", tmp_path, *options, "--kimg", "0.016")
        assert "done" not in log_of(tmp_path)
    with monkeypatch.context() as context:
        refuse(context, tick, "save_snapshot", 99)
        with pytest.raises(
            RunFailed, match="the networks could not be written: make room there; to continue: python"
        ) as failed:
            run_here("--outdir", tmp_path / "b", *options, "--kimg", "0.016")
        assert failed.value.exit_code == 1
    run_dir = run_here("--resume", run_of(tmp_path / "b"))
    assert (run_dir / "network-snapshot-000000.safetensors").exists()


def test_a_stop_on_a_full_disk_names_no_missing_state(tmp_path, options, monkeypatch, no_pause):
    refuse(monkeypatch, state, "save_state", 99)
    monkeypatch.setattr(training_loop.Run, "choose_threads", lambda run: signal.raise_signal(signal.SIGINT))
    with pytest.raises(RunFailed, match="could not be saved: .* holds no state to continue from"):
        run_here("--outdir", tmp_path, *options, "--kimg", "0.016")
    assert "to continue" not in log_of(tmp_path).replace("to continue from", "")


def test_a_start_that_is_refused_leaves_no_run_directory(tmp_path, options, monkeypatch):
    refuse(monkeypatch, starting, "write_json", 1)
    with pytest.raises(OSError, match="No space left"):
        run_here("--outdir", tmp_path / "runs", *options, "--kimg", "0.016")
    assert not list((tmp_path / "runs").iterdir())


def test_the_run_name_is_short_enough_with_long_data_names_and_every_term(tmp_path):
    data = write_images(tmp_path / ("\U0001f642" * 63), [8] * 9)
    usual = ["--data", data, "--workers", "0", "--cond", "0", "--mirror", "1", "--subset", "5", "--gamma", "0.1234567"]
    options = dry_run(tmp_path, *TINY, *TERMS, *usual, "--adamix-variant", "official", "--label-smoothing", "0.1234567")
    assert len(options["run"]["name"].encode()) <= 200 and options["run"]["name"].startswith(
        "\U0001f642" * 40 + "-demo-"
    )
    assert new_run_dir(tmp_path / "runs", options["run"]["name"]).is_dir()
    with pytest.raises(UserError, match="give a shorter --outdir"):
        new_run_dir(tmp_path / "runs", "x" * 300)
