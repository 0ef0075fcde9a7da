"""Images of any size as targets for a network: cropped to its aspect ratio in the middle, and resized."""

import pathlib

import numpy as np
import torch
from PIL import Image, ImageOps

from dnnlib import image_size
from dnnlib.util import UserError, say
from training.data import decode, image_files


def load_targets(path, G):
    """(names, images [N, C, H, W] in [-1, 1] on G's device) of an image file or of all images below a folder."""
    path = pathlib.Path(path)
    files = image_files.FolderFiles(path) if path.is_dir() else _OneFile(path)
    if path.is_dir():
        say(*files.remarks(), err=True)
    if not files.names:
        raise UserError(f"{path} holds no images: give an image or a folder of images")
    return files.names, torch.cat([as_target(_decoded(files, name), G) for name in files.names])


def as_target(image, G):
    """A decoded image as a target [1, C, H, W] in [-1, 1] on G's device."""
    if G.img_channels not in (1, 3):
        raise UserError(f"this network has {G.img_channels} channels: projection needs a grey or RGB network")
    pixels = _fitted(image.convert("L" if G.img_channels == 1 else "RGB"), G)
    pixels = torch.from_numpy(np.atleast_3d(pixels).transpose(2, 0, 1))
    return pixels[None].to(G.mapping.w_avg.device) / 127.5 - 1


def load_mask(path, G):
    """Pixel weights [1, 1, H, W], 0 (black or transparent) to 1 (white), on G's device.

    UserError for an image in which nothing counts.
    """
    path = pathlib.Path(path)
    image = _decoded(_OneFile(path), path.name, keep_alpha=True)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    mask = torch.from_numpy(_fitted(image.convert("L"), G)).to(G.mapping.w_avg.device) / 255
    if not mask.any():
        raise UserError(f"--mask {path} is all black or transparent: paint the part that counts white")
    return mask[None, None]


def _decoded(files, name, keep_alpha=False):
    try:
        return decode.decode(files, name, keep_alpha)
    except UserError as error:  # it names an image of a folder, and its advice is for data sets
        problem = error.problem.replace(f"{files.path}: {name}", str(pathlib.Path(files.path, name)))
        raise UserError(problem, "give another image") from None


class _OneFile(image_files.FolderFiles):
    """A folder with a single file, whatever its ending."""

    def __init__(self, path):
        if not path.is_file():
            raise UserError(f"{path} does not exist: check the path")
        self.path, self.names = path.parent, [path.name]


def _fitted(image, G):
    height, width = image_size.sides(G.img_resolution)
    return np.asarray(ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS), dtype=np.float32)
