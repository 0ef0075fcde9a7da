"""Half precision: where it is used, and what stays in float32."""

import pytest
import torch
import torch.nn.functional as F
from train_runs import dry_run, write_images

from torch_utils import precision
from torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d
from training.presets import preset

CPU = torch.device("cpu")


@pytest.mark.parametrize("amx", [True, False])
def test_a_cpu_computes_in_half_precision_where_it_has_amx(monkeypatch, amx):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": amx})
    x, w = torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)

    def dtype(half):
        with precision.convolutions(CPU, half):
            return F.conv2d(x, w).dtype

    assert dtype(half=True) == (torch.bfloat16 if amx else torch.float32)
    assert precision.block_type(CPU, training=True) == (torch.bfloat16 if amx else None)
    assert dtype(half=False) == torch.float32
    assert precision.block_type(CPU, training=False) is None  # samples do not depend on the CPU
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")  # where bfloat16 is emulated
    assert dtype(half=True) == torch.float32 and precision.block_type(CPU, training=True) is None


@pytest.mark.parametrize(
    ("device", "side", "half"), [("cpu", 32, True), ("cpu", 256, True), ("cuda", 64, False), ("cuda", 256, True)]
)
def test_fast_computes_in_half_precision_on_a_cpu_and_for_large_images(device, side, half):
    assert (device in preset("fast", side, 1, device).half_precision) == half


@pytest.mark.parametrize(
    ("words", "half"),
    [
        (["--cfg", "fewshot"], True),
        (["--cfg", "fewshot", "--fp32", "1"], False),
        (["--cfg", "fewshot", "--objective", "wgan"], False),  # needs float32
        (["--cfg", "small"], False),  # for studies, which give equal results on all devices
        (["--cfg", "fast"], True),
        (["--cfg", "fast", "--fp32", "1"], False),
    ],
)
def test_options_say_which_networks_may_compute_in_half_precision(tmp_path, words, half):
    data = ["--data", write_images(tmp_path / "data", [32] * 10), "--device", "cpu"]
    networks = dry_run(tmp_path, *words, *data)["networks"]
    wanted = networks["D"].get("half") or networks["D"].get("num_fp16_res", 0)
    assert bool(wanted) == half
    assert networks["G"].get("half", networks["G"].get("synthesis_kwargs", {}).get("num_fp16_res", 0)) == wanted


def test_filters_compute_in_float32_on_a_cpu():
    """Exact but for the rounding of the result."""
    x = torch.randn(2, 3, 8, 8).bfloat16().requires_grad_()
    f = setup_filter([1, 2.7, 3.1, 1])
    for how in ({"up": 2, "padding": (2, 1, 2, 1)}, {"down": 2, "padding": 1}):
        y, exact = upfirdn2d(x, f, **how), upfirdn2d(x.double(), f, **how)
        torch.testing.assert_close(y.double(), exact, rtol=1.01 * 2**-8, atol=0)  # half a unit in the last place
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert gradient.dtype == torch.bfloat16
