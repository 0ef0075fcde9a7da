"""Features that took long to compute, kept on disk by everything that they follow from.

Those of real images stay until they are deleted. Those of generated images take room with every snapshot that is
measured, so only the ones used last are kept, and none where the cache cannot be written.
"""

import contextlib
import functools
import hashlib
import json
import os
import zipfile

import numpy as np
import torch

from dnnlib.util import UserError, atomic_write, cache_dir, say

CACHE_VERSION = 1  # raise it when cached features would come out differently
KEPT_BYTES = 2**31  # of generated images: five snapshots of 50,000 images with Inception


GENERATED = ".generated.npz"


def path_of(name, key, suffix=".npz"):
    """The file for `key`, a list fit for JSON; `name` is for people who look there."""
    digest = hashlib.sha256(json.dumps([CACHE_VERSION, *key], sort_keys=True, default=str).encode()).hexdigest()
    return cache_dir("metrics") / f"{name}-{digest[:32]}{suffix}"


@functools.lru_cache(maxsize=4)
def content_hash(dataset):
    """The dataset's own, which may read every file, taken once."""
    return dataset.content_hash()


def network_hash(network):
    """Of a network's arguments and weights: two with the same hash make the same images."""
    digest = hashlib.sha256(json.dumps([type(network).__name__, network.init_kwargs], default=str).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def read_arrays(path):
    """The arrays of an .npz as tensors; None where there is none or it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    with contextlib.suppress(OSError):  # a cache that cannot be written is read all the same
        os.utime(path)  # used now: not the first to go
    return arrays


def write_arrays(path, arrays):
    """Keep tensors under `path`, whole or not at all."""
    with atomic_write(path) as file:
        np.savez(file, **{name: tensor.numpy() for name, tensor in arrays.items()})


def seen_by(detector, device):
    """What features follow from besides the images: the detector, and the kind of device with its arithmetic."""
    return [detector.sha256, detector.resize_filter, str(device.type)]


def keep_real(path, arrays):
    """Keep features of real images; where that cannot be done, a line on standard error says so."""
    try:
        write_arrays(path, arrays)
    except OSError as error:
        reason = f"cannot keep {path} ({error.strerror or error})"
        say(f"{reason}: the features of these images are computed again each time", err=True)


def keep_generated(path, arrays):
    """Keep features of generated images if that can be done, and delete those used longest ago beyond KEPT_BYTES."""
    with contextlib.suppress(OSError, UserError):
        write_arrays(path, arrays)
        files = [(file.stat(), file) for file in path.parent.glob(f"*{GENERATED}")]
        room = KEPT_BYTES
        for about, file in sorted(files, key=lambda entry: -entry[0].st_mtime_ns):
            room -= about.st_size
            if room < 0:
                file.unlink(missing_ok=True)


def shared(processes, path_of, compute, keep=keep_real):
    """Arrays from the file `path_of()`, else from `compute()`, which every process calls; on the others than the first
    an empty dict."""
    path = path_of() if processes.rank == 0 else None
    stored = read_arrays(path) if processes.rank == 0 else None
    if not processes.on_first(lambda: stored is not None):
        stored = compute()
        processes.on_first(lambda: keep(path, stored))
    return stored or {}
