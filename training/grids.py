"""Pictures of samples: one as a PNG, or a grid, in which transparent pixels show a checkerboard."""

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import torch

from dnnlib import image_size
from dnnlib.util import atomic_write
from torch_utils import alpha

SHOWN_PIXELS = 512  # enlarge pictures until their longer side is at least this


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
    grid = np.full([rows * columns, c, h, w], 255, dtype=np.uint8)
    grid[:n] = images
    return grid.reshape(rows, columns, c, h, w).transpose(2, 0, 3, 1, 4).reshape(c, rows * h, columns * w)


def near_square(count, height, width):
    """Number of columns for a nearly square grid of `count` images [height, width] with as few holes as possible.

    The longer side is at most three times the shorter one if possible; of equally full grids, the squarest.
    """

    def shape(columns):
        rows = -(-count // columns)
        aspect = columns * width / (rows * height)
        return max(aspect, 1 / aspect), rows * columns - count

    candidates = range(1, count + 1)
    fair = [columns for columns in candidates if shape(columns)[0] <= 3] or candidates
    holes = {columns: shape(columns)[1] if fair is not candidates else 0 for columns in fair}
    return min(fair, key=lambda columns: (holes[columns], shape(columns)[0], -columns))


def scale_of(scale, height, width):
    """The integer enlargement of a picture: `scale`, or if None, one that makes the longer side 512 or more."""
    return scale or -(-SHOWN_PIXELS // max(height, width))


def enlarge(image, scale=None):
    """uint8 [C, H, W] with each pixel repeated to a square of `scale_of(scale, H, W)` pixels a side."""
    scale = scale_of(scale, *image.shape[1:])
    return image.repeat(scale, axis=1).repeat(scale, axis=2)


def margin_right(image, pixels):
    """uint8 [C, H, W] with white columns on the right."""
    return np.pad(image, ((0, 0), (0, 0), (0, pixels)), constant_values=255)


def label_columns(image, texts):
    """uint8 [C, H, W] below a white line with a text above each of the equally wide columns.

    If the texts would touch, only every second, third, ... one is drawn, counted from the middle.
    """
    font = PIL.ImageFont.load_default(14)
    boxes = [font.getbbox(text) for text in texts]
    cell, line = image.shape[2] / len(texts), 20
    step = max(1, int(np.ceil((max(right for _, _, right, _ in boxes) + 4) / cell)))
    band = PIL.Image.new("L", (image.shape[2], line), 255)
    draw = PIL.ImageDraw.Draw(band)
    for i in range((len(texts) // 2) % step, len(texts), step):
        draw.text(((i + 0.5) * cell, line / 2), texts[i], fill=0, font=font, anchor="mm")
    band = np.broadcast_to(np.asarray(band), (image.shape[0], line, image.shape[2]))
    return np.concatenate([band, image], axis=1)


def over_checkerboard(images):
    """uint8 images [N, 4, H, W] as RGB over squares of white and light grey, about eight along the shorter side."""
    height, width = images.shape[2:]
    side = max(min(height, width) // 8, 1)
    board = np.add.outer(np.arange(height) // side, np.arange(width) // side) % 2
    background = torch.from_numpy(np.where(board, 204, 255))
    return alpha.over(torch.from_numpy(images), background).round().to(torch.uint8).numpy()


def save_png(path, image):
    """Write a uint8 image [C, H, W] atomically."""
    with atomic_write(path) as file:
        to_pil(image).save(file, format="png")


def grid_size(resolution, slow=False):
    """(columns, rows) of a run's grids: about a screen; at most 16 images if generating them is slow."""
    if slow and image_size.mean_side(resolution) > 64:
        return 4, 4
    height, width = image_size.sides(resolution)
    return int(np.clip(1920 // width, 4, 16)), int(np.clip(1080 // height, 4, 8))
