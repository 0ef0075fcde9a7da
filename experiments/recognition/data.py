"""A classifier's training and test images: those of the known classes, numbered from 0."""

import numpy as np
import torch

from dnnlib.util import UserError
from training.dataset import open_dataset

MEMORY = 1 << 31  # decode up to this many bytes of images once and keep them in memory


class KnownImages(torch.utils.data.Dataset):
    """The images of the classes `known`: item i is (uint8 [C, H, W], class), where class k is known[k].

    Raises UserError if a class has no image.
    """

    def __init__(self, images, classes, known, where):
        self.images = images
        self.indices = np.flatnonzero(np.isin(classes, known))
        self.labels = np.searchsorted(known, classes[self.indices])
        found = np.bincount(self.labels, minlength=len(known))
        if not found.all():
            raise UserError(
                f"{where}: class {known[int(found.argmin())]} has no image: give more images, or --held-out"
            )
        self._kept = {} if len(self) * images[0][0].nbytes <= MEMORY else None

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, i):
        if self._kept is None:
            return self.images[int(self.indices[i])][0], int(self.labels[i])
        if i not in self._kept:
            self._kept[i] = self.images[int(self.indices[i])][0]
        return self._kept[i], int(self.labels[i])

    def tensors(self, count=None):
        """The first `count` images, uint8 [N, C, H, W], and their classes [N]."""
        chosen = range(len(self))[:count]
        return torch.from_numpy(np.stack([self[i][0] for i in chosen])), torch.from_numpy(self.labels[: len(chosen)])


class Sets:
    """train, test: `KnownImages`; unknown: uint8 [N, C, H, W], the test images of the held-out classes.

    data, testdata: paths (training/dataset.py). Without test images, a fifth of `data` is used for testing.
    subset: train on this many images, chosen by `seed`. held_out: classes to exclude from training.
    """

    def __init__(self, data, testdata=None, subset=None, seed=0, held_out=()):
        source = open_dataset(data, use_labels=True, subset=subset, seed=seed, holdout=0 if testdata else 0.2)
        self.known = known_classes(source, held_out)
        self.train = KnownImages(source, source.raw_labels, self.known, data)
        if testdata:
            test = open_dataset(testdata, use_labels=True)
            check_alike(source, test)
            items, classes = test, test.raw_labels
        else:
            items = source.held_out()
            classes = np.array([label.argmax() for _, label in items])
        if not testdata or (np.diff(classes) >= 0).all():  # images may be sorted by class, so shuffle them
            order = np.random.RandomState(0).permutation(len(classes))
            items, classes = torch.utils.data.Subset(items, order.tolist()), classes[order]
        self.test = KnownImages(items, classes, self.known, testdata or f"the test fifth of {data}")
        unknown = np.flatnonzero(np.isin(classes, held_out))
        self.unknown = torch.from_numpy(np.stack([items[int(i)][0] for i in unknown])) if len(unknown) else None

    @classmethod
    def of(cls, options):
        """The sets that a run's options describe."""
        return cls(*(options[name] for name in ("data", "testdata", "subset", "seed", "held_out")))

    @property
    def num_classes(self):
        return len(self.known)

    def mean_std(self, count=10_000):
        """Mean and standard deviation of the channels of the first training images, [C] each, in [0, 1]."""
        images = self.train.tensors(count)[0].float().transpose(0, 1).flatten(1) / 255
        return images.mean(dim=1), images.std(dim=1).clamp(min=1e-3)


def known_classes(source, held_out):
    """The classes of a `Dataset` except those held out. Raises UserError if it has no classes."""
    if not source.class_names:
        raise UserError(f"{source.path} has no classes: a classifier needs one class an image")
    total = len(source.class_names)
    if unknown := set(held_out) - set(range(total)):
        raise UserError(f"--held-out {min(unknown)}: {source.path} has the classes 0 to {total - 1}")
    known = np.array([k for k in range(total) if k not in held_out])
    if len(known) < 2:
        raise UserError(f"--held-out leaves {len(known)} of {total} classes: two are needed")
    return known


def check_alike(source, test):
    """Raise UserError unless test images have the training images' shape and classes."""
    for what in ("resolution", "num_channels"):
        ours, theirs = getattr(source, what), getattr(test, what)
        if ours != theirs:
            raise UserError(f"{test.path} has {what} {theirs}, {source.path} has {ours}: make both alike")
    if len(test.class_names) != len(source.class_names):
        raise UserError(
            f"{test.path} has {len(test.class_names)} classes, {source.path} has {len(source.class_names)}: "
            "they must be the same"
        )
