"""Out-of-distribution images at a classifier's size: `noise`, and any folder or zip of images.

A set of larger images gives two: `NAME-crop`, the middle of each at its own scale, and `NAME-resize`, the largest
middle square reduced with a Lanczos filter. (The resized sets published with ODIN have artefacts of
nearest-neighbour sampling, which a detector can see.)
"""

import pathlib

import numpy as np
import torch
from PIL import Image, ImageOps

from dnnlib.util import UserError
from training.data import decode, image_files

NOISE = "noise"


def check_names(names):
    """Raise UserError unless each of the names, separated by commas, is `noise` or an existing folder or file."""
    for name in split(names):
        if name != NOISE and not pathlib.Path(name).exists():
            raise UserError(f"--outliers {name}: does not exist; give {NOISE}, or a folder or zip of images")


def split(names):
    return [name.strip() for name in names.split(",") if name.strip() not in ("", "none")]


def load(name, count, shape, seed=0):
    """{set: uint8 [N, C, H, W]} of at most `count` images of a folder or zip, or of `noise`; shape: (C, H, W).

    The images are chosen by `seed`. Raises UserError for a set without images, and for images smaller than H x W.
    """
    rng = np.random.RandomState(seed)
    if name == NOISE:
        return {NOISE: torch.from_numpy(rng.randint(0, 256, (count, *shape), np.uint8))}
    files = image_files.open_files(name)
    if not files.names:
        raise UserError(f"--outliers {name} holds no images: give a folder or a zip with PNG, JPEG or WebP files")
    chosen = sorted(rng.permutation(len(files.names))[:count])
    images = [decode.decode(files, files.names[i]) for i in chosen]
    channels, height, width = shape
    for i, image in zip(chosen, images):
        if image.width < width or image.height < height:
            raise UserError(
                f"--outliers {name}: {files.names[i]} is {image.width}x{image.height}, smaller than the classifier's "
                f"{width}x{height}: give larger images"
            )
    if all(image.size == (width, height) for image in images):
        return {files.stem: stack(images, channels)}
    return {
        f"{files.stem}-crop": stack([middle(image, width, height) for image in images], channels),
        f"{files.stem}-resize": stack([ImageOps.fit(i, (width, height), Image.LANCZOS) for i in images], channels),
    }


def middle(image, width, height):
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def stack(images, channels):
    """uint8 [N, C, H, W] of Pillow images."""
    arrays = [np.atleast_3d(image.convert("L" if channels == 1 else "RGB")) for image in images]
    return torch.from_numpy(np.stack(arrays).transpose(0, 3, 1, 2).copy())
