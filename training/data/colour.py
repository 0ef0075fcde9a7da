"""Colour profiles: convert pixels of any colour space to sRGB, which the rest of the project expects."""

import functools
import io
import struct

import numpy as np
from PIL import ExifTags, Image, ImageCms

SAME = 2  # a profile that changes no colour by more than this (of 255) counts as sRGB: nothing is converted
MAX_PROFILE_BYTES = 1 << 22  # printers' profiles have up to 3 MB
D50 = (0.9642, 1, 0.8249)  # XYZ of the white point of ICC profiles
CONVERTED, UNUSABLE = "converted", "unusable"
SIXTEEN_BIT_MODES = {"I;16", "I;16L", "I;16B", "I;16N", "I"}  # I: a PGM file (32-bit samples are refused)
GREY_MODES = {"1", "L", "LA", "La"} | SIXTEEN_BIT_MODES

# Colour space of a profile -> Pillow mode of its pixels.
_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}


def set_profile_from_exif(image):
    """If an image has no profile and its Exif data name AdobeRGB, as many cameras do, set that profile."""
    if "exif" not in image.info or image.info.get("icc_profile"):
        return
    index = image.getexif().get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex)
    if str(index).rstrip("\0") == "R03":  # Exif 2.3, section 4.6.7: the option file of DCF
        image.info["icc_profile"] = adobe_rgb()


@functools.cache
def adobe_rgb():
    """An ICC profile (bytes) of AdobeRGB, built after Adobe RGB (1998) Color Image Encoding, version 2005-05."""
    # Columns of that document's matrix from linear RGB to XYZ under D50; the gamma is 2 + 51/256.
    columns = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
    tags = {f"{name}XYZ": _xyz(column) for name, column in zip("rgb", columns)}
    tags |= {f"{name}TRC": struct.pack(">4s4xIH2x", b"curv", 1, 2 * 256 + 51) for name in "rgb"}
    tags["wtpt"] = _xyz(D50)
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name.encode(), start + len(body), len(data))
        body += data
    head = struct.pack(">I4xI4s4s4s12x4s28x", start + len(body), 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return (head + _xyz(D50)[8:]).ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _xyz(values):
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def profile_use(image):
    """Use of an image's profile: `CONVERTED` (to sRGB), `UNUSABLE` (damaged, or for another kind of image: ignored,
    the colours count as sRGB), or None (no profile, or that of sRGB)."""
    profile = image.info.get("icc_profile")
    if not profile:
        return None
    if len(profile) > MAX_PROFILE_BYTES:
        return UNUSABLE
    mode, transform = _transform(profile)
    if mode is None or not _fits(image, mode):
        return UNUSABLE
    return CONVERTED if transform else None


def to_srgb(image):
    """An 8-bit image, converted to sRGB by its profile; unchanged if it has none.

    Grey stays grey, alpha is kept, any other mode becomes RGB. Perceptual intent.
    """
    if image.mode == "LAB" and "icc_profile" not in image.info:  # Pillow converts LAB only with a profile
        image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    if profile_use(image) != CONVERTED:
        return image
    mode, transform = _transform(image.info["icc_profile"])
    if image.has_transparency_data:
        image = image.convert("RGBA")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    grey = image.mode in ("1", "L")
    image = ImageCms.applyTransform(image.convert(mode), transform)
    if alpha is not None:
        image.putalpha(alpha)
    return image.convert("L") if grey else image


def _fits(image, mode):
    """Whether a profile for pixels of `mode` fits an image. An RGB profile also fits grey."""
    if image.mode in ("CMYK", "LAB"):
        return mode == image.mode
    return mode == "RGB" or (mode == "L" and image.mode in GREY_MODES)


@functools.lru_cache(maxsize=16)
def _transform(profile):
    """(Pillow mode of the input, transform to sRGB or None if it is sRGB); (None, None) for a damaged profile."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _SPACES[source.profile.xcolor_space.strip()]
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, KeyError, ValueError):
        return None, None
    return mode, None if _keeps_colours(transform, mode) else transform


def _keeps_colours(transform, mode):
    if mode not in ("RGB", "L"):
        return False
    levels = np.arange(0, 256, 15 if mode == "RGB" else 1, dtype=np.uint8)
    before = np.stack(np.meshgrid(*[levels] * 3), -1).reshape(-1, len(levels), 3) if mode == "RGB" else levels[None]
    after = np.asarray(ImageCms.applyTransform(Image.fromarray(before), transform)).astype(int)
    return np.abs(after - before.reshape(*after.shape[:2], -1)).max() <= SAME
