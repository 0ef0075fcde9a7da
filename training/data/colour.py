"""Colour profiles: pixels of any colour space become sRGB, which all else here takes images for."""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

SAME = 2  # a profile that moves no colour by more than this (of 255) is sRGB itself, and nothing is converted
MAX_PROFILE_BYTES = 1 << 22  # those of printers have up to 3 MB
CONVERTED, UNUSABLE = "converted", "unusable"

# The mode of an image's pixels, by the colour space of a profile.
_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}


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
