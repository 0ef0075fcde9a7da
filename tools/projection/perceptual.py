"""The perceptual distance of projections: LPIPS if its weights are installed, otherwise EfficientNet-Lite0's.

Images are float [N, 1 or 3, H, W] in [-1, 1]; gradients reach them.
"""

import torch
from torch.nn.functional import interpolate

from dnnlib.util import UserError
from metrics import detectors

# Size of the network's input: a longer side above LARGEST is reduced, a shorter side below SMALLEST is enlarged.
LARGEST, SMALLEST = 256, 32


class Perceptual:
    """`name`: of the network; `distance(a, b)` compares `features` of images."""

    def __init__(self, device):
        try:
            from metrics.lpips import load_lpips

            self.name = "LPIPS (VGG16)"
            self._network = load_lpips(device).features
        except UserError:  # the weights of LPIPS are not installed
            self.name = "EfficientNet-Lite0 features"
            network = detectors.load_perceptual("effnet", device).network
            self._network = lambda images: [network(images * 127.5 + 128, "features")]

    def features(self, images):
        """A list of tensors [N, ...]; their squared distance is the perceptual distance of two images."""
        return self._network(detectors.rgb(resized(images)))


def resized(images):
    """Resize images to the network's input size."""
    sides = images.shape[2:]
    scale = max(min(1, LARGEST / max(sides)), SMALLEST / min(sides))  # the shorter side must not vanish
    if scale == 1:
        return images
    return interpolate(images, [round(side * scale) for side in sides], mode="area" if scale < 1 else "bilinear")


def distance(a, b):
    """Distances [N] of two lists of features; features of one image broadcast."""
    return sum((x - y).square().flatten(1).sum(dim=1) for x, y in zip(a, b))


def psnr(images, target, mask=None):
    """Peak signal-to-noise ratio [N] in dB of images in [-1, 1], quantised to uint8; weighted by `mask`."""
    levels = [(x * 127.5 + 128).clamp(0, 255).floor() for x in (images, target)]
    return -10 * torch.log10(squared_error(levels[0] / 255, levels[1] / 255, mask).clamp(min=1e-10))


def squared_error(a, b, mask=None):
    """Mean squared errors [N]; `mask` [1, 1, H, W]: weights of the pixels, 0 to 1."""
    mask = torch.ones_like(b[:1, :1]) if mask is None else mask
    return ((a - b).square() * mask).mean(dim=(1, 2, 3)) / mask.mean()
