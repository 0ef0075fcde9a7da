"""Half precision for networks with batch normalisation: convolutions in bfloat16, norms and images in float32.

bfloat16 has the exponents of float32, so no gradient underflows and no loss has to be scaled. NVIDIA's GPUs have it
from Ampere on; elsewhere everything is float32.
"""

import contextlib

import torch

DTYPE = {"cuda": torch.bfloat16}


def convolutions(device: torch.device, half: bool) -> contextlib.AbstractContextManager:
    """A context in which convolutions compute in half precision, where `half` asks for it and the device has it."""
    if not half or device.type not in DTYPE:
        return contextlib.nullcontext()
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return contextlib.nullcontext()
    return torch.autocast(device.type, DTYPE[device.type])
