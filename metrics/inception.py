"""Inception-v3 as FID uses it (Szegedy et al. 2015; the TensorFlow file of 2015-12-05), folded for speed.

The weights come from a TorchScript file of the network. Batch normalisation, which is frozen, is folded into the
convolutions, and tensors are channels-last. Two details differ from the paper, and FID depends on both:
average pools exclude the padding, and the last block uses a max pool.
"""

import torch
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d

SIDE = 299  # pixels of the network's input
BN_EPSILON = 1e-3


class Inception:
    """The network up to its pooled features. `state` holds weight, beta, mean and var of each convolution by name."""

    def __init__(self, state, device):
        names = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
        self._folded = {name: _folded(state, name, device) for name in names}

    def features(self, images):
        """Features [N, 2048] of uint8 or float RGB images [N, 3, H, W] of 0..255."""
        x = (resize_as_tensorflow(images.float(), SIDE) - 128) / 128
        return self._layers(x.contiguous(memory_format=torch.channels_last))

    def _layers(self, x):
        x = self._conv(x, "conv", stride=2, same=False)
        x = self._conv(x, "conv_1", same=False)
        x = max_pool2d(self._conv(x, "conv_2"), 3, 2)
        x = self._conv(x, "conv_3")
        x = max_pool2d(self._conv(x, "conv_4", same=False), 3, 2)
        for name in ("mixed", "mixed_1", "mixed_2"):  # 35 pixels a side
            x = self._towers(x, name, lengths=(2, 3))
        x = self._halve_35(x, "mixed_3")
        for name in ("mixed_4", "mixed_5", "mixed_6", "mixed_7"):  # 17 pixels a side
            x = self._towers(x, name, lengths=(3, 5))
        x = self._halve_17(x, "mixed_8")
        x = self._fans(x, "mixed_9", _average)  # 8 pixels a side
        x = self._fans(x, "mixed_10", lambda x: max_pool2d(x, 3, 1, 1))
        return x.mean(dim=(2, 3))

    def _towers(self, x, name, lengths):
        """A 1x1 convolution, two chains of convolutions, and a pool with a 1x1 convolution, side by side."""
        chains = [self._chain(x, f"{name}.{tower}", n) for tower, n in zip(("tower", "tower_1"), lengths)]
        pooled = self._conv(_average(x), f"{name}.tower_2.conv")
        return torch.cat([self._conv(x, f"{name}.conv"), *chains, pooled], dim=1)

    def _halve_35(self, x, name):
        strided = self._conv(x, f"{name}.conv", stride=2, same=False)
        return torch.cat([strided, self._chain(x, f"{name}.tower", 3, halve=True), max_pool2d(x, 3, 2)], dim=1)

    def _halve_17(self, x, name):
        chains = [self._chain(x, f"{name}.{tower}", n, halve=True) for tower, n in (("tower", 2), ("tower_1", 4))]
        return torch.cat([*chains, max_pool2d(x, 3, 2)], dim=1)

    def _fans(self, x, name, pool):
        """Two of the branches end in a 1x3 and a 3x1 convolution side by side."""
        a = self._conv(x, f"{name}.tower_conv")
        b = self._conv(self._conv(x, f"{name}.tower_1_conv"), f"{name}.tower_1_conv_1")
        parts = [self._conv(x, f"{name}.conv")]
        for y, tower in ((a, "tower"), (b, "tower_1")):
            parts += [self._conv(y, f"{name}.{tower}_mixed_conv{suffix}") for suffix in ("", "_1")]
        return torch.cat([*parts, self._conv(pool(x), f"{name}.tower_2_conv")], dim=1)

    def _chain(self, x, tower, length, halve=False):
        """`length` convolutions in a row; with `halve` the last one has stride 2."""
        for i in range(length):
            last = halve and i == length - 1
            x = self._conv(x, f"{tower}.conv" + (f"_{i}" if i else ""), stride=1 + last, same=not last)
        return x

    def _conv(self, x, name, stride=1, same=True):
        weight, bias = self._folded[name]
        padding = [size // 2 for size in weight.shape[2:]] if same else 0
        return conv2d(x, weight, bias, stride, padding).relu_()


def _average(x):
    return avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _folded(state, name, device):
    """(weight, bias) of a convolution with its normalisation, which has no scale."""
    weight, beta, mean, var = (state[f"{name}.{part}"].double() for part in ("weight", "beta", "mean", "var"))
    scale = (var + BN_EPSILON).rsqrt()
    weight, bias = weight * scale[:, None, None, None], beta - mean * scale
    return weight.float().to(device, memory_format=torch.channels_last), bias.float().to(device)


def resize_as_tensorflow(images, side):
    """Resize to float images [N, C, side, side], bilinear as in TensorFlow 1: pixel i samples at i * (size / side).

    No half-pixel centres and no antialiasing; beyond the last pixel, its value is repeated.
    """
    for dim in (2, 3):
        size = images.shape[dim]
        position = torch.arange(side, device=images.device, dtype=torch.float64) * (size / side)
        low = position.floor().long().clamp(max=size - 1)
        high = (low + 1).clamp(max=size - 1)
        share = (position - low).to(images.dtype).reshape([-1 if d == dim else 1 for d in range(4)])
        images = torch.lerp(images.index_select(dim, low), images.index_select(dim, high), share)
    return images
