"""Half precision: where it is used, and what stays in float32."""

import pytest
import torch
import torch.nn.functional as F
from train_runs import assert_same_state, dry_run, refusal, run_here, write_images

import train
from torch_utils import precision
from torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d
from training.options import from_values
from training.step import build_networks

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
    ("words", "half"),
    [
        (["--cfg", "fewshot"], False),
        (["--cfg", "fewshot", "--bf16", "1"], True),
        (["--cfg", "fast"], False),
        (["--cfg", "fast", "--bf16", "1"], True),
    ],
)
def test_on_a_cpu_networks_compute_in_half_precision_if_asked(tmp_path, monkeypatch, words, half):
    monkeypatch.setattr(precision, "has_amx", lambda: True)
    data = ["--data", write_images(tmp_path / "data", [32] * 10), "--device", "cpu"]
    networks = dry_run(tmp_path, *words, *data)["networks"]
    for network in (networks["D"], networks["G"].get("synthesis_kwargs", networks["G"])):
        assert bool(network.get("half") or network.get("num_fp16_res")) == half


@pytest.mark.parametrize(
    ("words", "amx", "said"),
    [
        ([], False, "this CPU has no AMX, or the environment limits oneDNN's instructions, and without it bfloat16 is"),
        (["--device", "mps"], True, "--bf16 is for a CPU, not for mps: leave it out"),
        (["--fp32", "1"], True, "--bf16 contradicts --fp32: leave one of them out"),
        (["--objective", "wgan"], True, "--bf16 contradicts --objective wgan, which needs float32"),
        (["--cfg", "dcgan"], True, "--bf16 has no effect on the generator dcgan"),
    ],
)
def test_half_precision_that_cannot_be_is_refused(tmp_path, monkeypatch, words, amx, said):
    monkeypatch.setattr(precision, "has_amx", lambda: amx)
    monkeypatch.setattr("dnnlib.devices.pick_device", lambda device: device)
    data = ["--data", write_images(tmp_path / "data", [32] * 10), "--device", "cpu", "--bf16", "1"]
    assert said in refusal(train.main, "--outdir", tmp_path, *data, *words)


def test_a_run_in_half_precision_resumes_to_the_same_bits_and_says_when_it_cannot(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "has_amx", lambda: True)
    data = ["--data", write_images(tmp_path / "data", [8] * 9), "--workers", "0", "--metrics", "none", "--batch", "4"]
    words = [*data, "--cfg", "fewshot", "--holdout", "0", "--device", "cpu", "--bf16", "1"]
    whole = run_here("--outdir", tmp_path / "whole", *words, "--kimg", "0.032")
    half = run_here("--outdir", tmp_path / "half", *words, "--kimg", "0.016")
    run_here("--outdir", tmp_path / "half", "--resume", "latest", "--kimg", "0.032")
    assert_same_state(half, whole)
    assert "continues in float32" not in (half / "log.txt").read_text()
    monkeypatch.setattr(precision, "has_amx", lambda: False)
    run_here("--outdir", tmp_path / "half", "--resume", "latest", "--kimg", "0.036")
    assert "continues in float32, not in bfloat16" in (half / "log.txt").read_text()


@pytest.mark.parametrize("cfg", ["fewshot", "fast"])
def test_a_run_that_began_on_a_gpu_is_float32_on_a_cpu_unless_asked(tmp_path, monkeypatch, cfg):
    monkeypatch.setattr(precision, "has_amx", lambda: True)
    data = ["--data", write_images(tmp_path / "data", [8] * 9), "--batch", "4"]
    options = from_values(dry_run(tmp_path, *data, "--cfg", cfg, "--device", "cpu", "--bf16", "1", "--kimg", "1"))

    def halves():
        networks = build_networks(options, CPU)
        modules = [module for network in networks[:3] for module in network.modules()]
        return [name for m in modules for name in ("use_fp16", "half") if getattr(m, name, None) is True]

    assert halves()
    options.run.bf16 = False  # as on a GPU, whose half precision the presets choose
    assert not halves()


def test_filters_compute_in_float32_on_a_cpu():
    """Exact but for the rounding of the result."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8).bfloat16().requires_grad_()
    f = setup_filter([1, 2.7, 3.1, 1])
    for how in ({"up": 2, "padding": (2, 1, 2, 1)}, {"down": 2, "padding": 1}):
        y, exact = upfirdn2d(x, f, **how), upfirdn2d(x.double(), f, **how)
        torch.testing.assert_close(y.double(), exact, rtol=1.01 * 2**-8, atol=1e-6)  # half a unit in the last place
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert gradient.dtype == torch.bfloat16
