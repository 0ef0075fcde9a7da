"""The machine of a measurement."""

import os
import pathlib
import platform
import re

import torch

from dnnlib.devices import cpu_cores

# With these variables torch, oneDNN and MKL use at most AVX2, so an AVX-512 machine can replace one without.
AVX2_ONLY = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


def machine(threads=True):
    """One line: the CPU, its instruction set, cores, threads (optional, for tables that vary them), versions."""
    info = pathlib.Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    names = re.findall(r"model name\s*: (.+)", text)
    name = names[0] if names else platform.processor() or platform.machine()
    vectors = torch.backends.cpu.get_cpu_capability()
    if "avx512f" in text and AVX2_ONLY.items() <= os.environ.items():
        vectors = "AVX2 forced on a CPU with AVX-512"
    parts = [f"{name} ({vectors})", f"{cpu_cores()} cores"]
    parts += [f"{torch.get_num_threads()} threads"] if threads else []
    return ", ".join([*parts, f"torch {torch.__version__}"])
