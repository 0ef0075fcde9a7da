"""DiffAugment: three simple augmentations of every image that D sees, real or generated, always on.

From "Differentiable Augmentation for Data-Efficient GAN Training" (Zhao et al. 2020, arXiv:2006.10738). G's gradient
passes through them, and so does R1's second derivative.

Shapes: images_NCHW about -1 to 1; every random parameter is `[N]`, one per image. The host reads no value.
"""

import torch
from torch import nn

from training.augment import AUGPIPE_SPECS, AugmentPipe, cut_out, join_alpha, split_alpha

PREFIX = "diffaugment:"  # of the option `augpipe`, before the names of the policies


def build_pipe(augpipe):
    """The augmentation of the option `augpipe`: DiffAugment's policies after `diffaugment:`, or else the name of one
    of ADA's presets. None: a pipe without transformations, whose p APA adjusts."""
    if augpipe is not None and augpipe.startswith(PREFIX):
        return DiffAugment(**dict.fromkeys(augpipe.removeprefix(PREFIX).split(","), True))
    return AugmentPipe(**AUGPIPE_SPECS.get(augpipe, {}))


class DiffAugment(nn.Module):
    """DiffAugment: `color`, `translation` and `cutout`, each on or off, applied in this order.

    The buffer `p` has no effect here. APA uses it: it replaces reals by fakes with this probability.
    """

    def __init__(self, color=False, translation=False, cutout=False):
        super().__init__()
        self.init_kwargs = {"color": color, "translation": translation, "cutout": cutout}
        self.color, self.translation, self.cutout = color, translation, cutout
        self.register_buffer("p", torch.ones([]))

    def forward(self, images):
        """images_NCHW, C of 1, 3 or 4 -> the same shape, twice differentiable. Raises ValueError for other shapes.

        With four channels (premultiplied alpha, training/augment.py), shifted-in and cut-out pixels are transparent.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3, 4):
            raise ValueError(f"images are [N, 1, 3 or 4, H, W], not {tuple(images.shape)}")
        return self.transform(images) if images.shape[1] != 4 else join_alpha(self.transform(split_alpha(images)))

    def transform(self, images):
        """Apply the active policies to grey or RGB images, or to the four channels of `split_alpha`."""

        def uniform(low, high):
            return low + (high - low) * torch.rand([len(images)], dtype=images.dtype, device=images.device)

        if self.color:
            images = jitter_color(images, uniform(-0.5, 0.5), uniform(0, 2), uniform(0.5, 1.5))
        if self.translation:
            y, x = (draw_shift(uniform(0, 1), side) for side in images.shape[2:])
            images = translate(images, x, y)
        if self.cutout:
            images = cut_out(images, torch.full_like(images[:, 0, 0, 0], 0.5), uniform(0, 1), uniform(0, 1))
        return images


def jitter_color(images, brightness, saturation, contrast):
    """Add the brightness, scale the distance of each pixel from its grey value by the saturation, then its distance
    from the image's mean by the contrast. The grey value of a grey image is the image itself."""
    brightness, saturation, contrast = (x[:, None, None, None] for x in (brightness, saturation, contrast))
    if images.shape[1] == 4:
        return jitter_covered_color(*images.split([3, 1], dim=1), brightness, saturation, contrast)
    images = images + brightness
    images = torch.lerp(images.mean(dim=1, keepdim=True), images, saturation)
    return torch.lerp(images.mean(dim=(1, 2, 3), keepdim=True), images, contrast)


def jitter_covered_color(color, alpha, brightness, saturation, contrast):
    """The same for colours weighted by alpha, `[N, 1, H, W]` in 0..1; the mean is weighted by alpha too."""
    color = color + brightness * alpha
    color = torch.lerp(color.mean(dim=1, keepdim=True), color, saturation)
    mean = color.mean(dim=(1, 2, 3), keepdim=True) / alpha.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
    return torch.cat([torch.lerp(mean * alpha, color, contrast), alpha], dim=1)


def draw_shift(uniform, side):
    """Shifts in whole pixels, int64 `[N]`, uniform from -side/8 to side/8; `uniform` is in [0, 1).

    A half is rounded up, as in the public code: 3 pixels for a side of 20, 5 for 36.
    """
    limit = int(side / 8 + 0.5)
    return (uniform * (2 * limit + 1)).floor().long() - limit


def translate(images, x, y):
    """Shift images_NCHW by whole pixels, x to the right and y down; pixels shifted in are 0."""
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device) - y[:, None]  # source index of each row
    columns = torch.arange(width, device=images.device) - x[:, None]
    outside = ((rows < 0) | (rows >= height))[:, :, None] | ((columns < 0) | (columns >= width))[:, None, :]
    source = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    source = source.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    moved = images.flatten(2).gather(2, source).reshape(images.shape)
    return moved.masked_fill(outside[:, None], 0)
