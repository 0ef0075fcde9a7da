"""Batches for a run, loaded by worker processes that ignore signals, or in this process."""

import multiprocessing
import signal
import threading
import time

import torch

from dnnlib.util import RunFailed, UserError, stop_signals
from torch_utils import distributed
from training.dataset import InfiniteSampler

WAIT_SECONDS = 1  # wait this long for a batch, then call `waiting` and wait again
END_SECONDS = 2  # wait this long for loader processes to end, then kill them


def batches(dataset, run, start, device, waiting=lambda seconds: None):
    """Endless (images uint8 [share, C, H, W], labels [share, c_dim]) of this process, starting at image `start`.

    run: `RunGroup`.

    waiting(seconds): called once a second while a batch of a loader process is late; it may raise. Raises RunFailed if
    a loader process was killed, and UserError for a damaged image.
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
        # PyTorch's SIGCHLD handler raises at any point of the code: an unfinished step cannot be saved.
        # Without the handler, a dead process is noticed while waiting for its next batch.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        while True:
            yield _next(iterator, waiting)
    finally:  # PyTorch asks them to end, and waits ten seconds for each
        timer = threading.Timer(END_SECONDS, _kill, [loaders])
        timer.daemon = True
        timer.start()


def _next(iterator, waiting):
    asked = time.monotonic()
    while True:
        try:
            return next(iterator)
        except UserError as error:  # a loader process puts its traceback before the message
            raise UserError(str(error).strip().rpartition("UserError: ")[2]) from None
        except RuntimeError as error:
            if "DataLoader worker (pid" in str(error):
                raise RunFailed(
                    "a loader process was killed, perhaps because memory ran out: resume the run with fewer --workers"
                ) from None
            if "DataLoader timed out" not in str(error):
                raise
        waiting(time.monotonic() - asked)


def _ignore_signals(worker):
    """Leave signals to the process group (Ctrl-C, Slurm, `timeout`) to the training process, which ends its loaders."""
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)


def _kill(processes):
    for process in processes:
        process.kill()
