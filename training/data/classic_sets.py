"""CIFAR-10 and MNIST as their authors publish them. Nothing in the files is executed or unpacked to the disk."""

import gzip
import pathlib
import struct

import numpy as np

from dnnlib.array_pickle import read_pickle
from dnnlib.util import UserError
from training.data.archives import named_errors, tar_members
from training.data.labels import Labels

MAX_BYTES = 1 << 30
IDX_IMAGES, IDX_LABELS = 0x803, 0x801  # the first four bytes: unsigned bytes in 3 dimensions, or in 1


def read_cifar10(path, split="train"):
    """The images of `cifar-10-python.tar.gz`: (uint8 `[N, 32, 32, 3]`, `Labels`), 50,000 to train, 10,000 to test.

    Raises UserError if the archive is damaged or lacks them.
    """
    batches, class_names = [], [str(i) for i in range(10)]
    start = {"train": "data_batch_", "test": "test_batch"}[split]
    for name, data in tar_members(path, lambda name: name.startswith((start, "batches.meta"))):
        if name == "batches.meta":
            class_names = _cifar_class_names(read_pickle(data, f"{path}: {name}"), f"{path}: {name}")
        elif name.startswith(start):
            batches.append((name, *_cifar_batch(read_pickle(data, f"{path}: {name}"), f"{path}: {name}")))
    if not batches:
        raise UserError(f"{path} has no {start} in it: download cifar-10-python.tar.gz again")
    batches.sort(key=lambda batch: batch[0])
    images = np.concatenate([images for _, images, _ in batches])
    return images, Labels(np.concatenate([labels for _, _, labels in batches]), class_names)


def _cifar_batch(batch, where):
    try:
        data, labels = batch[b"data"], np.array(batch[b"labels"], np.int64)
        images = data.values.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        if images.dtype != np.uint8 or labels.shape != (len(images),) or not ((labels >= 0) & (labels < 10)).all():
            raise ValueError("images or labels")
    except Exception:  # the pickle may have any structure
        raise UserError(f"{where} is not a batch of CIFAR-10: download it again") from None
    return images, labels


def _cifar_class_names(meta, where):
    try:
        names = [name.decode() for name in meta[b"label_names"]]
        if len(names) != 10:
            raise ValueError("ten classes")
    except Exception:  # as above
        raise UserError(f"{where} does not name the classes of CIFAR-10: download it again") from None
    return names


def read_mnist(path):
    """MNIST from its images file, `train-images-idx3-ubyte.gz`, and the labels file beside it.

    Returns (uint8 `[60000, 32, 32]`, `Labels`): the 28x28 images with a black border of 2 pixels. Raises UserError.
    """
    path = pathlib.Path(path)
    labels_path = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    if labels_path == path:
        raise UserError(f"{path} is not named like train-images-idx3-ubyte.gz, so its labels are unknown: rename it")
    if not labels_path.is_file():
        raise UserError(f"{labels_path} is missing: put the labels beside the images")
    with named_errors(path), gzip.open(path) as file:
        images = read_idx(file, IDX_IMAGES)
    with named_errors(labels_path), gzip.open(labels_path) as file:
        labels = read_idx(file, IDX_LABELS)
    return mnist_set(path, images, labels)


def mnist_set(where, images, labels):
    """(uint8 `[N, 32, 32]`, `Labels`) of images `[N, 28, 28]` and classes `[N]`. UserError if shapes differ."""
    if images.shape[1:] != (28, 28) or len(images) == 0:
        raise UserError(f"{where} holds an array of shape {list(images.shape)}, not images of 28x28: download it again")
    if len(images) != len(labels):
        raise UserError(f"{where} has {len(images)} images and {len(labels)} labels: download both again")
    class_names = [str(i) for i in range(labels.max() + 1)]
    return np.pad(images, ((0, 0), (2, 2), (2, 2))), Labels(labels.astype(np.int64), class_names)


def read_idx(file, magic):
    """The array of unsigned bytes in a binary file in MNIST's IDX format. Raises ValueError for other formats."""
    dimensions = magic & 0xFF
    file_magic, *shape = struct.unpack(f">{1 + dimensions}I", file.read(4 * (1 + dimensions)))
    size = int(np.prod(shape, dtype=object))
    if file_magic != magic or size > MAX_BYTES:
        raise ValueError("wrong header")
    data = file.read(size + 1)
    if len(data) != size:
        raise ValueError("wrong length")
    return np.frombuffer(data, np.uint8).reshape(shape)
