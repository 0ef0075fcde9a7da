"""Valid image sizes: a base of a few pixels times a power of two.

StyleGAN2's feature maps grow from 4x4 by doubling. Here they grow from a base whose longer side has 4 to 7 pixels and
whose shorter side has at least 2: 4x4 for squares, 4x7 for 64x112 images, 4x2 for 256x128. No size has two bases.

A resolution is the side of square images, or [height, width] of others (a list, as in JSON). Messages write
width x height, like image programs.
"""

import math

from dnnlib.util import UserError

SHORTEST, LONGEST = 2, 7  # sides of a base
LARGEST = 4096  # side of an image
NEARLY_ALL = 0.9  # share of the images
ALIKE = 0.9  # an aspect ratio fits an image if cropping to it keeps at least this share
ADVISED = 512  # the longest recommended side: few data sets and machines suit more


def sides(resolution):
    """(height, width) of a resolution. Raises ValueError if it is neither one integer nor two."""
    height, width = [resolution] * 2 if isinstance(resolution, int) else resolution
    if not all(type(side) is int and side > 0 for side in (height, width)):
        raise ValueError(f"a resolution must be a side, or height and width, not {resolution!r}")
    return height, width


def resolution(height, width):
    """The resolution of images: the side of squares, otherwise [height, width]."""
    return height if height == width else [height, width]


def mean_side(resolution):
    """The side of the square with as many pixels, rounded. Learning rates and batch sizes depend on it."""
    return round(math.sqrt(math.prod(sides(resolution))))


def base(height, width):
    """((height, width) of the base, factor): the sides are those of the base times the factor, a power of two.

    Raises ValueError for sizes that have no base.
    """
    factor = 2 ** max(int(math.log2(max(height, width) / 4)), 0)
    small = (height // factor, width // factor)
    if max(small) < 4 or min(small) < SHORTEST or (small[0] * factor, small[1] * factor) != (height, width):
        raise ValueError(f"{width}x{height} is not a base (sides {SHORTEST} to {LONGEST}) times a power of two")
    return small, factor


def trainable(height, width):
    """Whether networks can train on images of this size."""
    try:
        return base(height, width)[1] > 1 and max(height, width) <= LARGEST
    except ValueError:
        return False


def nearest_sizes(height, width, count=2, longest=LARGEST):
    """The `count` nearest trainable sizes (height, width); the aspect ratio weighs twice as much as the area."""

    def distance(size):
        tall, wide = math.log(size[0] / height), math.log(size[1] / width)
        return 2 * abs(tall - wide) + abs(tall + wide)

    return sorted((size for size in trainable_sizes() if max(size) <= longest), key=distance)[:count]


def trainable_sizes():
    """All trainable (height, width)."""
    shapes = [(h, w) for h in range(SHORTEST, LONGEST + 1) for w in range(SHORTEST, LONGEST + 1) if max(h, w) >= 4]
    return [(h << k, w << k) for h, w in shapes for k in range(1, 11) if max(h, w) << k <= LARGEST]


def advised(height, width):
    """The two best trainable sizes (height, width), at most `ADVISED` a side, to crop an image of this size to.

    They enlarge no image of 8 pixels a side or more. There is only one for a few small images, such as 9x5.
    """
    sizes = nearest_sizes(height, width, count=None, longest=ADVISED)
    return ([size for size in sizes if size[0] <= height and size[1] <= width] or sizes)[:2]


def recommended(sizes):
    """The recommended size (height, width) for images of these sizes, a Counter of (width, height).

    It is the largest, of at most `ADVISED` a side, that at least `NEARLY_ALL` of the images reach. It is square, unless
    another aspect ratio fits nearly all of them.
    """
    total = sum(sizes.values())

    def kept(aspect):
        """Pairs (share of an image that remains when cropped to height / width = `aspect`, number of such images)."""
        ratios = ((aspect * width / height, count) for (width, height), count in sizes.items())
        return [(min(ratio, 1 / ratio), count) for ratio, count in ratios]

    def alike(aspect):
        return sum(count for share, count in kept(aspect) if share > ALIKE) >= NEARLY_ALL * total

    def reached(size):
        return sum(n for (w, h), n in sizes.items() if w >= size[1] and h >= size[0]) >= NEARLY_ALL * total

    candidates = [size for size in trainable_sizes() if max(size) <= ADVISED]
    aspect = max((h / w for h, w in candidates), key=lambda aspect: sum(share * count for share, count in kept(aspect)))
    if alike(1) or not alike(aspect):
        aspect = 1
    shaped = [size for size in candidates if size[0] / size[1] == aspect]
    return max(filter(reached, shaped), key=math.prod, default=min(shaped, key=math.prod))


def text(resolution):
    """Width x height, for messages."""
    height, width = sides(resolution)
    return f"{width}x{height}"


def check_size(where, width, height, before=None, wanted=None):
    """Raise a UserError that starts with `where` unless networks support the image's size, and it equals `before` (the
    resolution of earlier images) and `wanted` (the requested resolution) if these are given."""
    for other, what in ((before, "the images before it are"), (wanted, "not the requested")):
        if other is not None and resolution(height, width) != other:
            size = sides(other)
            size = size if other == wanted or max(size) <= 2 * ADVISED else advised(*size)[0]
            raise UserError(f"{where} is {width}x{height}, {what} {text(other)}", _advice(*size))
    if not trainable(height, width):
        sizes = advised(height, width)
        raise UserError(
            f"{where} is {width}x{height} (width x height): networks do not support this size; near it they "
            f"support {' and '.join(map(text, sizes))}",
            _advice(*sizes[0]),
        )


def check_resolution(wanted):
    """Raise a UserError unless networks support the resolution `wanted`."""
    height, width = sides(wanted)
    if not trainable(height, width):
        first, second = map(text, nearest_sizes(height, width))
        raise UserError(
            f"resolution {text(wanted)}: networks do not support this size; the nearest are {first} and {second}"
        )


def _advice(height, width):
    return (
        "make a dataset of one size: python dataset_tool.py --source DATA --dest NEW.zip "
        f"--transform center-crop --width {width} --height {height}"
    )
