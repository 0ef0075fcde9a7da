"""Devices, CPU cores and memory."""

import contextlib
import ctypes
import os

from dnnlib.util import UserError


def pick_device(name):
    """cpu, cuda or mps: `name` itself, or the best of this machine for `auto`."""
    import torch  # slow to import; keeps --help fast

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if available[device])
    if name not in available:
        raise UserError(f"device {name} is unknown: give auto, cpu, cuda or mps")
    if not available[name]:
        raise UserError(f"this machine has no {name}: give --device cpu")
    return name


def gpu_count():
    import torch

    return torch.cuda.device_count()


def gpu_memory():
    """Bytes of memory of the smallest GPU."""
    import torch

    return min(torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count()))


def wait(device):
    """Block until the device has finished all queued work."""
    if device.type != "cpu":
        import torch

        getattr(torch, device.type).synchronize()


def cpu_cores():
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory():
    """Make glibc keep freed memory; on other systems, do nothing.

    Every step frees and allocates the same large blocks. If they are returned to the system, each of their pages causes
    a page fault when it is used again.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: no block gets a mapping of its own,
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: the heap is never cut,
        mallopt(-2, 64 << 20)  # M_TOP_PAD: and grows by 64 MiB
