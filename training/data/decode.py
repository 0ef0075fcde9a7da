"""Decode an image file of any origin to upright 8-bit pixels in sRGB: grey, RGB or RGBA.

Files come from anywhere, so nothing here trusts them: any problem with a file becomes a one-line `UserError` that
names it. Reading needs memory in proportion to the decoded pixels, whose number is limited (image_formats.py).
"""

import contextlib
import io
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from dnnlib.util import UserError
from training.data import colour
from training.data.colour import GREY_MODES, SIXTEEN_BIT_MODES
from training.data.image_files import read
from training.data.image_formats import is_jpeg, opened

LARGE = 89_478_485  # images of more pixels are reduced first, if the caller allows it
MEASURED = 100  # measure the largest sample of at most this many 16-bit images
FEW_BITS = 15  # if all samples have fewer bits, warn: no pixel is brighter than a quarter of the range
OTHER_BYTE = {
    "16B": "16L",
    "16L": "16B",
    "16N": "16B",
}  # Pillow reads the high byte of two, so this requests the low byte


class Header(NamedTuple):
    """What the first bytes of an image's file tell.

    grey: it has no colour. alpha: it has an alpha channel or a transparent colour. deep: it has 16-bit samples.
    profile: how its colour profile is used (`colour.profile_use`).
    """

    width: int
    height: int
    grey: bool
    alpha: bool
    deep: bool
    profile: str | None


def header(files, name):
    """The `Header` of one image. Raises UserError."""
    with files.open(name) as file, opened(file, name, f"{files.path}: {name}") as image:
        colour.set_profile_from_exif(image)
        width, height = image.size
        readable = image.format != "PNG" or "exif" in image.info  # a PNG may store Exif behind the pixels: not decoded
        turned = readable and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # by a quarter; `decode` undoes it
        if turned and image.format != "TIFF":  # of a TIFF Pillow gives the upright size
            width, height = height, width
        kinds = image.mode in GREY_MODES, image.has_transparency_data, _is_deep(image), colour.profile_use(image)
        return Header(width, height, *kinds)


def decode(files, name, keep_alpha=False, bits=16, enough=None):
    """One image as an upright Pillow image in sRGB, of mode L (grey) or RGB, with transparent parts on white.

    keep_alpha: return an image that has transparency as RGBA instead.
    bits: 16-bit samples use this many bits, 0 to 2^bits - 1; the 8 highest of these are kept.
    enough:     an image of more than `LARGE` pixels may be returned smaller, with sides of at least `enough` pixels.
    Raises UserError with the name of an image that is damaged, animated, too large, or of 32-bit samples (their range
    is unknown).
    """
    data = read(files, name)
    with opened(io.BytesIO(data), name, f"{files.path}: {name}") as image:
        grey, deep, raw_mode = image.mode in GREY_MODES, _is_deep(image), _raw_mode(image)
        colour.set_profile_from_exif(image)
        large = enough and image.width * image.height > LARGE
        if large and is_jpeg(image):
            image.draft(None, (enough, enough))
        ImageOps.exif_transpose(image, in_place=True)
        pixels = image
        if deep and (image.mode in SIXTEEN_BIT_MODES or bits < 16 or "transparency" in image.info):
            pixels = _eight_bits(image, _samples(image, raw_mode, data, name), bits)
        elif large and (factor := min(image.size) // enough) > 1 and image.mode in ("L", "RGB", "RGBA", "CMYK"):
            pixels = image.reduce(factor)
        pixels = _shown(colour.to_srgb(pixels) if files.rules > 1 else pixels, grey, keep_alpha)
    pixels.info = {}  # or the profile or transparent colour would be saved into other files
    return pixels


def decode_image(image):
    """What `decode` returns for the file of a Pillow image, which is unchanged.

    Raises UserError for 32-bit samples, and for a transparent colour of 16 bits beside colours of which Pillow kept 8.
    """
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        raise UserError("the image has 32-bit samples, whose range is unknown: give one of 8 or 16 bits")
    transparent = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(transparent, tuple) and max(transparent) > 255:
        raise UserError("the image has a transparent colour of 16 bits, which Pillow does not apply: give its file")
    grey, raw_mode = image.mode in GREY_MODES, _raw_mode(image)
    pixels = image.copy()
    colour.set_profile_from_exif(pixels)
    ImageOps.exif_transpose(pixels, in_place=True)
    if pixels.mode in SIXTEEN_BIT_MODES:
        pixels = _eight_bits(pixels, _samples(pixels, raw_mode, None, None), 16)
    return _shown(colour.to_srgb(pixels), grey)


def _shown(pixels, grey, keep_alpha=False):
    """8-bit pixels in sRGB as L or RGB, on white; as RGBA if they have transparency and `keep_alpha`."""
    if pixels.has_transparency_data:
        pixels = pixels.convert("RGBA")
    if keep_alpha and pixels.mode == "RGBA":
        return pixels
    return on_white(pixels).convert("L" if grey else "RGB")


def count(counts, files, name, header):
    """Count one image in the Counter `counts`, which `remarks` reads."""
    if files.rules > 1 and header.profile:
        counts[header.profile] += 1
    if header.deep and counts["measured"] < MEASURED:
        with contextlib.suppress(UserError):  # Pillow returns only the high bytes of some formats
            counts["largest"] = max(counts["largest"], largest_sample(files, name))
            counts["measured"] += 1


def remarks(counts):
    """Lines for the log about colour profiles and about 16-bit samples that use fewer bits."""
    lines = []
    if number := counts[colour.CONVERTED]:
        lines.append(f"{number:,} converted to sRGB (a colour profile)")
    if number := counts[colour.UNUSABLE]:
        lines.append(f"{number:,} read as sRGB (an unusable colour profile)")
    if counts["measured"] and (bits := counts["largest"].bit_length()) < FEW_BITS:
        lines.append(
            f"the largest sample is {counts['largest']} of 65535, so images are dark: if they use {max(bits, 8)} bits, "
            f"make a dataset with dataset_tool.py --scale-bits {max(bits, 8)}"
        )
    return lines


def on_white(image):
    """An RGBA image as it looks on white, as RGB; any other image as it is."""
    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def largest_sample(files, name):
    """The largest colour sample of a 16-bit image, 0 to 65535. Raises UserError."""
    data = read(files, name)
    with opened(io.BytesIO(data), name, f"{files.path}: {name}") as image:
        raw_mode = _raw_mode(image)
        ImageOps.exif_transpose(image, in_place=True)
        samples = _samples(image, raw_mode, data, name)
        return int(samples[..., :3].max() if samples.ndim == 3 else samples.max())


# ---- 16-bit samples. Pillow returns them whole for grey images, and only the high bytes for others.


def _raw_mode(image):
    """How Pillow unpacks a file's samples, such as "RGB;16B"; "" if unknown."""
    tile = getattr(image, "tile", None)  # of an image that was read from a file
    arguments = tile[0].args if tile else ""
    arguments = arguments if isinstance(arguments, tuple) else (arguments,)
    return arguments[0] if arguments and isinstance(arguments[0], str) else ""


def _is_deep(image):
    return image.mode in SIXTEEN_BIT_MODES or ";16" in _raw_mode(image)


def _samples(image, raw_mode, data, name):
    """uint16 [H, W] or [H, W, C]: the samples of an upright image, from its file's bytes `data`."""
    if image.mode in SIXTEEN_BIT_MODES:
        samples = np.asarray(image).astype(np.uint16)
        return samples << 4 if raw_mode == "I;12" else samples
    order = raw_mode.rpartition(";")[2]
    if raw_mode.startswith("LA") or order not in OTHER_BYTE:
        raise ValueError(f"unsupported 16-bit samples {raw_mode}: save it as RGB")
    with opened(io.BytesIO(data), name, name) as low:
        low.tile = [_unpacked_as(tile, raw_mode.replace(order, OTHER_BYTE[order])) for tile in low.tile]
        ImageOps.exif_transpose(low, in_place=True)
        return np.asarray(image).astype(np.uint16) << 8 | np.asarray(low)


def _unpacked_as(tile, raw_mode):
    return tile._replace(args=raw_mode if isinstance(tile.args, str) else (raw_mode, *tile.args[1:]))


def _eight_bits(image, samples, bits):
    """A Pillow image of the 8 highest of `bits` bits."""
    shift = bits - 8
    colours, alpha = (samples[..., :3], samples[..., 3:]) if image.mode == "RGBA" else (samples, None)
    if (largest := int(colours.max())) >= 1 << bits:
        raise ValueError(f"a sample of {largest} does not fit into {bits} bits")
    values = (colours >> shift).astype(np.uint8)
    info = dict(image.info)
    if (transparent := info.pop("transparency", None)) is not None:  # one colour, of 16 bits too
        opaque = samples != transparent if samples.ndim == 2 else (samples != transparent).any(axis=2)
        values = np.dstack([values, np.where(opaque, np.uint8(255), np.uint8(0))])
    if alpha is not None:
        alpha_shift = 8 if alpha.max() >= 1 << bits else shift
        values = np.concatenate([values, (alpha >> alpha_shift).astype(np.uint8)], axis=2)
    result = Image.fromarray(values)
    result.info = info
    return result
