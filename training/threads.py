"""How many threads a run on a CPU takes: all of them or one, whichever a step is clearly faster with.

Beside other work, the threads that compute one operation wait for the one of them that has no core.
"""

import os
import time

import torch

from torch_utils import distributed

CLEARLY_FASTER = 0.9  # a share of the time; what differs less may be chance
PATIENCE_SECONDS = 30  # a measurement that takes longer is not made again with the other number of threads
LOOK_SECONDS = 120  # from one look to the next,
LOOK_SHARE = 0.02  # or so long that looks take at most this share of the time


class Threads:
    """The choice for one process. `OMP_NUM_THREADS` overrides it; several processes share out the cores instead."""

    def __init__(self, run, device):
        given = "OMP_NUM_THREADS" in os.environ
        self.all = torch.get_num_threads()
        if run.threads and not given:
            torch.set_num_threads(run.threads)
        self.chosen_here = device.type == "cpu" and distributed.world_size() == 1 and not given
        self.due = time.monotonic() + LOOK_SECONDS

    def choose(self, measure):
        """Take all threads or one. `measure`: seconds of a step. Returns whether the number has changed."""
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
        """`choose`, where the last look is long enough ago: other work comes and goes."""
        return time.monotonic() >= self.due and self.choose(measure)
