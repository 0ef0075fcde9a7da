"""The shape that dataset_tool.py gives to images: which part of each, and how large."""

import dataclasses
import fractions

from PIL import Image

from dnnlib import image_size
from dnnlib.util import UserError

SQUEEZED, SQUEEZE = 0.01, "squeezed from "  # report an aspect ratio that changes by more than this
FILTERS = {"box": Image.Resampling.BOX, "lanczos": Image.Resampling.LANCZOS}


@dataclasses.dataclass(frozen=True)
class Shape:
    """The shape of the written images. Raises UserError for values that contradict each other.

    transform:     "center-crop": the largest part in the middle with the aspect ratio width:height;
                   "center-crop-wide": the same, on a black square. None: the whole image, stretched if its aspect
                   ratio differs.
    width, height: in pixels. Both None: the image's own.
    resize_filter: a name in FILTERS.
    """

    transform: str | None = None
    width: int | None = None
    height: int | None = None
    resize_filter: str = "lanczos"

    def __post_init__(self):
        if self.transform is not None and (self.width is None or self.height is None):
            raise UserError(f"--transform {self.transform} needs --width and --height: give both")
        if (self.width is None) != (self.height is None):
            given, missing = ("width", "height") if self.height is None else ("height", "width")
            raise UserError(f"--{given} without --{missing} would stretch the images: give both")
        if self.transform == "center-crop-wide":
            if self.width < self.height:
                raise UserError(
                    f"--transform center-crop-wide: --width {self.width} is below --height {self.height}: exchange them"
                )
            image_size.check_resolution(self.width)
        elif self.width is not None:
            image_size.check_resolution([self.height, self.width])

    @property
    def enough(self):
        """The smallest sides of an image that suffice for this shape; None if the image's own size is kept."""
        return 2 * max(self.width, self.height) if self.width and self.height else None

    def apply_to(self, image):
        """`image` (of Pillow) in this shape."""
        if self.transform is not None:
            scale = min(image.width / self.width, image.height / self.height)
            image = _cropped(image, max(round(self.width * scale), 1), max(round(self.height * scale), 1))
        size = (self.width or image.width, self.height or image.height)
        if image.size != size:
            image = image.resize(size, FILTERS[self.resize_filter])
        if self.transform == "center-crop-wide":
            canvas = Image.new(image.mode, (self.width, self.width), "black")
            canvas.paste(image, (0, (self.width - self.height) // 2))
            return canvas
        return image

    def changes(self, wide, high):
        """Names of the changes to an image of this width and height that the user did not ask for, a list."""
        width, height = self.width or wide, self.height or high
        changes = ["enlarged (smaller than --width or --height)"] if wide < width or high < height else []
        if self.transform is None and abs(width * high / (height * wide) - 1) > SQUEEZED:
            changes.append(f"{SQUEEZE}{aspect(wide, high)}")
        return changes


def _cropped(image, width, height):
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def aspect(width, height):
    """An aspect ratio such as `4:3`; `1.37:1` if small integers cannot express it."""
    ratio = fractions.Fraction(width, height).limit_denominator(16)
    near = ratio and abs(ratio / fractions.Fraction(width, height) - 1) < SQUEEZED / 2
    return f"{ratio.numerator}:{ratio.denominator}" if near and ratio.numerator <= 32 else f"{width / height:.2f}:1"
