"""Sheets of images: a grid of samples as one PNG."""

import numpy as np
import PIL.Image

from dnnlib.util import atomic_write
from training import image_size


def to_pil(image):
    """One uint8 image [C, H, W] (C 1 or 3) as a Pillow image."""
    image = np.asarray(image)
    return PIL.Image.fromarray(image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0))


def tile(images, columns):
    """uint8 images [N, C, H, W] as one [C, rows*H, columns*W], row by row; missing ones stay white."""
    images = np.asarray(images)
    n, c, h, w = images.shape
    rows = -(-n // columns)
    sheet = np.full([rows * columns, c, h, w], 255, dtype=np.uint8)
    sheet[:n] = images
    return sheet.reshape(rows, columns, c, h, w).transpose(2, 0, 3, 1, 4).reshape(c, rows * h, columns * w)


def save_png(path, image):
    """Write a uint8 image [C, H, W], whole or not at all."""
    with atomic_write(path) as file:
        to_pil(image).save(file, format="png")


def grid_size(resolution, slow=False):
    """(columns, rows) of a run's sheets: about a screen, and at most 16 images where drawing them takes long."""
    if slow and image_size.mean_side(resolution) > 64:
        return 4, 4
    height, width = image_size.sides(resolution)
    return int(np.clip(1920 // width, 4, 16)), int(np.clip(1080 // height, 4, 8))
