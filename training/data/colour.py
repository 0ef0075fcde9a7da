"""Colour profiles: pixels of any colour space become sRGB, which all else here takes images for."""

import functools
import io
import struct

import numpy as np
from PIL import ExifTags, Image, ImageCms

SAME = 2  # a profile that moves no colour by more than this (of 255) is sRGB itself, and nothing is converted
MAX_PROFILE_BYTES = 1 << 22  # those of printers have up to 3 MB
D50 = (0.9642, 1, 0.8249)  # the white of profiles, XYZ
CONVERTED, UNUSABLE = "converted", "unusable"

# The mode of an image's pixels, by the colour space of a profile.
_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}


def take_space_of_exif(image):
    """Give an image without a profile that of AdobeRGB where its Exif data name this space, as many cameras do."""
    if "exif" not in image.info or image.info.get("icc_profile"):
        return
    index = image.getexif().get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex)
    if str(index).rstrip("\0") == "R03":  # Exif 2.3, section 4.6.7: the option file of DCF
        image.info["icc_profile"] = adobe_rgb()


@functools.cache
def adobe_rgb():
    """A profile (bytes) of AdobeRGB, after Adobe RGB (1998) Color Image Encoding, version 2005-05."""
    # The columns of that document's matrix from linear RGB to XYZ under D50; its curve is a power of 2 + 51/256.
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
    """What becomes of an image's profile: `CONVERTED`, `UNUSABLE` (damaged, or of another kind of image: it is ignored
    and the colours are taken for sRGB), or None where it has no profile or that of sRGB."""
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
    """An 8-bit image with its colours in sRGB, as its own profile describes them; without one, as it is.

    Grey stays grey, alpha stays as it is, any other mode becomes RGB. Perceptual intent.
    """
    if image.mode == "LAB" and "icc_profile" not in image.info:  # which Pillow converts by profiles alone
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
    """Whether a profile of pixels of `mode` can be that of an image; an RGB profile also says how bright a grey is."""
    if image.mode in ("CMYK", "LAB"):
        return mode == image.mode
    return mode == "RGB" or (mode == "L" and image.mode in ("1", "L", "LA", "La"))


@functools.lru_cache(maxsize=16)
def _transform(profile):
    """(mode of the pixels that it takes, transform to sRGB: None for sRGB itself); (None, None) for a damaged one."""
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
