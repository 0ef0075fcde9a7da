"""AutoGAN at 32x32 (arXiv:1908.03835 §4: the architecture found for CIFAR-10), with the D of SN-GAN's ResNet.

G has three cells, each of which doubles the resolution. A cell's first feature map, plus the maps from earlier cells,
is also passed to all later cells, after a 1x1 convolution. The second cell upsamples bilinearly, the others by
nearest neighbour; the third has no shortcut. Cells are not normalised; the last feature map is, as in the public code.
Convolutions are initialised with Glorot's uniform distribution.
"""

import torch.nn.functional as F
from torch import nn

from training.architectures import plain, sngan_resnet
from training.architectures.plain import (  # noqa: F401 (what the registry asks of a file)
    DISCRIMINATOR_OPTIONS,
    GENERATOR_OPTIONS,
    LIMITS,
    WORDS,
    check,
)
from training.networks import constructor_arguments

MODES = ("nearest", "bilinear", "nearest")


class Generator(plain.PlainGenerator):
    """Three cells of 256 channels at full width."""

    architecture = "autogan"

    def __init__(self, z_dim, c_dim, img_resolution, img_channels, width):
        arguments = constructor_arguments(locals())
        super().__init__(z_dim, c_dim, img_resolution, img_channels, Synthesis(z_dim, img_channels, 4 * width))
        self.init_kwargs = arguments
        self.apply(_initialise)


class Synthesis(nn.Module):
    """ws [N, 1, z_dim] to images."""

    def __init__(self, z_dim, img_channels, channels):
        super().__init__()
        self.first = nn.Linear(z_dim, channels * 16)
        self.cells = nn.ModuleList(Cell(channels, mode, i, i < 2) for i, mode in enumerate(MODES))
        last = nn.Conv2d(channels, img_channels, 3, padding=1)
        self.image = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), last, nn.Tanh())

    def forward(self, ws, **options):
        x, earlier = self.first(ws[:, 0]).unflatten(1, (-1, 4, 4)), []
        for cell in self.cells:
            x, middle = cell(x, earlier)
            earlier.append(middle)
        return self.image(x)


class Cell(nn.Module):
    """Doubles the resolution; also returns its first feature map, plus those of earlier cells."""

    def __init__(self, channels, mode, num_earlier, shortcut):
        super().__init__()
        self.mode = mode
        self.one, self.two = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.joins = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(num_earlier))
        self.shortcut = nn.Conv2d(channels, channels, 1) if shortcut else None

    def forward(self, x, earlier):
        size = 2 * x.shape[-1]
        middle = self.one(self.enlarge(x.relu(), size))
        middle = middle + sum(join(self.enlarge(map_, size)) for join, map_ in zip(self.joins, earlier))
        out = self.two(middle.relu())
        return out if self.shortcut is None else out + self.shortcut(self.enlarge(x, size)), middle

    def enlarge(self, x, size):
        return F.interpolate(x, size=(size, size), mode=self.mode)


class Discriminator(sngan_resnet.Discriminator):
    architecture = "autogan"

    def __init__(self, c_dim, img_resolution, img_channels, width, norm="spectral", average=False):
        super().__init__(c_dim, img_resolution, img_channels, width, norm, average)


def _initialise(module):
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
    if isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)


def generator_arguments(settings):
    return {"z_dim": plain.Z_DIM, **settings.size, "width": plain.width(settings)}


def discriminator_arguments(settings):
    return plain.discriminator_arguments(settings, "spectral")
