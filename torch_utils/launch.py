"""Run this command in several processes, with torchrun."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

from dnnlib.devices import cpu_cores, gpu_count
from dnnlib.util import UserError, stop_signals
from torch_utils.parent import parent_variable

POLL_SECONDS = 0.05


def launch(count, device):
    """Run this command in `count` processes on a device (cpu, cuda or mps), and exit with their exit code.

    torchrun gets its own session, so a signal to the process group reaches only this process, which forwards it once.
    """
    if device == "cuda" and count > (there := gpu_count()):
        raise UserError(f"--gpus {count}: this machine has {there}; give at most that many")
    torchrun = pathlib.Path(__file__).with_name("torchrun.py")
    command = [sys.executable, str(torchrun), "--standalone", f"--nproc-per-node={count}"]
    environment = dict(os.environ)
    if device == "cpu":  # by default torchrun gives each process one thread
        environment.setdefault("OMP_NUM_THREADS", str(max(cpu_cores() // count, 1)))
    signals, first = [], None
    for number in stop_signals():
        signal.signal(number, lambda number, frame: signals.append(number))
    process = subprocess.Popen([*command, *sys.argv], start_new_session=True, env=environment | parent_variable())
    while process.poll() is None:
        while signals:
            first = first or signals[0]
            _forward(signals.pop(0), process)
        time.sleep(POLL_SECONDS)
    ended_so = process.returncode > 0 or not first
    sys.exit(process.returncode if ended_so else 128 + first)


def _forward(number, torchrun):
    """Send a signal to the training processes, which handle it; to torchrun if it has not started them."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(torchrun.pid).children() or [torchrun]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


def launch_name():
    """A name of this torchrun, unchanged when it restarts its workers; None without torchrun."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    return f"{socket.gethostname()}-{os.getppid()}" if name == "none" else name
