"""Half precision: the types other than float32 in which networks compute, and where.

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
    """Whether the device computes convolutions faster in bfloat16 than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and has_amx()


NO_AMX = "this CPU has no AMX, or the environment limits oneDNN's instructions"


def has_amx() -> bool:
    """Whether the CPU has AMX, and no variable of the environment keeps oneDNN from using it."""
    limited = {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"} & os.environ.keys()
    return not limited and torch.cpu.get_capabilities().get("amx_bf16", False)


def compute_in_float32(*networks: nn.Module) -> None:
    """Let networks that were built for half precision compute in float32."""
    for network in networks:
        for module in network.modules():
            for name in ("use_fp16", "half"):
                if isinstance(getattr(module, name, None), bool):
                    setattr(module, name, False)


class Depthwise:
    """Makes a class of convolutions compute in float32 on a CPU."""

    def forward(self, x):
        if x.device.type != "cpu":
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


def keep_depthwise_exact(network: nn.Module) -> None:
    """Make the depthwise convolutions of a network `Depthwise`."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.__class__ = type("DepthwiseConv2d", (Depthwise, type(module)), {})
