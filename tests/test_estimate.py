"""How long a run will take, and how long a run is whose length is not given."""

from unittest import mock

import pytest
from train_runs import TINY, run_here

from training import estimate
from training.run_dir import read_options
from training.state import load_state


@pytest.mark.parametrize(
    "seconds, kimg, snap",
    [(0.4, 29, 7), (0.1, 115, 29), (3.0, 24, 6), (0.001, 120, 30), (None, 120, 30)],  # 720 s / seconds * 16 images
)
def test_a_demo_is_as_long_as_twelve_minutes_allow_within_bounds(seconds, kimg, snap):
    options = mock.Mock(kimg=None, snap=None, batch=16, kimg_per_tick=1)
    estimate.choose_length(options, seconds)
    assert (options.kimg, options.snap) == (kimg, snap)


def test_a_length_that_is_given_stays():
    options = mock.Mock(kimg=5, snap=None, batch=16, kimg_per_tick=1)
    estimate.choose_length(options, 0.4)
    assert (options.kimg, options.snap) == (5, 1)


def test_the_chosen_length_is_written_into_the_options(tmp_path, monkeypatch):
    """So that a resumed run has the same length, whatever the machine's speed is then."""
    monkeypatch.setattr(estimate, "DEMO_KIMG", (1, 1))
    run_dir = run_here("--outdir", tmp_path, *TINY)
    assert read_options(run_dir).kimg == 1
    assert load_state(run_dir)["counters"]["cur_nimg"] == 1000
