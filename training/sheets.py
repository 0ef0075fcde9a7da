"""Pictures of samples: one as a PNG, or a grid of them; what is transparent shows a checkerboard in a grid."""

import numpy as np
import PIL.Image
import torch

from dnnlib.util import atomic_write
from torch_utils import alpha
from training import image_size


def to_pil(image):
    """One uint8 image [C, H, W] (C 1 or 3; 4 with premultiplied alpha) as a Pillow image."""
    image = np.asarray(image)
    image = alpha.straighten(image) if image.shape[0] == 4 else image
    return PIL.Image.fromarray(image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0))


def tile(images, columns):
    """uint8 images [N, C, H, W] as one [C, rows*H, columns*W], row by row; missing ones stay white.

    Images with alpha become RGB, over a checkerboard.
    """
    images = np.asarray(images)
    images = over_checkerboard(images) if images.shape[1] == 4 else images
    n, c, h, w = images.shape
    rows = -(-n // columns)
    sheet = np.full([rows * columns, c, h, w], 255, dtype=np.uint8)
    sheet[:n] = images
    return sheet.reshape(rows, columns, c, h, w).transpose(2, 0, 3, 1, 4).reshape(c, rows * h, columns * w)


def over_checkerboard(images):
    """uint8 images [N, 4, H, W] as RGB over squares of white and light grey, about eight along the shorter side."""
    height, width = images.shape[2:]
    side = max(min(height, width) // 8, 1)
    board = np.add.outer(np.arange(height) // side, np.arange(width) // side) % 2
    background = torch.from_numpy(np.where(board, 204, 255))
    return alpha.over(torch.from_numpy(images), background).round().to(torch.uint8).numpy()


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
