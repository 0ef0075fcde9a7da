"""The estimate of a run's time, and the length of a run without --kimg."""

import types

import pytest
from train_runs import TINY, dry_run, make_run, refusal, run_here, write_images

import train
from training import estimate, training_loop
from training.run_dir import read_options
from training.state import load_state


@pytest.mark.parametrize(
    "seconds, kimg, snap",
    [(0.4, 29, 8), (0.1, 115, 29), (3.0, 24, 6), (0.001, 120, 30), (None, 120, 30)],  # 720 s / seconds * 16 images
)
def test_a_demo_has_the_kimg_that_fit_into_twelve_minutes_within_bounds(seconds, kimg, snap):
    run = types.SimpleNamespace(cfg="demo", kimg=None, minutes=None, snap=None, batch=16, kimg_per_tick=1, by_length={})
    estimate.choose_length(types.SimpleNamespace(run=run), seconds)
    assert (run.kimg, run.snap) == (kimg, snap)


@pytest.mark.parametrize(
    "minutes, seconds, kimg",
    [(3, 0.4, 7), (60, 0.016, 3600), (0.01, 1, 1)],  # 180 s / 0.4 s * 16 images, and so on; at least a thousand
)
def test_minutes_become_the_kimg_that_fit(minutes, seconds, kimg):
    run = types.SimpleNamespace(cfg="paper256", kimg=None, minutes=minutes, snap=50, batch=16, by_length={})
    estimate.choose_length(types.SimpleNamespace(run=run), seconds)
    assert (run.kimg, run.snap) == (kimg, 50)


def test_minutes_work_with_every_preset_and_change_only_the_decay_of_the_rates(tmp_path):
    plain = dry_run(tmp_path, "--cfg", "sngan", "--data", "twemoji", "--resolution", "32", "--kimg", "7")
    timed = dry_run(tmp_path, "--cfg", "sngan", "--data", "twemoji", "--resolution", "32", "--minutes", "7")
    assert (timed["run"]["kimg"], timed["run"]["minutes"]) == (None, 7)
    assert timed["run"]["by_length"] == {"networks.decay_end_kimg": 1}
    assert timed["networks"] | {"decay_end_kimg": 7} == plain["networks"]


def test_minutes_and_kimg_together_are_refused(tmp_path):
    message = refusal(train.main, "--outdir", tmp_path, *TINY, "--kimg", "1", "--minutes", "1")
    assert "--kimg and --minutes" in message


def test_a_run_of_a_few_seconds_has_one_kimg_and_the_same_command_starts_another_run(tmp_path):
    run_dir = run_here("--outdir", tmp_path, *TINY, "--minutes", "0.005")
    assert read_options(run_dir).run.kimg == 1 and load_state(run_dir)["counters"]["cur_nimg"] == 1000
    assert run_here("--outdir", tmp_path, *TINY, "--minutes", "0.005", "--resume", "auto") != run_dir


def test_the_announced_times_agree_if_a_run_is_shorter_than_a_tick():
    lines = []
    run = types.SimpleNamespace(cfg="demo", kimg=0.6, batch=16, kimg_per_tick=1)
    estimate.announce(1.0, types.SimpleNamespace(run=run), types.SimpleNamespace(cur_nimg=0), lines.append)
    assert "a tick 38s, the run of 0.6 kimg 38s" in lines[0]  # 38 batches of 16


def test_a_given_length_is_kept():
    run = types.SimpleNamespace(kimg=5, snap=None, batch=16, kimg_per_tick=1, by_length={})
    estimate.choose_length(types.SimpleNamespace(run=run), 0.4)
    assert (run.kimg, run.snap) == (5, 2)


def test_the_chosen_length_is_written_into_the_options(tmp_path, monkeypatch):
    """A resumed run then has the same length, whatever the machine's speed. Durations are scaled with the length."""
    monkeypatch.setattr(estimate, "KIMG_BOUNDS", (0.12, 0.12))
    runs, Run = [], training_loop.Run
    monkeypatch.setattr(training_loop, "Run", lambda *args: runs.append(Run(*args)) or runs[-1])
    command = ["--outdir", tmp_path, *TINY, "--sdp", "--sdp-grow", "7", "--instance-noise", "0.1", "--resume", "auto"]
    run_dir = run_here(*command)
    options = read_options(run_dir)
    assert options.run.kimg == 0.12 and load_state(run_dir)["counters"]["cur_nimg"] == 120
    # Durations for 60 kimg are divided by 500, except a given one. That of the average of G is not scaled.
    assert (options.networks.ema_kimg, options.augmentation.ada_kimg) == (2, 0.04)
    assert options.loss.terms["sdp"] == {"start_kimg": 0.006, "grow_kimg": 7}
    assert options.loss.instance_noise_kimg == 0.12
    assert runs[-1].step.controller.kimg_per_unit == 0.04  # the run trained with the written value
    assert run_here(*command, "--kimg", "0.128") == run_dir
    assert load_state(run_dir)["counters"]["cur_nimg"] == 128
    assert read_options(run_dir).augmentation.ada_kimg == 0.04


def test_durations_are_not_scaled_if_the_length_is_given(tmp_path):
    options = dry_run(tmp_path, *TINY, "--kimg", "8", "--sdp")
    assert (options["networks"]["ema_kimg"], options["augmentation"]["ada_kimg"]) == (2, 20)
    assert options["loss"]["terms"]["sdp"]["start_kimg"] == 3 and options["run"]["by_length"] == {}


@pytest.mark.parametrize(
    "cfg, data, expected",
    [
        (
            "paper256",
            None,
            "for few images (here 9) use --cfg fast (7 minutes), or --cfg fewshot, with smaller networks on a CPU and "
            "300 kimg: ",
        ),
        ("paper256", "twemoji", "--cfg fast trains on emoji"),
        ("fewshot", None, "smaller images, a smaller --kimg or a GPU"),
    ],
)
def test_a_run_that_takes_weeks_says_so_and_suggests_other_options(tmp_path, monkeypatch, cfg, data, expected):
    """The measured seconds are fake, and the same for every network."""
    monkeypatch.setattr(estimate, "seconds_per_image", lambda *args: 16.0)
    data = data or write_images(tmp_path / "data", [8] * 9)
    run = make_run(tmp_path / "runs", "--cfg", cfg, "--data", data, "--batch", "16", "--kimg", "900", "--workers", "0")
    lines = []
    run.log = lines.append
    run._prepare()
    # 900,000 images at 16 seconds each are 166.7 days.
    assert f"this run takes 167 days: --cfg {cfg} is too much" in lines[1] and expected in lines[2]
    if cfg == "paper256" and data != "twemoji":
        assert "300 kimg: 55d 13h here" in lines[2]
    run.position.cur_nimg = 16
    assert run._prepare() and len(lines) == 5, "a resumed run gets no advice"


def test_a_dry_run_draws_no_emoji(tmp_path, monkeypatch):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "cache"))
    options = dry_run(tmp_path, "--cfg", "auto", "--metrics", "none")
    assert options["data"]["dataset"]["path"] == "twemoji" and options["data"]["dataset"]["resolution"] == 256
    assert list((tmp_path / "cache").rglob("*.npy")) == []


@pytest.mark.parametrize("cores, workers", [(1, 1), (2, 2), (64, 2)])
def test_there_are_no_more_loader_processes_than_cores(tmp_path, monkeypatch, cores, workers):
    monkeypatch.setattr("dnnlib.devices.cpu_cores", lambda: cores)
    data = write_images(tmp_path / "data", [8] * 2)
    assert dry_run(tmp_path, *TINY, "--data", data)["run"]["workers"] == workers
