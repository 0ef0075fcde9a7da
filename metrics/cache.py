"""Features that took long to compute, kept on disk by everything that they follow from.

Those of real images stay until they are deleted. Those of generated images take room with every snapshot that is
measured, so only the ones used last are kept.
"""

import functools
import hashlib
import json
import os
import zipfile

import numpy as np
import torch

from dnnlib.util import atomic_write, cache_dir

CACHE_VERSION = 1  # raise it when cached features would come out differently
KEPT_BYTES = 2**31  # of generated images: five snapshots of 50,000 images with Inception


def path_of(folder, name, key):
    """The file for `key`, a list fit for JSON, in a folder of the cache; `name` is for people who look there."""
    digest = hashlib.sha256(json.dumps([CACHE_VERSION, *key], sort_keys=True, default=str).encode()).hexdigest()
    return cache_dir(folder) / f"{name}-{digest[:32]}.npz"


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
        os.utime(path)  # used now: not the first to go
        return arrays
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None


def write_arrays(path, arrays):
    """Keep tensors under `path`, whole or not at all."""
    with atomic_write(path) as file:
        np.savez(file, **{name: tensor.numpy() for name, tensor in arrays.items()})


def trim(folder, max_bytes=None):
    """Delete the files of a folder of the cache that were used longest ago, until the others fit into `max_bytes`."""
    files = [(path.stat(), path) for path in cache_dir(folder).glob("*.npz")]
    room = KEPT_BYTES if max_bytes is None else max_bytes
    for about, path in sorted(files, key=lambda file: -file[0].st_mtime_ns):
        room -= about.st_size
        if room < 0:
            path.unlink(missing_ok=True)
