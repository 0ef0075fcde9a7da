"""R1, path length, gradient penalty, LeCam, instance noise, blur: against formulas written out sample by sample."""

from math import sqrt

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d
from torch.autograd import gradcheck
from torch.autograd.functional import jacobian

from stylegan2_adamix.averages import PhaseAverage
from stylegan2_adamix.inputs import FadingBlur, InstanceNoise
from stylegan2_adamix.lecam import LeCam
from stylegan2_adamix.regularisers import gradient_penalty, path_lengths, squared_gradient_norms

WEIGHT = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 2, 2)


def judge(x):
    """A D that does not mix samples."""
    return (x * WEIGHT).flatten(1).tanh().square().sum(dim=1, keepdim=True)


def render(ws):
    """A G from ws [N, 2, 3] to images [N, 3, 2, 2]."""
    return (ws.prod(dim=1)[:, :, None, None] + ws[:, 0, :1, None, None].sin()) * WEIGHT


def images(n=4, **kwargs):
    return torch.randn(n, 3, 2, 2, dtype=torch.float64, **kwargs)


def test_r1_is_the_squared_norm_of_each_images_gradient():
    x = images(requires_grad=True)
    penalty = squared_gradient_norms(x, judge(x))
    for i in range(len(x)):
        gradient = jacobian(lambda one: judge(one[None])[0, 0], x[i].detach())
        assert penalty[i].item() == pytest.approx(sum(g * g for g in gradient.flatten().tolist()))


def test_path_lengths_agree_with_the_jacobian():
    ws = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    lengths = path_lengths(render(ws), ws)
    torch.manual_seed(0)
    y = torch.randn(3, 3, 2, 2, dtype=torch.float64) / sqrt(2 * 2)
    for i in range(3):
        J = jacobian(lambda one: render(one[None])[0], ws[i].detach())  # [3, 2, 2, num_ws, w_dim]
        Jty = torch.einsum("chw,chwld->ld", y[i], J)
        assert lengths[i].item() == pytest.approx(sqrt(sum(row.square().sum().item() for row in Jty) / 2))


def test_gradient_penalty_is_the_squared_distance_of_gradient_norms_from_1():
    real, fake = images(), images()
    torch.manual_seed(0)
    penalty = gradient_penalty(judge, real, fake)
    torch.manual_seed(0)
    t = torch.rand(4, 1, 1, 1, dtype=torch.float64)
    for i in range(4):
        point = t[i] * real[i] + (1 - t[i]) * fake[i]
        norm = jacobian(lambda one: judge(one[None])[0, 0], point).norm()
        assert penalty[i].item() == pytest.approx((norm.item() - 1) ** 2)


@pytest.mark.parametrize("name", ["r1", "path", "gradient_penalty"])
def test_gradients_of_penalties_match_finite_differences(name):
    """These gradients are second derivatives of a network."""
    x, other = images(2), images(2)

    def penalty(weight):
        torch.manual_seed(0)
        if name == "path":
            ws = x.flatten(2)[:, :2, :3].detach().requires_grad_()
            return path_lengths(render(ws) * weight, ws)
        if name == "r1":
            inputs = x.detach().requires_grad_()
            return squared_gradient_norms(inputs, judge(inputs * weight))
        return gradient_penalty(lambda points: judge(points * weight), x, other)

    assert gradcheck(penalty, torch.rand(3, 2, 2, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("one_sided", [True, False])
def test_lecam_follows_a_literal_moving_average(one_sided):
    lecam = LeCam(decay=0.9, one_sided=one_sided)
    a_r = a_f = 0.0
    for t in range(1, 6):
        real, fake = torch.randn(2, 4, 1) + 1
        a_r, a_f = 0.9 * a_r + 0.1 * real.mean().item(), 0.9 * a_f + 0.1 * fake.mean().item()
        debiased_r, debiased_f = a_r / (1 - 0.9**t), a_f / (1 - 0.9**t)
        lecam.begin()
        real_half, fake_half = lecam.penalties(real, fake)
        for i in range(4):
            r, f = real[i].item() - debiased_f, debiased_r - fake[i].item()
            if one_sided:
                r, f = max(r, 0), max(f, 0)
            assert real_half[i].item() == pytest.approx(r * r, abs=1e-5)
            assert fake_half[i].item() == pytest.approx(f * f, abs=1e-5)


def test_lecam_continues_from_its_state():
    lecam, other = LeCam(), LeCam()
    for _ in range(3):
        lecam.begin()
        lecam.penalties(*torch.randn(2, 4, 1))
    other.load_state_dict(lecam.state_dict())
    logits = torch.randn(2, 4, 1)
    for term in (lecam, other):
        term.begin()
    torch.testing.assert_close(other.penalties(*logits), lecam.penalties(*logits), rtol=0, atol=0)


def test_averages_are_updated_once_per_phase_for_any_number_of_microbatches():
    whole, microbatches = (PhaseAverage(torch.ones(2), 0.9) for _ in range(2))
    for _ in range(3):
        values = torch.randn(12, 2)
        for average, parts in ((whole, 1), (microbatches, 4)):
            average.begin()
            for part in values.chunk(parts):
                average.update(part)
        torch.testing.assert_close(microbatches.value, whole.value)
    assert whole.steps == microbatches.steps == 3


def test_instance_noise_decreases_linearly_to_0():
    torch.manual_seed(0)
    noise, x = InstanceNoise(0.4, kimg=100), torch.zeros(64, 3, 16, 16)
    assert [noise(x, kimg).std().item() for kimg in (0, 25, 75)] == pytest.approx([0.4, 0.3, 0.1], rel=0.02)
    assert noise(x, 100) is x and noise(x, 200) is x and InstanceNoise(0)(x, 0) is x


def test_blur_is_a_gaussian_that_fades():
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    blur = FadingBlur(2, kimg=100)
    for kimg, sigma in ((0, 2), (50, 1)):
        taps = np.array([2 ** -((i / sigma) ** 2) for i in range(-3 * sigma, 3 * sigma + 1)])
        expected = x.numpy()
        for axis in (2, 3):
            expected = convolve1d(expected, taps / taps.sum(), axis=axis, mode="constant")
        np.testing.assert_allclose(blur(x, kimg).numpy(), expected, atol=1e-12)
    assert blur(x, 100) is x and FadingBlur(2, kimg=0)(x, 0) is x and FadingBlur(0, kimg=9)(x, 0) is x


@pytest.mark.parametrize(
    "bad",
    [
        lambda: LeCam(-1),
        lambda: InstanceNoise(-1),
        lambda: InstanceNoise(1, kimg=0),
        lambda: FadingBlur(-1, 10),
        lambda: FadingBlur(1, -10),
    ],
)
def test_bad_arguments_are_refused(bad):
    with pytest.raises(ValueError, match="LeCam|noise|blur"):
        bad()
