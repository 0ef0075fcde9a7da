"""Pad, upsample, filter and downsample images with a finite impulse response, twice differentiable.

Shapes: x_NCHW is a batch of feature maps; a filter is `[taps]` (applied along both axes) or `[height, width]`.
"""

import functools

import torch
import torch.nn.functional as F
from torch.utils.weak import WeakIdKeyDictionary

from torch_utils.ops.conv2d import conv2d, conv2d_adjoint


def setup_filter(f, device=None, normalize=True, flip_filter=False, gain=1, separable=None):
    """Make a filter for `upfirdn2d` from nested lists, an array, a number, or None (the identity).

    `normalize` makes the taps sum to one, `gain` scales the signal (its square root per axis if separable).
    A 1-D filter of fewer than eight taps becomes the 2-D outer product; a longer one stays separable, unless
    `separable` says otherwise. Returns float32 `[taps]` or `[height, width]`.
    """
    f = torch.as_tensor(1 if f is None else f, dtype=torch.float32)
    if f.ndim == 0:
        f = f[None]
    if f.ndim not in (1, 2) or f.numel() == 0:
        raise ValueError(f"a filter has one or two axes and at least one tap, not shape {tuple(f.shape)}")
    if separable is None:
        separable = f.ndim == 1 and f.numel() >= 8
    if f.ndim == 1 and not separable:
        f = torch.outer(f, f)
    if f.ndim == 2 and separable:
        raise ValueError("a two-dimensional filter cannot be made separable")
    if normalize:
        f = f / f.sum()
    if flip_filter:
        f = f.flip(list(range(f.ndim)))
    return (f * gain ** (f.ndim / 2)).to(device)


def parse_padding(padding):
    """Padding as (left, right, top, bottom) from one number, (x, y), or all four."""
    if isinstance(padding, int):
        return (padding,) * 4
    if len(padding) == 2:
        return (padding[0], padding[0], padding[1], padding[1])
    return tuple(padding)


def parse_scaling(scaling):
    """A factor as (x, y) from one number or two."""
    return (scaling, scaling) if isinstance(scaling, int) else tuple(scaling)


def upfirdn2d(x, f, up=1, down=1, padding=0, flip_filter=False, gain=1):
    """Insert zeros, pad, convolve with `f`, keep every `down`-th pixel, for each channel separately.

    x_NCHW: any float dtype. `padding` is in pixels of the upsampled image; negative values crop. The filter is
    applied as a convolution (reversed), or as a correlation with `flip_filter`; `gain` scales the signal. The filter
    gets no gradient.
    Returns `[N, C, (H*up + top + bottom - filter height) // down + 1, likewise for the width]`.
    """
    if x.dtype == torch.bfloat16 and x.device.type == "cpu":  # slow there (torch_utils/precision.py)
        return upfirdn2d(x.float(), f, up, down, padding, flip_filter, gain).to(x.dtype)
    up_x, up_y = parse_scaling(up)
    down_x, down_y = parse_scaling(down)
    left, right, top, bottom = parse_padding(padding)
    if f is None:
        f = x.new_ones([1, 1], dtype=torch.float32)
    taps = functools.partial(_taps, f, gain ** (f.ndim / 2), x.dtype, correlate=flip_filter)
    if f.ndim == 2:
        return _resample(x, taps(max(up_x, up_y)), (up_y, up_x), (down_y, down_x), (left, right, top, bottom))
    x = _resample(x, taps(up_x)[None, :], (1, up_x), (1, down_x), (left, right, 0, 0))
    return _resample(x, taps(up_y)[:, None], (up_y, 1), (down_y, 1), (0, 0, top, bottom))


_prepared = WeakIdKeyDictionary()  # filter -> {how: taps}


def _taps(f, gain, dtype, up, correlate):
    """The filter times `gain` in the form for `_resample`: reversed for a convolution that does not upsample, or a
    correlation that does. Cached, because filters are constants."""
    reverse = (up == 1) != correlate
    key = gain, dtype, reverse, None if f.is_inference() else f._version
    traced = torch.compiler.is_compiling()  # tensors have no values then
    known = {} if traced else _prepared.setdefault(f, {})
    if key not in known:
        with torch.inference_mode(False), torch.no_grad():
            taps = (f if gain == 1 else f * gain).to(dtype)
            known[key] = taps.flip(list(range(f.ndim))) if reverse else taps
    return known[key]


def _resample(x, f, up, down, pads):
    """Upsample, pad, correlate (or, upsampling, convolve) with the 2-D `f`, downsample; factors as (y, x)."""
    channels = x.shape[1]
    left, right, top, bottom = pads
    height, width = f.shape
    w = f.expand(channels, 1, -1, -1)
    if max(up) == 1:
        padding = _symmetric(pads)
        if padding is None:
            x, padding = F.pad(x, pads), (0, 0)
        return conv2d(x, w, None, down, padding, channels)
    # Upsampling with a filter is the adjoint of a strided convolution with the reversed filter: no zeros are computed.
    size = (x.shape[2] * up[0] + top + bottom - height + 1, x.shape[3] * up[1] + left + right - width + 1)
    left, right, top, bottom = width - 1 - left, width - 1 - right, height - 1 - top, height - 1 - bottom
    padding = _symmetric((left, right, top, bottom))
    if padding is None:
        x = conv2d_adjoint(x, w, (size[0] + top + bottom, size[1] + left + right), up, groups=channels)
        x = F.pad(x, (-left, -right, -top, -bottom))
    else:
        x = conv2d_adjoint(x, w, size, up, padding, channels)
    return x if max(down) == 1 else x[:, :, :: down[0], :: down[1]]


def _symmetric(pads):
    """(y, x) if opposite sides have equal padding, which a convolution applies for free; otherwise None."""
    left, right, top, bottom = pads
    return (top, left) if left == right >= 0 and top == bottom >= 0 else None


def filter_size(f):
    """(width, height) of a filter; None is one tap."""
    return (1, 1) if f is None else (f.shape[-1], f.shape[0])


def up_padding(taps, up):
    """(before, after): padding for a filter of `taps` taps on a signal with `up`-1 zeros after each value."""
    return (taps + up - 1) // 2, (taps - up) // 2


def down_padding(taps, down):
    """(before, after): padding for a filter of `taps` taps if every `down`-th value is kept."""
    return (taps - down + 1) // 2, (taps - down) // 2


def add_padding(padding, horizontal, vertical):
    """[left, right, top, bottom]: `padding` plus (before, after) on each axis."""
    return [a + b for a, b in zip(parse_padding(padding), (*horizontal, *vertical))]


def upsample2d(x, f, up=2, padding=0, flip_filter=False, gain=1):
    """Upsample by `up`. The gain is multiplied by up² to keep the signal's scale, because up²-1 of up² pixels are 0."""
    (up_x, up_y), (width, height) = parse_scaling(up), filter_size(f)
    pads = add_padding(padding, up_padding(width, up_x), up_padding(height, up_y))
    return upfirdn2d(x, f, up=up, padding=pads, flip_filter=flip_filter, gain=gain * up_x * up_y)


def downsample2d(x, f, down=2, padding=0, flip_filter=False, gain=1):
    """Filter, then downsample by `down`."""
    (down_x, down_y), (width, height) = parse_scaling(down), filter_size(f)
    pads = add_padding(padding, down_padding(width, down_x), down_padding(height, down_y))
    return upfirdn2d(x, f, down=down, padding=pads, flip_filter=flip_filter, gain=gain)
