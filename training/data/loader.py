"""Batches for a run, loaded in processes of their own that outlive signals, or in this one."""

import multiprocessing
import signal
import threading
import time

import torch

from dnnlib.util import RunFailed, UserError, stop_signals
from torch_utils import distributed
from training.dataset import InfiniteSampler

WAIT_SECONDS = 1  # for a batch, before whoever waits for it is asked whether to wait on
END_SECONDS = 2  # loader processes have so long to end; one that hangs never would


def batches(dataset, run, start, device, waiting=lambda seconds: None):
    """Endless (images uint8 [share, C, H, W], labels [share, c_dim]) of this process, from the image `start` on.

    run: `RunGroup`.

    waiting(seconds): called each second that a batch of a loader process does not come; it may raise. RunFailed where a
    loader process was killed; UserError for a damaged image.
    """
    world = distributed.world_size()
    sampler = InfiniteSampler(len(dataset), distributed.rank(), world, run.seed, run.batch, start=start)
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=run.batch // world,
        sampler=sampler,
        num_workers=run.workers,
        pin_memory=device.type == "cuda",
        persistent_workers=run.workers > 0,
        worker_init_fn=_ignore_signals,
        timeout=WAIT_SECONDS if run.workers else 0,
    )
    others = multiprocessing.active_children()
    iterator = iter(loader)
    loaders = [process for process in multiprocessing.active_children() if process not in others]
    if run.workers:
        # PyTorch raises from its handler of SIGCHLD, in the middle of whatever runs: a half-done step cannot be saved.
        # Without the handler a dead process is noticed when its next batch is waited for.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        while True:
            yield _next(iterator, waiting)
    finally:  # PyTorch tells them to end, and waits ten seconds for each
        timer = threading.Timer(END_SECONDS, _kill, [loaders])
        timer.daemon = True
        timer.start()


def _next(iterator, waiting):
    asked = time.monotonic()
    while True:
        try:
            return next(iterator)
        except UserError as error:  # from a loader process it comes with that one's traceback before it
            raise UserError(str(error).strip().rpartition("UserError: ")[2]) from None
        except RuntimeError as error:
            if "DataLoader worker (pid" in str(error):
                raise RunFailed(
                    "a loader process was killed, perhaps for want of memory: resume the run with fewer --workers"
                ) from None
            if "DataLoader timed out" not in str(error):
                raise
        waiting(time.monotonic() - asked)


def _ignore_signals(worker):
    """A signal to the process group (Ctrl-C, Slurm, `timeout`) is the training process's, which ends its loaders."""
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)


def _kill(processes):
    for process in processes:
        process.kill()
