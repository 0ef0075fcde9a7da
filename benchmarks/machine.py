"""What a figure was measured on."""

import pathlib
import platform
import re

import torch


def machine():
    """One line: the CPU, threads, versions."""
    info = pathlib.Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", info.read_text()) if info.exists() else []
    name = names[0] if names else platform.processor() or platform.machine()
    vectors = torch.backends.cpu.get_cpu_capability()
    return f"{name} ({vectors}), {torch.get_num_threads()} threads, torch {torch.__version__}"
