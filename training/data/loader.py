"""Batches for a run, loaded in processes of their own that outlive signals, or in this one."""

import signal

import torch

from dnnlib.util import RunFailed, UserError
from torch_utils import distributed
from training.dataset import InfiniteSampler


def batches(dataset, options, start, device):
    """Endless (images uint8 [share, C, H, W], labels [share, c_dim]) of this process, from the image `start` on.

    RunFailed where a loader process was killed; UserError for a damaged image.
    """
    world = distributed.world_size()
    sampler = InfiniteSampler(len(dataset), distributed.rank(), world, options.seed, options.batch, start=start)
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=options.batch // world,
        sampler=sampler,
        num_workers=options.workers,
        pin_memory=device.type == "cuda",
        persistent_workers=options.workers > 0,
        worker_init_fn=_ignore_signals,
    )
    iterator = iter(loader)
    if options.workers:
        # PyTorch raises from its handler of SIGCHLD, in the middle of whatever runs: a half-done step cannot be saved.
        # Without the handler a dead process is noticed when its next batch is waited for.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    while True:
        try:
            batch = next(iterator)
        except UserError as error:  # from a loader process it comes with that one's traceback before it
            raise UserError(str(error).strip().rpartition("UserError: ")[2]) from None
        except RuntimeError as error:
            if "DataLoader worker (pid" not in str(error):
                raise
            raise RunFailed(
                "a loader process was killed, perhaps for want of memory: resume the run with fewer --workers"
            ) from None
        yield batch


def _ignore_signals(worker):
    """A signal to the process group (Ctrl-C, Slurm, `timeout`) is the training process's, which ends its loaders."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
