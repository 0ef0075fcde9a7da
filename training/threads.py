"""The number of threads of a run on a CPU: all or one, whichever makes a step clearly faster.

If other programs use the cores, the threads of one operation wait for the slowest of them.
"""

import os
import time

import torch

from torch_utils import distributed

CLEARLY_FASTER = 0.9  # share of the time; smaller differences may be noise
PATIENCE_SECONDS = 30  # if measuring takes longer, do not measure the other number of threads
LOOK_SECONDS = 120  # interval between two measurements,
LOOK_SHARE = 0.02  # longer if they would take more than this share of the time


class Threads:
    """Chooses for one process. `OMP_NUM_THREADS` overrides it; several processes divide the cores instead."""

    def __init__(self, run, device):
        fixed = "OMP_NUM_THREADS" in os.environ
        self.all = torch.get_num_threads()
        if run.threads and not fixed:
            torch.set_num_threads(run.threads)
        self.chosen_here = device.type == "cpu" and distributed.world_size() == 1 and not fixed
        self.due = time.monotonic() + LOOK_SECONDS

    def choose(self, measure):
        """Use all threads or one. `measure` returns the seconds of a step. Returns whether the number has changed."""
        before, start = torch.get_num_threads(), time.monotonic()
        other = 1 if before > 1 else self.all
        if self.chosen_here and other != before:
            seconds = measure()
            if time.monotonic() - start < PATIENCE_SECONDS:
                torch.set_num_threads(other)
                if measure() > CLEARLY_FASTER * seconds:
                    torch.set_num_threads(before)
        now = time.monotonic()
        self.due = now + max(LOOK_SECONDS, (now - start) / LOOK_SHARE)
        return torch.get_num_threads() != before

    def choose_again(self, measure):
        """`choose` again if the interval has passed: the load of the machine changes."""
        return time.monotonic() >= self.due and self.choose(measure)
