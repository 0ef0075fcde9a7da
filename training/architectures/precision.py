"""Half precision for networks with batch normalisation: convolutions in bfloat16, norms and images in float32.

bfloat16 has the exponents of float32, so no gradient underflows and no loss has to be scaled. It is used where the
device multiplies matrices in it: by NVIDIA's GPUs from Ampere on, and by CPUs with AMX (Intel's Xeons since 2023).
Elsewhere everything is float32.
"""

import contextlib
import os

import torch
from torch import nn


def convolutions(device: torch.device, half: bool) -> contextlib.AbstractContextManager:
    """A context in which convolutions compute in half precision, where `half` asks for it and the device has it."""
    if not half or not supported(device):
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def supported(device: torch.device) -> bool:
    """Whether half precision is faster than float32 on this device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and has_amx()


def has_amx() -> bool:
    """Whether the CPU has AMX, and oneDNN may use it. CPUs with nothing but AVX-512 are slower in bfloat16."""
    return "ONEDNN_MAX_CPU_ISA" not in os.environ and torch.cpu.get_capabilities().get("amx_bf16", False)


class DepthwiseConv2d(nn.Conv2d):
    """In float32 on CPUs, where the gradient of a depthwise convolution takes three times as long in bfloat16."""

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
