"""Images to train on: the built-in emoji, a folder or a zip; and the endless order in which they are visited."""

import collections
import copy
import functools
import hashlib
import os
import pathlib
import zlib

import numpy as np
import torch
from tqdm import tqdm

from dnnlib import image_size
from dnnlib.util import UserError, printable
from torch_utils.alpha import premultiply
from training.data import decode, image_files, twemoji
from training.data.fingerprint import MAX_READ_BYTES, fingerprint
from training.data.labels import Labels, folder_classes, read_labels

# Up to here (seconds of work) opening decodes every image, above it reads the headers only.
THOROUGH_BYTES = 1 << 28
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by channels


def open_dataset(
    path,
    resolution=None,
    use_labels=False,
    mirror=False,
    subset=None,
    seed=0,
    channels="rgb",
    holdout=0,
    class_names=None,
    rules=image_files.READING_RULES,
):
    """Open images to train on as a `Dataset`.

    path:       "twemoji" for the built-in emoji, "twemoji:smileys" for a group of them (training/data/twemoji.py),
                a folder or a zip of images (with a `dataset.json` or not).
    resolution: side in pixels, or [height, width]; dnnlib/image_size.py says which there are. Emoji are drawn at it,
                squares only (None: 32); other images must have it (None: whatever they have).
    use_labels: hand out labels; else they have no components.
    mirror:     every image a second time, flipped left to right: `len` doubles, the second half is flipped.
    channels:   "rgb" puts transparent images on white; "rgba" keeps alpha: every image then has four channels.
    subset:     take only this many images, chosen by `seed`, in order; None takes all.
    holdout:    leave this share of them out, chosen by `seed`: `held_out` has them.
    class_names: the order of sub-folders that are classes; None sorts them (training/data/labels.py).
    rules: which files are read, and how (`READING_RULES` of training/data/image_files.py).

    Raises UserError for images that are missing, damaged, of mixed or wrong size, and labels that are missing or wrong.
    """
    if resolution is not None:
        image_size.check_resolution(resolution)
        resolution = image_size.resolution(*image_size.sides(resolution))
    alpha = channels == "rgba"
    builtin = twemoji.is_builtin(path)
    source = _Emoji(path, resolution or 32, alpha) if builtin else _Images(path, resolution, alpha, class_names, rules)
    return Dataset(source, use_labels, mirror, subset, seed, holdout)


def reopen_dataset(data):
    """The `Dataset` that `data`, the options of a run or a snapshot, names. UserError where they are not such options.

    Where they have no class names, they are of a version that sorted sub-folders as text: 10 before 2. Where they have
    no reading rules, they are of a version that read fewer files: the same ones are read now.
    """
    _require_arguments(data)
    data = {"rules": 1} | data
    if data.get("use_labels") and "class_names" not in data and not twemoji.is_builtin(data["path"]):
        data = data | {"class_names": folder_classes(image_files.open_files(data["path"]), key=str)}
    return open_dataset(**data)


def _is_int(value, low, high):
    return type(value) is int and low <= value <= high


_ARGUMENTS = {  # what options may hold for `open_dataset`, which checks the values further
    "path": lambda value: isinstance(value, str) and value != "",
    "resolution": lambda value: value is None or _is_side(value) or _are_sides(value),
    "use_labels": lambda value: isinstance(value, bool),
    "mirror": lambda value: isinstance(value, bool),
    "subset": lambda value: value is None or _is_int(value, 1, 1 << 40),
    "seed": lambda value: _is_int(value, 0, 2**32 - 1),
    "channels": lambda value: value in ("rgb", "rgba"),
    "holdout": lambda value: type(value) in (int, float) and 0 <= value < 1,
    "class_names": lambda value: value is None or isinstance(value, list) and all(isinstance(n, str) for n in value),
    "rules": lambda value: _is_int(value, 1, image_files.READING_RULES),
}


def _is_side(value):
    return _is_int(value, 1, 1 << 16)


def _are_sides(value):
    return isinstance(value, list) and len(value) == 2 and all(map(_is_side, value))


def _require_arguments(data):
    if not isinstance(data, dict) or "path" not in data:
        raise UserError(
            f"{printable(data)} does not name a data set: give --data PATH, or take another snapshot or run"
        )
    for name, value in data.items():
        if name not in _ARGUMENTS or not _ARGUMENTS[name](value):
            raise UserError(
                f"the options of a data set hold {printable(name)} = {printable(value)}, which this version cannot "
                "read: take the version that wrote them, or give --data PATH"
            )


class Dataset(torch.utils.data.Dataset):
    """Images of one size with their labels: `dataset[i]` is (image, label).

    An image is uint8 `[num_channels, height, width]`, of 1 (all images are grey), 3, or 4 channels (premultiplied
    alpha, torch_utils/alpha.py); `resolution` is its side, or [height, width]. A label is float32 `[label_dim]`,
    one-hot for classes, of length 0 without `use_labels`. `num_alpha`: how many files have an alpha channel. Picklable;
    workers may be forked.
    """

    def __init__(self, source, use_labels=False, mirror=False, subset=None, seed=0, holdout=0):
        self.name, self.path = source.name, source.path
        self.resolution, self.num_channels = source.resolution, source.num_channels
        self.num_alpha, self.rules = source.num_alpha, source.rules
        self.use_labels, self.mirror, self.subset, self.seed = bool(use_labels), bool(mirror), subset, seed
        self._source, self._whole = source, None
        self._labels = source.labels() if use_labels else Labels(np.zeros((len(source), 0), np.float32), [])
        self._indices = np.arange(len(source))
        if subset is not None:
            if not 1 <= subset <= len(source):
                raise UserError(f"a subset of {subset} images: {self.path} has {len(source)}, take 1 to {len(source)}")
            self._indices = _shuffled(len(source), seed)[:subset]
            self._indices.sort()
        self._set_apart(holdout)

    def _set_apart(self, share):
        total = len(self._indices)
        if share and not self.can_hold_out(share):
            raise UserError(f"--holdout {share:g} of {total} images leaves none on one side: give another share")
        chosen = np.zeros(total, bool)
        chosen[_shuffled(total, self.seed)[: round(total * share)]] = True
        self.holdout = share
        self._held_out, self._indices = self._indices[chosen], self._indices[~chosen]

    def can_hold_out(self, share):
        """Whether `share` of the images is at least one of them, and not all."""
        return 1 <= round(len(self._indices) * share) < len(self._indices)

    def without(self, share):
        """The same data with this share of the images held out, of a data set that holds out none."""
        other = copy.copy(self)
        other._set_apart(share)
        return other

    def draw(self):
        """Draw the built-in emoji, which else waits until an image is asked for; files have nothing to draw."""
        self._source.draw()

    def held_out(self):
        """(image, label) of the images that `holdout` left out, unflipped: a sequence that reads what is asked for."""
        return _HeldOut(self._source, self._labels, self._held_out)

    @property
    def label_dim(self):
        return self._labels.dim

    @property
    def class_names(self):
        """Names of the classes, in order; empty without labels, or where labels are not classes."""
        return self._labels.class_names

    def unused_labels(self):
        """The labels that the images have and `use_labels` does not ask for, in words; None without such labels."""
        try:
            labels = None if self.use_labels or twemoji.is_builtin(self.path) else self._source.labels()
        except UserError:
            return None
        if labels is None:
            return None
        return f"{labels.dim} classes" if labels.class_names else f"labels of {labels.dim} numbers"

    @property
    def raw_labels(self):
        """Classes int64 `[len]` or vectors float32 `[len, label_dim]`, in the order of the images."""
        values = self._labels.values[self._indices]
        return np.concatenate([values, values]) if self.mirror else values

    def __len__(self):
        return len(self._indices) * (2 if self.mirror else 1)

    def __getitem__(self, i):
        index, flipped = self._locate(i)
        image = self._source.image(index)
        return np.ascontiguousarray(image[:, :, ::-1] if flipped else image), self._labels.vector(index)

    def label(self, i):
        """The label of image `i`, float32 `[label_dim]`."""
        return self._labels.vector(self._locate(i)[0])

    def _locate(self, i):
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        flipped, k = divmod(int(i), len(self._indices))
        return int(self._indices[k]), bool(flipped)

    def options(self):
        """Arguments of `open_dataset` that open the same data again, fit for JSON."""
        return {
            "path": str(self.path),
            "resolution": self.resolution,
            "use_labels": self.use_labels,
            "mirror": self.mirror,
            "subset": None if self.subset is None else int(self.subset),
            "seed": int(self.seed),
            "channels": "rgba" if self.num_channels == 4 else "rgb",
            "holdout": self.holdout,
            "class_names": self.class_names,
            "rules": self.rules,
        }

    def remarks(self):
        """Lines to say of the files: what was not read, what was changed on reading, classes without images."""
        empty = self._labels.empty_classes()
        return [*self._source.remarks(), *([empty] if empty else [])]

    def unflipped(self):
        """All images, without flips, subset and holdout: what metrics with `_full` compare with.

        Always the same object, for what is remembered of it.
        """
        if not self.mirror and self.subset is None and not self.holdout:
            return self
        if self._whole is None:
            self._whole = Dataset(self._source, self.use_labels)
        return self._whole

    def with_held_out(self):
        """(the training images and those that `holdout` left out, unflipped, as a `Dataset`; bool [N]: left out)."""
        whole = self.unflipped()
        data = whole if self.subset is None else Dataset(self._source, self.use_labels, False, self.subset, self.seed)
        return data, np.isin(data._indices, self._held_out)

    def content_hash(self):
        """SHA-256 (hexadecimal) that changes with any image, label, the subset or the flips; for caches by content.

        Reads every file of a folder once; of a zip it takes the checksums that the zip holds.
        """
        digest = hashlib.sha256(repr((self.rules, self.resolution, self.num_channels, self.mirror)).encode())
        for index in self._indices:
            part = hashlib.sha256(self._source.fingerprint(index))
            digest.update(part.digest() + self._labels.values[index].tobytes())
        return digest.hexdigest()

    def fingerprint(self):
        """Of all images and labels, whichever are chosen: training/data/fingerprint.py."""
        return fingerprint(self._source.files(), self._labels.values if self.use_labels else None)


class _HeldOut:
    def __init__(self, source, labels, indices):
        self._source, self._labels, self._indices = source, labels, indices

    def __len__(self):
        return len(self._indices)

    def __getitem__(self, i):
        index = int(self._indices[i])
        return self._source.image(index), self._labels.vector(index)


class _Emoji:
    """The built-in emoji, or a group of them, at one resolution."""

    num_alpha = 0
    rules = 1  # they are not files, so the rules do not concern them

    def __init__(self, path, resolution, alpha):
        if not isinstance(resolution, int):
            raise UserError(f"{path} is drawn in squares, not at {image_size.text(resolution)}: give a folder or a zip")
        self.path, self.name, self.resolution = str(path), str(path).replace(":", "-"), resolution
        self.num_channels = 4 if alpha else 3
        self._chosen = twemoji.select(path)
        self._names, self._key = twemoji.names(), twemoji.cache_key(resolution, self.num_channels)
        self._images = None

    def __len__(self):
        return len(self._chosen)

    def __getstate__(self):
        return self.__dict__ | {"_images": None}  # a memory map would be pickled as all its bytes

    def draw(self):
        if self._images is None:
            self._images = twemoji.load(self.resolution, self.num_channels)

    def image(self, i):
        self.draw()
        return np.array(self._images[self._chosen[i]])

    def labels(self):
        if len(self) < len(self._names):
            raise UserError(f"{self.path} is a single class: train without labels, or take {twemoji.NAME} with them")
        return Labels(*twemoji.categories())

    def remarks(self):
        return []

    def files(self):
        """(name, size, function that gives the CRC-32) of each drawing, for its fingerprint: here of its pixels."""
        size = self.num_channels * self.resolution**2
        readable = size * len(self) <= MAX_READ_BYTES
        crc = [functools.partial(self._crc, i) if readable else None for i in range(len(self))]
        return [(self._names[chosen], size, crc[i]) for i, chosen in enumerate(self._chosen)]

    def _crc(self, i):
        return zlib.crc32(self.image(i))

    def fingerprint(self, i):
        return f"{self._key} {self._names[self._chosen[i]]}".encode()


class _Images:
    """The images of a folder or a zip, checked to be of one size."""

    def __init__(self, path, resolution, alpha, class_names, rules):
        self._files, self._class_names, self.rules = image_files.open_files(path, rules), class_names, rules
        self.path, self.name = pathlib.Path(os.path.abspath(path)), self._files.stem
        for name, problem in self._files.refused.items():
            raise UserError(f"{path}: {name} is refused, {problem}: make the zip anew without it")
        if not self._files.names:
            raise UserError(self._files.holds_nothing())
        self.resolution, all_grey, self.num_alpha, self._counts = _survey(self._files, resolution)
        if alpha and not self.num_alpha:
            raise UserError(f"{path}: no image has an alpha channel: leave --channels rgba out")
        self.num_channels = 4 if alpha else 1 if all_grey else 3

    def __len__(self):
        return len(self._files.names)

    def image(self, i):
        name = self._files.names[i]
        image = decode.decode(self._files, name, keep_alpha=self.num_channels == 4)
        if image_size.resolution(image.height, image.width) != self.resolution:
            raise UserError(f"{self.path}: {name} has changed its size since the start: start anew")
        image = np.atleast_3d(np.array(image.convert(_MODES[self.num_channels]))).transpose(2, 0, 1)
        return premultiply(image) if self.num_channels == 4 else image

    def remarks(self):
        return [*self._files.remarks(), *decode.remarks(self._counts)]

    def draw(self):
        pass

    def labels(self):
        labels = read_labels(self._files, self._class_names)
        if labels is None:
            raise UserError(
                f"{self.path} has no labels: add a {image_files.LABELS_FILE} with them, put every image into "
                "the sub-folder of its class, or train without labels"
            )
        return labels

    def files(self):
        """(name, size, function that gives the CRC-32) of each file, for their fingerprint."""
        sizes = [self._files.size(name) for name in self._files.names]
        readable = self._files.knows_crcs or sum(sizes) <= MAX_READ_BYTES
        crc = self._files.crc
        return [
            (name, size, functools.partial(crc, name) if readable else None)
            for name, size in zip(self._files.names, sizes)
        ]

    def fingerprint(self, i):
        name = self._files.names[i]
        head = f"{name}\0{self._files.size(name)}\0".encode("utf-8", "surrogatepass")
        return head + self._files.fingerprint(name)


def _survey(files, resolution):
    """(resolution, are all grey, how many have alpha, Counter for `decode.remarks`).

    A UserError names the first image that is damaged or does not fit.
    """
    thorough = sum(files.size(name) for name in files.names) <= THOROUGH_BYTES
    before, all_grey, num_alpha, counts = None, True, 0, collections.Counter()
    for name in tqdm(files.names, desc="checking images", delay=3, leave=False, disable=None):
        header = decode.header(files, name)
        width, height = header.width, header.height
        if thorough and width * height <= image_size.LARGEST**2:  # larger ones are refused anyway
            width, height = decode.decode(files, name).size
        image_size.check_size(f"{files.path}: {name}", width, height, before, resolution)
        before, all_grey = image_size.resolution(height, width), all_grey and header.grey
        num_alpha += header.alpha
        decode.count(counts, files, name, header)
    return before, all_grey, num_alpha, counts


def _shuffled(count, seed):
    order = np.arange(count)
    np.random.RandomState(seed).shuffle(order)
    return order


class InfiniteSampler(torch.utils.data.Sampler):
    """The endless order in which images are visited, a pure function of the position in it.

    Position p lies in epoch e = p // num_items, and visits item p % num_items of a permutation that RandomState
    makes from (seed, e). Batch s of all processes together is the positions from s * batch_size up to, not including,
    (s + 1) * batch_size; of these, process `rank` takes the rank-th of `num_replicas` equal parts in a row. So the
    batches of a run do not depend on how many processes share the work, and there is no state to save: `start`,
    the images consumed by all processes so far, is all that a resumed run needs to continue as if never stopped.

    num_items:  length of the dataset, at least 1.
    batch_size: images of one batch over all processes, a multiple of num_replicas.
    start:      a multiple of batch_size.

    Yields single indices: give it to a DataLoader with batch_size / num_replicas (or a divisor of it) as batch size.
    Raises ValueError for arguments that break these rules.
    """

    def __init__(self, num_items, rank=0, num_replicas=1, seed=0, batch_size=1, start=0):
        if num_items < 1 or not 0 <= rank < num_replicas or batch_size < 1 or batch_size % num_replicas:
            raise ValueError(f"{num_items} items, rank {rank} of {num_replicas}, batches of {batch_size}")
        if start < 0 or start % batch_size:
            raise ValueError(f"start {start} is not a multiple of the batch size {batch_size}")
        self.num_items, self.seed, self.batch_size, self.start = num_items, seed, batch_size, start
        self.share = batch_size // num_replicas
        self.offset = rank * self.share

    def __iter__(self):
        epoch, order = None, None
        batch_start = self.start
        while True:
            for position in range(batch_start + self.offset, batch_start + self.offset + self.share):
                if position // self.num_items != epoch:
                    epoch = position // self.num_items
                    order = _shuffled(self.num_items, (self.seed % 2**32, epoch))
                yield int(order[position % self.num_items])
            batch_start += self.batch_size
