"""Which image formats are read: Pillow's, but for films, vector graphics and those whose readers start programs.

A format with a signature is found by content, whatever the file's name ends in. TGA and its like have none, or a short
one that other files share, so only their own endings name them. HEIC needs the package pillow-heif.
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
HEIF_SIGNATURE = b"ftyp(heic|heix|hevc|hevx|heim|heis|mif1|msf1)"  # from the fourth byte on
HEIF_PACKAGE = "pillow-heif==1.8.1"

_UNSIGNED_FORMAT = {ending: name for name, endings in UNSIGNED.items() for ending in endings.split()}
_ENDINGS = frozenset(_UNSIGNED_FORMAT).union(*(endings.split() for endings in SIGNED.values()))
SIGNATURE_BYTES = 16
# Pixels that are decoded at most, so that a small file cannot take all memory. A JPEG may have more: a large one is
# decoded at 1/2, 1/4 or 1/8 of its sides, whichever is enough for what is made of it.
MAX_PIXELS, MAX_JPEG_PIXELS = 120_000_000, 1 << 28
Image.MAX_IMAGE_PIXELS = MAX_JPEG_PIXELS // 2  # Pillow refuses twice as many
SINGLE_FRAME = ("MPO", "HEIF", "PSD")  # a main picture with others beside it: depth, a preview, layers

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it says beside its exceptions names no file


def ending(name):
    """What a file's name ends in, ".png"; "" where that says nothing, as in `photo`, `frame.0001` and `St. Peter`."""
    suffix = pathlib.PurePosixPath(name).suffix.lower()
    return suffix if re.fullmatch(r"\.(?!\d+$)[\w~-]{1,12}", suffix) else ""


def is_image_ending(text):
    """Whether files that end so are read as images here and now."""
    return text in _ENDINGS or (text in HEIF and reads_heif())


def has_image_signature(data):
    """Whether a file without an ending that begins with these `SIGNATURE_BYTES` bytes is an image."""
    reads_heif()
    Image.init()
    return any(Image.OPEN[name][1](data) for name in (*SIGNED, "HEIF") if name in Image.OPEN)


@functools.cache
def reads_heif():
    """Whether pillow-heif is installed; Pillow then reads HEIC by it."""
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
    """The Pillow image in `file`; whatever goes wrong with it while in use becomes a UserError that starts `where`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=formats(name)) as image:
                _refuse(image)
                yield image
    except UnidentifiedImageError:
        problem = "is not an image of a format that is read, or is damaged"
        with contextlib.suppress(Exception):
            file.seek(4)
            if not reads_heif() and re.fullmatch(HEIF_SIGNATURE, file.read(8)):
                problem = f"is a HEIC image, which pip install {HEIF_PACKAGE} lets this program read"
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        problem = f"cannot be read as an image ({printable(str(error).strip() or type(error).__name__)})"
    else:
        return
    raise UserError(f"{where} {problem}: repair or remove it, or leave it out with dataset_tool.py --skip-bad")


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
