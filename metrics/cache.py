"""A disk cache of features, keyed by everything that determines them.

Features of real images stay until they are deleted. Those of generated images need space for every measured snapshot,
so only the most recently used ones are kept, and none if the cache is not writable.
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

CACHE_VERSION = 1  # raise it when features change
KEPT_BYTES = 2**31  # for generated images: five snapshots of 50,000 images with Inception


GENERATED = ".generated.npz"


def path_of(name, key, suffix=".npz"):
    """The file for `key`, a list of JSON values; `name` makes it recognisable for people."""
    digest = hashlib.sha256(json.dumps([CACHE_VERSION, *key], sort_keys=True, default=str).encode()).hexdigest()
    return cache_dir("metrics") / f"{name}-{digest[:32]}{suffix}"


@functools.lru_cache(maxsize=4)
def content_hash(dataset):
    """The dataset's content hash, computed once because it may read every file."""
    return dataset.content_hash()


def network_hash(network):
    """Hash of a network's arguments and weights: equal hashes mean equal images."""
    digest = hashlib.sha256(json.dumps([type(network).__name__, network.init_kwargs], default=str).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def read_arrays(path):
    """The arrays of an .npz as tensors; None if there is none or it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    with contextlib.suppress(OSError):  # the cache may be read-only
        os.utime(path)  # mark as recently used
    return arrays


def write_arrays(path, arrays):
    """Store tensors at `path`, atomically."""
    with atomic_write(path) as file:
        np.savez(file, **{name: tensor.numpy() for name, tensor in arrays.items()})


def seen_by(detector, device):
    """Key of everything besides the images that determines features: the detector and the kind of device."""
    return [detector.sha256, detector.resize_filter, str(device.type)]


def keep_real(path, arrays):
    """Store features of real images; on failure, print a line on standard error."""
    try:
        write_arrays(path, arrays)
    except OSError as error:
        reason = f"cannot cache {path} ({error.strerror or error})"
        say(f"{reason}: the features of these images will be computed again each time", err=True)


def keep_generated(path, arrays):
    """Store features of generated images if possible, and delete the least recently used beyond KEPT_BYTES."""
    with contextlib.suppress(OSError, UserError):
        write_arrays(path, arrays)
        files = [(file.stat(), file) for file in path.parent.glob(f"*{GENERATED}")]
        room = KEPT_BYTES
        for about, file in sorted(files, key=lambda entry: -entry[0].st_mtime_ns):
            room -= about.st_size
            if room < 0:
                file.unlink(missing_ok=True)


def shared(processes, path_of, compute, keep=keep_real):
    """Arrays from the file `path_of()`, or else from `compute()`, which every process calls. All processes but the
    first get an empty dict."""
    path = path_of() if processes.rank == 0 else None
    stored = read_arrays(path) if processes.rank == 0 else None
    if not processes.on_first(lambda: stored is not None):
        stored = compute()
        processes.on_first(lambda: keep(path, stored))
    return stored or {}
