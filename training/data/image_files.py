"""Images in a folder or a zip: which there are, and how a file of any origin becomes grey or RGB pixels.

Files come from anywhere, so nothing here trusts them: only the formats below are tried, no file may be larger than
`MAX_FILE_BYTES` or hold more pixels than Pillow's limit, zip entries are read in place and never extracted, and
whatever is wrong with a file becomes a one-line `UserError` that names it.
"""

import contextlib
import io
import logging
import os
import pathlib
import stat
import warnings
import zipfile

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from dnnlib.util import UserError, printable
from training import image_size

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # no EPS and the like: their readers start programs
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
SIXTEEN_BIT_MODES = {"I;16", "I;16L", "I;16B", "I;16N"}
GREY_MODES = {"1", "L", "LA", "La"} | SIXTEEN_BIT_MODES
MAX_FILE_BYTES = 1 << 28
LABELS_FILE = "dataset.json"

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it says beside its exceptions names no file


def open_files(path):
    """The images of a folder or a zip, as `FolderFiles` or `ZipFiles`. Raises UserError where `path` is neither."""
    path = pathlib.Path(path)
    if path.is_dir():
        return FolderFiles(path)
    if not path.exists():
        raise UserError(f"{path} does not exist: give a folder or a zip of images")
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise UserError(f"{path} is neither a folder nor a readable zip: give a folder or a zip of images")
    return ZipFiles(path)


def _is_image(name):
    """Whether a file name is an image's. Hidden ones are none, such as macOS puts beside images (`._x.png`)."""
    path = pathlib.PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


class FolderFiles:
    """Images below a folder. `names` are sorted POSIX paths relative to it; `refused` maps a name to what is wrong."""

    def __init__(self, path):
        self.path = path
        self.stem = path.resolve().name
        self.refused = {}
        self.names = sorted(name for name in self._walk() if _is_image(name))

    def _walk(self):
        def stop(error):
            raise UserError(f"cannot list {error.filename} ({error.strerror}): make it readable")

        for directory, _, files in os.walk(self.path, onerror=stop):
            inside = pathlib.Path(directory).relative_to(self.path).as_posix()
            yield from (file if inside == "." else f"{inside}/{file}" for file in files)

    def __contains__(self, name):
        return (self.path / name).is_file()

    def size(self, name):
        """Bytes of a file; a UserError where it is no regular file (a pipe would be waited for without end)."""
        try:
            status = (self.path / name).stat()
        except OSError as error:
            raise UserError(f"{self.path / name} cannot be read ({error.strerror}): repair or remove it") from None
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{self.path / name} is no regular file: remove it")
        return status.st_size

    def open(self, name):
        """A binary file object of one file."""
        self.size(name)
        try:
            return open(self.path / name, "rb")
        except OSError as error:
            raise UserError(f"{self.path / name} cannot be read ({error.strerror}): repair or remove it") from None

    def fingerprint(self, name):
        """Bytes that change when the file's bytes change: here the bytes themselves."""
        return read(self, name)


class ZipFiles:
    """Images in a zip, with the interface of `FolderFiles`. Safe to pickle and to use in forked workers."""

    def __init__(self, path):
        self.path = path
        self.stem = path.stem
        self.refused = {}
        self._zip = self._pid = None
        self._infos = {}
        for info in self._archive().infolist():
            self._admit(info)
        self.names = sorted(name for name in self._infos if _is_image(name))

    def _admit(self, info):
        name = info.filename.replace("\\", "/")  # as labels name it
        if name.endswith("/"):
            return
        path = pathlib.PurePosixPath(name)
        if not name:
            self.refused[name] = "it has no name"
        elif ".." in path.parts or path.is_absolute() or name[1:2] == ":":
            self.refused[name] = "its path leads outside the zip"
        elif stat.S_ISLNK(info.external_attr >> 16):
            self.refused[name] = "it is a link"
        elif info.flag_bits & 1:
            self.refused[name] = "it is encrypted"
        elif name in self._infos:
            self.refused[name] = "it is there more than once"
        else:
            self._infos[name] = info
            return
        # Of two entries under one name neither can be known to be the right one.
        self._infos.pop(name, None)

    def _archive(self):
        # A forked process shares its parent's file position, so every process opens the zip anew.
        if self._pid != os.getpid():
            try:
                self._zip, self._pid = zipfile.ZipFile(self.path), os.getpid()
            except Exception as error:  # zipfile raises nearly anything on damaged directories
                raise UserError(f"{self.path} cannot be read as a zip ({printable(error)}): make it anew") from None
        return self._zip

    def __getstate__(self):
        return self.__dict__ | {"_zip": None, "_pid": None}

    def __contains__(self, name):
        return name in self._infos

    def size(self, name):
        """Bytes of an entry, unpacked; zipfile never reads more than this from it."""
        return self._infos[name].file_size

    def open(self, name):
        """A binary file object of one entry."""
        try:
            return self._archive().open(self._infos[name])
        except UserError:
            raise
        except Exception as error:  # wrong local headers, unknown compression
            raise UserError(f"{self.path}: {name} cannot be read ({printable(error)}): make the zip anew") from None

    def fingerprint(self, name):
        """Bytes that change when the entry's bytes change: the CRC, which zipfile checks on reading."""
        return self._infos[name].CRC.to_bytes(4, "little")


def read(files, name):
    """All bytes of one file of `files`. Raises UserError where it is too large or cannot be read."""
    if files.size(name) > MAX_FILE_BYTES:
        raise UserError(f"{files.path}: {name} has more than {MAX_FILE_BYTES >> 20} MiB: remove it")
    with files.open(name) as file:
        try:
            return file.read()
        except Exception as error:  # of zlib, zipfile and the disk
            raise UserError(f"{files.path}: {name} cannot be read ({printable(error)}): repair or remove it") from None


def header(files, name):
    """(width, height, is it grey, has it alpha) of one image, from the first bytes of its file."""
    with files.open(name) as file, _opened(file, f"{files.path}: {name}") as image:
        width, height = image.size
        known = image.format != "PNG" or "exif" in image.info  # to look for it behind a PNG's pixels is to decode them
        if known and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5:  # a quarter turn, which `decode` undoes
            width, height = height, width
        return width, height, image.mode in GREY_MODES, image.has_transparency_data


def is_grey(files, name):
    """Whether an image has no colour, from the first bytes of its file."""
    return header(files, name)[2]


def has_alpha(files, name):
    """Whether an image has an alpha channel or a transparent colour, from the first bytes of its file."""
    return header(files, name)[3]


def decode(files, name, keep_alpha=False):
    """One image as a Pillow image of mode L (grey) or RGB, upright, with transparent parts on white.

    With `keep_alpha` an image that has transparency comes as RGBA instead.
    16-bit samples keep their high byte. Raises UserError that names an image that is damaged, animated, too large, or
    of 32-bit samples, whose range no one knows.
    """
    with _opened(io.BytesIO(read(files, name)), f"{files.path}: {name}") as image:
        target = "L" if image.mode in GREY_MODES else "RGB"
        image = ImageOps.exif_transpose(image)
        if image.mode in SIXTEEN_BIT_MODES:
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        elif image.has_transparency_data:
            image = image.convert("RGBA")
            if keep_alpha:
                return image
            image = on_white(image)
        return image.convert(target)


def on_white(image):
    """An RGBA image as it looks on white, as RGB; any other image as it is."""
    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def check_size(where, width, height, before=None, resolution=None):
    """Raise a UserError that starts with `where` unless an image fits: networks have its size (training/image_size.py),
    those before it (`before`, a resolution) have it, and it is what was asked for, where these are given."""
    found = image_size.resolution(height, width)
    advice = "make a dataset of one size with dataset_tool.py --transform center-crop --width {} --height {}"
    for other, what in ((before, "those before it"), (resolution, "asked for is")):
        if other is not None and found != other:
            wanted = advice.format(*reversed(image_size.sides(other)))
            raise UserError(f"{where} is {width}x{height}, {what} {image_size.text(other)}: {wanted}")
    if not image_size.trainable(height, width):
        wanted = advice.format(*reversed(image_size.nearest(height, width)[0]))
        raise UserError(f"{where} is {width}x{height} (width x height), {_nearest(height, width)}: {wanted}")


def check_resolution(resolution):
    """Raise a UserError unless `resolution` is one that networks have."""
    height, width = image_size.sides(resolution)
    if not image_size.trainable(height, width):
        raise UserError(f"resolution {image_size.text(resolution)}: {_nearest(height, width)}")


def _nearest(height, width):
    first, second = (image_size.text(size) for size in image_size.nearest(height, width))
    return f"a size that networks cannot have, nearest are {first} and {second}"


@contextlib.contextmanager
def _opened(file, where):
    """The Pillow image in `file`; whatever goes wrong with it while in use becomes a UserError that starts `where`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                if image.mode in ("I", "F"):
                    raise ValueError("32-bit samples")
                if image.format != "MPO" and getattr(image, "is_animated", False):
                    raise ValueError("animated")
                yield image
    except UnidentifiedImageError:
        problem = "is no image of a known format, or is damaged"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        problem = f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        problem = f"cannot be read as an image ({error or type(error).__name__})"
    else:
        return
    raise UserError(f"{where} {problem}: repair or remove it, or leave it out with dataset_tool.py --skip-bad")
