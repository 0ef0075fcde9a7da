"""torch_utils.ops against golden data and their second derivatives."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from torch_utils.ops import upfirdn2d
from torch_utils.ops.bias_act import activate_, activation_funcs, bias_act
from torch_utils.ops.conv2d import conv2d, conv2d_adjoint
from torch_utils.ops.conv2d_resample import conv2d_resample


def close(actual, expected, atol=2e-5):
    torch.testing.assert_close(actual, expected.to(actual.dtype), rtol=0, atol=atol)


@pytest.mark.parametrize("i", range(5))
def test_upfirdn2d_matches_golden_data(golden, i):
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
def test_bias_act_matches_golden_data(golden, act):
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
def test_conv2d_resample_matches_golden_data(golden, name):
    data = golden("ops.npz")
    f = upfirdn2d.setup_filter([1, 3, 3, 1])
    close(conv2d_resample(data["xs"], data["weight"], f, padding=1, **RESAMPLE[name]), data[f"conv2d_resample/{name}"])


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("scale", [{}, {"up": 2}, {"down": 2}, {"up": 2, "down": 2}, {"up": 3}])
@pytest.mark.parametrize("flip_weight", [False, True])
def test_conv2d_resample_equals_upsample_convolve_downsample(kernel, groups, scale, flip_weight):
    """Compared with the three steps one after the other, at full resolution."""
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


@pytest.mark.parametrize("channels", [2, 256])  # few: oneDNN's convolution; many: a product for each tap
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("size, stride, padding, groups", [(9, 2, 0, 1), (4, 1, 1, 1), (10, 2, 1, 1), (7, 1, 0, 2)])
def test_convolutions_equal_torchs_own_to_the_second_derivative(
    channels, size, stride, padding, groups, layout, transposed
):
    torch.manual_seed(0)
    x = torch.randn(2, channels, size, size, dtype=torch.float64).to(memory_format=layout)
    w = torch.randn(channels, channels // groups, 3, 3, dtype=torch.float64)
    if transposed:  # the memory format of an upsampling layer's weight
        w = w.to(memory_format=torch.channels_last).transpose(0, 1) if groups == 1 else w
    b = torch.randn(channels, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (x, w, b)]
    ours = conv2d(x, w, b, (stride, stride), (padding, padding), groups)
    reference = torch.nn.functional.conv2d(x, w, b, stride, padding, groups=groups)
    compare_derivatives(ours, reference, inputs)

    y = torch.randn_like(ours).requires_grad_()
    ours = conv2d_adjoint(y, w, (size, size), (stride, stride), (padding, padding), groups)
    extra = (size + 2 * padding - 3) % stride
    reference = torch.nn.functional.conv_transpose2d(y, w, None, stride, padding, extra, groups)
    compare_derivatives(ours, reference, [y, w])


def compare_derivatives(ours, reference, inputs):
    close(ours, reference, atol=1e-9)
    direction = torch.randn_like(reference)
    first = [torch.autograd.grad(f, inputs, direction, create_graph=True) for f in (ours, reference)]
    second = [torch.autograd.grad(sum(g.square().sum() for g in f), inputs[:2]) for f in first]
    for a, b in [*zip(*first), *zip(*second)]:
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_wide_layers_with_a_stride_use_matrix_products():
    x = torch.randn(1, 256, 9, 9).to(memory_format=torch.channels_last).requires_grad_()
    w = torch.randn(256, 256, 3, 3, requires_grad=True)
    with Operations() as seen:
        conv2d(x, w, stride=(2, 2)).square().sum().backward()
    assert seen.convolutions == 0
    with Operations() as seen:
        conv2d(x, w, padding=(1, 1)).square().sum().backward()
    assert seen.convolutions == 3


def test_the_gradient_of_images_alone_computes_no_gradient_of_weights():
    x = torch.randn(1, 2, 5, 5, requires_grad=True)
    w = torch.randn(2, 2, 3, 3, requires_grad=True)
    with Operations() as seen:
        torch.autograd.grad(conv2d(x, w, padding=(1, 1)).sum(), x, create_graph=True)
    assert seen.masks == [[True, False, False]]


class Operations(TorchDispatchMode):
    """Counts convolutions, and records which gradients their backward passes compute."""

    def __init__(self):
        super().__init__()
        self.masks, self.convolutions = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.convolutions += "convolution" in str(func)
        if func is torch.ops.aten.convolution_backward.default:
            self.masks.append(list(args[-1]))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("clamp", [None, 0.5])
def test_the_activation_in_place_has_the_derivatives_of_the_plain_activation(clamp):
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    ours = activate_(x * 1, "lrelu", gain=1.5, clamp=clamp)
    reference = torch.nn.functional.leaky_relu(x, 0.2) * 1.5
    reference = reference if clamp is None else reference.clamp(-clamp, clamp)
    close(ours, reference, atol=1e-12)
    first = [torch.autograd.grad(f, x, x.detach(), create_graph=True)[0] for f in (ours * x, reference * x)]
    second = [torch.autograd.grad(g.square().sum(), x)[0] for g in first]
    close(first[0], first[1], atol=1e-12)
    close(second[0], second[1], atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_clamped_values_get_no_gradient_although_the_bound_is_rounded(dtype):
    """Half precision cannot represent D's bound, 256 * sqrt(1/2), exactly."""
    x = torch.tensor([1e4, -1e6, 3.0], dtype=dtype, requires_grad=True)
    activate_(x * 1, "lrelu", gain=1, clamp=256 * 0.5**0.5).sum().backward()
    assert x.grad.tolist() == [0, 0, 1]
