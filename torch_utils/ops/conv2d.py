"""Convolution, its adjoint and the gradient of its weight: each the derivative of the others, to any order.

All three are partial derivatives of one trilinear form, T(x, w, y) = <conv(x, w), y>, with respect to y, x and w.
PyTorch's own second derivatives process the channels of a depthwise filter one by one, and convolve with whole feature
maps as kernels, which is several times slower.

Shapes: x [N, I, H, W], w [O, I // groups, kh, kw], y [N, O, ...]; strides and paddings are (y, x).
"""

import torch
import torch.nn.functional as F


def conv2d(x, w, bias=None, stride=(1, 1), padding=(0, 0), groups=1):
    """Correlation of x with w, plus `bias` [O]."""
    options = (stride, padding, groups)
    size = [(x.shape[i] + 2 * padding[i - 2] - w.shape[i]) // stride[i - 2] + 1 for i in (2, 3)]
    return _Conv.apply(x, w, bias, _port(w, [x.shape[0], w.shape[0], *size], x, None, options), options)


def conv2d_adjoint(y, w, size, stride=(1, 1), padding=(0, 0), groups=1):
    """The transposed convolution to images of `size` (height, width), with the same weight layout as `conv2d`."""
    options = (stride, padding, groups)
    shape = [y.shape[0], w.shape[1] * groups, *size]
    return _Adjoint.apply(y, w, _port(w, shape, None, y, options), tuple(size), options)


def _port(w, shape, x, y, options):
    """Zeros of `shape` to add to a result; through them the gradient of w flows. Nothing reads it.

    A node of the graph computes the gradients of all its inputs. The gradient of the weight has its own node, so that a
    penalty that needs only the gradient of the images does not compute it. (x and y are in a tuple, so that no edge
    leads from that node to the images.)
    """
    return _Port.apply(w, (x, y), shape, options) if w.requires_grad and torch.is_grad_enabled() else None


class _Port(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w, saved, shape, options):
        ctx.save_for_backward(*saved)
        ctx.shape, ctx.options = w.shape, options
        ctx.transposed = w.stride(0) < w.stride(1)  # a weight [I, O, kh, kw]; its gradient gets the same layout
        return w.new_empty([]).expand(shape)

    @staticmethod
    def backward(ctx, gradient):
        x, y = ctx.saved_tensors
        x, y = (gradient if x is None else x), (gradient if y is None else y)
        return _WeightGradient.apply(x, y, ctx.shape, ctx.transposed, ctx.options), None, None, None


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, bias, port, options):
        ctx.save_for_backward(w)
        ctx.size, ctx.options = x.shape[2:], options
        if _by_taps(x, w, options):
            return _taps_conv(x, w, bias, options)
        stride, padding, groups = options
        return F.conv2d(x, w, bias, stride, padding, groups=groups)

    @staticmethod
    def backward(ctx, y):
        (w,) = ctx.saved_tensors
        for_x, _, for_bias, for_port, _ = ctx.needs_input_grad
        x = conv2d_adjoint(y, w, ctx.size, *ctx.options) if for_x else None
        return x, None, y.sum(dim=[0, 2, 3]) if for_bias else None, y if for_port else None, None


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, w, port, size, options):
        ctx.save_for_backward(w)
        ctx.options = options
        # The gradient of a convolution's input depends only on the input's shape and layout.
        shape = [y.shape[0], w.shape[1] * options[2], *size]
        x = torch.empty(shape, dtype=y.dtype, device=y.device, memory_format=_layout(y))
        if _by_taps(x, w, options):
            return _taps_adjoint(y, w, size, options)
        return _gradient(x, w, y, options, (True, False, False))[0]

    @staticmethod
    def backward(ctx, x):
        (w,) = ctx.saved_tensors
        for_y, _, for_port, _, _ = ctx.needs_input_grad
        return conv2d(x, w, None, *ctx.options) if for_y else None, None, x if for_port else None, None, None


class _WeightGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y, shape, transposed, options):
        ctx.save_for_backward(x, y)
        ctx.options = options
        w = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_layout(x))
        if _by_taps(x, w, options):
            return _taps_weight_gradient(x, y, shape, transposed, options)
        return _gradient(x, w, y, options, (False, True, False))[1]

    @staticmethod
    def backward(ctx, w):
        x, y = ctx.saved_tensors
        for_x, for_y, *_ = ctx.needs_input_grad
        return (
            conv2d_adjoint(y, w, x.shape[2:], *ctx.options) if for_x else None,
            conv2d(x, w, None, *ctx.options) if for_y else None,
            None,
            None,
            None,
        )


def _gradient(x, w, y, options, mask):
    stride, padding, groups = options
    return torch.ops.aten.convolution_backward(y, x, w, None, stride, padding, (1, 1), False, (0, 0), groups, mask)


def _layout(x):
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format


# For large weights and small feature maps, oneDNN's convolutions reach only a quarter to a half of their best rate.
# There, each tap of the kernel is computed as a matrix product over all pixels, whose operands are contiguous in the
# channels-last layout.


def _by_taps(x, w, options):
    stride, padding, groups = options
    wide = groups == 1 and min(w.shape[:2]) >= 256 and w.shape[2] > 1
    slow = max(stride) > 1 or x.shape[2] <= 4
    return wide and slow and x.device.type == "cpu" and _layout(x) == torch.channels_last


def _taps(x, kernel, stride):
    """For each tap (i, j) of the kernel, the pixels [N, H, W, I] that it is multiplied with, a view of x."""
    x = x.permute(0, 2, 3, 1)
    height, width = ((x.shape[i + 1] - kernel[i]) // stride[i] * stride[i] + 1 for i in (0, 1))
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            yield i, j, x[:, i : i + height : stride[0], j : j + width : stride[1]]


def _taps_conv(x, w, bias, options):
    stride, (top, left), _ = options
    x = F.pad(x, (left, left, top, top)) if top or left else x
    size = [(x.shape[i] - w.shape[i]) // stride[i - 2] + 1 for i in (2, 3)]
    y = _empty(x, [x.shape[0], w.shape[0], *size])
    rows = y.permute(0, 2, 3, 1).flatten(0, 2)
    rows.zero_() if bias is None else rows.copy_(bias)
    for i, j, pixels in _taps(x, w.shape[2:], stride):
        torch.addmm(rows, pixels.flatten(0, 2), w[:, :, i, j].t(), out=rows)
    return y


def _taps_adjoint(y, w, size, options):
    stride, (top, left), _ = options
    x = _empty(y, [y.shape[0], w.shape[1], size[0] + 2 * top, size[1] + 2 * left]).zero_()
    rows = y.permute(0, 2, 3, 1).flatten(0, 2)
    for i, j, pixels in _taps(x, w.shape[2:], stride):
        pixels += (rows @ w[:, :, i, j]).view(pixels.shape)
    return F.pad(x, (-left, -left, -top, -top)) if top or left else x


def _taps_weight_gradient(x, y, shape, transposed, options):
    stride, (top, left), _ = options
    x = F.pad(x, (left, left, top, top)) if top or left else x
    rows = y.permute(0, 2, 3, 1).flatten(0, 2)
    w = _empty(x, [shape[1], shape[0], *shape[2:]] if transposed else shape)
    for i, j, pixels in _taps(x, shape[2:], stride):
        pixels = pixels.flatten(0, 2)
        w[:, :, i, j] = pixels.t() @ rows if transposed else rows.t() @ pixels
    return w.transpose(0, 1) if transposed else w


def _empty(like, shape):
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
