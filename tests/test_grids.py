"""Grids: nearly square, without empty places if possible, large enough, with labels."""

import numpy as np
import pytest

from training import grids


@pytest.mark.parametrize(
    ("count", "height", "width", "columns", "rows"),
    [(1, 8, 8, 1, 1), (2, 8, 8, 2, 1), (3, 8, 8, 3, 1), (4, 8, 8, 2, 2), (5, 8, 8, 3, 2), (7, 8, 8, 4, 2),
     (8, 8, 8, 4, 2), (10, 8, 8, 5, 2), (11, 8, 8, 4, 3), (12, 8, 8, 4, 3), (16, 8, 8, 4, 4), (36, 8, 8, 6, 6),
     (64, 8, 8, 8, 8), (8, 8, 32, 2, 4), (4, 8, 32, 1, 4), (6, 8, 128, 1, 6), (1000, 8, 8, 40, 25)],
)  # fmt: skip
def test_grids_are_nearly_square_and_full_if_possible(count, height, width, columns, rows):
    found = grids.near_square(count, height, width)
    assert (found, -(-count // found)) == (columns, rows)


@pytest.mark.parametrize(
    ("height", "width", "scale"), [(32, 32, 16), (192, 352, 2), (512, 8, 1), (300, 511, 2), (9, 7, 57)]
)
def test_the_longer_side_has_512_pixels_or_more(height, width, scale):
    assert grids.scale_of(None, height, width) == scale
    assert grids.scale_of(3, height, width) == 3
    assert max(height, width) * scale >= 512 > max(height, width) * (scale - 1)


def test_every_pixel_becomes_a_square():
    image = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    large = grids.enlarge(image, 5)
    assert large.shape == (1, 15, 20)
    assert all(
        (large[0, 5 * y : 5 * y + 5, 5 * x : 5 * x + 5] == image[0, y, x]).all() for y in range(3) for x in range(4)
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_labels_are_centred_above_their_columns(channels):
    image = np.full([channels, 40, 300], 7, np.uint8)
    shown = grids.label_columns(image, ["-3", "0", "3"])
    band, below = shown[:, :-40], shown[:, -40:]
    assert np.array_equal(below, image) and shown.shape[2] == 300
    ink = (band < 128).any(axis=(0, 1))
    for i in range(3):
        (columns,) = np.nonzero(ink[100 * i : 100 * i + 100])
        assert 40 <= columns.min() <= columns.max() <= 60


def test_some_labels_are_left_out_if_they_would_touch():
    shown = grids.label_columns(np.zeros([3, 8, 64], np.uint8), [f"{i - 4}" for i in range(8)])
    ink = (shown[:, :-8] < 128).any(axis=(0, 1))
    runs = np.flatnonzero(np.diff(np.concatenate([[0], ink.astype(int), [0]])) == 1)
    assert 2 <= len(runs) <= 6  # some of the eight labels, each of one or two strokes
