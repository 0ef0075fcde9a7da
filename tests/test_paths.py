"""Closed paths through key frames, compared with SciPy."""

import numpy as np
import pytest
import scipy.signal
import scipy.spatial
import torch

from tools.sampling import paths
from torch_utils.misc import slerp

KEYS = torch.from_numpy(np.random.RandomState(0).randn(5, 8)).float()


@pytest.mark.parametrize("interp", ["linear", "slerp", "circular"])
@pytest.mark.parametrize("easing", list(paths.EASINGS))
def test_a_path_goes_through_its_key_frames_and_is_closed(interp, easing):
    t = paths.times(len(KEYS), 6, easing)
    frames = paths.interpolate(KEYS, t, interp)
    assert frames.shape == (30, 8)
    torch.testing.assert_close(frames[::6], KEYS)
    torch.testing.assert_close(paths.interpolate(KEYS, t + len(KEYS), interp), frames)


def test_without_easing_all_steps_between_two_key_frames_are_equally_long():
    frames = paths.interpolate(KEYS[:3], paths.times(3, 10), "linear")
    steps = (frames.roll(-1, 0) - frames).norm(dim=1).reshape(3, 10)
    torch.testing.assert_close(steps, steps[:, :1].expand(-1, 10))


@pytest.mark.parametrize("count", [3, 4, 5])
def test_circular_equals_scipys_trigonometric_interpolation(count):
    keys = KEYS[:count]
    expected = scipy.signal.resample(keys.double().numpy(), 7 * count)
    frames = paths.interpolate(keys, paths.times(count, 7), "circular")
    np.testing.assert_allclose(frames.numpy(), expected, atol=1e-5)


def test_circular_keeps_the_standard_deviation_of_normal_points():
    keys = torch.from_numpy(np.random.RandomState(1).randn(5, 20_000)).float()
    frames = paths.interpolate(keys, paths.times(5, 4), "circular")
    torch.testing.assert_close(frames.std(dim=1), torch.ones(20), rtol=0, atol=0.03)


def test_slerp_equals_scipys_on_the_unit_sphere_and_around_another_centre():
    a, b = (KEYS[i].double() / KEYS[i].double().norm() for i in (0, 1))
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    expected = scipy.spatial.geometric_slerp(a.numpy(), b.numpy(), t.numpy())
    turned = slerp(a, b, t[:, None])
    np.testing.assert_allclose(turned.numpy(), expected, atol=1e-12)
    centre = torch.tensor(5.0, dtype=torch.float64)
    moved = paths.interpolate(torch.stack([a, b]) + 5, t[:-1], "slerp", centre)
    torch.testing.assert_close(moved, turned[:-1] + 5)


def test_slerp_between_equal_and_opposite_points_is_a_straight_line():
    for b in (KEYS[0] * 2, -KEYS[0]):
        middle = slerp(KEYS[0], b, torch.tensor([0.5]))
        torch.testing.assert_close(middle, (KEYS[0] + b) / 2)


def test_easings_go_from_0_to_1_and_all_but_linear_are_slow_at_both_ends():
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    for name, easing in paths.EASINGS.items():
        values = easing(t)
        assert values[0] == 0 and abs(values[-1] - 1) < 1e-12 and (values.diff() > 0).all()
        assert name == "linear" or max(values[1], 1 - values[-2]) < 1e-3


def test_a_sweep_goes_there_and_back():
    torch.testing.assert_close(paths.sweep(0, 1, 4), torch.tensor([0.0, 0.5, 1.0, 0.5]))
    assert paths.sweep(0.2, 1.4, 10, "sine").max() == pytest.approx(1.4)
