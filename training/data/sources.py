"""Where the images of a data set come from: the built-in emoji, or a folder or zip of files, all of one size."""

import collections
import functools
import os
import pathlib
import zlib

import numpy as np
from tqdm import tqdm

from dnnlib import image_size
from dnnlib.util import UserError
from torch_utils.alpha import premultiply
from training.data import decode, image_files, twemoji
from training.data.fingerprint import MAX_READ_BYTES
from training.data.labels import Labels, read_labels

# Up to this many pixels (seconds of work) opening decodes every image; above, it reads only the headers.
THOROUGH_BYTES = 1 << 28
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> Pillow mode


class Emoji:
    """The built-in emoji, or a group of them, at one resolution."""

    num_alpha = 0
    rules = 1  # the rules are for files, so they do not apply

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
        return self.__dict__ | {"_images": None}  # pickling a memory map copies all its bytes

    def draw(self):
        if self._images is None:
            self._images = twemoji.load(self.resolution, self.num_channels)

    def image(self, i):
        self.draw()
        return np.array(self._images[self._chosen[i]])

    def labels(self):
        if len(self) < len(self._names):
            raise UserError(f"{self.path} is a single class: train without labels, or use {twemoji.NAME} with labels")
        return Labels(*twemoji.categories())

    def remarks(self):
        return []

    def files(self):
        """(name, size, function that returns the CRC-32 of the pixels) of each drawing, for the fingerprint."""
        size = self.num_channels * self.resolution**2
        readable = size * len(self) <= MAX_READ_BYTES
        crc = [functools.partial(self._crc, i) if readable else None for i in range(len(self))]
        return [(self._names[chosen], size, crc[i]) for i, chosen in enumerate(self._chosen)]

    def _crc(self, i):
        return zlib.crc32(self.image(i))

    def fingerprint(self, i):
        return f"{self._key} {self._names[self._chosen[i]]}".encode()


class Images:
    """The images of a folder or a zip. All must have the same size."""

    def __init__(self, path, resolution, alpha, class_names, rules):
        self._files, self._class_names, self.rules = image_files.open_files(path, rules), class_names, rules
        self.path, self.name = pathlib.Path(os.path.abspath(path)), self._files.stem
        for name, problem in self._files.refused.items():
            raise UserError(f"{path}: {name} is refused because {problem}: make the zip again without it")
        if not self._files.names:
            raise UserError(self._files.no_images_message())
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
            raise UserError(f"{self.path}: {name} has changed its size since the start: start a new run")
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
        """(name, size, function that returns the CRC-32) of each file, for the fingerprint."""
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
    """(resolution, whether all are grey, how many have alpha, Counter for `decode.remarks`).

    Raises UserError with the name of the first image that is damaged or does not fit.
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
