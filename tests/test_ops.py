"""torch_utils.ops against golden data and their second derivatives."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_utils.ops import upfirdn2d


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
