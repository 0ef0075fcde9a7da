"""Share work on samples between processes and threads.

Work is split into chunks of one size; chunk p goes to process p modulo their number. If sample i depends only on
(seed, i), the first process gets the same rows in the same order with any number of processes. On a CPU every thread
computes its own chunks: the last bits of a convolution change if several threads share it.
"""

import concurrent.futures
import contextlib
import dataclasses
import math
from typing import Any

import torch
import torch.distributed

from dnnlib.util import UserError
from metrics import detectors


@dataclasses.dataclass(frozen=True)
class Processes:
    """This process among those that share the work, and its device.

    progress: called with (images done, images in all) on the first process; it may raise.
    """

    device: torch.device
    rank: int = 0
    count: int = 1
    progress: Any = None

    def rows(self, what, rows_of, num, start=0):
        """Rows start to start + num of `rows_of(range) -> [len(range), F]` on the first process; None elsewhere.

        All ranges have the same length, so the last may exceed the end. Raises UserError for rows with NaN.
        """
        size = detectors.chunk_size(self.device)
        rounds = math.ceil(num / size / self.count)
        firsts = [start + (step * self.count + self.rank) * size for step in range(rounds)]
        share = []
        with exact_convolutions(), piecewise_map(self.device) as apply:
            for rows in apply(lambda first: rows_of(range(first, first + size)).cpu(), firsts):
                share.append(rows)
                if self.progress and self.rank == 0:
                    self.progress(min(len(share) * self.count * size, num), num)
        shares = self._gather(torch.stack(share))
        rows = interleave(shares, num) if self.rank == 0 else None
        self.on_first(lambda: _require_finite(rows, what))
        return rows

    def _gather(self, share):
        """The shares of all processes on the first, None on the others."""
        if self.count == 1:
            return [share]
        if _on_nccl():
            share = share.to(self.device)
        shares = [torch.empty_like(share) for _ in range(self.count)] if self.rank == 0 else None
        torch.distributed.gather(share, shares)
        return shares and [share.cpu() for share in shares]

    def on_first(self, compute):
        """`compute()` on the first process, its result on all of them; a UserError is raised on all of them."""
        outcome = [None, None]
        if self.rank == 0:
            try:
                outcome = [compute(), None]
            except UserError as error:
                outcome = [None, str(error)]
        if self.count > 1:
            torch.distributed.broadcast_object_list(outcome, device=self.device if _on_nccl() else None)
        if outcome[1] is not None:
            raise UserError(outcome[1])
        return outcome[0]


def interleave(shares, num):
    """Rows [num, F] in sample order from the processes' shares, each [rounds, chunk, F]."""
    return torch.stack(shares, dim=1).flatten(0, 2)[:num]


def exact_convolutions():
    """On CUDA: full float32 and a deterministic algorithm, so that equal images give equal bits."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


@contextlib.contextmanager
def piecewise_map(device):
    """A `map` whose calls run in parallel on a CPU, one thread each, at most torch's number; sequential elsewhere."""
    threads = torch.get_num_threads()
    if device.type != "cpu":
        yield map
        return
    pool = concurrent.futures.ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)  # on an error or Ctrl-C, skip the rest
        torch.set_num_threads(threads)  # MKL's setting is global


def _require_finite(rows, what):
    if not all(part.isfinite().all() for part in rows.split(1024)):
        raise UserError(f"features of the {what} hold NaN or infinity: the network has diverged or a file is broken")


def _on_nccl():
    return torch.distributed.get_backend() == "nccl"
