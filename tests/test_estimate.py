"""How long a run will take, and how long a run is whose length is not given."""

import types

import pytest
from train_runs import TINY, dry_run, run_here

from training import estimate, training_loop
from training.run_dir import read_options
from training.state import load_state


@pytest.mark.parametrize(
    "seconds, kimg, snap",
    [(0.4, 29, 7), (0.1, 115, 29), (3.0, 24, 6), (0.001, 120, 30), (None, 120, 30)],  # 720 s / seconds * 16 images
)
def test_a_demo_is_as_long_as_twelve_minutes_allow_within_bounds(seconds, kimg, snap):
    options = types.SimpleNamespace(kimg=None, snap=None, batch=16, kimg_per_tick=1, by_length={})
    estimate.choose_length(options, seconds)
    assert (options.kimg, options.snap) == (kimg, snap)


def test_a_length_that_is_given_stays():
    options = types.SimpleNamespace(kimg=5, snap=None, batch=16, kimg_per_tick=1, by_length={})
    estimate.choose_length(options, 0.4)
    assert (options.kimg, options.snap) == (5, 1)


def test_the_chosen_length_is_written_into_the_options(tmp_path, monkeypatch):
    """So that a resumed run has the same length, whatever the machine's speed is then. Durations follow the length."""
    monkeypatch.setattr(estimate, "DEMO_KIMG", (0.6, 0.6))
    runs, Run = [], training_loop.Run
    monkeypatch.setattr(training_loop, "Run", lambda *args: runs.append(Run(*args)) or runs[-1])
    command = ["--outdir", tmp_path, *TINY, "--sdp", "--sdp-grow", "7", "--instance-noise", "0.1", "--resume", "auto"]
    run_dir = run_here(*command)
    options = read_options(run_dir)
    assert options.kimg == 0.6 and load_state(run_dir)["counters"]["cur_nimg"] == 600
    # A hundredth of what belongs to 60 kimg, but for the duration that was given.
    assert (options.ema_kimg, options.ada_kimg) == (0.02, 0.2)
    assert options.loss["sdp"]["start_kimg"] == 0.03 and options.loss["sdp"]["grow_kimg"] == 7
    assert options.loss["instance_noise_kimg"] == 0.6
    assert runs[-1].step.controller.kimg_per_unit == 0.2  # what trained is what was written
    assert run_here(*command, "--kimg", "0.608") == run_dir
    assert load_state(run_dir)["counters"]["cur_nimg"] == 608
    assert read_options(run_dir).ema_kimg == 0.02


def test_durations_stay_where_the_length_is_given(tmp_path):
    options = dry_run(tmp_path, *TINY, "--kimg", "8", "--sdp")
    assert (options["ema_kimg"], options["ada_kimg"], options["loss"]["sdp"]["start_kimg"]) == (2, 20, 3)
    assert options["by_length"] == {}
