"""train.py and generate.py as a user runs them, at 8x8 with the demo's networks."""

import copy
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest
import torch
from places import GOLDEN, ROOT
from train_runs import (
    TERMS,
    TINY,
    assert_same_state,
    assert_same_weights,
    dry_run,
    edited,
    make_run,
    refusal,
    run_here,
    start,
    weights,
    write_images,
)

import generate
import train
from dnnlib.util import RunFailed, UserError
from dnnlib.version import program
from metrics import compute, detectors
from torch_utils.stop import Stopped
from training import estimate, run_dir, tick, training_loop
from training.arguments import Arguments
from training.options import from_values, set_by_length
from training.planning import plan_run
from training.presets import PRESETS
from training.progress import Progress
from training.run_dir import OPTIONS
from training.snapshot import class_names, load_networks
from training.state import load_state, save_state
from training.tick import Best, delete_old_snapshots


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 0.32 kimg with every term on: 20 steps."""
    return run_here("--outdir", tmp_path_factory.mktemp("runs"), *TINY, *TERMS, "--kimg", "0.32")


# ---- a run and its directory


def test_names_of_classes_are_in_the_log_the_options_the_snapshot_and_the_report(tmp_path):
    for name in ("10", "9", "cats"):
        write_images(tmp_path / "data" / name, [8] * 3)
    args = [*TINY, "--data", tmp_path / "data", "--cond", "1", "--workers", "0", "--kimg", "0.008"]
    run = run_here("--outdir", tmp_path / "runs", *args)
    assert "classes: 0 9, 1 10, 2 cats\n" in (run / "log.txt").read_text()
    assert json.loads((run / OPTIONS).read_text())["data"]["dataset"]["class_names"] == ["9", "10", "cats"]
    assert class_names(load_networks(run / "network-snapshot-000000.safetensors")) == ["9", "10", "cats"]
    assert "0 9, 1 10, 2 cats" in (run / "report.html").read_text()


def test_a_run_directory_holds_all_files_of_a_run(finished):
    names = {path.name for path in finished.iterdir()}
    assert {
        "training_options.json",
        "log.txt",
        "stats.jsonl",
        "reals.png",
        "fakes_init.png",
        "fakes000000.png",
    } <= names
    assert {"network-snapshot-000000.safetensors", "training-state.pt"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert finished.name == "00000-twemoji-demo-adamix-sdp-aw-apa-dataaug-lecam3e-07-batch8"
    assert not any(name.endswith((".tmp", ".new")) for name in names)


def test_every_term_reports_its_numbers(finished):
    line = json.loads((finished / "stats.jsonl").read_text().splitlines()[-1])
    for prefix in (
        "Loss/adamix",
        "Loss/sdp",
        "Loss/aw",
        "Loss/lecam",
        "Loss/scores",
        "Loss/G/loss",
        "Progress/augment",
    ):
        assert any(key.startswith(prefix) for key in line), prefix
    assert line["Loss/G/loss"].keys() == {"num", "mean", "std"} and line["Loss/G/loss"]["num"] == 320
    cases = sum(value["mean"] for key, value in line.items() if key.startswith("Loss/aw/case/"))
    assert cases == pytest.approx(1)


def test_equal_seeds_give_equal_weights(finished, tmp_path):
    assert_same_weights(finished, run_here("--outdir", tmp_path, *TINY, *TERMS, "--kimg", "0.32"))


def test_a_resumed_run_has_the_weights_of_an_uninterrupted_run(finished, tmp_path):
    half = run_here("--outdir", tmp_path, *TINY, *TERMS, "--kimg", "0.16")
    assert run_here("--resume", "latest", "--outdir", tmp_path, "--kimg", "0.32") == half
    assert_same_weights(finished, half)


def test_another_seed_gives_other_weights(finished, tmp_path):
    other = weights(run_here("--outdir", tmp_path, *TINY, *TERMS, "--kimg", "0.016", "--seed", "1"))
    assert not torch.equal(other["G/synthesis.b4.const"], weights(finished)["G/synthesis.b4.const"])


def test_conditional_runs_resume_exactly(tmp_path):
    common = [
        "--cond",
        "1",
        "--aug",
        "noaug",
        "--adamix",
        "--adamix-pairs",
        "cross",
        "--mirror",
        "1",
        "--subset",
        "100",
    ]
    whole = run_here("--outdir", tmp_path / "a", *TINY, *common, "--kimg", "0.096")
    half = run_here("--outdir", tmp_path / "b", *TINY, *common, "--kimg", "0.048")
    run_here("--resume", half, "--kimg", "0.096")
    assert_same_weights(whole, half)


def test_runs_with_microbatches_and_path_length_resume_exactly(tmp_path, monkeypatch):
    monkeypatch.setitem(
        PRESETS, "stylegan2", dataclasses.replace(PRESETS["stylegan2"], channel_base=512, channel_max=32)
    )
    common = ["--cfg", "stylegan2", "--batch", "2", "--batch-gpu", "1", "--resolution", "8", "--metrics", "none"]
    data = write_images(tmp_path / "data", [8] * 5)
    whole = run_here("--outdir", tmp_path / "a", *common, "--data", data, "--workers", "1", "--kimg", "0.004")
    half = run_here("--outdir", tmp_path / "b", *common, "--data", data, "--workers", "1", "--kimg", "0.002")
    run_here("--resume", half, "--kimg", "0.004")
    assert_same_weights(whole, half)


def test_ctrl_c_saves_the_run_and_it_resumes_exactly(finished, tmp_path):
    process = start("--outdir", tmp_path, *TINY, *TERMS, "--kimg", "0.32", env=None)  # as many threads as `finished`
    for _ in range(600):
        logs = list(tmp_path.glob("*/log.txt"))
        if logs and "estimated" in logs[0].read_text():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 130 and "to continue: python train.py --resume" in output, output
    run_dir = next(tmp_path.iterdir())
    run_here("--resume", run_dir)
    assert_same_weights(finished, run_dir)


def test_a_stop_before_the_first_step_saves_a_state(finished, tmp_path, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(training_loop.Run, "choose_threads", lambda run: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(SystemExit) as stopped:
            run_here("--outdir", tmp_path, *TINY, *TERMS, "--kimg", "0.32")
    assert stopped.value.code == 143
    (run_dir,) = tmp_path.iterdir()
    assert load_state(run_dir)["counters"]["cur_nimg"] == 0
    run_here("--resume", run_dir)
    assert_same_weights(run_dir, finished)


def test_a_resumed_run_repeats_no_line(finished, tmp_path):
    """Lines that are newer than the state are removed before the run continues."""
    half = run_here("--outdir", tmp_path, *TINY, "--kimg", "0.16")
    with open(half / "stats.jsonl", "a") as file:
        file.write(json.dumps({"Progress/kimg": {"num": 1, "mean": 0.2, "std": 0}}) + "\n" + '{"Progress/ki')
    later, exported = ({"snapshot": f"{name}.safetensors"} for name in ("network-snapshot-000099", "best-2"))
    (half / "metric-x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (later, exported)))
    run_here("--resume", half, "--kimg", "0.32")
    kimg = [json.loads(line)["Progress/kimg"]["mean"] for line in (half / "stats.jsonl").read_text().splitlines()]
    assert kimg == sorted(set(kimg)) and kimg[-1] == 0.32
    assert (half / "metric-x.jsonl").read_text() == json.dumps(exported) + "\n"  # nothing would measure it again


def test_resume_auto_continues_the_run_of_the_same_command(tmp_path):
    command = ["--outdir", tmp_path, *TINY, "--adamix", "--resume", "auto", "--kimg"]
    first = run_here(*command, "0.032")
    assert run_here(*command, "0.064") == first  # it has not reached so many images
    other = run_here(*command, "0.064")
    assert other != first  # finished, so the command starts a new run
    assert run_here(*command, "0.096", "--gamma", "3").name.startswith("00002")  # another setting is another run
    run_here(*command, "0.096")
    assert len(list(tmp_path.iterdir())) == 3
    whole = run_here("--outdir", tmp_path / "whole", *TINY, "--adamix", "--kimg", "0.096")
    assert_same_weights(whole, other)


def test_a_resumed_run_may_have_smaller_microbatches_for_a_smaller_gpu_or_more_processes(tmp_path, capsys):
    run_dir = run_here("--outdir", tmp_path, *TINY, *TERMS, "--kimg", "0.016")

    def resumed(*args):
        return dry_run(tmp_path, "--resume", run_dir, *args)["run"]["batch_gpu"]

    assert (resumed(), resumed("--batch-gpu", "2"), resumed("--gpus", "2")) == (8, 2, 4)
    assert "2 processes: microbatches of 4 images, not of 8" in capsys.readouterr().err
    assert "microbatches of 8: give --batch-gpu" in refusal(
        train.main, "--resume", run_dir, "--gpus", "2", "--batch-gpu", "8"
    )
    assert "--batch-gpu 2" in refusal(train.main, "--resume", run_dir, "--batch-gpu", "1")  # nothing to mix
    again = run_here("--outdir", tmp_path, *TINY, *TERMS, "--resume", "auto", "--batch-gpu", "4", "--kimg", "0.032")
    assert again == run_dir and load_state(run_dir)["counters"]["cur_nimg"] == 32


def test_resume_auto_continues_a_run_whose_rates_decay_to_another_length(tmp_path):
    command = [
        "--outdir",
        tmp_path,
        *TINY,
        "--cfg",
        "sngan",
        "--resolution",
        "32",
        "--aug",
        "noaug",
        "--resume",
        "auto",
    ]
    first = run_here(*command, "--kimg", "0.016")
    assert "nothing is learned after that" not in (first / "log.txt").read_text()
    assert run_here(*command, "--kimg", "0.032") == first
    assert "the learning rates are 0 from 0.016 kimg on" in (first / "log.txt").read_text()
    assert run_here(*command, "--kimg", "0.048", "--decay-kimg", "9") != first


def test_the_newest_run_of_another_directory_is_resumed_by_name(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "mine" / finished.name)
    assert dry_run(tmp_path, "--resume", tmp_path / "mine" / "latest")["run"]["resume"] is None
    assert f"{tmp_path} holds no run" in refusal(train.main, "--resume", tmp_path / "latest")


def test_resume_auto_accepts_other_metrics_even_if_they_use_no_detector(tmp_path):
    script = torch.jit.trace(
        lambda images: images.float().mean(dim=(2, 3)), torch.zeros([4, 3, 8, 8], dtype=torch.uint8)
    )
    script.save(str(tmp_path / "mine.pt"))
    few = [*TINY, "--subset", "16"]
    command = ["--outdir", tmp_path / "runs", *few, "--detector", tmp_path / "mine.pt", "--resume", "auto"]
    run_dir = run_here(*command, "--metrics", "fd_user16_full", "--kimg", "0.016")
    options = json.loads((run_dir / OPTIONS).read_text())
    (run_dir / OPTIONS).write_text(json.dumps(edited(options, "run", name="as-an-earlier-version-called-it")))
    assert run_here(*command, "--metrics", "none", "--kimg", "0.032") == run_dir
    other = run_here("--outdir", tmp_path / "other", *TINY, "--kimg", "0.016")
    assert "give --detector" in refusal(train.main, "--resume", other, "--metrics", "fd_user16_full")


class WritesAFile(torch.nn.Module):
    """A detector that makes a file when it runs, as TorchScript can."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def forward(self, images):
        return images.flatten(1).float()[:, :2] + torch.from_file(self.path, shared=True, size=2)


@pytest.mark.parametrize("metric", ["fd_user16_full", "fid16_full"])
def test_a_detector_runs_only_if_the_command_line_names_it(finished, tmp_path, monkeypatch, metric):
    torch.jit.script(WritesAFile(str(tmp_path / "written"))).save(tmp_path / "evil.pt")
    run_dir = shutil.copytree(finished, tmp_path / finished.name)
    options = json.loads((run_dir / OPTIONS).read_text())
    (run_dir / OPTIONS).write_text(json.dumps(edited(options, "run", detector="evil.pt", metrics=[metric])))
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    for more in (["--dry-run"], ["--kimg", "1"], ["--metrics", metric]):
        assert "name it with --detector evil.pt" in refusal(train.main, "--resume", run_dir, *more)
    dry_run(tmp_path, "--resume", run_dir, "--metrics", "none")
    assert not (tmp_path / "written").exists() and {path: path.read_bytes() for path in before} == before
    dry_run(tmp_path, "--resume", run_dir, "--detector", "evil.pt")
    assert (tmp_path / "written").exists()


def test_a_resumed_run_uses_the_detector_of_inception_without_its_name(finished, tmp_path, monkeypatch):
    """The SHA-256 of its file is known."""
    torch.jit.script(WritesAFile(str(tmp_path / "written"))).save(tmp_path / "known.pt")
    monkeypatch.setattr(detectors, "PACKAGED_SHA256", hashlib.sha256((tmp_path / "known.pt").read_bytes()).hexdigest())
    run_dir = shutil.copytree(finished, tmp_path / finished.name)
    options = json.loads((run_dir / OPTIONS).read_text())
    known = {"detector": str(tmp_path / "known.pt")}
    (run_dir / OPTIONS).write_text(json.dumps(edited(options, "run", **known, metrics=["fid16_full"])))
    assert dry_run(tmp_path, "--resume", run_dir)["run"]["detector"] == known["detector"]
    (run_dir / OPTIONS).write_text(json.dumps(edited(options, "run", **known, metrics=["fd_user16_full"])))
    assert "name it with --detector" in refusal(train.main, "--resume", run_dir)


def test_a_detector_that_is_a_pipe_is_refused(finished, tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    options = ["--metrics", "fid16_full", "--detector", tmp_path / "pipe.pt"]
    assert "not a regular file" in refusal(train.main, "--resume", finished, "-n", *options)


def test_after_a_damaged_state_the_one_before_is_used(tmp_path, capsys):
    run_dir = run_here("--outdir", tmp_path, *TINY, "--kimg", "0.032")
    run_here("--resume", run_dir, "--kimg", "0.048")
    state = run_dir / "training-state.pt"
    state.write_bytes(state.read_bytes()[:5000])
    run_here("--resume", run_dir, "--kimg", "0.064")
    assert "training-state.pt cannot be read" in capsys.readouterr().err
    state.write_bytes(b"")
    (run_dir / "training-state-previous.pt").write_bytes(b"x")
    assert "cannot be resumed" in refusal(train.main, "--resume", run_dir)


@pytest.mark.parametrize(
    "lack",
    [
        lambda state: [state.pop(name) for name in list(state) if name != "networks"],
        lambda state: state.pop("counters"),
        lambda state: state["counters"].pop("cur_nimg"),
        lambda state: state["counters"].update(cur_nimg="8"),
        lambda state: state["networks"].pop("G_ema"),
        lambda state: state["optimizers"].clear(),
        lambda state: state.pop("loss"),
    ],
)
def test_after_an_incomplete_state_the_one_before_is_used(lack, tmp_path):
    whole = {
        "networks": {"G": {}, "D": {}, "G_ema": {}},
        "optimizers": {"G": {}, "D": {}},
        "counters": {"cur_nimg": 8, "cur_step": 1, "tick": 0, "tick_start_nimg": 0},
        **dict.fromkeys(("augment_pipe", "loss", "bad_streak", "signs", "statistics")),
    }
    save_state(tmp_path, whole)
    damaged, said = copy.deepcopy(whole), []
    lack(damaged)
    save_state(tmp_path, damaged)
    assert load_state(tmp_path, said.append) == {"version": 1, "program": program(), **whole}
    assert "not a complete training state" in said[0] and "resuming from training-state-previous.pt" in said[0]
    (tmp_path / "training-state-previous.pt").unlink()
    with pytest.raises(UserError, match="cannot be resumed"):
        load_state(tmp_path)


def test_a_run_whose_only_state_lacks_its_counters_is_refused_and_keeps_its_statistics(finished, tmp_path):
    run_dir = shutil.copytree(finished, tmp_path / finished.name)
    state = load_state(run_dir)
    del state["counters"]
    torch.save(state, run_dir / "training-state.pt")
    before = (run_dir / "stats.jsonl").read_bytes()
    assert "counters is missing" in refusal(train.main, "--resume", run_dir)
    assert before and (run_dir / "stats.jsonl").read_bytes() == before


def test_a_state_that_ends_within_a_batch_or_has_another_best_snapshot_is_refused_in_one_line(tmp_path):
    run = make_run(tmp_path, "--kimg", "9")
    run_dir.write_json(tmp_path / OPTIONS, dataclasses.asdict(run.options))
    whole = copy.deepcopy(run.state())
    run.resume(whole)
    for part, value in (("counters", whole["counters"] | {"cur_nimg": 13}), ("best", {"metric": "x"})):
        with pytest.raises(UserError, match=f"does not fit {OPTIONS}"):
            run.resume(whole | {part: value})


@pytest.mark.parametrize("name", ["training-state.pt", OPTIONS, "stats.jsonl", "log.txt"])
def test_a_pipe_in_a_run_directory_is_refused(name, finished, tmp_path):
    run_dir = shutil.copytree(finished, tmp_path / finished.name)
    (run_dir / name).unlink()
    os.mkfifo(run_dir / name)
    assert f"{name} is a pipe" in refusal(train.main, "--resume", run_dir)
    if name == "training-state.pt":
        with pytest.raises(UserError, match="not a regular file"):
            load_state(run_dir)


def test_a_run_stopped_during_metrics_computes_the_missing_ones_on_resume(tmp_path, monkeypatch):
    measure = compute.compute_metrics

    def stopped(names, *args, **options):
        yield from measure(names[:1], *args, **options)
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr(compute, "compute_metrics", stopped)
    few = ["--data", write_images(tmp_path / "data", [8] * 16), "--workers", "0"]
    metrics = ["--metrics", "lipschitz8,lipschitz16", "--kimg", "0.016"]
    with pytest.raises(SystemExit):
        run_here("--outdir", tmp_path / "runs", *TINY, *few, *metrics)
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert not (run_dir / "metric-lipschitz16.jsonl").exists()
    monkeypatch.undo()
    run_here("--resume", run_dir)
    for name in ("lipschitz8", "lipschitz16"):
        (line,) = (run_dir / f"metric-{name}.jsonl").read_text().splitlines()
        assert json.loads(line)["snapshot"] == "network-snapshot-000000.safetensors"


def test_an_error_of_the_data_or_a_metric_saves_the_run(tmp_path, monkeypatch):
    def fail(*args, **options):
        raise UserError("no such luck")

    monkeypatch.setattr(compute, "compute_metrics", fail)
    few = ["--data", write_images(tmp_path / "data", [8] * 16), "--workers", "0"]
    with pytest.raises(RunFailed, match="no such luck; to continue: python train.py --resume"):
        run_here("--outdir", tmp_path / "runs", *TINY, *few, "--metrics", "lipschitz8", "--kimg", "0.016")
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert load_state(run_dir)["counters"]["cur_nimg"] == 16
    run_here("--resume", run_dir, "--metrics", "none")  # the run can be resumed without the metric


def test_with_slow_steps_the_state_includes_the_finished_tick(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "SLOW_STEP_SECONDS", 0)
    run_dir = run_here("--outdir", tmp_path, *TINY, "--kimg", "0.016")
    assert load_state(run_dir)["counters"]["tick"] == 1
    run_here("--resume", run_dir, "--kimg", "0.032")
    whole = run_here("--outdir", tmp_path / "whole", *TINY, "--kimg", "0.032")
    assert_same_state(run_dir, whole)


def test_the_rate_of_the_first_tick_after_a_stop_counts_only_its_own_images(tmp_path):
    run = make_run(tmp_path, "--kimg", "4", "--snap", "9")
    run.position.tick_start_nimg, run.position.cur_nimg = 0, 1600
    run.ticks.start(Progress(2000, 1600, run.log), lambda: None)
    run.position.cur_nimg += 400
    run.ticks.end(False)
    line = json.loads((tmp_path / "stats.jsonl").read_text())
    assert line["Timing/sec_per_tick"]["mean"] == pytest.approx(0.4 * line["Timing/sec_per_kimg"]["mean"])
    assert line["Timing/cpu_sec_per_kimg"]["mean"] > 0
    run.ticks.close()


def test_a_run_restarted_by_torchrun_keeps_the_options_chosen_after_its_start(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    command = ["--outdir", tmp_path, *TINY, "--kimg", "0.016"]
    run_dir = run_here(*command)
    chosen = edited(json.loads((run_dir / OPTIONS).read_text()), "run", threads=7, snap=3)
    (run_dir / OPTIONS).write_text(json.dumps(chosen))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setattr(training_loop, "train", lambda *args: None)
    assert run_here(*command) == run_dir
    assert json.loads((run_dir / OPTIONS).read_text()) == chosen


def test_the_best_snapshot_is_the_best_by_the_current_metric():
    best = Best()
    offers = [("kid50k_full", 0.01), ("fid50k_full", 12.0), ("fid50k_full", 13.0), ("fid50k_full", 3.0)]
    taken = [best.offer({"metric": name, "results": {name: value}}, "a", 1) for name, value in offers]
    assert taken == [True, True, False, True]


def test_durations_of_terms_that_are_off_or_unknown_are_ignored(tmp_path):
    options = from_values(dry_run(tmp_path, *TINY))
    options.run.by_length = {f"loss.terms.{name}.start_kimg": 0.05 for name in ("sdp", "bcr")}
    options.run.by_length["networks.ema_kimg"] = 0.1
    set_by_length(options, 20)  # as when a run is compared with another one's `by_length`
    assert options.loss.terms["sdp"] is None and options.networks.ema_kimg == 2


def test_a_snapshot_starts_a_new_run(finished, tmp_path):
    snapshot = finished / "network-snapshot-000000.safetensors"
    run_dir = run_here("--outdir", tmp_path, *TINY, "--resume", snapshot, "--kimg", "0.016")
    options = json.loads((run_dir / "training_options.json").read_text())
    assert options["networks"]["ema_rampup"] is None and run_dir.name.endswith("resume")
    before, after = load_networks(snapshot)["G"].state_dict(), weights(run_dir)
    assert (before["synthesis.b4.const"] - after["G/synthesis.b4.const"]).abs().max() < 0.01


# ---- bad input


BAD_OPTIONS = {
    "no images": (["--data", "{tmp}/nowhere"], "nowhere"),
    "empty": (["--data", "{tmp}/empty"], "empty"),
    "mixed": (
        ["--data", "{tmp}/mixed"],
        "img2.png is 16x16, the images before it are 8x8: make a dataset of one size: python dataset_tool.py --source "
        "DATA --dest NEW.zip --transform center-crop --width 8 --height 8",
    ),
    "no labels": (["--data", "{tmp}/good", "--cond", "1"], "label"),
    "no metric": (["--metrics", "fid50k_foo"], "fid50k_full"),
    "processes": (["--gpus", "3", "--batch", "16"], "multiple of --gpus"),
    "microbatches": (["--batch", "16", "--batch-gpu", "5"], "--batch-gpu"),
    "p": (["--p", "0.5"], "--p"),
    "no p": (["--aug", "fixed"], "--p"),
    "p out of range": (["--aug", "fixed", "--p", "2"], "from 0 to 1"),
    "target": (["--aug", "noaug", "--target", "0.5"], "--target"),
    "dataaug": (["--with-dataaug", "1"], "apa"),
    "augpipe": (["--aug", "noaug", "--augpipe", "bgc"], "--augpipe"),
    "no snapshot": (["--resume", "{tmp}/good/img0.png"], "img0.png"),
    "no such snapshot": (["--resume", "{tmp}/none.pkl"], "none.pkl"),
    "subset": (["--subset", "9999"], "9999"),
    "term option alone": (["--sdp-k", "3"], "--sdp"),
    "negative weight": (["--adamix", "--adamix-weight", "-1"], "negative"),
    "negative sdp": (["--sdp", "--sdp-weight", "-1"], "negative"),
    "k above its batch": (["--sdp", "--sdp-k", "65"], "k from 1 to 64"),
    "not finite": (["--gamma", "nan"], "finite"),
    "infinite length": (["--kimg", "inf"], "finite"),
    "noise that never fades": (["--instance-noise", "0.1", "--instance-noise-kimg", "0"], "kimg > 0"),
    "one image to mix": (["--adamix", "--batch-gpu", "1"], "--batch-gpu 2"),
    "alpha": (["--adamix", "--adamix-alpha", "0"], "alpha"),
    "aw with wgan": (["--aw", "--objective", "wgan"], "aw"),
    "smoothing with hinge": (["--label-smoothing", "0.1", "--objective", "hinge"], "smoothing"),
    "official interval": (["--adamix", "--adamix-variant", "official", "--adamix-interval", "4"], "interval"),
    "official part": (["--adamix", "--adamix-variant", "official", "--adamix-part", "0.5"], "part"),
    "no part": (["--adamix", "--adamix-part", "0"], "part"),
    "official pairs": (["--adamix", "--adamix-variant", "official", "--adamix-pairs", "cross"], "within"),
    "no such option": (["--adamx"], "adamx"),
    "resolution": (["--resolution", "49"], "49"),
    "billions of channels": (["--width", "1e9"], "--width"),
    "no resolution": (["--resolution", "0"], "--resolution"),
    "unwritable": (["--outdir", "/proc/runs"], "cannot create a run in"),
    "metric of more images": (["--metrics", "kid50k"], "kid50k_full"),
    "metric of other images": (["--metrics", "kid50k_full", "--metricdata", "{tmp}/grey"], "1 channels"),
    "neighbours": (["--subset", "3", "--metrics", "pr1k3_full", "--metricdata", "{tmp}/good"], "needs 4"),
    "seed": (["--seed", str(2**32)], "--seed"),
    "no detector": (["--metrics", "fd_user64_full"], "give --detector"),
    "no such detector": (["--metrics", "fid64_full", "--detector", "{tmp}/none.pt"], "none.pt"),
    "a text file as detector": (["--metrics", "fid64_full", "--detector", "{tmp}/text.pt"], "TorchScript"),
    "a detector that no metric uses": (["--metrics", "lipschitz8", "--detector", "{tmp}/text.pt"], "no metric uses it"),
    "small for VGG16": (["--metrics", "ppl2_wend"], "ppl2_wend uses 8 pixels of images of 8x8 and needs 16"),
    "no pair": (["--metrics", "lipschitz8", "--subset", "1"], "needs pairs"),
    "more layers than D has": (["--freezed", "5"], "D has 4 layers"),
    "duration of noise that is off": (["--instance-noise-kimg", "5"], "--instance-noise"),
    "beyond float32": (["--gamma", "1e39"], "float32"),
    "emoji of gigabytes": (["--resolution", "2048"], "--resolution"),
    "no outdir in UTF-8": (["--outdir", "{tmp}/\udcff"], "UTF-8"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_input_gives_one_line_and_writes_nothing(name, tmp_path):
    write_images(tmp_path / "good", [8, 8])
    write_images(tmp_path / "mixed", [8, 8, 16])
    write_images(tmp_path / "grey", [8, 8], mode="L")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pt").write_text("no network")
    args, expected = BAD_OPTIONS[name]
    args = [a.format(tmp=tmp_path) for a in args]
    outdir = [] if name == "unwritable" else ["--outdir", tmp_path / "runs"]
    message = refusal(train.main, *outdir, *TINY, *args)
    assert expected in message
    assert not (tmp_path / "runs").exists()


def test_planning_a_run_twice_gives_the_same_options_and_does_not_change_the_arguments(tmp_path):
    data = write_images(tmp_path / "data", [8] * 10)
    words = ["--outdir", str(tmp_path), "--data", str(data), "--cfg", "fewshot", "--metrics", "none", "--adamix"]
    args = Arguments.of(train.main.make_context("train", words))
    before = copy.deepcopy(args)
    first, second = plan_run(args), plan_run(args)
    assert first == second and first.data.dataset["holdout"] == 0.1
    assert args == before and args.holdout is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        args.holdout = 0.1


def test_only_some_options_can_change_on_resume(finished):
    message = refusal(train.main, "--resume", finished, "--gamma", "3", "--aug", "noaug")
    assert "--aug, --gamma cannot change" in message
    assert "holds no run" in refusal(train.main, "--resume", "latest", "--outdir", finished / "nothing")


def test_a_wrong_resume_is_refused_before_anything_changes(finished, tmp_path):
    run_dir = shutil.copytree(finished, tmp_path / finished.name)
    before = (run_dir / OPTIONS).read_text()
    assert "fidd50k" in refusal(train.main, "--resume", run_dir, "--metrics", "fidd50k")
    assert (run_dir / OPTIONS).read_text() == before
    if not torch.cuda.is_available():
        (run_dir / OPTIONS).write_text(before.replace('"device": "cpu"', '"device": "cuda"'))
        assert "no cuda: give --device cpu" in refusal(train.main, "--resume", run_dir)


def test_a_run_directory_that_does_not_exist_is_refused(tmp_path):
    message = refusal(train.main, "--resume", tmp_path / "nope", "--outdir", tmp_path / "runs")
    assert f"there is no snapshot {tmp_path / 'nope'}: give a file, the directory of a run" in message
    assert not list(tmp_path.iterdir())


def test_without_outdir_runs_are_made_and_found_in_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ["--data", write_images(tmp_path / "data", [8] * 9), "--workers", "0"]
    train.main.main([*TINY, *map(str, data), "--kimg", "0.008"], standalone_mode=False)
    train.main.main(["--resume", "latest", "--kimg", "0.016"], standalone_mode=False)
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert load_state(run_dir)["counters"]["cur_nimg"] == 16


def test_data_that_no_longer_fit_are_refused_before_anything_changes(tmp_path):
    data = write_images(tmp_path / "data", [8] * 9, mode="L")
    run_dir = run_here("--outdir", tmp_path / "runs", *TINY, "--data", data, "--workers", "0", "--kimg", "0.016")
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    assert "needs 71" in refusal(train.main, "--resume", run_dir, "--metrics", "pr_effnet1k70_full")
    write_images(data, [8])
    assert "images have other contents" in refusal(train.main, "--resume", run_dir)
    refused = refusal(train.main, "--resume", run_dir, "--accept-data", "1")
    assert "3 channels; the network makes 8x8 pixels and 1 channels" in refused
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == before


EDITS = (
    ("run", "batch", "many"),
    ("run", "batch", 0),
    ("run", "batch_gpu", -8),
    ("run", "workers", -1),
    ("run", "snap", 0),
    ("run", "metrics", [3]),
    ("run", "kimg", float("nan")),
    ("run", "gpus", True),
    ("data", "dataset", "twemoji"),
    ("networks", "G", []),
    ("networks", "G_reg_interval", 0),
    ("networks", "ema_kimg", -1),
    ("loss", "r1_gamma", "10"),
    ("loss", "terms", [3]),
    ("augmentation", "ada_interval", 0),
    ("augmentation", "augment_p", -0.5),
)


def test_invalid_edits_of_a_runs_files_are_refused_in_one_line(finished, tmp_path):
    run_dir = shutil.copytree(finished, tmp_path / finished.name)
    options = json.loads((run_dir / OPTIONS).read_text())
    for group, name, value in EDITS:
        (run_dir / OPTIONS).write_text(json.dumps(edited(options, group, **{name: value})))
        assert f"{name} is {value!r}" in refusal(train.main, "--resume", run_dir)
    for whole, said in (
        (options | {"loss": 3}, "cannot be read"),
        (options | {"extra": 3}, "cannot be read"),
        ({name: group for name, group in options.items() if name != "loss"}, "cannot be read"),
        (edited(options, "loss", objective_name="best"), "best"),
        (edited(options, "loss", terms={"sdp": {"k": 100}}), "SDP needs k from 1 to 64"),
        (edited(options, "loss", terms={"sdp": {"j": 1}}), "SDP is None, True, a weight"),
        (edited(options, "loss", terms={"bcr": {}}), "unknown term bcr"),
        (edited(options, "run", by_length={"runs.kimg": 1}), "by_length has an invalid entry runs.kimg"),
    ):
        (run_dir / OPTIONS).write_text(json.dumps(whole))
        assert said in refusal(train.main, "--resume", run_dir)
    (run_dir / OPTIONS).write_text(json.dumps({"kimg_per_tick": 4, "loss_kwargs": {}, "data_loader_kwargs": {}}))
    assert "is it the options of a run" in refusal(train.main, "--resume", run_dir), "StyleGAN3's file"
    (run_dir / OPTIONS).write_text("[" * 100000)
    assert "nested too deeply" in refusal(train.main, "--resume", run_dir)
    options["networks"]["D"]["channel_max"] //= 2
    (run_dir / OPTIONS).write_text(json.dumps(options))
    cut_shorter = load_state(run_dir)
    cut_shorter["counters"]["cur_nimg"] = 8
    save_state(run_dir, cut_shorter)
    files = [path for path in run_dir.rglob("*") if path.is_file() and path.name not in ("log.txt", ".lock")]
    before = {path: path.read_bytes() for path in files}
    assert f"does not fit {OPTIONS}" in refusal(train.main, "--resume", run_dir, "--kimg", "1")
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("command", ["train.py", "generate.py", "calc_metrics.py", "dataset_tool.py"])
def test_commands_exit_with_2_and_one_line(command, tmp_path):
    result = subprocess.run(
        [sys.executable, ROOT / command, "--nonsense"], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 2 and result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1 and "--nonsense" in result.stderr


def test_a_dry_run_prints_the_options_and_writes_nothing(tmp_path, capsys):
    train.main.main(["--outdir", str(tmp_path / "runs"), *TINY, "-n"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["run"]["batch"] > 0 and not (tmp_path / "runs").exists()


# ---- samples


def test_generate_draws_an_image_for_each_seed(finished, tmp_path):
    network = finished / "network-snapshot-000000.safetensors"
    args = ["--network", network, "--outdir", tmp_path / "out", "--seeds", "0-2,7", "--grid", "--trunc", "0.7"]
    generate.main.main([str(a) for a in args], standalone_mode=False)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"seed000{i}.png" for i in (0, 1, 2, 7)} | {"grid.png"}
    G = load_networks(network)["G_ema"]
    z = torch.from_numpy(np.random.RandomState(7).randn(1, G.z_dim)).float()
    image = G(z, torch.zeros(1, 0), truncation_psi=0.7, noise_mode="const")[0]
    expected = (image * 127.5 + 128).clamp(0, 255).byte().permute(1, 2, 0).numpy()
    assert np.array_equal(np.asarray(PIL.Image.open(tmp_path / "out" / "seed0007.png")), expected)


@pytest.mark.parametrize(
    "args, expected",
    [
        (["--network", "nowhere.pkl"], "nowhere.pkl"),
        (["--network", ""], "is empty"),
        (["--seeds", "3-1"], "seeds"),
        (["--seeds", "a"], "seeds"),
        (["--class", "3"], "without labels"),
        (["--outdir", "/proc/out"], "cannot be created"),
    ],
)
def test_generate_refuses_in_one_line(finished, tmp_path, args, expected):
    defaults = {"--network": finished / "network-snapshot-000000.safetensors", "--seeds": "0", "--outdir": tmp_path}
    defaults |= dict([args])
    assert expected in refusal(generate.main, *[a for pair in defaults.items() for a in pair])


def test_generate_draws_from_an_upstream_pickle(tmp_path, golden):
    network = GOLDEN / "network-snapshot-000100.pkl"
    args = ["--network", str(network), "--seeds", "0", "--outdir", str(tmp_path)]
    generate.main.main(args, standalone_mode=False)
    assert PIL.Image.open(tmp_path / "seed0000.png").size == (16, 16)


def test_a_renamed_copy_does_not_count_as_a_run(tmp_path):
    for name in ("00003-run", "00007old-copy", "²-x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "training-state.pt").touch()
    assert run_dir.latest_run(tmp_path).name == "00003-run"
    assert run_dir.new_run_dir(tmp_path, "next").name == "00004-next"


@pytest.mark.parametrize("best, kept", [(None, [3, 4]), (1, [1, 3, 4]), (4, [3, 4])])
def test_the_newest_snapshots_and_the_best_are_kept(best, kept, tmp_path):
    def name(kimg):
        return f"network-snapshot-{kimg:06d}.safetensors"

    for kimg in (0, 1, 2, 3, 4, 9):
        (tmp_path / name(kimg)).touch()
    others = ["network-snapshot-000001.safetensors.bak", "network-snapshot-x.safetensors", "fakes000000.png"]
    for other in others:
        (tmp_path / other).touch()
    delete_old_snapshots(tmp_path, 2, 4.9, best and name(best))
    assert {path.name for path in tmp_path.iterdir()} == {*map(name, [*kept, 9]), *others}  # 9: from before a resume


def test_a_run_keeps_the_given_number_of_snapshots(tmp_path):
    run = make_run(tmp_path, "--kimg", "9", "--snap", "1", "--keep-snapshots", "1")
    run.ticks.start(Progress(9000, 0, run.log), lambda: None)
    for kimg in (1, 2, 3):
        run.position.cur_nimg = 1000 * kimg
        run.ticks.end(False)
        run.ticks.best.snapshot = {"snapshot": "network-snapshot-000001.safetensors"}  # the first one
    run.ticks.close()
    kept = {path.name for path in tmp_path.glob("network-*")}
    assert kept == {"network-snapshot-000001.safetensors", "network-snapshot-000003.safetensors"}


def test_a_snapshot_that_a_full_disk_kept_out_is_not_the_best(tmp_path, monkeypatch):
    """The earlier best one is kept, although the figure of the missing one is better."""
    few = ["--subset", "16", "--metrics", "fd_effnet16_full", "--keep-snapshots", "1"]
    run, figures = make_run(tmp_path, "--kimg", "9", "--snap", "1", *few), iter([5.0, 3.0, 9.0])

    def measured(names, *args, **more):
        yield {"metric": names[0], "results": {names[0]: next(figures)}, "total_time": 0.0}

    monkeypatch.setattr(compute, "compute_metrics", measured)
    monkeypatch.setattr(type(run.ticks), "_show_nearest", lambda *args: None)
    save = tick.save_snapshot

    def save_unless_full(path, *args):
        if "000002" in path.name:
            raise OSError(28, "No space left on device")
        save(path, *args)

    monkeypatch.setattr(tick, "save_snapshot", save_unless_full)
    run.ticks.start(Progress(9000, 0, run.log), lambda: None)
    for kimg in (1, 2, 3):
        run.position.cur_nimg = 1000 * kimg
        run.ticks.end(False)
    run.ticks.close()
    assert json.loads((tmp_path / "best.json").read_text())["snapshot"] == "network-snapshot-000001.safetensors"
    kept = {path.name for path in tmp_path.glob("network-*")}
    assert kept == {"network-snapshot-000001.safetensors", "network-snapshot-000003.safetensors"}


def test_a_cache_that_cannot_be_made_is_named_before_the_run_starts(tmp_path, monkeypatch):
    folder = write_images(tmp_path / "data", [8] * 9)
    (tmp_path / "file").touch()
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "file"))
    options = [*TINY, "--data", folder, "--metrics", "fd_effnet9_full", "--kimg", "0.008"]
    assert "set DNNLIB_CACHE_DIR" in refusal(train.main, "--outdir", tmp_path / "runs", *options)
    assert not list(tmp_path.glob("runs/*"))


def test_the_number_of_kept_snapshots_can_change_on_resume(finished, tmp_path):
    run_dir = shutil.copytree(finished, tmp_path / finished.name)
    run_here("--resume", run_dir, "--keep-snapshots", "3")
    assert json.loads((run_dir / OPTIONS).read_text())["run"]["keep_snapshots"] == 3
