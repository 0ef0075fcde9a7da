"""Images to train on (the built-in emoji, a folder or a zip), and the endless random order of training."""

import copy
import hashlib

import numpy as np
import torch

from dnnlib import image_size
from dnnlib.util import UserError, printable
from training.data import image_files, twemoji
from training.data.fingerprint import fingerprint
from training.data.labels import Labels, folder_classes
from training.data.selection import Selection, shuffled
from training.data.sources import Emoji, Images


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
    resolution: side in pixels, or [height, width]; dnnlib/image_size.py lists the valid ones. Emoji are drawn at it,
                squares only (None: 32); other images must have it (None: any).
    use_labels: return labels; otherwise labels are empty vectors.
    mirror:     add every image a second time, flipped left to right: `len` doubles, the second half is flipped.
    channels:   "rgb" puts transparent images on white; "rgba" keeps alpha: every image then has four channels.
    subset: use only this many images, chosen by `seed`, in order; None uses all.
    holdout:    hold out this share of them, chosen by `seed`; `held_out` has them.
    class_names: the order of sub-folders that are classes; None sorts them (training/data/labels.py).
    rules:      which files are read, and how (`READING_RULES` of training/data/image_files.py).

    Raises UserError for images that are missing, damaged, of mixed or wrong size, and labels that are missing or wrong.
    """
    if resolution is not None:
        image_size.check_resolution(resolution)
        resolution = image_size.resolution(*image_size.sides(resolution))
    alpha = channels == "rgba"
    builtin = twemoji.is_builtin(path)
    source = Emoji(path, resolution or 32, alpha) if builtin else Images(path, resolution, alpha, class_names, rules)
    return Dataset(source, use_labels, mirror, subset, seed, holdout)


def reopen_dataset(data):
    """The `Dataset` described by `data`, the options of a run or a snapshot. UserError if they are not such options.

    Options without class names are from a version that sorted sub-folders as text: 10 before 2. Options without reading
    rules are from a version that read fewer files. In both cases the data are read as that version did.
    """
    _require_arguments(data)
    data = {"rules": 1} | data
    if data.get("use_labels") and "class_names" not in data and not twemoji.is_builtin(data["path"]):
        data = data | {"class_names": folder_classes(image_files.open_files(data["path"]), key=str)}
    return open_dataset(**data)


def _is_int(value, low, high):
    return type(value) is int and low <= value <= high


_ARGUMENTS = {  # types that options may hold for `open_dataset`, which checks the values
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
        raise UserError(f"{printable(data)} does not name a data set: give --data PATH, or use another snapshot or run")
    for name, value in data.items():
        if name not in _ARGUMENTS or not _ARGUMENTS[name](value):
            raise UserError(
                f"the options of a data set hold {printable(name)} = {printable(value)}, which this version cannot "
                "read: use the version that wrote them, or give --data PATH"
            )


class Dataset(torch.utils.data.Dataset):
    """Images of one size with their labels: `dataset[i]` is (image, label).

    An image is uint8 `[num_channels, height, width]`, with 1 channel (all images are grey), 3, or 4 (premultiplied
    alpha, torch_utils/alpha.py); `resolution` is its side, or [height, width]. A label is float32 `[label_dim]`,
    one-hot for classes, of length 0 without `use_labels`. `num_alpha`: how many files have an alpha channel. The
    object can be pickled, and workers may be forked.
    """

    def __init__(self, source, use_labels=False, mirror=False, subset=None, seed=0, holdout=0):
        self.name, self.path = source.name, source.path
        self.resolution, self.num_channels = source.resolution, source.num_channels
        self.num_alpha, self.rules = source.num_alpha, source.rules
        self._source, self._whole, self.use_labels = source, None, bool(use_labels)
        self._labels = source.labels() if use_labels else Labels(np.zeros((len(source), 0), np.float32), [])
        self.label_dim, self.class_names = self._labels.dim, self._labels.class_names
        if subset is not None and not 1 <= subset <= len(source):
            raise UserError(f"a subset of {subset} images: {self.path} has {len(source)}, give 1 to {len(source)}")
        self.selection = Selection(len(source), mirror, subset, seed, holdout)

    def without(self, share):
        """The same data with this share of the images held out. This data set must hold out none."""
        other = copy.copy(self)
        other.selection = self.selection.without(share)
        return other

    def draw(self):
        """Draw the built-in emoji now rather than at the first access. Does nothing for files."""
        self._source.draw()

    def held_out(self):
        """(image, label) of the held-out images, unflipped: a sequence that reads images on access."""
        return _Chosen(self._source, self._labels, self.selection.held_out)

    def unused_labels(self):
        """A phrase for labels that the images have but `use_labels` ignores; None if there are none."""
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
        values = self._labels.values[self.selection.indices]
        return np.concatenate([values, values]) if self.selection.mirror else values

    def __len__(self):
        return len(self.selection)

    def __getitem__(self, i):
        index, flipped = self.selection.locate(i)
        image = self._source.image(index)
        return np.ascontiguousarray(image[:, :, ::-1] if flipped else image), self._labels.vector(index)

    def label(self, i):
        """The label of image `i`, float32 `[label_dim]`."""
        return self._labels.vector(self.selection.locate(i)[0])

    def options(self):
        """Arguments of `open_dataset` that open the same data again, as values for JSON."""
        selection = self.selection
        return {
            "path": str(self.path),
            "resolution": self.resolution,
            "use_labels": self.use_labels,
            "mirror": selection.mirror,
            "subset": None if selection.subset is None else int(selection.subset),
            "seed": int(selection.seed),
            "channels": "rgba" if self.num_channels == 4 else "rgb",
            "holdout": selection.holdout,
            "class_names": self.class_names,
            "rules": self.rules,
        }

    def remarks(self):
        """Lines for the log: files that were not read, images changed on reading, classes without images."""
        empty = self._labels.empty_classes()
        return [*self._source.remarks(), *([empty] if empty else [])]

    def unflipped(self):
        """All images, without flips, subset and holdout: the reference of metrics with `_full`.

        Always returns the same object, so that its cached results are reused.
        """
        selection = self.selection
        if not selection.mirror and selection.subset is None and not selection.holdout:
            return self
        if self._whole is None:
            self._whole = Dataset(self._source, self.use_labels)
        return self._whole

    def with_held_out(self):
        """(training and held-out images, unflipped, as a `Dataset`; bool [N]: whether image i is held out)."""
        subset, seed = self.selection.subset, self.selection.seed
        whole = self.unflipped()
        data = whole if subset is None else Dataset(self._source, self.use_labels, False, subset, seed)
        return data, np.isin(data.selection.indices, self.selection.held_out)

    def content_hash(self):
        """SHA-256 (hexadecimal) that changes with any image, label, the subset or the flips; a key for caches.

        Reads every file of a folder once; for a zip it uses the checksums stored in the zip.
        """
        digest = hashlib.sha256(repr((self.rules, self.resolution, self.num_channels, self.selection.mirror)).encode())
        for index in self.selection.indices:
            part = hashlib.sha256(self._source.fingerprint(index))
            digest.update(part.digest() + self._labels.values[index].tobytes())
        return digest.hexdigest()

    def fingerprint(self):
        """The fingerprint of all images and labels, selected or not (training/data/fingerprint.py)."""
        return fingerprint(self._source.files(), self._labels.values if self.use_labels else None)


class _Chosen:
    """A sequence of (image, label) of some images of a source."""

    def __init__(self, source, labels, indices):
        self._source, self._labels, self._indices = source, labels, indices

    def __len__(self):
        return len(self._indices)

    def __getitem__(self, i):
        index = int(self._indices[i])
        return self._source.image(index), self._labels.vector(index)


class InfiniteSampler(torch.utils.data.Sampler):
    """The endless order of training images, a pure function of the position in it.

    Position p lies in epoch e = p // num_items, and visits item p % num_items of a permutation that RandomState
    makes from (seed, e). Batch s of all processes together consists of the positions from s * batch_size up to, not
    including, (s + 1) * batch_size; process `rank` takes the rank-th of `num_replicas` equal contiguous parts. So the
    batches of a run do not depend on the number of processes, and there is no state to save: `start`,
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
                    order = shuffled(self.num_items, (self.seed % 2**32, epoch))
                yield int(order[position % self.num_items])
            batch_start += self.batch_size
