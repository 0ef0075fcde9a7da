"""The image formats that are read: Pillow's, except films, vector graphics and formats whose readers start programs.

A format with a signature is recognised by content, whatever the file's ending. TGA and similar formats have none, or a
short one that other files share, so they are recognised by their endings. HEIC needs the package pillow-heif.
"""

import contextlib
import functools
import logging
import pathlib
import re
import warnings

from PIL import Image, UnidentifiedImageError

from dnnlib.util import UserError, printable

SIGNED = {  # format -> endings
    "PNG": ".png .apng",
    "JPEG": ".jpg .jpeg .jpe .jfif .jif .mpo",
    "WEBP": ".webp",
    "AVIF": ".avif",
    "GIF": ".gif",
    "TIFF": ".tif .tiff",
    "BMP": ".bmp",
    "PPM": ".ppm .pgm .pbm .pnm",
    "JPEG2000": ".jp2 .j2k .j2c .jpc .jpf .jpx",
    "QOI": ".qoi",
    "PSD": ".psd",
    "DDS": ".dds",
    "ICNS": ".icns",
}
UNSIGNED = {"TGA": ".tga .icb .vda .vst", "DIB": ".dib", "PCX": ".pcx", "SGI": ".sgi .bw .rgb .rgba", "ICO": ".ico"}
HEIF = (".heic", ".heif", ".hif")
HEIF_SIGNATURE = b"ftyp(heic|heix|hevc|hevx|heim|heis|mif1|msf1)"  # after the first four bytes
HEIF_PACKAGE = "pillow-heif==1.8.1"

_UNSIGNED_FORMAT = {ending: name for name, endings in UNSIGNED.items() for ending in endings.split()}
_ENDINGS = frozenset(_UNSIGNED_FORMAT).union(*(endings.split() for endings in SIGNED.values()))
SIGNATURE_BYTES = 16
# Limit of decoded pixels, so that a small file cannot exhaust the memory. A JPEG may have more, because a large one is
# decoded at 1/2, 1/4 or 1/8 of its size, as small as the caller allows.
MAX_PIXELS, MAX_JPEG_PIXELS = 120_000_000, 1 << 28
Image.MAX_IMAGE_PIXELS = MAX_JPEG_PIXELS // 2  # Pillow raises an error at twice this limit
SINGLE_FRAME = ("MPO", "HEIF", "PSD")  # a main picture plus others: depth, a preview, layers

logging.getLogger("PIL").addHandler(logging.NullHandler())  # its log lines do not name the file; its exceptions suffice


def ending(name):
    """The ending of a file's name, such as ".png"; "" if it has no real one: `photo`, `frame.0001`, `St. Peter`."""
    suffix = pathlib.PurePosixPath(name).suffix.lower()
    return suffix if re.fullmatch(r"\.(?!\d+$)[\w~-]{1,12}", suffix) else ""


def is_image_ending(text):
    """Whether files with this ending are read as images."""
    return text in _ENDINGS or (text in HEIF and reads_heif())


def has_image_signature(data):
    """Whether a file without an ending is an image, given its first `SIGNATURE_BYTES` bytes."""
    reads_heif()
    Image.init()
    return any(Image.OPEN[name][1](data) for name in (*SIGNED, "HEIF") if name in Image.OPEN)


@functools.cache
def reads_heif():
    """Whether pillow-heif is installed; if so, register it, so that Pillow reads HEIC."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def formats(name):
    """Pillow's names of the formats that a file of this name may have."""
    unsigned = _UNSIGNED_FORMAT.get(ending(name))
    return [*SIGNED, *(["HEIF"] if reads_heif() else []), *([unsigned] if unsigned else [])]


@contextlib.contextmanager
def opened(file, name, where):
    """The Pillow image in `file`. Any error while it is in use becomes a UserError that starts with `where`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=formats(name)) as image:
                _refuse(image)
                yield image
    except UnidentifiedImageError:
        problem = "is damaged or not an image in a supported format"
        with contextlib.suppress(Exception):
            file.seek(4)
            if not reads_heif() and re.fullmatch(HEIF_SIGNATURE, file.read(8)):
                problem = f"is a HEIC image, which needs pip install {HEIF_PACKAGE}"
    except Exception as error:  # Pillow's readers raise many kinds on damaged files
        problem = f"cannot be read as an image ({printable(str(error).strip() or type(error).__name__)})"
    else:
        return
    raise UserError(f"{where} {problem}", "repair or remove it, or leave it out with dataset_tool.py --skip-bad")


def _refuse(image):
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        raise ValueError("32-bit samples")
    if image.format not in SINGLE_FRAME and getattr(image, "is_animated", False):
        raise ValueError(f"{image.n_frames} pages" if image.format == "TIFF" else "animated")
    limit = MAX_JPEG_PIXELS if is_jpeg(image) else MAX_PIXELS
    if image.width * image.height > limit:
        raise ValueError(f"{image.width}x{image.height} is more than {limit:,} pixels")


def is_jpeg(image):
    """Whether a Pillow image can be decoded at a fraction of its size."""
    return image.format in ("JPEG", "MPO")
