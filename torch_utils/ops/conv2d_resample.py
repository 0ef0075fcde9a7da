"""Convolution combined with up- or downsampling by a low-pass filter, in the cheapest order."""

import torch.nn.functional as F

from torch_utils.ops.conv2d import conv2d, conv2d_adjoint
from torch_utils.ops.upfirdn2d import (
    add_padding,
    down_padding,
    downsample2d,
    filter_size,
    parse_padding,
    up_padding,
    upfirdn2d,
    upsample2d,
)


def conv2d_resample(x, w, f=None, up=1, down=1, padding=0, groups=1, flip_weight=True, flip_filter=False, bias=None):
    """Upsample by `up` with filter `f`, convolve with `w`, downsample by `down` with `f`, add `bias` [out].

    x_NCHW; w: `[out, in // groups, kernel, kernel]`; `padding` is in pixels of the upsampled image; padding for the
    filter is added. `flip_weight=True` means correlation, as in torch's conv2d. Returns
    `[N, out, H*up/down, W*up/down]` for an odd kernel with padding kernel//2.
    """
    pads = parse_padding(padding)
    kernel_h, kernel_w = w.shape[2:]
    if (up > 1) == flip_weight:  # a transposed convolution needs the reversed kernel
        w = w.flip([2, 3])
    if up == 1 and down == 1:
        return _conv(x, w, bias, pads, groups)

    # A 1x1 kernel commutes with resampling: convolve at the lower resolution.
    if kernel_h == kernel_w == 1 and padding == 0 and 1 in (up, down):
        if down > 1:
            return conv2d(downsample2d(x, f, down, flip_filter=flip_filter), w, bias, groups=groups)
        return _add(upsample2d(conv2d(x, w, groups=groups), f, up, flip_filter=flip_filter), bias)

    width, height = filter_size(f)
    if up > 1:
        pads = add_padding(pads, up_padding(width, up), up_padding(height, up))
    if down > 1:
        pads = add_padding(pads, down_padding(width, down), down_padding(height, down))

    if up > 1:
        # Filter and kernel also commute. A transposed convolution outputs every pixel that the kernel reaches: kernel-1
        # more before the image and kernel-up more after it, so the filter needs less padding.
        x = _transposed_conv(x, w, up, groups)
        left, right, top, bottom = pads
        pads = (left - (kernel_w - 1), right - (kernel_w - up), top - (kernel_h - 1), bottom - (kernel_h - up))
        x = upfirdn2d(x, f, padding=pads, gain=up**2, flip_filter=flip_filter)
        return _add(x if down == 1 else upfirdn2d(x, f, down=down, flip_filter=flip_filter), bias)

    x = upfirdn2d(x, f, padding=pads, flip_filter=flip_filter)
    return conv2d(x, w, bias, (down, down), groups=groups)


def _add(x, bias):
    return x if bias is None else x + bias[:, None, None]


def _conv(x, w, bias, pads, groups):
    left, right, top, bottom = pads
    if left == right >= 0 and top == bottom >= 0:
        return conv2d(x, w, bias, padding=(top, left), groups=groups)
    return conv2d(F.pad(x, pads), w, bias, groups=groups)


def _transposed_conv(x, w, up, groups):
    """Full transposed convolution of x with the reversed w: [N, out, (H-1)*up + kernel height, likewise for W]."""
    out, within, kernel_h, kernel_w = w.shape
    w = w.reshape(groups, out // groups, within, kernel_h, kernel_w).transpose(1, 2)
    size = ((x.shape[2] - 1) * up + kernel_h, (x.shape[3] - 1) * up + kernel_w)
    return conv2d_adjoint(x, w.reshape(-1, out // groups, kernel_h, kernel_w), size, (up, up), groups=groups)
