"""Adaptive discriminator augmentation: the pipeline of random transformations, its presets, and the controller of p.

From "Training Generative Adversarial Networks with Limited Data" (Karras et al. 2020, arXiv:2006.06676), Appendix B,
Algorithm 1. A transformation is on when its multiplier is above zero; each image then gets it with probability
Algorithm 1. A transformation is on if its multiplier is above zero. Each image then gets it with probability
multiplier * p, independently of other images and other transformations.

Shapes: images_NCHW about -1 to 1; every random parameter is `[N]`; matrices are `[N, 3, 3]`. Pixel coordinates start at
the image's centre, x to the right and y down, so a circle stays a circle in an image of any shape. Nothing here
synchronises with the device: the host reads no value.

Images that are not square: a quarter turn would cut off two ends, so `rotate90` draws only half turns. Shifts are
fractions of the side along their axis, and so is the cutout box.

Images with alpha (torch_utils/alpha.py) are split into alpha, 0..1, and colours -1..1 weighted by alpha. Transparent
pixels, and pixels beyond the border, are 0 in all four channels. Geometry moves all four; colour, filters and noise
change colours in proportion to alpha and leave alpha alone; cutout sets all four to 0.
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from torch_utils.ops.upfirdn2d import setup_filter, upfirdn2d

BLIT = ("xflip", "rotate90", "xint")
GEOM = ("scale", "rotate", "aniso", "xfrac")
COLOR = ("brightness", "contrast", "lumaflip", "hue", "saturation")
PIPES = {
    "blit": BLIT,
    "geom": GEOM,
    "color": COLOR,
    "filter": ("imgfilter",),
    "noise": ("noise",),
    "cutout": ("cutout",),
    "bg": BLIT + GEOM,
    "bgc": BLIT + GEOM + COLOR,
    "bgcf": BLIT + GEOM + COLOR + ("imgfilter",),
    "bgcfn": BLIT + GEOM + COLOR + ("imgfilter", "noise"),
    "bgcfnc": BLIT + GEOM + COLOR + ("imgfilter", "noise", "cutout"),
}
# Preset name -> keyword arguments of AugmentPipe.
AUGPIPE_SPECS = {name: dict.fromkeys(names, 1) for name, names in PIPES.items()}

# Low-pass taps of the least asymmetric Daubechies wavelets (Daubechies 1992, "Ten Lectures on Wavelets", chapter 6).
# fmt: off
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)
# fmt: on
SYM2 = tuple((a + b * math.sqrt(3)) / math.sqrt(32) for a, b in ((1, 1), (3, 1), (3, -1), (1, -1)))

# Expected power of natural images in the four bands, lowest band first: a 1/f spectrum (Appendix B).
EXPECTED_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)

# Up to this size, resampling is one dense matrix product per axis: several times faster than a convolution although it
# needs more operations. These grow with the third power of the size, so larger images use a convolution.
DENSE_UP_TO = 512


def wavelet_bank(lowpass, num_bands):
    """Zero-phase filters that split a signal into octaves and sum to the identity: `[num_bands, taps]`, lowest first.

    With L(z) = l(z) l(1/z) / 2 and H(z) = L(-z) of an orthonormal wavelet, L + H = 1. Band by band from the top:
    H(z), L(z) H(z^2), L(z) L(z^2) H(z^4), ..., and the remainder L(z) L(z^2) L(z^4) ...
    """
    low = np.convolve(lowpass, lowpass[::-1]) / 2
    high = -low * (-1.0) ** np.arange(len(low))  # the central tap has an odd index and stays positive
    bands, rest = [], np.ones(1)
    for octave in range(num_bands - 1):
        low_high = np.zeros([2, 2**octave * (len(low) - 1) + 1])
        low_high[:, :: 2**octave] = low, high
        bands.append(np.convolve(rest, low_high[1]))
        rest = np.convolve(rest, low_high[0])
    bands.append(rest)
    return np.stack([np.pad(band, (len(rest) - len(band)) // 2) for band in reversed(bands)])


def reflected_indices(size, before, after, device=None):
    """The source index of each pixel of a padded line of `size` pixels: `[before + size + after]`, 0 to size-1.

    The line is mirrored about its first and last pixel as often as needed, like numpy.pad(mode="reflect").
    """
    period = max(2 * (size - 1), 1)
    i = torch.arange(-before, size + after, device=device) % period
    return torch.minimum(i, period - i)


def reflect_pad(x, left, right, top, bottom):
    """Pad x_NCHW with its mirror image; the padding may be larger than the image."""
    x = x.index_select(3, reflected_indices(x.shape[3], left, right, x.device))
    return x.index_select(2, reflected_indices(x.shape[2], top, bottom, x.device))


class Draw:
    """The random parameters of one batch: `[N]` each. With a percentile in (0, 1): that quantile for every image.

    The quantile of the normal distribution omits the factor sqrt(2), like `debug_percentile` in StyleGAN2-ADA.
    """

    def __init__(self, num_images, device, percentile=None):
        self.num_images, self.device = num_images, device
        self.quantile = None if percentile is None else torch.full([num_images], percentile, device=device)

    def uniform(self, low=0, high=1):
        u = torch.rand([self.num_images], device=self.device) if self.quantile is None else self.quantile
        return low + (high - low) * u

    def integer(self, count):
        return self.uniform(0, count).floor()

    def normal(self, std=1):
        if self.quantile is None:
            return std * torch.randn([self.num_images], device=self.device)
        return std * torch.erfinv(2 * self.quantile - 1)

    def half_normal(self, std):
        return self.normal(std).abs() if self.quantile is None else std * torch.erfinv(self.quantile)

    def lognormal(self, std):
        return self.normal(std).exp2()

    def sometimes(self, probability, neutral, *values):
        """Per image: all `values` with the given probability, else `neutral`. With a percentile: always `values`."""
        if self.quantile is None:
            chosen = torch.rand([self.num_images], device=self.device) < probability
            values = [torch.where(chosen, value, neutral) for value in values]
        return values[0] if len(values) == 1 else values


def affine(xx, xy, x, yx, yy, y, like):
    """`[N, 3, 3]` with rows (xx, xy, x), (yx, yy, y), (0, 0, 1). Entries are numbers or `[N]`; `like` is any `[N]`."""
    entries = [e if isinstance(e, torch.Tensor) else torch.full_like(like, e) for e in (xx, xy, x, yx, yy, y, 0, 0, 1)]
    return torch.stack(entries, dim=1).reshape(-1, 3, 3)


def shift(x, y):
    return affine(1, 0, x, 0, 1, y, like=x)


def stretch(x, y):
    return affine(x, 0, 0, 0, y, 0, like=x)


def turn(angle):
    cos, sin = angle.cos(), angle.sin()
    return affine(cos, -sin, 0, sin, cos, 0, like=angle)


def upsample_periodic(x, taps):
    """Extend x_NCHW periodically by mirroring, upsample by two, return one period: `[N, C, 4(H-1) + 1, 4(W-1) + 1]`.

    Pixel i lies at position 2i. The last row and column repeat the first, for interpolation across the seam.
    """
    h, w = x.shape[2:]
    if max(h, w) > DENSE_UP_TO:
        return upfirdn2d(reflect_pad(x, 3, w + 1, 3, h + 1), taps, up=2, gain=4)
    return upsampling_matrix(h, taps, x.dtype).t() @ (x @ upsampling_matrix(w, taps, x.dtype))


def upsampling_matrix(size, taps, dtype):
    """`upsample_periodic` of a line as a matrix `[size, 4(size-1) + 1]`."""
    unit = torch.eye(size, dtype=dtype, device=taps.device)[None, None]
    return upfirdn2d(reflect_pad(unit, 3, size + 1, 0, 0), taps[None], up=(2, 1), gain=2)[0, 0]


def downsample(y, taps):
    """The adjoint of upsampling: y `[N, C, 2H + 10, 2W + 10]`, whose first pixel is at -5, to `[N, C, H, W]`."""
    if max(y.shape[2:]) > 2 * DENSE_UP_TO:
        return upfirdn2d(y, taps, down=2, flip_filter=True)
    rows, columns = (downsampling_matrix(n, taps, y.dtype) for n in y.shape[2:])
    return rows.t() @ (y @ columns)


def downsampling_matrix(size, taps, dtype):
    """`downsample` of a line of `size` as a matrix `[size, (size - 10) / 2]`."""
    unit = torch.eye(size, dtype=dtype, device=taps.device)[None, None]
    return upfirdn2d(unit, taps[None], down=(2, 1), flip_filter=True)[0, 0]


def warp(images, inverse, taps, mirrored=True):
    """Transform images_NCHW geometrically, without aliasing; `inverse` `[N, 3, 3]` maps output to input coordinates.

    Algorithm 1: mirror, upsample with an orthonormal wavelet's low-pass filter, interpolate bilinearly, downsample.
    The mirrored plane is periodic, so one period replaces padding of any width: sampling positions are wrapped into it,
    and the result for an image does not depend on the other images. The identity leaves an image exactly unchanged.
    With `mirrored=False`, pixels beyond the border are zero.
    """
    positions = sampling_positions(inverse, *images.shape[2:])
    plane = upsample_periodic(images, taps)
    # align_corners=False also avoids cuDNN's sampler, which has no second derivative.
    grid = sampling_grid(positions, *images.shape[2:]).to(images.dtype)
    sampled = F.grid_sample(plane, grid, mode="bilinear", align_corners=False)
    if not mirrored:
        sampled = sampled * share_inside(positions, *images.shape[2:])[:, None].to(images.dtype)
    warped = downsample(sampled, taps)
    moved = (inverse != torch.eye(3, device=inverse.device)).flatten(1).any(dim=1)
    return torch.where(moved[:, None, None, None], warped, images)


def sampling_positions(inverse, height, width):
    """Positions of `downsample`'s input in the upsampled image: x and y, each `[N, 2H+10, 2W+10]`.

    Both have two samples per pixel and start at the centre of the first pixel.
    """
    ys, xs = (torch.arange(-5, 2 * n + 5, device=inverse.device) / 2 - (n - 1) / 2 for n in (height, width))
    positions = []
    for axis, size in enumerate((width, height)):
        from_x, from_y, offset = inverse[:, axis, :, None, None].unbind(1)
        positions.append(2 * (from_x * xs + from_y * ys[:, None] + offset) + (size - 1))
    return positions


def sampling_grid(positions, height, width):
    """The positions, wrapped into one period (`upsample_periodic`'s output), for grid_sample: `[N, ..., 2]`."""
    grid = []
    for position, size in zip(positions, (width, height)):
        period = 4 * (size - 1)
        grid.append((2 * position.remainder(period) + 1) / (period + 1) - 1)
    return torch.stack(grid, dim=-1)


def share_inside(positions, height, width):
    """The fraction of each sample, half a pixel wide, that lies inside the image: 0 to 1."""
    x, y = ((p + 1.5).clamp(0, 1) * (2 * n - 0.5 - p).clamp(0, 1) for p, n in zip(positions, (width, height)))
    return x * y


def filter_bands(images, gains, bank):
    """Scale the frequency bands of images_NCHW by `gains` `[N, bands]` along both axes; `bank` `[bands, taps]`.

    One matrix per axis and image, with mirrored borders. The bands sum to the identity, so the filter is gains - 1.
    """
    taps = ((gains - 1) @ bank).to(images.dtype)
    radius = bank.shape[1] // 2
    rows, columns = (filter_matrices(n, taps, radius) for n in images.shape[2:])
    return rows[:, None] @ images @ columns[:, None].mT


def filter_matrices(size, taps, radius):
    """`[N, size, size]`: identity plus convolution of a mirrored line with symmetric `taps` `[N, 2 * radius + 1]`."""
    unit = torch.eye(size, dtype=taps.dtype, device=taps.device)
    mirrored = unit[:, reflected_indices(size, radius, radius, taps.device)]  # [from, padded]
    return unit + F.conv1d(mirrored[:, None], taps[:, None]).permute(1, 2, 0)  # [from, N, to] -> [N, to, from]


def recolor(images, luma_gain, brightness, chroma_gain, hue):
    """Colour as an affine map about the grey axis u = (1, 1, 1) / sqrt(3). images_NCHW with C 1, 3 or 4; others `[N]`.

    Brightness b shifts, and the luma gain l scales, along u. In the plane orthogonal to u, the colour circle is rotated
    by the hue angle h and scaled by the chroma gain s:  x -> (l u u' + s (cos(h) (I - u u') + sin(h) [u]x)) x + l b.
    This is the product of Algorithm 1's colour matrices, which all preserve the axis and that plane. With four
    channels, from `split_alpha`, the offset is multiplied by alpha.
    """
    offset = (luma_gain * brightness)[:, None, None]
    if images.shape[1] == 1:
        return images * luma_gain[:, None, None, None] + offset[..., None]
    unit = torch.eye(3, device=images.device)
    along = torch.full_like(unit, 1 / 3)  # u u'
    across = (unit.roll(1, dims=0) - unit.roll(-1, dims=0)) / math.sqrt(3)  # [u]x, the cross product with u
    parts = torch.stack([along, unit - along, across]).flatten(1)
    weights = torch.stack([luma_gain - 1, chroma_gain * hue.cos() - 1, chroma_gain * hue.sin()], dim=1)
    matrix = unit + (weights @ parts).reshape(-1, 3, 3)  # this form gives exactly I for neutral values
    if images.shape[1] == 4:
        matrix = torch.cat([matrix, offset.expand(-1, 3, 1)], dim=2)
        colour = matrix.to(images.dtype) @ images.flatten(2)
        return torch.cat([colour.unflatten(2, images.shape[2:]), images[:, 3:]], dim=1)
    return torch.baddbmm(offset.to(images.dtype), matrix.to(images.dtype), images.flatten(2)).reshape(images.shape)


def split_alpha(images):
    """Premultiplied RGBA in -1..1 to colours in -1..1 weighted by alpha, and alpha in 0..1. Transparent pixels are 0.

    x = 2 a c - 1 with the colour c and alpha a in 0..1; the weighted colour is a (2 c - 1) = x + 1 - a.
    """
    alpha = (images[:, 3:] + 1) / 2
    return torch.cat([images[:, :3] + 1 - alpha, alpha], dim=1)


def join_alpha(planes):
    """The inverse of `split_alpha`."""
    colour, alpha = planes.split([3, 1], dim=1)
    return torch.cat([colour + alpha - 1, 2 * alpha - 1], dim=1)


def coverage(images):
    """The weight of a colour change: alpha for the colours and 0 for alpha itself; 1 for images without alpha."""
    if images.shape[1] != 4:
        return 1
    alpha = images[:, 3:]
    return torch.cat([alpha.expand(-1, 3, -1, -1), torch.zeros_like(alpha)], dim=1)


def cut_out(images, size, x, y):
    """Set a box to zero: `size` is its side, (x, y) its centre, each `[N]` as a fraction of the image's side."""
    height, width = images.shape[2:]
    rows = (torch.arange(height, device=x.device) + 0.5) / height
    columns = (torch.arange(width, device=x.device) + 0.5) / width
    inside_y = (rows - y[:, None]).abs() < size[:, None] / 2
    inside_x = (columns - x[:, None]).abs() < size[:, None] / 2
    return images.masked_fill((inside_y[:, :, None] & inside_x[:, None, :])[:, None], 0)


class AugmentPipe(nn.Module):
    """The augmentation pipeline. Each image gets each transformation with probability multiplier * p.

    The first argument of a transformation is its multiplier, 0 for off. Strengths: `xint_max`, `xfrac_std` as fractions
    of the image's side; `scale_std`, `aniso_std`, `contrast_std`, `saturation_std`, `imgfilter_std` in octaves;
    `rotate_max`, `hue_max` in half turns; `brightness_std`, `noise_std` in pixel values; `cutout_size`, the side of the
    box, as a fraction of the image's; `imgfilter_bands` the multiplier of each band, lowest frequencies first.

    The buffer `p` is a scalar, initially 1, that a controller changes in place. `init_kwargs`: all arguments.
    """

    # fmt: off
    def __init__(
        self, xflip=0, rotate90=0, xint=0, xint_max=0.125, scale=0, rotate=0, aniso=0, xfrac=0, scale_std=0.2,
        rotate_max=1, aniso_std=0.2, xfrac_std=0.125, brightness=0, contrast=0, lumaflip=0, hue=0, saturation=0,
        brightness_std=0.2, contrast_std=0.5, hue_max=1, saturation_std=1, imgfilter=0, imgfilter_bands=(1, 1, 1, 1),
        imgfilter_std=1, noise=0, cutout=0, noise_std=0.1, cutout_size=0.5,
    ):
        options = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        options["imgfilter_bands"] = list(imgfilter_bands)
        super().__init__()
        if len(imgfilter_bands) != len(EXPECTED_POWER):
            raise ValueError(f"imgfilter_bands needs {len(EXPECTED_POWER)} numbers, not {len(imgfilter_bands)}")
        self.init_kwargs = options
        for name, value in options.items():
            setattr(self, name, value)
        self.register_buffer("p", torch.ones([]))
        self.register_buffer("Hz_geom", setup_filter(SYM6))
        self.register_buffer("Hz_fbank", torch.tensor(wavelet_bank(SYM2, len(EXPECTED_POWER)), dtype=torch.float32))

    # fmt: on

    def forward(self, images, debug_percentile=None):
        """images_NCHW about -1 to 1, C of 1, 3 or 4, sides of 2 or more -> the same shape, twice differentiable.

        `debug_percentile` in (0, 1) applies all active transformations to all images, each parameter at that quantile
        of its distribution. Raises ValueError for other shapes.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3, 4) or min(images.shape[2:]) < 2:
            raise ValueError(f"images are [N, 1, 3 or 4, 2 or more, 2 or more], not {tuple(images.shape)}")
        draw = Draw(images.shape[0], self.p.device, debug_percentile)
        if images.shape[1] == 4:
            return join_alpha(self.transform(split_alpha(images), draw))
        return self.transform(images, draw)

    def transform(self, images, draw):
        """Apply the active transformations in order to grey or RGB images, or the four channels of `split_alpha`."""
        if self.any_on(BLIT + GEOM):
            geometry = self.draw_geometry(draw, *images.shape[2:])
            images = warp(images, geometry, self.Hz_geom, mirrored=images.shape[1] != 4)
        if self.any_on(COLOR):
            images = recolor(images, *self.draw_color(draw))
        if self.imgfilter > 0:
            filtered = filter_bands(images, self.draw_band_gains(draw), self.Hz_fbank)
            images = torch.lerp(images, filtered, coverage(images)) if images.shape[1] == 4 else filtered
        if self.noise > 0:
            std = draw.sometimes(self.noise * self.p, 0, draw.half_normal(self.noise_std))
            images = images + torch.randn_like(images) * std[:, None, None, None] * coverage(images)
        if self.cutout > 0:
            size = torch.full([len(images)], self.cutout_size, device=self.p.device)
            size = draw.sometimes(self.cutout * self.p, 0, size)
            images = cut_out(images, size, draw.uniform(), draw.uniform())
        return images

    def any_on(self, names):
        return any(getattr(self, name) > 0 for name in names)

    def draw_geometry(self, draw, height, width):
        """Matrix from output to input coordinates, `[N, 3, 3]`: the inverse transformations, the first one leftmost."""
        inverses = []
        if self.xflip > 0:
            flip = draw.sometimes(self.xflip * self.p, 0, draw.integer(2))
            inverses.append(stretch(1 - 2 * flip, torch.ones_like(flip)))
        if self.rotate90 > 0:
            quarters = draw.integer(4) if height == width else 2 * draw.integer(2)  # a quarter turn swaps the sides
            inverses.append(turn(draw.sometimes(self.rotate90 * self.p, 0, quarters) * (math.pi / 2)))
        if self.xint > 0:
            x, y = draw.sometimes(self.xint * self.p, 0, *(draw.uniform(-self.xint_max, self.xint_max) for _ in "xy"))
            inverses.append(shift(-(x * width).round(), -(y * height).round()))
        if self.scale > 0:
            factor = draw.sometimes(self.scale * self.p, 1, draw.lognormal(self.scale_std))
            inverses.append(stretch(1 / factor, 1 / factor))
        if self.rotate > 0:
            inverses.append(turn(self.draw_angle(draw)))
        if self.aniso > 0:
            factor = draw.sometimes(self.aniso * self.p, 1, draw.lognormal(self.aniso_std))
            inverses.append(stretch(1 / factor, factor))
        if self.rotate > 0 and draw.quantile is None:  # with a percentile: rotate only once
            inverses.append(turn(self.draw_angle(draw)))
        if self.xfrac > 0:
            x, y = draw.sometimes(self.xfrac * self.p, 0, *(draw.normal(self.xfrac_std) for _ in "xy"))
            inverses.append(shift(-x * width, -y * height))
        return functools.reduce(torch.matmul, inverses)

    def draw_angle(self, draw):
        """Rotation before or after the anisotropic scaling, in radians `[N]`: P(either of them) = multiplier * p."""
        once = 1 - (1 - self.rotate * self.p).clamp(0, 1).sqrt()  # Algorithm 1: p_rot = 1 - sqrt(1 - p)
        return draw.sometimes(once, 0, draw.uniform(-math.pi, math.pi) * self.rotate_max)

    def draw_color(self, draw):
        """Luma gain, brightness, chroma gain and hue angle, the arguments of `recolor`."""
        zero = torch.zeros([draw.num_images], device=self.p.device)
        brightness, hue, luma_gain, chroma_gain = zero, zero, zero + 1, zero + 1
        if self.brightness > 0:
            brightness = draw.sometimes(self.brightness * self.p, 0, draw.normal(self.brightness_std))
        if self.contrast > 0:
            luma_gain = chroma_gain = draw.sometimes(self.contrast * self.p, 1, draw.lognormal(self.contrast_std))
        if self.lumaflip > 0:
            luma_gain = luma_gain * (1 - 2 * draw.sometimes(self.lumaflip * self.p, 0, draw.integer(2)))
        if self.hue > 0:
            hue = draw.sometimes(self.hue * self.p, 0, draw.uniform(-math.pi, math.pi) * self.hue_max)
        if self.saturation > 0:
            chroma_gain = chroma_gain * draw.sometimes(self.saturation * self.p, 1, draw.lognormal(self.saturation_std))
        return luma_gain, brightness, chroma_gain, hue

    def draw_band_gains(self, draw):
        """`[N, bands]`: amplify each band in turn, and rescale all bands so that the expected power is kept."""
        gains = torch.ones([draw.num_images, len(EXPECTED_POWER)], device=self.p.device)
        for band, multiplier in enumerate(self.imgfilter_bands):
            if multiplier > 0:
                probability = self.imgfilter * multiplier * self.p
                factor = draw.sometimes(probability, 1, draw.lognormal(self.imgfilter_std))
                # Algorithm 1: t / sqrt(sum over j of lambda_j t_j^2); lambda sums to 1, t is 1 in the other bands.
                gains = gains * (1 + EXPECTED_POWER[band] * (factor.square() - 1)).rsqrt()[:, None]
                gains[:, band] *= factor
        return gains


class AdaptiveController:
    """Adjusts p so that the discriminator's overconfidence on the training images stays at `target` (§3.1, §3.2).

    `kimg_per_unit`: thousands of images in which p changes by one; `interval`: minibatches between two updates, which
    the caller applies; `max_p`: upper bound, 1 if p is a probability (APA), None if it may exceed 1 (ADA).
    """

    def __init__(self, target=0.6, kimg_per_unit=500, interval=4, max_p=None):
        self.target, self.kimg_per_unit, self.interval, self.max_p = target, kimg_per_unit, interval, max_p

    def update(self, p, sign_mean, num_images):
        """Adjust the scalar tensor `p` in place after `num_images` real images.

        `sign_mean`: r = E[sign(D(real))] over them, a number or a tensor on p's device; NaN leaves p unchanged.
        """
        with torch.no_grad():
            if not isinstance(sign_mean, torch.Tensor):
                sign_mean = torch.full_like(p, sign_mean)
            direction = (sign_mean - self.target).sign().nan_to_num()
            # p += sign(r - target) * images / (kimg per unit * 1000), p >= 0
            moved = p + direction * (num_images / (self.kimg_per_unit * 1000))
            p.copy_(moved.clamp(min=0, max=self.max_p))
