"""torch_utils.ops against golden data and their second derivatives."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops import upfirdn2d
from torch_utils.ops.bias_act import activation_funcs, bias_act
from torch_utils.ops.conv2d_resample import conv2d_resample


def close(actual, expected, atol=2e-5):
    torch.testing.assert_close(actual, expected.to(actual.dtype), rtol=0, atol=atol)


@pytest.mark.parametrize("i", range(5))
def test_upfirdn2d_is_golden(golden, i):
    data = golden("ops.npz")
    case = dict(data["upfirdn2d_cases"][i])
    f = upfirdn2d.setup_filter(case.pop("filter"))
    close(upfirdn2d.upfirdn2d(data["x"], f, **case), data[f"upfirdn2d_{i}"])


@pytest.mark.parametrize("options", [{}, {"up": 2, "padding": [2, 1, 2, 1]}, {"down": 2, "padding": [1, 1, -1, 2]}])
@pytest.mark.parametrize("taps", [[1, 3, 3, 1], list(range(1, 10))])
def test_upfirdn2d_is_twice_differentiable(options, taps):
    x = torch.randn(1, 2, 10, 9, dtype=torch.float64, requires_grad=True)
    f = upfirdn2d.setup_filter(taps)
    gradcheck(lambda x: upfirdn2d.upfirdn2d(x, f, **options), [x])
    gradgradcheck(lambda x: upfirdn2d.upfirdn2d(x, f, **options).square(), [x])


@pytest.mark.parametrize("act", list(activation_funcs))
def test_bias_act_is_golden(golden, act):
    data = golden("ops.npz")
    close(bias_act(data["x"], data["bias"], act=act), data[f"bias_act/{act}"])
    close(bias_act(data["x"], data["bias"], act=act, gain=2, clamp=1), data[f"bias_act/{act}_gain2_clamp1"])


@pytest.mark.parametrize("act", list(activation_funcs))
def test_bias_act_is_twice_differentiable(act):
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    b = torch.randn(3, dtype=torch.float64, requires_grad=True)
    gradcheck(lambda x, b: bias_act(x, b, act=act, clamp=2), [x, b])
    gradgradcheck(lambda x, b: bias_act(x, b, act=act, clamp=2), [x, b])


RESAMPLE = {
    "plain": {},
    "up2": {"up": 2, "flip_weight": True},
    "up2_noflip": {"up": 2, "flip_weight": False},
    "down2": {"down": 2},
}


@pytest.mark.parametrize("name", RESAMPLE)
def test_conv2d_resample_is_golden(golden, name):
    data = golden("ops.npz")
    f = upfirdn2d.setup_filter([1, 3, 3, 1])
    close(conv2d_resample(data["xs"], data["weight"], f, padding=1, **RESAMPLE[name]), data[f"conv2d_resample/{name}"])


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("scale", [{}, {"up": 2}, {"down": 2}, {"up": 2, "down": 2}, {"up": 3}])
@pytest.mark.parametrize("flip_weight", [False, True])
def test_conv2d_resample_is_upsample_convolve_downsample(kernel, groups, scale, flip_weight):
    """Against the three steps one after the other, at full resolution."""
    x = torch.randn(2, 4, 6, 8, dtype=torch.float64)
    w = torch.randn(6, 4 // groups, kernel, kernel, dtype=torch.float64)
    f = upfirdn2d.setup_filter([1, 2, 4, 3]).double()
    up, down, padding = scale.get("up", 1), scale.get("down", 1), kernel // 2
    reach = [padding] * 4
    if up > 1:
        reach = [a + b for a, b in zip(reach, [(4 + up - 1) // 2, (4 - up) // 2] * 2)]
    if down > 1:
        reach = [a + b for a, b in zip(reach, [(4 - down + 1) // 2, (4 - down) // 2] * 2)]
    y = upfirdn2d.upfirdn2d(x, f if up > 1 else None, up=up, padding=reach, gain=up**2)
    y = torch.nn.functional.conv2d(y, w if flip_weight else w.flip([2, 3]), groups=groups)
    y = upfirdn2d.upfirdn2d(y, f if down > 1 else None, down=down)
    actual = conv2d_resample(x, w, f, padding=padding, groups=groups, flip_weight=flip_weight, **scale)
    torch.testing.assert_close(actual, y, rtol=0, atol=1e-10)
