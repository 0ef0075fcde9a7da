"""Half precision: the type in which networks compute, where that is faster than float32.

GPUs have float16, and bfloat16 from NVIDIA's Ampere on. CPUs with AMX (Intel's Xeons since 2023) have bfloat16, and use
it only in training (`--bf16`), so samples and metrics do not depend on the CPU. Depthwise convolutions stay in float32
on a CPU: in bfloat16 their gradients take three times as long.
"""

import contextlib
import os

import torch
from torch import nn


def block_type(device: torch.device, training: bool) -> torch.dtype | None:
    """The type of StyleGAN2's blocks in half precision; None if they compute in the type of their weights."""
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if device.type == "cpu" and training and has_amx() else None


def convolutions(device: torch.device, half: bool) -> contextlib.AbstractContextManager:
    """A context for networks with batch normalisation: convolutions compute in bfloat16, where `half` asks for it and
    the device has it; norms stay in float32. bfloat16 has the exponents of float32, so no gradient underflows."""
    return torch.autocast(device.type, torch.bfloat16) if half and has_bfloat16(device) else contextlib.nullcontext()


def has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and has_amx()


def has_amx() -> bool:
    """Whether the CPU has AMX, and oneDNN may use it. CPUs with nothing but AVX-512 are slower in bfloat16."""
    return "ONEDNN_MAX_CPU_ISA" not in os.environ and torch.cpu.get_capabilities().get("amx_bf16", False)


class DepthwiseConv2d(nn.Conv2d):
    """Computes in float32 on a CPU."""

    def forward(self, x):
        if x.device.type != "cpu":
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


def keep_depthwise_exact(network: nn.Module) -> None:
    """Turn the depthwise convolutions of a network into `DepthwiseConv2d`."""
    for module in network.modules():
        if type(module) is nn.Conv2d and module.groups > 1:
            module.__class__ = DepthwiseConv2d
